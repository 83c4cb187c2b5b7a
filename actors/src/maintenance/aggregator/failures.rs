//! The waits of failed sets, and the time until which each queue is asked to hand sets back.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::{GroupKey, QueueName, broker::AGGREGATION_SET_LIFETIME};
use tokio::time::Instant;

/// The first wait of the tasks of a group whose aggregation failed. It doubles with each failure in a row, up to
/// [`AGGREGATION_SET_LIFETIME`], after which the tasks return in any case.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Largest number of groups whose failures are recorded.
const MOST_GROUPS: usize = 10_000;

type Rows = HashMap<(QueueName, GroupKey), u32>;

/// Failures in a row by group, and the queues that have sets to hand back.
#[derive(Debug, Default)]
pub(super) struct Failures {
    rows: Mutex<Rows>,
    /// Time at which the last set of a queue is handed back.
    due: Mutex<HashMap<QueueName, Instant>>,
}

impl Failures {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self) -> MutexGuard<'_, HashMap<QueueName, Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more failure of a group, and returns the wait of its tasks.
    pub(super) fn failed(&self, queue: &QueueName, group: &GroupKey) -> Duration {
        let mut rows = self.rows();
        let group = (queue.clone(), group.clone());
        if rows.len() >= MOST_GROUPS && !rows.contains_key(&group) {
            // The group that is removed begins with a short wait again.
            let any = rows.keys().next().cloned();
            any.map(|any| rows.remove(&any));
        }
        let row = rows.entry(group).or_default();
        let wait = FIRST_WAIT
            .saturating_mul(2_u32.saturating_pow(*row))
            .min(AGGREGATION_SET_LIFETIME);
        *row = row.saturating_add(1);
        wait
    }

    /// Forgets the failures of a group.
    pub(super) fn succeeded(&self, queue: &QueueName, group: &GroupKey) {
        let mut rows = self.rows();
        if !rows.is_empty() {
            rows.remove(&(queue.clone(), group.clone()));
        }
    }

    /// Records that a set of the queue must be handed back at that time.
    pub(super) fn released(&self, queue: &QueueName, at: Instant) {
        let mut due = self.due();
        let last = due.entry(queue.clone()).or_insert(at);
        *last = at.max(*last);
    }

    /// Returns the time until which each check of the queue's groups also asks the queue to hand back its sets,
    /// because some may be due before the last one. `None` if there are none, and from the first check after that
    /// time on.
    pub(super) fn take_due(&self, queue: &QueueName) -> Option<Instant> {
        let mut due = self.due();
        let last = *due.get(queue)?;
        if last <= Instant::now() {
            due.remove(queue);
        }
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (QueueName, GroupKey) {
        (QueueName::default(), GroupKey::new("g").unwrap())
    }

    #[test]
    fn the_waits_of_a_group_grow_until_it_succeeds() {
        let (failures, (queue, group)) = (Failures::default(), names());
        let waits: Vec<_> = (0..10).map(|_| failures.failed(&queue, &group).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 120, 120, 120]);
        assert_eq!(failures.failed(&queue, &GroupKey::new("other").unwrap()), FIRST_WAIT);
        failures.succeeded(&queue, &group);
        assert_eq!(failures.failed(&queue, &group), FIRST_WAIT);
    }

    #[test]
    fn failures_of_any_number_of_groups_have_a_bound() {
        let (failures, (queue, _)) = (Failures::default(), names());
        for n in 0..MOST_GROUPS + 10 {
            failures.failed(&queue, &GroupKey::new(n.to_string()).unwrap());
        }
        assert_eq!(failures.rows().len(), MOST_GROUPS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_asked_until_the_last_of_its_sets_is_due() {
        let (failures, (queue, _)) = (Failures::default(), names());
        let now = Instant::now();
        assert_eq!(failures.take_due(&queue), None);
        failures.released(&queue, now + 3 * FIRST_WAIT);
        failures.released(&queue, now + FIRST_WAIT);
        assert_eq!(failures.take_due(&QueueName::new("other").unwrap()), None);
        for _ in 0..3 {
            assert_eq!(failures.take_due(&queue), Some(now + 3 * FIRST_WAIT));
            tokio::time::advance(FIRST_WAIT).await;
        }
        assert_eq!(failures.take_due(&queue), Some(now + 3 * FIRST_WAIT));
        assert_eq!(failures.take_due(&queue), None);
    }
}
