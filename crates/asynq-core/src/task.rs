//! A unit of work: type, payload, headers, options.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{
    context::TaskContext,
    error::{Result, TaskError},
    message::TaskMessage,
    names::TaskType,
    options::TaskOptions,
};

/// A task: what a producer enqueues and what a handler is given.
///
/// ```
/// use asynq::Task;
/// use std::time::Duration;
///
/// let task = Task::new("email:send", br#"{"user_id":42}"#)?
///     .with_queue("critical")
///     .with_max_retry(5)
///     .with_timeout(Duration::from_secs(30));
/// assert_eq!(task.get_type(), "email:send");
/// # Ok::<(), asynq::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Task {
    task_type: TaskType,
    payload: Option<Bytes>,
    options: TaskOptions,
    context: Option<TaskContext>,
}

impl Task {
    /// Makes a task with a payload, which may be empty. An empty payload differs from [no
    /// payload](Self::without_payload): their unique keys differ.
    ///
    /// # Errors
    /// [`TaskError::Name`] when the type is blank.
    pub fn new(task_type: impl Into<String>, payload: &[u8]) -> Result<Task> {
        Self::from_bytes(task_type, Bytes::copy_from_slice(payload))
    }

    /// A task without payload (Go: a nil payload).
    ///
    /// # Errors
    /// [`TaskError::Name`] when the type is blank.
    pub fn without_payload(task_type: impl Into<String>) -> Result<Task> {
        Self::from_bytes(task_type, None)
    }

    /// A task with a payload that is not copied.
    ///
    /// # Errors
    /// [`TaskError::Name`] when the type is blank.
    pub fn from_bytes(task_type: impl Into<String>, payload: impl Into<Option<Bytes>>) -> Result<Task> {
        let task_type = TaskType::new(task_type.into()).map_err(TaskError::from)?;
        Ok(Self {
            task_type,
            payload: payload.into(),
            options: TaskOptions::new(),
            context: None,
        })
    }

    /// A task whose payload is the value as JSON.
    ///
    /// # Errors
    /// [`TaskError::Name`] when the type is blank; [`Error::Json`](crate::Error::Json) when the
    /// value cannot be written as JSON.
    #[cfg(feature = "json")]
    pub fn new_with_json<T: serde::Serialize + ?Sized>(task_type: impl Into<String>, value: &T) -> Result<Task> {
        let payload = serde_json::to_vec(value).map_err(|e| crate::Error::Json(e.into()))?;
        Self::from_bytes(task_type, Bytes::from(payload))
    }

    /// The task a handler is given: what stands in the message, and where it runs.
    #[must_use]
    pub fn from_message(message: &TaskMessage, context: Option<TaskContext>) -> Task {
        Task {
            task_type: TaskType::from_storage(&message.r#type),
            payload: Some(message.payload.clone()),
            options: TaskOptions {
                headers: message.headers.clone(),
                ..TaskOptions::default()
            },
            context,
        }
    }

    /// The type, by which a handler is chosen.
    #[must_use]
    pub fn get_type(&self) -> &str {
        self.task_type.as_str()
    }

    /// The payload; empty if there is none.
    #[must_use]
    pub fn get_payload(&self) -> &[u8] {
        self.payload.as_deref().unwrap_or_default()
    }

    /// Returns the payload without a copy; `None` if there is none. Inside a handler the payload is always present,
    /// because the wire format does not distinguish an absent payload from an empty one.
    #[must_use]
    pub fn payload_bytes(&self) -> Option<Bytes> {
        self.payload.clone()
    }

    /// The payload read as JSON.
    ///
    /// # Errors
    /// [`Error::Json`](crate::Error::Json) says what is wrong and where.
    #[cfg(feature = "json")]
    pub fn get_payload_with_json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.get_payload()).map_err(|e| crate::Error::Json(e.into()))
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.options.headers
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &TaskOptions {
        &self.options
    }

    /// Returns the context of the current run, inside a handler; `None` elsewhere.
    #[must_use]
    pub fn context(&self) -> Option<&TaskContext> {
        self.context.as_ref()
    }

    /// Replaces all options.
    #[must_use]
    pub fn with_options(mut self, options: TaskOptions) -> Self {
        self.options = options;
        self
    }

    /// See [`TaskOptions::queue`].
    #[must_use]
    pub fn with_queue(mut self, queue: impl Into<String>) -> Self {
        self.options = self.options.queue(queue);
        self
    }

    /// See [`TaskOptions::task_id`].
    #[must_use]
    pub fn with_task_id(mut self, id: impl Into<String>) -> Self {
        self.options = self.options.task_id(id);
        self
    }

    /// See [`TaskOptions::max_retry`].
    #[must_use]
    pub fn with_max_retry(mut self, retries: u32) -> Self {
        self.options = self.options.max_retry(retries);
        self
    }

    /// See [`TaskOptions::timeout`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// See [`TaskOptions::deadline`].
    #[must_use]
    pub fn with_deadline(mut self, deadline: DateTime<Utc>) -> Self {
        self.options = self.options.deadline(deadline);
        self
    }

    /// See [`TaskOptions::unique_ttl`].
    #[must_use]
    pub fn with_unique_ttl(mut self, ttl: Duration) -> Self {
        self.options = self.options.unique_ttl(ttl);
        self
    }

    /// See [`TaskOptions::process_at`].
    #[must_use]
    pub fn with_process_at(mut self, at: DateTime<Utc>) -> Self {
        self.options = self.options.process_at(at);
        self
    }

    /// See [`TaskOptions::process_in`].
    #[must_use]
    pub fn with_process_in(mut self, delay: Duration) -> Self {
        self.options = self.options.process_in(delay);
        self
    }

    /// See [`TaskOptions::retention`].
    #[must_use]
    pub fn with_retention(mut self, retention: Duration) -> Self {
        self.options = self.options.retention(retention);
        self
    }

    /// See [`TaskOptions::group`].
    #[must_use]
    pub fn with_group(mut self, group: impl Into<String>) -> Self {
        self.options = self.options.group(group);
        self
    }

    /// See [`TaskOptions::header`].
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options = self.options.header(name, value);
        self
    }
}
