//! A task as the Go program reads it, and as it shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base64_bytes;

/// The inputs of the golden data: lines that are each a [`GoTask`] with a name, `vector`.
pub const VECTORS: &str = include_str!("../go/vectors.jsonl");

/// A task and its options. What is `None` is not given to the library at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GoTask {
    /// Its type.
    pub r#type: String,
    /// Its payload; `None` is Go's nil.
    #[serde(with = "base64_bytes")]
    pub payload: Option<Vec<u8>>,
    /// Its headers; `None` makes a task without a header map.
    pub headers: Option<BTreeMap<String, String>>,
    /// `asynq.Queue`.
    pub queue: Option<String>,
    /// `asynq.TaskID`.
    pub task_id: Option<String>,
    /// `asynq.MaxRetry`.
    pub max_retry: Option<i64>,
    /// `asynq.Timeout`, in milliseconds.
    pub timeout_ms: Option<i64>,
    /// `asynq.Deadline`, in Unix seconds.
    pub deadline_unix: Option<i64>,
    /// `asynq.Unique`, in milliseconds.
    pub unique_ms: Option<i64>,
    /// `asynq.ProcessAt`, in Unix seconds.
    pub process_at_unix: Option<i64>,
    /// `asynq.ProcessIn`, in milliseconds; wins over `process_at_unix`.
    pub process_in_ms: Option<i64>,
    /// `asynq.Retention`, in milliseconds.
    pub retention_ms: Option<i64>,
    /// `asynq.Group`.
    pub group: Option<String>,
}

impl GoTask {
    /// A task without payload and options.
    #[must_use]
    pub fn new(r#type: &str) -> Self {
        Self {
            r#type: r#type.to_owned(),
            ..Self::default()
        }
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = Some(payload.as_ref().to_vec());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .get_or_insert_default()
            .insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the queue.
    #[must_use]
    pub fn queue(mut self, queue: &str) -> Self {
        self.queue = Some(queue.to_owned());
        self
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.task_id = Some(id.to_owned());
        self
    }

    /// Sets the number of retries.
    #[must_use]
    pub fn max_retry(mut self, retries: i64) -> Self {
        self.max_retry = Some(retries);
        self
    }

    /// Sets the timeout.
    #[must_use]
    pub fn timeout_ms(mut self, timeout: i64) -> Self {
        self.timeout_ms = Some(timeout);
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline_unix(mut self, deadline: i64) -> Self {
        self.deadline_unix = Some(deadline);
        self
    }

    /// Makes it unique for so long.
    #[must_use]
    pub fn unique_ms(mut self, ttl: i64) -> Self {
        self.unique_ms = Some(ttl);
        self
    }

    /// Sets the time at which it is due.
    #[must_use]
    pub fn process_at_unix(mut self, at: i64) -> Self {
        self.process_at_unix = Some(at);
        self
    }

    /// Sets how long it waits.
    #[must_use]
    pub fn process_in_ms(mut self, delay: i64) -> Self {
        self.process_in_ms = Some(delay);
        self
    }

    /// Keeps it after success.
    #[must_use]
    pub fn retention_ms(mut self, retention: i64) -> Self {
        self.retention_ms = Some(retention);
        self
    }

    /// Puts it into a group.
    #[must_use]
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }
}

/// `asynq.TaskInfo`. A time of 0 is "no time".
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoTaskInfo {
    /// Its id.
    pub id: String,
    /// Its queue.
    pub queue: String,
    /// Its type.
    pub r#type: String,
    /// Its payload; nil once it has been stored and was empty.
    #[serde(with = "base64_bytes")]
    pub payload: Option<Vec<u8>>,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its state, spelled as on the wire.
    pub state: String,
    /// Retries it may have.
    pub max_retry: i64,
    /// Retries it has had.
    pub retried: i64,
    /// The text of its last failure.
    pub last_err: String,
    /// Time of the last failure, Unix nanoseconds.
    pub last_failed_at: i64,
    /// Its timeout.
    pub timeout_ms: i64,
    /// Its deadline.
    pub deadline_unix: i64,
    /// Its group.
    pub group: String,
    /// Time of the next run.
    pub next_process_at_unix: i64,
    /// Active, and its lease is over.
    pub is_orphaned: bool,
    /// Time for which it is kept after success.
    pub retention_ms: i64,
    /// Time of its success.
    pub completed_at_unix: i64,
    /// The result that its handler wrote.
    #[serde(with = "base64_bytes")]
    pub result: Option<Vec<u8>>,
}
