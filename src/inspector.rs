//! [`Inspector`]: reads and changes queues and tasks.

mod bulk;
#[cfg(feature = "query")]
mod bulk_by_query;
mod doctor;
mod findings;
mod operator;
mod periodic;
mod scan;
#[cfg(feature = "query")]
mod search;
mod trail;
mod update;

use std::{fmt, future::Future, sync::Arc};

pub use self::{
    doctor::{Diagnosis, Doctor, DoctorPlace, DoctorReport, DoctorStep},
    findings::{MAX_SIGNATURE_TASKS, SignatureLimits},
    periodic::{Backfilled, MAX_BACKFILL},
};
pub use asynq_core::{
    Act, Cancelled, Then, UnknownThen,
    doctor::{Explanation, Obstacle, Remedy, Repair, RepairMode},
    findings::{Aggregators, DayRuns, Finding, FindingKind, Findings, FindingsOptions, Severity, TypeCount},
    inspect::BulkDone,
    signature::{ErrorSignatures, SignatureCount, signature},
    trail::{Actor, MAX_ACTOR_NAME, MAX_REASON, MAX_TRAIL, TrailEntry},
};
use asynq_core::{
    Broker, BrokerError, Connector, GroupInfo, GroupKey, Inspect, QueueInfo, QueueName, Result, ServerInfo, Storage,
    TaskId, TaskInfo, TaskState, WorkerInfo,
    info::{DailyStats, SchedulerEnqueueEvent, SchedulerEntry},
    inspect::{ListFilter, PageRequest},
    statistics::{QueueStatistics, TimeRange},
    tree::PublishedTree,
};

#[cfg(feature = "query")]
pub use bulk_by_query::{ActByQuery, ActLimits, ActProgress};
use operator::{Operator, Target};
#[cfg(feature = "query")]
pub use search::{Count, Found, SearchLimits};

/// A client that reads and changes queues and tasks (Go: `asynq.Inspector`). Cheap to clone.
///
/// ```
/// use asynq::{Client, Inspector, Task, TaskState, memory::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> asynq::Result<()> {
/// let storage = MemoryStore::new();
/// let client = Client::new(storage.clone()).await?;
/// client.enqueue(Task::new("email:send", b"42")?).await?;
///
/// let inspector = Inspector::connect(storage).await?;
/// let stats = inspector.get_queue_stats("default").await?;
/// assert_eq!((stats.pending, stats.active), (1, 0));
/// let tasks = inspector.list_tasks("default", TaskState::Pending, 1, 10).await?;
/// assert_eq!(tasks[0].task_type, "email:send");
/// inspector.pause_queue("default").await?;
/// assert!(inspector.get_queue_stats("default").await?.paused);
/// # Ok(())
/// # }
/// ```
pub struct Inspector<B: Inspect + ?Sized = dyn Storage>(Arc<B>, Arc<Operator>);

impl Inspector {
    /// Returns an inspector with its own connections to the storage that the connector opens. The connections are
    /// closed when the last clone is dropped.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker) when the storage cannot be reached or refuses the credentials. There
    /// is only one attempt.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(connector: impl Connector) -> Result<Self> {
        Ok(Self::new(connector.connect(connector.env()).await?))
    }
}

impl<B: Inspect + ?Sized> Inspector<B> {
    /// Returns an inspector that uses an open broker, such as [`AsynqSystem::storage`](crate::AsynqSystem::storage).
    #[must_use]
    pub fn new(broker: Arc<B>) -> Self {
        Self(broker, Arc::default())
    }

    /// Makes an act and records it.
    async fn recorded<T>(
        &self,
        name: &str,
        target: Target<'_>,
        act: impl Future<Output = Result<T>>,
        changed: impl FnOnce(&T) -> Option<u64>,
    ) -> Result<T> {
        self.1.recorded(&*self.0, name, target, act, changed).await
    }

    /// Returns the names of all queues, sorted.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn queues(&self) -> Result<Vec<QueueName>> {
        Ok(self.0.queues().await?)
    }

    /// Returns the current numbers of a queue: its tasks in each state, its counters, and whether it is paused.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a blank name;
    /// [`BrokerError::QueueNotFound`] inside [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn get_queue_stats(&self, queue: &str) -> Result<QueueInfo> {
        Ok(self.0.queue_info(&QueueName::new(queue)?).await?)
    }

    /// Returns the processed and failed tasks of each of the last `days` days (UTC), today first (Go: `History`).
    /// `days` is clamped to 1 to 366; the counters of a day are kept for 90 days.
    ///
    /// Cost: one `MGET` of two keys for each day, and one `SISMEMBER`.
    ///
    /// # Errors
    /// As [`get_queue_stats`](Self::get_queue_stats).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn history(&self, queue: &str, days: u32) -> Result<Vec<DailyStats>> {
        Ok(self.0.history(&QueueName::new(queue)?, days).await?)
    }

    /// Returns the statistics of a queue over a range of time: by task type, the outcomes of runs, the time that they took,
    /// and the time that their tasks waited. They are those of all servers of this library; see
    /// [`statistics`](crate::statistics).
    ///
    /// ```
    /// use asynq::{Client, Inspector, Server, ServerConfig, Task, memory::MemoryStore};
    /// use asynq::statistics::{Step, TimeRange};
    /// # use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// let storage = MemoryStore::new();
    /// let mut server = Server::new(storage.clone(), ServerConfig::new()).await?;
    /// server.start(|_: Task| async { Ok(()) }).await?;
    /// # let client = Client::new(storage.clone()).await?;
    /// # let task = client.enqueue(Task::new("email:send", b"42")?).await?;
    /// # client.wait(&task, Duration::from_secs(10)).await?;
    /// // … tasks run …
    /// server.shutdown().await; // servers write every 10 s, and at their end
    ///
    /// let inspector = Inspector::connect(storage).await?;
    /// let last_hour = TimeRange::last(60, Step::Minute, chrono::Utc::now())?;
    /// let statistics = inspector.statistics("default", last_hour).await?;
    /// for (task_type, of_type) in statistics.total().types() {
    ///     let p95 = of_type.run_time.percentile(0.95);
    ///     println!("{task_type}: {} runs, {} failed, p95 {p95:?}", of_type.runs.total(), of_type.runs.failed());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: one `HSCAN` for each hour of minutes, or for each day of hours or days, more if there are many servers, and one
    /// `SISMEMBER`. A value has about 100 bytes for each task type, server and minute or hour.
    ///
    /// # Errors
    /// As [`get_queue_stats`](Self::get_queue_stats). [`TimeRange`] refuses ranges that are too long.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn statistics(&self, queue: &str, range: TimeRange) -> Result<QueueStatistics> {
        Ok(self.0.statistics(&QueueName::new(queue)?, &range).await?)
    }

    /// Returns a page of tasks in one state. Page numbers count from 1, and a page has at most 10 000 tasks. The page
    /// has an item for each task that is counted. If the data of a task cannot be read or are gone, its item has the
    /// id, the queue and the state, and [`TaskInfo::damage`] describes the fault. The servers of the queue remove ids
    /// whose data are gone: in each recoverer interval (a minute by default) they check 10 000 ids of each state. For
    /// aggregating tasks see [`list_group`](Self::list_group).
    ///
    /// # Errors
    /// As [`get_queue_stats`](Self::get_queue_stats); [`BrokerError::GroupRequired`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list_tasks(&self, queue: &str, state: TaskState, page: u32, size: u32) -> Result<Vec<TaskInfo>> {
        self.list(queue, &ListFilter::State(state), page, size).await
    }

    /// Returns a page of the tasks that wait in a group. Tasks that are already being aggregated are not listed;
    /// [`list_groups`](Self::list_groups) counts them.
    ///
    /// # Errors
    /// As [`list_tasks`](Self::list_tasks), and [`Error::Invalid`](crate::Error::Invalid) for a
    /// blank group.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list_group(&self, queue: &str, group: &str, page: u32, size: u32) -> Result<Vec<TaskInfo>> {
        self.list(queue, &ListFilter::Group(GroupKey::new(group)?), page, size)
            .await
    }

    /// Returns the groups of a queue, with the number of tasks that wait in each and the number that are being
    /// aggregated (Go: `Groups`, which has only the first number). Empty for an unknown queue.
    ///
    /// # Errors
    /// As [`pause_queue`](Self::pause_queue).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list_groups(&self, queue: &str) -> Result<Vec<GroupInfo>> {
        Ok(self.0.group_infos(&QueueName::new(queue)?).await?)
    }

    async fn list(&self, queue: &str, filter: &ListFilter, page: u32, size: u32) -> Result<Vec<TaskInfo>> {
        let queue = QueueName::new(queue)?;
        let page = PageRequest::new(page, size);
        Ok(self.0.list_tasks(&queue, filter, page).await?.tasks)
    }

    /// Returns one task.
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`], [`BrokerError::TaskNotFound`], [`BrokerError::Poison`] inside
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn get_task_info(&self, queue: &str, id: &str) -> Result<TaskInfo> {
        Ok(self.0.task_info(&QueueName::new(queue)?, &TaskId::new(id)?).await?)
    }

    /// Makes a task pending that is scheduled, waits for its retry, is archived, or waits in its group (Go:
    /// `RunTask`).
    ///
    /// # Errors
    /// As [`get_task_info`](Self::get_task_info), and for a task in another state.
    ///
    /// # Cancel safety
    /// Safe: it was made pending, or was not.
    pub async fn run_task(&self, queue: &str, id: &str) -> Result<()> {
        self.recorded(
            "run_task",
            Target::task(queue, id),
            async { Ok(self.0.run_task(&QueueName::new(queue)?, &TaskId::new(id)?).await?) },
            |()| None,
        )
        .await
    }

    /// Makes an archived task pending again. The count of its retries does not change, so one more failure archives
    /// the task again, as in Go.
    ///
    /// # Errors
    /// As [`run_task`](Self::run_task). Also [`BrokerError::WrongState`] for a task that is not archived, which then
    /// does not change.
    ///
    /// # Cancel safety
    /// Safe: it was made pending, or was not.
    pub async fn requeue_archived_task(&self, queue: &str, id: &str) -> Result<()> {
        let (queue, id) = (QueueName::new(queue)?, TaskId::new(id)?);
        let state = self.0.task_info(&queue, &id).await?.state;
        if state != TaskState::Archived {
            return Err(BrokerError::WrongState { queue, id, state }.into());
        }
        self.run_task(queue.as_str(), id.as_str()).await
    }

    /// Archives a task that is pending or scheduled, waits for its retry, or waits in its group (Go: `ArchiveTask`). It
    /// counts as neither processed nor failed, and keeps its last error and its unique lock.
    ///
    /// Cost: two round trips. For a pending task Redis walks through all pending tasks of the queue, which takes about
    /// 15 ms for a million.
    ///
    /// # Errors
    /// As [`run_task`](Self::run_task).
    ///
    /// # Cancel safety
    /// Safe: it was archived, or was not.
    pub async fn archive_task(&self, queue: &str, id: &str) -> Result<()> {
        self.recorded(
            "archive_task",
            Target::task(queue, id),
            async { Ok(self.0.archive_task(&QueueName::new(queue)?, &TaskId::new(id)?).await?) },
            |()| None,
        )
        .await
    }

    /// Deletes a task that is not active, with its result (Go: `DeleteTask`). Its unique lock is freed if the lock
    /// still holds its id. A task whose data are damaged is deleted too, and so is an id whose data are gone.
    ///
    /// ```
    /// use asynq::{Client, Inspector, Task, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// # let storage = MemoryStore::new();
    /// # let client = Client::new(storage.clone()).await?;
    /// # let inspector = Inspector::connect(storage).await?;
    /// let mail = client.enqueue(Task::new("email:send", b"42")?).await?;
    /// inspector.archive_task("default", mail.id.as_str()).await?; // not today
    /// inspector.delete_task("default", mail.id.as_str()).await?; // not at all
    /// inspector.delete_queue("default", false).await?;
    /// assert!(inspector.queues().await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: as [`archive_task`](Self::archive_task).
    ///
    /// # Errors
    /// [`BrokerError::QueueNotFound`] and [`BrokerError::TaskNotFound`] inside [`Error::Broker`](crate::Error::Broker).
    /// [`BrokerError::WrongState`] for an active task, for which see [`cancel_task`](Self::cancel_task), and for one
    /// that is being aggregated.
    ///
    /// # Cancel safety
    /// Safe: it was deleted, or was not.
    pub async fn delete_task(&self, queue: &str, id: &str) -> Result<()> {
        self.recorded(
            "delete_task",
            Target::task(queue, id),
            async { Ok(self.0.delete_task(&QueueName::new(queue)?, &TaskId::new(id)?).await?) },
            |()| None,
        )
        .await
    }

    /// Asks the server to end the run of a task, and then to retry, archive or delete the task.
    ///
    /// The run is cancelled as by [`cancel_processing`](Self::cancel_processing). `then` is kept with the task. The
    /// server that runs the task carries it out, or the server that recovers the task if the first one dies.
    /// [`Cancelled::Kept`] means that the task ends as requested, with two exceptions. A run that succeeds or revokes
    /// its task ends in that way. If the server dies and a Go server recovers the task, the Go server does not know
    /// `then` and retries the task. [`Cancelled::Told`] means that a Go server runs the task, and will retry it.
    ///
    /// A server that has lost its connection receives the request with the next extension of the task's lease, 5 s
    /// later by default. A handler that blocks runs to its end.
    ///
    /// ```
    /// use asynq::{AsynqSystem, Inspector, Task, TaskState, inspector::{Cancelled, Then}, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    /// let system = AsynqSystem::builder(MemoryStore::new())
    ///     .handler(move |_: Task| {
    ///         let _ = started.send(());
    ///         std::future::pending()
    ///     })
    ///     .spawn()
    ///     .await?;
    /// let task = system.client().enqueue(Task::new("export", b"")?).await?;
    /// starts.recv().await;
    ///
    /// let inspector = Inspector::new(system.storage().await?);
    /// let cancelled = inspector.cancel_task("default", task.id.as_str(), Then::Archive).await?;
    /// assert_eq!(cancelled, Cancelled::Kept);
    /// system.drain().await;
    /// let task = inspector.get_task_info("default", task.id.as_str()).await?;
    /// assert_eq!((task.state, task.last_error.as_str()), (TaskState::Archived, "context canceled"));
    /// # system.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`get_task_info`](Self::get_task_info). Also [`BrokerError::WrongState`] for a task that is not active,
    /// which then does not change.
    ///
    /// # Cancel safety
    /// Safe: the request is kept and sent to the servers, or neither.
    pub async fn cancel_task(&self, queue: &str, id: &str, then: Then) -> Result<Cancelled> {
        self.recorded(
            "cancel_task",
            Target::task(queue, id).detail(format!("then {then}")),
            async {
                Ok(self
                    .0
                    .cancel_task(&QueueName::new(queue)?, &TaskId::new(id)?, then)
                    .await?)
            },
            |_| None,
        )
        .await
    }

    /// Stops all servers, including those of Go, from taking tasks of the queue. Tasks can still be enqueued. A queue
    /// that is already paused stays paused.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker); [`Error::Invalid`](crate::Error::Invalid) for a
    /// blank name.
    ///
    /// # Cancel safety
    /// Safe: it was paused, or was not.
    pub async fn pause_queue(&self, queue: &str) -> Result<()> {
        self.recorded(
            "pause_queue",
            Target::queue(queue),
            async {
                match self.0.pause(&QueueName::new(queue)?).await {
                    Ok(()) | Err(BrokerError::AlreadyPaused { .. }) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            },
            |()| None,
        )
        .await
    }

    /// Ends the pause of a queue. Without effect if the queue is not paused.
    ///
    /// # Errors
    /// As [`pause_queue`](Self::pause_queue).
    ///
    /// # Cancel safety
    /// Safe: it was ended, or was not.
    pub async fn unpause_queue(&self, queue: &str) -> Result<()> {
        self.recorded(
            "unpause_queue",
            Target::queue(queue),
            async {
                match self.0.unpause(&QueueName::new(queue)?).await {
                    Ok(()) | Err(BrokerError::NotPaused { .. }) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            },
            |()| None,
        )
        .await
    }

    /// Deletes a queue, and its name in the list of queues (Go: `DeleteQueue`). Without `force` the queue must have no
    /// tasks. With `force` all its tasks are deleted, but none of them may be active. A client that enqueues again
    /// makes the queue anew.
    ///
    /// Cost: a script for every 250 tasks. With `force` the queue is paused meanwhile.
    ///
    /// # Errors
    /// As [`get_queue_stats`](Self::get_queue_stats); [`BrokerError::QueueNotEmpty`],
    /// [`BrokerError::QueueHasActiveTasks`].
    ///
    /// # Cancel safety
    /// A call with `force` that is dropped or fails may leave the queue paused, with a part of its tasks. Call again to
    /// delete the rest.
    pub async fn delete_queue(&self, queue: &str, force: bool) -> Result<()> {
        self.recorded(
            "delete_queue",
            Target::queue(queue).detail(if force { "with its tasks" } else { "empty" }),
            async { Ok(self.0.delete_queue(&QueueName::new(queue)?, force).await?) },
            |()| None,
        )
        .await
    }

    /// Returns the living servers, Go's and ours.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn servers(&self) -> Result<Vec<ServerInfo>> {
        Ok(self.0.servers().await?)
    }

    /// Returns the tasks that the living servers run.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        Ok(self.0.workers().await?)
    }

    /// Returns the supervision trees of our servers.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn trees(&self) -> Result<Vec<PublishedTree>> {
        Ok(self.0.trees().await?)
    }

    /// Returns the periodic tasks of the living schedulers, Go's and ours (Go: `SchedulerEntries`). Their options are
    /// the texts that the scheduler wrote; [`SchedulerEntry::task_options`] parses them. Entries that cannot be read
    /// are left out.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list_scheduler_entries(&self) -> Result<Vec<SchedulerEntry>> {
        Ok(self.0.scheduler_entries().await?)
    }

    /// Returns a page of the enqueue events of a scheduler entry, newest first (Go: `ListSchedulerEnqueueEvents`).
    /// Page numbers count from 1, and a page has at most 10 000 events. The page is empty for an unknown entry. The
    /// newest thousand events of each entry are kept until the entry is unregistered or its scheduler shuts down. The
    /// events of a scheduler that was killed remain, as in Go. Events that cannot be read are left out.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list_scheduler_enqueue_events(
        &self,
        entry_id: &str,
        page: u32,
        size: u32,
    ) -> Result<Vec<SchedulerEnqueueEvent>> {
        Ok(self.0.enqueue_events(entry_id, PageRequest::new(page, size)).await?)
    }
}

impl<B: Broker + Inspect + ?Sized> Inspector<B> {
    /// Asks all servers, including those of Go, to cancel the runs of a task id (Go: `CancelProcessing`). The handler
    /// is dropped at its next await point. The task fails with `context canceled` and is retried. The id names no
    /// queue, so runs with that id in all queues end. The request has no effect on a task that does not run, and it
    /// is not kept. [`cancel_task`](Self::cancel_task) keeps the request, and returns what it found.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker); [`Error::Invalid`](crate::Error::Invalid) for a blank id.
    ///
    /// # Cancel safety
    /// Safe: the request was sent to the servers, or was not.
    pub async fn cancel_processing(&self, id: &str) -> Result<()> {
        self.recorded(
            "cancel_processing",
            Target {
                task: Some(id),
                ..Target::default()
            },
            async { Ok(self.0.publish_cancellation(&TaskId::new(id)?).await?) },
            |()| None,
        )
        .await
    }
}

impl<B: Inspect + ?Sized> Clone for Inspector<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), Arc::clone(&self.1))
    }
}

impl<B: Inspect + ?Sized> fmt::Debug for Inspector<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inspector").field(&self.0).finish()
    }
}
