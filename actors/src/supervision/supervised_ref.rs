//! A place where the live incarnation of an actor is found.

use std::{fmt, sync::Arc, time::Duration};

use ractor::{ActorRef, Message};
use tokio::sync::watch;

/// Holds the newest incarnation of a supervised actor. After a restart old references are dead;
/// this follows.
pub struct Slot<M: Message>(Arc<watch::Sender<Option<ActorRef<M>>>>);

impl<M: Message> Slot<M> {
    /// An empty slot.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(crate) fn publish(&self, actor: ActorRef<M>) {
        self.0.send_replace(Some(actor));
    }

    /// The newest incarnation, alive or not; `None` before the first start.
    #[must_use]
    pub fn get(&self) -> Option<ActorRef<M>> {
        self.0.borrow().clone()
    }

    /// Sends to the newest incarnation.
    ///
    /// # Errors
    /// The message itself when there is no live incarnation.
    pub fn cast(&self, message: M) -> Result<(), M> {
        match self.get() {
            Some(actor) => match actor.send_message(message) {
                Ok(()) => Ok(()),
                Err(ractor::MessagingErr::SendErr(message)) => Err(message),
                // The type is fixed by the slot and the channel hands refused messages back.
                Err(_) => unreachable!("a typed reference refuses no message type"),
            },
            None => Err(message),
        }
    }

    /// Waits until a newer incarnation than `than` is published; `false` when `within` is over.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn newer(&self, than: Option<ractor::ActorId>, within: Duration) -> bool {
        let mut changes = self.0.subscribe();
        let fresh = changes.wait_for(|now| now.as_ref().map(|actor| actor.get_id()) != than);
        matches!(tokio::time::timeout(within, fresh).await, Ok(Ok(_)))
    }
}

impl<M: Message> Default for Slot<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Message> Clone for Slot<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Message> fmt::Debug for Slot<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({:?})", self.get().map(|actor| actor.get_id()))
    }
}
