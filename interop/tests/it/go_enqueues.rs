//! Go enqueues, we inspect and run.

use asynq::TaskState;
use asynq_interop::GoTask;
use chrono::Utc;

use crate::{
    kinds::every_kind,
    pair::Pair,
    sides::{Producer, Runner, Settings, Side},
};

#[tokio::test]
async fn every_kind_of_gos_tasks_is_read_and_run_by_us() {
    every_kind(Side::Go).await;
}

/// Go takes what our types refuse; its tasks are run all the same.
#[tokio::test]
async fn tasks_that_only_go_can_express_are_run_as_go_would() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    // Now it is up.
    client.try_enqueue(&GoTask::new(" ")).await.unwrap_err();
    let now = Utc::now().timestamp();
    let delayed = client
        .enqueue(&GoTask::new("delayed group").group("g").process_at_unix(now + 4))
        .await;
    let neither = client
        .enqueue(&GoTask::new("neither timeout nor deadline").timeout_ms(500))
        .await;
    let negative = client.enqueue(&GoTask::new("negative retries").max_retry(-3)).await;
    let no_retention = client
        .enqueue(&GoTask::new("negative retention").retention_ms(-2000))
        .await;
    let overdue = client.enqueue(&GoTask::new("negative timeout").timeout_ms(-5000)).await;
    let looked = pair.look("default", &delayed.id).await.unwrap();
    assert_eq!((looked.state.as_str(), looked.group.as_str()), ("scheduled", "g"));
    for info in [&neither, &negative, &no_retention, &overdue] {
        assert_eq!(pair.look("default", &info.id).await.unwrap().state, "pending");
    }

    let mut runner = Runner::start(Side::Rust, &pair, &Settings::default()).await;
    let run = runner.ended(&neither.id).await;
    let half_an_hour = 1_800_000_000_000;
    assert!(
        run.deadline_unix_nanos - run.at_unix_nanos > half_an_hour - 10_000_000_000,
        "{run:?}"
    );
    assert_eq!(runner.ended(&negative.id).await.max_retry, 0);
    runner.ended(&delayed.id).await;
    for info in [&neither, &negative, &no_retention, &delayed] {
        pair.until_gone("default", &info.id).await;
    }
    // Its time was over before it began: it fails without a run.
    let failed = pair.until("default", &overdue.id, TaskState::Retry).await;
    assert_eq!(
        (failed.last_err.as_str(), failed.retried),
        ("context deadline exceeded", 1)
    );
    assert!(!runner.unexpected().contains(&overdue.id));
    runner.shutdown().await;
    assert_eq!(pair.breaches().await, []);
}

/// Values at the ends of what the wire carries harm nobody.
#[tokio::test]
async fn extreme_values_of_go_do_no_harm() {
    const CENTURIES_MS: i64 = i64::MAX / 1_000_000;
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    let task = |name: &str| GoTask::new(name).id(name);
    let run = [
        task("timeout of centuries").timeout_ms(CENTURIES_MS),
        task("late deadline").deadline_unix(1 << 40),
        task("last deadline").deadline_unix(i64::MAX),
        task("both").timeout_ms(CENTURIES_MS).deadline_unix(1 << 40),
        task("many retries").max_retry(i64::MAX),
        task("old").process_at_unix(-1),
        task("unique for centuries").unique_ms(CENTURIES_MS),
    ];
    let overdue = [
        task("deadline before 1970").deadline_unix(-5),
        task("first deadline").deadline_unix(i64::MIN + 1),
        task("timeout of minus centuries").timeout_ms(-CENTURIES_MS),
    ];
    for task in run.iter().chain(&overdue) {
        client.enqueue(task).await;
    }
    client
        .enqueue(&task("kept for centuries").retention_ms(CENTURIES_MS))
        .await;
    client.enqueue(&task("in a far future").process_at_unix(1 << 40)).await;
    let mut server = Runner::start(Side::Rust, &pair, &Settings::default()).await;
    for task in &run {
        server.ended(&task.r#type).await;
        pair.until_gone("default", &task.r#type).await;
    }
    pair.until_queue("default", "all overdue", |info| info.retry == overdue.len() as u64)
        .await;
    // A time before all that our calendar knows is shown as none.
    for task in overdue.iter().filter(|task| task.deadline_unix != Some(i64::MIN + 1)) {
        let failed = pair.until("default", &task.r#type, TaskState::Retry).await;
        assert_eq!(failed.last_err, "context deadline exceeded");
    }
    pair.until("default", "kept for centuries", TaskState::Completed).await;
    assert_eq!(
        pair.look("default", "in a far future").await.unwrap().state,
        "scheduled"
    );
    server.shutdown().await;
    assert_eq!(pair.breaches().await, []);
}
