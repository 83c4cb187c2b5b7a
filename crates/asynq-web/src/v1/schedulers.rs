//! The entries of schedulers.

use asynq::{
    info::SchedulerEntry,
    inspector::{Backfilled, MAX_BACKFILL},
};
use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    common::{Reason, SHORT, up_to},
    tasks::record,
};
use crate::{
    access::Role,
    app::App,
    extract::{Json as Body, OptionalJson, Path, Query},
    guard::Caller,
    problem::{Problem, Result},
    records::{EntryRecord, TaskRecord, queue_of},
};

/// The entries of the running schedulers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntryList {
    pub(crate) entries: Vec<Entry>,
}

/// An entry of a scheduler, with its queue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Entry {
    /// Queue of its tasks, `null` if its option cannot be read.
    pub(crate) queue: Option<String>,
    #[serde(flatten)]
    pub(crate) entry: EntryRecord,
}

/// Lists the periodic tasks of the running schedulers, of the queues that this user may see.
#[utoipa::path(get, path = "/schedulers", tag = "schedulers", responses((status = 200, body = EntryList)))]
pub(crate) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<EntryList>> {
    let _read = app.budgets.read(&caller.user().name)?;
    let entries = app.readings.entries().await?;
    let redaction = caller.redaction().up_to(SHORT);
    let seen = entries.iter().filter(|entry| caller.sees_entry(entry));
    let entries = seen.map(|entry| Entry {
        queue: queue_of(entry),
        entry: EntryRecord::of(entry, &redaction),
    });
    Ok(Json(EntryList {
        entries: entries.collect(),
    }))
}

/// The entry with an id, for a user who sees it.
async fn find(app: &App, caller: &Caller, id: &str) -> Result<SchedulerEntry> {
    let entries = app.readings.entries().await?;
    let found = entries.iter().find(|entry| entry.id == id);
    // One of another queue is as one that is not there.
    let found = found.filter(|entry| caller.sees_entry(entry)).cloned();
    found.ok_or_else(|| Problem::not_found("no running scheduler has an entry with this id"))
}

/// The entry with an id, for an operator of its queue.
async fn find_to_enqueue(app: &App, caller: &Caller, id: &str) -> Result<SchedulerEntry> {
    let entry = find(app, caller, id).await?;
    let queue = queue_of(&entry).ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            "unknown_queue",
            "the option Queue of this entry cannot be read, so its queue is not known",
        )
    })?;
    caller.need(&queue, Role::Operator)?;
    Ok(entry)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListEvents {
    /// Number of the page, from 1. Default: 1.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    pub(crate) page: Option<u64>,
    /// Events on a page. Default: 100.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    pub(crate) size: Option<u64>,
}

/// A page of the tasks that an entry has enqueued.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct History {
    /// The tasks, the newest one first. The last thousand are kept.
    pub(crate) events: Vec<Enqueued>,
}

/// A task that an entry has enqueued.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Enqueued {
    /// Id of the task.
    pub(crate) task: String,
    pub(crate) enqueued_at: DateTime<Utc>,
}

/// Lists the tasks that an entry has enqueued.
#[utoipa::path(
    get, path = "/schedulers/{entry}/history", tag = "schedulers",
    params(("entry" = String, Path), ListEvents), responses((status = 200, body = History)),
)]
pub(crate) async fn history(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(asked): Query<ListEvents>,
) -> Result<Json<History>> {
    let page = up_to("page", asked.page, 1, 1000)?;
    let size = up_to("size", asked.size, 100, 1000)?;
    let entry = find(&app, &caller, &id).await?;
    let events = app
        .inspector
        .list_scheduler_enqueue_events(&entry.id, page, size)
        .await?;
    let event = |event: asynq::info::SchedulerEnqueueEvent| Enqueued {
        task: event.task_id.to_string(),
        enqueued_at: event.enqueued_at,
    };
    Ok(Json(History {
        events: events.into_iter().map(event).collect(),
    }))
}

/// Enqueues the task of an entry now. Its times do not change.
#[utoipa::path(
    post, path = "/schedulers/{entry}/run", tag = "schedulers",
    params(("entry" = String, Path)), request_body = Option<Reason>, responses((status = 201, body = TaskRecord)),
)]
pub(crate) async fn run(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<(StatusCode, Json<TaskRecord>)> {
    let entry = find_to_enqueue(&app, &caller, &id).await?;
    let task = caller.inspector(body.reason.as_deref())?.run_entry(&entry).await?;
    Ok((StatusCode::CREATED, Json(record(&caller, &task))))
}

/// Past times of an entry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backfill {
    /// The times at which it was due and did not run, at most 1000, in whole seconds. Do not give those at which it ran.
    #[schema(min_items = 1, max_items = 1000)]
    pub(crate) ticks: Vec<DateTime<Utc>>,
    /// Reason for the audit trail.
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
}

/// The answer to a backfill.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackfillAnswer {
    /// Number of times whose tasks were enqueued.
    pub(crate) enqueued: u64,
    /// Number of times that an earlier backfill had decided.
    pub(crate) decided_before: u64,
    /// Number of times whose task was refused, as its id or its unique lock is taken.
    pub(crate) refused: u64,
}

impl From<Backfilled> for BackfillAnswer {
    fn from(done: Backfilled) -> Self {
        Self {
            enqueued: done.enqueued,
            decided_before: done.decided_before,
            refused: done.refused,
        }
    }
}

/// Enqueues the tasks of past times of an entry, each of them at most once within seven days. A request that fails halfway can be
/// repeated.
#[utoipa::path(
    post, path = "/schedulers/{entry}/backfill", tag = "schedulers",
    params(("entry" = String, Path)), request_body = Backfill, responses((status = 200, body = BackfillAnswer)),
)]
pub(crate) async fn backfill(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<Backfill>,
) -> Result<Json<BackfillAnswer>> {
    let now = Utc::now();
    if body.ticks.is_empty() || body.ticks.len() > MAX_BACKFILL {
        let count = body.ticks.len();
        return Err(Problem::invalid(
            "ticks",
            format!("ticks has {count} items, must have 1 to {MAX_BACKFILL}"),
        ));
    }
    if let Some(tick) = body.ticks.iter().find(|tick| **tick > now) {
        return Err(Problem::invalid("ticks", format!("{tick} has not come yet")));
    }
    let entry = find_to_enqueue(&app, &caller, &id).await?;
    let inspector = caller.inspector(body.reason.as_deref())?;
    let done = inspector.backfill_entry(&entry, body.ticks).await?;
    Ok(Json(done.into()))
}
