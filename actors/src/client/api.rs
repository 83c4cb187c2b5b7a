//! [`Client`], the one type through which applications enqueue.

use std::{any::Any, borrow::Borrow, fmt, sync::Arc, time::Duration};

use asynq_core::{
    Env, Result, Task, TaskContext, TaskInfo, TaskOptions,
    config::ClientSettings,
    extract::{FromTask, Rejection},
    options::DEFAULT_MAX_MESSAGE_BYTES,
    payload::IntoTask,
    shared_state::States,
};
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use super::ClientHandle;
use crate::broker::{BrokerHandle, CONNECTING};

/// Enqueues tasks (Go: `asynq.Client`). Cheap to clone.
///
/// The same type is everywhere:
///
/// - [`new`](Self::new) and its siblings make a client with connections of its own, which its clones share. When
///   the last clone is dropped, what waits is still sent, in the background; [`close`](Self::close) waits for it.
/// - [`AsynqSystem::client`](crate::AsynqSystem::client) is the client of a system. It uses the connections of the
///   system and ends with it.
/// - In a handler the client of its own system is an argument, or [`TaskContextExt::client`] of the run: see
///   [below](#in-handlers).
/// - `TestKit::client` is a client of a test's storage.
///
/// Enqueues that come while one is on its way go out together with the next.
///
/// ```
/// use asynq::{Client, Task, memory::MemoryStore};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> asynq::Result<()> {
/// let client = Client::new(MemoryStore::new()).await?;
/// let info = client.enqueue(Task::new("email:send", b"42")?).await?;
/// println!("enqueued {}", info.id);
/// client.enqueue_in(Task::new("email:digest", b"42")?, Duration::from_secs(300)).await?;
/// client.close().await;
/// # Ok(())
/// # }
/// ```
///
/// # In handlers
///
/// ```
/// use asynq::{AsynqSystem, Client, Result, ServeMux, Task, client::TaskContextExt as _, memory::MemoryStore};
///
/// // As an argument.
/// async fn order_paid(order: Task, client: Client) -> Result<()> {
///     client.enqueue(Task::new("email:receipt", order.get_payload())?).await?;
///     Ok(())
/// }
///
/// // Of the run.
/// async fn order_sent(order: Task) -> Result<()> {
///     if let Some(run) = order.context() {
///         run.client().enqueue(Task::new("email:on-its-way", order.get_payload())?).await?;
///     }
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let mut mux = ServeMux::new();
/// mux.route_on("order:paid", order_paid);
/// mux.handle_async_func("order:sent", order_sent);
/// let system = AsynqSystem::builder(MemoryStore::new()).handler(mux).spawn().await?;
/// # system.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// A handler may enqueue for as long as it runs: while a shutdown waits for it, and in the 2 s that it is given
/// after its cancel. The task that it enqueues is stored before the system ends, for another server or the next
/// start. Where the system ended at once (a second signal, the end of the actor that it is linked to), and for
/// a client that was kept beyond the end of its system, the answer is
/// [`EnqueueError::Closed`](asynq_core::EnqueueError::Closed), or
/// [`Unknown`](asynq_core::EnqueueError::Unknown) where the task may have been sent.
///
/// A handler that enqueues and then fails is run again, and enqueues again. Where that must not double the task,
/// give it an [id](TaskOptions::task_id) that is made of the payload, or make it [unique](TaskOptions::unique_ttl).
#[derive(Clone)]
pub struct Client {
    pub(super) handle: ClientHandle,
    pub(super) broker: BrokerHandle,
    /// The system that is there for this client alone.
    own: Option<Arc<dyn OwnSystem>>,
}

/// The system that is there for one client alone. It ends with the last clone of that.
pub(crate) trait OwnSystem: Send + Sync {
    /// Ends it in order.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

impl Client {
    pub(crate) fn of_system(handle: ClientHandle, broker: BrokerHandle) -> Self {
        let own = None;
        Self { handle, broker, own }
    }

    /// The client with the system that is there for it alone.
    pub(crate) fn owning(self, own: Arc<dyn OwnSystem>) -> Self {
        let own = Some(own);
        Self { own, ..self }
    }

    /// Returns a handle of the same client, whose [`close`](Self::close) and drop end nothing.
    fn lent(&self) -> Self {
        Self::of_system(self.handle.clone(), self.broker.clone())
    }

    /// Makes a client of a system that has ended.
    fn ended() -> Self {
        let settings = ClientSettings {
            enqueue_timeout: Duration::ZERO,
            max_waiting: 0,
            max_waiting_bytes: 0,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
        };
        let handle = ClientHandle::new(&settings, Env::default());
        handle.close();
        Self::of_system(handle, BrokerHandle::ended())
    }

    /// Returns what a run carries, so that its handler finds this client.
    #[doc(hidden)]
    #[must_use]
    pub fn for_runs(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(self.lent())
    }

    /// Enqueues a task with its own options. Waits while too many enqueues are waiting.
    ///
    /// # Errors
    /// [`Error::Invalid`](asynq_core::Error::Invalid) names the field and its limit, and nothing was sent;
    /// [`Error::Enqueue`](asynq_core::Error::Enqueue) for a duplicate, an id that is taken, an outcome that is
    /// [unknown](asynq_core::EnqueueError::Unknown) or a client that is closed;
    /// [`Error::Broker`](asynq_core::Error::Broker) when the storage did not take it within
    /// [`enqueue_timeout`](asynq_core::ClientConfig::enqueue_timeout).
    ///
    /// # Cancel safety
    /// Not safe: the task may still be enqueued.
    pub async fn enqueue(&self, task: impl IntoTask) -> Result<TaskInfo> {
        self.enqueue_with(task, TaskOptions::new()).await
    }

    /// Enqueues a task; the options given here override its own, one by one.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may still be enqueued.
    pub async fn enqueue_with(&self, task: impl IntoTask, options: impl Borrow<TaskOptions>) -> Result<TaskInfo> {
        Ok(self.handle.enqueue(&task.into_task()?, options.borrow()).await?)
    }

    /// Enqueues a task that is to run after `delay`.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may still be enqueued.
    pub async fn enqueue_in(&self, task: impl IntoTask, delay: Duration) -> Result<TaskInfo> {
        self.enqueue_with(task, TaskOptions::new().process_in(delay)).await
    }

    /// Enqueues a task that is to run at `time`, to the millisecond; a time that is past means now.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may still be enqueued.
    pub async fn enqueue_at(&self, task: impl IntoTask, time: DateTime<Utc>) -> Result<TaskInfo> {
        self.enqueue_with(task, TaskOptions::new().process_at(time)).await
    }

    /// Enqueues a task unless one of the same type, payload and queue was enqueued within `ttl`
    /// (whole seconds, at least one) and has not ended.
    ///
    /// # Errors
    /// [`EnqueueError::DuplicateTask`](asynq_core::EnqueueError::DuplicateTask) then, and as
    /// [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may still be enqueued.
    pub async fn enqueue_unique(&self, task: impl IntoTask, ttl: Duration) -> Result<TaskInfo> {
        self.enqueue_with(task, TaskOptions::new().unique_ttl(ttl)).await
    }

    /// Adds a task to a group, to be aggregated with the others in it.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may still be enqueued.
    pub async fn add_to_group(&self, task: impl IntoTask, group: impl Into<String>) -> Result<TaskInfo> {
        self.enqueue_with(task, TaskOptions::new().group(group)).await
    }

    /// Enqueues many tasks of any kind, and returns an answer for each, in order. Tasks of one queue enter it in
    /// their order, but for those of 256 KiB and more: these travel apart, and others do not wait for them. Up to 200 tasks
    /// travel in a call. A call that has to be sent again, as the first to a server that does not know its script yet, can
    /// be overtaken by the next one.
    ///
    /// # Cancel safety
    /// Not safe: any of them may still be enqueued.
    pub async fn enqueue_many<T: IntoTask>(&self, tasks: impl IntoIterator<Item = T>) -> Vec<Result<TaskInfo>> {
        let tasks = tasks.into_iter().map(IntoTask::into_task).collect();
        self.handle.enqueue_many(tasks).await
    }

    /// Enqueues a task, or fails at once if too many are waiting.
    ///
    /// # Errors
    /// [`EnqueueError::Overloaded`](asynq_core::EnqueueError::Overloaded), and as
    /// [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may still be enqueued.
    pub async fn try_enqueue(&self, task: impl IntoTask) -> Result<TaskInfo> {
        self.try_enqueue_with(task, TaskOptions::new()).await
    }

    /// Enqueues a task with options of this call, or fails at once if too many are waiting.
    ///
    /// # Errors
    /// As [`try_enqueue`](Self::try_enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may still be enqueued.
    pub async fn try_enqueue_with(&self, task: impl IntoTask, options: impl Borrow<TaskOptions>) -> Result<TaskInfo> {
        Ok(self.handle.try_enqueue(&task.into_task()?, options.borrow()).await?)
    }

    /// Checks that the storage answers.
    ///
    /// # Errors
    /// [`Error::Broker`](asynq_core::Error::Broker) says why not.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.broker.prompt_storage(CONNECTING).await?.ping().await?)
    }

    /// Sends and answers the enqueues that wait, and closes the connections; for all clones.
    ///
    /// The client of a system, in a handler or out of [`AsynqSystem::client`](crate::AsynqSystem::client), is the
    /// system's to close: this does nothing then and returns at once, so that nobody ends the system for others.
    ///
    /// # Cancel safety
    /// Safe: the closing goes on.
    pub async fn close(&self) {
        if let Some(own) = &self.own {
            own.shutdown().await;
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.handle).finish()
    }
}

/// The client of the system that runs the task.
impl FromTask for Client {
    fn from_task(task: &Task, _: &States) -> Result<Self, Rejection> {
        task.context().map(TaskContextExt::client).ok_or(Rejection::NoRun)
    }
}

/// Gives a handler the client of its system, from the context of its run.
pub trait TaskContextExt {
    /// The client of the system that runs the task; see [`Client`](Client#in-handlers).
    fn client(&self) -> Client;
}

impl TaskContextExt for TaskContext {
    fn client(&self) -> Client {
        self.of_runtime::<Client>().cloned().unwrap_or_else(Client::ended)
    }
}
