//! Breaches of the invariants of the layout.

use std::fmt;

use crate::names::{QueueName, TaskId};

/// An invariant of the layout that does not hold (layout.md#invariants).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Breach {
    /// An id in a container has no usable task behind it.
    Dangling {
        /// The container's key.
        container: String,
        /// The id.
        id: TaskId,
        /// The kind of damage.
        kind: String,
    },
    /// The hash says another state than the container it stands in.
    WrongState {
        /// The container's key.
        container: String,
        /// The id.
        id: TaskId,
        /// The state in the hash.
        state: String,
    },
    /// A task hash stands in no container.
    Unlisted {
        /// The id.
        id: TaskId,
        /// The state in the hash.
        state: String,
    },
    /// An id stands in more than one container, or twice in one.
    Duplicated {
        /// The id.
        id: TaskId,
        /// The containers' keys.
        containers: Vec<String>,
    },
    /// An active task has no lease.
    NoLease {
        /// The id.
        id: TaskId,
    },
    /// A lease has no active task.
    StaleLease {
        /// The id.
        id: TaskId,
    },
    /// `pending_since` is missing on a pending task, or present on another.
    PendingSince {
        /// The id.
        id: TaskId,
        /// The state in the hash.
        state: String,
    },
    /// A group has tasks and is not in the index, or is in the index and has none.
    GroupIndex {
        /// The group.
        group: String,
        /// `true` if it has tasks.
        has_tasks: bool,
    },
    /// An aggregation set is not listed.
    UnlistedSet {
        /// The set's key.
        set: String,
    },
    /// A unique lock holds an id that has no task.
    OwnerlessLock {
        /// The lock's key.
        lock: String,
        /// The id in it.
        id: String,
    },
    /// Counters contradict each other or have the wrong lifetime.
    Counter {
        /// The counter's key.
        key: String,
        /// The fault.
        problem: String,
    },
    /// The queue has keys but is missing from the index of queues.
    UnlistedQueue {
        /// The queue.
        queue: QueueName,
    },
    /// A key holds another type than the layout says.
    WrongType {
        /// The key.
        key: String,
        /// The type found.
        found: String,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dangling { container, id, kind } => write!(f, "{container}: id {id}: {kind}"),
            Self::WrongState { container, id, state } => write!(f, "{container}: id {id} has state {state:?}"),
            Self::Unlisted { id, state } => write!(f, "task {id} with state {state:?} stands in no container"),
            Self::Duplicated { id, containers } => write!(f, "task {id} stands in {}", containers.join(" and ")),
            Self::NoLease { id } => write!(f, "active task {id} has no lease"),
            Self::StaleLease { id } => write!(f, "lease of {id} has no active task"),
            Self::PendingSince { id, state } => write!(f, "task {id}: pending_since does not fit state {state:?}"),
            Self::GroupIndex { group, has_tasks: true } => write!(f, "group {group:?} is not in the index"),
            Self::GroupIndex {
                group,
                has_tasks: false,
            } => write!(f, "group {group:?} in the index is empty"),
            Self::UnlistedSet { set } => write!(f, "aggregation set {set} is not listed"),
            Self::OwnerlessLock { lock, id } => write!(f, "lock {lock} is held by {id:?}, which has no task"),
            Self::Counter { key, problem } => write!(f, "counter {key}: {problem}"),
            Self::UnlistedQueue { queue } => write!(f, "queue {queue:?} is not in the index of queues"),
            Self::WrongType { key, found } => write!(f, "key {key} is a {found}"),
        }
    }
}
