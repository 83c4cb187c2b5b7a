//! Outages on the way to Redis, seen by a program with default settings, in real time.

#[cfg(feature = "sentinel")]
use std::time::Duration;

use asynq::{client::Client, redis::RedisConnectionType, task::Task};
#[cfg(feature = "sentinel")]
use asynq_testing::RedisSentinel;
use asynq_testing::{Proxy, RedisServer};
use futures::future::join_all;

async fn enqueue(client: &Client, count: usize) {
    let sent = (0..count).map(|_| client.enqueue(Task::new("t", b"").unwrap()));
    for answer in join_all(sent).await {
        answer.unwrap();
    }
}

/// The enqueues that are under way are sent again on a new connection, within the default time of an
/// enqueue; none is unknown and none is doubled.
#[tokio::test]
async fn an_enqueue_survives_a_half_open_connection() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let connection = RedisConnectionType::single(proxy.url()).unwrap();
    let client = Client::new(connection).await.unwrap();
    enqueue(&client, 1).await;
    proxy.half_open();
    enqueue(&client, 50).await;
    let mut raw = server.client().await;
    assert_eq!(raw.cmd(&["LLEN", "asynq:{default}:pending"]).await.int(), 51);
    client.close().await;
}

/// The master stands still, its connections stay, and a replica takes over: what is under way is sent again
/// to the new master as soon as there is one.
#[cfg(feature = "sentinel")]
#[tokio::test]
async fn no_enqueue_is_unknown_after_a_failover() {
    const SENT: usize = 100;
    let all = RedisSentinel::start_replicated(Duration::from_millis(300)).await;
    let connection = RedisConnectionType::sentinel(RedisSentinel::MASTER, [all.sentinel().url()]).unwrap();
    let client = Client::new(connection).await.unwrap();
    enqueue(&client, 1).await;
    let mut raw = all.master().client().await;
    assert_eq!(raw.cmd(&["WAIT", "1", "10000"]).await.int(), 1);

    all.master().pause();
    let switched = async {
        all.switched().await;
        tokio::time::Instant::now()
    };
    let sent = async {
        enqueue(&client, SENT).await;
        tokio::time::Instant::now()
    };
    let (switched, sent) = futures::future::join(switched, sent).await;
    // Far below 2 s where the machine has time.
    let took = sent.saturating_duration_since(switched);
    assert!(took < Duration::from_secs(5), "{took:?}");
    let mut raw = all.replica().client().await;
    assert_eq!(
        raw.cmd(&["LLEN", "asynq:{default}:pending"]).await.int(),
        SENT as i64 + 1
    );
    client.close().await;
}
