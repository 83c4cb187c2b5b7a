//! The syncer: offers outcomes again whose write failed, or that nobody offered.
//!
//! Nobody sends it anything. It waits for nothing: its calls are tasks of the in-flight table.
//! On a restart nothing is lost: the outcomes are in the table. An outcome is offered until the
//! storage gives an answer; the fence makes that safe (SAFETY rules 2 and 15).

use std::time::Duration;

use async_trait::async_trait;
use asynq_core::{BrokerError, broker::MAX_BATCH};
use tokio::time::{Instant, timeout_at};

use crate::{
    chore::Chore,
    exchange::{Exchange, RETRY, Sent},
};

const LAST_WITHIN: Duration = Duration::from_secs(3);

pub(crate) struct Syncer {
    pub(crate) exchange: Exchange,
    pub(crate) interval: Duration,
}

impl Syncer {
    /// Offers what waits; what to wait for, and whether there may be more.
    fn offer(&self, all: bool) -> Option<(Sent, bool)> {
        let claim = self.exchange.table.claim_stuck(MAX_BATCH as usize, all);
        let full = claim.items.len() == MAX_BATCH as usize;
        (!claim.items.is_empty()).then(|| (self.exchange.spawn(claim, Vec::new(), None), full))
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
        // After a full batch there may be more: go on when this one is answered, if it is.
        while let Some((sent, true)) = self.offer(false) {
            if !matches!(tokio::time::timeout(self.interval, sent.answered()).await, Ok(true)) {
                break;
            }
        }
        Ok(self.interval)
    }

    fn last_within(&self) -> Duration {
        LAST_WITHIN
    }

    /// A last offer of everything; the processor has ended before.
    async fn last(&self, until: Instant) {
        let table = &self.exchange.table;
        let offer_all = async {
            let mut failures = 0;
            while table.counts().ended > 0 {
                let answered = match self.offer(true) {
                    Some((sent, _)) => sent.answered().await,
                    // Claimed by a call that is still on its way.
                    None => false,
                };
                if answered {
                    failures = 0;
                } else {
                    tokio::time::sleep(RETRY.delay(failures)).await;
                    failures += 1;
                }
            }
        };
        // What is left is recovered by another server.
        let _ = timeout_at(until, offer_all).await;
    }
}
