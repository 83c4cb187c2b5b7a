//! One run of one task: the handler, its limits, its outcome.
//!
//! A run is a spawned task that belongs to the in-flight table; it ends by telling the table how.
//! It outlives the processor that spawned it.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    BrokerError, Clock, Error, Progress, SettleError, Task, TaskContext, TaskMessage,
    broker::{CallToken, Env, LeaseRef, Outcome},
    clock::Reading,
    config::Settings,
    context::{ContextParts, ResultSink},
    error::{Directive, text::shown},
    failure::outcome_of,
    panics::{drop_quietly, panic_report, panic_text},
    traces::{Ended, Running},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{FutureExt as _, future::OptionFuture};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;

use crate::{
    broker::BrokerHandle,
    in_flight::{
        nudge::Nudge,
        starter::StartRuns,
        table::{Cancel, CancelReason, End, Key, Start, Table, Validity},
    },
    work::{
        handled::{Handled, PutBack},
        router::Router,
    },
};

/// Longest time that an error handler may take; it holds the slot and the lease meanwhile.
const ERROR_HANDLER_WITHIN: Duration = Duration::from_secs(30);

/// The means of runs; shared by all of one system.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) router: Router,
    pub(crate) settings: Settings,
    pub(crate) env: Env,
    pub(crate) table: Arc<Table>,
    pub(crate) broker: BrokerHandle,
    pub(crate) nudge: Nudge,
    /// The [`Client`](crate::Client) that handlers find.
    pub(crate) client: Arc<dyn Any + Send + Sync>,
}

/// The end of a run.
enum Verdict {
    Returned(Handled),
    Deadline,
    Requested,
    /// The task is another's.
    LeaseLost,
    /// Its lease could not be extended in time.
    LeaseEnded,
}

/// The end of a run, whatever happens to its future: it comes when nobody holds this any longer,
/// the code that the handler cannot break off included.
struct Ending {
    runner: Arc<Runner>,
    key: Key,
    token: CallToken,
    end: Mutex<Option<End>>,
    /// Goes first: the slot is free when the handler has really ended; then the table is told.
    permit: Option<OwnedSemaphorePermit>,
}

impl Ending {
    fn set(&self, end: End) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.permit = None;
        let end = self.end.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // None: the run was aborted, so the task was not run to an end.
        let end = end.unwrap_or(End::Outcome(Outcome::Requeue));
        self.runner.table.finish(&self.key, &self.token, end);
        self.runner.nudge.nudge();
    }
}

/// Drops a future in its place.
struct Clear<'w, F>(Pin<&'w mut OptionFuture<F>>);

impl<F> Drop for Clear<'_, F> {
    fn drop(&mut self) {
        self.0.set(None.into());
    }
}

/// The means of one run.
struct Work {
    message: Arc<TaskMessage>,
    cancel: Cancel,
    valid: Validity,
    deadline: DateTime<Utc>,
    by_task: Option<DateTime<Utc>>,
}

#[derive(Clone)]
struct Results {
    broker: BrokerHandle,
    clock: Clock,
    table: Arc<Table>,
    key: Key,
    token: CallToken,
    max_bytes: usize,
    /// Results of one run are written in the order in which they were given: a large one travels apart, and its
    /// writer may have given up on it. Made for the first result.
    turn: OnceLock<Arc<tokio::sync::Mutex<()>>>,
}

#[async_trait]
impl ResultSink for Results {
    async fn write(&self, result: Bytes) -> Result<usize, SettleError> {
        let turn = Arc::clone(self.turn.get_or_init(Arc::default)).lock_owned().await;
        let sink = self.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "a write that its caller gave up on keeps its turn until it has its answer"
        )]
        let written = tokio::spawn(async move {
            let _turn = turn;
            sink.write_now(result).await
        });
        match written.await {
            Ok(written) => written,
            Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
            Err(_) => Err(BrokerError::Closed.into()),
        }
    }

    fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    async fn progress(&self, percent: u8, note: String) -> Result<(), SettleError> {
        let at = self.clock.now();
        let progress = Progress { percent, note, at };
        self.broker
            .storage()
            .await?
            .write_progress(&self.lease()?, progress)
            .await
    }
}

impl Results {
    async fn write_now(&self, result: Bytes) -> Result<usize, SettleError> {
        loop {
            let storage = self.broker.storage().await?;
            let lease = self.lease()?;
            let writing = self.table.writing(&self.key, &lease);
            let written = storage.write_result(&lease, result.clone()).await;
            drop(writing);
            match written {
                // An extension that was on its way before has raised the lease above the fence: again under the
                // fence of today.
                Err(SettleError::NotOurs) if self.table.raised(&self.key, &lease) => {}
                written => return written,
            }
        }
    }

    /// Returns the lease as it is once the storage is there: it may have been extended in the meantime.
    fn lease(&self) -> Result<LeaseRef, SettleError> {
        self.table.lease_of(&self.key, &self.token).ok_or(SettleError::NotOurs)
    }
}

impl StartRuns for Runner {
    fn start_runs(self: Arc<Self>, starts: Vec<Start>) {
        self.start(starts);
    }
}

impl Runner {
    /// Starts the runs of tasks that wait for it.
    pub(crate) fn start(self: &Arc<Self>, starts: Vec<Start>) {
        for start in starts {
            let Start {
                key,
                token,
                message,
                cancel,
                valid,
                deadline,
                by_task,
                permit,
                ..
            } = start;
            // Made here, so that a run that is aborted before its first poll ends too.
            let ending = Arc::new(Ending {
                runner: Arc::clone(self),
                key: key.clone(),
                token: token.clone(),
                end: Mutex::default(),
                permit: Some(permit),
            });
            let work = Work {
                message,
                cancel,
                valid,
                deadline,
                by_task,
            };
            #[expect(
                clippy::disallowed_methods,
                reason = "the run belongs to the in-flight table, which is told of its end"
            )]
            let run = tokio::spawn(Arc::clone(self).run_traced(work, ending));
            self.table.set_abort(&key, &token, run.abort_handle());
        }
    }

    /// Does the run in its spans: that of logs, and inside it the one of OpenTelemetry.
    async fn run_traced(self: Arc<Self>, work: Work, ending: Arc<Ending>) {
        let Key(queue, id) = &ending.key;
        let traced = Running::begin(&work.message, queue, id, self.settings.trace_per_run);
        let trace = traced.context();
        // As events have its fields from it, it is there whatever is logged; and no actor runs it.
        let span = if trace.is_none() || !tracing::Span::current().is_none() {
            tracing::error_span!(parent: None, "task", id = %id, r#type = work.message.r#type, queue = %queue)
        } else {
            // No other span is around it, so that it is below none in the logs. For a layer for OpenTelemetry it is a
            // child of the attached one; one that has no parent at all would begin a trace.
            let _traced = trace.attach();
            tracing::error_span!("task", id = %id, r#type = work.message.r#type, queue = %queue)
        };
        trace.scope(self.run(work, ending, traced)).instrument(span).await;
    }

    async fn run(self: Arc<Self>, work: Work, ending: Arc<Ending>, traced: Running) {
        let Work {
            message,
            cancel,
            valid,
            deadline,
            by_task,
        } = work;
        let (key, token) = (ending.key.clone(), ending.token.clone());
        let sink = Results {
            broker: self.broker.clone(),
            clock: self.env.clock.clone(),
            table: Arc::clone(&self.table),
            key: key.clone(),
            token,
            max_bytes: self.settings.max_message_bytes,
            turn: OnceLock::new(),
        };
        let context = TaskContext::from(ContextParts {
            id: key.1.clone(),
            queue: key.0.clone(),
            retried: u32::try_from(message.retried).unwrap_or(0),
            max_retry: u32::try_from(message.retry).unwrap_or(0),
            deadline,
            cancel: cancel.token.clone(),
            results: Arc::new(sink),
            states: self.settings.states.clone(),
            hold: Arc::downgrade(&ending) as Weak<_>,
            runtime: Some(Arc::clone(&self.client)),
            trace: traced.context(),
            message: Arc::clone(&message),
        });
        let task = Task::from_message(&message, Some(context.clone()));
        let began = self.env.clock.read();
        let limit = Limit::new(by_task, deadline, &began);
        let verdict = if limit.left_at(&began).is_zero() {
            Verdict::Deadline
        } else if cancel.reason() == Some(CancelReason::Requested) {
            Verdict::Requested
        } else {
            self.attempt(task.clone(), &context, &cancel, &valid, &limit).await
        };
        // Whatever the handler spawned sees that the run is over.
        let cancelled = cancel.reason();
        cancel.token.cancel();
        // What is rare has a box, so that the future of each run is small.
        let end = match verdict {
            Verdict::Returned(Handled::Ended(Ok(()))) => End::Outcome(Outcome::Done { retain: true }),
            Verdict::Returned(Handled::Ended(Err(error))) => {
                Box::pin(self.returned(&message, &task, error, cancelled, &traced)).await
            }
            Verdict::Returned(Handled::PutBack(back)) => End::PutBack(self.put_back(back)),
            Verdict::Deadline => {
                End::Outcome(Box::pin(self.failure(&message, &task, Error::DeadlineExceeded, &traced)).await)
            }
            Verdict::Requested => End::Outcome(Box::pin(self.failure(&message, &task, Error::Canceled, &traced)).await),
            Verdict::LeaseLost => {
                lost(&traced);
                tracing::warn!("lease lost before the task ended, writing no outcome");
                End::LeaseLost
            }
            Verdict::LeaseEnded => {
                traced.broken("lease_expired", "the lease could not be extended in time");
                tracing::warn!("lease ended before the task, giving it back unless another server has taken it over");
                End::Outcome(Outcome::Requeue)
            }
        };
        // Nothing that the end of the span calls can change it.
        let ended = Ended::from(end.outcome());
        ending.set(end);
        traced.end(ended);
    }

    /// Returns what a returned error comes to. A run that was cancelled ends as the cancel says, whatever error the
    /// handler made of it: after a shutdown's cancel the task goes back to its queue, and no retry is used.
    async fn returned(
        &self,
        message: &TaskMessage,
        task: &Task,
        error: Error,
        cancelled: Option<CancelReason>,
        traced: &Running,
    ) -> End {
        match cancelled {
            Some(CancelReason::Shutdown) => {
                let text = shown(&error);
                tracing::debug!(error = text, "given back at the shutdown");
                drop_quietly(error);
                End::Outcome(Outcome::Requeue)
            }
            Some(CancelReason::LeaseLost) => {
                lost(traced);
                drop_quietly(error);
                End::LeaseLost
            }
            // Asked to end, it may still say how.
            Some(CancelReason::Requested) if directive(&error) == Directive::Fail => {
                drop_quietly(error);
                End::Outcome(self.failure(message, task, Error::Canceled, traced).await)
            }
            _ => End::Outcome(self.failure(message, task, error, traced).await),
        }
    }

    /// Runs the handler until it returns, or must not go on.
    async fn attempt(
        &self,
        task: Task,
        context: &TaskContext,
        cancel: &Cancel,
        valid: &Validity,
        limit: &Limit,
    ) -> Verdict {
        let work = AssertUnwindSafe(self.router.run(task, context)).catch_unwind();
        // In place: a box of its own would be one more for each task.
        let mut work = std::pin::pin!(OptionFuture::from(Some(work)));
        let verdict = loop {
            let now = self.env.clock.read();
            let next = limit.left_at(&now).min(valid.left_at(now.steady));
            let shutting_down = cancel.reason() == Some(CancelReason::Shutdown);
            tokio::select! {
                biased;
                Some(returned) = &mut work => break Verdict::Returned(returned.unwrap_or_else(|panic| {
                    let report = panic_report(&*panic);
                    drop_quietly(panic);
                    Handled::Ended(Err(Error::Panic(report)))
                })),
                // After a shutdown's cancel the handler may go on until it is aborted.
                () = cancel.token.cancelled(), if !shutting_down => match cancel.reason() {
                    Some(CancelReason::Shutdown) => {}
                    Some(CancelReason::LeaseLost) => break Verdict::LeaseLost,
                    _ => break Verdict::Requested,
                },
                () = tokio::time::sleep(next) => {
                    let now = self.env.clock.read();
                    if !valid.stands_at(now.steady) {
                        break Verdict::LeaseEnded;
                    }
                    if limit.left_at(&now).is_zero() {
                        break Verdict::Deadline;
                    }
                }
            }
        };
        drop_quietly(Clear(work));
        verdict
    }

    /// Returns the outcome of a task that was not run: it comes back, and that is no failure.
    fn put_back(&self, PutBack { after, why }: PutBack) -> Outcome {
        tracing::debug!(?after, why, "task put back");
        Outcome::Retry {
            at: self.env.clock.now() + after.min(asynq_core::options::MAX_DURATION),
            error: why,
            is_failure: false,
        }
    }

    /// Returns what becomes of a task whose run ended with an error.
    async fn failure(&self, message: &TaskMessage, task: &Task, error: Error, traced: &Running) -> Outcome {
        let snoozed = matches!(directive(&error), Directive::Snooze(_));
        if !snoozed {
            self.tell(task, &error).await;
        }
        let outcome = outcome_of(&self.settings, &self.env, message, task, &error);
        self.log(message, &outcome, snoozed, &error);
        traced.failed(&error, &outcome);
        drop_quietly(error);
        outcome
    }

    /// Says what failed and what comes next, where the error handler of the application may say nothing.
    fn log(&self, message: &TaskMessage, outcome: &Outcome, snoozed: bool, error: &Error) {
        let (attempt, of) = (message.retried.saturating_add(1), message.retry.saturating_add(1));
        let requested = matches!(error, Error::Canceled);
        let error = shown(error);
        match outcome {
            Outcome::Retry { at, .. } if snoozed => {
                tracing::debug!(next = %at, "task put off");
            }
            // What the request says of the task is decided where the outcome is written.
            Outcome::Retry { at, .. } if requested => {
                let again_in = self.env.clock.until(*at);
                tracing::info!(
                    ?again_in,
                    "run cancelled on request: its task is retried, if the request did not ask to archive or delete it"
                );
            }
            Outcome::Archive { .. } if requested => {
                tracing::info!(
                    attempt,
                    of,
                    "run cancelled on request: its task has no retries left and is archived, if the request did not ask to delete it"
                );
            }
            Outcome::Retry {
                at, is_failure: true, ..
            } => {
                let again_in = self.env.clock.until(*at);
                tracing::warn!(attempt, of, error, ?again_in, "task failed, retrying");
            }
            Outcome::Retry { at, .. } => {
                let again_in = self.env.clock.until(*at);
                tracing::info!(
                    error,
                    ?again_in,
                    "task did not succeed, which is no failure by the configured rule; retrying"
                );
            }
            Outcome::Archive { .. } => {
                tracing::error!(attempt, of, error, "task failed for good, archiving it");
            }
            _ => tracing::info!(error, "task revoked, dropping it"),
        }
    }

    async fn tell(&self, task: &Task, error: &Error) {
        let Some(hook) = &self.settings.error_handler else {
            return;
        };
        let mut told = Box::pin(AssertUnwindSafe(async { hook.handle_error(task, error).await }).catch_unwind());
        match tokio::time::timeout(ERROR_HANDLER_WITHIN, &mut told).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => {
                tracing::error!(panic = panic_text(&*panic), "error handler panicked");
                drop_quietly(panic);
            }
            Err(_) => tracing::error!(within = ?ERROR_HANDLER_WITHIN, "error handler did not end in time"),
        }
        drop_quietly(told);
    }
}

/// The time by which a run must have ended.
#[derive(Debug)]
enum Limit {
    /// The deadline that the task names.
    Deadline(DateTime<Utc>),
    /// The timeout, whatever becomes of the clock meanwhile: at this reading of the steady time.
    Timeout(Duration),
}

impl Limit {
    /// The limit of a run that starts now and has until `deadline`; `by_task` is the deadline that the task has.
    fn new(by_task: Option<DateTime<Utc>>, deadline: DateTime<Utc>, now: &Reading) -> Self {
        if by_task == Some(deadline) {
            Self::Deadline(deadline)
        } else {
            Self::Timeout(now.steady_at(deadline))
        }
    }

    /// Returns how long the run may go on from `now`.
    fn left_at(&self, now: &Reading) -> Duration {
        match self {
            Self::Deadline(at) => now.until(*at),
            Self::Timeout(end) => end.saturating_sub(now.steady),
        }
    }
}

/// Records that the task is another's.
fn lost(traced: &Running) {
    traced.broken("lease_lost", "the task is another server's");
}

/// Returns what an error says about its task; a failure where its sources panic.
fn directive(error: &Error) -> Directive {
    std::panic::catch_unwind(AssertUnwindSafe(|| error.directive())).unwrap_or_else(|panic| {
        drop_quietly(panic);
        Directive::Fail
    })
}
