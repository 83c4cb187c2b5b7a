//! The measuring programs work: what one side enqueues in numbers, the other drains.

use std::time::Duration;

use asynq_interop::{bench_drain, bench_enqueue};

use crate::{
    pair::Pair,
    sides::{Producer, Runner, Settings, Side},
};

#[tokio::test]
async fn numbers_of_tasks_go_both_ways() {
    let mut pair = Pair::start().await;
    let address = pair.redis.address();
    let fill = bench_enqueue(&address, 500, 4, 16).await;
    assert_eq!((fill.n, fill.callers), (500, 4));
    let runner = Runner::start(Side::Rust, &pair, &Settings::default()).await;
    pair.until_queue("default", "all done", |info| info.processed_total == 500)
        .await;
    runner.shutdown().await;

    let Producer::Rust(system) = Producer::start(Side::Rust, &pair.redis).await else {
        unreachable!()
    };
    let tasks = (0..500_u32).map(|n| asynq::Task::new("bench:noop", &n.to_be_bytes()).unwrap());
    for enqueued in system.client().enqueue_many(tasks).await {
        enqueued.unwrap();
    }
    let drain = bench_drain(&address, 500, 10, Duration::from_secs(60)).await;
    assert_eq!((drain.n, drain.concurrency), (500, 10));
    assert!(
        drain.per_second > 0.0 && drain.handled_seconds <= drain.total_seconds,
        "{drain:?}"
    );
    assert_eq!(pair.counted("default").await, (1000, 0));
    assert_eq!(pair.queue("default").await.size, 0);
}

/// Far more than one call carries.
#[tokio::test]
async fn large_payloads_go_both_ways() {
    const LARGE: usize = 1 << 20;
    let mut pair = Pair::start().await;
    let address = pair.redis.address();
    bench_enqueue(&address, 12, 2, LARGE as u64).await;
    let runner = Runner::start(Side::Rust, &pair, &Settings::default()).await;
    pair.until_queue("default", "all done", |info| info.processed_total == 12)
        .await;
    runner.shutdown().await;

    let Producer::Rust(system) = Producer::start(Side::Rust, &pair.redis).await else {
        unreachable!()
    };
    let tasks = (0..12_u8).map(|n| asynq::Task::new("bench:noop", &vec![n; LARGE]).unwrap());
    for enqueued in system.client().enqueue_many(tasks).await {
        enqueued.unwrap();
    }
    bench_drain(&address, 12, 10, Duration::from_secs(60)).await;
    assert_eq!(pair.counted("default").await, (24, 0));
    assert_eq!(pair.queue("default").await.size, 0);
}
