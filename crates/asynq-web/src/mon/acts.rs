//! Acts on one task, and on all tasks of a state.

use asynq::{
    TaskState,
    error::{BrokerError, Error},
    inspect::ListFilter,
    inspector::{Act, Then},
    names::GroupKey,
};
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    answer::json,
    fault::{Fault, Result},
    lists,
};
use crate::{app::App, extract::Path, guard::Caller, problem::Problem};

/// A task in a path, whether or not the path has its group.
#[derive(Debug, Deserialize)]
pub(super) struct TaskPath {
    queue: String,
    id: String,
}

/// The name of a group. Blank ones are refused: no group has such a name.
pub(super) fn group(name: &str) -> Result<GroupKey> {
    GroupKey::new(name).map_err(|error| Fault::from(Problem::from(error)))
}

pub(super) async fn delete(caller: Caller, Path(task): Path<TaskPath>) -> Result<Response> {
    let done = caller.inspector(None)?.delete_task(&task.queue, &task.id).await;
    done.map_err(|error| Fault::of_task("delete", error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn run(caller: Caller, Path(task): Path<TaskPath>) -> Result<Response> {
    let done = caller.inspector(None)?.run_task(&task.queue, &task.id).await;
    done.map_err(|error| Fault::of_task("run", error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn archive(caller: Caller, Path(task): Path<TaskPath>) -> Result<Response> {
    let done = caller.inspector(None)?.archive_task(&task.queue, &task.id).await;
    done.map_err(|error| Fault::of_task("archive", error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Cancels the run of a task of this queue. asynqmon sends a signal for the id, whatever the queue.
pub(super) async fn cancel_one(caller: &Caller, queue: &str, id: &str) -> Result<()> {
    use BrokerError::{QueueNotFound, TaskNotFound, WrongState};
    match caller.inspector(None)?.cancel_task(queue, id, Then::Retry).await {
        // Nobody hears a signal for a task that does not run.
        Ok(_) | Err(Error::Broker(QueueNotFound { .. } | TaskNotFound { .. } | WrongState { .. })) => Ok(()),
        Err(error) => Err(Fault::of_task("cancel", error)),
    }
}

pub(super) async fn cancel(caller: Caller, Path(task): Path<TaskPath>) -> Result<Response> {
    cancel_one(&caller, &task.queue, &task.id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn cancel_all(State(app): State<App>, caller: Caller, Path(queue): Path<String>) -> Result<Response> {
    for task in lists::all_active(&app, &queue).await? {
        cancel_one(&caller, &queue, task.id.as_str()).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Acts on all tasks, and answers their number under this name.
async fn on_all(caller: Caller, queue: &str, tasks: ListFilter, act: Act) -> Result<Response> {
    let name = match act {
        Act::Delete => "deleted",
        Act::Run => "scheduled",
        _ => "archived",
    };
    let done = caller.inspector(None)?.act_on_all(queue, &tasks, act).await;
    let done = done.map_err(|error| Fault::of_all(tasks.state(), error))?;
    json(&std::collections::BTreeMap::from([(name, done.done)]))
}

/// The handlers of acts on all tasks of a state.
macro_rules! on_all {
    ($($name:ident: $act:ident $state:ident,)*) => {$(
        pub(super) async fn $name(caller: Caller, Path(queue): Path<String>) -> Result<Response> {
            on_all(caller, &queue, ListFilter::State(TaskState::$state), Act::$act).await
        }
    )*};
}

on_all! {
    delete_all_pending: Delete Pending,
    delete_all_scheduled: Delete Scheduled,
    delete_all_retry: Delete Retry,
    delete_all_archived: Delete Archived,
    delete_all_completed: Delete Completed,
    run_all_scheduled: Run Scheduled,
    run_all_retry: Run Retry,
    run_all_archived: Run Archived,
    archive_all_pending: Archive Pending,
    archive_all_scheduled: Archive Scheduled,
    archive_all_retry: Archive Retry,
}

/// The handlers of acts on all tasks of a group.
macro_rules! on_group {
    ($($name:ident: $act:ident,)*) => {$(
        pub(super) async fn $name(caller: Caller, Path((queue, name)): Path<(String, String)>) -> Result<Response> {
            on_all(caller, &queue, ListFilter::Group(group(&name)?), Act::$act).await
        }
    )*};
}

on_group! {
    delete_all_aggregating: Delete,
    run_all_aggregating: Run,
    archive_all_aggregating: Archive,
}
