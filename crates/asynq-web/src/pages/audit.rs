//! The page of the audit trail: who changed what, when and why.

use axum::{extract::State, response::Response};
use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    parts::{
        format,
        text::{Tone, badge, copy_button, dash, empty, short_id, time},
    },
    shell::{Nav, live, page_head},
    view::View,
};
use crate::{
    extract::Query,
    problem::{Problem, Result},
    v1::upkeep::{self, AuditEntry, ListAudit},
};

/// Acts of a page.
const ROWS: u64 = 100;
/// Names of acts that the filter offers.
const ACTS: [&str; 23] = [
    "archive_all_tasks",
    "archive_by_query",
    "archive_task",
    "backfill_entry",
    "cancel_processing",
    "cancel_task",
    "clear_counters",
    "delete_all_tasks",
    "delete_by_query",
    "delete_queue",
    "delete_task",
    "doctor_fix",
    "enqueue_copy",
    "enqueue_task",
    "pause_queue",
    "reschedule_task",
    "run_all_tasks",
    "run_by_query",
    "run_entry",
    "run_task",
    "stop_act",
    "unpause_queue",
    "update_task_payload",
];

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    actor: String,
    #[serde(default)]
    act: String,
    #[serde(default)]
    queue: String,
    /// The last `1h`, `24h`, `7d` or `30d`.
    #[serde(default)]
    range: String,
    /// Times in the time zone of the settings, as a field for them gives them.
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    cursor: Option<String>,
}

impl Asked {
    fn has_filter(&self) -> bool {
        [&self.actor, &self.act, &self.queue, &self.range, &self.from, &self.to]
            .iter()
            .any(|text| !text.is_empty())
    }
}

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response> {
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let last = match asked.range.as_str() {
        "1h" => Some(TimeDelta::hours(1)),
        "24h" => Some(TimeDelta::hours(24)),
        "7d" => Some(TimeDelta::days(7)),
        "30d" => Some(TimeDelta::days(30)),
        _ => None,
    };
    let list = ListAudit {
        queue: some(&asked.queue),
        actor: some(&asked.actor),
        act: some(&asked.act),
        from: moment(&view, "from", &asked.from)?.or(last.map(|last| view.now - last)),
        to: moment(&view, "to", &asked.to)?,
        limit: Some(ROWS),
        cursor: asked.cursor.clone().filter(|cursor| !cursor.is_empty()),
    };
    let trail = upkeep::audit(State(view.app.clone()), view.caller.clone(), Query(list))
        .await?
        .0;
    let content = html! {
        (page_head(
            &html! { "Audit trail" },
            &html! { "Who changed what, when and why, the newest first. The last 10,000 acts are kept; those of Go's tools are not recorded." },
            &html! {},
        ))
        (filters(&view, &asked))
        (live("audit", &[], &html! {
            section class="card" aria-label="Acts" {
                @if trail.acts.is_empty() {
                    @if asked.has_filter() { (empty("No act fits", "Take a filter away, or choose a longer time.")) }
                    @else { (empty("Nobody has changed anything yet", "Each change by these pages, the API, the program asynq and the library is written down here.")) }
                } @else {
                    (table(&view, &trail.acts))
                }
                @if asked.cursor.is_some() || trail.next_cursor.is_some() {
                    nav class="pager" aria-label="Parts of the trail" {
                        @if asked.cursor.is_some() { a class="button" href=(view.with(&[("cursor", "")])) { "Newest" } }
                        @if let Some(next) = &trail.next_cursor { a class="button" rel="next" href=(view.with(&[("cursor", next)])) { "Older" } }
                    }
                }
            }
        }))
    };
    Ok(view.page(Nav::Audit, "Audit trail", &content))
}

/// Reads a time of a form in the time zone of the settings.
fn moment(view: &View, name: &str, text: &str) -> Result<Option<DateTime<Utc>>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Problem::invalid(name, format!("{name} is no time as 2026-01-31T08:30"));
    let form = if text.len() > 16 {
        "%Y-%m-%dT%H:%M:%S"
    } else {
        "%Y-%m-%dT%H:%M"
    };
    let local = NaiveDateTime::parse_from_str(text, form).map_err(|_| wrong())?;
    let at = view.settings.zone.from_local_datetime(&local).earliest();
    at.map(|at| Some(at.to_utc())).ok_or_else(wrong)
}

fn filters(view: &View, asked: &Asked) -> Markup {
    let ranges = [
        ("", "Any time"),
        ("1h", "Last hour"),
        ("24h", "Last 24 hours"),
        ("7d", "Last 7 days"),
        ("30d", "Last 30 days"),
    ];
    html! {
        form class="card filters" method="get" role="search" aria-label="Filters" {
            input type="search" name="actor" value=(asked.actor) placeholder="Who" aria-label="Name of the user" maxlength="256" data-filter;
            input type="search" name="act" value=(asked.act) placeholder="Act" aria-label="Name of the act" list="acts" maxlength="64";
            datalist id="acts" { @for act in ACTS { option value=(act) {} } }
            input type="search" name="queue" value=(asked.queue) placeholder="Queue" aria-label="Queue" maxlength="256";
            select name="range" aria-label="Time" { @for (value, label) in ranges { option value=(value) selected[value == asked.range] { (label) } } }
            details class="more" open[!asked.from.is_empty() || !asked.to.is_empty()] {
                summary class="button" { "From, to" }
                div class="row" {
                    input type="datetime-local" name="from" value=(asked.from) aria-label={ "From, in " (view.settings.zone) };
                    span class="hint" { "to" }
                    input type="datetime-local" name="to" value=(asked.to) aria-label={ "To, in " (view.settings.zone) };
                    span class="hint" { (view.settings.zone) }
                }
            }
            button class="button primary" { "Filter" }
            @if asked.has_filter() { a class="button" href=(view.link("audit")) { "Clear" } }
        }
    }
}

fn table(view: &View, acts: &[AuditEntry]) -> Markup {
    html! {
        div class="table-box" tabindex="0" role="region" aria-label="Acts" {
            table {
                thead { tr {
                    th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "Act" } th scope="col" { "On" }
                    th scope="col" { "Result" } th scope="col" { "Why" } th scope="col" { "From" }
                } }
                tbody { @for act in acts { (row(view, act)) } }
            }
        }
    }
}

fn row(view: &View, act: &AuditEntry) -> Markup {
    html! {
        tr {
            td { (time(view, act.at)) }
            td class="actor" {
                @match &act.actor {
                    Some(actor) => a href=(view.with(&[("actor", actor), ("cursor", "")])) title="Only acts of this user" { (actor) },
                    None => span class="zero" { "unknown" },
                }
            }
            td { a href=(view.with(&[("act", &act.act), ("cursor", "")])) class=(tone(&act.act)) title="Only such acts" { (words(&act.act)) } }
            td class="wide" { (target(view, act)) }
            td {
                @match (&act.failure, act.changed) {
                    (Some(failure), _) => { (badge(Tone::Bad, "failed")) " " span class="hint clip" title=(failure) { (failure) } }
                    (None, Some(changed)) => { span class="num" { (format::number(changed)) } " changed" }
                    (None, None) => span class="zero" { "done" },
                }
            }
            td class="reason" { @match &act.reason { Some(reason) => (reason), None => (dash()) } }
            td { span class="hint nowrap" { (act.host) " " (act.pid) } }
        }
    }
}

/// Returns what an act was about: the queue, the task or the tasks, and more in words.
fn target(view: &View, act: &AuditEntry) -> Markup {
    html! {
        @if let Some(queue) = &act.queue {
            @if view.caller.sees(queue) { a href=(view.queue_link(queue)) { (queue) } } @else { (queue) }
            @if let Some(task) = &act.task {
                " › " span class="id" { a href=(view.task_link(queue, task)) title=(task) { (short_id(task)) } (copy_button(task, "Copy the id")) }
            }
        } @else if let Some(task) = &act.task { code { (task) } }
        @if let Some(tasks) = &act.tasks { " " code { (tasks) } }
        @if let Some(detail) = &act.detail { " " span class="hint" { (detail) } }
        @if act.queue.is_none() && act.task.is_none() && act.tasks.is_none() && act.detail.is_none() { (dash()) }
    }
}

/// Returns the name of an act in words: `delete_task` is `delete task`.
fn words(act: &str) -> String {
    act.replace('_', " ")
}

fn tone(act: &str) -> &'static str {
    match act.starts_with("delete") || act.starts_with("clear") {
        true => "act-name bad",
        false => "act-name",
    }
}
