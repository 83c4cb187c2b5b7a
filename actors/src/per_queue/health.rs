//! The health of the queues: the calls in progress to each queue, and the queues in trouble.
//!
//! Each call is for one queue, and its result is recorded here, so that a faulty queue affects only itself. A queue
//! is in trouble when a call to it has failed or has had no answer for [`LATE`], and until a call is answered
//! promptly. Such a queue has one call at a time. The call holds no slots, and the tasks that it takes wait for
//! slots.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::{Entropy, QueueName, broker::MAX_BATCH};
use tokio::time::{Instant, timeout};

use crate::supervision::supervisor::Backoff;

/// The waits between attempts at a storage that fails.
pub(crate) const RETRY: Backoff = Backoff {
    first: Duration::from_millis(50),
    most: Duration::from_secs(1),
};
/// Calls to one queue in flight at most, while it is well.
const CALLS: usize = 2;
/// Time after which a call without an answer releases everything that other queues could use.
pub(crate) const LATE: Duration = Duration::from_millis(500);
/// An answer within this time ends the trouble of its queue.
pub(crate) const PROMPT: Duration = Duration::from_millis(250);

/// The end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There was nothing to send.
    Unsent,
    /// The storage answered all of it.
    Answered,
    /// Some parts have no answer, or were refused.
    Failed,
}

#[derive(Debug, Default)]
struct Road {
    calls: usize,
    adoptions: usize,
    /// Calls that failed since the last that was answered.
    failures: u32,
    closed_until: Option<Instant>,
    /// Number of tasks that one call may take while the queue is in trouble.
    share: Option<u32>,
}

impl Road {
    fn way(&self) -> Way {
        Way {
            calls: self.calls,
            closed: self.closed_until.filter(|until| *until > Instant::now()),
            adopting: self.adoptions > 0,
            share: self.share,
        }
    }
}

/// The way in which a queue can be reached now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    /// Calls in flight.
    pub(crate) calls: usize,
    /// Time until which the queue is left alone after a failure.
    pub(crate) closed: Option<Instant>,
    /// `true` while the tasks of a lost call are being searched for. No other tasks are taken before the search has
    /// ended.
    pub(crate) adopting: bool,
    /// Number of tasks that one call may take while the queue is in trouble.
    pub(crate) share: Option<u32>,
}

impl Way {
    /// Returns whether it shares the slots with the others.
    pub(crate) fn is_well(&self) -> bool {
        self.share.is_none() && self.closed.is_none() && !self.adopting
    }

    /// Returns whether another call may go out.
    pub(crate) fn has_room(&self) -> bool {
        let most = if self.is_well() { CALLS } else { 1 };
        self.closed.is_none() && self.calls < most
    }

    /// Returns whether the queue cannot be used now, even if it has tasks.
    pub(crate) fn is_blocked(&self) -> bool {
        self.closed.is_some() || self.adopting || self.share.is_some() && self.calls > 0
    }
}

/// The health of all queues. It outlives the actors.
#[derive(Debug)]
pub(crate) struct QueueHealth {
    roads: Mutex<HashMap<QueueName, Road>>,
    entropy: Entropy,
}

impl QueueHealth {
    pub(crate) fn new(entropy: Entropy) -> Self {
        Self {
            roads: Mutex::default(),
            entropy,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<QueueName, Road>> {
        self.roads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, queue: &QueueName, act: impl FnOnce(&mut Road) -> T) -> T {
        let mut roads = self.lock();
        match roads.get_mut(queue) {
            Some(road) => act(road),
            None => act(roads.entry(queue.clone()).or_default()),
        }
    }

    /// Returns how each of the queues can be reached, in order.
    pub(crate) fn look<'q>(&self, queues: impl Iterator<Item = &'q QueueName>, ways: &mut Vec<Way>) {
        let roads = self.lock();
        ways.clear();
        ways.extend(queues.map(|queue| roads.get(queue).map_or_else(Way::default, Road::way)));
    }

    pub(crate) fn way(&self, queue: &QueueName) -> Way {
        self.lock().get(queue).map_or_else(Way::default, Road::way)
    }

    pub(crate) fn call_began(&self, queue: &QueueName) {
        self.with(queue, |road| road.calls += 1);
    }

    /// A call has no answer yet, and is no longer awaited.
    pub(crate) fn call_is_late(&self, queue: &QueueName) {
        let new = self.with(queue, |road| road.share.replace(1).is_none());
        if new {
            tracing::warn!(%queue, after = ?LATE, "no answer from the storage yet, other queues go on");
        }
    }

    /// Returns whether the failure of a call is news.
    pub(crate) fn is_news(&self, queue: &QueueName) -> bool {
        self.with(queue, |road| road.failures == 0)
    }

    pub(crate) fn call_ended(&self, queue: &QueueName, ended: Ended, took: Duration) {
        let wait = |failures| {
            let wait = RETRY.delay(failures);
            wait / 2 + self.entropy.up_to(wait / 2)
        };
        let recovered = self.with(queue, |road| {
            road.calls = road.calls.saturating_sub(1);
            match ended {
                Ended::Unsent => 0,
                Ended::Failed => {
                    road.closed_until = Some(Instant::now() + wait(road.failures));
                    road.failures = road.failures.saturating_add(1);
                    road.share = Some(1);
                    0
                }
                Ended::Answered => {
                    road.closed_until = None;
                    road.share = match road.share {
                        Some(share) if took > PROMPT => Some(share.saturating_mul(2).min(MAX_BATCH)),
                        _ => None,
                    };
                    std::mem::take(&mut road.failures)
                }
            }
        });
        if recovered > 0 {
            tracing::info!(%queue, failures = recovered, "the storage answers again for this queue");
        }
    }

    pub(crate) fn adoption_began(&self, queue: &QueueName) {
        self.with(queue, |road| road.adoptions += 1);
    }

    pub(crate) fn adoption_ended(&self, queue: &QueueName) {
        self.with(queue, |road| road.adoptions = road.adoptions.saturating_sub(1));
    }
}

/// Waits for the end of a call, and reports once if the call has had no answer for [`LATE`].
pub(crate) async fn unless_late<T>(call: impl Future<Output = T>, late: impl FnOnce()) -> T {
    let mut call = std::pin::pin!(call);
    match timeout(LATE, &mut call).await {
        Ok(answer) => answer,
        Err(_) => {
            late();
            call.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> QueueName {
        QueueName::default()
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_failed_is_left_alone_for_a_growing_while() {
        let roads = QueueHealth::new(Entropy::seeded(2));
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert!(roads.way(&queue()).has_room());
            roads.call_began(&queue());
            roads.call_ended(&queue(), Ended::Failed, Duration::ZERO);
            assert!(!roads.way(&queue()).has_room());
            let opens = roads.way(&queue()).closed.unwrap();
            waits.push(opens - Instant::now());
            tokio::time::sleep_until(opens).await;
        }
        assert!(waits[0] <= Duration::from_millis(50), "{waits:?}");
        let last = waits[7];
        assert!(
            last >= Duration::from_millis(500) && last <= Duration::from_secs(1),
            "{waits:?}"
        );
        roads.call_began(&queue());
        assert!(!roads.way(&queue()).has_room(), "one at a time");
        roads.call_ended(&queue(), Ended::Answered, Duration::ZERO);
        assert!(roads.way(&queue()).is_well());
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_in_trouble_until_it_answers_promptly() {
        let roads = QueueHealth::new(Entropy::seeded(2));
        roads.call_began(&queue());
        roads.call_began(&queue());
        let way = roads.way(&queue());
        assert!(way.is_well() && !way.has_room());
        roads.call_is_late(&queue());
        let way = roads.way(&queue());
        assert!(way.share == Some(1) && way.is_blocked());
        roads.call_ended(&queue(), Ended::Answered, Duration::from_secs(1));
        assert!(!roads.way(&queue()).has_room(), "the other is under way");
        roads.call_ended(&queue(), Ended::Answered, Duration::from_secs(1));
        let way = roads.way(&queue());
        assert!(way.share == Some(4) && way.has_room() && !way.is_blocked());
        roads.call_began(&queue());
        roads.call_ended(&queue(), Ended::Unsent, Duration::ZERO);
        assert_eq!(roads.way(&queue()).share, Some(4));
        roads.call_began(&queue());
        roads.call_ended(&queue(), Ended::Answered, PROMPT);
        assert!(roads.way(&queue()).is_well());
    }
}
