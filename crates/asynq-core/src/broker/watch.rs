//! Wake-ups: watches on queues, and cancel requests.

use super::take::LeaseRef;
use crate::names::TaskId;
use tokio::sync::{mpsc, watch};

/// The subject of a [`Watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// A task can be taken from one of the queues: a task became pending, or the queue was resumed.
    Pending,
    /// The set of delayed tasks (scheduled, retry) of one of the queues changed.
    Delayed,
}

/// The end of a [`Watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The watched keys changed, or were not empty when the watch was set.
    Changed,
    /// The watch is gone (connection lost); look and set a new one.
    Lost,
}

/// A notification of the next change. The watch is set atomically with a check that found nothing.
#[derive(Debug)]
pub struct Watch {
    signal: watch::Receiver<Option<Wake>>,
}

impl Watch {
    /// Returns a watch that ends with the first value sent. Dropping the sender means [`Wake::Lost`].
    #[must_use]
    pub fn new(signal: watch::Receiver<Option<Wake>>) -> Self {
        Self { signal }
    }

    /// Returns a watch that has already ended, because the first check found something.
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
    /// The run to cancel, by the token of its take, if the storage repeats a request that is kept with the task.
    /// `None` means all runs of the id in all queues, because a published request has only the id.
    pub run: Option<LeaseRef>,
}

/// The stream of cancel requests. Ends (`None`) when the connection is lost.
#[derive(Debug)]
pub struct Cancellations(mpsc::Receiver<CancelRequest>);

impl Cancellations {
    /// Requests as they arrive.
    #[must_use]
    pub fn new(requests: mpsc::Receiver<CancelRequest>) -> Self {
        Self(requests)
    }

    /// Returns the next request. `None` means that the subscription is lost and must be made again.
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
