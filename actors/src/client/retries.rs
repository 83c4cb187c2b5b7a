//! Enqueues whose first attempt failed, by queue: one queue that fails keeps no other waiting, and
//! its items go out in the order in which they came.

use std::{
    collections::{BTreeMap, HashMap, hash_map},
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::broker::MAX_BATCH;
use tokio::time::Instant;

use super::attempt::{ClientArgs, FIRST_RETRY, Queued, attempt, unavailable};
use crate::broker::BrokerHandle;

const LAST_RETRY: Duration = Duration::from_millis(500);

type Items = BTreeMap<u64, Queued>;

/// The queues that are being retried, and the items that wait for each: it has its permits, so this has a bound. A
/// queue is in here exactly while its [`Lane`] is.
#[derive(Clone, Default)]
pub(super) struct Lanes(Arc<Mutex<HashMap<String, Items>>>);

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lanes({})", self.lock().len())
    }
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Items>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all items that wait for a retry.
    pub(super) fn take(&self) -> Vec<Queued> {
        let mut lanes = self.lock();
        lanes
            .values_mut()
            .flat_map(|lane| mem::take(lane).into_values())
            .collect()
    }

    /// An item of a queue that is being retried waits behind those before it; another one is handed back.
    pub(super) fn join_one(&self, item: Queued) -> Option<Queued> {
        match self.lock().get_mut(&item.request.message.queue) {
            Some(lane) => {
                lane.insert(item.order, item);
                None
            }
            None => Some(item),
        }
    }

    /// Items of queues that are being retried wait behind those before them; the others are handed back.
    pub(super) fn join(&self, items: Vec<Queued>) -> Vec<Queued> {
        let mut lanes = self.lock();
        if lanes.is_empty() {
            return items;
        }
        let mut others = Vec::with_capacity(items.len());
        for item in items {
            match lanes.get_mut(&item.request.message.queue) {
                Some(lane) => drop(lane.insert(item.order, item)),
                None => others.push(item),
            }
        }
        others
    }

    /// Takes items whose first attempt failed; the lanes that are new with them, to be run.
    #[must_use]
    pub(super) fn open(&self, failed: impl Iterator<Item = Queued>) -> Vec<Lane> {
        let mut lanes = self.lock();
        let mut new = Vec::new();
        for item in failed {
            match lanes.entry(item.request.message.queue.clone()) {
                hash_map::Entry::Occupied(mut lane) => drop(lane.get_mut().insert(item.order, item)),
                hash_map::Entry::Vacant(vacant) => {
                    new.push(Lane {
                        lanes: self.clone(),
                        queue: vacant.key().clone(),
                        over: false,
                    });
                    vacant.insert(Items::from([(item.order, item)]));
                }
            }
        }
        new
    }
}

/// The retries of one queue. When they end, however that is, the queue is no longer being retried.
#[derive(Debug)]
pub(super) struct Lane {
    lanes: Lanes,
    queue: String,
    over: bool,
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Another lane of this queue may have been opened since it was over.
        if !self.over {
            let left = self.lanes.lock().remove(&self.queue);
            drop(left);
        }
    }
}

impl Lane {
    /// Sends what waits, one batch after the other, until each item has an answer or is out of time.
    pub(super) async fn run(mut self, args: &ClientArgs) {
        let mut wait = FIRST_RETRY;
        tokio::time::sleep(wait).await;
        while let Some(batch) = self.next(&args.broker) {
            let failed = attempt(args, &self.queue, batch, wait).await;
            if failed.is_empty() {
                wait = FIRST_RETRY;
                continue;
            }
            self.back(failed);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_RETRY);
        }
    }

    /// The next batch; `None` when nothing waits: the lane is over.
    fn next(&mut self, broker: &BrokerHandle) -> Option<Vec<Queued>> {
        let now = Instant::now();
        let (late, batch) = {
            let mut lanes = self.lanes.lock();
            let lane = lanes.get_mut(&self.queue)?;
            let (late, mut live): (Items, Items) =
                mem::take(lane).into_iter().partition(|(_, item)| item.deadline <= now);
            if let Some((next, _)) = live.iter().nth(MAX_BATCH as usize) {
                let next = *next;
                *lane = live.split_off(&next);
            }
            if live.is_empty() {
                lanes.remove(&self.queue);
                self.over = true;
            }
            (late, live)
        };
        late.into_values()
            .for_each(|item| item.fail(unavailable(broker), broker));
        (!batch.is_empty()).then(|| batch.into_values().collect())
    }

    fn back(&self, failed: Vec<Queued>) {
        if let Some(lane) = self.lanes.lock().get_mut(&self.queue) {
            lane.extend(failed.into_iter().map(|item| (item.order, item)));
        }
    }
}
