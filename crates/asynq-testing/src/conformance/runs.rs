//! The record of a task's runs: a field of our own in the task hash (ours.md#runs-of-a-task).

use asynq_core::{
    Act, Run, RunOutcome, Runs, ServerIdentity, TaskInfo, Then,
    broker::{EndedRun, LeasedTask, RECOVER_GRACE, Recovery, Settlement},
    inspect::{ListFilter, PageRequest},
    message,
    runs::{MAX_RUNS, MAX_RUNS_BYTES},
};
use chrono::TimeDelta;

use super::kit::*;

fn server() -> ServerIdentity {
    ServerIdentity {
        host: "web-1".into(),
        pid: 7,
        server_id: "0b0e2f9a-5d0c-4b63-9a6f-0d9a4d4c7a11".into(),
    }
}

/// The end of a run of one and a half seconds.
fn ended(fx: &Fixture, task: &LeasedTask, outcome: Outcome) -> Settlement {
    let run = EndedRun {
        server: Some(Arc::new(server())),
        started: Some(fx.now() - TimeDelta::milliseconds(1500)),
        ended: Some(fx.now()),
    };
    Settlement {
        run: Some(Box::new(run)),
        ..settlement(task, outcome)
    }
}

async fn end(fx: &Fixture, task: &LeasedTask, outcome: Outcome) {
    let settlement = ended(fx, task, outcome);
    fx.exchange(vec![settlement], 0).await.settled.remove(0).unwrap();
}

/// Ends a run with a failure, and takes the task again.
async fn again(fx: &Fixture, task: &LeasedTask, error: &str) -> LeasedTask {
    let outcome = Outcome::Retry {
        at: fx.now(),
        error: error.into(),
        is_failure: true,
    };
    end(fx, task, outcome).await;
    next(fx).await
}

async fn next(fx: &Fixture) -> LeasedTask {
    fx.advance(1);
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    fx.take_one().await
}

async fn info(fx: &Fixture) -> TaskInfo {
    fx.storage.task_info(&queue(Q), &id("a")).await.unwrap()
}

async fn runs(fx: &Fixture) -> Runs {
    info(fx).await.runs.expect("a single task has its runs")
}

fn outcomes_of(runs: &Runs) -> Vec<RunOutcome> {
    runs.recorded.iter().map(|run| run.outcome).collect()
}

/// Each run that leaves the task in the storage has its times, its server, its outcome and its error.
pub(super) async fn each_run_is_recorded_with_its_outcome(fx: &Fixture) {
    let task = fx.running(request(Q, "a").retention(600)).await;
    assert_eq!(runs(fx).await, Runs::default());
    let mut ends = vec![(fx.now(), 0)];
    let task = again(fx, &task, "bank\n\"away\"").await;
    ends.push((fx.now(), 1));
    end(fx, &task, Outcome::Requeue).await;
    let task = next(fx).await;
    ends.push((fx.now(), 1));
    let snooze = Outcome::Retry {
        at: fx.now(),
        error: "busy".into(),
        is_failure: false,
    };
    end(fx, &task, snooze).await;
    let task = next(fx).await;
    ends.push((fx.now(), 1));
    end(fx, &task, DONE).await;

    let found = runs(fx).await;
    assert_eq!(
        outcomes_of(&found),
        [
            RunOutcome::Retried,
            RunOutcome::GivenBack,
            RunOutcome::Deferred,
            RunOutcome::Done
        ]
    );
    assert_eq!(found.missing(), 0);
    let errors: Vec<_> = found.recorded.iter().map(|run| run.error.as_str()).collect();
    assert_eq!(errors, ["bank\n\"away\"", "", "busy", ""]);
    for (run, (at, retried)) in found.recorded.iter().zip(ends) {
        assert_eq!(run.started, Some(at - TimeDelta::milliseconds(1500)));
        assert_eq!(run.ended, Some(at));
        assert_eq!((run.written.timestamp(), run.retried), (at.timestamp(), retried));
        assert_eq!(run.server, Some(server()));
        assert!(!run.is_lost());
    }
    let names = ["msg", "state", "x:enq", "x:runs"];
    assert_eq!(fx.raw().await.task("a").names(), names);
}

/// A failure for good is recorded too, and the record stays when an operator runs, archives or moves the task.
pub(super) async fn the_record_stays_with_the_task(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    end(fx, &task, archive()).await;
    let first = runs(fx).await;
    assert_eq!(outcomes_of(&first), [RunOutcome::Archived]);
    let (queue, id) = (queue(Q), id("a"));
    for act in [Act::Run, Act::Archive, Act::Run] {
        match act {
            Act::Archive => fx.storage.archive_task(&queue, &id).await.unwrap(),
            _ => fx.storage.run_task(&queue, &id).await.unwrap(),
        };
        assert_eq!(runs(fx).await, first, "{act:?}");
    }
    let task = fx.take_one().await;
    assert_eq!(runs(fx).await, first);
    let _ = again(fx, &task, "no").await;
    assert_eq!(
        outcomes_of(&runs(fx).await),
        [RunOutcome::Archived, RunOutcome::Retried]
    );
    assert_eq!(runs(fx).await.missing(), 0);
}

/// A task that is deleted, or given back before it was started, leaves no record. Neither does a run whose outcome
/// is refused.
pub(super) async fn what_did_not_run_or_is_gone_has_no_record(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.settled(&task, Outcome::Requeue).await;
    let task = fx.take_one().await;
    assert_eq!(runs(fx).await, Runs::default());
    let late = ended(fx, &task, archive());
    end(fx, &task, Outcome::Requeue).await;
    let before = fx.raw().await;
    let answer = fx.exchange(vec![late], 0).await.settled.remove(0);
    assert!(matches!(answer, Err(SettleError::NotOurs)), "{answer:?}");
    before.assert_same(&fx.raw().await);
    let task = fx.take_one().await;
    end(fx, &task, DONE).await;
    assert!(!fx.raw().await.has_task("a"));
    let _ = fx.running(request(Q, "a")).await;
    assert_eq!(runs(fx).await, Runs::default());
}

/// The last ten, with the older ones as a gap, in a bounded field whatever the errors.
pub(super) async fn the_last_runs_are_kept_within_a_bound(fx: &Fixture) {
    let mut task = fx.running(request(Q, "a").max_retry(30)).await;
    let long = "\u{1}€x".repeat(200_000);
    for round in 0..13 {
        task = again(fx, &task, if round % 2 == 0 { &long } else { "short" }).await;
        let field = fx.raw().await.task("a").bytes("x:runs").unwrap();
        assert!(field.len() <= MAX_RUNS_BYTES, "{}", field.len());
    }
    let found = runs(fx).await;
    assert_eq!(found.recorded.len(), MAX_RUNS);
    assert_eq!((found.recorded[0].retried, found.recorded[0].missing_before), (3, 3));
    assert_eq!((found.recorded[9].retried, found.missing()), (12, 3));
    assert!(found.recorded[9].error.starts_with("\u{1}€x") && found.recorded[9].error.ends_with('…'));
    // The last one stands in full beside the record.
    assert_eq!(info(fx).await.last_error, long);
}

/// A run that is asked to end is recorded as what became of the task.
pub(super) async fn a_cancelled_run_is_recorded_as_it_was_written(fx: &Fixture) {
    let (queue, task_id) = (queue(Q), id("a"));
    let outcomes = [retry(fx.after(60)), Outcome::Requeue];
    for (outcome, error) in outcomes.into_iter().zip(["boom", "context canceled"]) {
        let task = fx.running(request(Q, "a").max_retry(30)).await;
        fx.storage.cancel_task(&queue, &task_id, Then::Archive).await.unwrap();
        end(fx, &task, outcome).await;
        let found = runs(fx).await;
        assert_eq!(outcomes_of(&found), [RunOutcome::Archived]);
        assert_eq!((found.recorded[0].error.as_str(), found.missing()), (error, 0));
        assert_eq!(info(fx).await.last_error, error);
        fx.storage.delete_task(&queue, &task_id).await.unwrap();
    }
    let task = fx.running(request(Q, "a")).await;
    fx.storage.cancel_task(&queue, &task_id, Then::Delete).await.unwrap();
    end(fx, &task, Outcome::Requeue).await;
    assert!(!fx.raw().await.has_task("a"));
}

async fn recover(fx: &Fixture, outcome: Outcome) {
    fx.advance(60);
    let found = fx.storage.expired(&queue(Q), RECOVER_GRACE, 10).await.unwrap();
    let task = found.tasks[0].clone();
    fx.storage.recover(vec![Recovery { task, outcome }]).await[0]
        .as_ref()
        .unwrap();
}

/// The run of a dead server has no end; its start is the take, if the take was ours.
pub(super) async fn a_lost_run_is_recorded_by_its_recovery(fx: &Fixture) {
    fx.enqueue(request(Q, "a").max_retry(30)).await;
    let taken = fx.now().timestamp();
    let task = fx.take_one().await;
    recover(fx, retry(fx.after(60))).await;
    let found = runs(fx).await;
    let lost: &Run = &found.recorded[0];
    assert!(lost.is_lost() && lost.server.is_none());
    assert_eq!((lost.outcome, lost.error.as_str()), (RunOutcome::Retried, "boom"));
    assert_eq!(lost.started.map(|at| at.timestamp()), Some(taken));
    assert_eq!((lost.written.timestamp(), found.missing()), (fx.secs(), 0));

    // A Go server takes the task, writes no token, and dies.
    fx.advance(60);
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    let task_now = fx.take_one().await;
    assert_eq!(task_now.message.retried, task.message.retried + 1);
    fx.edit(|state| set_field(state, "a", "x:take", None)).await;
    recover(fx, Outcome::Requeue).await;
    let found = runs(fx).await;
    assert_eq!(outcomes_of(&found), [RunOutcome::Retried, RunOutcome::GivenBack]);
    assert!(found.recorded[1].is_lost());
    assert_eq!(found.recorded[1].started, None);
}

/// The token of a run that a Go server recovered is not that of the run after it.
pub(super) async fn a_lost_run_of_go_has_no_start(fx: &Fixture) {
    let task = fx.running(request(Q, "a").max_retry(30)).await;
    // A Go server recovers the task and takes it itself; both leave our token.
    fx.advance(60);
    let failed = message::failed(&task.message, "asynq: task lease expired", fx.secs(), true);
    let until = fx.secs() + 30;
    fx.edit(|state| {
        set_field(state, "a", "msg", Some(message::encode(&failed)));
        set_score(state, "lease", "a", until);
    })
    .await;
    fx.advance(30);
    recover(fx, retry(fx.after(60))).await;
    let found = runs(fx).await;
    assert_eq!((found.recorded.len(), found.recorded[0].started), (1, None));
    assert_eq!((found.recorded[0].missing_before, found.missing()), (1, 1));
}

/// Runs of Go servers count in the message and have no record.
pub(super) async fn runs_of_go_show_as_gaps(fx: &Fixture) {
    let task = fx.running(request(Q, "a").max_retry(30).retention(600)).await;
    let task = again(fx, &task, "ours").await;
    // Two failed runs of Go.
    let go = |n: i32| {
        let mut message = (*task.message).clone();
        message.retried += n;
        message.error_msg = "of go".into();
        message.last_failed_at = fx.secs() + i64::from(n);
        message
    };
    fx.settled(&task, Outcome::Requeue).await;
    fx.edit(|state| set_field(state, "a", "msg", Some(message::encode(&go(2)))))
        .await;
    fx.advance(10);
    let found = runs(fx).await;
    assert_eq!((found.recorded.len(), found.missing_after, found.missing()), (1, 2, 2));
    let task = fx.take_one().await;
    let task = again(fx, &task, "ours again").await;
    let found = runs(fx).await;
    assert_eq!((found.recorded[1].missing_before, found.missing_after), (2, 0));
    // Go completes it.
    fx.settled(&task, DONE).await;
    let found = runs(fx).await;
    assert_eq!((found.recorded.len(), found.missing_after, found.missing()), (2, 1, 3));
}

/// A page costs the same whether the tasks have records or not.
pub(super) async fn lists_have_no_runs(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    end(fx, &task, archive()).await;
    let filter = ListFilter::State(TaskState::Archived);
    let page = fx.storage.list_tasks(&queue(Q), &filter, PageRequest::default()).await;
    assert_eq!(page.unwrap().tasks[0].runs, None);
    assert_eq!(fx.enqueue(request(Q, "b")).await.runs, None);
}

/// rules.md#damage-stays-local: a field that is something else hides nothing but itself, and harms no outcome.
pub(super) async fn a_record_that_cannot_be_read_is_none(fx: &Fixture) {
    let mut task = fx.running(request(Q, "a").max_retry(30)).await;
    for (damage, kept) in [
        (Bytes::new(), 0),
        (Bytes::from_static(b"\xff\0\n\n"), 0),
        (Bytes::from_static(b"[[[\n{}"), 0),
        (Bytes::from(vec![b'x'; MAX_RUNS_BYTES]), 0),
        (Bytes::from(vec![b'x'; MAX_RUNS_BYTES + 1]), 0),
        (Bytes::from(vec![b'\n'; MAX_RUNS_BYTES]), 0),
    ] {
        let (before, at) = (damage.clone(), fx.now());
        fx.edit(|state| set_field(state, "a", "x:runs", Some(damage))).await;
        let found = runs(fx).await;
        assert_eq!(found.recorded.len(), kept);
        assert_eq!(found.missing(), u32::try_from(task.message.retried).unwrap());
        task = again(fx, &task, "boom").await;
        let found = runs(fx).await;
        assert_eq!(
            (found.recorded.len(), found.recorded[0].ended),
            (1, Some(at)),
            "{before:?}"
        );
        // The next runs push the rest out.
        let field = fx.raw().await.task("a").bytes("x:runs").unwrap();
        assert!(field.len() <= MAX_RUNS_BYTES, "{}", field.len());
    }
}
