//! Enqueue requests in a line: what `Task` and its options compose, without them.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    Entropy, GroupKey, QueueName, TaskId, TaskMessage,
    broker::{EnqueueRequest, Placement},
    keys, message,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// The name of a queue.
///
/// # Panics
/// If it is blank.
#[must_use]
pub fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap_or_else(|error| panic!("{name:?}: {error}"))
}

/// The id of a task.
///
/// # Panics
/// If it is blank.
#[must_use]
pub fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// The name of a group.
///
/// # Panics
/// If it is blank.
#[must_use]
pub fn group(name: &str) -> GroupKey {
    GroupKey::new(name).unwrap_or_else(|error| panic!("{name:?}: {error}"))
}

/// Requests as a broker takes them.
#[must_use]
pub fn batch_of<R: Into<Arc<EnqueueRequest>>>(requests: impl IntoIterator<Item = R>) -> Vec<Arc<EnqueueRequest>> {
    requests.into_iter().map(R::into).collect()
}

/// A task with Go's default options, to run now: type `t`, no payload, 25 retries, a timeout of
/// 30 minutes, and a token of its own.
///
/// ```
/// use std::time::Duration;
/// use asynq_testing::request;
///
/// let request = request("default", "a1").payload("p").unique(Duration::from_secs(60)).build();
/// assert_eq!(request.message.unique_key, "asynq:{default}:unique:t:83878c91171338902e0fe0fb97a8c47a");
/// ```
pub fn request(queue: &str, id: &str) -> RequestBuilder {
    RequestBuilder {
        message: TaskMessage {
            r#type: "t".into(),
            id: id.into(),
            queue: queue.into(),
            retry: 25,
            timeout: 1800,
            ..TaskMessage::default()
        },
        payload: None,
        placement: Placement::Pending,
        unique_ttl: None,
        deadline: None,
        token: Entropy::from_os().bits(),
    }
}

/// Builds an [`EnqueueRequest`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RequestBuilder {
    message: TaskMessage,
    payload: Option<Bytes>,
    placement: Placement,
    unique_ttl: Option<Duration>,
    deadline: Option<DateTime<Utc>>,
    token: u64,
}

impl RequestBuilder {
    /// The type.
    pub fn task_type(mut self, task_type: &str) -> Self {
        self.message.r#type = task_type.into();
        self
    }

    /// The payload. An empty one differs from none in the name of the unique lock.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// Sets how many retries it has at most.
    pub fn max_retry(mut self, retries: i32) -> Self {
        self.message.retry = retries;
        self
    }

    /// A header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.message.headers.insert(name.into(), value.into());
        self
    }

    /// Sets how long it is kept after success, in seconds.
    pub fn retention(mut self, secs: i64) -> Self {
        self.message.retention = secs;
        self
    }

    /// Sets how long it may run, in seconds.
    pub fn timeout(mut self, secs: i64) -> Self {
        self.message.timeout = secs;
        self
    }

    /// By when it must have ended, Unix seconds.
    pub fn deadline(mut self, at_secs: i64) -> Self {
        self.message.deadline = at_secs;
        self
    }

    /// By when it must have ended, to the millisecond.
    pub fn exact_deadline(mut self, at: DateTime<Utc>) -> Self {
        self.message.deadline = at.timestamp();
        self.deadline = Some(at);
        self
    }

    /// Waits until then.
    pub fn at(mut self, at: DateTime<Utc>) -> Self {
        self.placement = Placement::Scheduled(at);
        self
    }

    /// Waits in a group.
    pub fn group(mut self, name: &str) -> Self {
        self.message.group_key = name.into();
        self.placement = Placement::Group(group(name));
        self
    }

    /// Takes the unique lock of its queue, type and payload for so long after it is due.
    pub fn unique(mut self, ttl: Duration) -> Self {
        self.unique_ttl = Some(ttl);
        self
    }

    /// The token by which the same request is known again; random by default.
    pub fn token(mut self, token: u64) -> Self {
        self.token = token;
        self
    }

    /// The request.
    #[must_use]
    pub fn build(mut self) -> EnqueueRequest {
        if self.unique_ttl.is_some() {
            let Self { message, payload, .. } = &mut self;
            message.unique_key = keys::unique(&queue(&message.queue), &message.r#type, payload.as_deref());
        }
        self.message.payload = self.payload.unwrap_or_default();
        EnqueueRequest {
            message: self.message,
            placement: self.placement,
            unique_ttl: self.unique_ttl,
            deadline: self.deadline,
            token: self.token,
        }
    }

    /// The bytes of its message, as a foreign program would store it.
    #[must_use]
    pub fn encoded(self) -> Bytes {
        message::encode(&self.build().message)
    }
}
