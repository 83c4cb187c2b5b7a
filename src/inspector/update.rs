//! Changes of a waiting task, copies of tasks, counters, and the place of a queue in a cluster.

use std::sync::Arc;

use asynq_core::{
    Broker, BrokerError, EnqueueError, Env, Error, Inspect, QueueName, Result, Task, TaskContext, TaskError, TaskId,
    TaskInfo, TaskOptions, broker::EnqueueRequest, compose::compose, inspect::ClusterNode,
    options::DEFAULT_MAX_MESSAGE_BYTES, trace_context::TraceContext, traces::Sending,
};
use chrono::{DateTime, Utc};

use super::{Inspector, operator::Target};

impl<B: Inspect + ?Sized> Inspector<B> {
    /// Replaces the payload of a scheduled task (Go: `UpdateTaskPayload`). Nothing else of the task changes. A unique
    /// lock keeps the name of the old payload.
    ///
    /// Cost: two round trips.
    ///
    /// # Errors
    /// As [`get_task_info`](Self::get_task_info). [`BrokerError::WrongState`] for a task that is not scheduled.
    /// [`Error::Invalid`] for a payload above the default limit of a message, 16 MiB.
    ///
    /// # Cancel safety
    /// Safe: it was replaced, or was not.
    pub async fn update_task_payload(&self, queue: &str, id: &str, payload: &[u8]) -> Result<()> {
        let (queue, id) = (QueueName::new(queue)?, TaskId::new(id)?);
        if payload.len() > DEFAULT_MAX_MESSAGE_BYTES {
            return Err(Error::from(TaskError::TooLarge {
                field: "payload size",
                limit: DEFAULT_MAX_MESSAGE_BYTES as u64,
                got: payload.len() as u64,
            }));
        }
        let target = Target::task(queue.as_str(), id.as_str()).detail(format!("{} bytes", payload.len()));
        let update = async { Ok(self.0.update_task_payload(&queue, &id, payload.to_vec().into()).await?) };
        self.recorded("update_task_payload", target, update, |()| None).await
    }

    /// Changes the time at which a task is due that is scheduled or waits for its retry. An archived task becomes
    /// scheduled for that time. A time that has passed makes the task due now. Go has no such operation.
    ///
    /// The end of the unique lock of a scheduled task moves with the task.
    ///
    /// ```
    /// use asynq::{Client, Inspector, Task, TaskState, memory::MemoryStore};
    /// use chrono::{TimeDelta, Utc};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// # let storage = MemoryStore::new();
    /// # let client = Client::new(storage.clone()).await?;
    /// # let inspector = Inspector::connect(storage).await?;
    /// let mail = client.enqueue(Task::new("email:send", b"42")?).await?;
    /// inspector.archive_task("default", mail.id.as_str()).await?;
    /// let tomorrow = Utc::now() + TimeDelta::days(1);
    /// inspector.reschedule_task("default", mail.id.as_str(), tomorrow).await?;
    /// let mail = inspector.get_task_info("default", mail.id.as_str()).await?;
    /// assert_eq!(mail.state, TaskState::Scheduled);
    /// assert_eq!(mail.next_process_at.map(|at| at.timestamp()), Some(tomorrow.timestamp()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: two round trips.
    ///
    /// # Errors
    /// As [`get_task_info`](Self::get_task_info). [`BrokerError::WrongState`] for a task in another state.
    ///
    /// # Cancel safety
    /// Safe: it was rescheduled, or was not.
    pub async fn reschedule_task(&self, queue: &str, id: &str, at: DateTime<Utc>) -> Result<()> {
        let (queue, id) = (QueueName::new(queue)?, TaskId::new(id)?);
        let target = Target::task(queue.as_str(), id.as_str()).detail(format!("to {}", at.to_rfc3339()));
        let reschedule = async { Ok(self.0.reschedule_task(&queue, &id, at).await?) };
        self.recorded("reschedule_task", target, reschedule, |()| None).await
    }

    /// Deletes the counters of a queue: processed and failed tasks of today (UTC) and in total. The counters of other
    /// days stay. Go has no such operation.
    ///
    /// Cost: one `DEL` of four keys, and one `SISMEMBER`.
    ///
    /// # Errors
    /// As [`get_queue_stats`](Self::get_queue_stats).
    ///
    /// # Cancel safety
    /// Safe: they were deleted, or were not.
    pub async fn clear_counters(&self, queue: &str) -> Result<()> {
        let clear = async { Ok(self.0.clear_counters(&QueueName::new(queue)?).await?) };
        self.recorded("clear_counters", Target::queue(queue), clear, |()| None)
            .await
    }

    /// Returns the slot of all keys of a queue in a Redis cluster (Go: `ClusterKeySlot`). The slot is computed, without
    /// a call to Redis.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] if the storage is not a cluster.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn cluster_key_slot(&self, queue: &str) -> Result<u16> {
        Ok(self.0.cluster_key_slot(&QueueName::new(queue)?).await?)
    }

    /// Returns the nodes of a Redis cluster that have the keys of a queue, the master first (Go: `ClusterNodes`).
    ///
    /// Cost: one `CLUSTER SLOTS`.
    ///
    /// # Errors
    /// As [`cluster_key_slot`](Self::cluster_key_slot).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn cluster_nodes(&self, queue: &str) -> Result<Vec<ClusterNode>> {
        Ok(self.0.cluster_nodes(&QueueName::new(queue)?).await?)
    }
}

impl<B: Broker + Inspect + ?Sized> Inspector<B> {
    /// Enqueues a copy of a task, in whatever state that is. The copy has the type, the payload, the headers, the
    /// queue, the group, and the limits of the task: retries, timeout, deadline and retention. It does not have its id,
    /// its unique lock, its time, its errors or its result. `change` receives the copy and returns what is enqueued.
    /// The task itself does not change.
    ///
    /// ```
    /// use asynq::{Client, Inspector, Task, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// # let storage = MemoryStore::new();
    /// # let client = Client::new(storage.clone()).await?;
    /// # let inspector = Inspector::connect(storage).await?;
    /// let mail = client.enqueue(Task::new("email:send", b"42")?.with_max_retry(3)).await?;
    /// let copy = inspector
    ///     .enqueue_copy("default", mail.id.as_str(), |copy| Ok(copy.with_queue("low").with_task_id("again")))
    ///     .await?;
    /// assert_eq!((copy.queue.as_str(), copy.id.as_str()), ("low", "again"));
    /// assert_eq!((copy.payload.as_ref(), copy.max_retry), (b"42".as_slice(), 3));
    /// // Another payload needs a task of its own, which takes over the options.
    /// let other = inspector
    ///     .enqueue_copy("default", mail.id.as_str(), |copy| {
    ///         Ok(Task::new(copy.get_type(), b"43")?.with_options(copy.options().clone()))
    ///     })
    ///     .await?;
    /// assert_eq!((other.payload.as_ref(), other.max_retry), (b"43".as_slice(), 3));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: those of [`get_task_info`](Self::get_task_info) and of an enqueue.
    ///
    /// # Errors
    /// As [`get_task_info`](Self::get_task_info); the error of `change`; [`Error::Enqueue`] if the copy is refused, as
    /// by [`Client::enqueue`](crate::Client::enqueue). If the answer is lost, the error is [`EnqueueError::Unknown`]
    /// with the id of the copy.
    ///
    /// # Cancel safety
    /// The copy was enqueued, or was not. A call that is dropped may still enqueue it.
    pub async fn enqueue_copy(
        &self,
        queue: &str,
        id: &str,
        change: impl FnOnce(Task) -> Result<Task> + Send,
    ) -> Result<TaskInfo> {
        let original = id;
        let task = change(copy_of(&self.get_task_info(queue, original).await?)?)?;
        let request = compose(&task, &TaskOptions::new(), &Env::default())?;
        let (id, of) = (&request.message.id, &request.message.queue);
        let target = Target::task(queue, original).detail(format!("as {id} of {of}"));
        self.enqueue_recorded("enqueue_copy", request, target, None).await
    }

    /// Enqueues a task, as [`Client::enqueue`](crate::Client::enqueue) does, and records it in the audit trail. For programs
    /// of operators; an application uses a client, which is faster.
    ///
    /// ```
    /// use asynq::{Inspector, Task, inspect::Cursor, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// let inspector = Inspector::connect(MemoryStore::new()).await?;
    /// let task = inspector.enqueue(Task::new("report", b"{}")?.with_queue("low")).await?;
    /// let trail = inspector.audit_trail(Cursor::default(), 1).await?;
    /// assert_eq!(trail.items[0].task.as_deref(), Some(task.id.as_str()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: those of an enqueue.
    ///
    /// # Errors
    /// [`Error::Enqueue`] if the task is refused. If the answer is lost, the error is [`EnqueueError::Unknown`] with the id of
    /// the task.
    ///
    /// # Cancel safety
    /// The task was enqueued, or was not. A call that is dropped may still enqueue it.
    pub async fn enqueue(&self, task: Task) -> Result<TaskInfo> {
        let request = compose(&task, &TaskOptions::new(), &Env::default())?;
        let (queue, id) = (request.message.queue.clone(), request.message.id.clone());
        let target = Target::task(&queue, &id).detail(format!("type {}", request.message.r#type));
        self.enqueue_recorded("enqueue_task", request, target, task.context())
            .await
    }

    pub(super) async fn enqueue_recorded(
        &self,
        name: &str,
        mut request: EnqueueRequest,
        target: Target<'_>,
        run: Option<&TaskContext>,
    ) -> Result<TaskInfo> {
        let id = TaskId::from_storage(&request.message.id);
        let (parent, given) = (TraceContext::current(), run.map(TaskContext::given_headers));
        let sending = Sending::begin(given, &mut request, DEFAULT_MAX_MESSAGE_BYTES, &parent);
        let enqueue = async {
            let answer = match self.0.enqueue(&[Arc::new(request)]).await.pop() {
                Some(Err(EnqueueError::Broker(BrokerError::Ambiguous { .. }))) | None => {
                    Err(EnqueueError::Unknown { id })
                }
                Some(answer) => answer,
            };
            sending.end(answer.as_ref());
            Ok(answer?)
        };
        self.recorded(name, target, enqueue, |_| None).await
    }
}

/// A new task like this one.
fn copy_of(info: &TaskInfo) -> Result<Task> {
    // An absent payload and an empty one are stored alike.
    let payload = Some(info.payload.clone()).filter(|payload| !payload.is_empty());
    let mut task = Task::from_bytes(info.task_type.clone(), payload)?
        .with_queue(info.queue.as_str())
        .with_max_retry(info.max_retry)
        .with_retention(info.retention);
    if let Some(timeout) = info.timeout {
        task = task.with_timeout(timeout);
    }
    if let Some(deadline) = info.deadline {
        task = task.with_deadline(deadline);
    }
    if let Some(group) = &info.group {
        task = task.with_group(group.as_str());
    }
    for (name, value) in &info.headers {
        task = task.with_header(name, value);
    }
    Ok(task)
}
