//! Outages on the way to Redis, seen by a program with default settings, in real time.

use std::time::Duration;

use asynq::{
    client::Client,
    config::ServerConfig,
    error::{Error, TaskError},
    redis::RedisConnectionType,
    server::Server,
    task::Task,
};
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

/// Bytes that move are a sign of life, and neither leases nor small tasks wait for them.
#[tokio::test]
async fn large_data_on_a_slow_way_arrives_and_keeps_nothing_waiting() {
    const SECOND: usize = 512 << 10;
    let redis = RedisServer::start().await;
    let proxy = Proxy::slow(&redis, 512 << 10).await;
    let connection = || RedisConnectionType::single(proxy.url()).unwrap();
    let config = ServerConfig::new()
        .concurrency(1)
        .heartbeat_interval(Duration::from_millis(100));
    let mut server = Server::new(connection(), config).await.unwrap();
    let (told, mut written) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |task: Task| {
        let told = told.clone();
        async move {
            let context = task.context().unwrap();
            let refused = context.write_result(vec![b'x'; (16 << 20) + 1]).await.unwrap_err();
            let limit = matches!(
                refused,
                Error::Invalid(TaskError::TooLarge {
                    field: "result",
                    limit: 16_777_216,
                    got: 16_777_217
                })
            );
            assert!(limit, "{refused}");
            told.send(None).unwrap();
            let bytes = context.write_result(vec![b'x'; 4 * SECOND]).await?;
            told.send(Some(bytes)).unwrap();
            Ok(())
        }
    };
    server.start(handler).await.unwrap();
    let client = Client::new(connection()).await.unwrap();
    let task = Task::new("t", b"")
        .unwrap()
        .with_task_id("t")
        .with_retention(Duration::from_secs(60));
    client.enqueue(task).await.unwrap();
    assert_eq!(written.recv().await.unwrap(), None);
    // The lease is extended again and again while the result is on its way.
    let mut raw = redis.client().await;
    let first: f64 = lease(&mut raw).await;
    while lease(&mut raw).await < first + 2.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(written.try_recv().is_err(), "the result was there first");
    // So is a small task enqueued while a large one is on its way.
    let mut large = Box::pin(client.enqueue(Task::new("l", &vec![b'x'; 2 * SECOND]).unwrap().with_queue("l")));
    assert!(futures::poll!(&mut large).is_pending());
    tokio::select! {
        biased;
        small = client.enqueue(Task::new("s", b"").unwrap().with_queue("s")) => drop(small.unwrap()),
        _ = &mut large => panic!("the large task came first"),
    }
    assert_eq!(written.recv().await.unwrap(), Some(4 * SECOND));
    large.await.unwrap();
    client.close().await;
    server.shutdown().await;
}

async fn lease(raw: &mut asynq_testing::Resp) -> f64 {
    let score = raw.cmd(&["ZSCORE", "asynq:{default}:lease", "t"]).await.text();
    score.parse().unwrap()
}
