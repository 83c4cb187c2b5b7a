//! Queues and their numbers.

use std::time::Duration;

use asynq::{
    TaskState,
    error::{BrokerError, Error},
    inspector::SignatureLimits,
};
use axum::{Json, extract::State, http::StatusCode};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::common::{Reason, State as InState, up_to, within};
use crate::{
    access::Pattern,
    app::App,
    extract::{OptionalJson, Path, Query},
    guard::Caller,
    problem::Result,
    queue_reads::{self, Unread},
    records::{QueueRecord, SignaturesRecord, UnreadableQueue},
};

/// Bytes of tasks, and time, after which errors are no longer counted.
const ERROR_BYTES: u64 = 64 << 20;
const ERROR_TIME: Duration = Duration::from_secs(2);
/// Time after which no further queue of a list is read.
const TIME: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQueues {
    /// Only queues whose names fit this pattern: a name in which each `*` stands for any characters.
    #[param(nullable = false)]
    pub(crate) pattern: Option<String>,
    /// Only queues whose names come after this one: the next part of the list.
    #[param(nullable = false)]
    pub(crate) after: Option<String>,
    /// Largest number of queues. Default: 100.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    pub(crate) limit: Option<u64>,
}

/// A part of the queues.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueList {
    pub(crate) queues: Vec<QueueRecord>,
    /// The queues of this part whose numbers cannot be read.
    pub(crate) unreadable: Vec<UnreadableQueue>,
    /// Number of queues that fit the pattern.
    pub(crate) total: usize,
    /// The value of `after` for the next part. `null` at the end.
    pub(crate) next_after: Option<String>,
}

/// Lists the queues by name, with their numbers. A queue that cannot be read stands in `unreadable`, and hides no other.
#[utoipa::path(get, path = "/queues", tag = "queues", params(ListQueues), responses((status = 200, body = QueueList)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<ListQueues>,
) -> Result<Json<QueueList>> {
    let limit = up_to("limit", asked.limit, 100, 1000)?;
    let pattern = asked.pattern.map_or_else(Pattern::any, Pattern::from);
    let mut names = names(&app, &caller, &pattern).await?;
    let total = names.len();
    if let Some(after) = &asked.after {
        names.drain(..names.partition_point(|name| name <= after));
    }
    let part = names.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_after = (part < names.len()).then(|| names[part - 1].clone());
    names.truncate(part);
    let _read = app.budgets.read(&caller.user().name)?;
    let read = queue_reads::read(&app.inspector, names, TIME).await?;
    Ok(Json(QueueList {
        queues: read.queues.iter().map(QueueRecord::of).collect(),
        unreadable: read.unreadable.iter().map(Unread::record).collect(),
        total,
        next_after,
    }))
}

/// Returns the names of the queues that fit a pattern and that the user may see, in order.
pub(crate) async fn names(app: &App, caller: &Caller, pattern: &Pattern) -> Result<Vec<String>> {
    let names = app.inspector.queues().await?;
    let fit = names.iter().map(|name| name.as_str());
    Ok(fit
        .filter(|name| pattern.fits(name) && caller.sees(name))
        .map(str::to_owned)
        .collect())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ShowQueue {
    /// Number of days of the history. Default: 10.
    #[param(minimum = 1, maximum = 90, nullable = false)]
    pub(crate) days: Option<u64>,
}

/// A queue with its last days.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueDetail {
    #[serde(flatten)]
    pub(crate) queue: QueueRecord,
    /// The last days (UTC), today first.
    pub(crate) history: Vec<Day>,
}

/// The tasks of a day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Day {
    pub(crate) date: NaiveDate,
    /// Number of tasks that were processed, failures included.
    pub(crate) processed: u64,
    pub(crate) failed: u64,
}

/// Shows a queue with its last days.
#[utoipa::path(
    get, path = "/queues/{queue}", tag = "queues",
    params(("queue" = String, Path), ShowQueue), responses((status = 200, body = QueueDetail)),
)]
pub(crate) async fn show(
    State(app): State<App>,
    Path(queue): Path<String>,
    Query(asked): Query<ShowQueue>,
) -> Result<Json<QueueDetail>> {
    let days = up_to("days", asked.days, 10, 90)?;
    let info = app.inspector.get_queue_stats(&queue).await?;
    let history = app.inspector.history(&queue, days).await?;
    let day = |day: asynq::info::DailyStats| Day {
        date: day.date,
        processed: day.processed,
        failed: day.failed,
    };
    Ok(Json(QueueDetail {
        queue: QueueRecord::of(&info),
        history: history.into_iter().map(day).collect(),
    }))
}

/// A queue after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueChanged {
    pub(crate) queue: String,
    pub(crate) paused: bool,
}

/// Stops all servers from taking tasks of the queue. One that is paused stays paused.
#[utoipa::path(
    post, path = "/queues/{queue}/pause", tag = "queues",
    params(("queue" = String, Path)), request_body = Option<Reason>, responses((status = 200, body = QueueChanged)),
)]
pub(crate) async fn pause(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<Json<QueueChanged>> {
    let inspector = caller.inspector(body.reason.as_deref())?;
    app.inspector.get_queue_stats(&queue).await?;
    inspector.pause_queue(&queue).await?;
    Ok(Json(QueueChanged { queue, paused: true }))
}

/// Ends the pause of a queue.
#[utoipa::path(
    post, path = "/queues/{queue}/resume", tag = "queues",
    params(("queue" = String, Path)), request_body = Option<Reason>, responses((status = 200, body = QueueChanged)),
)]
pub(crate) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<Json<QueueChanged>> {
    let inspector = caller.inspector(body.reason.as_deref())?;
    app.inspector.get_queue_stats(&queue).await?;
    inspector.unpause_queue(&queue).await?;
    Ok(Json(QueueChanged { queue, paused: false }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteQueue {
    /// Delete its tasks too. None of them may be active. Default: false.
    #[serde(default)]
    pub(crate) force: bool,
}

/// Deletes a queue, which must have no tasks.
#[utoipa::path(
    delete, path = "/queues/{queue}", tag = "queues",
    params(("queue" = String, Path), DeleteQueue), responses((status = 204)),
)]
pub(crate) async fn delete(
    caller: Caller,
    Path(queue): Path<String>,
    Query(asked): Query<DeleteQueue>,
) -> Result<StatusCode> {
    caller.inspector(None)?.delete_queue(&queue, asked.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets the numbers of processed and failed tasks, of today and in total, to zero.
#[utoipa::path(
    delete, path = "/queues/{queue}/counters", tag = "queues",
    params(("queue" = String, Path)), responses((status = 204)),
)]
pub(crate) async fn clear_counters(caller: Caller, Path(queue): Path<String>) -> Result<StatusCode> {
    caller.inspector(None)?.clear_counters(&queue).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The groups of a queue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupList {
    pub(crate) groups: Vec<Group>,
    /// Number of all groups.
    pub(crate) total: usize,
}

/// A group of tasks that are aggregated.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Group {
    pub(crate) group: String,
    /// Number of tasks that wait.
    pub(crate) size: u64,
    /// Number of tasks that are being aggregated.
    pub(crate) in_sets: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListGroups {
    /// Largest number of groups, by name. Default: 1000.
    #[param(minimum = 1, maximum = 10_000, nullable = false)]
    pub(crate) limit: Option<u64>,
}

/// Lists the groups of a queue.
#[utoipa::path(
    get, path = "/queues/{queue}/groups", tag = "queues",
    params(("queue" = String, Path), ListGroups), responses((status = 200, body = GroupList)),
)]
pub(crate) async fn groups(
    State(app): State<App>,
    Path(queue): Path<String>,
    Query(asked): Query<ListGroups>,
) -> Result<Json<GroupList>> {
    let limit = up_to("limit", asked.limit, 1000, 10_000)?;
    app.inspector.get_queue_stats(&queue).await?;
    let mut groups = app.inspector.list_groups(&queue).await?;
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    let total = groups.len();
    let group = |group: asynq::info::GroupInfo| Group {
        group: group.group.to_string(),
        size: group.size,
        in_sets: group.in_sets,
    };
    let groups = groups
        .into_iter()
        .take(usize::try_from(limit).unwrap_or(usize::MAX))
        .map(group)
        .collect();
    Ok(Json(GroupList { groups, total }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ShowErrors {
    /// State of the tasks. Default: `retry` and `archived`.
    #[param(inline, nullable = false)]
    pub(crate) state: Option<InState>,
    /// Largest number of tasks to look at. Default: 10000.
    #[param(minimum = 1, maximum = 100_000, nullable = false)]
    pub(crate) look_at: Option<u64>,
}

/// Counts the errors of failed tasks by what they have in common, the most frequent ones first. It ends after 64 MiB of tasks or
/// 2 seconds, and `looked_at` tells how far it came.
#[utoipa::path(
    get, path = "/queues/{queue}/errors", tag = "queues",
    params(("queue" = String, Path), ShowErrors), responses((status = 200, body = SignaturesRecord)),
)]
pub(crate) async fn errors(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    Query(asked): Query<ShowErrors>,
) -> Result<Json<SignaturesRecord>> {
    let look_at = within("look_at", asked.look_at, 10_000, 1, 100_000)?;
    let states = match asked.state {
        Some(state) => vec![state.into()],
        None => vec![TaskState::Retry, TaskState::Archived],
    };
    let user = &caller.user().name;
    let _read = app.budgets.read(user)?;
    let taken = app.budgets.take(user, look_at, 1)?;
    let limits = SignatureLimits::default()
        .tasks(u32::try_from(taken.tasks).unwrap_or(u32::MAX))
        .bytes(ERROR_BYTES)
        .time(ERROR_TIME);
    let errors = app.inspector.error_signatures_within(&queue, &states, &limits).await;
    let errors = taken.end(errors, |errors| errors.looked_at)?;
    Ok(Json(SignaturesRecord::of(&queue, errors)))
}

/// The place of a queue in a Redis Cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Place {
    pub(crate) queue: String,
    /// The slot of all its keys. `null` if the storage is no cluster.
    pub(crate) slot: Option<u16>,
    /// The nodes that have its keys, the master first.
    pub(crate) nodes: Vec<Node>,
}

/// A node of a Redis Cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Node {
    pub(crate) id: String,
    /// `host:port`.
    pub(crate) address: String,
}

/// Shows the place of a queue in a Redis Cluster. It needs a role for all queues.
#[utoipa::path(
    get, path = "/queues/{queue}/place", tag = "storage",
    params(("queue" = String, Path)), responses((status = 200, body = Place)),
)]
pub(crate) async fn place(State(app): State<App>, caller: Caller, Path(queue): Path<String>) -> Result<Json<Place>> {
    caller.need_everywhere(crate::access::Role::Viewer)?;
    let slot = match app.inspector.cluster_key_slot(&queue).await {
        Ok(slot) => slot,
        Err(Error::Broker(BrokerError::Unsupported { .. })) => {
            return Ok(Json(Place {
                queue,
                slot: None,
                nodes: Vec::new(),
            }));
        }
        Err(error) => return Err(error.into()),
    };
    let nodes = app.inspector.cluster_nodes(&queue).await?;
    let node = |node: asynq::inspect::ClusterNode| Node {
        id: node.id,
        address: node.address,
    };
    Ok(Json(Place {
        queue,
        slot: Some(slot),
        nodes: nodes.into_iter().map(node).collect(),
    }))
}
