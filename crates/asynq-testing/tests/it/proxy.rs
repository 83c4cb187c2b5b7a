//! The proxy fails exactly as it is told.

use std::time::Duration;

use asynq_testing::{Proxy, RedisServer, Resp};
use tokio::time::timeout;

const INCR: [&str; 4] = ["EVAL", "return redis.call('INCR', KEYS[1])", "1", "n"];

async fn through(proxy: &Proxy) -> Resp {
    Resp::connect(&format!("127.0.0.1:{}", proxy.port())).await.unwrap()
}

async fn count(server: &RedisServer) -> Option<String> {
    server
        .client()
        .await
        .cmd(&["GET", "n"])
        .await
        .bytes()
        .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn it_forwards_when_nothing_is_asked_of_it() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let mut client = through(&proxy).await;
    assert_eq!(client.cmd(&["PING"]).await.text(), "PONG");
    let big = "x".repeat(3 << 20);
    client.ok(&["SET", "big", &big]).await;
    assert_eq!(client.cmd(&["GET", "big"]).await.text().len(), big.len());
    assert_eq!(proxy.open_connections(), 1);
}

#[tokio::test]
async fn a_lost_reply_means_executed() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let mut client = through(&proxy).await;
    proxy.lose_next_reply();
    assert_eq!(client.cmd(&["PING"]).await.text(), "PONG", "other requests pass");
    // Not executed, so not the one that is meant.
    let unknown = client.cmd(&["EVALSHA", &"0".repeat(40), "0"]).await;
    assert!(unknown.error().is_some_and(|text| text.starts_with("NOSCRIPT")));
    assert!(client.try_cmd(&INCR).await.is_err());
    proxy.struck().await;
    assert_eq!(count(&server).await.as_deref(), Some("1"));
    assert_eq!(through(&proxy).await.cmd(&INCR).await.int(), 2);
}

#[tokio::test]
async fn a_dropped_request_means_not_executed() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let mut client = through(&proxy).await;
    proxy.drop_next_request();
    assert!(client.try_cmd(&INCR).await.is_err());
    proxy.struck().await;
    assert_eq!(count(&server).await, None);
}

#[tokio::test]
async fn a_held_request_is_executed_when_released_unless_its_connection_was_killed() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;

    let held = proxy.hold_next_request();
    assert!(through(&proxy).await.try_cmd(&INCR).await.is_err());
    assert_eq!(count(&server).await, None);
    assert_eq!(
        through(&proxy).await.cmd(&INCR).await.int(),
        1,
        "the replay comes first"
    );
    assert_eq!(held.release().await.unwrap(), ":2\r\n");

    let held = proxy.hold_next_request();
    let mut client = through(&proxy).await;
    let id = client.cmd(&["CLIENT", "ID"]).await.int().to_string();
    assert!(client.try_cmd(&INCR).await.is_err());
    server.client().await.ok(&["CLIENT", "KILL", "ID", &id]).await;
    assert_eq!(held.release().await, None);
    assert_eq!(count(&server).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn cut_refuse_blackhole_and_resume() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let mut client = through(&proxy).await;
    client.cmd(&["PING"]).await;
    proxy.cut_all();
    assert!(client.try_cmd(&["PING"]).await.is_err());

    proxy.refuse();
    assert!(through(&proxy).await.try_cmd(&["PING"]).await.is_err());
    proxy.resume();
    let mut client = through(&proxy).await;
    client.cmd(&["PING"]).await;

    proxy.blackhole();
    let mut ping = std::pin::pin!(client.try_cmd(&["PING"]));
    assert!(timeout(Duration::from_millis(50), &mut ping).await.is_err());
    proxy.resume();
    assert_eq!(ping.await.unwrap().text(), "PONG");
}

#[tokio::test]
async fn a_half_open_connection_carries_nothing_and_a_new_one_does() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let mut old = through(&proxy).await;
    old.cmd(&["PING"]).await;
    proxy.half_open();
    let mut call = std::pin::pin!(old.try_cmd(&INCR));
    assert!(timeout(Duration::from_millis(50), &mut call).await.is_err());
    let mut new = through(&proxy).await;
    assert_eq!(new.cmd(&["PING"]).await.text(), "PONG");
    proxy.resume();
    assert!(timeout(Duration::from_millis(50), &mut call).await.is_err());
    assert_eq!(count(&server).await, None);
}

#[tokio::test]
async fn a_slow_way_takes_its_time_and_connections_take_turns() {
    let server = RedisServer::start().await;
    let proxy = Proxy::slow(&server, 1 << 20).await;
    let (mut large, mut small) = (through(&proxy).await, through(&proxy).await);
    let value = "x".repeat(1 << 20);
    let begun = tokio::time::Instant::now();
    let words = ["SET", "large", &value];
    let set = large.cmd(&words);
    let pings = async {
        let mut answered = 0;
        while begun.elapsed() < Duration::from_millis(900) {
            assert_eq!(small.cmd(&["PING"]).await.text(), "PONG");
            answered += 1;
        }
        answered
    };
    let (_, answered) = futures::future::join(set, pings).await;
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    assert!(answered > 1, "{answered}");
}
