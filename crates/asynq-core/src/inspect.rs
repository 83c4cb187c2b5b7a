//! The administrative side of a task's storage.

mod bulk;
mod scan;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

pub use crate::breach::Breach;

pub use self::{
    bulk::{BULK_STEP, BulkDone, BulkEntry, BulkPlace, BulkStep},
    scan::{ActedOn, ListedPlace, SCAN_STEP, ScanLimits, ScanPlace, ScanStep, ScannedTask, SearchPlace, TaskMark},
};
use crate::{
    act::Act,
    cancel::{Cancelled, Then},
    doctor::{Repair, RepairMode},
    error::{BrokerError, PoisonKind},
    findings::{QueueFacts, StorageFacts},
    info::{DailyStats, GroupInfo, QueueInfo, SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskInfo, WorkerInfo},
    names::{GroupKey, QueueName, TaskId},
    statistics::{QueueStatistics, TimeRange},
    task_state::TaskState,
    trail::TrailEntry,
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

/// Largest number of days that [`Inspect::history`] returns. The counter of a day is kept for 90 days.
pub const MAX_HISTORY_DAYS: u32 = 366;

/// A choice of tasks to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFilter {
    /// All tasks of one state other than aggregating.
    State(TaskState),
    /// The tasks that wait in one group.
    Group(GroupKey),
}

impl ListFilter {
    /// The state of the tasks.
    #[must_use]
    pub fn state(&self) -> TaskState {
        match self {
            Self::State(state) => *state,
            Self::Group(_) => TaskState::Aggregating,
        }
    }

    /// Refuses an act that is not possible for these tasks of a queue.
    ///
    /// # Errors
    /// [`BrokerError::GroupRequired`], [`BrokerError::WrongAct`].
    pub fn must_allow(&self, act: Act, queue: &QueueName) -> Result<(), BrokerError> {
        let (queue, state) = (queue.clone(), self.state());
        if *self == Self::State(TaskState::Aggregating) {
            Err(BrokerError::GroupRequired { queue })
        } else if act.applies_to(state) {
            Ok(())
        } else {
            Err(BrokerError::WrongAct { queue, act, state })
        }
    }
}

/// A node of a Redis cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its id.
    pub id: String,
    /// Its `host:port`, as the cluster announces it. The host is empty if the cluster does not know it.
    pub address: String,
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

/// The place where a long answer continues. Opaque; start with the default.
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

/// A part of an audit.
#[derive(Clone, Debug, Default)]
pub struct AuditPage {
    /// The breaches that this part found.
    pub items: Vec<Breach>,
    /// The place where the next part begins; `None`: this was the last one.
    pub next: Option<Cursor>,
    /// Number of ids and keys that this part looked at.
    pub looked: u64,
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

    /// Returns the processed and failed tasks of each of the last `days` days (UTC), today first. A day without a
    /// counter, or with one that is not a number, has 0. `days` is clamped to 1 to [`MAX_HISTORY_DAYS`]
    /// (differences.md#page-numbers).
    ///
    /// Cost: one `MGET` of two keys for each day, and one `SISMEMBER`.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`].
    async fn history(&self, queue: &QueueName, days: u32) -> Result<Vec<DailyStats>, BrokerError>;

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

    /// Returns one task, with its [runs](TaskInfo::runs). Lists have no runs, so that the cost of a page does not grow
    /// with them.
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

    /// Archives a pending, scheduled, retry or aggregating task (Go: `ArchiveTask`). Its message, its unique lock and
    /// the counters do not change: it gets no error text, and does not count as failed. A task that waited in a
    /// group does not return to the group (differences.md#the-group-field). The archive is trimmed as by a server:
    /// tasks older than 90 days and those beyond 9,999 are deleted, with their hashes and locks
    /// (differences.md#archive-trimming). A completed task is refused, as Go's documentation says; Go's code
    /// archives it.
    ///
    /// Cost: two round trips, and one script in O(log n). For a pending task the script walks through `pending`, O(n):
    /// about 15 ms for a million tasks.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`], [`BrokerError::TaskNotFound`], [`BrokerError::Poison`].
    /// [`BrokerError::WrongState`] for an active, archived or completed task, and for an aggregating task that is
    /// already being aggregated. If an answer was lost and the call is repeated, `WrongState` with `Archived` can mean
    /// that the first call succeeded.
    ///
    /// # Cancel safety
    /// The task moves completely or not at all. A call that is dropped may still take effect.
    async fn archive_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError>;

    /// Deletes a task that is not active, in whatever other state (Go: `DeleteTask`), with its result. Its unique lock
    /// is freed if the lock still holds the task's id. Nothing is counted.
    ///
    /// The remains of a damaged task are deleted too: an id without a hash, a hash without a message or without a
    /// state, a key of another type, and a task that is not in the container of its state. An id without a hash is
    /// searched for in the containers of all states, and in the groups if the queue has at most 200 of them.
    ///
    /// Cost: two round trips, and one script in O(log n). For a pending or damaged task, and for an id without a hash,
    /// the script walks through `pending`, O(n): about 15 ms for a million tasks.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`]; [`BrokerError::TaskNotFound`] if there is neither a task nor an id;
    /// [`BrokerError::WrongState`] for an active task, for which see [`cancel_task`](Self::cancel_task), and for one
    /// that is already being aggregated. If an answer was lost and the call is repeated, `TaskNotFound` can mean that
    /// the first call succeeded.
    ///
    /// # Cancel safety
    /// The task is deleted completely or not at all. A call that is dropped may still take effect.
    async fn delete_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError>;

    /// Replaces the payload of a scheduled task (Go: `UpdateTaskPayload`). Nothing else of the task changes. Its unique
    /// lock, if it has one, keeps the name of the old payload, as in Go. If the message changes between the read and
    /// the write, it is read again; Go overwrites it.
    ///
    /// Cost: two round trips, which carry the message twice each.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`], [`BrokerError::TaskNotFound`], [`BrokerError::Poison`];
    /// [`BrokerError::WrongState`] for a task that is not scheduled. [`BrokerError::Busy`] if others change the message
    /// all the time.
    ///
    /// # Cancel safety
    /// The payload is replaced or not. A call that is dropped may still take effect, and can be repeated.
    async fn update_task_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), BrokerError>;

    /// Changes the time at which a task is due that is scheduled or waits for its retry, in one step. An archived task
    /// becomes scheduled for that time. A time that has passed makes the task due now. Go has no such operation.
    ///
    /// Message and counters do not change. The unique lock of a scheduled task lives for its time from when the task is
    /// due, so the end of the lock moves with the task; it lives at least one second more. Other locks do not change.
    ///
    /// Cost: two round trips, and one script in O(log n).
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`], [`BrokerError::TaskNotFound`], [`BrokerError::Poison`];
    /// [`BrokerError::WrongState`] for a task in another state.
    ///
    /// # Cancel safety
    /// The task moves completely or not at all. A call that is dropped may still take effect. It can be repeated, but a
    /// repeated call moves the end of the lock only once.
    async fn reschedule_task(&self, queue: &QueueName, id: &TaskId, at: DateTime<Utc>) -> Result<(), BrokerError>;

    /// Deletes the counters of a queue: processed and failed tasks of today (UTC) and in total. The counters of other
    /// days stay. Go has no such operation.
    ///
    /// Cost: one `DEL` of four keys, and one `SISMEMBER`.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`].
    ///
    /// # Cancel safety
    /// All four are deleted or none. A call that is dropped may still take effect.
    async fn clear_counters(&self, queue: &QueueName) -> Result<(), BrokerError>;

    /// Returns the slot of all keys of a queue in a Redis cluster (Go: `ClusterKeySlot`). The slot is computed, without
    /// a call to Redis.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] if the storage is not a cluster.
    async fn cluster_key_slot(&self, queue: &QueueName) -> Result<u16, BrokerError>;

    /// Returns the nodes of a Redis cluster that have the keys of a queue, the master first (Go: `ClusterNodes`). Empty
    /// if no node serves the slot, for which Go returns an error.
    ///
    /// Cost: one `CLUSTER SLOTS`.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] if the storage is not a cluster.
    async fn cluster_nodes(&self, queue: &QueueName) -> Result<Vec<ClusterNode>, BrokerError>;

    /// Runs, archives or deletes a part of the tasks of one state or group: at most [`BULK_STEP`] of them, in the order
    /// in which they are listed. `None` begins, and [`BulkStep::next`] continues. For the whole see
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// The first step notes the last task of the container, and the last step ends with it. Tasks that are added
    /// meanwhile before that place are included, and others are not. The steps end in any case: those on a list when
    /// they have looked at as many ids as it had at first, and others at twice as many. A task that moved meanwhile is
    /// not touched.
    ///
    /// Each task changes as by [`run_task`](Self::run_task), [`archive_task`](Self::archive_task) or
    /// [`delete_task`](Self::delete_task). An id without a task, or whose task is in another state, is only removed
    /// from the container. A damaged task is deleted by [`Act::Delete`]; the other acts quarantine it, as servers do
    /// when they take it. A group without tasks leaves the index.
    ///
    /// Cost: one script for 200 tasks, a millisecond or two of Redis, and one `SISMEMBER`.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`], [`BrokerError::GroupRequired`]; [`BrokerError::WrongAct`] for states that Go
    /// excludes too: see [`Act::applies_to`].
    ///
    /// # Cancel safety
    /// Each step takes effect completely or not at all. A call that is dropped may still take effect.
    async fn act_on_some(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        act: Act,
        place: Option<BulkPlace>,
    ) -> Result<BulkStep, BrokerError>;

    /// Runs, archives or deletes all tasks of one state or group, in [steps](Self::act_on_some) (Go:
    /// `RunAllScheduledTasks` and others, each with one script for any number of tasks). Other calls are served
    /// between the steps (differences.md#acts-on-all-tasks).
    ///
    /// Cost: a script and a `SISMEMBER` for every 200 tasks.
    ///
    /// # Errors
    /// Those of [`act_on_some`](Self::act_on_some). The steps before the error have taken effect.
    ///
    /// # Cancel safety
    /// The steps before the drop have taken effect, and the last one may still. Call again for the rest.
    async fn act_on_all(&self, queue: &QueueName, filter: &ListFilter, act: Act) -> Result<BulkDone, BrokerError> {
        let (mut done, mut place) = (BulkDone::default(), None);
        loop {
            let step = self.act_on_some(queue, filter, act, place).await?;
            done.add(&step);
            place = step.next;
            if place.is_none() {
                return Ok(done);
            }
        }
    }

    /// Reads the next part of the tasks of one state or group: at most [`SCAN_STEP`] of them, in the order of
    /// [`list_tasks`](Self::list_tasks). `None` begins, and [`ScanStep::next`] continues. Unlike pages, the parts neither
    /// skip nor repeat a task while others come and go.
    ///
    /// The first part notes the last task of the container, and the last part ends with it. A task that is added meanwhile
    /// before that place is read, others are not. A task that leaves and comes back is a new one, and so is one that is
    /// rescheduled. In a sorted set the place is the score and the id of the task read last, which need not be there any
    /// more. In a list (pending, active) the place is known by the last 400 tasks that were read, and by some before them. If
    /// none of these is found by a bounded search while tasks before them are left, the part begins too early and repeats
    /// some. This takes the loss of the last 64 of them, and of thousands of tasks at once.
    ///
    /// Cost: one script, and one `SISMEMBER`. A sorted set costs O(log n) besides the tasks themselves. A list costs a look at
    /// some thousand ids around the place; if it moved further between two parts, up to two walks of 15 to 30 ms for a million
    /// tasks.
    ///
    /// # Errors
    /// As [`list_tasks`](Self::list_tasks).
    ///
    /// # Cancel safety
    /// Safe.
    async fn scan_tasks(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        place: Option<&ScanPlace>,
        limits: ScanLimits,
    ) -> Result<ScanStep, BrokerError>;

    /// Runs, archives or deletes some tasks of one state or group that a [scan](Self::scan_tasks) read, at most
    /// [`BULK_STEP`]. A task that has left its container since, came back at another time, or has another message, is left
    /// alone and counted as [`moved`](ActedOn::moved). Each of the others changes as by
    /// [`act_on_some`](Self::act_on_some).
    ///
    /// Cost: one script, a millisecond or two of Redis, and one `SISMEMBER`. For pending tasks the script walks through the
    /// list once, from its tail to the last of the tasks: up to 30 ms for a million tasks. If many tasks have left the list
    /// since, it searches for these tasks first, by up to three more such walks.
    ///
    /// # Errors
    /// Those of [`act_on_some`](Self::act_on_some).
    ///
    /// # Cancel safety
    /// All of it takes effect or nothing. A call that is dropped may still take effect.
    async fn act_on_these(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        act: Act,
        tasks: &[TaskMark],
    ) -> Result<ActedOn, BrokerError>;

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

    /// Deletes a queue: all its tasks with their unique locks, groups, aggregation sets and quarantined tasks, its
    /// pause, its counters, and its name in the index (Go: `DeleteQueue`, which leaves some of these behind, see
    /// differences.md#deleted-queues). Without `force` the queue must have no tasks, in whatever state, and none in
    /// quarantine. With `force` it must have no active tasks.
    ///
    /// The marks of periodic ticks and locks of which no task is left end by themselves. A client that enqueues
    /// again makes the queue anew.
    ///
    /// Cost: a script for every 250 tasks, and two commands for the index. With `force` the queue is paused from the
    /// first script to the last, so that no server takes a task meanwhile. Tasks that are enqueued meanwhile are
    /// deleted too.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`]. [`BrokerError::QueueNotEmpty`] without `force`, and with it if tasks are
    /// enqueued faster than they are deleted. [`BrokerError::QueueHasActiveTasks`] in both cases. A queue that is
    /// refused at first does not change.
    ///
    /// # Cancel safety
    /// A call that is dropped or fails after its first script leaves the queue paused, with the rest of its tasks. Call
    /// again to go on, or [`unpause`](Self::unpause) the queue.
    async fn delete_queue(&self, queue: &QueueName, force: bool) -> Result<(), BrokerError>;

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

    /// Adds an act of an operator to the audit trail, a stream of our own that keeps
    /// [`MAX_TRAIL`](crate::trail::MAX_TRAIL) acts, or up to [`TRAIL_SLACK`](crate::trail::TRAIL_SLACK) more (Go has none). Of more,
    /// the oldest acts of the operator with most of them [go](crate::trail::surplus). Also possible while Redis is full.
    ///
    /// # Errors
    /// [`BrokerError::WrongType`] when the key of the trail holds something else.
    ///
    /// # Cancel safety
    /// A call that is dropped may still take effect.
    async fn record_act(&self, act: &TrailEntry) -> Result<(), BrokerError>;

    /// Returns at most `count` (1 to 10 000) acts of the audit trail, newest first, from a cursor on. Entries that cannot
    /// be read are left out, with a warning.
    ///
    /// # Errors
    /// [`BrokerError::WrongType`] as for [`record_act`](Self::record_act). A cursor that no call has returned begins at
    /// the newest act.
    async fn trail(&self, cursor: Cursor, count: u32) -> Result<Page<TrailEntry>, BrokerError>;

    /// Returns the [statistics](crate::statistics) of a queue over a range of time, added up over all servers of this
    /// library. What servers counted since their last write, at most 10 s ago, is missing. Values that cannot be read
    /// are left out and counted.
    ///
    /// Cost: one `HSCAN` for each hour of minutes, or for each day of hours or days, more if there are more than about 100
    /// values in it, and one `SISMEMBER`. A value has about 100 bytes for each task type.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`]. [`BrokerError::WrongType`] when a key of the statistics holds something else.
    ///
    /// # Cancel safety
    /// Safe.
    async fn statistics(&self, queue: &QueueName, range: &TimeRange) -> Result<QueueStatistics, BrokerError>;

    /// Checks the invariants of a queue (layout.md#invariants), a bounded part in each call. Each finding was true at the
    /// moment of its own atomic check. Tasks that leave a container meanwhile hide no others.
    ///
    /// In a list of more than 1000 ids, a pending task that is in no container is found once the tasks that run next
    /// became pending more than a minute after it, and an id that is twice in the list once one of the two is taken.
    ///
    /// Cost: one script for 100 ids or keys, a millisecond or two of Redis. A call that looks for a task in all
    /// containers has up to 20 scripts or `SCAN`s.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] for a cursor that no audit has returned.
    ///
    /// # Cancel safety
    /// Nothing changes. The call can be repeated.
    async fn audit(&self, queue: &QueueName, cursor: Cursor) -> Result<AuditPage, BrokerError>;

    /// Looks again at breaches that an [`audit`](Self::audit) found, each in one step, and repairs those that still
    /// exist in the same step. Returns one result for each breach. [`RepairMode::Check`] changes nothing, and returns
    /// what a repair would do. Breaches of one task are repaired together, and have the same result.
    ///
    /// No repair deletes a task: data that cannot be used go to quarantine. A breach that cannot be repaired safely is
    /// [left](Repair::Left), with the reason. A task that changes meanwhile is judged by its new state.
    ///
    /// Cost: a script for every 50 breaches or so. A breach of the container of a task searches `pending` and `active`,
    /// O(n): about 15 ms for a million tasks, in a script of its own.
    ///
    /// If a container of the queue has the wrong type, all breaches of the tasks, groups and locks are left.
    ///
    /// # Errors
    /// Only those of a storage that cannot be reached or refuses all calls. What was repaired before stays repaired.
    ///
    /// # Cancel safety
    /// Each breach is repaired completely or not at all. A call that is dropped may still take effect.
    async fn repair(
        &self,
        queue: &QueueName,
        breaches: &[Breach],
        mode: RepairMode,
    ) -> Result<Vec<Repair>, BrokerError>;

    /// Returns the facts about a queue that [findings](crate::findings) are made of, all of one moment. A lease, or a
    /// task that is scheduled or in retry, is late if its time passed longer than `late` ago. A queue that does not
    /// exist has no tasks.
    ///
    /// Cost: one script in constant time, about half a millisecond. It looks at the first
    /// [`FACT_IDS`](crate::findings::FACT_IDS) active tasks and leases, and at
    /// [`FACT_GROUPS`](crate::findings::FACT_GROUPS) groups.
    ///
    /// # Errors
    /// [`BrokerError::WrongType`] if a container has another type than it should.
    async fn queue_facts(&self, queue: &QueueName, late: Duration) -> Result<QueueFacts, BrokerError>;

    /// Returns the facts about each server that stores the tasks: its memory and its time. Empty if the storage is in
    /// this process. A server that does not answer has an error in its place.
    ///
    /// Cost: an `INFO` and a `TIME` for each server, at the same time.
    async fn storage_facts(&self) -> Vec<Result<StorageFacts, BrokerError>>;
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
