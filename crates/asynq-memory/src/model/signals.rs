//! Signals, which wake those that watch a queue when it changes.

use asynq_core::broker::Wake;
use tokio::sync::watch;

/// The sending side of one [`Watch`](asynq_core::broker::Watch).
#[derive(Clone, Debug)]
pub(crate) struct Waker {
    /// The connection that it belongs to.
    pub connection: u64,
    /// Shared by all queues that the watch looks at.
    pub signal: watch::Sender<Option<Wake>>,
}

impl Waker {
    fn waits(&self) -> bool {
        !self.signal.is_closed() && self.signal.borrow().is_none()
    }
}

/// The watches on one thing. A watch is told once.
#[derive(Debug, Default)]
pub(crate) struct Signals(Vec<Waker>);

impl Signals {
    /// Leaves a watch, and forgets those that nobody waits for any more.
    pub(crate) fn arm(&mut self, waker: Waker) {
        self.0.retain(Waker::waits);
        self.0.push(waker);
    }

    /// Wakes all.
    pub(crate) fn fire(&mut self) {
        for waker in self.0.drain(..) {
            waker
                .signal
                .send_if_modified(|value| value.is_none().then(|| *value = Some(Wake::Changed)).is_some());
        }
    }

    /// Ends the watches of a connection that is gone.
    pub(crate) fn lose(&mut self, connection: u64) {
        self.0.retain(|waker| {
            if waker.connection == connection {
                waker
                    .signal
                    .send_if_modified(|value| value.is_none().then(|| *value = Some(Wake::Lost)).is_some());
            }
            waker.connection != connection && waker.waits()
        });
    }
}
