//! The subscriptions to cancel requests that a broker serves.

use std::sync::{Mutex, MutexGuard, PoisonError};

use asynq_core::broker::{CancelRequest, LeaseRef};
use tokio::sync::mpsc;

/// The subscriptions of a broker, which are told of a request again for as long as it is kept with its task.
#[derive(Debug, Default)]
pub(crate) struct CancelSubscriptions(Mutex<Vec<mpsc::WeakSender<CancelRequest>>>);

impl CancelSubscriptions {
    fn lock(&self) -> MutexGuard<'_, Vec<mpsc::WeakSender<CancelRequest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, requests: &mpsc::Sender<CancelRequest>) {
        let mut all = self.lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(requests.downgrade());
    }

    /// Tells all of them but those that are behind: the next time comes soon. Only the run with this claim is
    /// meant.
    pub(crate) fn repeat(&self, lease: &LeaseRef) {
        for requests in self.lock().iter().filter_map(mpsc::WeakSender::upgrade) {
            let _ = requests.try_send(CancelRequest {
                id: lease.id.clone(),
                run: Some(lease.clone()),
            });
        }
    }
}
