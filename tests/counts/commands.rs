//! Calls and commands of Redis.

use std::collections::BTreeMap;

use crate::work::{Bench, task};

/// Counts how often each command was executed, by a client or in a script.
async fn executed(bench: &Bench) -> BTreeMap<String, u64> {
    let mut client = bench.server.client().await;
    let info = client.ok(&["INFO", "commandstats"]).await.text();
    let lines = info.lines().filter_map(|line| line.strip_prefix("cmdstat_"));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(":calls=").unwrap();
            (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap())
        })
        .collect()
}

async fn reset(bench: &Bench) {
    bench.server.client().await.ok(&["CONFIG", "RESETSTAT"]).await;
}

fn of(executed: &BTreeMap<String, u64>, name: &str) -> u64 {
    executed.get(name).copied().unwrap_or(0)
}

/// All but those of this test and of a connection that begins.
fn all(executed: &BTreeMap<String, u64>) -> u64 {
    let others = ["info", "config", "client", "hello", "ping", "time", "script"];
    let counted = executed.iter().filter(|(name, _)| {
        let name = name.split('|').next().unwrap_or(name);
        !others.contains(&name)
    });
    counted.map(|(_, calls)| calls).sum()
}

#[tokio::test]
async fn tasks_enqueued_one_after_the_other_are_a_call_each() {
    const TASKS: u64 = 200;
    let bench = Bench::start().await;
    let system = bench.producer().await;
    reset(&bench).await;
    for _ in 0..TASKS {
        system.client().enqueue(task()).await.unwrap();
    }
    let executed = executed(&bench).await;
    system.shutdown().await;
    assert_eq!(of(&executed, "evalsha"), TASKS, "{executed:?}");
    // The name of the queue, the call, the look at the id, and two writes.
    assert!(all(&executed) <= 5 * TASKS + 20, "{executed:?}");
}

#[tokio::test]
async fn tasks_enqueued_together_are_a_call_for_two_hundred() {
    const TASKS: u64 = 1000;
    let bench = Bench::start().await;
    let system = bench.producer().await;
    reset(&bench).await;
    for answer in system.client().enqueue_many((0..TASKS).map(|_| task())).await {
        answer.unwrap();
    }
    let executed = executed(&bench).await;
    system.shutdown().await;
    // The first ones may be on their way before the others are known.
    assert!(of(&executed, "evalsha") <= 10, "{executed:?}");
    // One write for each task, and a few for each call.
    assert!(all(&executed) <= TASKS + 60, "{executed:?}");
}

/// Drains 2000 tasks: `calls` is the most scripts for 1000 of them, `commands` the most commands for each.
async fn drained_within(concurrency: usize, calls: u64, commands: u64) {
    const TASKS: u64 = 2000;
    let bench = Bench::start().await;
    bench.fill(usize::try_from(TASKS).unwrap()).await;
    reset(&bench).await;
    bench.drain(usize::try_from(TASKS).unwrap(), concurrency, || ()).await;
    let executed = executed(&bench).await;
    println!(
        "concurrency {concurrency}: {} scripts, {} commands for {TASKS} tasks",
        of(&executed, "evalsha"),
        all(&executed)
    );
    assert!(of(&executed, "evalsha") <= calls * TASKS / 1000 + 60, "{executed:?}");
    assert!(all(&executed) <= commands * TASKS + 1000, "{executed:?}");
    for scan in ["scan", "keys", "smembers"] {
        assert!(of(&executed, scan) <= 10, "{scan}: {executed:?}");
    }
}

#[tokio::test]
async fn a_drain_by_ten_is_a_call_for_a_few_tasks() {
    drained_within(10, 400, 10).await;
}

#[tokio::test]
async fn a_drain_by_a_hundred_is_a_call_for_many_tasks() {
    drained_within(100, 90, 6).await;
}

/// More than 512 under way, which end in any order.
#[tokio::test]
async fn a_drain_by_a_thousand_is_a_call_for_as_many_as_one_may_have() {
    drained_within(1000, 60, 6).await;
}
