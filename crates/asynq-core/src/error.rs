//! Every error of the crate: one enum for each boundary, and the public [`Error`] over them.

mod directed;
mod directive;
mod outage;
mod storage;
mod task;
#[doc(hidden)]
pub mod text;

use std::{fmt, time::Duration};

pub use directed::{BoxError, Directed, Directive};
pub use outage::Outage;
pub use storage::{BrokerError, EnqueueError, ErrorKind, PoisonKind, SettleError};
pub use task::TaskError;

use crate::excerpt::Excerpt;
pub use crate::names::{NameError, NameFault};

/// The result of the public API.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One or more faults of a configuration, all found at once.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("invalid configuration: {}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ConfigError {
    /// The faults, in the order of the fields.
    pub faults: Vec<ConfigFault>,
}

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct ConfigFault {
    /// The setting.
    pub field: &'static str,
    /// The fault and the limit.
    pub problem: String,
}

/// The public error of Asynq for Rust.
///
/// In a handler, `?` on any error that can be boxed works through [`Error::other`]. The returned error decides the
/// fate of the task. A plain error retries it. [`Error::skip_retry`] archives it, [`Error::revoke`] deletes it
/// without a retry, and [`Error::snooze`] delays it. These three keep their meaning when they are wrapped: see
/// [`Error::directive`].
///
/// `Debug` shows the text with all causes, because `main` prints the `Debug` form of an error that it returns.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A task or option that cannot be enqueued.
    #[error(transparent)]
    Invalid(#[from] TaskError),
    /// An enqueue failed.
    #[error(transparent)]
    Enqueue(EnqueueError),
    /// The storage failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// An outcome, a result or a lease was not written.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// A configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The payload is not the JSON that the handler expects, or a value cannot be written as JSON.
    #[error("payload is not the expected JSON: {0}")]
    Json(#[source] BoxError),
    /// An error of the application. Its text is stored in the task.
    #[error(transparent)]
    Handler(BoxError),
    /// Archives the task now, even if retries are left. The stored text is that of the reason. Made by
    /// [`skip_retry`](Self::skip_retry).
    #[error("{}", .0.text())]
    SkipRetry(#[source] Directed),
    /// Deletes the task without retry or archive. The task counts as processed, as in Go. Made by
    /// [`revoke`](Self::revoke).
    #[error("{}", .0.text())]
    Revoke(#[source] Directed),
    /// Runs the task again after a delay, without using up a retry. Made by [`snooze`](Self::snooze).
    #[error("{}", .0.text())]
    Snooze(#[source] Directed),
    /// The handler panicked. The text is that of Go's `PanicError`.
    #[error("panic error cause by: {0}")]
    Panic(String),
    /// The task's timeout or deadline passed. The text is Go's.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    /// The task was cancelled. The text is Go's.
    #[error("context canceled")]
    Canceled,
    /// The lease was lost before the task ended. The text is Go's.
    #[error("asynq: task lease expired")]
    LeaseExpired,
    /// No handler is registered for the type. The text is Go's.
    #[error("handler not found for task {:?}", Excerpt(.task_type))]
    HandlerNotFound {
        /// The type of the task.
        task_type: String,
    },
    /// The system or server is shut down, or was never started.
    #[error("asynq: {0}")]
    Lifecycle(&'static str),
    /// A supervised actor failed or could not be reached.
    #[error("supervised runtime failed")]
    Actor(#[source] BoxError),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::shown(self))
    }
}

impl Error {
    /// Wraps an error of the application. It is a plain failure, which is retried while retries are left. A boxed
    /// [`Error`] is returned unchanged.
    pub fn other(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Self>() {
            Ok(own) => *own,
            Err(other) => Self::Handler(other),
        }
    }

    /// A failure that archives the task now (Go: an error that wraps `SkipRetry`).
    pub fn skip_retry(error: impl Into<BoxError>) -> Self {
        Self::SkipRetry(Directed::skip_retry(error.into()))
    }

    /// An end that drops the task (Go: an error that wraps `RevokeTask`).
    pub fn revoke(error: impl Into<BoxError>) -> Self {
        Self::Revoke(Directed::revoke(error.into()))
    }

    /// Snoozes the task: it runs again after `delay` (to the second), without using up a retry. Go needs an
    /// `IsFailure` and a `RetryDelayFunc` for this.
    #[must_use]
    pub fn snooze(delay: Duration) -> Self {
        Self::Snooze(Directed::snooze(delay))
    }

    /// Returns whether it says that the handler panicked (Go: `IsPanicError`).
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self, Self::Panic(_))
    }
}

impl From<EnqueueError> for Error {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Invalid(e) => Self::Invalid(e),
            EnqueueError::Broker(e) => Self::Broker(e),
            other => Self::Enqueue(other),
        }
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::Invalid(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_text_of_a_handler_error_is_its_own() {
        assert_eq!(Error::other("boom").to_string(), "boom");
        assert_eq!(Error::skip_retry("no such user").to_string(), "no such user");
        assert_eq!(
            Error::Panic("panic [a.rs:1]: x".into()).to_string(),
            "panic error cause by: panic [a.rs:1]: x"
        );
    }
}
