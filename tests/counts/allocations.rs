//! Allocations of the process, the runtime of tokio included.

use std::{
    alloc::System,
    sync::atomic::{AtomicU64, Ordering},
};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::work::{Bench, task};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations until now, those that grow among them.
fn so_far() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.allocations + stats.reallocations) as u64
}

#[expect(clippy::cast_precision_loss, reason = "a few million")]
fn each(allocations: u64, tasks: u64) -> f64 {
    allocations as f64 / tasks as f64
}

#[tokio::test]
async fn an_enqueue_allocates_no_more_than_it_did() {
    const TASKS: u64 = 1000;
    let bench = Bench::start().await;
    let system = bench.producer().await;
    let client = system.client();
    let before = so_far();
    for _ in 0..TASKS {
        client.enqueue(task()).await.unwrap();
    }
    let cost = each(so_far() - before, TASKS);
    system.shutdown().await;
    println!("{cost:.1} allocations for an enqueue by one caller");
    assert!(cost <= 40.0, "{cost:.1}");
}

#[tokio::test]
async fn a_task_enqueued_with_others_allocates_no_more_than_it_did() {
    const TASKS: u64 = 2000;
    let bench = Bench::start().await;
    let system = bench.producer().await;
    let client = system.client();
    let tasks: Vec<_> = (0..TASKS).map(|_| task()).collect();
    let before = so_far();
    for answer in client.enqueue_many(tasks).await {
        answer.unwrap();
    }
    let cost = each(so_far() - before, TASKS);
    system.shutdown().await;
    println!("{cost:.1} allocations for a task enqueued with others");
    assert!(cost <= 13.0, "{cost:.1}");
}

#[tokio::test]
async fn a_drained_task_allocates_no_more_than_it_did() {
    const TASKS: u64 = 4000;
    static BEFORE: AtomicU64 = AtomicU64::new(0);
    let bench = Bench::start().await;
    let tasks = usize::try_from(TASKS).unwrap();
    bench.fill(tasks).await;
    bench
        .drain(tasks, 100, || BEFORE.store(so_far(), Ordering::Relaxed))
        .await;
    let cost = each(so_far() - BEFORE.load(Ordering::Relaxed), TASKS);
    println!("{cost:.1} allocations for a drained task");
    assert!(cost <= 24.0, "{cost:.1}");
}
