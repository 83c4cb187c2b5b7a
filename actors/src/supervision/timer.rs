//! A message that an actor sends itself later.

use std::time::Duration;

use ractor::{ActorRef, Message};
use tokio::task::AbortHandle;

/// A timer that sends its message unless it is dropped first. Kept in the state of its actor, it ends with the actor.
#[derive(Debug)]
pub(crate) struct Timer(AbortHandle);

impl Timer {
    pub(crate) fn after<M: Message>(
        myself: &ActorRef<M>,
        delay: Duration,
        message: impl FnOnce() -> M + Send + 'static,
    ) -> Self {
        Self(myself.send_after(delay, message).abort_handle())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}
