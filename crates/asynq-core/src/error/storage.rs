//! Errors of the storage, one enum for each kind of request.

use super::{directed::BoxError, task::TaskError};
use crate::{
    act::Act,
    excerpt::Excerpt,
    names::{GroupKey, NameError, QueueName, TaskId},
    task_state::TaskState,
};

/// A failure between this library and the storage.
///
/// [`is_ambiguous`](Self::is_ambiguous) tells whether the operation may have taken effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// There is no connection, or the connection refused the request before it was sent. Nothing took effect.
    #[error("storage is not reachable")]
    Unavailable {
        /// The cause, where there is one.
        source: Option<BoxError>,
    },
    /// The request was sent, but no answer arrived. The request may have taken effect, or may still do so.
    #[error("the answer of the storage was lost, the operation may have taken effect")]
    Ambiguous {
        /// The cause, where there is one.
        source: Option<BoxError>,
    },
    /// The storage is at its memory limit and refused the whole write. Nothing took effect.
    #[error("storage is out of memory")]
    OutOfMemory,
    /// The storage is a read-only replica. Nothing took effect.
    #[error("storage is read-only")]
    ReadOnly,
    /// The storage is still loading or otherwise busy. Nothing took effect.
    #[error("storage is busy: {reason}")]
    Busy {
        /// The text of the storage.
        reason: String,
    },
    /// The storage refused for good: credentials, permissions, a wrong command.
    #[error("storage refused the operation")]
    Refused {
        /// The message of the storage.
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
    /// No queue of this name is known.
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
        /// The kind of damage.
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
    /// The queue has tasks, and was not deleted. Go: `QueueNotEmptyError`.
    #[error("queue {queue:?} is not empty")]
    QueueNotEmpty {
        /// The queue.
        queue: QueueName,
    },
    /// The queue has active tasks, and was not deleted.
    #[error("queue {queue:?} has active tasks")]
    QueueHasActiveTasks {
        /// The queue.
        queue: QueueName,
    },
    /// The act is not possible for all tasks of the state. Nothing took effect.
    #[error("cannot {act} all {state} tasks of queue {queue:?}")]
    WrongAct {
        /// The queue.
        queue: QueueName,
        /// The act.
        act: Act,
        /// The state.
        state: TaskState,
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
    /// The storage does not support the operation. The caller has an alternative (polling instead of a watch).
    #[error("storage does not support {what}")]
    Unsupported {
        /// The operation that is not supported.
        what: &'static str,
    },
    /// The connection string or its options are wrong.
    #[error("invalid connection: {reason}")]
    InvalidConnection {
        /// The fault, without any password.
        reason: String,
    },
    /// The broker was closed.
    #[error("broker is closed")]
    Closed,
}

/// A class of [`BrokerError`]s by what a caller can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Try again later: the storage is unreachable or busy.
    Transient,
    /// The operation may have taken effect. Check this before you repeat it.
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
            | Self::QueueNotEmpty { .. }
            | Self::WrongAct { .. }
            | Self::QueueHasActiveTasks { .. }
            | Self::GroupRequired { .. }
            | Self::AggregationSetGone { .. } => ErrorKind::State,
        }
    }

    /// Returns whether the operation may have taken effect although it failed.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.kind() == ErrorKind::Ambiguous
    }

    /// Returns whether the same call may succeed later. Also true for ambiguous errors: writes of outcomes are fenced
    /// and enqueues carry a token, so both can be repeated.
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

/// A reason why a task's data cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PoisonKind {
    /// An id was in a container and had no hash.
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
    /// The task is not in the container of its state. [`heal`](crate::Broker::heal) moves it there.
    #[error("the task is not where its state says")]
    Misplaced,
}

/// A reason why a task was not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The task or its options are wrong. Nothing was sent.
    #[error(transparent)]
    Invalid(#[from] TaskError),
    /// The unique lock of (queue, type, payload) is taken. Go: `ErrDuplicateTask`.
    #[error("task already exists")]
    DuplicateTask,
    /// The queue already has a task with this id, in any state. Go: `ErrTaskIDConflict`.
    #[error("task ID conflicts with another task")]
    TaskIdConflict,
    /// No answer arrived before the deadline, so the queue may or may not have the task. To enqueue again with the
    /// same id is safe while the task exists.
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

/// A reason why an outcome or an extension was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The task is not, or no longer, ours: its outcome was already written, or a recoverer has taken the task. Drop
    /// the outcome.
    #[error("the task is not leased by this take")]
    NotOurs,
    /// The task's data are damaged; nothing was written for it.
    #[error("the task is damaged: {0}")]
    Poison(PoisonKind),
    /// The task is ours, but its lease is missing, which is damage. Nothing was written. Only extensions of a lease
    /// return this error.
    #[error("the task has no lease")]
    NoLease,
    /// The storage failed. Send the write again.
    #[error(transparent)]
    Broker(#[from] BrokerError),
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
    fn ambiguous_is_neither_plain_failure_nor_permanent() {
        let lost = BrokerError::Ambiguous { source: None };
        assert!(lost.is_ambiguous() && lost.is_retryable());
        assert!(!BrokerError::Unavailable { source: None }.is_ambiguous());
        assert!(!BrokerError::Closed.is_retryable());
    }
}
