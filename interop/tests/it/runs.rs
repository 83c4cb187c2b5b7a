//! The record of a task's runs where Go servers run the task too, and where a server dies.

use std::time::Duration;

use asynq::{
    TaskState,
    broker::ServerIdentity,
    names::TaskId,
    task::{RunOutcome, Runs},
};
use asynq_interop::GoTask;

use crate::{
    pair::{Pair, queue_name},
    recovery::EXPIRED,
    sides::{Producer, Runner, Settings, Side, process},
};

const HOUR_MS: i64 = 3_600_000;

async fn runs(pair: &Pair, id: &str) -> Runs {
    let id = TaskId::new(id).unwrap();
    let info = pair.storage.task_info(&queue_name("default"), &id).await.unwrap();
    info.runs.expect("a single task has its runs")
}

fn outcomes(runs: &Runs) -> Vec<RunOutcome> {
    runs.recorded.iter().map(|run| run.outcome).collect()
}

/// The retries wait for an hour, so each round runs what it is told to run.
async fn round(pair: &mut Pair, side: Side, ids: [(&str, TaskState); 2]) {
    for (id, _) in ids {
        // A new task is pending.
        if pair.look("default", id).await.unwrap().state == "retry" {
            pair.go.run("default", id).await.unwrap();
        }
    }
    let runner = Runner::start(side, pair, &Settings::default()).await;
    for (id, after) in ids {
        pair.until("default", id, after).await;
    }
    runner.shutdown().await;
}

/// Both inspectors see the same tasks all the time; `look`, `list` and `until` compare them.
#[tokio::test]
async fn runs_of_a_go_server_between_ours_are_a_gap() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    for (id, failures) in [("ours", 2), ("theirs", 1)] {
        let orders = format!(r#"{{"do":"fail_times","n":{failures}}}"#);
        let task = GoTask::new("t").payload(orders).id(id).retention_ms(HOUR_MS);
        client.enqueue(&task).await;
    }
    round(
        &mut pair,
        Side::Rust,
        [("ours", TaskState::Retry), ("theirs", TaskState::Retry)],
    )
    .await;
    for id in ["ours", "theirs"] {
        let found = runs(&pair, id).await;
        assert_eq!((outcomes(&found), found.missing()), (vec![RunOutcome::Retried], 0));
    }
    round(
        &mut pair,
        Side::Go,
        [("ours", TaskState::Retry), ("theirs", TaskState::Completed)],
    )
    .await;
    for id in ["ours", "theirs"] {
        let found = runs(&pair, id).await;
        assert_eq!(
            (outcomes(&found), found.missing_after),
            (vec![RunOutcome::Retried], 1),
            "{id}"
        );
    }
    assert_eq!(pair.list("default", TaskState::Retry).await.len(), 1);
    let runner = Runner::start(Side::Rust, &pair, &Settings::default()).await;
    pair.go.run("default", "ours").await.unwrap();
    pair.until("default", "ours", TaskState::Completed).await;
    runner.shutdown().await;
    let found = runs(&pair, "ours").await;
    assert_eq!(outcomes(&found), [RunOutcome::Retried, RunOutcome::Done]);
    let missing: Vec<_> = found.recorded.iter().map(|run| run.missing_before).collect();
    assert_eq!((missing, found.missing_after), (vec![0, 1], 0));
    assert_eq!(pair.list("default", TaskState::Completed).await.len(), 2);
    pair.go.delete("default", "ours").await.unwrap();
    pair.until_gone("default", "ours").await;
    assert_eq!(pair.breaches().await, []);
}

/// The dead server told nothing; the one that recovers its task records the run, and then its own.
#[tokio::test]
async fn a_run_that_died_with_its_server_is_recorded_by_its_recovery() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Rust, &pair.redis).await;
    let server = process(Side::Rust, &pair.redis)
        .retry_delay(Duration::ZERO)
        .recoverer_interval(Duration::from_millis(500));
    let mut first = server.clone().start().await;
    let orders = r#"{"do":"sleep","ms":600000,"n":1}"#;
    let task = GoTask::new("t").payload(orders).id("a").retention_ms(HOUR_MS);
    client.enqueue(&task).await;
    first.started("a").await;
    first.kill().await;
    pair.let_lease_expire("default", "a").await;

    let mut second = server.start().await;
    second.ended("a").await;
    pair.until("default", "a", TaskState::Completed).await;
    let found = runs(&pair, "a").await;
    assert_eq!(outcomes(&found), [RunOutcome::Retried, RunOutcome::Done]);
    assert_eq!(found.missing(), 0);
    let [lost, done] = &found.recorded[..] else {
        panic!("{found:?}")
    };
    assert!(lost.is_lost() && !done.is_lost());
    assert_eq!((lost.error.as_str(), &lost.server), (EXPIRED, &None));
    assert!(lost.started.unwrap() <= lost.written && lost.written <= done.written);
    let pid = done.server.as_ref().map(|server: &ServerIdentity| server.pid);
    assert_eq!(pid, second.pid().map(|pid| i32::try_from(pid).unwrap()));
    second.shutdown().await;
    assert_eq!(pair.breaches().await, []);
}
