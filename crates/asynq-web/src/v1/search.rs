//! Tasks by query.

use std::time::Duration;

use asynq::{
    inspect::{Cursor, SCAN_STEP},
    inspector::SearchLimits,
};
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::common::{SHORT, query, up_to, within};
use crate::{access::Role, app::App, extract::Json as Body, guard::Caller, problem::Result, records::TaskRecord};

/// Time after which a search ends, and goes on in the next request.
const TIME: Duration = Duration::from_secs(2);
/// Bytes of tasks after which it does.
const BYTES: u64 = 64 << 20;
/// Largest number of tasks that one request looks at.
const MOST: u64 = 1_000_000;

/// A search.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// The query, such as `queue=critical state=retry error~"timeout" age>1h payload.user_id=1002`.
    pub(crate) query: String,
    /// Largest number of tasks to find. Default: 100.
    #[schema(minimum = 1, maximum = 1000, nullable = false)]
    pub(crate) limit: Option<u64>,
    /// Largest number of tasks to look at; 200 at least are. Default: 10000.
    #[schema(minimum = 1, maximum = 1_000_000, nullable = false)]
    pub(crate) look_at: Option<u64>,
    /// The `cursor` of the answer before: the search goes on there.
    #[schema(nullable = false)]
    pub(crate) cursor: Option<String>,
}

/// The tasks that a search has found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Found {
    /// The tasks. Of long payloads and results there is only the beginning.
    pub(crate) tasks: Vec<TaskRecord>,
    /// Number of tasks that were looked at.
    pub(crate) looked_at: u64,
    /// Number of tasks among them about which the query cannot decide, as a value is not known, or is hidden from this user.
    pub(crate) undecided: u64,
    /// All tasks were looked at.
    pub(crate) complete: bool,
    /// The place to go on from. `null` if the search is complete.
    pub(crate) cursor: Option<String>,
}

/// Finds tasks by a query, in the queues that this user may see. The search ends when it has found enough, or after 2 seconds, and
/// goes on with the `cursor` of the answer. Each user has a budget of tasks that are looked at in a minute.
#[utoipa::path(
    post, path = "/tasks/search", tag = "tasks", request_body = Search, responses((status = 200, body = Found)),
    security(("token" = []), ("session" = [])),
)]
pub(crate) async fn search(State(app): State<App>, caller: Caller, Body(body): Body<Search>) -> Result<Json<Found>> {
    let query = query(&body.query, &caller, Role::Viewer)?;
    let limit = up_to("limit", body.limit, 100, 1000)?;
    let look_at = within("look_at", body.look_at, 10_000, 1, MOST)?;
    let user = &caller.user().name;
    let _read = app
        .budgets
        .read(user)
        .map_err(|refused| refused.going_on_from(&body.cursor))?;
    let taken = app
        .budgets
        .take(user, look_at, SCAN_STEP.into())
        .map_err(|refused| refused.going_on_from(&body.cursor))?;
    let limits = SearchLimits::default()
        .found(usize::try_from(limit).unwrap_or(usize::MAX))
        .looked_at(taken.tasks)
        .bytes(BYTES)
        .time(TIME);
    let found = app.inspector.search(&query, &limits, &Cursor(body.cursor)).await;
    let found = taken.end(found, |found| found.looked_at)?;
    let cursor = found.next.and_then(|next| next.0);
    let redaction = caller.redaction().up_to(SHORT);
    Ok(Json(Found {
        tasks: found
            .tasks
            .iter()
            .map(|task| TaskRecord::of(task, &redaction))
            .collect(),
        looked_at: found.looked_at,
        undecided: found.undecided,
        complete: cursor.is_none(),
        cursor,
    }))
}

/// A count.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountTasks {
    /// The query.
    pub(crate) query: String,
    /// Largest number of tasks to look at; 200 at least are. Default: 10000.
    #[schema(minimum = 1, maximum = 1_000_000, nullable = false)]
    pub(crate) look_at: Option<u64>,
}

/// The answer to a count.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Count {
    /// Number of tasks that were found: exact if `complete`, otherwise there are at least so many.
    pub(crate) tasks: u64,
    /// Number of tasks that were looked at. Those of a state that meets the query as a whole need no look.
    pub(crate) looked_at: u64,
    /// Number of tasks among them about which the query cannot decide.
    pub(crate) undecided: u64,
    /// All tasks were counted.
    pub(crate) complete: bool,
}

impl From<asynq::inspector::Count> for Count {
    fn from(count: asynq::inspector::Count) -> Self {
        Self {
            tasks: count.tasks,
            looked_at: count.looked_at,
            undecided: count.undecided,
            complete: count.is_complete,
        }
    }
}

/// Counts the tasks that a query finds, in the queues that this user may see.
#[utoipa::path(
    post, path = "/tasks/count", tag = "tasks", request_body = CountTasks, responses((status = 200, body = Count)),
    security(("token" = []), ("session" = [])),
)]
pub(crate) async fn count(State(app): State<App>, caller: Caller, Body(body): Body<CountTasks>) -> Result<Json<Count>> {
    let query = query(&body.query, &caller, Role::Viewer)?;
    let look_at = within("look_at", body.look_at, 10_000, 1, MOST)?;
    let user = &caller.user().name;
    let _read = app.budgets.read(user)?;
    let taken = app.budgets.take(user, look_at, SCAN_STEP.into())?;
    let count = app.inspector.count(&query, &limits(taken.tasks)).await;
    Ok(Json(taken.end(count, |count| count.looked_at)?.into()))
}

/// The limits of a count.
pub(crate) fn limits(look_at: u64) -> SearchLimits {
    SearchLimits::default().looked_at(look_at).bytes(BYTES).time(TIME)
}
