//! Messages of channels.

use asynq_core::broker::Env;
use asynq_testing::{Proxy, RedisServer};

use super::*;

#[tokio::test]
async fn messages_arrive_once_subscribed() {
    let server = RedisServer::builder().password("pw").start().await;
    let link = open(&server.url()).await;
    let mut messages = link.subscribe("asynq:cancel").await.unwrap();
    for n in 0..100 {
        let receivers = link
            .command(&cmd(&["PUBLISH", "asynq:cancel", &n.to_string()]))
            .await
            .map(int)
            .unwrap();
        assert_eq!(receivers, 1);
    }
    for n in 0..100 {
        assert_eq!(within(messages.recv()).await.unwrap(), n.to_string().into_bytes());
    }
}

#[tokio::test]
async fn more_messages_than_fit_wait() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let mut messages = link.subscribe("c").await.unwrap();
    let many: Vec<_> = (0..3000).map(|n| cmd(&["PUBLISH", "c", &n.to_string()])).collect();
    assert!(link.pipeline(&many).await.iter().all(Result::is_ok));
    for n in 0..3000 {
        assert_eq!(within(messages.recv()).await.unwrap(), n.to_string().into_bytes());
    }
}

#[tokio::test]
async fn messages_end_with_the_connection() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let mut messages = link.subscribe("c").await.unwrap();
    server.restart().await;
    assert_eq!(within(messages.recv()).await, None);
    let mut messages = link.subscribe("c").await.unwrap();
    link.command(&cmd(&["PUBLISH", "c", "x"])).await.unwrap();
    assert_eq!(within(messages.recv()).await.unwrap(), b"x");
}

#[tokio::test]
async fn messages_end_in_a_black_hole_too() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = Link::open(impatient(&proxy.url()), Env::default()).await.unwrap();
    let mut messages = at_last(|| link.subscribe("c")).await;
    proxy.blackhole();
    assert_eq!(within(messages.recv()).await, None);
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_subscription() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let messages = link.subscribe("c").await.unwrap();
    drop(messages);
    until(|| async { link.command(&cmd(&["PUBLISH", "c", "x"])).await.map(int).unwrap() == 0 }).await;
}

#[tokio::test]
async fn a_channel_that_is_not_permitted_is_refused() {
    let server = RedisServer::start().await;
    server
        .client()
        .await
        .ok(&["ACL", "SETUSER", "u", "on", ">p", "~*", "resetchannels", "+@all"])
        .await;
    let link = open(&format!("redis://u:p@127.0.0.1:{}", server.port())).await;
    assert_eq!(refusal(link.subscribe("c").await.unwrap_err()), "NOPERM");
}
