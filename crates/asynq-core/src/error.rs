//! Every error of the crate: one enum for each boundary, and the public [`Error`] over them.

mod directive;
mod outage;

use std::{error::Error as StdError, fmt, time::Duration};

pub use directive::{Directed, Directive};
pub use outage::Outage;

use crate::{
    excerpt::Excerpt,
    names::{GroupKey, QueueName, TaskId},
    state::TaskState,
};

/// Any error of the user's own.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The result of the public API.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {fault}")]
#[non_exhaustive]
pub struct NameError {
    /// Which name it was, in words: `queue`, `task id`, `group` …
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: NameFault,
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NameFault {
    /// It is empty or only white space. The text is Go's.
    #[error("must contain one or more characters")]
    Blank,
    /// A queue's name that begins with `}`. The keys of a queue share the hash tag `{name}`, which this would
    /// end before it begins: a cluster would spread the keys over its nodes.
    #[error("must not begin with '}}', which makes the hash tag of its keys empty")]
    EmptyHashTag,
}

/// A task or an option that cannot be enqueued as it is. Nothing was sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// A type, queue, id or group that cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A duration below what the wire can carry: whole seconds.
    #[error("{field} of {got:?} is below the limit of {limit:?}")]
    TooShort {
        /// The option.
        field: &'static str,
        /// The smallest allowed value.
        limit: Duration,
        /// The value given.
        got: Duration,
    },
    /// A duration above the limit.
    #[error("{field} of {got:?} is above the limit of {limit:?}")]
    TooLong {
        /// The option.
        field: &'static str,
        /// The largest allowed value.
        limit: Duration,
        /// The value given.
        got: Duration,
    },
    /// A number above the limit.
    #[error("{field} of {got} is above the limit of {limit}")]
    TooLarge {
        /// The option or field.
        field: &'static str,
        /// The largest allowed value.
        limit: u64,
        /// The value given.
        got: u64,
    },
    /// A time outside of 1970-01-01T00:00:01Z to 9999-12-31T23:59:59Z.
    #[error("{field} lies outside of 1970-01-01T00:00:01Z to 9999-12-31T23:59:59Z")]
    TimeOutOfRange {
        /// The option.
        field: &'static str,
    },
    /// Options that exclude each other.
    #[error("{first} and {second} cannot be combined")]
    Conflict {
        /// One option.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The value could not be written as the payload.
    #[error("payload could not be encoded: {reason}")]
    Encode {
        /// What the encoder said.
        reason: String,
    },
}

/// What went wrong between us and the storage.
///
/// [`is_ambiguous`](Self::is_ambiguous) tells whether the operation may have taken effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// There is no connection, or it refused before anything was sent. Nothing took effect.
    #[error("storage is not reachable")]
    Unavailable {
        /// The cause, where there is one.
        source: Option<BoxError>,
    },
    /// It was sent, and the answer never came: it may have taken effect or may still do so.
    #[error("the answer of the storage was lost, the operation may have taken effect")]
    Ambiguous {
        /// The cause, where there is one.
        source: Option<BoxError>,
    },
    /// The storage is at its memory limit and refused the write whole. Nothing took effect.
    #[error("storage is out of memory")]
    OutOfMemory,
    /// The storage is a read-only replica. Nothing took effect.
    #[error("storage is read-only")]
    ReadOnly,
    /// The storage is still loading or otherwise busy. Nothing took effect.
    #[error("storage is busy: {reason}")]
    Busy {
        /// The storage's own word for it.
        reason: String,
    },
    /// The storage refused for good: credentials, permissions, a wrong command.
    #[error("storage refused the operation")]
    Refused {
        /// What it said.
        source: BoxError,
    },
    /// A key holds another type than the layout says. Nothing took effect.
    #[error("key {} has the wrong type", Excerpt(.key))]
    WrongType {
        /// The key.
        key: String,
    },
    /// An answer of a shape that the operation never gives.
    #[error("unexpected answer of the storage to {operation}")]
    Protocol {
        /// The operation.
        operation: &'static str,
        /// The cause, where there is one.
        source: Option<BoxError>,
    },
    /// No queue of that name is known.
    #[error("queue {queue:?} does not exist")]
    QueueNotFound {
        /// The name.
        queue: QueueName,
    },
    /// No task of that id is in the queue.
    #[error("cannot find task with id={} in queue {queue:?}", Excerpt(.id.as_str()))]
    TaskNotFound {
        /// The queue.
        queue: QueueName,
        /// The id.
        id: TaskId,
    },
    /// The task's data cannot be read.
    #[error("task {} in queue {queue:?} cannot be read: {kind}", Excerpt(.id.as_str()))]
    Poison {
        /// The queue.
        queue: QueueName,
        /// The id.
        id: TaskId,
        /// What is wrong with it.
        kind: PoisonKind,
    },
    /// The state of the task does not allow it. Nothing took effect.
    #[error("task {} in queue {queue:?} is in {state} state", Excerpt(.id.as_str()))]
    WrongState {
        /// The queue.
        queue: QueueName,
        /// The id.
        id: TaskId,
        /// The state it is in.
        state: TaskState,
    },
    /// The queue was paused before.
    #[error("queue {queue:?} is already paused")]
    AlreadyPaused {
        /// The queue.
        queue: QueueName,
    },
    /// The queue was not paused.
    #[error("queue {queue:?} is not paused")]
    NotPaused {
        /// The queue.
        queue: QueueName,
    },
    /// Listing aggregating tasks needs a group.
    #[error("listing aggregating tasks of queue {queue:?} needs a group")]
    GroupRequired {
        /// The queue.
        queue: QueueName,
    },
    /// The aggregation set was handed back or deleted meanwhile.
    #[error("aggregation set of group {group:?} in queue {queue:?} is gone")]
    AggregationSetGone {
        /// The queue.
        queue: QueueName,
        /// The group.
        group: GroupKey,
    },
    /// This storage cannot do it; the caller has another way (polling instead of a watch).
    #[error("storage does not support {what}")]
    Unsupported {
        /// What it cannot do.
        what: &'static str,
    },
    /// The connection string or its options are wrong.
    #[error("invalid connection: {reason}")]
    InvalidConnection {
        /// What is wrong, without any password.
        reason: String,
    },
    /// The broker was closed.
    #[error("broker is closed")]
    Closed,
}

/// What a caller can do about a [`BrokerError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Try again later: the storage is away or busy.
    Transient,
    /// It may have happened: find out before doing it again.
    Ambiguous,
    /// Trying again gives the same answer.
    Permanent,
    /// The thing named does not exist, or is not in the needed state.
    State,
}

impl BrokerError {
    /// Returns what a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } | Self::OutOfMemory | Self::ReadOnly | Self::Busy { .. } => ErrorKind::Transient,
            Self::Ambiguous { .. } => ErrorKind::Ambiguous,
            Self::Refused { .. }
            | Self::WrongType { .. }
            | Self::Protocol { .. }
            | Self::Unsupported { .. }
            | Self::InvalidConnection { .. }
            | Self::Poison { .. }
            | Self::Closed => ErrorKind::Permanent,
            Self::QueueNotFound { .. }
            | Self::TaskNotFound { .. }
            | Self::WrongState { .. }
            | Self::AlreadyPaused { .. }
            | Self::NotPaused { .. }
            | Self::GroupRequired { .. }
            | Self::AggregationSetGone { .. } => ErrorKind::State,
        }
    }

    /// Returns whether the operation may have taken effect although it failed.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.kind() == ErrorKind::Ambiguous
    }

    /// Returns whether the same call may succeed later. True for ambiguous errors too: settles are fenced
    /// and enqueues carry a token, so both may be sent again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Transient | ErrorKind::Ambiguous)
    }

    /// [`Unavailable`](Self::Unavailable) with a cause.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::Unavailable {
            source: Some(source.into()),
        }
    }

    /// [`Ambiguous`](Self::Ambiguous) with a cause.
    pub fn ambiguous(source: impl Into<BoxError>) -> Self {
        Self::Ambiguous {
            source: Some(source.into()),
        }
    }
}

/// Why a task's data cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PoisonKind {
    /// An id stood in a container and had no hash.
    #[error("the id has no task hash")]
    NoHash,
    /// The hash has no `msg` field.
    #[error("the task hash has no message")]
    NoMessage,
    /// The task key is not a hash.
    #[error("the task key is not a hash")]
    NotAHash,
    /// The message is not a `TaskMessage`.
    #[error("the message cannot be decoded")]
    Undecodable,
    /// The message names another id, or another queue.
    #[error("the message names another task")]
    Mismatch,
    /// The hash has no `state`, or one that no asynq program writes.
    #[error("the task state is missing or unknown")]
    BadState,
    /// The task does not stand where its state says. [`heal`](crate::Broker::heal) puts it there.
    #[error("the task does not stand where its state says")]
    Misplaced,
}

/// Why a task was not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The task or its options are wrong. Nothing was sent.
    #[error(transparent)]
    Invalid(#[from] TaskError),
    /// The unique lock of (queue, type, payload) is taken. Go: `ErrDuplicateTask`.
    #[error("task already exists")]
    DuplicateTask,
    /// A task with that id exists in the queue, in whatever state. Go: `ErrTaskIDConflict`.
    #[error("task ID conflicts with another task")]
    TaskIdConflict,
    /// No answer came before the deadline: the task may or may not be in the queue. Enqueueing
    /// again with the same id is safe while the task lives.
    #[error("it is unknown whether task {} was enqueued", Excerpt(.id.as_str()))]
    Unknown {
        /// The id it was sent with.
        id: TaskId,
    },
    /// Too many enqueues are waiting for an answer; this one was not accepted.
    #[error("too many enqueues are in flight")]
    Overloaded,
    /// The client was stopped before the task was sent.
    #[error("client is closed")]
    Closed,
    /// The storage failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Why an outcome or an extension was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The task is not (or no longer) ours: settled before, or taken over by a recoverer. Drop it.
    #[error("the task is not leased by this take")]
    NotOurs,
    /// The task's data are damaged; nothing was written for it.
    #[error("the task is damaged: {0}")]
    Poison(PoisonKind),
    /// The task is ours, but it has no lease that could be extended, which is damage. Nothing was
    /// written. Only extensions are answered so.
    #[error("the task has no lease")]
    NoLease,
    /// The storage failed; offer it again.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

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
    /// What is wrong and what the limit is.
    pub problem: String,
}

/// The public error of Asynq for Rust.
///
/// In a handler, `?` on any boxable error works through [`Error::other`]; the answer decides what
/// happens to the task: a plain error retries, [`Error::skip_retry`] archives,
/// [`Error::revoke`] drops the task without retry or archive, [`Error::snooze`] puts it off. The three keep
/// their meaning when they are wrapped: see [`Error::directive`].
///
/// `Debug` shows the text with all causes, as `main` does with an error that it returns.
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
    /// A payload that is not the JSON the handler expects, or a value that is not writable as JSON.
    #[error("payload is not the expected JSON: {0}")]
    Json(#[source] BoxError),
    /// An error of the user's own; its text is what is stored in the task.
    #[error(transparent)]
    Handler(BoxError),
    /// Archive the task now, whatever retries are left. The text stored is that of the reason. Made by
    /// [`skip_retry`](Self::skip_retry).
    #[error("{}", .0.text())]
    SkipRetry(#[source] Directed),
    /// Drop the task: neither retry nor archive. Counts as processed, as in Go. Made by
    /// [`revoke`](Self::revoke).
    #[error("{}", .0.text())]
    Revoke(#[source] Directed),
    /// Run the task again after a while; no retry is used up. Made by [`snooze`](Self::snooze).
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
        f.write_str(&crate::distrust::shown(self))
    }
}

impl Error {
    /// An error of the user's own; a plain failure, retried while retries are left. One that is an
    /// [`Error`] in a box comes out of it.
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

    /// Puts the task off: it is tried again after `delay` (to the second), and no retry is used up.
    /// Ours; Go needs an `IsFailure` and a `RetryDelayFunc` for it.
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

impl From<NameError> for EnqueueError {
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

    #[test]
    fn ambiguous_is_neither_plain_failure_nor_permanent() {
        let lost = BrokerError::Ambiguous { source: None };
        assert!(lost.is_ambiguous() && lost.is_retryable());
        assert!(!BrokerError::Unavailable { source: None }.is_ambiguous());
        assert!(!BrokerError::Closed.is_retryable());
    }
}
