//! The messages of the processor, and the nudge by which others send one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ractor::ActorRef;

use crate::supervision::supervised_ref::SupervisedRef;

/// A message to the processor.
pub(crate) enum ProcessorMsg {
    /// Something ended or may be taken: look.
    Pump,
    /// The watch, the poll or the hold of this generation is over.
    Wake {
        /// Older generations are void.
        generation: u64,
        /// `true` if a watch reported something.
        watched: bool,
    },
}
crate::message!(ProcessorMsg);

/// Tells the processor to look; at most one such message waits in its mailbox.
#[derive(Clone)]
pub(crate) struct Nudge {
    actor: SupervisedRef<ProcessorMsg>,
    pending: Arc<AtomicBool>,
}

impl Nudge {
    pub(crate) fn new() -> Self {
        Self {
            actor: SupervisedRef::new(),
            pending: Arc::default(),
        }
    }

    pub(crate) fn nudge(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) && self.actor.cast(ProcessorMsg::Pump).is_err() {
            self.pending.store(false, Ordering::Release);
        }
    }

    /// Attaches an incarnation of the processor, before its first look at the table: it sees there what ended until
    /// then, and is told of what ends later.
    pub(crate) fn attach(&self, processor: ActorRef<ProcessorMsg>) {
        self.actor.publish(processor);
    }

    pub(crate) fn take(&self) {
        self.pending.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Nudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nudge")
    }
}
