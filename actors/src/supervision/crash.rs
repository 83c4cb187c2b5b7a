//! The wrapper of every supervised actor. It adds a span with the actor's path, and crashes the actor on request, so
//! that tests and applications can see how the system survives crashes under load.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tracing::{Instrument as _, Span};

/// A way to crash an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Crash {
    /// Kills the actor at its next await point.
    Kill = 1,
    /// Makes the actor panic while it handles its next message.
    Panic = 2,
    /// The actor returns an error while it handles its next message.
    Error = 3,
}

/// An actor crashed because it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("crashed on request")]
pub(crate) struct OnRequest;

/// A crash request, which takes effect when the actor handles its next message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fuse(Arc<AtomicU8>);

impl Fuse {
    pub(crate) fn light(&self, crash: Crash) {
        self.0.store(crash as u8, Ordering::Relaxed);
    }

    /// # Panics
    /// If a panic was requested.
    fn check(&self) -> Result<(), ActorProcessingErr> {
        // Almost always there is no request, and the read is cheap.
        if self.0.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let lit = self.0.swap(0, Ordering::Relaxed);
        assert!(lit != Crash::Panic as u8, "{OnRequest}");
        if lit == 0 { Ok(()) } else { Err(Box::new(OnRequest)) }
    }
}

/// An actor with a crash request and a span. Otherwise it behaves as the inner actor.
pub(crate) struct Fused<A> {
    actor: A,
    fuse: Fuse,
    span: Span,
}

impl<A> Fused<A> {
    pub(crate) fn new(actor: A, path: &str, fuse: Fuse) -> Self {
        Self {
            actor,
            fuse,
            span: // Not inside of that of the actor that starts it.
            tracing::debug_span!(parent: None, "actor", path),
        }
    }
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl<A: Actor> Actor for Fused<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(&self, myself: ActorRef<A::Msg>, args: A::Arguments) -> Result<A::State, ActorProcessingErr> {
        let act = self.actor.pre_start(myself, args);
        act.instrument(self.span.clone()).await
    }

    async fn post_start(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        let act = self.actor.post_start(myself, state);
        act.instrument(self.span.clone()).await
    }

    async fn post_stop(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        let act = self.actor.post_stop(myself, state);
        act.instrument(self.span.clone()).await
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.fuse.check()?;
        let act = self.actor.handle(myself, message, state);
        act.instrument(self.span.clone()).await
    }

    #[cfg(feature = "ractor-cluster")]
    async fn handle_serialized(
        &self,
        myself: ActorRef<A::Msg>,
        message: ractor::message::SerializedMessage,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.fuse.check()?;
        let act = self.actor.handle_serialized(myself, message, state);
        act.instrument(self.span.clone()).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.fuse.check()?;
        let act = self.actor.handle_supervisor_evt(myself, event, state);
        act.instrument(self.span.clone()).await
    }
}
