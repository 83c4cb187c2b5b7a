//! Outages on the way to Redis, seen by a program with default settings, in real time.

use asynq::{client::Client, redis::RedisConnectionType, task::Task};
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
