//! One entry: a task that is ours, and the step in which it stands.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use asynq_core::{
    QueueName, TaskId, TaskMessage,
    broker::{LEASE, LeaseRef, LeaseUntil, Outcome},
    clock::Reading,
};
use chrono::{DateTime, Utc};
use tokio::{sync::OwnedSemaphorePermit, task::AbortHandle, time::Instant};

use super::{cancel::Cancel, validity::Validity};

/// Largest distance by which an extension under way may exceed the lease that is known. A settle that overtakes the
/// answer of an extension must not be taken for a zombie's. It is below the earliest lease of another owner, which
/// is written 30 s after ours ended at the soonest.
const FENCE_SLACK: Duration = Duration::from_secs(15);

/// The queue and the id of a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) QueueName, pub(crate) TaskId);

impl Key {
    pub(super) fn of(lease: &LeaseRef) -> Self {
        Self(lease.queue.clone(), lease.id.clone())
    }
}

impl Hash for Key {
    /// By the id alone: few ids stand in two queues, and each task is looked up several times.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.1.hash(state);
    }
}

/// The place of a task that was taken ahead of a slot.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) since: Instant,
    /// `None` where its call was late, and gave up what it held.
    place: Option<OwnedSemaphorePermit>,
}

impl Ahead {
    pub(super) fn new(place: Option<OwnedSemaphorePermit>, since: Instant) -> Self {
        Self { since, place }
    }

    pub(super) fn has_place(&self) -> bool {
        self.place.is_some()
    }
}

/// The step of an entry.
#[derive(Debug)]
pub(super) enum Phase {
    Leased {
        permit: Option<OwnedSemaphorePermit>,
        /// Set where it was taken ahead of a slot.
        ahead: Option<Ahead>,
    },
    Running {
        abort: Option<AbortHandle>,
    },
    Finished {
        outcome: Outcome,
        at: Instant,
        attempts: u32,
    },
    Claimed {
        call: u64,
        outcome: Outcome,
        at: Instant,
        attempts: u32,
        /// Lease with which it was sent.
        fence: LeaseUntil,
    },
}

/// A task that is ours.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: Arc<TaskMessage>,
    /// `until` is the fence: no lease of ours is above it.
    pub(super) lease: LeaseRef,
    /// The lease that is known to stand.
    pub(super) valid: Validity,
    pub(super) phase: Phase,
    pub(super) cancel: Cancel,
    pub(super) order: u64,
    pub(super) started_at: DateTime<Utc>,
    pub(super) deadline: DateTime<Utc>,
    /// Time from which on the task was pending, if it is known.
    pub(super) pending_since: Option<DateTime<Utc>>,
    /// Start of the run, as the clock's steady time.
    pub(super) began: Duration,
    /// End of the run, where it is recorded.
    pub(super) ended_at: Option<DateTime<Utc>>,
    /// The task's own deadline, where that of its message is floored.
    pub(super) exact: Option<DateTime<Utc>>,
    pub(super) poisoned: bool,
    /// The fences with which results were sent that are on their way.
    pub(super) writes: Vec<LeaseUntil>,
}

impl Entry {
    /// Returns whether an extension now would raise the lease above the fence of an outcome or a result that is
    /// on its way. Extensions travel apart, so it could overtake that one, which would be taken for a zombie's
    /// then.
    pub(super) fn would_overtake(&self, now: DateTime<Utc>) -> bool {
        let next = LeaseUntil::from_now(now);
        let claimed = match self.phase {
            Phase::Claimed { fence, .. } => Some(fence),
            _ => None,
        };
        self.writes.iter().copied().chain(claimed).any(|fence| fence < next)
    }

    /// Returns whether it was taken ahead of a slot and waits under a lease that lasts. It starts or goes back within
    /// [`AHEAD`](super::permits::AHEAD), long before its lease of 30 s needs an extension; and a lease that was never
    /// extended shows others, should this server die, that the task was never started. What waits longer, as one that
    /// is to be cancelled, is extended from the middle of its lease on.
    pub(super) fn waits_ahead(&self, at: &Reading) -> bool {
        matches!(self.phase, Phase::Leased { ahead: Some(_), .. }) && self.valid.left_at(at.steady) > LEASE / 2
    }

    /// A lease is known to have been written.
    pub(super) fn extend(&mut self, until: LeaseUntil) {
        self.valid.extend(until);
        self.lease.until = self.lease.until.max(until);
    }

    /// The claim to send: while the lease stands, extensions may be on their way.
    pub(super) fn fenced(&mut self, at: &Reading) -> LeaseRef {
        if self.valid.stands_at(at.steady) {
            let above = LeaseUntil((at.now + LEASE + FENCE_SLACK).timestamp());
            self.lease.until = self.lease.until.max(above);
        }
        self.lease.clone()
    }
}
