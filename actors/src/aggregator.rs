//! The aggregator: makes one task out of the tasks of each group that is full or old enough.
//!
//! Nobody sends it anything. A pass looks at all groups of all queues in turn; for each it waits
//! until one of [`MAX_AGGREGATIONS`] places is free, and until the storage has said whether the
//! group is ready. What is ready is aggregated in a task that belongs to [`Runs`] and not to the
//! actor, so on a restart nothing is lost: runs go on, and the next pass looks at all groups. A
//! stop waits for the runs as long as the shutdown timeout.

mod adapter;
mod run;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    BrokerError, GroupKey, QueueName, Storage,
    aggregator::MAX_AGGREGATIONS,
    broker::{Env, GroupLimits},
    config::Settings,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, timeout, timeout_at},
};

use crate::{broker::BrokerHandle, chore::Chore, ending::Ending};

pub use adapter::{AggregateGroup, AggregatorActor, AggregatorActorError};
pub(crate) use run::AggregatorRef;
use run::Job;

/// How long aborted runs may take to be gone; they are at their next await point.
const ABORT_WITHIN: Duration = Duration::from_secs(1);

pub(crate) struct Aggregator {
    job: Arc<Job>,
    queues: Vec<QueueName>,
    interval: Duration,
    /// How long a stop waits for runs.
    wait_for_runs: Duration,
    ending: Ending,
    runs: Runs,
}

impl Aggregator {
    pub(crate) fn new(
        aggregator: AggregatorRef,
        settings: &Settings,
        broker: BrokerHandle,
        env: Env,
        ending: Ending,
    ) -> Self {
        let limits = GroupLimits {
            grace: settings.group_grace_period,
            max_delay: settings.group_max_delay,
            max_size: settings.group_max_size,
        };
        let job = Job {
            aggregator,
            broker,
            limits,
            timeout: settings.group_timeout,
            env,
        };
        Self {
            job: Arc::new(job),
            queues: settings.queues.keys().cloned().collect(),
            interval: settings.group_check_interval,
            wait_for_runs: settings.shutdown_timeout,
            ending,
            runs: Runs::new(),
        }
    }

    /// What the actor may take to stop.
    pub(crate) fn stop_within(&self) -> Duration {
        self.wait_for_runs + 2 * ABORT_WITHIN
    }

    /// Asks for the tasks of a group, and aggregates what comes; whether anything came.
    ///
    /// Both happen in a run, so that whatever becomes of this pass no answer of the storage, and
    /// with it a set, goes unheard.
    async fn collect(
        &self,
        storage: &Arc<dyn Storage>,
        queue: &QueueName,
        group: &GroupKey,
        place: OwnedSemaphorePermit,
    ) -> Result<bool, BrokerError> {
        let (tell, collected) = oneshot::channel();
        let (job, storage, queue, group) = (Arc::clone(&self.job), Arc::clone(storage), queue.clone(), group.clone());
        self.runs.spawn(async move {
            let _place = place;
            let found = storage.collect_group(&queue, &group, job.limits).await;
            let (answer, set) = match found {
                Ok(set) => (Ok(set.is_some()), set),
                Err(error) => (Err(error), None),
            };
            // A pass that ended meanwhile needs no answer.
            let _ = tell.send(answer);
            drop(storage);
            if let Some(set) = set {
                job.run(set).await;
            }
        });
        // Dropped unanswered only by a panic, which is logged where the run is joined.
        collected.await.unwrap_or(Ok(false))
    }
}

#[async_trait]
impl Chore for Aggregator {
    fn first(&self) -> Duration {
        self.interval
    }

    fn longest_retry(&self) -> Duration {
        self.interval
    }

    /// One look at each group; and, while this is shorter than the interval, another one at those
    /// of which a part was taken.
    async fn pass(&self) -> Result<Duration, BrokerError> {
        let began = Instant::now();
        let storage = self.job.broker.storage().await?;
        let (mut groups, mut failure) = (VecDeque::new(), None);
        for queue in &self.queues {
            // One queue that cannot be served keeps no other from being served.
            match storage.list_groups(queue).await {
                Ok(names) => groups.extend(names.into_iter().map(|group| (queue, group))),
                Err(error) => failure = Some(error),
            }
        }
        let mut warned = false;
        while let Some((queue, group)) = groups.pop_front() {
            let place = self.runs.place(self.interval, &mut warned).await;
            match self.collect(&storage, queue, &group, place).await {
                Ok(true) if self.job.limits.max_size.is_some() && began.elapsed() < self.interval => {
                    groups.push_back((queue, group));
                }
                Ok(_) => {}
                Err(error) => {
                    if error.is_retryable() {
                        groups.retain(|(other, _)| *other != queue);
                    }
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(self.interval.saturating_sub(began.elapsed())),
        }
    }

    fn last_within(&self) -> Duration {
        self.wait_for_runs
    }

    /// Runs are a user's code like handlers, and may go on for as long.
    async fn last(&self, until: Instant) {
        let runs_until = self.ending.runs_until().unwrap_or(until);
        self.runs.end(until.max(runs_until)).await;
    }
}

/// The runs of one system. They outlive the actor that began them, and are dropped with the system.
#[derive(Debug)]
struct Runs {
    under_way: Mutex<JoinSet<()>>,
    places: Arc<Semaphore>,
}

impl Runs {
    fn new() -> Self {
        Self {
            under_way: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_AGGREGATIONS)),
        }
    }

    /// Waits for a free place; warns once a pass if that takes longer than `patience`.
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

    /// Waits for the runs, and breaks off those that do not end in time.
    async fn end(&self, deadline: Instant) {
        let mut under_way = std::mem::take(&mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner));
        while let Ok(Some(ended)) = timeout_at(deadline, under_way.join_next()).await {
            log_panic(ended);
        }
        if !under_way.is_empty() {
            tracing::warn!(
                runs = under_way.len(),
                "aggregations are broken off; their tasks return to their groups when the time of their sets is over"
            );
            // What is not gone by then is at no await point; nobody waits for it.
            let _ = timeout(ABORT_WITHIN, under_way.shutdown()).await;
        }
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a run of the aggregator panicked outside of the user's code");
    }
}
