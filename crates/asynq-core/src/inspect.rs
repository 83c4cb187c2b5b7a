//! The administrative side of a task's storage.

use std::fmt;

use async_trait::async_trait;

use crate::{
    cancel::{Cancelled, Then},
    error::{BrokerError, PoisonKind},
    info::{GroupInfo, QueueInfo, SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskInfo, WorkerInfo},
    names::{GroupKey, QueueName, TaskId},
    task_state::TaskState,
    tree::PublishedTree,
};

/// A page of a list. Pages count from 1; out-of-range values are clamped (differences.md#page-numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    number: u32,
    size: u32,
}

impl PageRequest {
    /// Page `number` (from 1) of `size` items (1 to 10 000; Go's default is 30).
    #[must_use]
    pub fn new(number: u32, size: u32) -> Self {
        Self {
            number: number.max(1),
            size: size.clamp(1, 10_000),
        }
    }

    /// The index of the first item.
    #[must_use]
    pub fn start(self) -> u64 {
        u64::from(self.number - 1) * u64::from(self.size)
    }

    /// The number of items.
    #[must_use]
    pub fn size(self) -> u32 {
        self.size
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self::new(1, 30)
    }
}

/// A choice of tasks to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFilter {
    /// All tasks of one state other than aggregating.
    State(TaskState),
    /// The tasks that wait in one group.
    Group(GroupKey),
}

/// A page of tasks.
#[derive(Clone, Debug, Default)]
pub struct TaskPage {
    /// One item for each id on the page, in order. If the data of a task cannot be read, its item has only the id,
    /// the queue, the state and the [damage](TaskInfo::damage).
    pub tasks: Vec<TaskInfo>,
}

impl TaskPage {
    /// The tasks that can be read.
    pub fn readable(&self) -> impl Iterator<Item = &TaskInfo> {
        self.tasks.iter().filter(|task| task.damage.is_none())
    }

    /// The ids whose data cannot be read.
    pub fn poisoned(&self) -> impl Iterator<Item = (&TaskId, PoisonKind)> {
        self.tasks.iter().filter_map(|task| Some((&task.id, task.damage?)))
    }
}

/// The place where an audit continues. Opaque; start with the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub Option<String>);

/// A part of a long answer.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The place where the next page begins; `None`: this was the last one.
    pub next: Option<Cursor>,
}

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

/// The operations of administration: reads, and the actions of an operator. None of them is on the hot path.
#[async_trait]
pub trait Inspect: Send + Sync + fmt::Debug + 'static {
    /// The names of all queues, sorted.
    async fn queues(&self) -> Result<Vec<QueueName>, BrokerError>;

    /// Returns the current numbers of a queue. A counter that is not a number reads as 0, and [`audit`](Self::audit)
    /// reports it.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`].
    async fn queue_info(&self, queue: &QueueName) -> Result<QueueInfo, BrokerError>;

    /// Returns the groups of a queue; empty for an unknown queue. A group is left out if it has no tasks, neither
    /// waiting nor in an aggregation set.
    async fn group_infos(&self, queue: &QueueName) -> Result<Vec<GroupInfo>, BrokerError>;

    /// Returns a page of tasks in the order of Go: pending tasks with the next to run first, active tasks with the
    /// longest active first, all others by ascending time. For a group, only its waiting tasks.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`]; [`BrokerError::GroupRequired`] for
    /// `ListFilter::State(Aggregating)`.
    async fn list_tasks(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        page: PageRequest,
    ) -> Result<TaskPage, BrokerError>;

    /// One task.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`], [`BrokerError::TaskNotFound`], [`BrokerError::Poison`].
    async fn task_info(&self, queue: &QueueName, id: &TaskId) -> Result<TaskInfo, BrokerError>;

    /// Returns the state of one task. The cost is the same for a task of any size, because the call reads neither the
    /// message nor the result. It therefore does not notice whether they can be read.
    ///
    /// # Errors
    /// Those of [`task_info`](Self::task_info), without the ones for a message that cannot be decoded.
    async fn task_state(&self, queue: &QueueName, id: &TaskId) -> Result<TaskState, BrokerError>;

    /// Makes a scheduled, retry, archived or aggregating task pending, as the last in its queue (Go: `RunTask`). Its
    /// unique lock, its message and the counters do not change. A task that waited in a group runs alone, and does
    /// not return to the group when it fails (differences.md#the-group-field). Its latency counts from now
    /// (differences.md#pending-since). A completed task is refused, as Go's documentation says; Go's code runs it
    /// again.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`], [`BrokerError::TaskNotFound`], [`BrokerError::Poison`].
    /// [`BrokerError::WrongState`] for a pending, active or completed task, and for an aggregating task that is
    /// already being aggregated. If an answer was lost and the call is repeated, `WrongState` with `Pending` or
    /// `Active` can mean that the first call succeeded.
    ///
    /// # Cancel safety
    /// The task moves completely or not at all. A call that is dropped may still take effect.
    async fn run_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError>;

    /// Asks the server to end the run of an active task, and then to retry, archive or delete the task. One step
    /// keeps the request with the task and sends it to all servers, as
    /// [`publish_cancellation`](crate::Broker::publish_cancellation) does. A later request for the same run replaces
    /// an earlier one.
    ///
    /// A request that is [kept](Cancelled::Kept) affects only this run, and the step that writes the outcome of the
    /// run carries it out. The task is archived or deleted as requested, unless the run succeeds or revokes its task.
    /// This holds whatever error the handler returns, also if the server shuts down first, and if the server dies and
    /// one of our servers recovers the task. An archived task counts as failed, and a deleted one as processed.
    ///
    /// [`Then::Retry`] has the effect of a plain cancel: the error of the handler decides, and a shutdown gives the
    /// task back. If a Go server recovers the task, it retries the task, and the request ends when one of our servers
    /// takes the task again.
    ///
    /// The run is cancelled at once if its server receives the request. Otherwise it is cancelled at the next
    /// extension of the lease (5 s by default), for as long as the request is kept. A task that is taken but not yet
    /// started does not start. Blocking code that does not check [`is_cancelled`](crate::TaskContext::is_cancelled)
    /// cannot be interrupted, and runs to its end.
    ///
    /// If a Go server has recovered the task of one of our servers that died, the result can be `Kept` although the
    /// Go server retries the task.
    ///
    /// The published request has no queue, as in Go. A run of the same id in another queue is therefore cancelled
    /// too, once, and its task is retried. Extensions repeat the request only for the intended run.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`], [`BrokerError::TaskNotFound`], [`BrokerError::Poison`].
    /// [`BrokerError::WrongState`] for a task that is not active; it does not change, and no request is sent. After a
    /// lost answer the call can be repeated.
    ///
    /// # Cancel safety
    /// The request is kept and sent, or neither. A call that is dropped may still take effect.
    async fn cancel_task(&self, queue: &QueueName, id: &TaskId, then: Then) -> Result<Cancelled, BrokerError>;

    /// Stops all servers, including those of Go, from taking tasks of the queue. Tasks can still be enqueued.
    ///
    /// # Errors
    /// [`BrokerError::AlreadyPaused`].
    async fn pause(&self, queue: &QueueName) -> Result<(), BrokerError>;

    /// Ends a pause.
    ///
    /// # Errors
    /// [`BrokerError::NotPaused`].
    async fn unpause(&self, queue: &QueueName) -> Result<(), BrokerError>;

    /// The servers that live, Go's and ours.
    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError>;

    /// Returns what the living servers are running.
    async fn workers(&self) -> Result<Vec<WorkerInfo>, BrokerError>;

    /// Returns the supervision trees of our living servers, ordered by host, process and server. Trees that cannot be
    /// read are left out.
    async fn trees(&self) -> Result<Vec<PublishedTree>, BrokerError>;

    /// Returns the entries of the living schedulers, Go's and ours. The entries of one scheduler are in the reverse
    /// of the order in which it wrote them, as in Go. Entries that cannot be read are left out, with a warning.
    async fn scheduler_entries(&self) -> Result<Vec<SchedulerEntry>, BrokerError>;

    /// Returns a page of the enqueue events of a scheduler entry, newest first; empty for an unknown entry. Events
    /// that cannot be read are left out, with a warning. In Go, one such event hides all others.
    ///
    /// # Errors
    /// [`BrokerError::WrongType`] when the history is damaged.
    async fn enqueue_events(
        &self,
        entry_id: &str,
        page: PageRequest,
    ) -> Result<Vec<SchedulerEnqueueEvent>, BrokerError>;

    /// Checks the invariants of a queue, a bounded part in each call. Each finding was true at the moment of its own
    /// atomic check.
    async fn audit(&self, queue: &QueueName, cursor: Cursor) -> Result<Page<Breach>, BrokerError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_zero_and_size_zero_are_clamped() {
        let page = PageRequest::new(0, 0);
        assert_eq!((page.start(), page.size()), (0, 1));
        assert_eq!(PageRequest::new(3, 30).start(), 60);
    }
}
