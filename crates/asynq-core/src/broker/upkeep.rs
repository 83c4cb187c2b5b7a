//! Values of maintenance: tasks to recover, to forward, to repair.

use super::take::{EndedRun, LEASE, LeaseUntil, Outcome, Poison};
use crate::{
    message::TaskMessage,
    names::{GroupKey, QueueName, TaskId},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;

/// Time between the end of a lease and the recovery of its task (Go: recoverer.go).
pub const RECOVER_GRACE: Duration = Duration::from_secs(30);
/// Time until the next attempt to move a due task or an old aggregation set that cannot move because the key of its
/// group holds another type.
pub const PUT_OFF: Duration = Duration::from_secs(60);
/// Number of times that a task which may never have started is given back without counting a failure. There is a
/// limit because a task that ends its process as soon as it runs looks the same.
pub const MAX_UNSTARTED: u32 = 3;

/// A task whose lease ended [`RECOVER_GRACE`] ago.
#[derive(Clone, Debug)]
pub struct ExpiredTask {
    /// The queue it was found in.
    pub queue: QueueName,
    /// The task.
    pub message: Arc<TaskMessage>,
    /// The score of the lease when the task was listed. Recovery is refused if the score has changed.
    pub until: LeaseUntil,
    /// `true` if the task may never have started. This holds for a task that a server of this library took, whose
    /// lease is still that of the take, and that was given back for this reason fewer than [`MAX_UNSTARTED`] times.
    /// Its owner held it for less than a heartbeat before the owner hung or died. `false` for tasks that Go servers
    /// took.
    pub unstarted: bool,
    /// Time at which a server of this library took the task, in whole seconds. `None` if the last owner was a Go
    /// server. The record of the lost run shows it as the start.
    pub taken: Option<DateTime<Utc>>,
}

impl ExpiredTask {
    /// Returns the time at which a task was taken whose token names this lease; `None` if the task has failed since,
    /// so that a Go server recovered and took it.
    #[must_use]
    pub fn taken_by(lease: LeaseUntil, message: &TaskMessage) -> Option<DateTime<Utc>> {
        let taken = lease.0.checked_sub(LEASE.as_secs().cast_signed())?;
        let is_its_run = message.last_failed_at < lease.0;
        DateTime::from_timestamp(taken, 0).filter(|_| is_its_run)
    }

    /// Returns the lost run, for the [record](crate::Runs) of the task.
    #[must_use]
    pub fn lost_run(&self) -> EndedRun {
        EndedRun {
            server: None,
            started: self.taken,
            ended: None,
        }
    }
}

/// The answer of [`Broker::expired`](super::Broker::expired).
#[derive(Debug, Default)]
pub struct Expired {
    /// Tasks to recover.
    pub tasks: Vec<ExpiredTask>,
    /// Tasks that do not decode, which were quarantined.
    pub poisoned: Vec<Poison>,
    /// `true` if there are more tasks behind the checked ones.
    pub more: bool,
    /// The place to continue from.
    pub next: ExpiredPlace,
}

/// A place among the leases that ended, after which [`Broker::expired_after`](super::Broker::expired_after)
/// continues. The default is the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpiredPlace(pub(crate) Option<(String, Bytes)>);

impl ExpiredPlace {
    /// Returns the place behind a lease, given by its score and id in the form of the storage.
    #[must_use]
    pub fn behind(score: impl Into<String>, id: impl Into<Bytes>) -> Self {
        Self(Some((score.into(), id.into())))
    }

    /// The score and the id of the lease; `None` at the start.
    #[must_use]
    pub fn lease(&self) -> Option<(&str, &[u8])> {
        self.0.as_ref().map(|(score, id)| (score.as_str(), &id[..]))
    }
}

/// A request to recover an expired task.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The task as found.
    pub task: ExpiredTask,
    /// [`Outcome::Retry`], [`Outcome::Archive`] or [`Outcome::Requeue`]. A requeue counts as one more [start that did
    /// not happen](ExpiredTask::unstarted). `Done` is refused.
    pub outcome: Outcome,
}

/// The answer of [`Broker::forward`](super::Broker::forward).
#[derive(Debug, Default)]
pub struct Forwarded {
    /// Number of tasks that became pending or joined their group.
    pub moved: u32,
    /// `true` if the call's bound was reached and more are due.
    pub more: bool,
    /// Due time of the next task of the queue: to the millisecond within this second, otherwise to the second.
    pub next_due: Option<DateTime<Utc>>,
    /// Ids without a usable task, which were quarantined or dropped.
    pub poisoned: Vec<Poison>,
    /// Tasks that cannot join their group because its key holds another type. They are due again after [`PUT_OFF`].
    pub put_off: Vec<TaskId>,
}

/// The repairs of one call of [`Broker::heal`](super::Broker::heal).
#[derive(Debug, Default)]
pub struct Healed {
    /// Active tasks that had no lease, and got one that ends now (differences.md#active-without-a-lease).
    pub leased: Vec<TaskId>,
    /// Leases without an active task, removed.
    pub stale_leases: Vec<TaskId>,
    /// Groups that were missing from the index (differences.md#groups-handed-back,
    /// differences.md#groups-of-forwarded-tasks).
    pub regrouped: Vec<GroupKey>,
    /// Keys of aggregation sets that no index contained. They are listed again for one
    /// [`AGGREGATION_SET_LIFETIME`](super::AGGREGATION_SET_LIFETIME), and then handed back to their groups.
    pub relisted_sets: Vec<String>,
    /// Tasks that were in no container, or in one that contradicts their state. Each is now only in the container of
    /// its state.
    pub relisted: Vec<TaskId>,
    /// Keys of unique locks whose owner has no task, removed.
    pub unlocked: Vec<String>,
    /// Ids without a usable task, which were quarantined or dropped (differences.md#ids-without-a-hash,
    /// differences.md#poison-messages).
    pub poisoned: Vec<Poison>,
}

impl Healed {
    /// Returns whether there was nothing to repair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leased.is_empty()
            && self.stale_leases.is_empty()
            && self.regrouped.is_empty()
            && self.relisted_sets.is_empty()
            && self.relisted.is_empty()
            && self.unlocked.is_empty()
            && self.poisoned.is_empty()
    }
}
