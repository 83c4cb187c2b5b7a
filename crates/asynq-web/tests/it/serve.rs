//! The server on an address.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use asynq::memory::MemoryStore;
use asynq_web::{
    Web,
    serve::{Listen, ServeError, WebServer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};

use crate::support::users;

const PATIENCE: Duration = Duration::from_secs(60);

async fn web() -> Web {
    Web::connect(MemoryStore::new()).await.unwrap()
}

fn any() -> SocketAddr {
    ([0, 0, 0, 0], 0).into()
}

fn private() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Runs a server, and returns its address with the means to end it.
fn run(server: WebServer) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<Result<(), ServeError>>) {
    let (stop, stopped) = oneshot::channel();
    let address = server.local_addr();
    #[expect(clippy::disallowed_methods, reason = "its test waits for it")]
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    (address, stop, running)
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, host: &str) -> String {
    let request = format!("GET /api/v1/session HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn an_address_that_others_reach_needs_authentication_and_https() {
    let refused = WebServer::bind(web().await, Listen::on(any())).await;
    assert!(matches!(refused, Err(ServeError::NoAuthentication(_))), "{refused:?}");
    let refused = WebServer::bind(web().await.authenticate(users()), Listen::on(any())).await;
    assert!(matches!(refused, Err(ServeError::NoHttps(_))), "{refused:?}");
    for (web, listen) in [
        (web().await, Listen::on(private())),
        (web().await.authenticate(users()), Listen::on(private())),
    ] {
        WebServer::bind(web, listen).await.unwrap();
    }
    let taken = WebServer::bind(web().await, Listen::on(private())).await.unwrap();
    let refused = WebServer::bind(web().await, Listen::on(taken.local_addr())).await;
    assert!(matches!(refused, Err(ServeError::Bind { .. })), "{refused:?}");
}

#[tokio::test]
async fn without_authentication_only_names_of_this_machine_are_answered() {
    let (address, stop, running) = run(WebServer::bind(web().await, Listen::on(private())).await.unwrap());
    for (host, status) in [
        ("localhost:1", "200"),
        ("127.0.0.1", "200"),
        ("evil.example.com", "421"),
    ] {
        let answer = ask(TcpStream::connect(address).await.unwrap(), host).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
    }
    drop(stop);
    running.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn https_binds_the_cookie_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let hash = asynq_web::access::hash_password("secret").unwrap();
    let toml = format!("[[user]]\nname = 'ann'\npassword = '{hash}'\nrole = 'viewer'\n");
    let users = asynq_web::access::Users::parse(&toml).unwrap();
    let listen = Listen::on(private()).tls(&certificate, &key);
    let server = WebServer::bind(web().await.authenticate(users), listen).await.unwrap();
    assert!(server.url().starts_with("https://127.0.0.1:"));
    let (address, stop, running) = run(server);

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let connect = async || {
        let stream = TcpStream::connect(address).await.unwrap();
        connector
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap()
    };
    assert!(ask(connect().await, "localhost").await.starts_with("HTTP/1.1 401"));
    let mut stream = connect().await;
    let body = r#"{"name":"ann","password":"secret"}"#;
    let request = format!(
        "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let cookie = answer
        .lines()
        .find(|line| line.to_lowercase().starts_with("set-cookie"))
        .unwrap();
    assert!(
        cookie.contains("__Host-asynq=") && cookie.contains("Secure"),
        "{cookie}"
    );
    // Plain text is not answered.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"));
    drop(stop);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn further_connections_wait_for_a_place() {
    let listen = Listen::on(private()).max_connections(1);
    let (address, stop, running) = run(WebServer::bind(web().await, listen).await.unwrap());
    let first = TcpStream::connect(address).await.unwrap();
    // It holds the only place once it was accepted: it is the first in the queue.
    let mut second = TcpStream::connect(address).await.unwrap();
    second
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0];
    let unanswered = timeout(Duration::from_millis(200), second.read(&mut byte)).await;
    assert!(unanswered.is_err());
    drop(first);
    assert_eq!(timeout(PATIENCE, second.read(&mut byte)).await.unwrap().unwrap(), 1);
    drop(stop);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn everything_can_be_under_a_path() {
    let listen = Listen::on(private()).prefix("/team/asynq/").unwrap();
    let server = WebServer::bind(web().await, listen).await.unwrap();
    assert!(server.url().ends_with("/team/asynq"));
    let (address, stop, running) = run(server);
    for (path, answer) in [
        ("/team/asynq", "200"),
        ("/team/asynq/", "308"),
        ("/team/asynq/api/v1/session", "200"),
        ("/team/asynq/api/queues", "200"),
        ("/team/asynq/readyz", "200"),
        ("/readyz", "200"),
        ("/healthz", "200"),
        ("/", "404"),
        ("/api/v1/session", "404"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut text))
            .await
            .unwrap()
            .unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {answer}")), "{path}: {text}");
        if answer == "308" {
            assert!(text.contains("location: ../asynq\r\n"), "{text}");
        }
    }
    drop(stop);
    running.await.unwrap().unwrap();
    for wrong in ["asynq", "//", "/a//b", "/a b", "/a/../b", "/{queue}", "/a?b"] {
        assert!(Listen::on(private()).prefix(wrong).is_err(), "{wrong}");
    }
}
