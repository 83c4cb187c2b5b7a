//! The launcher starts, stops and fails as it says.

use super::*;

#[tokio::test]
async fn a_server_starts_dies_and_restarts_with_its_data() {
    let server = RedisServer::builder().persistent().start().await;
    let mut client = server.client().await;
    client.ok(&["SET", "k", "v"]).await;
    server.kill();
    assert!(client.try_cmd(&["PING"]).await.is_err());
    assert!(Resp::connect(&server.address()).await.is_err());
    let port = server.port();
    server.restart().await;
    assert_eq!(server.port(), port);
    assert_eq!(server.client().await.cmd(&["GET", "k"]).await.text(), "v");
}

#[tokio::test]
async fn a_paused_server_is_silent_until_it_is_resumed() {
    let server = RedisServer::start().await;
    let mut client = server.client().await;
    server.pause();
    let mut ping = std::pin::pin!(client.cmd(&["PING"]));
    assert!(timeout(Duration::from_millis(50), &mut ping).await.is_err());
    server.resume();
    assert_eq!(ping.await.text(), "PONG");
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let server = RedisServer::start().await;
    let (address, dir) = (server.address(), server.dir.path().to_owned());
    drop(server);
    assert!(Resp::connect(&address).await.is_err());
    assert!(!dir.exists());
}

#[tokio::test]
#[should_panic(expected = "tests against Redis need a redis-server")]
async fn a_missing_program_fails_loudly() {
    let _ = RedisServer::builder().binary("/nonexistent/redis-server").start().await;
}

#[tokio::test]
#[should_panic(expected = "no-such-option")]
async fn a_failed_start_shows_what_the_server_said() {
    let _ = RedisServer::start_with(&["--no-such-option", "1"]).await;
}

#[tokio::test]
async fn password_and_tls_listen() {
    let server = RedisServer::builder()
        .password("secret")
        .tls(TlsFiles::generate())
        .start()
        .await;
    assert!(server.url().starts_with("redis://:secret@127.0.0.1:"));
    assert!(server.tls_url().starts_with("rediss://:secret@127.0.0.1:"));
    assert_eq!(server.client().await.cmd(&["PING"]).await.text(), "PONG");
    let mut stranger = Resp::connect(&server.address()).await.expect("it listens");
    assert!(
        stranger
            .cmd(&["PING"])
            .await
            .error()
            .is_some_and(|text| text.starts_with("NOAUTH"))
    );
}
