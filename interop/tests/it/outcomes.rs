//! Outcomes of tasks, run by either side: both inspectors read them, and either side goes on with the task.

use std::time::Duration;

use asynq::TaskState;
use asynq_interop::{GoTask, GoTaskInfo};
use chrono::Utc;

use crate::{
    pair::Pair,
    same::{Database, Difference, Known, assert_same},
    sides::{Producer, Runner, Settings, Side},
};

const HOUR_MS: i64 = 3_600_000;

const KNOWN: &Known = &[
    (
        "skip",
        Difference::ErrorText,
        "the words of a handler in Go end with those of SkipRetry",
    ),
    ("panic", Difference::ErrorText, "a panic in Go tells its line"),
];

/// Each outcome is the same for both inspectors, and the same to the byte whoever writes it.
#[tokio::test]
async fn we_write_each_outcome_as_go_does() {
    let (ours, gos) = tokio::join!(outcomes(Side::Rust), outcomes(Side::Go));
    assert_same(&ours, &gos, KNOWN);
}

/// One way to end.
struct Case {
    /// Also its queue, so that each has counters of its own.
    name: &'static str,
    task: GoTask,
    /// `None`: gone.
    state: Option<TaskState>,
    retried: i64,
    error: &'static str,
    result: Option<&'static [u8]>,
    counted: (u64, u64),
}

impl Case {
    fn new(name: &'static str, orders: &str) -> Self {
        Self {
            name,
            task: GoTask::new("t")
                .payload(orders)
                .queue(name)
                .id(name)
                .header("trace", name),
            state: None,
            retried: 0,
            error: "",
            result: None,
            counted: (1, 0),
        }
    }

    fn with(mut self, change: impl FnOnce(GoTask) -> GoTask) -> Self {
        self.task = change(self.task);
        self
    }

    fn completed(self) -> Self {
        Self {
            state: Some(TaskState::Completed),
            ..self
        }
        .with(|task| task.retention_ms(HOUR_MS))
    }

    /// Failed, and waits for its next attempt.
    fn retry(self, error: &'static str) -> Self {
        Self {
            state: Some(TaskState::Retry),
            retried: 1,
            error,
            counted: (1, 1),
            ..self
        }
    }

    fn archived(self, error: &'static str) -> Self {
        Self {
            state: Some(TaskState::Archived),
            error,
            counted: (1, 1),
            ..self
        }
    }
}

fn cases(runner: Side) -> Vec<Case> {
    // Go appends the text of its own error, by which the outcome is known; ours is known by its type.
    let skipped = match runner {
        Side::Go => "no such user: skip retry for the task",
        Side::Rust => "no such user",
    };
    let result = |case: Case, bytes| Case {
        result: Some(bytes),
        ..case
    };
    let not_failure = Case {
        retried: 0,
        counted: (0, 0),
        ..Case::new("not a failure", r#"{"do":"not_failure"}"#).retry("not a failure")
    };
    vec![
        Case::new("success", r#"{"do":"ok"}"#),
        Case::new("retention", r#"{"do":"ok"}"#).completed(),
        result(
            Case::new("result", r#"{"do":"result","data":"42 pages"}"#).completed(),
            b"42 pages",
        ),
        result(
            Case::new("binary result", r#"{"do":"result","data_base64":"AP+AAA=="}"#).completed(),
            b"\0\xff\x80\0",
        ),
        Case::new("result without retention", r#"{"do":"result","data":"42 pages"}"#),
        result(
            Case::new("result of a failure", r#"{"do":"result","data":"half","error":"boom"}"#).retry("boom"),
            b"half",
        ),
        Case::new("failure", r#"{"do":"fail","error":"boom: größer"}"#).retry("boom: größer"),
        Case::new("last failure", r#"{"do":"fail","error":"boom"}"#)
            .with(|task| task.max_retry(0))
            .archived("boom"),
        Case::new("skip", r#"{"do":"skip_retry","error":"no such user"}"#).archived(skipped),
        Case::new("revoke", r#"{"do":"revoke"}"#).with(|task| task.retention_ms(HOUR_MS)),
        Case::new("panic", r#"{"do":"panic","error":"oops"}"#).retry("panic error cause by: panic"),
        not_failure,
        Case::new("last non-failure", r#"{"do":"not_failure"}"#)
            .with(|task| task.max_retry(0))
            .archived("not a failure"),
        Case::new("timeout", r#"{"do":"wait_cancel"}"#)
            .with(|task| task.timeout_ms(1000))
            .retry("context deadline exceeded"),
        Case::new("overdue", r#"{"do":"ok"}"#)
            .with(|task| task.deadline_unix(1_700_000_100))
            .retry("context deadline exceeded"),
    ]
}

/// Runs all cases on the side. What is in the database then.
async fn outcomes(side: Side) -> Database {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(side.other(), &pair.redis).await;
    let cases = cases(side);
    let queues: Vec<_> = cases.iter().map(|case| case.name).collect();
    let started = Utc::now().timestamp();
    for case in &cases {
        client.enqueue(&case.task).await;
    }
    let mut runner = Runner::start(side, &pair, &Settings::queues(&queues)).await;
    for case in &cases {
        check(&mut pair, side, case, started).await;
    }
    let overdue = "overdue".to_owned();
    assert!(
        !runner.unexpected().contains(&overdue),
        "it ran although its time was over"
    );
    let database = Database::of(&pair.redis).await;

    // What waits for its retry in an hour is run now by an operator with Go's tools, and fails once more.
    pair.go.run("failure", "failure").await.unwrap();
    runner.started("failure").await;
    assert_eq!(runner.started("failure").await.retried, 1);
    pair.until_queue("failure", "both runs counted", |info| info.failed_total == 2)
        .await;
    let again = pair.until("failure", "failure", TaskState::Retry).await;
    assert_eq!((again.retried, again.last_err.as_str()), (2, "boom: größer"));
    // And what was archived can be deleted.
    pair.go.delete("skip", "skip").await.unwrap();
    pair.until_gone("skip", "skip").await;

    runner.shutdown().await;
    assert_eq!(pair.breaches().await, []);
    asynq_testing::invariants::assert_hold(&pair.raw().await);
    database
}

async fn check(pair: &mut Pair, side: Side, case: &Case, started: i64) {
    let Case { name, task, state, .. } = case;
    let what = format!("{name} by {side:?}");
    let Some(state) = state else {
        pair.until_gone(name, name).await;
        return assert_eq!(pair.counted(name).await, case.counted, "{what}");
    };
    let info = pair.until(name, name, *state).await;
    assert_eq!(pair.list(name, *state).await, std::slice::from_ref(&info), "{what}");
    assert_eq!(pair.counted(name).await, case.counted, "{what}");

    let recent = |seconds: i64| (started..started + 120).contains(&seconds);
    let completed = *state == TaskState::Completed;
    assert_eq!(
        (recent(info.completed_at_unix), info.completed_at_unix == 0),
        (completed, !completed),
        "{what}: {info:?}"
    );
    assert_eq!(
        recent(info.last_failed_at / 1_000_000_000),
        !completed,
        "{what}: {info:?}"
    );
    let waits = *state == TaskState::Retry;
    assert_eq!(recent(info.next_process_at_unix - 3600), waits, "{what}: {info:?}");
    let payload = task.payload.clone();
    let kept = (info.payload.clone(), &info.headers, info.max_retry);
    assert_eq!(
        kept,
        (payload, task.headers.as_ref().unwrap(), task.max_retry.unwrap_or(25)),
        "{what}"
    );
    let after = (info.retried, info.result.as_deref());
    assert_eq!(after, (case.retried, case.result), "{what}");
    if *name == "panic" {
        assert!(
            info.last_err.starts_with(case.error) && info.last_err.ends_with(": oops"),
            "{what}: {info:?}"
        );
    } else {
        assert_eq!(info.last_err, case.error, "{what}");
    }
}

#[tokio::test]
async fn a_retry_on_gos_side() {
    retry_until_success(Side::Go).await;
}

#[tokio::test]
async fn a_retry_on_our_side() {
    retry_until_success(Side::Rust).await;
}

async fn retry_until_success(side: Side) {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(side.other(), &pair.redis).await;
    let settings = Settings {
        retry_delay: Duration::from_secs(1),
        ..Settings::default()
    };
    let mut runner = Runner::start(side, &pair, &settings).await;
    let task = GoTask::new("t")
        .payload(r#"{"do":"fail_times","n":2,"error":"boom"}"#)
        .retention_ms(HOUR_MS);
    let info = client.enqueue(&task).await;
    for retried in 0..3 {
        assert_eq!(runner.started(&info.id).await.retried, retried);
    }
    let done = pair.until("default", &info.id, TaskState::Completed).await;
    assert_eq!((done.retried, done.last_err.as_str()), (2, "boom"));
    assert_eq!(pair.counted("default").await, (3, 2));
    runner.shutdown().await;
}

#[tokio::test]
async fn what_failed_with_go_is_done_by_us() {
    handover(Side::Go).await;
}

#[tokio::test]
async fn what_failed_with_us_is_done_by_go() {
    handover(Side::Rust).await;
}

/// A task fails once with one side and succeeds with the other; its headers, options and result survive.
async fn handover(first: Side) {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(first, &pair.redis).await;
    // Due at once, but the first side does not look.
    let settings = Settings {
        retry_delay: Duration::ZERO,
        forward_every: Duration::from_secs(3000),
        ..Settings::default()
    };
    let mut runner = Runner::start(first, &pair, &settings).await;
    let task = GoTask::new("t")
        .payload(r#"{"do":"fail_times","n":1,"error":"not today"}"#)
        .header("trace", "00-4bf92f")
        .header("ключ", "")
        .max_retry(3)
        .timeout_ms(60_000)
        .retention_ms(HOUR_MS)
        .unique_ms(HOUR_MS);
    let info = client.enqueue(&task).await;
    runner.ended(&info.id).await;
    let failed = pair.until("default", &info.id, TaskState::Retry).await;
    assert_eq!((failed.retried, failed.last_err.as_str()), (1, "not today"));
    runner.shutdown().await;
    assert_eq!(pair.look("default", &info.id).await, Some(failed.clone()));

    let mut runner = Runner::start(first.other(), &pair, &Settings::default()).await;
    let run = runner.started(&info.id).await;
    assert_eq!((run.retried, run.max_retry), (1, 3));
    assert_eq!(run.headers, task.headers.clone().unwrap());
    let done = pair.until("default", &info.id, TaskState::Completed).await;
    let expected = GoTaskInfo {
        state: "completed".to_owned(),
        next_process_at_unix: 0,
        completed_at_unix: done.completed_at_unix,
        ..failed
    };
    assert_eq!(done, expected);
    assert_eq!(pair.counted("default").await, (2, 1));
    // The lock that the first side took is free again.
    client
        .enqueue(&task.payload(r#"{"do":"fail_times","n":1,"error":"not today"}"#))
        .await;
    runner.shutdown().await;
}

/// While a task runs, its state is the same for both.
#[tokio::test]
async fn running_tasks_are_active_for_both() {
    for side in [Side::Go, Side::Rust] {
        let mut pair = Pair::start().await;
        let mut client = Producer::start(side.other(), &pair.redis).await;
        let settings = Settings {
            shutdown_timeout: Duration::from_millis(100),
            ..Settings::default()
        };
        let mut runner = Runner::start(side, &pair, &settings).await;
        let task = GoTask::new("t").payload(r#"{"do":"wait_cancel"}"#).id("a");
        client.enqueue(&task).await;
        runner.started("a").await;
        let info = pair.until("default", "a", TaskState::Active).await;
        assert!(!info.is_orphaned);
        assert_eq!(pair.list("default", TaskState::Active).await, [info]);
        assert_eq!(pair.queue("default").await.active, 1);
    }
}
