//! Acts on single tasks.

use asynq::{TaskInfo, inspector::Cancelled};
use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    common::{Fate, Reason},
    payload::Payload,
    tasks::record,
};
use crate::{
    app::App,
    extract::{Json as Body, OptionalJson, Path},
    guard::Caller,
    problem::{Problem, Result},
    records::TaskRecord,
};

type Name = Path<(String, String)>;

/// Last year of a time, as JSON of Go can write no later one.
const LAST_YEAR: i32 = 9999;

async fn shown(app: &App, caller: &Caller, queue: &str, id: &str) -> Result<Json<TaskRecord>> {
    let task: TaskInfo = app.inspector.get_task_info(queue, id).await?;
    Ok(Json(record(caller, &task)))
}

/// Makes a task pending that is scheduled, waits for its retry, is archived, or waits in its group.
#[utoipa::path(
    post, path = "/queues/{queue}/tasks/{id}/run", tag = "tasks",
    params(("queue" = String, Path), ("id" = String, Path)), request_body = Option<Reason>,
    responses((status = 204)),
)]
pub(crate) async fn run(
    caller: Caller,
    Path((queue, id)): Name,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<StatusCode> {
    caller.inspector(body.reason.as_deref())?.run_task(&queue, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Archives a task that is pending or scheduled, waits for its retry, or waits in its group.
#[utoipa::path(
    post, path = "/queues/{queue}/tasks/{id}/archive", tag = "tasks",
    params(("queue" = String, Path), ("id" = String, Path)), request_body = Option<Reason>,
    responses((status = 204)),
)]
pub(crate) async fn archive(
    caller: Caller,
    Path((queue, id)): Name,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<StatusCode> {
    caller
        .inspector(body.reason.as_deref())?
        .archive_task(&queue, &id)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a task that is not active, with its result.
#[utoipa::path(
    delete, path = "/queues/{queue}/tasks/{id}", tag = "tasks",
    params(("queue" = String, Path), ("id" = String, Path)), responses((status = 204)),
)]
pub(crate) async fn delete(caller: Caller, Path((queue, id)): Name) -> Result<StatusCode> {
    caller.inspector(None)?.delete_task(&queue, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A cancellation of a run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cancel {
    /// Fate of the task.
    #[serde(default)]
    pub(crate) then: Fate,
    /// Reason for the audit trail.
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
}

/// The answer to a cancellation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CancelAnswer {
    /// `true` if the request is kept with the task. `false` if a Go server runs the task: it cancels the run, and retries the
    /// task whatever was asked for.
    pub(crate) kept: bool,
}

/// Asks the server that runs a task to end the run, and then to retry, archive or delete the task. The answer does not wait for
/// the end.
#[utoipa::path(
    post, path = "/queues/{queue}/tasks/{id}/cancel", tag = "tasks",
    params(("queue" = String, Path), ("id" = String, Path)), request_body = Option<Cancel>,
    responses((status = 202, body = CancelAnswer)),
)]
pub(crate) async fn cancel(
    caller: Caller,
    Path((queue, id)): Name,
    OptionalJson(body): OptionalJson<Cancel>,
) -> Result<(StatusCode, Json<CancelAnswer>)> {
    let inspector = caller.inspector(body.reason.as_deref())?;
    let cancelled = inspector.cancel_task(&queue, &id, body.then.into()).await?;
    let kept = cancelled != Cancelled::Told;
    Ok((StatusCode::ACCEPTED, Json(CancelAnswer { kept })))
}

/// Another payload.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    pub(crate) payload: Payload,
    /// Reason for the audit trail.
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
}

/// Replaces the payload of a scheduled task.
#[utoipa::path(
    put, path = "/queues/{queue}/tasks/{id}/payload", tag = "tasks",
    params(("queue" = String, Path), ("id" = String, Path)), request_body = Edit,
    responses((status = 200, body = TaskRecord)),
)]
pub(crate) async fn edit(
    State(app): State<App>,
    caller: Caller,
    Path((queue, id)): Name,
    Body(body): Body<Edit>,
) -> Result<Json<TaskRecord>> {
    let payload = body.payload.bytes()?;
    let inspector = caller.inspector(body.reason.as_deref())?;
    inspector.update_task_payload(&queue, &id, &payload).await?;
    shown(&app, &caller, &queue, &id).await
}

/// Another time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reschedule {
    /// Time at which the task is due. One that has passed makes it due now.
    pub(crate) at: DateTime<Utc>,
    /// Reason for the audit trail.
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
}

/// Changes the time at which a task is due that is scheduled or waits for its retry. An archived task becomes scheduled.
#[utoipa::path(
    post, path = "/queues/{queue}/tasks/{id}/reschedule", tag = "tasks",
    params(("queue" = String, Path), ("id" = String, Path)), request_body = Reschedule,
    responses((status = 200, body = TaskRecord)),
)]
pub(crate) async fn reschedule(
    State(app): State<App>,
    caller: Caller,
    Path((queue, id)): Name,
    Body(body): Body<Reschedule>,
) -> Result<Json<TaskRecord>> {
    if body.at.year() > LAST_YEAR {
        let detail = format!("at is in the year {}, must be at most {LAST_YEAR}", body.at.year());
        return Err(Problem::invalid("at", detail));
    }
    let inspector = caller.inspector(body.reason.as_deref())?;
    inspector.reschedule_task(&queue, &id, body.at).await?;
    shown(&app, &caller, &queue, &id).await
}
