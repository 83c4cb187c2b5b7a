//! The page of the servers, and of the tasks that they run.

use std::cmp::Reverse;

use asynq::findings::quote;
use axum::{extract::State, response::Response};
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    parts::{
        act::Act,
        chart::meter,
        format,
        paged::{Paged, filter},
        text::{Tone, badge, copy_button, dash, empty, figure, id, short_id, sort_head, time},
    },
    shell::{Nav, live, page_head},
    view::View,
};
use crate::{
    access::Role,
    extract::Query,
    problem::Result,
    records::{ServerRecord, WorkerRecord},
    v1::servers,
};

/// Rows of a page.
const ROWS: usize = 50;
/// Queues of a server that are shown.
const QUEUES: usize = 12;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    tab: String,
    #[serde(default)]
    q: String,
    #[serde(default)]
    sort: String,
    /// Id of a server: only its tasks.
    #[serde(default)]
    server: String,
    page: Option<usize>,
}

/// A running task with its server.
type Running<'s> = (&'s ServerRecord, &'s WorkerRecord);

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response> {
    let list = servers::servers(State(view.app.clone()), view.caller.clone()).await?.0;
    let servers = list.servers;
    let running: Vec<Running<'_>> = servers
        .iter()
        .flat_map(|server| server.workers.iter().map(move |worker| (server, worker)))
        .collect();
    let is_tasks = asked.tab == "tasks" || !asked.server.is_empty();
    let count = running.len();
    let content = html! {
        (page_head(&html! { "Servers" }, &html! { "The programs that take tasks from the queues, and the tasks that they run now." }, &html! {}))
        (live("servers", &["servers"], &html! {
            (figures(&view, &servers, &running))
            nav class="tabs" aria-label="Lists" {
                (tab(&view, "Servers", servers.len(), "", !is_tasks))
                (tab(&view, "Running tasks", count, "tasks", is_tasks))
            }
            @if is_tasks { (tasks(&view, &asked, &servers, running)) } @else { (list_of_servers(&view, &asked, &servers)) }
        }))
    };
    Ok(view.page(Nav::Servers, "Servers", &content))
}

fn tab(view: &View, label: &str, count: usize, name: &str, is_current: bool) -> Markup {
    let href = view.with(&[("tab", name), ("server", ""), ("q", ""), ("sort", ""), ("page", "")]);
    html! {
        a href=(href) aria-current=[is_current.then_some("page")] {
            (label) " " span class=(if count == 0 { "count zero" } else { "count" }) { (format::number(count as u64)) }
        }
    }
}

fn figures(view: &View, servers: &[ServerRecord], running: &[Running<'_>]) -> Markup {
    let slots: i64 = servers.iter().map(|server| i64::from(server.concurrency)).sum();
    let busy: i64 = servers.iter().map(|server| i64::from(server.active_workers)).sum();
    let slots_number = u64::try_from(slots).unwrap_or(0);
    let stopping = servers.iter().filter(|server| server.state == "stopped").count();
    let longest = running.iter().map(|(_, worker)| worker.started).min();
    let late = running.iter().filter(|(_, worker)| is_late(worker, view.now)).count();
    html! {
        dl class="figures" {
            (figure("Servers", &html! { (format::number(servers.len() as u64)) }, &html! { @if stopping > 0 { (stopping) " stopping" } @else { "running" } }))
            (figure("Tasks that run", &html! { (format::number(u64::try_from(busy).unwrap_or(0))) }, &html! { "of at most " (format::number(slots_number)) " at a time" }))
            (figure("Load", &html! { (format::three_digits(share(busy, slots) * 100.0)) " %" }, &meter(share(busy, slots), "load of all servers")))
            (figure("Longest run", &html! { @match longest { Some(at) => (format::seconds(elapsed(at, view.now))), None => "–" } }, &html! { "so far" }))
            (figure("Past their deadline", &html! { (late) }, &html! { (if late == 0 { "all are in time" } else { "tasks still run" }) }))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn share(part: i64, whole: i64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Returns the seconds since a time.
#[expect(clippy::cast_precision_loss, reason = "two units are shown")]
pub(crate) fn elapsed(since: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    (now - since).max(TimeDelta::zero()).num_seconds() as f64
}

/// Returns whether a task has a deadline, and it is over.
pub(crate) fn is_late(worker: &WorkerRecord, now: DateTime<Utc>) -> bool {
    worker.deadline.timestamp() > 0 && worker.deadline < now
}

fn list_of_servers(view: &View, asked: &Asked, servers: &[ServerRecord]) -> Markup {
    let text = asked.q.trim().to_lowercase();
    let fits = |server: &&ServerRecord| {
        let has = |name: &str| name.to_lowercase().contains(&text);
        text.is_empty()
            || has(&server.host)
            || server.id.starts_with(&text)
            || server.queues.keys().any(|name| has(name))
    };
    let mut found: Vec<&ServerRecord> = servers.iter().filter(fits).collect();
    match asked.sort.trim_start_matches('-') {
        "state" => found.sort_by_key(|server| server.state),
        // The longest uptime has the earliest start.
        "uptime" => found.sort_by_key(|server| Reverse(server.started)),
        "load" => found.sort_by(|a, b| {
            let load = |server: &ServerRecord| share(server.active_workers.into(), server.concurrency.into());
            load(a).total_cmp(&load(b))
        }),
        "running" => found.sort_by_key(|server| server.active_workers),
        _ => found.sort_by(|a, b| (&a.host, a.pid, &a.id).cmp(&(&b.host, b.pid, &b.id))),
    }
    if asked.sort.starts_with('-') {
        found.reverse();
    }
    let page = Paged::of(asked.page, found.len(), ROWS);
    let head = |label: &str, name: &str, is_number: bool| sort_head(view, label, name, &asked.sort, is_number);
    html! {
        section class="card" aria-labelledby="servers-title" {
            div class="card-head" { h2 id="servers-title" { "Servers" } (filter(view, &asked.q, "Filter by host or queue")) }
            @if servers.is_empty() {
                (empty("No server runs", "Tasks wait in their queues until a server that takes tasks from them is started."))
            } @else if found.is_empty() {
                (empty("No server fits the filter", "A server fits if its host or one of its queues contains the text."))
            } @else {
                div class="table-box" tabindex="0" role="region" aria-label="Servers" {
                    table data-rows {
                        thead { tr {
                            (head("Host", "host", false))
                            (head("State", "state", false))
                            (head("Uptime", "uptime", true))
                            (head("Running", "running", true))
                            (head("Load", "load", true))
                            th scope="col" { "Queues and priorities" }
                            th scope="col" { "Id" }
                        } }
                        tbody { @for server in page.rows(&found) { (server_row(view, server)) } }
                    }
                }
                (page.links(view))
            }
        }
    }
}

fn server_row(view: &View, server: &ServerRecord) -> Markup {
    let load = share(server.active_workers.into(), server.concurrency.into());
    let label = format!("{} of {} at a time", server.active_workers, server.concurrency);
    html! {
        tr id={ "server-" (server.id) } {
            th scope="row" class="name" {
                a href=(view.with(&[("tab", "tasks"), ("server", &server.id), ("q", ""), ("sort", ""), ("page", "")])) data-open-row { (server.host) }
                " " span class="hint" { "pid " (server.pid) }
            }
            td { (state(server.state)) }
            td class="num" title=(view.settings.absolute(server.started)) { (format::seconds(elapsed(server.started, view.now))) }
            td class="num" { (server.active_workers) span class="hint" { " / " (server.concurrency) } }
            td class="meter-cell" { (meter(load, &label)) }
            td class="wide" { (queues(view, server)) }
            td { (id(&server.id)) }
        }
    }
}

/// Returns the state of a server as a badge.
pub(crate) fn state(state: &str) -> Markup {
    let tone = match state {
        "active" => Tone::Good,
        "new" => Tone::Info,
        "stopped" => Tone::Warning,
        _ => Tone::Neutral,
    };
    badge(tone, state)
}

fn queues(view: &View, server: &ServerRecord) -> Markup {
    let mut queues: Vec<(&String, &i32)> = server.queues.iter().collect();
    queues.sort_by_key(|(name, priority)| (Reverse(**priority), *name));
    let more = queues.len().saturating_sub(QUEUES);
    html! {
        ul class="tags" {
            @for (name, priority) in queues.iter().take(QUEUES) {
                li class="tag" { a href=(view.queue_link(name)) { (name) } " " span title="priority" { (priority) } }
            }
            @if more > 0 { li class="hint" { "and " (more) " more" } }
            @if server.strict_priority { li { span class="badge info" title="Queues with lower priorities wait until the others are empty." { "strict" } } }
        }
    }
}

fn tasks(view: &View, asked: &Asked, servers: &[ServerRecord], mut running: Vec<Running<'_>>) -> Markup {
    let of_server = servers.iter().find(|server| server.id == asked.server);
    if !asked.server.is_empty() {
        running.retain(|(server, _)| server.id == asked.server);
    }
    let all = running.len();
    let text = asked.q.trim().to_lowercase();
    if !text.is_empty() {
        running.retain(|(server, worker)| {
            let parts = [&worker.task_type, &worker.queue, &worker.task, &server.host];
            parts.into_iter().any(|part| part.to_lowercase().contains(&text))
        });
    }
    match asked.sort.trim_start_matches('-') {
        "type" => running.sort_by(|(_, a), (_, b)| a.task_type.cmp(&b.task_type)),
        "queue" => running.sort_by(|(_, a), (_, b)| a.queue.cmp(&b.queue)),
        "server" => running.sort_by(|(a, _), (b, _)| (&a.host, a.pid).cmp(&(&b.host, b.pid))),
        "deadline" => running.sort_by_key(|(_, worker)| worker.deadline),
        _ => running.sort_by_key(|(_, worker)| Reverse(worker.started)),
    }
    // Without a choice, those that have run longest come first.
    if asked.sort.is_empty() || asked.sort.starts_with('-') {
        running.reverse();
    }
    let page = Paged::of(asked.page, running.len(), ROWS);
    let head = |label: &str, name: &str, is_number: bool| sort_head(view, label, name, &asked.sort, is_number);
    html! {
        section class="card" aria-labelledby="tasks-title" {
            div class="card-head" {
                h2 id="tasks-title" { "Running tasks" @if let Some(server) = of_server { " of " (server.host) " " span class="hint" { "pid " (server.pid) } } }
                @if !asked.server.is_empty() { a class="button" href=(view.with(&[("server", ""), ("tab", "tasks"), ("page", "")])) { "Of all servers" } }
                (filter(view, &asked.q, "Filter by type, queue, id or host"))
            }
            @if !asked.server.is_empty() && of_server.is_none() {
                (empty("This server has ended", "Its tasks that had not ended go back to their queues."))
            } @else if all == 0 {
                (empty("No task runs now", "A task is here from the moment a server takes it until its run ends."))
            } @else if running.is_empty() {
                (empty("No running task fits the filter", "A task fits if its type, queue, id or host contains the text."))
            } @else {
                div class="table-box" tabindex="0" role="region" aria-label="Running tasks" {
                    table data-rows {
                        thead { tr {
                            th scope="col" { "Task" }
                            (head("Type", "type", false))
                            (head("Queue", "queue", false))
                            @if of_server.is_none() { (head("Server", "server", false)) }
                            (head("Runs for", "runs", true))
                            th scope="col" { "Of its time" }
                            (head("Deadline", "deadline", false))
                            th scope="col" { span class="sr" { "Acts" } }
                        } }
                        tbody { @for (server, worker) in page.rows(&running) { (task_row(view, server, worker, of_server.is_none())) } }
                    }
                }
                (page.links(view))
            }
        }
    }
}

fn task_row(view: &View, server: &ServerRecord, worker: &WorkerRecord, has_server: bool) -> Markup {
    let has_deadline = worker.deadline.timestamp() > 0;
    let (ran, whole) = (
        (view.now - worker.started).num_seconds(),
        (worker.deadline - worker.started).num_seconds(),
    );
    html! {
        tr id={ "run-" (worker.queue) "-" (worker.task) } {
            th scope="row" { (task_link(view, worker)) }
            td class="name" { (worker.task_type) }
            td { a href=(view.queue_link(&worker.queue)) { (worker.queue) } }
            @if has_server { td { (server.host) " " span class="hint" { "pid " (server.pid) } } }
            td class="num" title=(view.settings.absolute(worker.started)) { (format::seconds(elapsed(worker.started, view.now))) }
            td class="meter-cell" { @if has_deadline { (meter(share(ran, whole), "part of the time until the deadline")) } }
            td {
                @if !has_deadline { (dash()) } @else { (time(view, worker.deadline)) }
                @if is_late(worker, view.now) { " " (badge(Tone::Bad, "late")) }
            }
            td class="acts" { @if view.may(&worker.queue, Role::Operator) { (cancel(view, worker)) } }
        }
    }
}

/// Returns the link to the task that a worker runs.
pub(crate) fn task_link(view: &View, worker: &WorkerRecord) -> Markup {
    let (href, task) = (view.task_link(&worker.queue, &worker.task), &worker.task);
    html! {
        span class="id" {
            a href=(href) title=(task) data-open-row { (short_id(task)) }
            (copy_button(task, "Copy the id"))
        }
    }
}

/// Returns the button that cancels a run.
pub(crate) fn cancel(view: &View, worker: &WorkerRecord) -> Markup {
    let (queue, task) = (&worker.queue, &worker.task);
    Act::post(view.task_act(queue, task, "/cancel"), "Cancel", "stop")
        .asks(
            "Cancel this run?",
            "Its server ends the run. The task is then retried as after any failure.",
        )
        .command(format!("asynq task cancel --queue {} -- {}", quote(queue), quote(task)))
        .says("The server was asked to end the run.")
        .quiet(&worker.task)
        .button(view)
}
