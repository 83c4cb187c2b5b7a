//! The forwarder: makes due tasks pending, in every queue of the server.
//!
//! Messages: none. A pass waits for the storage, and then for the next due task or for a watch to report a change of
//! the delayed tasks. Without a watch it checks at each delayed-task check interval. A restart loses nothing.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq_core::{BrokerError, Clock, Entropy, QueueName, Storage, broker::WatchKind, config::Settings};
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::{
    broker::BrokerHandle,
    maintenance::poison::log_poison,
    per_queue::{
        passes::{Pace, Passes},
        watches::{SAFETY_POLL, Watcher},
    },
    supervision::{chore::Chore, tree::Tree},
};

/// Number of tasks of one state that one call moves (Go: 100).
const BATCH: u32 = 100;
/// Random delay that spreads the servers of a fleet after the due second.
const JITTER: Duration = Duration::from_millis(50);
/// Shortest pause before a check after a change, because one push wakes every server.
const LEAST_WAIT: Duration = Duration::from_millis(250);
/// Shortest pause before a check for a due task, because tasks can be due at any millisecond.
const LEAST_UNTIL_DUE: Duration = Duration::from_millis(100);

/// Longest time that the calls for one queue may take.
const WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Forwarder {
    broker: BrokerHandle,
    queues: Vec<QueueName>,
    tree: Tree,
    path: String,
    /// Interval without a watch.
    interval: Duration,
    clock: Clock,
    entropy: Entropy,
    watcher: Watcher,
    rounds: Passes<Option<DateTime<Utc>>>,
}

impl Forwarder {
    pub(crate) fn new(
        settings: &Settings,
        broker: BrokerHandle,
        clock: Clock,
        entropy: Entropy,
        tree: Tree,
        path: String,
    ) -> Self {
        let interval = settings.delayed_task_check_interval;
        let pace = Pace {
            interval: Duration::ZERO,
            longest_retry: interval,
            within: WITHIN,
            tells: true,
        };
        Self {
            broker,
            queues: settings.queues.keys().cloned().collect(),
            tree,
            path,
            interval,
            clock,
            rounds: Passes::new("forward", pace, entropy.clone()),
            entropy,
            watcher: Watcher::default(),
        }
    }
}

/// Moves all due tasks of a queue, and returns the next due time.
async fn forward(storage: Arc<dyn Storage>, queue: QueueName) -> Result<Option<DateTime<Utc>>, BrokerError> {
    loop {
        let done = storage.forward(&queue, BATCH).await?;
        log_poison("forwarder", &done.poisoned);
        if !done.put_off.is_empty() {
            tracing::error!(
                %queue, tasks = ?done.put_off,
                "the group of due tasks is damaged; retrying in a minute"
            );
        }
        if !done.more {
            return Ok(done.next_due);
        }
    }
}

#[async_trait]
impl Chore for Forwarder {
    fn first(&self) -> Duration {
        Duration::ZERO
    }

    fn longest_retry(&self) -> Duration {
        self.interval
    }

    async fn pass(&self) -> Result<Duration, BrokerError> {
        let storage = self.broker.storage().await?;
        // The watch is set before the check, so that no change is missed.
        let mut watches = self.watcher.watch(&storage, &self.queues, WatchKind::Delayed).await;
        self.tree.note(&self.path, Some(watches.note()));
        let job = |queue| forward(Arc::clone(&storage), queue);
        let round = self.rounds.pass(&self.queues, job).await?;
        let next = round.done.into_iter().flatten().min();
        let least = LEAST_WAIT.min(self.interval);
        let least_until_due = LEAST_UNTIL_DUE.min(least);
        let until_due = next.map(|due| self.clock.until(due).max(least_until_due) + self.entropy.up_to(JITTER));
        let look = if watches.are_all() && round.troubled == 0 {
            self.entropy.around(SAFETY_POLL)
        } else {
            self.interval
        };
        let retry = round.wait.map(|wait| wait.max(least));
        let longest = look.min(until_due.unwrap_or(look)).min(retry.unwrap_or(look));
        let began = Instant::now();
        let _ = tokio::time::timeout(longest, watches.changed()).await;
        Ok(least.min(longest).saturating_sub(began.elapsed()))
    }

    async fn last(&self, _until: Instant) {
        self.rounds.end();
    }
}
