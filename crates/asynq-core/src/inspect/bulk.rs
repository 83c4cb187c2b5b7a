//! Acts on all tasks of a state or group, in steps.

use bytes::Bytes;

use crate::{error::PoisonKind, names::TaskId};

/// Number of ids that one step looks at, at most.
pub const BULK_STEP: u32 = 200;

/// An id in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkEntry {
    /// The score as the storage writes it; empty in a list.
    pub score: Bytes,
    /// The id as the storage has it.
    pub id: Bytes,
}

/// The place where the next step continues. Made by the storage, and opaque to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkPlace {
    /// The entry behind which the next step begins.
    pub after: BulkEntry,
    /// The last entry at the time of the first step, with which the last step ends.
    pub last: BulkEntry,
    /// Number of entries that the steps may still look at.
    pub left: u64,
}

/// The result of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkStep {
    /// Number of tasks that were acted on.
    pub done: u32,
    /// Number of ids that were only removed from the container, because they have no task, or one in another state.
    pub dropped: u32,
    /// The tasks that were quarantined because their data cannot be used.
    pub poisoned: Vec<(TaskId, PoisonKind)>,
    /// The place of the next step; `None`: this was the last one.
    pub next: Option<BulkPlace>,
}

/// The result of all steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkDone {
    /// Number of tasks that were acted on.
    pub done: u64,
    /// Number of ids that were only removed from the container, because they have no task, or one in another state.
    pub dropped: u64,
    /// Number of tasks that were quarantined because their data cannot be used.
    pub poisoned: u64,
}

impl BulkDone {
    /// Adds the result of a step.
    pub fn add(&mut self, step: &BulkStep) {
        self.done += u64::from(step.done);
        self.dropped += u64::from(step.dropped);
        self.poisoned += step.poisoned.len() as u64;
    }
}
