//! Tasks: lists, single tasks, and their lives.

use asynq::{
    TaskInfo, TaskState,
    inspect::{Cursor, ListFilter, ScanLimits, ScanPlace, SearchPlace},
    names::{GroupKey, QueueName},
};
use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::common::{SHORT, State as InState, up_to};
use crate::{
    app::App,
    extract::{Path, Query},
    guard::Caller,
    problem::{Problem, Result},
    records::{Redaction, RunRecord, TaskRecord},
};

/// Bytes of tasks after which a part of a list ends.
const MOST_BYTES: u64 = 32 << 20;
/// Tasks of a page.
const PAGE: u32 = 100;
/// Tasks of a page that are read at once.
const FEW: u64 = 10;
/// Tasks of a part of a list.
const PART: u32 = 1000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListTasks {
    /// State of the tasks. `aggregating` needs a group.
    #[param(inline)]
    pub(crate) state: InState,
    /// Name of the group of aggregating tasks.
    #[param(nullable = false)]
    pub(crate) group: Option<String>,
    /// Largest number of tasks: 1 to 1000, or to 100 with `page`. Default: 30. There are fewer if they are large.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    pub(crate) size: Option<u64>,
    /// The `next_cursor` of the part before. Parts neither skip nor repeat tasks while others come and go.
    #[param(nullable = false)]
    pub(crate) cursor: Option<String>,
    /// Number of a page, from 1, instead of a cursor.
    #[param(minimum = 1, maximum = 1_000_000, nullable = false)]
    pub(crate) page: Option<u64>,
}

/// A part of a list of tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskList {
    /// The tasks. Of long payloads and results there is only the beginning.
    pub(crate) tasks: Vec<TaskRecord>,
    /// The value of `cursor` for the next part. `null` at the end, and with `page`.
    pub(crate) next_cursor: Option<String>,
    /// The page ends early, as its tasks have more than 32 MiB. With `cursor` the next part goes on.
    pub(crate) cut: bool,
}

/// Lists the tasks of a queue in one state: pending ones with the next to run first, all others by ascending time.
#[utoipa::path(
    get, path = "/queues/{queue}/tasks", tag = "tasks",
    params(("queue" = String, Path), ListTasks), responses((status = 200, body = TaskList)),
)]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    Query(asked): Query<ListTasks>,
) -> Result<Json<TaskList>> {
    let filter = match (asked.state, &asked.group) {
        (InState::Aggregating, Some(group)) => ListFilter::Group(GroupKey::new(group)?),
        (InState::Aggregating, None) => {
            return Err(Problem::invalid("group", "the state aggregating needs a group"));
        }
        (state, None) => ListFilter::State(state.into()),
        (_, Some(_)) => return Err(Problem::invalid("group", "only the state aggregating has groups")),
    };
    if asked.page.is_some() && asked.cursor.is_some() {
        return Err(Problem::invalid("page", "page and cursor exclude each other"));
    }
    let size = up_to("size", asked.size, 30, if asked.page.is_some() { PAGE } else { PART })?;
    let _read = app.budgets.read(&caller.user().name)?;
    let redaction = caller.redaction().up_to(SHORT);
    if let Some(page) = asked.page {
        let page = up_to("page", Some(page), 1, 1_000_000)?;
        return page_of(&app, &queue, &filter, (page, size), &redaction).await.map(Json);
    }
    let (tasks, next_cursor) = part(&app, &QueueName::new(&queue)?, &filter, size, asked.cursor).await?;
    Ok(Json(TaskList {
        tasks: tasks.iter().map(|task| TaskRecord::of(task, &redaction)).collect(),
        next_cursor,
        cut: false,
    }))
}

/// Reads a page of a list. Only a few tasks at a time are there with their whole payloads.
async fn page_of(
    app: &App,
    queue: &str,
    filter: &ListFilter,
    (page, size): (u32, u32),
    redaction: &Redaction,
) -> Result<TaskList> {
    let begins = u64::from(page - 1) * u64::from(size);
    let ends = begins + u64::from(size);
    let (mut tasks, mut bytes, mut cut) = (Vec::new(), 0, false);
    for few in begins / FEW..ends.div_ceil(FEW) {
        if bytes >= MOST_BYTES {
            cut = true;
            break;
        }
        let (Ok(number), Ok(count)) = (u32::try_from(few + 1), u32::try_from(FEW)) else {
            break;
        };
        let listed = match filter {
            ListFilter::State(state) => app.inspector.list_tasks(queue, *state, number, count).await?,
            ListFilter::Group(group) => app.inspector.list_group(queue, group.as_str(), number, count).await?,
        };
        let is_last = (listed.len() as u64) < FEW;
        let numbered = (few * FEW..).zip(&listed);
        for (_, task) in numbered.filter(|(number, _)| (begins..ends).contains(number)) {
            bytes += (task.payload.len() + task.result.as_ref().map_or(0, |result| result.len())) as u64;
            tasks.push(TaskRecord::of(task, redaction));
        }
        if is_last {
            break;
        }
    }
    Ok(TaskList {
        tasks,
        next_cursor: None,
        cut,
    })
}

/// Reads a part of a list, and returns the place of the next one.
async fn part(
    app: &App,
    queue: &QueueName,
    filter: &ListFilter,
    size: u32,
    cursor: Option<String>,
) -> Result<(Vec<TaskInfo>, Option<String>)> {
    let group = match filter {
        ListFilter::Group(group) => Some(group.clone()),
        ListFilter::State(_) => None,
    };
    let mut place: Option<ScanPlace> = None;
    if let Some(cursor) = cursor {
        let wrong = || Problem::invalid("cursor", "this list has not returned this cursor");
        let from = SearchPlace::decode(&Cursor(Some(cursor))).map_err(|_| wrong())?;
        match from {
            Some(from) if from.queue == *queue && from.state == filter.state() && from.group == group => {
                place = from.place;
            }
            _ => return Err(wrong()),
        }
    }
    let (mut tasks, mut bytes) = (Vec::new(), 0);
    loop {
        let left = size - u32::try_from(tasks.len()).unwrap_or(size).min(size);
        if left == 0 || bytes >= MOST_BYTES {
            break;
        }
        let limits = ScanLimits {
            tasks: left,
            ..ScanLimits::default()
        };
        let step = app.storage.scan_tasks(queue, filter, place.as_ref(), limits).await?;
        bytes += step.tasks.iter().map(|task| task.size).sum::<u64>();
        tasks.extend(step.tasks.into_iter().map(|task| task.info));
        place = step.next;
        if place.is_none() {
            return Ok((tasks, None));
        }
    }
    let place = SearchPlace {
        queue: queue.clone(),
        state: filter.state(),
        group,
        place,
    };
    Ok((tasks, place.encode().0))
}

/// Shows a task with its payload, result, progress and last runs.
#[utoipa::path(
    get, path = "/queues/{queue}/tasks/{id}", tag = "tasks",
    params(("queue" = String, Path), ("id" = String, Path)), responses((status = 200, body = TaskRecord)),
)]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Path((queue, id)): Path<(String, String)>,
) -> Result<Json<TaskRecord>> {
    let task = app.inspector.get_task_info(&queue, &id).await?;
    Ok(Json(record(&caller, &task)))
}

/// A task as its user may see it, with all of its data.
pub(crate) fn record(caller: &Caller, task: &TaskInfo) -> TaskRecord {
    TaskRecord::of(task, &caller.redaction().up_to(usize::MAX))
}

/// The life of a task, as far as it is recorded.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Life {
    pub(crate) queue: String,
    pub(crate) id: String,
    pub(crate) state: &'static str,
    /// Events by time, those of the future included.
    pub(crate) events: Vec<Event>,
    /// Number of runs without a record.
    pub(crate) runs_missing: u32,
}

/// An event in the life of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Event {
    pub(crate) at: DateTime<Utc>,
    pub(crate) event: EventKind,
    /// The run, for the event `run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) run: Option<RunRecord>,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventKind {
    /// A run began, or ended if its beginning is not known.
    Run,
    /// It failed for the last time.
    Failed,
    /// It came into its state.
    State,
    /// It succeeded.
    Completed,
    /// It is due.
    Due,
    /// It must be done.
    Deadline,
    /// It is deleted, as it need not be kept any longer.
    Expires,
}

/// Shows the life of a task: its last runs, its state, and the times to come.
#[utoipa::path(
    get, path = "/queues/{queue}/tasks/{id}/life", tag = "tasks",
    params(("queue" = String, Path), ("id" = String, Path)), responses((status = 200, body = Life)),
)]
pub(crate) async fn life(State(app): State<App>, Path((queue, id)): Path<(String, String)>) -> Result<Json<Life>> {
    let task = app.inspector.get_task_info(&queue, &id).await?;
    Ok(Json(life_of(&task)))
}

/// The life of a task that has been read.
pub(crate) fn life_of(task: &TaskInfo) -> Life {
    let mut events: Vec<Event> = Vec::new();
    let runs = task
        .runs
        .as_ref()
        .map(|runs| runs.recorded.as_slice())
        .unwrap_or_default();
    events.extend(runs.iter().filter_map(|run| {
        Some(Event {
            at: run.started.or(run.ended)?,
            event: EventKind::Run,
            run: Some(RunRecord::of(run)),
        })
    }));
    let expires = task
        .completed_at
        .filter(|_| task.state == TaskState::Completed)
        .and_then(|at| at.checked_add_signed(chrono::TimeDelta::from_std(task.retention).ok()?));
    let has_due = matches!(task.state, TaskState::Scheduled | TaskState::Retry);
    let times = [
        (EventKind::Failed, task.last_failed_at),
        (EventKind::State, task.state_since),
        (EventKind::Completed, task.completed_at),
        (EventKind::Due, task.next_process_at.filter(|_| has_due)),
        (EventKind::Deadline, task.deadline),
        (EventKind::Expires, expires),
    ];
    let times = times.into_iter().filter_map(|(event, at)| Some((event, at?)));
    events.extend(times.map(|(event, at)| Event { at, event, run: None }));
    // Some times are in whole seconds, and a run comes before its outcome.
    events.sort_by_key(|event| (event.at.timestamp(), event.event));
    Life {
        queue: task.queue.to_string(),
        id: task.id.to_string(),
        state: task.state.as_str(),
        events,
        runs_missing: task.runs.as_ref().map_or(0, |runs| runs.missing()),
    }
}
