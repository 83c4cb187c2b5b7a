//! [`Inspector`]: looks at queues and tasks, and acts on them.

use std::{fmt, sync::Arc};

use asynq_core::{
    Broker, BrokerError, Connector, GroupInfo, GroupKey, Inspect, QueueInfo, QueueName, Result, ServerInfo, Storage,
    TaskId, TaskInfo, TaskState, WorkerInfo,
    info::{SchedulerEnqueueEvent, SchedulerEntry},
    inspect::{ListFilter, PageRequest},
    tree::PublishedTree,
};
pub use asynq_core::{Cancelled, Then, UnknownThen};

/// Looks at queues and tasks, and acts on them (Go: `asynq.Inspector`). Cheap to clone.
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
pub struct Inspector<B: Inspect + ?Sized = dyn Storage>(Arc<B>);

impl Inspector {
    /// An inspector with connections of its own, to the storage that the connector opens. They are closed when
    /// the last clone is dropped.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker) when the storage cannot be reached or refuses the credentials;
    /// it is tried once.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(connector: impl Connector) -> Result<Self> {
        Ok(Self(connector.connect(connector.env()).await?))
    }
}

impl<B: Inspect + ?Sized> Inspector<B> {
    /// An inspector over a broker that is open already, such as
    /// [`AsynqSystem::storage`](crate::AsynqSystem::storage).
    #[must_use]
    pub fn new(broker: Arc<B>) -> Self {
        Self(broker)
    }

    /// The names of all queues, sorted.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn queues(&self) -> Result<Vec<QueueName>> {
        Ok(self.0.queues().await?)
    }

    /// A queue at this moment: how many tasks in each state, its counters, whether it is paused.
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

    /// A page of tasks in one state: page numbers count from 1, a page has at most 10 000 tasks.
    /// A page has an item for each task that is counted: where the data of one cannot be read, or are gone,
    /// the item has its id, queue and state, and says what is wrong in [`TaskInfo::damage`]. Ids whose data are
    /// gone are taken out by the servers of the queue: of each state 10 000 are looked at in each recoverer
    /// interval (a minute, unless configured otherwise). For aggregating tasks see [`list_group`](Self::list_group).
    ///
    /// # Errors
    /// As [`get_queue_stats`](Self::get_queue_stats); [`BrokerError::GroupRequired`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list_tasks(&self, queue: &str, state: TaskState, page: u32, size: u32) -> Result<Vec<TaskInfo>> {
        self.list(queue, &ListFilter::State(state), page, size).await
    }

    /// A page of the tasks that wait in a group. Those that were taken from it to be aggregated are counted by
    /// [`list_groups`](Self::list_groups), and not listed.
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

    /// The groups of a queue: how many tasks wait in each, and how many are being aggregated (Go: `Groups`, which
    /// has the former). Empty for a queue that is not known.
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

    /// One task.
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

    /// Makes a task pending now that is scheduled, waits for its retry, is archived or waits in its
    /// group (Go: `RunTask`).
    ///
    /// # Errors
    /// As [`get_task_info`](Self::get_task_info), and for a task in another state.
    ///
    /// # Cancel safety
    /// Safe: it was made pending, or was not.
    pub async fn run_task(&self, queue: &str, id: &str) -> Result<()> {
        Ok(self.0.run_task(&QueueName::new(queue)?, &TaskId::new(id)?).await?)
    }

    /// Makes an archived task pending again. Its retries are not given back: one more failure
    /// archives it again, as in Go.
    ///
    /// # Errors
    /// As [`run_task`](Self::run_task); [`BrokerError::WrongState`] as well for a task that is not
    /// archived, which then stays as it is.
    ///
    /// # Cancel safety
    /// Safe: it was made pending, or was not.
    pub async fn requeue_archived_task(&self, queue: &str, id: &str) -> Result<()> {
        let (queue, id) = (QueueName::new(queue)?, TaskId::new(id)?);
        let state = self.0.task_info(&queue, &id).await?.state;
        if state != TaskState::Archived {
            return Err(BrokerError::WrongState { queue, id, state }.into());
        }
        Ok(self.0.run_task(&queue, &id).await?)
    }

    /// Asks for the run of a task to end, and for the task to be retried, archived or deleted then.
    ///
    /// The run is cancelled as by [`cancel_processing`](Self::cancel_processing). `then` is kept with the task, and
    /// is carried out by the server that runs it or, if that dies, by the server that recovers the task.
    /// [`Cancelled::Kept`] means that the task ends as asked, with two exceptions: a run that succeeds or revokes its
    /// task, and a task of a server that died which a Go server recovers, which does not know `then` and retries it.
    /// [`Cancelled::Told`] means that a Go server runs the task, and will retry it.
    ///
    /// A server that has lost its connection at that moment receives the request with the next extension of the
    /// task's lease, 5 s later by default. A handler that blocks runs to its end.
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
    /// As [`get_task_info`](Self::get_task_info); [`BrokerError::WrongState`] as well for a task that is not
    /// active, which stays as it is.
    ///
    /// # Cancel safety
    /// Safe: the request is kept and told, or neither.
    pub async fn cancel_task(&self, queue: &str, id: &str, then: Then) -> Result<Cancelled> {
        let (queue, id) = (QueueName::new(queue)?, TaskId::new(id)?);
        Ok(self.0.cancel_task(&queue, &id, then).await?)
    }

    /// Stops servers, Go's too, from taking tasks of the queue. Enqueueing goes on. A queue that is
    /// paused stays so.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker); [`Error::Invalid`](crate::Error::Invalid) for a
    /// blank name.
    ///
    /// # Cancel safety
    /// Safe: it was paused, or was not.
    pub async fn pause_queue(&self, queue: &str) -> Result<()> {
        match self.0.pause(&QueueName::new(queue)?).await {
            Ok(()) | Err(BrokerError::AlreadyPaused { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a pause, if there is one.
    ///
    /// # Errors
    /// As [`pause_queue`](Self::pause_queue).
    ///
    /// # Cancel safety
    /// Safe: it was ended, or was not.
    pub async fn unpause_queue(&self, queue: &str) -> Result<()> {
        match self.0.unpause(&QueueName::new(queue)?).await {
            Ok(()) | Err(BrokerError::NotPaused { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The servers that live, Go's and ours.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn servers(&self) -> Result<Vec<ServerInfo>> {
        Ok(self.0.servers().await?)
    }

    /// Returns what they are running.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        Ok(self.0.workers().await?)
    }

    /// The supervision trees of our servers.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn trees(&self) -> Result<Vec<PublishedTree>> {
        Ok(self.0.trees().await?)
    }

    /// The periodic tasks of the schedulers that live, Go's and ours (Go: `SchedulerEntries`). Their options
    /// are the texts that the scheduler wrote; [`SchedulerEntry::task_options`] reads them. Entries that
    /// cannot be read are left out.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list_scheduler_entries(&self) -> Result<Vec<SchedulerEntry>> {
        Ok(self.0.scheduler_entries().await?)
    }

    /// A page of what a scheduler entry has enqueued, newest first (Go: `ListSchedulerEnqueueEvents`): page
    /// numbers count from 1, a page has at most 10 000 events. Empty for an entry that is not known. Of
    /// each entry the newest thousand events are kept, until it is unregistered or its scheduler shuts
    /// down; those of a scheduler that was killed stay, as in Go. Events that cannot be read are left out.
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
    /// Asks all servers, Go's too, to end the run of a task (Go: `CancelProcessing`): its handler is dropped at its
    /// next await point, and the task fails with `context canceled` and is retried. The id names no queue, so runs of
    /// that id in all queues end. A task that does not run is left as it is, and the request is not kept:
    /// [`cancel_task`](Self::cancel_task) tells what it found, and sticks.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker); [`Error::Invalid`](crate::Error::Invalid) for a blank id.
    ///
    /// # Cancel safety
    /// Safe: the servers were told, or were not.
    pub async fn cancel_processing(&self, id: &str) -> Result<()> {
        Ok(self.0.publish_cancellation(&TaskId::new(id)?).await?)
    }
}

impl<B: Inspect + ?Sized> Clone for Inspector<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Inspect + ?Sized> fmt::Debug for Inspector<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inspector").field(&self.0).finish()
    }
}
