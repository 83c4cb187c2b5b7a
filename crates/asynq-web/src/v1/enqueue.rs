//! New tasks, and copies of tasks.

use std::{collections::BTreeMap, time::Duration};

use asynq::{Task, TaskOptions, error::BrokerError};
use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{payload::Payload, tasks::record};
use crate::{
    access::Role,
    app::App,
    extract::{Json as Body, Path},
    guard::Caller,
    problem::{Problem, Result},
    records::TaskRecord,
};

/// Options of a new task. What is absent has its usual value, and for a copy the value of the original.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// Id, unique in its queue. Default: a random one.
    #[schema(nullable = false)]
    pub(crate) id: Option<String>,
    /// Largest number of retries.
    #[schema(nullable = false)]
    pub(crate) max_retry: Option<u32>,
    /// Longest time of a run.
    #[schema(nullable = false)]
    pub(crate) timeout_seconds: Option<u64>,
    /// Time by which it must be done.
    #[schema(nullable = false)]
    pub(crate) deadline: Option<DateTime<Utc>>,
    /// Time of the first run. Not with `process_in_seconds`.
    #[schema(nullable = false)]
    pub(crate) process_at: Option<DateTime<Utc>>,
    /// Time until the first run.
    #[schema(nullable = false)]
    pub(crate) process_in_seconds: Option<u64>,
    /// Time for which it is kept once it has succeeded.
    #[schema(nullable = false)]
    pub(crate) retention_seconds: Option<u64>,
    /// Refuse other tasks of this queue, type and payload for this time, or until it is done.
    #[schema(nullable = false)]
    pub(crate) unique_seconds: Option<u64>,
    /// Group in which it waits to be aggregated.
    #[schema(nullable = false)]
    pub(crate) group: Option<String>,
    /// Headers.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
}

impl Options {
    fn set(&self, mut options: TaskOptions) -> Result<TaskOptions> {
        let seconds = Duration::from_secs;
        if self.process_at.is_some() && self.process_in_seconds.is_some() {
            return Err(Problem::invalid(
                "process_at",
                "process_at and process_in_seconds exclude each other",
            ));
        }
        if let Some(id) = &self.id {
            options = options.task_id(id);
        }
        if let Some(retries) = self.max_retry {
            options = options.max_retry(retries);
        }
        if let Some(timeout) = self.timeout_seconds {
            options = options.timeout(seconds(timeout));
        }
        if let Some(deadline) = self.deadline {
            options = options.deadline(deadline);
        }
        if let Some(at) = self.process_at {
            options = options.process_at(at);
        }
        if let Some(delay) = self.process_in_seconds {
            options = options.process_in(seconds(delay));
        }
        if let Some(retention) = self.retention_seconds {
            options = options.retention(seconds(retention));
        }
        if let Some(ttl) = self.unique_seconds {
            options = options.unique_ttl(seconds(ttl));
        }
        if let Some(group) = &self.group {
            options = options.group(group);
        }
        for (name, value) in &self.headers {
            options = options.header(name, value);
        }
        Ok(options)
    }
}

/// A new task.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTask {
    /// Type, by which servers find its handler.
    #[serde(rename = "type")]
    pub(crate) task_type: String,
    /// Payload. Default: none.
    #[schema(nullable = false)]
    pub(crate) payload: Option<Payload>,
    #[serde(default)]
    pub(crate) options: Options,
    /// Reason for the audit trail.
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
}

/// Enqueues a task. A queue that does not exist is made.
#[utoipa::path(
    post, path = "/queues/{queue}/tasks", tag = "tasks",
    params(("queue" = String, Path)), request_body = NewTask, responses((status = 201, body = TaskRecord)),
)]
pub(crate) async fn enqueue(
    caller: Caller,
    Path(queue): Path<String>,
    Body(body): Body<NewTask>,
) -> Result<(StatusCode, Json<TaskRecord>)> {
    let options = body.options.set(TaskOptions::new().queue(queue))?;
    let task = match &body.payload {
        Some(payload) => Task::new(body.task_type, &payload.bytes()?)?,
        None => Task::without_payload(body.task_type)?,
    };
    let inspector = caller.inspector(body.reason.as_deref())?;
    let task = inspector.enqueue(task.with_options(options)).await?;
    Ok((StatusCode::CREATED, Json(record(&caller, &task))))
}

/// A copy of a task. What is absent is as in the original, but for the id, the unique lock and the time.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Copy {
    /// Queue of the copy, for which the role `operator` is needed too.
    #[schema(nullable = false)]
    pub(crate) queue: Option<String>,
    /// Type of the copy.
    #[serde(rename = "type")]
    #[schema(nullable = false)]
    pub(crate) task_type: Option<String>,
    /// Payload of the copy.
    #[schema(nullable = false)]
    pub(crate) payload: Option<Payload>,
    #[serde(default)]
    pub(crate) options: Options,
    /// Reason for the audit trail.
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
}

/// Enqueues a copy of a task, with changes. The task itself does not change.
#[utoipa::path(
    post, path = "/queues/{queue}/tasks/{id}/copy", tag = "tasks",
    params(("queue" = String, Path), ("id" = String, Path)), request_body = Copy,
    responses((status = 201, body = TaskRecord)),
)]
pub(crate) async fn copy(
    State(app): State<App>,
    caller: Caller,
    Path((queue, id)): Path<(String, String)>,
    Body(body): Body<Copy>,
) -> Result<(StatusCode, Json<TaskRecord>)> {
    let target = body.queue.as_deref().unwrap_or(&queue);
    caller.need(target, Role::Operator)?;
    let payload = body.payload.as_ref().map(Payload::bytes).transpose()?;
    let options = body.options.set(TaskOptions::new().queue(target))?;
    let inspector = caller.inspector(body.reason.as_deref())?;
    let original = app.inspector.get_task_info(&queue, &id).await?;
    // A copy under another name must not show what the original hides.
    let task_type = body.task_type.as_ref().unwrap_or(&original.task_type);
    if payload.is_none() && caller.hides(&queue, &original.task_type) && !caller.hides(target, task_type) {
        return Err(Problem::forbidden(
            "the payload is hidden from this user, so its copy needs a payload of its own, or the queue and the type of the original",
        ));
    }
    let change = |copy: Task| {
        if copy.get_type() != original.task_type {
            // Another task has taken its id since the check.
            let (queue, id) = (original.queue, original.id);
            return Err(BrokerError::TaskNotFound { queue, id }.into());
        }
        let task_type = body.task_type.unwrap_or(original.task_type);
        let task = match payload {
            Some(payload) => Task::new(task_type, &payload)?,
            None => Task::from_bytes(task_type, copy.payload_bytes())?,
        };
        Ok(task.with_options(copy.options().merged(&options)))
    };
    let task = inspector.enqueue_copy(&queue, &id, change).await?;
    Ok((StatusCode::CREATED, Json(record(&caller, &task))))
}
