//! Queues that are not in the index of queues yet.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::{error::BrokerError, names::QueueName};
use tokio::time::Instant;

/// Interval at which a lasting failure is reported.
const REPORT_EVERY: Duration = Duration::from_secs(30);
/// Largest number of names that wait for the index. Those of a program are few.
const MOST_UNPUBLISHED: usize = 1000;

/// Names of queues that could not be put into the index. In a cluster it may be on a node that is away while
/// the queues are not.
#[derive(Debug, Default)]
pub(crate) struct Unpublished(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    names: BTreeSet<QueueName>,
    reported: Option<Instant>,
}

impl Unpublished {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn names(&self) -> BTreeSet<QueueName> {
        self.waiting().names.clone()
    }

    pub(crate) fn forget(&self, published: &BTreeSet<QueueName>) {
        if !published.is_empty() {
            self.waiting().names.retain(|name| !published.contains(name));
        }
    }

    pub(crate) fn keep<'q>(&self, names: impl Iterator<Item = &'q QueueName>, error: &BrokerError) {
        let mut waiting = self.waiting();
        for name in names {
            if waiting.names.len() < MOST_UNPUBLISHED && !waiting.names.contains(name) {
                waiting.names.insert(name.clone());
            }
        }
        if waiting.reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
            waiting.reported = Some(Instant::now());
            tracing::warn!(
                %error, queues = waiting.names.len(),
                "the names of queues could not be published; they are published with the next task",
            );
        }
    }
}
