//! A reference to a supervised actor, which follows its restarts.

use std::{fmt, sync::Arc, time::Duration};

use ractor::{ActorRef, Message};
use tokio::sync::watch;

/// A reference to the newest incarnation of a supervised actor. An [`ActorRef`] is dead after a restart, while this
/// reference follows the restart.
pub struct SupervisedRef<M: Message>(Arc<watch::Sender<Option<ActorRef<M>>>>);

impl<M: Message> SupervisedRef<M> {
    /// A reference to an actor that has not started yet; see
    /// [`ChildSpec::published`](crate::supervisor::ChildSpec::published).
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(crate) fn publish(&self, actor: ActorRef<M>) {
        self.0.send_replace(Some(actor));
    }

    /// Returns the newest incarnation, alive or not; `None` before the first start.
    #[must_use]
    pub fn get(&self) -> Option<ActorRef<M>> {
        self.0.borrow().clone()
    }

    /// Sends to the newest incarnation.
    ///
    /// # Errors
    /// Returns the message as an error if there is no live incarnation.
    pub fn cast(&self, message: M) -> Result<(), M> {
        match self.get() {
            Some(actor) => match actor.send_message(message) {
                Ok(()) => Ok(()),
                Err(ractor::MessagingErr::SendErr(message)) => Err(message),
                // The downcast cannot fail, because the type is that of this reference, and the channel returns
                // refused messages.
                Err(_) => unreachable!("a typed reference refuses no message type"),
            },
            None => Err(message),
        }
    }

    /// Waits until an incarnation newer than `than` is published. Returns `false` when `within` is over.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn newer(&self, than: Option<ractor::ActorId>, within: Duration) -> bool {
        let mut changes = self.0.subscribe();
        let fresh = changes.wait_for(|now| now.as_ref().map(|actor| actor.get_id()) != than);
        matches!(tokio::time::timeout(within, fresh).await, Ok(Ok(_)))
    }
}

impl<M: Message> Default for SupervisedRef<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Message> Clone for SupervisedRef<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Message> fmt::Debug for SupervisedRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SupervisedRef({:?})", self.get().map(|actor| actor.get_id()))
    }
}
