//! [`Client`]: enqueues tasks.

use std::{fmt, sync::Arc, time::Duration};

use asynq_actors::AsynqSystem;
use asynq_core::{ClientConfig, Connector, Result, TaskInfo, TaskOptions, payload::IntoTask};
use chrono::{DateTime, Utc};

/// Enqueues tasks (Go: `asynq.Client`). Cheap to clone; the clones share their connections.
///
/// A thin face over the client actor of an [`AsynqSystem`]: enqueues that come while one is on its
/// way go out together with the next. When the last clone is dropped, what waits is still sent, in
/// the background; [`close`](Self::close) waits for it.
///
/// ```
/// use asynq::{client::Client, memory::MemoryStore, task::Task};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> asynq::error::Result<()> {
/// let client = Client::new(MemoryStore::new()).await?;
/// let info = client.enqueue(Task::new("email:send", b"42")?).await?;
/// println!("enqueued {}", info.id);
/// client.enqueue_in(Task::new("email:digest", b"42")?, Duration::from_secs(300)).await?;
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner(AsynqSystem);

impl Drop for Inner {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Client {
    /// A client on the storage that the connector opens, with default settings. Connects in the
    /// background: [`ping`](Self::ping) says whether the storage answers.
    ///
    /// # Errors
    /// [`Error::Actor`](crate::Error::Actor) when its actors cannot start.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn new(connector: impl Connector) -> Result<Self> {
        Self::with_config(connector, ClientConfig::new()).await
    }

    /// A client with settings.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with all faults at once, and those of
    /// [`new`](Self::new).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn with_config(connector: impl Connector, config: ClientConfig) -> Result<Self> {
        let builder = AsynqSystem::builder(connector).client_config(config);
        Ok(Self(Arc::new(Inner(builder.spawn().await?))))
    }

    /// A client whose storage answers, or an error that says why it does not, after `within` at the latest.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker) with an [`Outage`](crate::error::Outage), at once where the
    /// storage refuses the credentials; and those of [`new`](Self::new).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(connector: impl Connector, within: Duration) -> Result<Self> {
        let builder = AsynqSystem::builder(connector).connect_within(within);
        Ok(Self(Arc::new(Inner(builder.spawn().await?))))
    }

    fn system(&self) -> &AsynqSystem {
        &self.0.0
    }

    /// Enqueues a task with its own options. Waits while too many enqueues are waiting.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) names the field and its limit, and nothing was
    /// sent; [`Error::Enqueue`](crate::Error::Enqueue) for a duplicate, an id that is taken, an
    /// outcome that is [unknown](crate::error::EnqueueError::Unknown) or a client that is closed;
    /// [`Error::Broker`](crate::Error::Broker) when the storage did not take it in time.
    ///
    /// # Cancel safety
    /// Not safe: the task may be enqueued all the same.
    pub async fn enqueue(&self, task: impl IntoTask) -> Result<TaskInfo> {
        self.enqueue_with(task, TaskOptions::new()).await
    }

    /// Enqueues a task; the options given here take the place of its own, one by one.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may be enqueued all the same.
    pub async fn enqueue_with(&self, task: impl IntoTask, options: TaskOptions) -> Result<TaskInfo> {
        Ok(self.system().client().enqueue_with(task.into_task()?, &options).await?)
    }

    /// Enqueues a task that is to run after `delay`.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may be enqueued all the same.
    pub async fn enqueue_in(&self, task: impl IntoTask, delay: Duration) -> Result<TaskInfo> {
        self.enqueue_with(task, TaskOptions::new().process_in(delay)).await
    }

    /// Enqueues a task that is to run at `time`, to the millisecond; a time that is past means now.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may be enqueued all the same.
    pub async fn enqueue_at(&self, task: impl IntoTask, time: DateTime<Utc>) -> Result<TaskInfo> {
        self.enqueue_with(task, TaskOptions::new().process_at(time)).await
    }

    /// Enqueues a task unless one of the same type, payload and queue was enqueued within `ttl`
    /// (whole seconds, at least one) and has not ended.
    ///
    /// # Errors
    /// [`EnqueueError::DuplicateTask`](crate::error::EnqueueError::DuplicateTask) then, and as
    /// [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may be enqueued all the same.
    pub async fn enqueue_unique(&self, task: impl IntoTask, ttl: Duration) -> Result<TaskInfo> {
        self.enqueue_with(task, TaskOptions::new().unique_ttl(ttl)).await
    }

    /// Adds a task to a group, to be aggregated with the others in it.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may be enqueued all the same.
    pub async fn add_to_group(&self, task: impl IntoTask, group: impl Into<String>) -> Result<TaskInfo> {
        self.enqueue_with(task, TaskOptions::new().group(group)).await
    }

    /// Enqueues many tasks of any kind, mixed as you like; an answer for each, in order. Tasks of one queue enter it
    /// in their order, but for those of 256 KiB and more: these travel apart, and others do not wait for them.
    ///
    /// # Cancel safety
    /// Not safe: any of them may be enqueued all the same.
    pub async fn enqueue_many<T: IntoTask>(&self, tasks: impl IntoIterator<Item = T>) -> Vec<Result<TaskInfo>> {
        let client = self.system().client();
        let mut answers = Vec::new();
        let mut good = Vec::new();
        for task in tasks {
            match task.into_task() {
                Ok(task) => {
                    answers.push(None);
                    good.push(task);
                }
                Err(error) => answers.push(Some(error)),
            }
        }
        let mut enqueued = client.enqueue_many(good).await.into_iter();
        let answer = |refused: Option<_>| match refused {
            Some(error) => Some(Err(error)),
            None => enqueued.next().map(|answer| answer.map_err(Into::into)),
        };
        answers.into_iter().filter_map(answer).collect()
    }

    /// Enqueues a task, or says at once that too many are waiting.
    ///
    /// # Errors
    /// [`EnqueueError::Overloaded`](crate::error::EnqueueError::Overloaded), and as
    /// [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// Not safe: the task may be enqueued all the same.
    pub async fn try_enqueue(&self, task: impl IntoTask) -> Result<TaskInfo> {
        Ok(self.system().client().try_enqueue(task.into_task()?).await?)
    }

    /// Whether the storage answers.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker) says why not.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ping(&self) -> Result<()> {
        self.system().ping().await
    }

    /// Sends what waits, answers it, and closes the connections; for all clones.
    ///
    /// # Cancel safety
    /// Safe: the closing goes on.
    pub async fn close(&self) {
        self.system().shutdown().await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.system().client()).finish()
    }
}
