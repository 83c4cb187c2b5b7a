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
    /// An item for each id on the page, in order. Where its data cannot be read, the item
    /// [says so](TaskInfo::damage), and nothing else.
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

/// Administration: reads, and what an operator may do. Nothing here is on the hot path.
#[async_trait]
pub trait Inspect: Send + Sync + fmt::Debug + 'static {
    /// The names of all queues, sorted.
    async fn queues(&self) -> Result<Vec<QueueName>, BrokerError>;

    /// A queue at this moment. A counter that is not a number reads as 0;
    /// [`audit`](Self::audit) tells of it.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`].
    async fn queue_info(&self, queue: &QueueName) -> Result<QueueInfo, BrokerError>;

    /// The groups of a queue; empty for an unknown queue. Groups without tasks, waiting or in aggregation sets,
    /// are left out.
    async fn group_infos(&self, queue: &QueueName) -> Result<Vec<GroupInfo>, BrokerError>;

    /// A page of tasks. Order as in Go: pending next-to-run first, active longest first, the
    /// others by ascending time. Of a group those that wait.
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

    /// The state of one task, at the same small cost however large the task is: it reads neither its message nor
    /// its result, and so does not see whether they can be read.
    ///
    /// # Errors
    /// Those of [`task_info`](Self::task_info), without the ones for a message that cannot be decoded.
    async fn task_state(&self, queue: &QueueName, id: &TaskId) -> Result<TaskState, BrokerError>;

    /// Makes a scheduled, retry, archived or aggregating task pending now, at the end of the line (Go:
    /// `RunTask`). Its unique lock, its message and the counters stay as they are. One that waited in a group
    /// runs alone, and does not come back to the group when it fails (differences.md#the-group-field). Its
    /// latency counts from now (differences.md#pending-since). A completed task is refused, as Go documents;
    /// Go's code runs it again.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`], [`BrokerError::TaskNotFound`], [`BrokerError::Poison`];
    /// [`BrokerError::WrongState`] for a pending, active or completed task, and for an aggregating one that
    /// was handed to an aggregator. After a lost answer, `WrongState` with `Pending` or `Active` may mean that
    /// the first call did it.
    ///
    /// # Cancel safety
    /// The task is moved whole or not at all; a dropped call may still be carried out.
    async fn run_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError>;

    /// Asks for the run of an active task to end, and for the task to be retried, archived or deleted then. In one
    /// step the request is kept with the task and all servers are told, as by
    /// [`publish_cancellation`](crate::Broker::publish_cancellation). A later request for the same run overrides an
    /// earlier one.
    ///
    /// What is [kept](Cancelled::Kept) concerns this run alone, and is decided in the step that writes its outcome.
    /// Unless the run succeeds or revokes its task, the task is archived or deleted as was asked for: whatever error
    /// the handler returns, also where the server shuts down first, and where it dies and a server of ours recovers
    /// the task. [`Then::Retry`] decides no more than a cancel without a request: the handler's error counts, and a
    /// shutdown gives the task back. Where a Go server recovers the task, it is retried; the request is over with the
    /// next take by a server of ours. One that is archived counts as failed, as any other; one that is deleted as
    /// processed.
    ///
    /// The run itself is cancelled at once where its server listens, and otherwise with the next extension of the
    /// lease (5 s, by default), for as long as the request is kept. A task that its server has taken and not yet
    /// started is not started. Blocking code that does not check [`is_cancelled`](crate::TaskContext::is_cancelled)
    /// cannot be interrupted, and runs to its end.
    ///
    /// Where a Go server took the task over from a server of ours that died, the request seems to be kept, and
    /// the Go server retries the task.
    ///
    /// As Go's, the message to the servers names no queue: a run of the same id in another queue is cancelled too,
    /// once, and its task is retried. What extensions repeat means the one run alone.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`], [`BrokerError::TaskNotFound`], [`BrokerError::Poison`];
    /// [`BrokerError::WrongState`] for a task that is not active, which is left as it is, and no server is told.
    /// After a lost answer the call may be repeated.
    ///
    /// # Cancel safety
    /// The request is kept and told, or neither; a dropped call may still be carried out.
    async fn cancel_task(&self, queue: &QueueName, id: &TaskId, then: Then) -> Result<Cancelled, BrokerError>;

    /// Stops servers, Go's too, from taking tasks of the queue. Enqueueing goes on.
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

    /// The supervision trees of the living servers of ours, by host, process and server. What cannot be
    /// read is left out.
    async fn trees(&self) -> Result<Vec<PublishedTree>, BrokerError>;

    /// The entries of the living schedulers, Go's and ours; those of one scheduler in the reverse of the
    /// order in which it wrote them, as in Go. What cannot be read is left out, with a warning.
    async fn scheduler_entries(&self) -> Result<Vec<SchedulerEntry>, BrokerError>;

    /// A page of the enqueue events of a scheduler entry, newest first; empty for an unknown entry. What
    /// cannot be read is left out, with a warning: in Go one such event hides all others.
    ///
    /// # Errors
    /// [`BrokerError::WrongType`] when the history is damaged.
    async fn enqueue_events(
        &self,
        entry_id: &str,
        page: PageRequest,
    ) -> Result<Vec<SchedulerEnqueueEvent>, BrokerError>;

    /// Checks the invariants of a queue, a bounded part in each call. Each finding was true at
    /// the moment of its own atomic look.
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
