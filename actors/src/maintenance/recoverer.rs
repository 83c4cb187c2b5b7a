//! The recoverer: recovers the tasks of dead servers, hands old aggregation sets back, and repairs the remains of
//! crashed writers, including those of Go.
//!
//! Messages: none. A pass waits for the storage. A restart loses nothing: the first pass runs at once.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    BrokerError, Error, QueueName, SettleError, Storage, Task,
    broker::{Env, Expired, ExpiredPlace, ExpiredTask, Outcome, Recovery},
    config::Settings,
    failure::outcome_of,
};
use tokio::time::Instant;

use crate::{
    broker::BrokerHandle,
    maintenance::poison::log_poison,
    per_queue::passes::{Pace, Passes},
    supervision::chore::Chore,
};

/// Number of tasks that one call recovers.
const BATCH: u32 = 100;
/// Number of keys, and of entries of `active` and `lease`, that one pass examines for damage, those of all queues
/// together: some 60 ms of Redis in a minute, spread over calls of a millisecond. For one queue, a million keys are thus
/// examined in 100 passes. Each queue has a look of its own at the keys, so a full look takes as many times longer as
/// there are queues.
const HEAL: u32 = 10_000;
/// Least number of them for each queue: one call.
const LEAST_HEAL: u32 = 250;
/// Time between two checks of expired leases. Tasks are recovered at the second check, if the storage has answered
/// both times. After an outage that ended the leases of a whole fleet, their owners have no lease either, and give
/// the tasks back in this time without using up a retry.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Longest time that the calls for one queue may take.
const WITHIN: Duration = Duration::from_secs(300);

pub(crate) struct Recoverer {
    broker: BrokerHandle,
    medic: Arc<Medic>,
    /// Each job returns its queue if the queue must be checked again soon.
    rounds: Passes<Option<QueueName>>,
}

/// The work for one queue.
struct Medic {
    settings: Settings,
    env: Env,
    /// Queues in which tasks wait for the second check.
    suspected: Mutex<HashSet<QueueName>>,
}

/// Returns how much of [`HEAL`] each of so many queues has.
fn share_of(queues: usize) -> u32 {
    let queues = u32::try_from(queues).unwrap_or(u32::MAX).max(1);
    (HEAL / queues).max(LEAST_HEAL)
}

impl Recoverer {
    pub(crate) fn new(settings: &Settings, broker: BrokerHandle, env: Env) -> Self {
        let pace = Pace {
            interval: settings.recoverer_interval,
            longest_retry: settings.recoverer_interval,
            within: WITHIN,
            tells: true,
        };
        let rounds = Passes::new("recover and repair", pace, env.entropy.clone());
        let settings = settings.clone();
        Self {
            broker,
            medic: Arc::new(Medic {
                settings,
                env,
                suspected: Mutex::default(),
            }),
            rounds,
        }
    }
}

impl Medic {
    fn suspected(&self) -> MutexGuard<'_, HashSet<QueueName>> {
        self.suspected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the queue if its tasks wait for the second check.
    async fn look_after(&self, storage: &dyn Storage, queue: &QueueName) -> Result<Option<QueueName>, BrokerError> {
        let asked = Instant::now();
        // After a failure or a dropped pass, the next check counts as the first.
        let was_suspected = self.suspected().remove(queue);
        let found = self.expired(storage, queue, &ExpiredPlace::default()).await?;
        // The same holds after a late answer, because the storage may have been unreachable meanwhile.
        let is_second = was_suspected && asked.elapsed() < LOOK_AGAIN;
        let waits = !is_second && (!found.tasks.is_empty() || found.more);
        if is_second {
            self.recover(storage, queue, found).await?;
        }
        storage.reclaim_aggregation_sets(queue).await?;
        self.heal(storage, queue).await?;
        if waits {
            self.suspected().insert(queue.clone());
        }
        Ok(waits.then(|| queue.clone()))
    }

    async fn expired(
        &self,
        storage: &dyn Storage,
        queue: &QueueName,
        place: &ExpiredPlace,
    ) -> Result<Expired, BrokerError> {
        let grace = self.settings.recover_grace;
        let found = storage.expired_after(queue, grace, BATCH, place).await?;
        log_poison("recoverer", &found.poisoned);
        Ok(found)
    }

    async fn recover(&self, storage: &dyn Storage, queue: &QueueName, first: Expired) -> Result<(), BrokerError> {
        let (mut found, mut failure) = (first, None);
        loop {
            let batch: Vec<Recovery> = found
                .tasks
                .into_iter()
                .map(|task| {
                    let outcome = self.outcome(&task);
                    Recovery { task, outcome }
                })
                .collect();
            let tasks: Vec<_> = batch
                .iter()
                .map(|r| (r.task.message.id.clone(), r.task.message.retried))
                .collect();
            for ((id, retried), answer) in tasks.into_iter().zip(storage.recover(batch).await) {
                match answer {
                    Ok(()) => tracing::warn!(%queue, task = %id, retried, "recovered a task whose lease had ended"),
                    // Another recoverer was first, or the owner is alive after all.
                    Err(SettleError::NotOurs) => {}
                    Err(SettleError::Poison(kind)) => tracing::error!(%queue, task = %id, %kind, "cannot recover"),
                    Err(SettleError::Broker(error)) if error.is_retryable() => return Err(error),
                    // One outcome may go into a damaged container, and the next one into another.
                    Err(SettleError::Broker(error)) => failure = Some(error),
                    Err(error) => tracing::error!(%queue, task = %id, %error, "cannot recover"),
                }
            }
            if !found.more {
                return failure.map_or(Ok(()), Err);
            }
            // Each page begins behind the one before, so a task that cannot be recovered does not block others.
            found = self.expired(storage, queue, &found.next).await?;
        }
    }

    /// Returns the outcome of an expired task. As in Go's recoverer, a crash uses up a retry unless `is_failure`
    /// decides otherwise. A task that may never have started goes back unchanged.
    fn outcome(&self, expired: &ExpiredTask) -> Outcome {
        if expired.unstarted {
            return Outcome::Requeue;
        }
        let message = &*expired.message;
        let task = Task::from_message(message, None);
        outcome_of(&self.settings, &self.env, message, &task, &Error::LeaseExpired)
    }

    async fn heal(&self, storage: &dyn Storage, queue: &QueueName) -> Result<(), BrokerError> {
        // Only one server at a time repairs, so that a fleet costs no more than one server. The claim of a server
        // that died ends within one pass.
        if !storage.claim_heal(queue, self.settings.recoverer_interval).await? {
            return Ok(());
        }
        let healed = storage.heal(queue, share_of(self.settings.queues.len())).await?;
        log_poison("recoverer", &healed.poisoned);
        if !healed.is_empty() {
            tracing::warn!(
                %queue,
                leased = ?healed.leased,
                stale_leases = ?healed.stale_leases,
                regrouped = ?healed.regrouped,
                relisted = ?healed.relisted,
                relisted_sets = ?healed.relisted_sets,
                unlocked = ?healed.unlocked,
                poisoned = healed.poisoned.len(),
                "repaired the damage of a crashed writer"
            );
        }
        Ok(())
    }
}

#[async_trait]
impl Chore for Recoverer {
    fn first(&self) -> Duration {
        Duration::ZERO
    }

    fn longest_retry(&self) -> Duration {
        self.medic.settings.recoverer_interval
    }

    async fn pass(&self) -> Result<Duration, BrokerError> {
        let storage = self.broker.storage().await?;
        let job = |queue: QueueName| {
            let (medic, storage) = (Arc::clone(&self.medic), Arc::clone(&storage));
            async move { medic.look_after(&*storage, &queue).await }
        };
        let interval = self.medic.settings.recoverer_interval;
        let round = self.rounds.pass(self.medic.settings.queues.keys(), job).await?;
        let mut wait = round.wait.unwrap_or(interval);
        for queue in round.done.iter().flatten() {
            let again = LOOK_AGAIN.min(interval);
            self.rounds.next_in(queue, again);
            wait = wait.min(again);
        }
        Ok(wait)
    }

    async fn last(&self, _until: Instant) {
        self.rounds.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_queues_cost_little_more_than_one() {
        assert_eq!([1, 4, 100, 1000].map(share_of), [10_000, 2_500, 250, 250]);
        assert_eq!(share_of(0), HEAL);
    }
}
