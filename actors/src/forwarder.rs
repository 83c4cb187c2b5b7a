//! The forwarder: makes due tasks pending, in every queue of the server.
//!
//! Nobody sends it anything. It waits within a pass: for the storage, then for the next task to be
//! due, or for a watch to tell that the delayed tasks changed. Where there is no watch it looks
//! every delayed-task check interval. On a restart nothing is lost.

use std::time::Duration;

use async_trait::async_trait;
use asynq_core::{BrokerError, Clock, Entropy, QueueName, Storage, broker::WatchKind};
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::{
    broker::BrokerHandle, chore::Chore, distrust::report, processor::SAFETY_POLL, recoverer::log_poison, tree::Tree,
};

/// How many tasks of one state one call moves (Go: 100).
const BATCH: u32 = 100;
/// Spread over the servers of a fleet at the due second.
const JITTER: Duration = Duration::from_millis(50);
/// Never look more often than this (SAFETY rule 13).
const LEAST_WAIT: Duration = Duration::from_millis(250);

pub(crate) struct Forwarder {
    pub(crate) broker: BrokerHandle,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) tree: Tree,
    pub(crate) path: String,
    /// Without a watch.
    pub(crate) interval: Duration,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
}

impl Forwarder {
    /// Moves all that is due; when the next is.
    async fn forward(&self, storage: &dyn Storage) -> Result<Option<DateTime<Utc>>, BrokerError> {
        let mut next: Option<DateTime<Utc>> = None;
        let mut failure = None;
        for queue in &self.queues {
            loop {
                match storage.forward(queue, BATCH).await {
                    Ok(done) => {
                        log_poison("forwarder", &done.poisoned);
                        if done.more {
                            continue;
                        }
                        next = next.into_iter().chain(done.next_due).min();
                    }
                    // One queue that cannot be served keeps no other from being served.
                    Err(error) => failure = Some(error),
                }
                break;
            }
        }
        failure.map_or(Ok(next), Err)
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
        // Set before the look, so that nothing slips in between.
        let watch = storage.watch(&self.queues, WatchKind::Delayed).await;
        let next = self.forward(&*storage).await?;
        let until_due =
            next.map(|due| self.clock.until(due).max(LEAST_WAIT.min(self.interval)) + self.entropy.up_to(JITTER));
        match watch {
            Ok(mut watch) => {
                self.tree.note(&self.path, Some("watching"));
                let safety = self.entropy.around(SAFETY_POLL);
                let began = Instant::now();
                let _ = tokio::time::timeout(until_due.map_or(safety, |due| due.min(safety)), watch.changed()).await;
                Ok(LEAST_WAIT.min(self.interval).saturating_sub(began.elapsed()))
            }
            Err(error) => {
                if !matches!(error, BrokerError::Unsupported { .. }) {
                    tracing::debug!(error = %report(&error), "no watch, polling");
                }
                self.tree.note(&self.path, Some("polling"));
                Ok(until_due.map_or(self.interval, |due| due.min(self.interval)))
            }
        }
    }
}
