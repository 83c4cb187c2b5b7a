//! One run of the aggregator: one set of tasks becomes one task, or nothing changes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::{
    BrokerError, EnqueueError, Error, GroupAggregator, QueueName, Task, TaskError, TaskOptions,
    broker::{AGGREGATION_SET_LIFETIME, AggregationSet, EnqueueRequest, Env, GroupLimits, LeaseUntil, Outcome},
    compose::compose_within,
    error::text::{report, shown},
    panics::{drop_quietly, panic_text},
    traces::Running,
};
use futures::{FutureExt as _, future::join_all};
use tokio::time::{Instant, sleep, timeout};

use super::{failures::Failures, seat::Seat};
use crate::{broker::BrokerHandle, in_flight::table::Validity, per_queue::health::unless_late};

/// Interval at which a set is extended while the aggregator runs. The set is still ours after three failed
/// extensions.
const EXTEND_EVERY: Duration = Duration::from_secs(AGGREGATION_SET_LIFETIME.as_secs() / 4);
/// The wait after an extension that failed.
const EXTEND_AGAIN: Duration = Duration::from_secs(1);
/// Longest time that giving up a set may take. A set that cannot be given up is handed back when its own time is
/// over.
const RELEASE_WITHIN: Duration = Duration::from_secs(30);
/// The waits after a result that the storage did not take: doubling from the first to the last.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct AggregatorRef(pub(crate) Arc<dyn GroupAggregator>);

impl fmt::Debug for AggregatorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupAggregator")
    }
}

/// The means of runs; shared by all of one system.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) aggregator: AggregatorRef,
    pub(super) broker: BrokerHandle,
    pub(super) limits: GroupLimits,
    /// Longest time that the aggregator may take for one set.
    pub(super) timeout: Duration,
    pub(super) env: Env,
    pub(super) max_message_bytes: usize,
    pub(super) failures: Failures,
    /// The sets of the runs in progress.
    pub(super) open: OpenSets,
}

/// Sets by their ids.
#[derive(Debug, Default)]
pub(super) struct OpenSets(Mutex<HashMap<String, Arc<AggregationSet>>>);

impl OpenSets {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<AggregationSet>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reason why a set was not aggregated.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("the aggregator failed")]
    Failed(#[source] Error),
    #[error("the aggregator panicked: {0}")]
    Panicked(String),
    #[error("the aggregator took longer than {0:?}")]
    TimedOut(Duration),
    #[error("the aggregated task is not valid")]
    Invalid(#[source] TaskError),
    #[error("the set could not be kept for longer")]
    Lost(#[source] BrokerError),
    #[error("the aggregated task was not enqueued")]
    NotEnqueued(#[source] EnqueueError),
}

impl RunError {
    /// Returns its kind, for a span.
    fn kind(&self) -> &'static str {
        match self {
            Self::Failed(_) => "aggregator",
            Self::Panicked(_) => "panic",
            Self::TimedOut(_) => "timeout",
            Self::Invalid(_) => "invalid",
            Self::Lost(_) => "lease_lost",
            Self::NotEnqueued(_) => "enqueue",
        }
    }

    /// Reports that the set is no longer ours.
    fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Lost(_) | Self::NotEnqueued(EnqueueError::Broker(BrokerError::AggregationSetGone { .. }))
        )
    }
}

impl Job {
    /// Aggregates one set. If the aggregation fails permanently, the set is given up. Its tasks return to their group
    /// after a wait that grows with each failure of the group, so that a failing aggregator is not called all the
    /// time. If the set cannot be given up, the recoverer of any server hands it back when its time is over, as in
    /// Go.
    pub(super) async fn run(&self, set: AggregationSet, mut seat: Seat) {
        let set = Arc::new(set);
        self.open.lock().insert(set.id.clone(), Arc::clone(&set));
        self.run_open(&set, &mut seat).await;
        self.open.lock().remove(&set.id);
    }

    async fn run_open(&self, set: &AggregationSet, seat: &mut Seat) {
        let (queue, group, tasks) = (&set.queue, &set.group, set.tasks.len());
        let error = match self.aggregate(set, seat).await {
            Ok(()) => {
                tracing::debug!(%queue, %group, tasks, "aggregated");
                self.failures.succeeded(queue, group);
                return;
            }
            Err(error) => error,
        };
        let wait = (!error.is_loss()).then(|| self.failures.failed(queue, group));
        tracing::error!(
            %queue, %group, tasks, error = %shown(&error), back_in = wait.map(tracing::field::debug),
            "aggregation failed; the tasks return to their group"
        );
        drop_quietly(error);
        match wait {
            Some(wait) => self.release(set, wait, seat).await,
            // The time of the set is over, or it was already handed back.
            None => self.failures.released(queue, Instant::now()),
        }
    }

    /// Gives a set up, and schedules that it is handed back when its wait is over.
    async fn release(&self, set: &AggregationSet, wait: Duration, seat: &mut Seat) {
        let (queue, group) = (&set.queue, &set.group);
        let release = async {
            loop {
                let attempt = async { self.broker.storage().await?.release_aggregation(set, wait).await };
                match unless_late(attempt, || seat.give_up()).await {
                    Err(error) if error.is_retryable() => {
                        tracing::debug!(%queue, %group, error = %report(&error), "set not released, retrying");
                    }
                    answer => return answer,
                }
                seat.give_up();
                sleep(EXTEND_AGAIN).await;
            }
        };
        match timeout(RELEASE_WITHIN, release).await {
            // Times of sets are whole seconds.
            Ok(Ok(_)) => self
                .failures
                .released(queue, Instant::now() + wait + Duration::from_secs(1)),
            // The set was already handed back.
            Ok(Err(BrokerError::AggregationSetGone { .. })) => {}
            Ok(Err(error)) => tracing::warn!(%queue, %group, error = %report(&error), "a set was not released"),
            Err(_) => tracing::warn!(%queue, %group, within = ?RELEASE_WITHIN, "a set was not released in time"),
        }
    }

    /// Hands back at once the sets of runs that were aborted.
    pub(super) async fn hand_back_open(&self) {
        let open: Vec<_> = std::mem::take(&mut *self.open.lock()).into_values().collect();
        let Ok(storage) = self.broker.storage().await else {
            return;
        };
        // Each queue has its own call, so that a slow queue does not delay others.
        let mut queues: BTreeMap<&QueueName, Vec<&AggregationSet>> = BTreeMap::new();
        for set in &open {
            queues.entry(&set.queue).or_default().push(set);
        }
        let storage = &storage;
        let hand_back = |(queue, sets): (_, Vec<_>)| async move {
            let release = |set| storage.release_aggregation(set, Duration::ZERO);
            join_all(sets.into_iter().map(release)).await;
            if let Err(error) = storage.reclaim_aggregation_sets(queue).await {
                tracing::debug!(%queue, error = %report(&error), "sets were not handed back");
            }
        };
        join_all(queues.into_iter().map(hand_back)).await;
    }

    async fn aggregate(&self, set: &AggregationSet, seat: &mut Seat) -> Result<(), RunError> {
        let traced = Running::of_set(set);
        let trace = traced.context();
        let done = trace.scope(self.aggregate_traced(set, seat, &traced)).await;
        match &done {
            Ok(()) => traced.end(Some(&Outcome::Done { retain: true }).into()),
            Err(error) => {
                traced.broken(error.kind(), &shown(error));
                traced.end(Some(&Outcome::Requeue).into());
            }
        }
        done
    }

    async fn aggregate_traced(&self, set: &AggregationSet, seat: &mut Seat, traced: &Running) -> Result<(), RunError> {
        let ours = Validity::until(set.until.instant(), &self.env.clock);
        let task = self.call(set, &ours).await?;
        // As in Go, also if the task names another queue.
        let queue = TaskOptions::new().queue(set.queue.as_str());
        let mut result = compose_within(&task, &queue, &self.env, self.max_message_bytes).map_err(RunError::Invalid)?;
        traced.carry(set, &mut result, self.max_message_bytes);
        timeout(ours.left(), self.finish(set, result, seat))
            .await
            .unwrap_or_else(|_| Err(RunError::Lost(gone(set))))
    }

    /// Runs the aggregator, while the set is ours and the time limit is not over.
    async fn call(&self, set: &AggregationSet, ours: &Validity) -> Result<Task, RunError> {
        let tasks: Vec<Task> = set.tasks.iter().map(|task| Task::from_message(task, None)).collect();
        let call = AssertUnwindSafe(async { self.aggregator.0.aggregate(set.group.as_str(), &tasks).await });
        let mut call = Box::pin(call.catch_unwind());
        let answer = tokio::select! {
            biased;
            answer = &mut call => match answer {
                Ok(answer) => answer.map_err(RunError::Failed),
                Err(panic) => {
                    let text = panic_text(&*panic);
                    drop_quietly(panic);
                    Err(RunError::Panicked(text))
                }
            },
            lost = self.keep(set, ours) => Err(RunError::Lost(lost)),
            () = sleep(self.timeout) => Err(RunError::TimedOut(self.timeout)),
        };
        drop_quietly(call);
        answer
    }

    /// Extends the set at intervals. Returns only when the set is no longer ours, with the reason.
    async fn keep(&self, set: &AggregationSet, ours: &Validity) -> BrokerError {
        loop {
            match timeout(ours.left(), self.extend(set)).await {
                Ok(Ok(extended)) => ours.extend_until(extended.instant()),
                Ok(Err(error)) => return error,
                // The set may have been handed back, but this is not certain.
                Err(_) => return gone(set),
            }
        }
    }

    /// Extends the set once, when it is due, and retries as often as necessary.
    async fn extend(&self, set: &AggregationSet) -> Result<LeaseUntil, BrokerError> {
        sleep(EXTEND_EVERY).await;
        loop {
            let answer = match self.broker.storage().await {
                Ok(storage) => storage.extend_aggregation(set).await,
                Err(error) => Err(error),
            };
            match answer {
                Err(error) if error.is_retryable() => {
                    tracing::debug!(queue = %set.queue, group = %set.group, error = %report(&error), "set not extended");
                    sleep(EXTEND_AGAIN).await;
                }
                answer => return answer,
            }
        }
    }

    /// Replaces the set by the result. Every attempt uses the same request and token, so a lost answer neither loses
    /// nor doubles the result (rules.md#ambiguous-is-a-state).
    async fn finish(&self, set: &AggregationSet, result: EnqueueRequest, seat: &mut Seat) -> Result<(), RunError> {
        let (mut wait, mut ambiguous) = (FIRST_RETRY, false);
        loop {
            let attempt = async {
                let storage = self.broker.storage().await?;
                storage.finish_aggregation(set, result.clone()).await
            };
            let answer = unless_late(attempt, || seat.give_up()).await;
            match answer {
                Ok(_) => return Ok(()),
                // The task was taken and settled, and is already deleted.
                Err(EnqueueError::Broker(BrokerError::AggregationSetGone { .. })) if ambiguous => return Ok(()),
                Err(EnqueueError::Broker(error)) if error.is_retryable() => {
                    tracing::debug!(queue = %set.queue, group = %set.group, error = %report(&error), "result not stored");
                    ambiguous |= error.is_ambiguous();
                }
                Err(error) => return Err(RunError::NotEnqueued(error)),
            }
            // The aggregator has returned, so other runs can start while this one waits.
            seat.give_up();
            sleep(wait / 2 + self.env.entropy.up_to(wait / 2)).await;
            wait = (wait * 2).min(LAST_RETRY);
        }
    }
}

fn gone(set: &AggregationSet) -> BrokerError {
    BrokerError::AggregationSetGone {
        queue: set.queue.clone(),
        group: set.group.clone(),
    }
}
