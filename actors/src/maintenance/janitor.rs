//! The janitor: deletes completed tasks whose retention has ended.
//!
//! Messages: none. A pass waits for the storage. A restart loses nothing.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq_core::{BrokerError, Entropy, QueueName, config::Settings};
use tokio::time::Instant;

use crate::{
    broker::BrokerHandle,
    per_queue::passes::{Pace, Passes},
    supervision::chore::Chore,
};

/// Longest time that the calls for one queue may take.
const WITHIN: Duration = Duration::from_secs(300);

pub(crate) struct Janitor {
    broker: BrokerHandle,
    queues: Vec<QueueName>,
    interval: Duration,
    batch: u32,
    rounds: Passes<()>,
}

impl Janitor {
    pub(crate) fn new(settings: &Settings, broker: BrokerHandle, entropy: Entropy) -> Self {
        let interval = settings.janitor_interval;
        let pace = Pace {
            interval,
            longest_retry: interval,
            within: WITHIN,
            tells: true,
        };
        Self {
            broker,
            queues: settings.queues.keys().cloned().collect(),
            interval,
            batch: settings.janitor_batch_size,
            rounds: Passes::new("delete completed tasks", pace, entropy),
        }
    }
}

#[async_trait]
impl Chore for Janitor {
    fn first(&self) -> Duration {
        self.interval
    }

    fn longest_retry(&self) -> Duration {
        self.interval
    }

    async fn pass(&self) -> Result<Duration, BrokerError> {
        let storage = self.broker.storage().await?;
        let batch = self.batch;
        let job = |queue: QueueName| {
            let storage = Arc::clone(&storage);
            async move {
                while storage.delete_expired(&queue, batch).await? >= batch {}
                Ok(())
            }
        };
        let round = self.rounds.pass(&self.queues, job).await?;
        Ok(round.wait.unwrap_or(self.interval))
    }

    async fn last(&self, _until: Instant) {
        self.rounds.end();
    }
}
