//! The health checker: checks whether the storage answers, and calls the function of the application with the result.
//!
//! Messages: none. A pass waits for the answer, a few seconds at most. After a restart the next check is one interval
//! later. The actor exists only if a function is configured.

use std::{panic::AssertUnwindSafe, time::Duration};

use async_trait::async_trait;
use asynq_core::{
    BrokerError,
    handler::HealthCheck,
    panics::{drop_quietly, panic_text},
};

use crate::{broker::BrokerHandle, supervision::chore::Chore};

/// Time after which a missing answer counts as bad health.
const PING_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct Healthchecker {
    pub(crate) broker: BrokerHandle,
    pub(crate) check: HealthCheck,
    pub(crate) interval: Duration,
}

#[async_trait]
impl Chore for Healthchecker {
    fn first(&self) -> Duration {
        self.interval
    }

    fn longest_retry(&self) -> Duration {
        self.interval
    }

    async fn pass(&self) -> Result<Duration, BrokerError> {
        let ping = async { self.broker.storage().await?.ping().await };
        let health = tokio::time::timeout(PING_WITHIN, ping)
            .await
            .unwrap_or_else(|_| Err(BrokerError::unavailable(format!("no answer within {PING_WITHIN:?}"))));
        if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| self.check.tell(health.as_ref().err()))) {
            tracing::error!(panic = panic_text(&*panic), "health check function panicked");
            drop_quietly(panic);
        }
        // Bad health is no failure of the checker.
        Ok(self.interval)
    }
}
