//! The task hash, `asynq:{Q}:t:<id>`.

use std::{collections::BTreeMap, sync::Arc};

use asynq_core::{
    TaskMessage, TaskState, Then,
    clock::from_exact_millis,
    error::PoisonKind,
    message,
    names::{QueueName, TaskId},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// The fields of a task hash. `None` is an absent field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TaskHash {
    /// `msg`: the serialized message.
    pub msg: Option<Bytes>,
    /// `state`.
    pub state: StateField,
    /// `pending_since`: Unix nanoseconds.
    pub pending_since: Option<i64>,
    /// `unique_key`: the name of the lock that the task holds.
    pub unique_key: Option<String>,
    /// `group`: where the forwarder puts it.
    pub group: Option<String>,
    /// `result`: what its handler wrote.
    pub result: Option<Bytes>,
    /// `x:take`: the token of the call that took it.
    pub take: Option<Arc<str>>,
    /// `x:adopt`: the lease that an adoption wrote.
    pub adopted: Option<i64>,
    /// `x:cancel`: a request to end its run.
    pub cancel: Option<Bytes>,
    /// `x:progress`: how far its run has come.
    pub progress: Option<Bytes>,
    /// `x:at`: when it is due, in Unix milliseconds.
    pub at: Option<Bytes>,
    /// `x:deadline`: in Unix milliseconds.
    pub deadline: Option<Bytes>,
    /// `x:unstarted`: how often it was given back since it may never have been started.
    pub unstarted: Option<Bytes>,
    /// `x:runs`: its last runs.
    pub runs: Option<Bytes>,
    /// `x:enq`: the token of the request that enqueued it.
    pub enq: Option<u64>,
    /// Fields of strangers.
    pub other: BTreeMap<String, Bytes>,
}

/// A number in a field of ours.
pub(crate) fn number(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The field `state`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum StateField {
    /// There is none.
    #[default]
    Missing,
    /// One that asynq programs write.
    Known(TaskState),
    /// Anything else.
    Unknown(Bytes),
}

impl TaskHash {
    /// Moves on to a state, and clears what belongs to the one before: since when it was pending,
    /// when it is due, who took it, and a request to end that run.
    pub(crate) fn enter(&mut self, state: TaskState) {
        self.state = StateField::Known(state);
        self.pending_since = None;
        self.take = None;
        self.adopted = None;
        self.cancel = None;
        self.at = None;
    }

    /// Returns what becomes of the task if its run was asked to end.
    pub(crate) fn asked(&self) -> Option<Then> {
        Then::decode(self.cancel.as_deref()?, self.take.as_deref()?)
    }

    /// The deadline to the millisecond, where that of the message is floored.
    pub(crate) fn exact_deadline(&self, message: &TaskMessage) -> Option<DateTime<Utc>> {
        from_exact_millis(message.deadline, number(self.deadline.as_deref()?)?)
    }

    /// Returns whether the state is this one.
    pub(crate) fn is(&self, state: TaskState) -> bool {
        self.state == StateField::Known(state)
    }

    /// The state, if it is one.
    pub(crate) fn known_state(&self) -> Result<TaskState, PoisonKind> {
        match self.state {
            StateField::Known(state) => Ok(state),
            StateField::Missing | StateField::Unknown(_) => Err(PoisonKind::BadState),
        }
    }

    /// The state as text; empty if there is none.
    pub(crate) fn state_text(&self) -> String {
        match &self.state {
            StateField::Missing => String::new(),
            StateField::Known(state) => state.as_str().to_owned(),
            StateField::Unknown(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    /// The message, if it is one and names this task.
    pub(crate) fn message(&self, queue: &QueueName, id: &TaskId) -> Result<TaskMessage, PoisonKind> {
        match &self.msg {
            Some(bytes) => message::decode_for(bytes.clone(), queue, id),
            None => Err(PoisonKind::NoMessage),
        }
    }

    /// The length of the message.
    pub(crate) fn message_len(&self) -> usize {
        self.msg.as_ref().map_or(0, Bytes::len)
    }
}
