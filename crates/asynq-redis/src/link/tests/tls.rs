//! TLS, with certificates made for the test.

use asynq_core::{broker::Env, error::BrokerError};
use asynq_testing::{RedisServer, tls::TlsFiles};

use super::*;
use crate::link::tls::Tls;

fn with(url: &str, change: impl FnOnce(&mut Tls)) -> Settings {
    let mut settings = settings(url);
    change(settings.tls.as_mut().expect("rediss:// turns it on"));
    settings
}

#[tokio::test]
async fn a_trusted_server_is_spoken_to() {
    let files = TlsFiles::generate();
    let server = RedisServer::builder().tls(files.clone()).password("pw").start().await;
    let trusting = with(&server.tls_url(), |tls| {
        tls.trust(files.authority_pem().as_bytes()).unwrap()
    });
    let link = Link::open(trusting, Env::default()).await.unwrap();
    assert_eq!(count(&link, "n").await.unwrap(), 1);
    let mut messages = link.subscribe("c").await.unwrap();
    link.command(&cmd(&["PUBLISH", "c", "x"])).await.unwrap();
    assert_eq!(within(messages.recv()).await.unwrap(), b"x");
    static NOTHING: Script = Script::new("nothing", "return redis.call('EXISTS', KEYS[1])");
    let probe = super::super::Probe {
        script: &NOTHING,
        keys: vec!["k".into()],
        args: vec![],
    };
    let mut watch = link.watch(probe).await.unwrap();
    server.client().await.ok(&["SET", "k", "1"]).await;
    assert_eq!(within(watch.changed()).await, asynq_core::broker::Wake::Changed);
    // It comes back, too.
    let before = link.connection();
    server.restart().await;
    replaced(&link, before).await;
    assert_eq!(count(&link, "n").await.unwrap(), 1);
}

#[tokio::test]
async fn an_unknown_or_misnamed_server_is_refused() {
    let files = TlsFiles::generate();
    let server = RedisServer::builder().tls(files.clone()).start().await;
    let url = server.tls_url();
    let other = TlsFiles::generate();
    let strange = with(&url, |tls| tls.trust(other.authority_pem().as_bytes()).unwrap());
    let misnamed = with(&url, |tls| {
        tls.trust(files.authority_pem().as_bytes()).unwrap();
        tls.expect_name("example.org".to_owned());
    });
    for settings in [strange, misnamed] {
        is(Link::open(settings, Env::default()).await, |error| {
            matches!(error, BrokerError::Refused { .. })
        });
    }
    let named = with(&url, |tls| {
        tls.trust(files.authority_pem().as_bytes()).unwrap();
        tls.expect_name("localhost".to_owned());
    });
    assert!(Link::open(named, Env::default()).await.is_ok());
    assert!(Link::open(with(&url, Tls::trust_anyone), Env::default()).await.is_ok());
}

#[tokio::test]
async fn a_server_may_ask_who_we_are() {
    let files = TlsFiles::generate();
    let server = RedisServer::builder()
        .tls(files.clone())
        .args(["--tls-auth-clients", "yes"])
        .start()
        .await;
    let (chain, key) = (
        std::fs::read(files.certificate()).unwrap(),
        std::fs::read(files.key()).unwrap(),
    );
    let known = with(&server.tls_url(), |tls| {
        tls.trust(files.authority_pem().as_bytes()).unwrap();
        tls.identify(&chain, &key).unwrap();
    });
    let link = Link::open(known, Env::default()).await.unwrap();
    assert_eq!(count(&link, "n").await.unwrap(), 1);
    let unknown = with(&server.tls_url(), |tls| {
        tls.trust(files.authority_pem().as_bytes()).unwrap()
    });
    is(Link::open(unknown, Env::default()).await, |error| {
        matches!(error, BrokerError::Refused { .. })
    });
}

#[tokio::test]
async fn plain_text_and_tls_do_not_meet() {
    let server = RedisServer::builder().tls(TlsFiles::generate()).start().await;
    let limit = Duration::from_millis(500);
    let plain_to_tls = Settings {
        connect_timeout: limit,
        ..settings(&server.tls_url().replace("rediss", "redis"))
    };
    is(within(Link::open(plain_to_tls, Env::default())).await, |error| {
        matches!(error, BrokerError::Unavailable { .. } | BrokerError::Protocol { .. })
    });
    let tls_to_plain = with(&server.url().replace("redis:", "rediss:"), Tls::trust_anyone);
    let tls_to_plain = Settings {
        connect_timeout: limit,
        ..tls_to_plain
    };
    assert!(within(Link::open(tls_to_plain, Env::default())).await.is_err());
}

#[tokio::test]
async fn bad_certificates_are_named_and_keys_never_shown() {
    let mut tls = Tls::default();
    let none = tls.trust(b"nothing").unwrap_err().to_string();
    assert_eq!(
        none,
        "invalid connection: the root certificate has no certificate in PEM form"
    );
    let files = TlsFiles::generate();
    let chain = std::fs::read(files.certificate()).unwrap();
    let bad = tls
        .identify(&chain, b"-----BEGIN PRIVATE KEY-----\nsecret\n")
        .unwrap_err()
        .to_string();
    assert_eq!(bad, "invalid connection: the client key is not a key in PEM form");
    let key = std::fs::read(files.key()).unwrap();
    tls.identify(&chain, &key).unwrap();
    assert!(!format!("{tls:?}").contains("PRIVATE"));
}
