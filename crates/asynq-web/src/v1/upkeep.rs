//! Findings, the doctor, and the audit trail.

use std::time::{Duration, Instant};

use asynq::{
    Error,
    error::BrokerError,
    findings::{Finding, Severity},
    inspect::Cursor,
    inspector::{Doctor, DoctorPlace, TrailEntry},
};
use axum::{Json, extract::State};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::common::up_to;
use crate::{
    access::Role,
    app::App,
    extract::{OptionalJson, Query},
    guard::Caller,
    problem::{Problem, Result},
    records::{DiagnosisRecord, FindingRecord},
};

/// Time after which a check goes on in another request.
const TIME: Duration = Duration::from_secs(5);
/// Breaches after which it does.
const BREACHES: usize = 100;
/// Largest difference of the clocks of programs that is allowed for.
const CLOCKS: TimeDelta = TimeDelta::hours(1);
/// Entries of the audit trail that are read at once.
const TRAIL_PART: u32 = 500;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Notice,
    Warning,
    Critical,
}

impl From<Level> for Severity {
    fn from(level: Level) -> Self {
        match level {
            Level::Notice => Self::Notice,
            Level::Warning => Self::Warning,
            Level::Critical => Self::Critical,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListFindings {
    /// Only what is about this queue.
    #[param(nullable = false)]
    pub(crate) queue: Option<String>,
    /// Least severity. Default: `notice`.
    #[param(inline, nullable = false)]
    pub(crate) severity: Option<Level>,
}

/// The answer to a look for what needs attention.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FindingList {
    /// The findings, the most serious ones first.
    pub(crate) findings: Vec<FindingRecord>,
    /// Number of queues that were looked at.
    pub(crate) queues: usize,
    /// Number of queues that were left out, as there are too many.
    pub(crate) queues_left_out: usize,
    /// Time of the look.
    pub(crate) at: DateTime<Utc>,
}

/// Lists what needs attention, each with evidence, a sentence, and a suggested command for a shell. A user who sees only some
/// queues gets what is about these.
#[utoipa::path(
    get, path = "/findings", tag = "upkeep", params(ListFindings), responses((status = 200, body = FindingList)),
)]
pub(crate) async fn findings(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<ListFindings>,
) -> Result<Json<FindingList>> {
    if let Some(queue) = &asked.queue {
        caller.need(queue, Role::Viewer)?;
    }
    let _read = app.budgets.read(&caller.user().name)?;
    let all = app.readings.findings().await?;
    let least = asked.severity.map_or(Severity::Notice, Severity::from);
    let is_asked = |finding: &&Finding| {
        let queue = finding.queue.as_ref().map(|queue| queue.as_str());
        finding.severity >= least
            && (asked.queue.is_none() || asked.queue.as_deref() == queue)
            && sees_finding(&caller, finding)
    };
    Ok(Json(FindingList {
        findings: all.iter().filter(is_asked).map(FindingRecord::of).collect(),
        queues: all.queues,
        queues_left_out: all.left_out,
        at: all.at,
    }))
}

/// Returns whether a user may see a finding. One about no queue is about everything.
pub(crate) fn sees_finding(caller: &Caller, finding: &Finding) -> bool {
    match &finding.queue {
        Some(queue) => caller.sees(queue.as_str()),
        None => caller.user().role_everywhere().is_some(),
    }
}

/// A part of a check of the data.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    /// Only this queue. Default: all that this user may see. Not with `place`.
    #[schema(nullable = false)]
    pub(crate) queue: Option<String>,
    /// The `next_place` of the answer before: the check goes on there.
    #[schema(nullable = false)]
    pub(crate) place: Option<String>,
    /// Reason for the audit trail. A check needs none.
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
}

/// The answer of a part of a check.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Checked {
    /// The breaches that were found.
    pub(crate) breaches: Vec<DiagnosisRecord>,
    /// Number of queues that were checked to the end.
    pub(crate) queues: u64,
    /// Number of ids and keys that were looked at.
    pub(crate) looked_at: u64,
    /// All was checked.
    pub(crate) complete: bool,
    /// The value of `place` for the next part. `null` if the check is complete.
    pub(crate) next_place: Option<String>,
}

/// The place of a check, as it travels.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    /// The queue.
    q: String,
    /// The place in it.
    c: Option<String>,
    /// Those after it follow.
    all: bool,
}

/// Checks whether the data of the queues fit together, and tells each breach with its effect, cause and repair. It changes nothing.
/// A long check goes on in another request.
#[utoipa::path(
    post, path = "/doctor/check", tag = "upkeep", request_body = Option<Check>,
    responses((status = 200, body = Checked)),
    security(("token" = []), ("session" = [])),
)]
pub(crate) async fn check(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<Check>,
) -> Result<Json<Checked>> {
    let doctor = app.inspector.doctor();
    step(&app, &caller, body, doctor, Role::Viewer).await.map(Json)
}

/// Repairs what the check finds and what can be repaired safely. No repair deletes a task: data that cannot be used go to
/// quarantine.
#[utoipa::path(
    post, path = "/doctor/fix", tag = "upkeep", request_body = Option<Check>,
    responses((status = 200, body = Checked)),
)]
pub(crate) async fn fix(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<Check>,
) -> Result<Json<Checked>> {
    let doctor = caller.inspector(body.reason.as_deref())?.doctor().fix();
    step(&app, &caller, body, doctor, Role::Admin).await.map(Json)
}

/// Says of a place that the storage does not know that it is wrong.
fn of_place(error: Error) -> Problem {
    match error {
        Error::Broker(BrokerError::Refused { source }) if source.to_string() == "this cursor is not of an audit" => {
            Problem::invalid("place", "no answer has given this place")
        }
        error => error.into(),
    }
}

async fn step(
    app: &App,
    caller: &Caller,
    body: Check,
    doctor: Doctor<dyn asynq::broker::Storage>,
    needs: Role,
) -> Result<Checked> {
    let from = match (body.queue, body.place) {
        (Some(_), Some(_)) => return Err(Problem::invalid("place", "queue and place exclude each other")),
        (Some(queue), None) => {
            caller.need(&queue, needs)?;
            app.inspector.get_queue_stats(&queue).await?;
            Some(Place {
                q: queue,
                c: None,
                all: false,
            })
        }
        (None, Some(place)) => {
            let read = BASE64_URL_SAFE_NO_PAD.decode(place).ok();
            let read: Option<Place> = read.and_then(|json| serde_json::from_slice(&json).ok());
            let place = read.ok_or_else(|| Problem::invalid("place", "no answer has given this place"))?;
            caller.need(&place.q, needs)?;
            Some(place)
        }
        (None, None) => None,
    };
    let is_all = from.as_ref().is_none_or(|place| place.all);
    let queues = match &from {
        Some(place) if !place.all => vec![place.q.clone()],
        _ => {
            let names = app.inspector.queues().await?;
            let mut names: Vec<String> = names
                .iter()
                .map(|name| name.as_str())
                .filter(|name| caller.user().role_for(name).is_some_and(|role| role >= needs))
                .filter(|name| from.as_ref().is_none_or(|place| **name >= *place.q))
                .map(str::to_owned)
                .collect();
            names.sort();
            names
        }
    };
    let is_there = from.as_ref().is_none_or(|place| queues.first() == Some(&place.q));
    let cursor = from.and_then(|place| place.c).filter(|_| is_there);
    let _read = app.budgets.read(&caller.user().name)?;
    let mut doctor = doctor.from(DoctorPlace { queues, cursor });
    let (began, mut breaches, redaction) = (Instant::now(), Vec::new(), caller.redaction());
    let complete = loop {
        let Some(step) = doctor.next().await.map_err(of_place)? else {
            break true;
        };
        breaches.extend(
            step.findings
                .iter()
                .map(|found| DiagnosisRecord::shown(found, &redaction)),
        );
        let is_done = doctor.place().is_none_or(|place| place.queues.is_empty());
        if is_done {
            break true;
        }
        if began.elapsed() > TIME || breaches.len() >= BREACHES {
            break false;
        }
    };
    let next = doctor.place().filter(|_| !complete).and_then(|place| {
        let q = place.queues.into_iter().next()?;
        let place = Place {
            q,
            c: place.cursor,
            all: is_all,
        };
        Some(BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&place).ok()?))
    });
    let report = doctor.report();
    Ok(Checked {
        breaches,
        queues: report.queues,
        looked_at: report.looked,
        complete,
        next_place: next,
    })
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListAudit {
    /// Only acts on this queue.
    #[param(nullable = false)]
    pub(crate) queue: Option<String>,
    /// Only acts of the operator of this name.
    #[param(nullable = false)]
    pub(crate) actor: Option<String>,
    /// Only acts of this name, such as `delete_task`.
    #[param(nullable = false)]
    pub(crate) act: Option<String>,
    /// Only acts at this time or later.
    #[param(nullable = false)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Only acts at this time or earlier.
    #[param(nullable = false)]
    pub(crate) to: Option<DateTime<Utc>>,
    /// Largest number of acts. Default: 100.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    pub(crate) limit: Option<u64>,
    /// The `next_cursor` of the part before.
    #[param(nullable = false)]
    pub(crate) cursor: Option<String>,
}

/// A part of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Audit {
    /// The acts, the newest one first.
    pub(crate) acts: Vec<AuditEntry>,
    /// The value of `cursor` for the next part. `null` at the end.
    pub(crate) next_cursor: Option<String>,
}

/// An act of an operator.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    pub(crate) at: DateTime<Utc>,
    /// Name of the operator. `null` if it is not known.
    pub(crate) actor: Option<String>,
    /// Reason that the operator has given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
    /// Host of the program that has acted.
    pub(crate) host: String,
    /// Process of the program that has acted.
    pub(crate) pid: u32,
    /// The act, such as `delete_task`.
    pub(crate) act: String,
    pub(crate) queue: Option<String>,
    /// Id of the task.
    pub(crate) task: Option<String>,
    /// The tasks, such as a query that finds them.
    pub(crate) tasks: Option<String>,
    pub(crate) detail: Option<String>,
    /// Number of things that were changed, if there can be several.
    pub(crate) changed: Option<u64>,
    /// The error with which it ended. It may have taken effect all the same.
    pub(crate) failure: Option<String>,
}

impl AuditEntry {
    fn of(entry: TrailEntry) -> Self {
        let (actor, reason) = entry.actor.map(|actor| (actor.name, actor.reason)).unzip();
        Self {
            at: entry.at,
            actor,
            reason: reason.filter(|reason| !reason.is_empty()),
            host: entry.host,
            pid: entry.pid,
            act: entry.act,
            queue: entry.queue,
            task: entry.task,
            tasks: entry.tasks,
            detail: entry.detail,
            changed: entry.changed,
            failure: entry.failure,
        }
    }
}

/// Returns whether a text is the id of an act in the audit trail, as a storage gives it: one number, or two with a dash.
fn is_trail_id(text: &str) -> bool {
    let (time, number) = text.split_once('-').unwrap_or((text, "0"));
    [time, number].iter().all(|part| part.parse::<u64>().is_ok())
}

/// Lists who changed what, when and why, the newest act first. Acts of Go's tools are not recorded. A user who sees only some queues
/// gets the acts on these, and their own. The trail keeps the last 10 000 acts.
#[utoipa::path(get, path = "/audit", tag = "upkeep", params(ListAudit), responses((status = 200, body = Audit)))]
pub(crate) async fn audit(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<ListAudit>,
) -> Result<Json<Audit>> {
    let limit = usize::try_from(up_to("limit", asked.limit, 100, 1000)?).unwrap_or(usize::MAX);
    if asked.cursor.as_deref().is_some_and(|cursor| !is_trail_id(cursor)) {
        return Err(Problem::invalid("cursor", "no answer has given this cursor"));
    }
    let sees = |entry: &TrailEntry| {
        let actor = entry.actor.as_ref().map(|actor| actor.name.as_str());
        let may_see = match &entry.queue {
            Some(queue) => caller.sees(queue),
            None => caller.user().role_everywhere().is_some() || actor == Some(caller.user().name.as_str()),
        };
        may_see
            && (asked.queue.is_none() || asked.queue == entry.queue)
            && (asked.actor.is_none() || asked.actor.as_deref() == actor)
            && asked.act.as_ref().is_none_or(|act| *act == entry.act)
            && asked.from.is_none_or(|from| from <= entry.at)
            && asked.to.is_none_or(|to| entry.at <= to)
    };
    let _read = app.budgets.read(&caller.user().name)?;
    let (mut acts, mut cursor, mut count) = (Vec::new(), Cursor(asked.cursor.clone()), TRAIL_PART);
    let next = loop {
        let page = app.inspector.audit_trail(cursor.clone(), count).await?;
        // Acts come in the order of their times, but for the clocks of different programs.
        let is_over = |entry: &TrailEntry| asked.from.is_some_and(|from| entry.at + CLOCKS < from);
        let is_over = page.items.last().is_some_and(is_over);
        let mut found: Vec<TrailEntry> = page.items.into_iter().filter(&sees).collect();
        let missing = limit - acts.len();
        if found.len() > missing {
            // The next part must begin right behind the last act: once more, with fewer.
            count = (count / 2).max(u32::try_from(missing).unwrap_or(1));
            continue;
        }
        acts.append(&mut found);
        count = (count * 2).min(TRAIL_PART);
        match page.next {
            _ if is_over => break None,
            Some(next) if acts.len() == limit => break next.0,
            Some(next) => cursor = next,
            None => break None,
        }
    };
    Ok(Json(Audit {
        acts: acts.into_iter().map(AuditEntry::of).collect(),
        next_cursor: next,
    }))
}
