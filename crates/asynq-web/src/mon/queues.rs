//! Queues: their numbers, their history, pause and removal.

use asynq::{
    Inspector,
    error::{BrokerError, Error},
    names::QueueName,
};
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt as _, future, stream};
use serde::Serialize;

use super::{
    answer::{self, json, to_json},
    fault::{Fault, Result, quoted},
    records::{Day, Group, Snapshot},
};
use crate::{app::App, extract::Path, guard::Caller};

/// Queues that are asked about at the same time.
const AT_ONCE: usize = 32;

/// Days of a queue that its page shows.
const DAYS: u32 = 10;

/// Days of all queues.
const ALL_DAYS: u32 = 90;

/// The names of the queues that the caller may see.
pub(super) async fn seen(app: &App, caller: &Caller) -> Result<Vec<QueueName>> {
    let mut queues = app.inspector.queues().await.map_err(Fault::of_queue)?;
    queues.retain(|queue| caller.sees(queue.as_str()));
    Ok(queues)
}

/// Asks about each queue, some of them at a time. Queues that have been deleted meanwhile are left out.
///
/// # Errors
/// The user reads too much already.
fn each<F, W>(
    app: &App,
    caller: &Caller,
    queues: Vec<QueueName>,
    ask: F,
) -> Result<impl Stream<Item = Result<Vec<u8>>> + Send + use<F, W>>
where
    F: Fn(Inspector, QueueName) -> W + Send + 'static,
    W: Future<Output = asynq::Result<Result<Vec<u8>>>> + Send,
{
    let inspector = app.inspector.clone();
    let read = app.budgets.read(&caller.user().name)?;
    let asked = stream::iter(queues)
        .map(move |queue| ask(inspector.clone(), queue))
        .buffered(AT_ONCE)
        .filter_map(move |asked| {
            // It ends with the stream.
            let _ = &read;
            future::ready(match asked {
                Ok(item) => Some(item),
                Err(Error::Broker(BrokerError::QueueNotFound { .. })) => None,
                Err(error) => Some(Err(Fault::of_queue(error))),
            })
        });
    Ok(asked)
}

pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Response> {
    let queues = seen(&app, &caller).await?;
    let snapshots = each(&app, &caller, queues, async |inspector: Inspector, queue: QueueName| {
        let info = inspector.get_queue_stats(queue.as_str()).await?;
        Ok(to_json(&Snapshot::from(info)))
    })?;
    answer::list("{\"queues\":[", snapshots, "]}\n").await
}

pub(super) async fn stats(State(app): State<App>, caller: Caller) -> Result<Response> {
    let queues = seen(&app, &caller).await?;
    let histories = each(&app, &caller, queues, async |inspector: Inspector, queue: QueueName| {
        let days = inspector.history(queue.as_str(), ALL_DAYS).await?;
        Ok(field(queue.as_str(), &Day::all(queue.as_str(), &days)))
    })?;
    answer::list("{\"stats\":{", histories, "}}\n").await
}

/// A field of an object.
fn field(name: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut json = to_json(&name)?;
    json.push(b':');
    json.extend(to_json(value)?);
    Ok(json)
}

#[derive(Serialize)]
struct QueueAnswer<'r> {
    current: Snapshot,
    history: Vec<Day<'r>>,
}

pub(super) async fn show(State(app): State<App>, Path(queue): Path<String>) -> Result<Response> {
    let (current, days) = future::join(
        app.inspector.get_queue_stats(&queue),
        app.inspector.history(&queue, DAYS),
    )
    .await;
    let (current, days) = (current.map_err(Fault::of_queue)?, days.map_err(Fault::of_queue)?);
    json(&QueueAnswer {
        current: current.into(),
        history: Day::all(&queue, &days),
    })
}

#[derive(Serialize)]
struct GroupsAnswer {
    stats: Snapshot,
    groups: Vec<Group>,
}

pub(super) async fn groups(State(app): State<App>, Path(queue): Path<String>) -> Result<Response> {
    let (stats, groups) = future::join(app.inspector.get_queue_stats(&queue), app.inspector.list_groups(&queue)).await;
    json(&GroupsAnswer {
        stats: stats.map_err(Fault::of_queue)?.into(),
        groups: Group::all(groups.map_err(Fault::of_queue)?),
    })
}

pub(super) async fn delete(caller: Caller, Path(queue): Path<String>) -> Result<Response> {
    use BrokerError::{QueueHasActiveTasks, QueueNotEmpty, QueueNotFound};
    let name = || quoted(&queue);
    match caller.inspector(None)?.delete_queue(&queue, false).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(Error::Broker(QueueNotFound { .. })) => Err(Fault::new(
            StatusCode::NOT_FOUND,
            format!("queue not found: queue={}", name()),
        )),
        Err(Error::Broker(QueueNotEmpty { .. } | QueueHasActiveTasks { .. })) => {
            Err(Fault::bad_request(format!("queue is not empty: queue={}", name())))
        }
        Err(error) => Err(Fault::of_queue(error)),
    }
}

pub(super) async fn pause(State(app): State<App>, caller: Caller, Path(queue): Path<String>) -> Result<Response> {
    must_be(&app, &queue, false).await?;
    let paused = caller.inspector(None)?.pause_queue(&queue).await;
    paused.map_err(|error| Fault::other("", error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn resume(State(app): State<App>, caller: Caller, Path(queue): Path<String>) -> Result<Response> {
    must_be(&app, &queue, true).await?;
    let resumed = caller.inspector(None)?.unpause_queue(&queue).await;
    resumed.map_err(|error| Fault::other("", error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Refuses what has no effect. A queue that does not exist yet can be paused, as by Go.
async fn must_be(app: &App, queue: &str, paused: bool) -> Result<()> {
    match app.inspector.get_queue_stats(queue).await {
        Ok(info) if info.paused != paused => Err(Fault::internal(format!(
            "queue {} is {}",
            quoted(queue),
            if paused { "not paused" } else { "already paused" }
        ))),
        Ok(_) | Err(Error::Broker(BrokerError::QueueNotFound { .. })) => Ok(()),
        Err(error) => Err(Fault::of_queue(error)),
    }
}
