//! The syncer: offers outcomes again whose write failed, or that nobody offered.
//!
//! Nobody sends it anything. It waits for nothing: its calls are tasks of the in-flight table.
//! On a restart nothing is lost: the outcomes are in the table. An outcome is offered until the
//! storage gives an answer; the fence makes that safe (SAFETY rules 2 and 15).

use std::time::Duration;

use async_trait::async_trait;
use asynq_core::{BrokerError, broker::MAX_BATCH};

use crate::{chore::Chore, exchange::Exchange};

const LAST_WITHIN: Duration = Duration::from_secs(3);

pub(crate) struct Syncer {
    pub(crate) exchange: Exchange,
    pub(crate) interval: Duration,
}

impl Syncer {
    fn offer(&self, all: bool) -> usize {
        let claim = self.exchange.table.claim_stuck(MAX_BATCH as usize, all);
        let offered = claim.items.len();
        if offered > 0 {
            self.exchange.spawn(claim, Vec::new(), None);
        }
        offered
    }
}

#[async_trait]
impl Chore for Syncer {
    fn first(&self) -> Duration {
        self.interval
    }

    fn longest_retry(&self) -> Duration {
        self.interval
    }

    async fn pass(&self) -> Result<Duration, BrokerError> {
        // A full batch means that there is more: go on as soon as this one is answered.
        while self.offer(false) == MAX_BATCH as usize {
            let changed = self.exchange.table.changed();
            let _ = tokio::time::timeout(self.interval, changed).await;
        }
        Ok(self.interval)
    }

    /// A last offer of everything; the processor has ended before.
    async fn last(&self) {
        let table = &self.exchange.table;
        let deadline = tokio::time::Instant::now() + LAST_WITHIN;
        while table.counts().ended > 0 && tokio::time::Instant::now() < deadline {
            let changed = table.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let offered = if table.calls() == 0 { self.offer(true) } else { 0 };
            let pause = if offered > 0 || table.calls() > 0 {
                LAST_WITHIN
            } else {
                Duration::from_millis(50)
            };
            let _ = tokio::time::timeout_at(deadline.min(tokio::time::Instant::now() + pause), changed).await;
        }
    }
}
