//! Waiting for the end of a task.

use std::time::Duration;

use asynq_core::{BrokerError, QueueName, Result, TaskId, TaskInfo, TaskState};
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::{ANSWER_SLACK, Client};
use crate::broker::CONNECTING;

/// The first pause between two looks at the task.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest one.
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// A pause is this part of the time waited so far: an end is heard of late by about that.
const PART: u32 = 8;

/// The end of a task, or where it stands when the [wait](Client::wait) for it is over.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Waited {
    /// The task succeeded, and is kept for its [retention](asynq_core::TaskOptions::retention):
    /// [`result`](TaskInfo::result) is what its handler wrote.
    Completed(Box<TaskInfo>),
    /// The task failed for good and is archived: [`last_error`](TaskInfo::last_error) says why. An operator may
    /// still have it run again.
    Archived(Box<TaskInfo>),
    /// The task is not stored, and nothing else is known: it succeeded without retention or its retention is over,
    /// was revoked, deleted or aggregated with others of its group, or it never existed.
    Gone,
    /// The time is over before it ended: where it stands now, and what its last run came to.
    NotYet(Box<TaskInfo>),
}

impl Waited {
    /// Returns what the handler wrote as the result of a task that has [completed](Self::Completed).
    #[must_use]
    pub fn result(&self) -> Option<&Bytes> {
        match self {
            Self::Completed(info) => info.result.as_ref(),
            _ => None,
        }
    }
}

impl Client {
    /// Waits for the end of a task that was enqueued, for `within` at most (and up to a second longer for the answer
    /// of the storage). It looks at least once; zero only looks.
    ///
    /// The task needs a [retention](asynq_core::TaskOptions::retention) of some seconds at least for its end to be
    /// seen as [`Completed`](Waited::Completed), with its result: without one a task that succeeds vanishes, which
    /// is [`Gone`](Waited::Gone). A task that fails and is retried has not ended.
    ///
    /// It works the same with servers of ours and of Go's: the task is looked at again and again, after 10 ms
    /// at first and then after growing pauses, each about an eighth of the time waited so far, 1 s at most.
    /// A look reads the state alone; the whole task is read once, at the end. The time is tokio's, also where a test has a clock of its
    /// own.
    ///
    /// A handler that waits for another task holds its slot meanwhile. Where all slots wait for tasks of the same
    /// server, none of these runs before a wait is over.
    ///
    /// ```
    /// use asynq::{AsynqSystem, Error, Task, client::Waited, memory::MemoryStore};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// let system = AsynqSystem::builder(MemoryStore::new())
    ///     .handler(|task: Task| async move {
    ///         let run = task.context().ok_or(Error::other("not run by a server"))?;
    ///         run.write_result(task.get_payload().to_ascii_uppercase()).await?;
    ///         Ok(())
    ///     })
    ///     .spawn()
    ///     .await?;
    /// let client = system.client();
    /// let task = Task::new("text:upper", b"hello")?.with_retention(Duration::from_secs(60));
    /// let info = client.enqueue(task).await?;
    /// match client.wait(&info, Duration::from_secs(10)).await? {
    ///     Waited::Completed(info) => println!("{:?}", info.result),
    ///     Waited::Archived(info) => println!("failed for good: {}", info.last_error),
    ///     Waited::NotYet(info) => println!("still {}", info.state),
    ///     other => println!("{other:?}"),
    /// }
    /// # system.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Broker`](asynq_core::Error::Broker) when the storage did not answer at the end of that time, or
    /// at once where it never will: it is closed, refuses the credentials, or the data of the task cannot be read.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn wait(&self, task: &TaskInfo, within: Duration) -> Result<Waited> {
        self.wait_until_ended(&task.queue, &task.id, within).await
    }

    /// As [`wait`](Self::wait), for a task that is known by its queue and id.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); [`Error::Invalid`](asynq_core::Error::Invalid) for a blank queue or id.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn wait_for(&self, queue: &str, id: &str, within: Duration) -> Result<Waited> {
        let (queue, id) = (QueueName::new(queue)?, TaskId::new(id)?);
        self.wait_until_ended(&queue, &id, within).await
    }

    async fn wait_until_ended(&self, queue: &QueueName, id: &TaskId, within: Duration) -> Result<Waited> {
        let began = Instant::now();
        loop {
            let left = within.saturating_sub(began.elapsed());
            let look = timeout(left.saturating_add(ANSWER_SLACK), self.look(queue, id, left.is_zero()));
            let looked = look.await.unwrap_or_else(|_| Err(self.broker.unreachable()));
            let left = within.saturating_sub(began.elapsed());
            match looked {
                Ok(Some(info)) => match info.state {
                    TaskState::Completed => return Ok(Waited::Completed(info)),
                    TaskState::Archived => return Ok(Waited::Archived(info)),
                    _ if left.is_zero() => return Ok(Waited::NotYet(info)),
                    // It had ended a moment before, and is run once more.
                    _ => {}
                },
                // The time is over: the next look reads the whole.
                Ok(None) if left.is_zero() => continue,
                Ok(None) => {}
                Err(BrokerError::TaskNotFound { .. } | BrokerError::QueueNotFound { .. }) => return Ok(Waited::Gone),
                Err(error) if left.is_zero() || !error.is_retryable() => return Err(error.into()),
                Err(_) => {}
            }
            let pause = (began.elapsed() / PART).clamp(FIRST_PAUSE, LAST_PAUSE);
            sleep(self.handle.around(pause).min(left)).await;
        }
    }

    /// Reads the task if it has ended, or if this is the `last` look. Read in two steps, it may be another one by the
    /// second.
    async fn look(&self, queue: &QueueName, id: &TaskId, last: bool) -> Result<Option<Box<TaskInfo>>, BrokerError> {
        let storage = self.broker.prompt_storage(CONNECTING).await?;
        let has_ended = |state| matches!(state, TaskState::Completed | TaskState::Archived);
        if last || has_ended(storage.task_state(queue, id).await?) {
            Ok(Some(Box::new(storage.task_info(queue, id).await?)))
        } else {
            Ok(None)
        }
    }
}
