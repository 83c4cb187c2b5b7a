//! Takes and runs one task as a server does.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    Broker as _, Error, Handler, Inspect as _, Progress, Result, SettleError, Task, TaskContext, TaskInfo, TaskMessage,
    TaskState, UnknownTask,
    broker::{EndedRun, LeaseRef, LeasedTask, MAX_BATCH, Outcome, Settlement, Want},
    compose::run_deadline,
    config::Settings,
    context::{ContextParts, ResultSink},
    error::Directive,
    failure::outcome_of,
    panics::panic_report,
    traces::Running,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::storage::{KitStorage, Shared};
use crate::client::Client;

/// Shortest delay of a task without a handler, and the longest random time that is added; as in a server.
const GIVEN_BACK: Duration = Duration::from_secs(5);

/// A task that was run, and the end of its run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ran {
    /// The task as it was taken: active, with the number of earlier retries in `retried`.
    pub task: TaskInfo,
    /// The end of the run.
    pub end: End,
}

/// The end of a run, which decides the next state of the task.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// The handler succeeded. The task is gone, or kept for its retention.
    Done,
    /// The run failed, and the task is retried.
    Retried {
        /// Time of the next run, in whole seconds.
        at: DateTime<Utc>,
        /// The failure. A panic is [`Error::Panic`], and a timeout is [`Error::DeadlineExceeded`].
        error: Error,
    },
    /// The run failed and the task is archived: no retry was left, or the handler returned [`Error::skip_retry`].
    Archived {
        /// The failure.
        error: Error,
    },
    /// The handler returned [`Error::revoke`], and the task is deleted.
    Revoked {
        /// The reason.
        error: Error,
    },
    /// The task is delayed without using up a retry: the handler returned [`Error::snooze`], or no handler knows the
    /// type and [`UnknownTask::GiveBack`] is set.
    Snoozed {
        /// Time until which the task is delayed, in whole seconds.
        until: DateTime<Utc>,
    },
}

impl End {
    /// Returns whether the run ended with [`Done`](Self::Done).
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

struct Results {
    shared: Arc<Shared>,
    storage: Arc<KitStorage>,
    lease: LeaseRef,
    max_bytes: usize,
}

#[async_trait]
impl ResultSink for Results {
    async fn write(&self, result: Bytes) -> Result<usize, SettleError> {
        self.storage.write_result(&self.lease, result).await
    }

    fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    async fn progress(&self, percent: u8, note: String) -> Result<(), SettleError> {
        let at = self.shared.env.clock.now();
        self.storage
            .write_progress(&self.lease, Progress { percent, note, at })
            .await
    }
}

/// Takes the task that has waited longest, from the first queue by name that has one.
async fn take(storage: &KitStorage) -> Option<LeasedTask> {
    for queue in storage.queues().await.ok()? {
        while storage.forward(&queue, MAX_BATCH).await.is_ok_and(|moved| moved.more) {}
        let wants = vec![Want { queue, max: 1 }];
        let answer = storage.exchange(&storage.begin(), &[], &wants).await;
        if let Some(taken) = answer.leased.into_iter().next() {
            return Some(taken);
        }
    }
    None
}

/// Takes one task, if any is due, runs it, and settles it.
pub(super) async fn run_one(
    shared: &Arc<Shared>,
    storage: &Arc<KitStorage>,
    settings: &Settings,
    client: &Client,
    handler: &(impl Handler + ?Sized),
) -> Option<Ran> {
    let taken = take(storage).await?;
    let LeasedTask { message, lease, .. } = taken;
    let info = TaskInfo::from_message(&lease.queue, &lease.id, &message, TaskState::Active, None, None);
    let started = shared.env.clock.now();
    let deadline = run_deadline(&message, taken.deadline, started);
    // Code that cannot be aborted keeps the sender: the run is over when the sender is dropped.
    let (held, over) = oneshot::channel::<()>();
    let hold: Arc<dyn Any + Send + Sync> = Arc::new(held);
    let traced = Running::begin(&message, &lease.queue, &lease.id, settings.trace_per_run);
    let parts = ContextParts {
        id: lease.id.clone(),
        queue: lease.queue.clone(),
        retried: info.retried,
        max_retry: info.max_retry,
        deadline,
        cancel: Default::default(),
        results: Arc::new(Results {
            shared: Arc::clone(shared),
            storage: Arc::clone(storage),
            lease: lease.clone(),
            max_bytes: settings.max_message_bytes,
        }),
        states: settings.states.clone(),
        hold: Arc::downgrade(&hold),
        runtime: Some(client.for_runs()),
        trace: traced.context(),
        message: Arc::clone(&message),
    };
    let cancel = parts.cancel.clone();
    let task = Task::from_message(&message, Some(TaskContext::from(parts)));
    let left = shared.env.clock.until(deadline);
    let ended = if left.is_zero() {
        Err(Error::DeadlineExceeded)
    } else {
        let run = traced.context().scope(caught(handler.process_task(task.clone())));
        let ended = tokio::time::timeout(left, run).await;
        ended.unwrap_or(Err(Error::DeadlineExceeded))
    };
    cancel.cancel();
    drop(hold);
    // Nothing is ever sent, so this returns with an error when the sender is dropped.
    let _ = over.await;
    let was_run = !is_given_back(settings, &ended);
    let (end, outcome) = outcome(shared, settings, &message, &task, ended).await;
    if let End::Retried { error, .. } | End::Archived { error } | End::Revoked { error } = &end {
        traced.failed(error, &outcome);
    }
    traced.end(Some(&outcome).into());
    let run = EndedRun {
        server: None,
        started: Some(started),
        ended: Some(shared.env.clock.now()),
    };
    let settlement = Settlement {
        run: (was_run && outcome.keeps(&message)).then(|| Box::new(run)),
        lease,
        message,
        outcome,
    };
    let answer = storage.exchange(&storage.begin(), &[settlement], &[]).await.settled;
    assert!(
        matches!(answer[..], [Ok(())]),
        "the end of {} was not written: {answer:?}",
        info.id
    );
    Some(Ran { task: info, end })
}

/// Returns whether the task goes back since no handler knows its type; it was not run then.
fn is_given_back(settings: &Settings, ended: &Result<()>) -> bool {
    matches!(ended, Err(Error::HandlerNotFound { .. })) && settings.unknown_task == UnknownTask::GiveBack
}

/// Returns the outcome that a server would write (as the runs and the router of `asynq_actors`).
async fn outcome(
    shared: &Shared,
    settings: &Settings,
    message: &TaskMessage,
    task: &Task,
    ended: Result<()>,
) -> (End, Outcome) {
    let env = &shared.env;
    let is_given_back = is_given_back(settings, &ended);
    let error = match ended {
        Ok(()) => return (End::Done, Outcome::Done { retain: true }),
        Err(error) => error,
    };
    if is_given_back {
        let until = whole_second(env.clock.now() + GIVEN_BACK + env.entropy.up_to(GIVEN_BACK));
        let outcome = Outcome::Retry {
            at: until,
            error: error.to_string(),
            is_failure: false,
        };
        return (End::Snoozed { until }, outcome);
    }
    let snoozed = matches!(error.directive(), Directive::Snooze(_));
    if !snoozed && let Some(hook) = &settings.error_handler {
        hook.handle_error(task, &error).await;
    }
    let mut outcome = outcome_of(settings, env, message, task, &error);
    let end = match &mut outcome {
        Outcome::Retry { at, .. } => {
            *at = whole_second(*at);
            if snoozed {
                End::Snoozed { until: *at }
            } else {
                End::Retried { at: *at, error }
            }
        }
        Outcome::Archive { .. } => End::Archived { error },
        // An error has no other outcome.
        _ => End::Revoked { error },
    };
    (end, outcome)
}

/// Drops the fraction of a second, as the storage does.
fn whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(at.timestamp(), 0).unwrap_or(at)
}

/// Turns a panic of the handler into a failure.
async fn caught(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)))
            .unwrap_or_else(|panic| Poll::Ready(Err(Error::Panic(panic_report(&*panic)))))
    })
    .await
}
