//! Watches on several queues. A queue that cannot be watched does not affect the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use asynq_core::{
    BrokerError, QueueName, Storage,
    broker::{Wake, Watch, WatchKind},
    error::text::report,
};
use futures::future::{join_all, pending, select_all};
use tokio::time::{Instant, timeout};

use crate::per_queue::health::LATE;

/// Interval of the checks while a watch is active.
pub(crate) const SAFETY_POLL: Duration = Duration::from_secs(15);
/// Time for which a queue is left out that could not be watched while others could.
const BLIND: Duration = Duration::from_secs(30);

/// Sets watches, and records the queues that cannot be watched. Cheap to clone; all clones share one record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watcher(Arc<Mutex<HashMap<QueueName, Instant>>>);

/// Watches on some queues.
#[derive(Debug)]
pub(crate) struct Watches {
    watches: Vec<Watch>,
    /// `true` if every queue is watched.
    all: bool,
}

impl Watcher {
    /// Watches the queues with one watch. If this fails, sets one watch for each queue that can be watched. Takes at
    /// most a second.
    pub(crate) async fn watch(&self, storage: &Arc<dyn Storage>, queues: &[QueueName], kind: WatchKind) -> Watches {
        let sighted: Vec<QueueName> = {
            let now = Instant::now();
            let mut blind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            blind.retain(|_, until| *until > now);
            queues
                .iter()
                .filter(|queue| !blind.contains_key(*queue))
                .cloned()
                .collect()
        };
        if sighted.is_empty() {
            return Watches::none();
        }
        match timeout(LATE, storage.watch(&sighted, kind)).await {
            Ok(Ok(watch)) => {
                return Watches {
                    watches: vec![watch],
                    all: sighted.len() == queues.len(),
                };
            }
            // No queue can be watched.
            Ok(Err(BrokerError::Unsupported { .. } | BrokerError::Closed)) => return Watches::none(),
            Ok(Err(error)) => tracing::debug!(error = %report(&error), "no watch, polling"),
            Err(_) => tracing::debug!(within = ?LATE, "no watch, polling"),
        }
        if sighted.len() == 1 {
            return Watches::none();
        }
        let each = sighted
            .iter()
            .map(|queue| timeout(LATE, storage.watch(std::slice::from_ref(queue), kind)));
        let watches: Vec<Option<Watch>> = join_all(each)
            .await
            .into_iter()
            .map(|watch| watch.ok().and_then(Result::ok))
            .collect();
        // If no watch can be set, the fault is not that of one queue.
        if watches.iter().any(Option::is_some) {
            let mut blind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (queue, _) in sighted.into_iter().zip(&watches).filter(|(_, watch)| watch.is_none()) {
                tracing::debug!(%queue, "cannot be watched, polling it");
                blind.insert(queue, Instant::now() + BLIND);
            }
        }
        let watches: Vec<Watch> = watches.into_iter().flatten().collect();
        Watches {
            all: watches.len() == queues.len(),
            watches,
        }
    }
}

impl Watches {
    /// No queue is watched.
    pub(crate) fn none() -> Self {
        Self {
            watches: Vec::new(),
            all: false,
        }
    }

    /// Returns whether every queue is watched. Otherwise the caller must check the queues itself.
    pub(crate) fn are_all(&self) -> bool {
        self.all
    }

    /// Text for the note in the tree.
    pub(crate) fn note(&self) -> &'static str {
        if self.watches.is_empty() { "polling" } else { "watching" }
    }

    /// Waits for the first change; for ever if no queue is watched.
    pub(crate) async fn changed(&mut self) -> Wake {
        match &mut self.watches[..] {
            [] => pending().await,
            [watch] => watch.changed().await,
            watches => {
                select_all(watches.iter_mut().map(|watch| Box::pin(watch.changed())))
                    .await
                    .0
            }
        }
    }
}
