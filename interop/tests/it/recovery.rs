//! A server that dies leaves its tasks to the other side. Time is helped along: the dead wrote their leases a
//! minute and a half ago.

use std::sync::Arc;

use asynq::TaskState;
use asynq_core::{
    broker::{LeaseUntil, LeasedTask, Outcome, Settlement, Want},
    error::SettleError,
};
use asynq_interop::{GoTask, ServerProcess};

use crate::{
    pair::{Pair, queue_name},
    sides::{Producer, Runner, Settings, Side},
};

/// The last error of a task that was recovered.
pub(crate) const EXPIRED: &str = "asynq: task lease expired";

#[tokio::test]
async fn we_recover_the_tasks_of_a_killed_go_server() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    let mut server = ServerProcess::go(&pair.redis.address()).start().await;
    for (id, retries) in [("retried", 25), ("archived", 0)] {
        client
            .enqueue(
                &GoTask::new("t")
                    .payload(r#"{"do":"sleep","ms":600000}"#)
                    .id(id)
                    .max_retry(retries),
            )
            .await;
        server.started(id).await;
    }
    server.kill().await;
    for id in ["retried", "archived"] {
        assert_eq!(pair.look("default", id).await.unwrap().state, "active");
        pair.let_lease_expire("default", id).await;
        assert!(pair.look("default", id).await.unwrap().is_orphaned);
    }
    let left = pair.list("default", TaskState::Active).await;
    assert!(left.len() == 2 && left.iter().all(|info| info.is_orphaned), "{left:?}");

    let runner = Runner::start(Side::Rust, &pair, &Settings::default()).await;
    let recovered = pair.until("default", "retried", TaskState::Retry).await;
    assert_eq!((recovered.last_err.as_str(), recovered.retried), (EXPIRED, 1));
    let archived = pair.until("default", "archived", TaskState::Archived).await;
    assert_eq!((archived.last_err.as_str(), archived.retried), (EXPIRED, 0));
    assert_eq!(pair.counted("default").await, (2, 2));
    runner.shutdown().await;
    assert_eq!(pair.breaches().await, []);
}

/// Takes a task as a server of ours does that then falls silent.
async fn take(pair: &Pair) -> LeasedTask {
    let want = Want {
        queue: queue_name("default"),
        max: 1,
    };
    let mut taken = pair.storage.exchange(&pair.storage.begin(), &[], &[want]).await;
    assert_eq!((taken.leased.len(), taken.failed.len()), (1, 0), "{taken:?}");
    taken.leased.remove(0)
}

/// Asserts that the silent server is refused when it comes back.
async fn is_refused(pair: &Pair, task: &LeasedTask, outcome: Outcome) {
    let settlement = Settlement {
        lease: task.lease.clone(),
        message: Arc::clone(&task.message),
        outcome,
        run: None,
    };
    let answer = pair.storage.exchange(&pair.storage.begin(), &[settlement], &[]).await;
    assert!(matches!(answer.settled[..], [Err(SettleError::NotOurs)]), "{answer:?}");
    let extended = pair.storage.extend_leases(vec![task.lease.clone()]).await;
    assert!(matches!(extended[..], [Err(SettleError::NotOurs)]), "{extended:?}");
    let written = pair.storage.write_result(&task.lease, "late".into()).await;
    assert!(matches!(written, Err(SettleError::NotOurs)), "{written:?}");
}

/// Go recovers, retakes and does not know our fence: what a server of ours says too late must still be
/// refused, in each state that the task has meanwhile.
#[tokio::test]
async fn go_recovers_our_tasks_and_our_late_words_are_refused() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Rust, &pair.redis).await;
    let task = GoTask::new("t")
        .payload(r#"{"do":"sleep","ms":15000}"#)
        .id("a")
        .retention_ms(3_600_000);
    client.enqueue(&task).await;
    let mut dead = take(&pair).await;
    assert_eq!(pair.look("default", "a").await.unwrap().state, "active");
    dead.lease.until = LeaseUntil(pair.let_lease_expire("default", "a").await);

    let late = [
        Outcome::Done { retain: true },
        Outcome::Archive {
            error: "late".to_owned(),
        },
        Outcome::Requeue,
    ];
    let mut go = Runner::start(Side::Go, &pair, &Settings::default()).await;
    let recovered = pair.until("default", "a", TaskState::Retry).await;
    assert_eq!((recovered.last_err.as_str(), recovered.retried), (EXPIRED, 1));
    for outcome in &late {
        is_refused(&pair, &dead, outcome.clone()).await;
    }
    pair.go.run("default", "a").await.unwrap();
    go.started("a").await;
    for outcome in &late {
        is_refused(&pair, &dead, outcome.clone()).await;
    }
    assert_eq!(pair.look("default", "a").await.unwrap().state, "active");
    assert_eq!(go.ended("a").await.outcome, "ok");
    let done = pair.until("default", "a", TaskState::Completed).await;
    for outcome in &late {
        is_refused(&pair, &dead, outcome.clone()).await;
    }
    assert_eq!(pair.look("default", "a").await, Some(done));
    assert_eq!(pair.counted("default").await, (2, 1));
    go.shutdown().await;
}
