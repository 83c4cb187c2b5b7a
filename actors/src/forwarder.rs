//! The forwarder: makes due tasks pending, in every queue of the server.
//!
//! Nobody sends it anything. It waits for the storage within a pass, and sleeps until the next
//! task is due, at most the delayed-task check interval. On a restart nothing is lost.

use std::time::Duration;

use async_trait::async_trait;
use asynq_core::{BrokerError, Clock, Entropy, QueueName};

use crate::{broker::BrokerHandle, chore::Chore, recoverer::log_poison};

/// How many tasks of one state one call moves (Go: 100).
const BATCH: u32 = 100;
/// Spread over the servers of a fleet at the due second.
const JITTER: Duration = Duration::from_millis(50);
/// Never look more often than this.
const LEAST_WAIT: Duration = Duration::from_millis(250);

pub(crate) struct Forwarder {
    pub(crate) broker: BrokerHandle,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) interval: Duration,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
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
        let mut wait = self.interval;
        let mut failure = None;
        for queue in &self.queues {
            loop {
                match storage.forward(queue, BATCH).await {
                    Ok(done) => {
                        log_poison("forwarder", &done.poisoned);
                        if done.more {
                            continue;
                        }
                        if let Some(due) = done.next_due {
                            let until = self.clock.until(due).max(LEAST_WAIT.min(self.interval));
                            wait = wait.min(until + self.entropy.up_to(JITTER));
                        }
                    }
                    // One queue that cannot be served keeps no other from being served.
                    Err(error) => failure = Some(error),
                }
                break;
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(wait),
        }
    }
}
