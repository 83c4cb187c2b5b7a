//! Acts on many tasks.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    num::NonZeroU32,
    sync::Arc,
};

use asynq::{
    inspect::SCAN_STEP,
    inspector::{Act, ActLimits},
};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    common::{ManyAct, Reason, query, within},
    search::{Count, limits},
};
use crate::{
    access::Role,
    acts::{ActRecord, Key, NewAct, Rights, TaskName, Work},
    app::App,
    extract::{Json as Body, OptionalJson, Path},
    guard::{Caller, user_now},
    problem::{Problem, Result},
};

/// Tasks of a list.
const MOST_TASKS: usize = 1000;
/// Longest key of an act, in characters.
const MOST_KEY: usize = 128;
/// Tasks per second.
const MOST_RATE: u64 = 1_000_000;
/// Tasks that a preview looks at.
const PREVIEW: u64 = 1_000_000;

/// An act whose tasks are to be counted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Preview {
    /// The query that finds the tasks.
    pub(crate) query: String,
    pub(crate) act: ManyAct,
    /// Largest number of tasks to look at; 200 at least are. Default: 1000000.
    #[schema(minimum = 1, maximum = 1_000_000, nullable = false)]
    pub(crate) look_at: Option<u64>,
}

/// Counts the tasks on which an act would act, in the queues of which this user is an operator. States in which the act is not
/// possible are left out.
#[utoipa::path(
    post, path = "/acts/preview", tag = "acts", request_body = Preview, responses((status = 200, body = Count)),
    security(("token" = []), ("session" = [])),
)]
pub(crate) async fn preview(State(app): State<App>, caller: Caller, Body(body): Body<Preview>) -> Result<Json<Count>> {
    let query = query(&body.query, &caller, Role::Operator)?;
    let look_at = within("look_at", body.look_at, PREVIEW, 1, PREVIEW)?;
    let user = &caller.user().name;
    let _read = app.budgets.read(user)?;
    let taken = app.budgets.take(user, look_at, SCAN_STEP.into())?;
    let limits = limits(taken.tasks);
    let count = app.inspector.preview(&query, body.act.into(), &limits).await;
    Ok(Json(taken.end(count, |count| count.looked_at)?.into()))
}

/// A new act on many tasks: those that a query finds, or those of a list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    pub(crate) act: ManyAct,
    /// The query that finds the tasks. Not with `tasks`.
    #[schema(nullable = false)]
    pub(crate) query: Option<String>,
    /// The tasks, at most 1000. Not with `query`.
    #[schema(nullable = false, max_items = 1000)]
    pub(crate) tasks: Option<Vec<TaskName>>,
    /// Number of tasks that the preview has counted. A query that deletes tasks needs it. The act ends when it has acted on so
    /// many, so it never deletes more than somebody has seen.
    #[schema(nullable = false)]
    pub(crate) confirm: Option<u64>,
    /// Number of tasks after which the act ends. Default: no limit, or that of `confirm`.
    #[schema(minimum = 1, nullable = false)]
    pub(crate) limit: Option<u64>,
    /// Tasks to act on in a second. Default: as many as possible.
    #[schema(minimum = 1, maximum = 1_000_000, nullable = false)]
    pub(crate) rate: Option<u64>,
    /// Reason for the audit trail.
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
    /// A text that is new for each act, such as a UUID. A request that comes again with it, as its answer was lost, gets the act that
    /// was started, for as long as that is kept.
    #[schema(nullable = false, min_length = 1, max_length = 128)]
    pub(crate) idempotency_key: Option<String>,
}

impl Start {
    /// Returns the key, with a hash of what is asked for.
    fn key(&self) -> Result<Option<Key>> {
        let Some(text) = &self.idempotency_key else {
            return Ok(None);
        };
        let length = text.chars().count();
        if !(1..=MOST_KEY).contains(&length) {
            return Err(Problem::invalid(
                "idempotency_key",
                format!("idempotency_key has {length} characters, must have 1 to {MOST_KEY}"),
            ));
        }
        let mut hash = DefaultHasher::new();
        (self.act as u8, &self.query, self.confirm, self.limit, self.rate).hash(&mut hash);
        for task in self.tasks.iter().flatten() {
            (&task.queue, &task.id).hash(&mut hash);
        }
        Ok(Some(Key {
            text: text.clone(),
            asks: hash.finish(),
        }))
    }
}

/// Starts an act on many tasks in the background, in the queues of which this user is an operator. It runs in steps of at most 200
/// tasks, beside up to three others, at most one of them of the same user; more acts wait. At most 20 acts of a user are kept.
#[utoipa::path(
    post, path = "/acts", tag = "acts", request_body = Start, responses((status = 202, body = ActRecord)),
)]
pub(crate) async fn start(
    State(app): State<App>,
    caller: Caller,
    parts: Parts,
    Body(body): Body<Start>,
) -> Result<(StatusCode, Json<ActRecord>)> {
    let act = Act::from(body.act);
    let key = body.key()?;
    let rate = match body.rate {
        None => None,
        Some(_) => NonZeroU32::new(u32::try_from(within("rate", body.rate, 1, 1, MOST_RATE)?).unwrap_or(1)),
    };
    if body.limit == Some(0) {
        return Err(Problem::invalid("limit", "limit is 0, must be at least 1"));
    }
    let limit = [body.limit, body.confirm].into_iter().flatten().min();
    let inspector = caller.inspector(body.reason.as_deref())?;
    let (text, work) = match (body.query, body.tasks) {
        (Some(text), None) => {
            if body.act == ManyAct::Delete && body.confirm.is_none() {
                return Err(Problem::invalid(
                    "confirm",
                    "a query that deletes tasks needs confirm, the number of tasks that the preview has counted",
                ));
            }
            let query = query(&text, &caller, Role::Operator)?;
            let mut limits = ActLimits::default();
            if let Some(limit) = limit {
                limits = limits.tasks(limit);
            }
            if let Some(rate) = rate {
                limits = limits.rate(rate);
            }
            let by_query = inspector.act_by_query(&query, act, limits)?;
            (Some(text), Work::Query(Box::new(by_query)))
        }
        (None, Some(mut tasks)) => {
            if tasks.is_empty() || tasks.len() > MOST_TASKS {
                let count = tasks.len();
                return Err(Problem::invalid(
                    "tasks",
                    format!("tasks has {count} items, must have 1 to {MOST_TASKS}"),
                ));
            }
            for task in &tasks {
                caller.need(&task.queue, Role::Operator)?;
            }
            if caller.reason(body.reason.as_deref()).trim().is_empty() && app.require_reason {
                return Err(Problem::invalid("reason", "a reason is required"));
            }
            tasks.truncate(limit.map_or(MOST_TASKS, |limit| usize::try_from(limit).unwrap_or(MOST_TASKS)));
            (None, Work::List(inspector, tasks))
        }
        _ => {
            return Err(Problem::invalid(
                "query",
                "either query or tasks says on which tasks to act",
            ));
        }
    };
    let record = app.acts.start(NewAct {
        user: caller.user().name.clone(),
        reason: caller.reason(body.reason.as_deref()).to_owned(),
        act,
        query: text,
        limit,
        rate: rate.map(NonZeroU32::get),
        work,
        rights: rights(&app, caller.clone(), parts),
        key,
    })?;
    Ok((StatusCode::ACCEPTED, Json(record)))
}

/// Asks whether the user still has the rights with which an act has begun.
fn rights(app: &App, caller: Caller, parts: Parts) -> Rights {
    let (app, asked) = (Arc::downgrade(&app.0), Arc::new((caller, parts)));
    Rights::new(move || {
        let (app, asked) = (app.clone(), Arc::clone(&asked));
        async move {
            let Some(app) = app.upgrade().map(App) else {
                return false;
            };
            let (caller, parts) = &*asked;
            match user_now(&app, caller, parts).await {
                Ok(user) => user.name == caller.user().name && user.grants == caller.user().grants,
                // It is asked again.
                Err(problem) => problem.is_outage(),
            }
        }
    })
}

/// The acts that a user may see.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActList {
    /// The acts, the newest one first. They are kept for an hour after their end.
    pub(crate) acts: Vec<ActRecord>,
}

fn shows(caller: &Caller, act: &ActRecord) -> bool {
    act.user == caller.user().name || caller.user().role_everywhere() == Some(Role::Admin)
}

/// Lists the acts of this user, and to an admin of all queues those of all users.
#[utoipa::path(get, path = "/acts", tag = "acts", responses((status = 200, body = ActList)))]
pub(crate) async fn list(State(app): State<App>, caller: Caller) -> Json<ActList> {
    let acts = app.acts.list(|act| shows(&caller, act));
    Json(ActList { acts })
}

fn find(app: &App, caller: &Caller, id: &str) -> Result<ActRecord> {
    let found = app.acts.list(|act| act.id == id && shows(caller, act)).pop();
    found.ok_or_else(|| Problem::not_found("there is no act with this id, or it ended more than an hour ago"))
}

/// Shows an act with its numbers so far.
#[utoipa::path(
    get, path = "/acts/{act}", tag = "acts", params(("act" = String, Path)), responses((status = 200, body = ActRecord)),
)]
pub(crate) async fn show(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<ActRecord>> {
    find(&app, &caller, &id).map(Json)
}

/// Stops an act after its current step. What it has done stays done; the act tells how much that is. The answer does not wait. The
/// audit trail tells who has stopped it, and why. An act of another user needs a reason where reasons are required; one's own has the
/// reason with which it was started if no other is given.
#[utoipa::path(
    post, path = "/acts/{act}/stop", tag = "acts", params(("act" = String, Path)), request_body = Option<Reason>,
    responses((status = 202, body = ActRecord)),
)]
pub(crate) async fn stop(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<(StatusCode, Json<ActRecord>)> {
    let act = find(&app, &caller, &id)?;
    if !act.has_ended() {
        let is_own = act.user == caller.user().name;
        let given = caller.reason(body.reason.as_deref());
        let reason = match is_own && given.trim().is_empty() {
            true => &act.reason,
            false => given,
        };
        let inspector = caller.inspector(Some(reason))?;
        let detail = format!("act {id} of {:?}", act.user);
        inspector.record_act("stop_act", &detail).await?;
    }
    app.acts.stop(&id);
    Ok((StatusCode::ACCEPTED, Json(find(&app, &caller, &id)?)))
}
