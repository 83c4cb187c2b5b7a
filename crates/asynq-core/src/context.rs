//! The context of a handler's run: its properties, and the calls that it may make.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result, SettleError, TaskError},
    message::TaskMessage,
    names::{QueueName, TaskId},
    options::DEFAULT_MAX_MESSAGE_BYTES,
    progress,
    shared_state::States,
    trace_context::TraceContext,
};

/// A destination for a handler's result. The runtime implements it over the broker.
#[async_trait]
pub trait ResultSink: Send + Sync + 'static {
    /// Stores the bytes with the task.
    ///
    /// # Errors
    /// [`SettleError::NotOurs`] when the task is no longer ours.
    async fn write(&self, result: Bytes) -> Result<usize, SettleError>;

    /// Returns how many bytes a result may have. Default: 16 MiB.
    fn max_bytes(&self) -> usize {
        DEFAULT_MAX_MESSAGE_BYTES
    }

    /// Stores the progress of the run, in per cent and in words, with the present time. The values are within the
    /// limits of [`Progress`](crate::Progress).
    ///
    /// # Errors
    /// As [`write`](Self::write).
    async fn progress(&self, percent: u8, note: String) -> Result<(), SettleError>;
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
    states: States,
    hold: Weak<dyn Any + Send + Sync>,
    runtime: Option<Arc<dyn Any + Send + Sync>>,
    trace: TraceContext,
    message: Arc<TaskMessage>,
}

/// A guard that keeps a run from ending, for code that cannot be interrupted. Until all guards of the run are
/// dropped, its task keeps its slot and its lease, and no outcome is written.
#[derive(Clone)]
pub struct Hold(#[expect(dead_code, reason = "held, not looked at")] Option<Arc<dyn Any + Send + Sync>>);

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

/// The parts of a [`TaskContext`].
#[doc(hidden)]
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
    /// Time by which the run must have ended.
    pub deadline: DateTime<Utc>,
    /// Cancelled when the run is to end.
    pub cancel: CancellationToken,
    /// Destination of results.
    pub results: Arc<dyn ResultSink>,
    /// Values that handlers share.
    pub states: States,
    /// Reference that keeps the run going while a [`Hold`] of it exists.
    pub hold: Weak<dyn Any + Send + Sync>,
    /// A value of the runtime, found again through [`TaskContext::of_runtime`].
    pub runtime: Option<Arc<dyn Any + Send + Sync>>,
    /// The span of the run.
    pub trace: TraceContext,
    /// The task as it was taken.
    pub message: Arc<TaskMessage>,
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
            states,
            hold,
            runtime,
            trace,
            message,
        } = parts;
        Self(Arc::new(Inner {
            id,
            queue,
            retried,
            max_retry,
            deadline,
            cancel,
            results,
            states,
            hold,
            runtime,
            trace,
            message,
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

    /// Returns the number of retries used before this run; 0 in the first run (Go: `GetRetryCount`).
    #[must_use]
    pub fn retried(&self) -> u32 {
        self.0.retried
    }

    /// Returns how many retries the task has at most (Go: `GetMaxRetry`).
    #[must_use]
    pub fn max_retry(&self) -> u32 {
        self.0.max_retry
    }

    /// Returns when the run must have ended; it is cancelled then.
    #[must_use]
    pub fn deadline(&self) -> DateTime<Utc> {
        self.0.deadline
    }

    /// Waits until the run must end, because of a cancel request, a deadline, a lost lease or a shutdown. Use it in a
    /// handler that cannot be dropped at an await point, such as blocking code.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn cancelled(&self) {
        self.0.cancel.cancelled().await;
    }

    /// Returns whether the run is to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.is_cancelled()
    }

    /// Returns a guard that keeps the run from ending until the guard is dropped, for code that cannot be
    /// interrupted, on a thread of its own. Without effect after the end of the run.
    #[must_use]
    pub fn hold(&self) -> Hold {
        Hold(self.0.hold.upgrade())
    }

    /// The values that [`ServerConfig::state`](crate::ServerConfig::state) gave.
    #[must_use]
    pub fn states(&self) -> &States {
        &self.0.states
    }

    /// Returns the context of OpenTelemetry that the run has, with the span of the run; an empty one if there is no
    /// tracer provider. Code of the handler has it as its current context. It is for what the handler gives to other
    /// tasks and threads, which attach it themselves.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn otel_context(&self) -> opentelemetry::Context {
        self.0.trace.get().cloned().unwrap_or_default()
    }

    /// Returns the trace context of the run.
    #[doc(hidden)]
    #[must_use]
    pub fn trace(&self) -> &TraceContext {
        &self.0.trace
    }

    /// Returns the headers that the task came with.
    #[doc(hidden)]
    #[must_use]
    pub fn given_headers(&self) -> &BTreeMap<String, String> {
        &self.0.message.headers
    }

    /// Returns what the runtime gave to the run, if it is of this type.
    #[doc(hidden)]
    #[must_use]
    pub fn of_runtime<T: Any>(&self) -> Option<&T> {
        self.0.runtime.as_deref()?.downcast_ref()
    }

    /// Stores bytes as the task's result in place of an earlier one, and returns their number. If the task has no
    /// retention, success deletes the result with the task, as in Go. A result is sent as a whole: it must reach the
    /// storage before the end of the lease that the task has when it is sent, at least 30 s later.
    ///
    /// # Errors
    /// [`TaskError::TooLarge`] inside [`Error::Invalid`], without any effect, for a result beyond
    /// [`max_message_bytes`](crate::ServerConfig::max_message_bytes). [`Error::Canceled`] when the run must end.
    /// [`Error::Settle`] when the task is no longer ours or the storage failed.
    ///
    /// # Cancel safety
    /// Not safe: it may have been written.
    pub async fn write_result(&self, result: impl Into<Bytes>) -> Result<usize> {
        if self.is_cancelled() {
            return Err(Error::Canceled);
        }
        let result = result.into();
        TaskError::check_size("result", result.len(), self.0.results.max_bytes())?;
        Ok(self.0.results.write(result).await?)
    }

    /// Reports the progress of the run in place of the last report: in per cent (0 to 100), and in words (at most
    /// [`MAX_PROGRESS_NOTE`](progress::MAX_PROGRESS_NOTE) bytes, may be empty). Inspectors show it as
    /// [`TaskInfo::progress`](crate::TaskInfo::progress); Go asynq ignores it. Each call writes to the storage, so
    /// once per second is enough.
    ///
    /// # Errors
    /// [`TaskError::TooLarge`] inside [`Error::Invalid`], without any effect, for values beyond the limits.
    /// [`Error::Canceled`] when the run must end. [`Error::Settle`] when the task is no longer ours or the storage
    /// failed.
    ///
    /// # Cancel safety
    /// Not safe: it may have been written.
    pub async fn set_progress(&self, percent: u8, note: impl Into<String>) -> Result<()> {
        let note = note.into();
        progress::check(percent, &note)?;
        if self.is_cancelled() {
            return Err(Error::Canceled);
        }
        Ok(self.0.results.progress(percent, note).await?)
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
