//! The syncer: offers outcomes again whose write failed, or that nobody offered.
//!
//! It receives no messages. It waits for nothing: its calls are tasks of the in-flight table. On a restart nothing is
//! lost: the outcomes are in the table. An outcome is offered until the storage gives an answer; the fence makes that
//! safe (rules.md#fenced-settle and rules.md#outcomes-outlive-leases).

use std::time::Duration;

use async_trait::async_trait;
use asynq_core::{BrokerError, QueueName, broker::MAX_BATCH};
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::{
    in_flight::exchange::{Exchange, Sent},
    per_queue::health::RETRY,
    supervision::chore::Chore,
};

const LAST_WITHIN: Duration = Duration::from_secs(3);

pub(crate) struct Syncer {
    pub(crate) exchange: Exchange,
    pub(crate) interval: Duration,
}

impl Syncer {
    /// Offers what waits of a queue; what to wait for, and whether there may be more. A queue that is
    /// left alone, or whose call is under way, is passed over: the next pass looks again.
    fn offer(&self, queue: &QueueName, all: bool) -> Option<(Sent, bool)> {
        let way = self.exchange.roads.way(queue);
        if way.closed.is_some() || way.calls > 0 {
            return None;
        }
        let claim = self.exchange.table.claim_stuck_of(queue, MAX_BATCH as usize, all);
        let full = claim.items.len() == MAX_BATCH as usize;
        (!claim.items.is_empty()).then(|| (self.exchange.spawn(queue, claim, 0, None), full))
    }

    async fn offer_some(&self, queue: &QueueName) {
        // After a full batch there may be more: go on when this one is answered, if it is.
        while let Some((sent, true)) = self.offer(queue, false) {
            if !matches!(tokio::time::timeout(self.interval, sent.answered()).await, Ok(true)) {
                break;
            }
        }
    }

    async fn offer_all(&self, queue: &QueueName) {
        let mut failures = 0;
        while self.exchange.table.unsettled_queues().contains(queue) {
            let answered = match self.offer(queue, true) {
                Some((sent, _)) => sent.answered().await,
                // Claimed by a call that is still on its way, or left alone for a while.
                None => false,
            };
            if answered {
                failures = 0;
            } else {
                tokio::time::sleep(RETRY.delay(failures)).await;
                failures += 1;
            }
        }
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
        // Side by side, so that a queue that does not answer keeps no other waiting.
        let queues = self.exchange.table.stuck_queues(false);
        join_all(queues.iter().map(|queue| self.offer_some(queue))).await;
        Ok(self.interval)
    }

    fn last_within(&self) -> Duration {
        LAST_WITHIN
    }

    /// A last offer of everything; the processor has ended before.
    async fn last(&self, until: Instant) {
        let queues = self.exchange.table.unsettled_queues();
        let offer_all = join_all(queues.iter().map(|queue| self.offer_all(queue)));
        // What is left is recovered by another server.
        let _ = timeout_at(until, offer_all).await;
    }
}
