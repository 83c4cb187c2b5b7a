//! Nothing on the hot path grows with the square of the number of tasks.

use asynq_testing::request::batch_of;
use std::time::{Duration, Instant};

use asynq_core::{
    Broker as _,
    broker::{MAX_BATCH, Outcome, Want},
};
use asynq_testing::request;

use crate::kit::{Kit, queue, settlement};

/// Far above what it takes (a second, unoptimized), far below what a quadratic step would.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn fifty_thousand_tasks_go_through_in_batches() {
    const COUNT: usize = 50_000;
    let (kit, begun) = (Kit::new(), Instant::now());
    for chunk in (0..COUNT).collect::<Vec<_>>().chunks(200) {
        let batch = chunk.iter().map(|n| request("q", &format!("task-{n}")).build());
        for answer in kit.broker.enqueue(&batch_of(batch)).await {
            answer.unwrap();
        }
    }
    let enqueued = begun.elapsed();
    let mut taken = Vec::new();
    while taken.len() < COUNT {
        let call = kit.broker.begin();
        let want = vec![Want {
            queue: queue(),
            max: MAX_BATCH,
        }];
        taken.extend(kit.broker.exchange(&call, &[], &want).await.leased);
    }
    for tasks in taken.chunks(200) {
        let done = tasks
            .iter()
            .map(|task| settlement(task, Outcome::Done { retain: true }));
        let done: Vec<_> = done.collect();
        let answer = kit.broker.exchange(&kit.broker.begin(), &done, &[]).await;
        assert!(answer.settled.iter().all(Result::is_ok));
    }
    assert_eq!(kit.audit().await, []);
    let all = begun.elapsed();
    println!("{COUNT} tasks: enqueued in {enqueued:?}, all in {all:?}");
    assert!(all < LIMIT, "{all:?}");
}
