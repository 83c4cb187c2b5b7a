//! One connection is dead, the server is not; or the other way round.

use asynq_core::broker::{Env, Wake};
use asynq_testing::{Proxy, RedisServer};

use super::{super::Probe, *};

static NOTHING: Script = Script::new("nothing", "return redis.call('EXISTS', KEYS[1])");

/// Gives up a dead connection soon, and a silent server never.
fn settings_of(url: &str) -> Settings {
    let mut settings = impatient(url);
    settings.pace.ping_timeout = LIMIT;
    settings
}

async fn link_to(url: &str) -> Link {
    Link::open(settings_of(url), Env::default()).await.unwrap()
}

#[tokio::test]
async fn a_dead_connection_is_replaced_while_its_server_answers() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = link_to(&proxy.url()).await;
    let before = link.connection();
    proxy.half_open();
    is(within(count(&link, "n")).await, ambiguous);
    assert_eq!(within(count(&link, "n")).await.unwrap(), 1);
    assert_ne!(link.connection(), before);
}

#[tokio::test]
async fn a_stream_of_new_calls_does_not_keep_a_dead_connection_alive() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = link_to(&proxy.url()).await;
    let before = link.connection();
    proxy.half_open();
    let calls = async {
        let mut calls = tokio::task::JoinSet::new();
        loop {
            let link = link.clone();
            calls.spawn(async move { count(&link, "n").await });
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = calls => {}
        _ = replaced(&link, before) => {}
    }
}

#[tokio::test]
async fn an_idle_dead_connection_is_replaced() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = link_to(&proxy.url()).await;
    let before = link.connection();
    proxy.half_open();
    replaced(&link, before).await;
    assert_eq!(count(&link, "n").await.unwrap(), 1);
}

#[tokio::test]
async fn dead_connections_for_watches_and_messages_end_too() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = link_to(&proxy.url()).await;
    let probe = Probe {
        script: &NOTHING,
        keys: vec!["k".into()],
        args: vec![],
    };
    let mut watch = link.watch(probe).await.unwrap();
    let mut messages = link.subscribe("c").await.unwrap();
    proxy.half_open();
    assert_eq!(within(watch.changed()).await, Wake::Lost);
    assert_eq!(within(messages.recv()).await, None);
}

/// The server is asked about the connection by its number; a user may lack the permission.
#[tokio::test]
async fn a_plain_answer_is_enough() {
    let server = RedisServer::start().await;
    let rights = ["ACL", "SETUSER", "bare", "on", ">p", "~*", "+@all", "-client"];
    server.client().await.ok(&rights).await;
    let proxy = Proxy::start(&server).await;
    let url = proxy.url().replace("redis://", "redis://bare:p@");
    let link = link_to(&url).await;
    proxy.half_open();
    is(within(count(&link, "n")).await, ambiguous);
    assert_eq!(within(count(&link, "n")).await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_that_is_silent_itself_keeps_its_connections() {
    let server = RedisServer::start().await;
    let link = link_to(&server.url()).await;
    let before = link.connection();
    let wire = link.core.state.live().unwrap().unwrap();
    server.pause();
    let mut call = Box::pin(count(&link, "n"));
    assert!(futures::poll!(&mut call).is_pending());
    within(wire.in_doubt()).await;
    let dead_after = link.core.settings.pace.dead_after;
    assert!(tokio::time::timeout(3 * dead_after, &mut call).await.is_err());
    server.resume();
    assert_eq!(within(call).await.unwrap(), 1);
    assert_eq!(link.connection(), before);
}

/// Answers PING at once while it holds back what writes.
#[tokio::test]
async fn a_server_that_holds_a_call_back_keeps_the_connection() {
    let server = RedisServer::start().await;
    let link = link_to(&server.url()).await;
    let before = link.connection();
    count(&link, "n").await.unwrap();
    server.client().await.ok(&["CLIENT", "PAUSE", "1500", "WRITE"]).await;
    assert_eq!(within(count(&link, "n")).await.unwrap(), 2);
    assert_eq!(link.connection(), before);
}

#[tokio::test]
async fn bytes_that_move_keep_a_connection() {
    static GIVE: Script = Script::new("give", "return {ARGV[1], ARGV[1]}");
    let server = RedisServer::start().await;
    // Takes several times as long, either way, as a silent connection is kept.
    let proxy = Proxy::slow(&server, 1 << 20).await;
    let link = link_to(&proxy.url()).await;
    let before = link.connection();
    let large = vec![b'x'; 3 << 18];
    let answer = within(link.eval(&GIVE, vec![], vec![large.clone()])).await.unwrap();
    assert!(matches!(answer, Value::Array(both) if both.len() == 2));
    assert_eq!(link.connection(), before);
}
