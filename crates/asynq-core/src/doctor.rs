//! Explanations and repairs of [breaches](Breach).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    breach::Breach,
    keys,
    names::{QueueName, TaskId},
    task_state::TaskState,
};

/// The effect, the cause and the repair of a breach, one sentence each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// Effect on the tasks.
    pub effect: &'static str,
    /// Usual cause.
    pub cause: &'static str,
    /// Repair that [`repair`](crate::Inspect::repair) makes.
    pub repair: &'static str,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.effect, self.cause, self.repair)
    }
}

/// The purpose of a call of [`repair`](crate::Inspect::repair).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairMode {
    /// Looks again at the breaches, and changes nothing.
    Check,
    /// Repairs those that still exist.
    Write,
}

/// The result of a second look at a breach.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// It is repaired, or with [`RepairMode::Check`] would be repaired so.
    Done(Remedy),
    /// It does not exist any more.
    Gone,
    /// It exists, and is left as it is.
    Left(Obstacle),
}

/// The kind of a repair. Each of them is one script.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Remedy {
    /// An id without a task left all containers.
    RemoveId,
    /// Data that cannot be used left the containers and are in quarantine, unchanged.
    Quarantine,
    /// A task that was in no container of its state was put there.
    List(TaskState),
    /// The state of a task was set to that of its container.
    SetState(TaskState),
    /// A task that was in several containers is in one of them, which has this state.
    KeepOne(TaskState),
    /// An active task got a lease that has ended, so that a recoverer retries or archives it.
    AddLease,
    /// A lease without an active task was removed.
    RemoveLease,
    /// A pending task counts as pending from now on.
    SetPendingSince,
    /// `pending_since` left a task that is not pending.
    RemovePendingSince,
    /// A group with tasks was added to the index.
    AddGroup,
    /// A group without tasks left the index.
    RemoveGroup,
    /// An aggregation set was listed again; its tasks return to their group when the set ends.
    ListSet,
    /// A lock without an owner was removed.
    RemoveLock,
    /// The counter of a day ends in 90 days.
    SetLifetime,
    /// A total has no end any more.
    RemoveLifetime,
    /// The queue was added to the index.
    ListQueue,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveId => f.write_str("remove the id"),
            Self::Quarantine => f.write_str("move the data to quarantine"),
            Self::List(state) => write!(f, "list the task as {state}"),
            Self::SetState(state) => write!(f, "set the state to {state}"),
            Self::KeepOne(state) => write!(f, "keep the task only as {state}"),
            Self::AddLease => f.write_str("add a lease that has ended"),
            Self::RemoveLease => f.write_str("remove the lease"),
            Self::SetPendingSince => f.write_str("set pending_since to the present time"),
            Self::RemovePendingSince => f.write_str("remove pending_since"),
            Self::AddGroup => f.write_str("add the group to the index"),
            Self::RemoveGroup => f.write_str("remove the group from the index"),
            Self::ListSet => f.write_str("list the aggregation set"),
            Self::RemoveLock => f.write_str("remove the lock"),
            Self::SetLifetime => f.write_str("let the counter end in 90 days"),
            Self::RemoveLifetime => f.write_str("let the counter have no end"),
            Self::ListQueue => f.write_str("add the queue to the index"),
        }
    }
}

/// The reason for which a breach is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Obstacle {
    /// A key has the wrong type, and its value could be somebody's data.
    WrongType {
        /// The key.
        key: String,
    },
    /// The value of a counter is wrong, and the right one is not known.
    UnknownNumber,
    /// The task is in a set whose aggregation has succeeded, and is about to be deleted.
    BeingDeleted,
    /// The queue has too many aggregation sets to search all of them.
    TooManySets,
    /// The task is in no container that was looked at, and not all groups were. The part of a run that looks at the keys
    /// searches for it everywhere.
    NotSearched,
    /// The message changed during the repair.
    Changed,
    /// An id or name is not UTF-8, so it cannot be given to the repair.
    NotText,
    /// The queue is not in the index, and none of its keys was found again.
    NoKeys,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType { key } => write!(
                f,
                "{key} has the wrong type and could be somebody's data; rename or delete it by hand"
            ),
            Self::UnknownNumber => f.write_str("the right number is not known; clear the counters to begin anew"),
            Self::BeingDeleted => {
                f.write_str("the aggregation of the task has succeeded, and a server deletes it soon")
            }
            Self::TooManySets => f.write_str("too many aggregation sets to search; run again when there are fewer"),
            Self::NotSearched => f.write_str("it is searched for when the keys of the queue are looked at"),
            Self::Changed => f.write_str("its message changed meanwhile; run again"),
            Self::NotText => f.write_str("its name is not UTF-8; remove it by hand"),
            Self::NoKeys => f.write_str("no key of the queue was found again"),
        }
    }
}

/// A breach that a [doctor](crate::Inspect::repair) has seen twice, with the result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The queue.
    pub queue: QueueName,
    /// The breach.
    pub breach: Breach,
    /// Its effect, its cause and its repair.
    pub explanation: Explanation,
    /// The repair that was made or would be made, or the reason for which there is none.
    pub result: Repair,
    /// `true` if the run repairs.
    pub fixed: bool,
}

impl Diagnosis {
    /// Returns a diagnosis.
    #[must_use]
    pub fn new(queue: QueueName, breach: Breach, result: Repair, fixed: bool) -> Self {
        let explanation = breach.explain();
        Self {
            queue,
            breach,
            explanation,
            result,
            fixed,
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue {}: {}. {} ", self.queue, self.breach, self.explanation)?;
        match &self.result {
            Repair::Done(remedy) if self.fixed => write!(f, "Repaired: {remedy}."),
            Repair::Done(remedy) => write!(f, "Not repaired yet: {remedy}."),
            Repair::Gone => f.write_str("It was gone before the repair."),
            Repair::Left(obstacle) => write!(f, "Left as it is: {obstacle}."),
        }
    }
}

/// A part of a run of the doctor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DoctorStep {
    /// The queue that was looked at.
    pub queue: QueueName,
    /// The breaches of this part.
    pub findings: Vec<Diagnosis>,
    /// Number of ids and keys that this part looked at.
    pub looked: u64,
    /// Number of queues that are not done yet.
    pub queues_left: usize,
}

impl DoctorStep {
    /// Returns a part without findings.
    #[must_use]
    pub fn new(queue: QueueName, looked: u64, queues_left: usize) -> Self {
        Self {
            queue,
            findings: Vec::new(),
            looked,
            queues_left,
        }
    }
}

/// The sums of a run of the doctor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DoctorReport {
    /// Number of queues that were looked at to the end.
    pub queues: u64,
    /// Number of ids and keys that were looked at.
    pub looked: u64,
    /// Number of breaches.
    pub found: u64,
    /// Number of those that were repaired.
    pub repaired: u64,
    /// Number of those that are left, because no repair is safe.
    pub left: u64,
    /// Number of breaches that were gone at the second look.
    pub gone: u64,
}

/// The place at which a run of the doctor goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorPlace {
    /// The queues that are left, the present one first.
    pub queues: Vec<String>,
    /// The place in the present queue.
    pub cursor: Option<String>,
}

impl Breach {
    /// Returns the effect, the cause and the repair of this breach.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let (effect, cause, repair) = match self {
            Self::Dangling { .. } => (
                "No server can run what this id stands for, and tools list or count a task that is not there.",
                "Somebody deleted or overwrote the data of the task, or Redis evicted them.",
                "The repair removes the id, and moves data that are left to quarantine.",
            ),
            Self::WrongState { .. } => (
                "Servers go by the container and tools by the state, so they treat the task differently.",
                "A writer changed only one of the two, or a backup was restored in part.",
                "The repair sets the state to that of the container; a task that is not completed leaves the \
                 completed ones for the container of its state, where it is not deleted.",
            ),
            Self::Unlisted { .. } => (
                "No server finds the task, so it never runs and never ends, and its id stays taken.",
                "A container was deleted or evicted, or a writer died between two writes.",
                "The repair puts the task into the container of its state, due now; a task without a known state goes \
                 to quarantine.",
            ),
            Self::Duplicated { .. } => (
                "The task can run twice.",
                "A task was enqueued or moved by a program that did not remove it from its old container.",
                "The repair keeps the task where its state says and removes it from the other containers.",
            ),
            Self::NoLease { .. } => (
                "No recoverer finds the task if its server dies, so it stays active for ever.",
                "A lease was deleted or evicted, or a server of a version without leases took the task.",
                "The repair adds a lease that has ended; a living server extends it, and otherwise the task is retried \
                 or archived.",
            ),
            Self::StaleLease { .. } => (
                "Recoverers look at a task that is not active, again and again.",
                "The id left the active tasks by a program that left its lease behind.",
                "The repair removes the lease, or lists the task again if it is in no container.",
            ),
            Self::PendingSince { .. } => (
                "The latency of the queue is wrong; tasks are not harmed.",
                "A Go server that stops gives tasks back without the time, and some acts of Go's tools do so too.",
                "The repair sets the time to the present one, or removes it from a task that is not pending.",
            ),
            Self::GroupIndex { has_tasks: true, .. } => (
                "No server aggregates the tasks of this group.",
                "A Go server handed a set back to a group that had become empty, or the index was deleted.",
                "The repair adds the group to the index.",
            ),
            Self::GroupIndex { has_tasks: false, .. } => (
                "Servers look at an empty group, and Go's tools list it; tasks are not harmed.",
                "The last task of the group was deleted or run by itself.",
                "The repair removes the group from the index.",
            ),
            Self::UnlistedSet { .. } => (
                "If the server that aggregates these tasks dies, nobody returns them to their group.",
                "The index of aggregation sets was deleted or evicted.",
                "The repair lists the set again, so that its tasks return to their group after two minutes.",
            ),
            Self::OwnerlessLock { .. } => (
                "Tasks with this lock are refused as duplicates until the lock expires.",
                "The task that held the lock was deleted without it.",
                "The repair removes the lock.",
            ),
            Self::Counter { .. } => (
                "Statistics are wrong; tasks are not harmed.",
                "Somebody wrote, reset or restored a counter.",
                "The repair corrects the lifetime; a wrong number stays, because the right one is not known.",
            ),
            Self::UnlistedQueue { .. } => (
                "Tools do not show the queue; servers that are configured for it run its tasks.",
                "The index was deleted, or a producer died before it added the name.",
                "The repair adds the queue to the index.",
            ),
            Self::WrongType { .. } => (
                "Calls that need this key fail, and the tasks behind it wait.",
                "Another program uses the same name for something else.",
                "The repair moves what stands in place of a task to quarantine; any other value stays, because it could be \
                 somebody's data.",
            ),
        };
        Explanation { effect, cause, repair }
    }

    /// Returns the task of the queue that the breach concerns, if it concerns one.
    #[must_use]
    pub fn task(&self, queue: &QueueName) -> Option<TaskId> {
        match self {
            Self::Dangling { id, .. }
            | Self::WrongState { id, .. }
            | Self::Unlisted { id, .. }
            | Self::Duplicated { id, .. }
            | Self::NoLease { id }
            | Self::StaleLease { id }
            | Self::PendingSince { id, .. } => Some(id.clone()),
            Self::WrongType { key, .. } => {
                let id = key.strip_prefix(&keys::of_queue(queue, "t:"))?;
                Some(TaskId::from_storage(id))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_explanation_is_three_sentences() {
        let id = || TaskId::from_storage("a");
        let text = String::new;
        let breaches = [
            Breach::Dangling {
                container: text(),
                id: id(),
                kind: text(),
            },
            Breach::NoLease { id: id() },
            Breach::GroupIndex {
                group: text(),
                has_tasks: true,
            },
            Breach::WrongType {
                key: text(),
                found: text(),
            },
        ];
        for breach in breaches {
            let Explanation { effect, cause, repair } = breach.explain();
            for sentence in [effect, cause, repair] {
                assert!(sentence.ends_with('.') && !sentence.contains("  "), "{sentence}");
            }
        }
    }
}
