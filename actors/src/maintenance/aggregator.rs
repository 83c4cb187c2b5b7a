//! The aggregator: combines the tasks of each group that is full or old enough into one task.
//!
//! Messages: none. A pass checks all queues concurrently, and the groups of each queue one after the other. For each
//! group it waits for one of the [`MAX_AGGREGATIONS`] places, and for the storage to report whether the group is
//! ready. A ready group is aggregated in a task that belongs to [`Runs`] and not to the actor. A restart therefore
//! loses nothing: runs continue, and the next pass checks all groups. A stop waits for the runs for up to the
//! shutdown timeout.

mod adapter;
mod failures;
mod run;
mod seat;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    BrokerError, GroupKey, QueueName, Storage,
    aggregator::MAX_AGGREGATIONS,
    broker::{AggregationSet, Env, GroupLimits, MAX_AGGREGATION_SET},
    config::Settings,
    error::text::report,
};
use futures::future::join;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    broker::BrokerHandle,
    per_queue::{
        health::unless_late,
        passes::{Pace, Passes},
    },
    supervision::{chore::Chore, shutdown_budget::ShutdownBudget},
};

pub use adapter::{AggregateGroup, AggregatorActor, AggregatorActorError};
use failures::Failures;
pub(crate) use run::AggregatorRef;
use run::{Job, OpenSets};
use seat::Seat;

/// Longest time that aborted runs may take to end. They end at their next await point.
const ABORT_WITHIN: Duration = Duration::from_secs(1);

/// Longest time that one check of the groups of a queue may take. The check waits for runs, and so for application
/// code.
const LOOK_WITHIN: Duration = Duration::from_secs(3600);

pub(crate) struct Aggregator {
    looks: Arc<Looks>,
    broker: BrokerHandle,
    queues: Vec<QueueName>,
    /// Time for which a stop waits for runs.
    wait_for_runs: Duration,
    ending: ShutdownBudget,
    rounds: Passes<()>,
}

/// Checks the groups of all queues.
struct Looks {
    job: Arc<Job>,
    interval: Duration,
    runs: Runs,
}

impl Aggregator {
    pub(crate) fn new(
        aggregator: AggregatorRef,
        settings: &Settings,
        broker: BrokerHandle,
        env: Env,
        ending: ShutdownBudget,
    ) -> Self {
        let limits = GroupLimits {
            grace: settings.group_grace_period,
            max_delay: settings.group_max_delay,
            max_size: settings.group_max_size,
        };
        let interval = settings.group_check_interval;
        let pace = Pace {
            interval: Duration::ZERO,
            longest_retry: interval,
            within: LOOK_WITHIN,
            tells: false,
        };
        let rounds = Passes::new("look at groups", pace, env.entropy.clone());
        let job = Job {
            aggregator,
            broker: broker.clone(),
            limits,
            timeout: settings.group_timeout,
            env,
            max_message_bytes: settings.max_message_bytes,
            failures: Failures::default(),
            open: OpenSets::default(),
        };
        let looks = Looks {
            job: Arc::new(job),
            interval,
            runs: Runs::new(),
        };
        Self {
            looks: Arc::new(looks),
            broker,
            queues: settings.queues.keys().cloned().collect(),
            wait_for_runs: settings.shutdown_timeout,
            ending,
            rounds,
        }
    }

    /// Returns what the actor may take to stop.
    pub(crate) fn stop_within(&self) -> Duration {
        self.wait_for_runs + 2 * ABORT_WITHIN
    }
}

impl Looks {
    /// Checks each group of a queue once. If time is left in the interval, checks again the groups of which a part
    /// was taken.
    async fn look(&self, storage: &Arc<dyn Storage>, queue: &QueueName) -> Result<(), BrokerError> {
        let began = Instant::now();
        self.hand_back(storage, queue).await;
        let mut groups: VecDeque<GroupKey> = storage.list_groups(queue).await?.into();
        let (mut warned, mut failure) = (false, None);
        while let Some(group) = groups.pop_front() {
            // A set that is collected now would only wait with the others.
            if self.runs.is_stuck(queue) {
                tracing::debug!(%queue, "the queue refuses results, its groups wait");
                break;
            }
            let place = self.runs.place(self.interval, &mut warned).await;
            match self.collect(storage, queue, &group, place).await {
                Ok(true) if began.elapsed() < self.interval => {
                    groups.push_back(group);
                }
                Ok(_) => {}
                Err(error) => {
                    if error.is_retryable() {
                        groups.clear();
                    }
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Hands back the sets of a queue that were given up and whose wait is over, so that the check of the groups
    /// finds their tasks. The recoverer would do this later.
    async fn hand_back(&self, storage: &Arc<dyn Storage>, queue: &QueueName) {
        let Some(until) = self.job.failures.take_due(queue) else {
            return;
        };
        if let Err(error) = storage.reclaim_aggregation_sets(queue).await {
            tracing::debug!(%queue, error = %report(&error), "failed sets are not handed back yet");
            self.job.failures.released(queue, until);
        }
    }

    /// Collects the tasks of a group and aggregates them. Returns whether there may be more.
    ///
    /// Both steps happen in a run. Even if the pass ends early, the run receives the answer of the storage, and no
    /// set is lost. While a run waits for a storage that does not answer, it gives up its place.
    async fn collect(
        &self,
        storage: &Arc<dyn Storage>,
        queue: &QueueName,
        group: &GroupKey,
        place: OwnedSemaphorePermit,
    ) -> Result<bool, BrokerError> {
        let (tell, collected) = oneshot::channel();
        let (job, storage, queue, group) = (Arc::clone(&self.job), Arc::clone(storage), queue.clone(), group.clone());
        let mut place = self.runs.seat(&queue, place);
        self.runs.spawn(async move {
            let call = storage.collect_group(&queue, &group, job.limits);
            let found = unless_late(call, || place.give_up()).await;
            let (answer, set) = match found {
                Ok(set) => (Ok(set.as_ref().is_some_and(|set| may_leave_some(job.limits, set))), set),
                Err(error) => (Err(error), None),
            };
            // A pass that has ended meanwhile needs no answer.
            let _ = tell.send(answer);
            drop(storage);
            if let Some(set) = set {
                place.take().await;
                job.run(set, place).await;
            }
        });
        // The sender is dropped without a value only by a panic, which is logged where the run is joined.
        collected.await.unwrap_or(Ok(false))
    }
}

/// Returns whether a set may have left tasks in its group.
fn may_leave_some(limits: GroupLimits, set: &AggregationSet) -> bool {
    limits.max_size.is_some() || set.tasks.len() >= MAX_AGGREGATION_SET as usize
}

#[async_trait]
impl Chore for Aggregator {
    fn first(&self) -> Duration {
        self.looks.interval
    }

    fn longest_retry(&self) -> Duration {
        self.looks.interval
    }

    async fn pass(&self) -> Result<Duration, BrokerError> {
        let began = Instant::now();
        let storage = self.broker.storage().await?;
        let job = |queue: QueueName| {
            let (looks, storage) = (Arc::clone(&self.looks), Arc::clone(&storage));
            async move { looks.look(&storage, &queue).await }
        };
        let round = self.rounds.pass(&self.queues, job).await?;
        let wait = self.looks.interval.saturating_sub(began.elapsed());
        Ok(round.wait.map_or(wait, |retry| retry.min(wait)))
    }

    fn last_within(&self) -> Duration {
        self.wait_for_runs
    }

    /// Runs are application code like handlers, and may take as long.
    async fn last(&self, until: Instant) {
        let runs_until = self.ending.runs_until().unwrap_or(until);
        self.rounds.end();
        self.looks.runs.end(until.max(runs_until), &self.looks.job).await;
    }
}

/// The runs of one system. They outlive the actor that started them, and end with the system.
#[derive(Debug)]
struct Runs {
    under_way: Mutex<JoinSet<()>>,
    places: Arc<Semaphore>,
    /// The number of runs of each queue that wait for the storage without a place.
    stuck: Arc<Mutex<HashMap<QueueName, usize>>>,
}

impl Runs {
    fn new() -> Self {
        Self {
            under_way: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_AGGREGATIONS)),
            stuck: Arc::default(),
        }
    }

    fn seat(&self, queue: &QueueName, place: OwnedSemaphorePermit) -> Seat {
        Seat {
            places: Arc::clone(&self.places),
            place: Some(place),
            queue: queue.clone(),
            stuck: Arc::clone(&self.stuck),
        }
    }

    fn is_stuck(&self, queue: &QueueName) -> bool {
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.contains_key(queue)
    }

    /// Waits for a free place, and logs one warning per pass if this takes longer than `patience`.
    async fn place(&self, patience: Duration, warned: &mut bool) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.places).acquire_owned();
        tokio::pin!(place);
        let place = match timeout(patience, &mut place).await {
            Ok(place) => place,
            Err(_) => {
                if !std::mem::replace(warned, true) {
                    tracing::warn!(
                        most = MAX_AGGREGATIONS,
                        "the aggregator is behind: groups wait for its runs"
                    );
                }
                place.await
            }
        };
        place.expect("the semaphore is never closed")
    }

    fn spawn(&self, run: impl Future<Output = ()> + Send + 'static) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = under_way.try_join_next() {
            log_panic(ended);
        }
        under_way.spawn(run);
    }

    /// Waits for the runs, aborts those that do not end in time, and hands back their sets.
    async fn end(&self, deadline: Instant, job: &Job) {
        let mut under_way = std::mem::take(&mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner));
        while let Ok(Some(ended)) = timeout_at(deadline, under_way.join_next()).await {
            log_panic(ended);
        }
        if !under_way.is_empty() {
            tracing::warn!(
                runs = under_way.len(),
                "aborting aggregations; their tasks return to their groups"
            );
            // A run that has not ended by then is blocked outside of an await point, and is not waited for. A set
            // that is not handed back by then returns when its time is over.
            let gone = join(under_way.shutdown(), job.hand_back_open());
            let _ = timeout(ABORT_WITHIN, gone).await;
        }
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a run of the aggregator panicked outside user code");
    }
}
