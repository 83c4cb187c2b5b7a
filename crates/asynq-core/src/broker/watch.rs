//! Wake-ups: watches on queues, and cancel requests.

use super::take::LeaseRef;
use crate::names::TaskId;
use tokio::sync::{mpsc, watch};

/// The subject of a [`Watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// A task may be taken from one of the queues: pushed, or the queue was unpaused.
    Pending,
    /// The set of delayed tasks (scheduled, retry) of one of the queues changed.
    Delayed,
}

/// The end of a [`Watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Something changed, or was there already when the watch was set.
    Changed,
    /// The watch is gone (connection lost); look and set a new one.
    Lost,
}

/// A promise to be told when something changes, set atomically with a look that found nothing.
#[derive(Debug)]
pub struct Watch {
    signal: watch::Receiver<Option<Wake>>,
}

impl Watch {
    /// A watch that ends with the first value sent; dropping the sender means [`Wake::Lost`].
    #[must_use]
    pub fn new(signal: watch::Receiver<Option<Wake>>) -> Self {
        Self { signal }
    }

    /// A watch that has ended: there was something at the first look.
    #[must_use]
    pub fn ready() -> Self {
        Self {
            signal: watch::channel(Some(Wake::Changed)).1,
        }
    }

    /// Waits for the change.
    ///
    /// # Cancel safety
    /// Safe; the change is still there for the next call.
    pub async fn changed(&mut self) -> Wake {
        match self.signal.wait_for(Option::is_some).await {
            Ok(value) => value.unwrap_or(Wake::Lost),
            Err(_) => Wake::Lost,
        }
    }
}

/// A request to cancel the runs of a task.
#[derive(Clone, Debug)]
pub struct CancelRequest {
    /// The task.
    pub id: TaskId,
    /// The one run that is meant, by the claim on it, where the storage repeats a request that is kept with its
    /// task. `None`: all runs of the id, in all queues; what is published says no more.
    pub run: Option<LeaseRef>,
}

/// The requests to cancel that arrive. Ends (`None`) when the connection is lost.
#[derive(Debug)]
pub struct Cancellations(mpsc::Receiver<CancelRequest>);

impl Cancellations {
    /// Requests as they arrive.
    #[must_use]
    pub fn new(requests: mpsc::Receiver<CancelRequest>) -> Self {
        Self(requests)
    }

    /// The next request; `None` when the subscription is gone and must be made anew.
    ///
    /// # Cancel safety
    /// Safe: no request is lost.
    pub async fn request(&mut self) -> Option<CancelRequest> {
        self.0.recv().await
    }

    /// The id of the next [request](Self::request).
    ///
    /// # Cancel safety
    /// Safe: no request is lost.
    pub async fn next(&mut self) -> Option<TaskId> {
        self.request().await.map(|request| request.id)
    }
}
