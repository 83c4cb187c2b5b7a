//! The statistician: writes what this server has counted of its runs, every 10 s.
//!
//! It receives no messages. It waits a little for the write of each queue. On a restart nothing is lost: what is counted is
//! in [`Statistics`], which outlives it. When it is stopped it writes the rest, after the processor has ended.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq_core::{BrokerError, Entropy, QueueName, statistics::INTERVAL};
use tokio::time::Instant;

use crate::{
    broker::BrokerHandle,
    per_queue::passes::{Pace, Passes},
    statistics::Statistics,
    supervision::chore::Chore,
};

/// Longest time that the write of a queue may take.
const WRITE_WITHIN: Duration = Duration::from_secs(8);
/// Longest time that the last writes may take.
const LAST_WITHIN: Duration = Duration::from_secs(1);

pub(crate) struct Statistician {
    statistics: Arc<Statistics>,
    broker: BrokerHandle,
    writes: Passes<()>,
}

impl Statistician {
    pub(crate) fn new(statistics: Arc<Statistics>, broker: BrokerHandle, entropy: Entropy) -> Self {
        let pace = Pace {
            interval: Duration::ZERO,
            longest_retry: INTERVAL,
            within: WRITE_WITHIN,
            tells: false,
        };
        Self {
            statistics,
            broker,
            writes: Passes::new("write statistics", pace, entropy),
        }
    }
}

#[async_trait]
impl Chore for Statistician {
    fn first(&self) -> Duration {
        INTERVAL
    }

    fn longest_retry(&self) -> Duration {
        INTERVAL
    }

    async fn pass(&self) -> Result<Duration, BrokerError> {
        let queues = self.statistics.unwritten();
        if queues.is_empty() {
            return Ok(INTERVAL);
        }
        let storage = self.broker.storage().await?;
        let job = |queue: QueueName| {
            let (statistics, storage) = (Arc::clone(&self.statistics), Arc::clone(&storage));
            async move { statistics.write(&*storage, &queue).await }
        };
        self.writes.pass(&queues, job).await?;
        Ok(INTERVAL)
    }

    fn last_within(&self) -> Duration {
        LAST_WITHIN
    }

    async fn last(&self, until: Instant) {
        self.writes.end();
        self.statistics.write_all(&self.broker, until).await;
    }
}
