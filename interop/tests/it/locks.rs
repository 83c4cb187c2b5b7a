//! Unique locks and task ids: each side respects those of the other.

use asynq::TaskState;
use asynq_interop::GoTask;

use crate::{
    pair::Pair,
    sides::{Producer, Refusal, Runner, Settings, Side},
};

const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn a_lock_taken_by_go_is_refused_by_us_and_freed_by_us() {
    unique(Side::Go).await;
}

#[tokio::test]
async fn a_lock_taken_by_us_is_refused_by_go_and_freed_by_go() {
    unique(Side::Rust).await;
}

/// Locks of the same type with no payload, an empty one and others are different locks on both sides.
async fn unique(holder: Side) {
    let mut pair = Pair::start().await;
    let mut first = Producer::start(holder, &pair.redis).await;
    let mut second = Producer::start(holder.other(), &pair.redis).await;
    let task = || GoTask::new("reindex").unique_ms(HOUR_MS);
    let tasks = [
        task(),
        task().payload(""),
        task().payload("p"),
        task().payload([0, 255, 128]),
        task().payload("p").queue("low"),
    ];
    let mut infos = Vec::new();
    for task in &tasks {
        infos.push(first.enqueue(task).await);
    }
    for task in &tasks {
        assert_eq!(second.try_enqueue(task).await, Err(Refusal::Duplicate), "{task:?}");
        // Whatever else may differ, it is the same lock.
        let other = task.clone().header("k", "v").process_in_ms(60_000).max_retry(1);
        assert_eq!(second.try_enqueue(&other).await, Err(Refusal::Duplicate), "{task:?}");
    }
    // It is the lock that refuses, nothing else.
    second
        .enqueue(&GoTask::new("reindex").payload("p").id("not unique"))
        .await;

    let runner = Runner::start(holder.other(), &pair, &Settings::queues(&["default", "low"])).await;
    for info in &infos {
        pair.until_gone(&info.queue, &info.id).await;
    }
    pair.until_gone("default", "not unique").await;
    runner.shutdown().await;
    for task in &tasks {
        let info = second.enqueue(task).await;
        assert_eq!(first.try_enqueue(task).await, Err(Refusal::Duplicate), "{task:?}");
        pair.go.delete(&info.queue, &info.id).await.unwrap();
    }
}

/// Failing keeps the lock, on both sides; an operator who deletes the task frees it.
#[tokio::test]
async fn archived_tasks_keep_their_locks() {
    for side in [Side::Go, Side::Rust] {
        let mut pair = Pair::start().await;
        let mut ours = Producer::start(side, &pair.redis).await;
        let mut theirs = Producer::start(side.other(), &pair.redis).await;
        let runner = Runner::start(side, &pair, &Settings::default()).await;
        let task = GoTask::new("t").payload(r#"{"do":"skip_retry"}"#).unique_ms(HOUR_MS);
        let info = theirs.enqueue(&task).await;
        pair.until("default", &info.id, TaskState::Archived).await;
        assert_eq!(ours.try_enqueue(&task).await, Err(Refusal::Duplicate));
        assert_eq!(theirs.try_enqueue(&task).await, Err(Refusal::Duplicate));
        runner.shutdown().await;
        pair.go.delete("default", &info.id).await.unwrap();
        ours.enqueue(&task).await;
    }
}

#[tokio::test]
async fn task_ids_are_taken_for_both() {
    let mut pair = Pair::start().await;
    let mut go = Producer::start(Side::Go, &pair.redis).await;
    let mut rust = Producer::start(Side::Rust, &pair.redis).await;
    let task = |id: &str| GoTask::new("t").payload(id).id(id);

    go.enqueue(&task("by go")).await;
    rust.enqueue(&task("by rust")).await;
    for (client, id) in [(&mut rust, "by go"), (&mut go, "by rust")] {
        assert_eq!(client.try_enqueue(&task(id)).await, Err(Refusal::IdConflict));
        assert_eq!(
            client.try_enqueue(&task(id).process_in_ms(60_000)).await,
            Err(Refusal::IdConflict)
        );
        assert_eq!(client.try_enqueue(&task(id).group("g")).await, Err(Refusal::IdConflict));
        // In another queue it is another task.
        client.enqueue(&task(id).queue("low")).await;
    }
    // The taken lock is found before the taken id.
    let unique = task("unique").unique_ms(HOUR_MS);
    go.enqueue(&unique).await;
    assert_eq!(rust.try_enqueue(&unique).await, Err(Refusal::Duplicate));
    let unique = unique.payload("other");
    rust.enqueue(&unique.clone().id("other")).await;
    assert_eq!(go.try_enqueue(&unique.id("other")).await, Err(Refusal::Duplicate));
    assert_eq!(pair.queue("default").await.size, 4);

    // An id is taken as long as the task is kept, in whatever state.
    let runner = Runner::start(Side::Rust, &pair, &Settings::default()).await;
    go.enqueue(&task("kept").retention_ms(HOUR_MS)).await;
    pair.until("default", "kept", TaskState::Completed).await;
    assert_eq!(go.try_enqueue(&task("kept")).await, Err(Refusal::IdConflict));
    assert_eq!(rust.try_enqueue(&task("kept")).await, Err(Refusal::IdConflict));
    pair.until_gone("default", "by go").await;
    pair.until_gone("default", "by rust").await;
    runner.shutdown().await;
    go.enqueue(&task("by rust")).await;
    rust.enqueue(&task("by go")).await;
}
