//! What a handler can see and do besides its task: the run it is part of.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result, SettleError},
    names::{QueueName, TaskId},
};

/// Where a handler's result goes. The runtime implements it over the broker.
#[async_trait]
pub trait ResultSink: Send + Sync + 'static {
    /// Stores the bytes with the task.
    ///
    /// # Errors
    /// [`SettleError::NotOurs`] when the task is no longer ours.
    async fn write(&self, result: Bytes) -> Result<usize, SettleError>;
}

/// One run of one task. Cheap to clone.
#[derive(Clone)]
pub struct TaskContext(Arc<Inner>);

struct Inner {
    id: TaskId,
    queue: QueueName,
    retried: u32,
    max_retry: u32,
    deadline: DateTime<Utc>,
    cancel: CancellationToken,
    results: Arc<dyn ResultSink>,
}

/// What a [`TaskContext`] is made of.
#[allow(missing_debug_implementations, reason = "a bag of parts that is taken apart at once")]
pub struct ContextParts {
    /// The task.
    pub id: TaskId,
    /// Its queue.
    pub queue: QueueName,
    /// Retries used before this run.
    pub retried: u32,
    /// Retries allowed.
    pub max_retry: u32,
    /// When the run must have ended.
    pub deadline: DateTime<Utc>,
    /// Cancelled when the run is to end.
    pub cancel: CancellationToken,
    /// Where results go.
    pub results: Arc<dyn ResultSink>,
}

impl From<ContextParts> for TaskContext {
    fn from(parts: ContextParts) -> Self {
        let ContextParts {
            id,
            queue,
            retried,
            max_retry,
            deadline,
            cancel,
            results,
        } = parts;
        Self(Arc::new(Inner {
            id,
            queue,
            retried,
            max_retry,
            deadline,
            cancel,
            results,
        }))
    }
}

impl TaskContext {
    /// The task's id (Go: `GetTaskID`).
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.0.id
    }

    /// The task's queue (Go: `GetQueueName`).
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        &self.0.queue
    }

    /// How many retries were used before this run; 0 in the first (Go: `GetRetryCount`).
    #[must_use]
    pub fn retried(&self) -> u32 {
        self.0.retried
    }

    /// How many retries the task has at most (Go: `GetMaxRetry`).
    #[must_use]
    pub fn max_retry(&self) -> u32 {
        self.0.max_retry
    }

    /// When the run must have ended; it is cancelled then.
    #[must_use]
    pub fn deadline(&self) -> DateTime<Utc> {
        self.0.deadline
    }

    /// Waits until the run is to end: cancel request, deadline, lost lease or shutdown. A handler
    /// that cannot be dropped at an await point (blocking code) looks here.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn cancelled(&self) {
        self.0.cancel.cancelled().await;
    }

    /// Whether the run is to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.is_cancelled()
    }

    /// Stores bytes as the task's result, replacing an earlier one; the number of bytes. The
    /// result of a task without retention goes with the task on success, as in Go.
    ///
    /// # Errors
    /// [`Error::Canceled`] when the run is to end; [`Error::Settle`] when the task is no longer
    /// ours or the storage failed.
    ///
    /// # Cancel safety
    /// Not safe: it may have been written.
    pub async fn write_result(&self, result: impl Into<Bytes>) -> Result<usize> {
        if self.is_cancelled() {
            return Err(Error::Canceled);
        }
        Ok(self.0.results.write(result.into()).await?)
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("id", &self.0.id)
            .field("queue", &self.0.queue)
            .field("retried", &self.0.retried)
            .field("deadline", &self.0.deadline)
            .finish_non_exhaustive()
    }
}
