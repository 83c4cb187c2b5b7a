//! The janitor: deletes completed tasks whose retention is over.
//!
//! Nobody sends it anything. It waits for the storage within a pass. On a restart nothing is lost.

use std::time::Duration;

use async_trait::async_trait;
use asynq_core::{BrokerError, QueueName};

use crate::{broker::BrokerHandle, chore::Chore};

pub(crate) struct Janitor {
    pub(crate) broker: BrokerHandle,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) interval: Duration,
    pub(crate) batch: u32,
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
        let mut failure = None;
        for queue in &self.queues {
            loop {
                match storage.delete_expired(queue, self.batch).await {
                    Ok(deleted) if deleted >= self.batch => {}
                    Ok(_) => break,
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(self.interval),
        }
    }
}
