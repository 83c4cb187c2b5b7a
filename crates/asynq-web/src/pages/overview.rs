//! The first page: findings, then the queues.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use asynq::info::ServerStatus;
use axum::response::Response;
use futures::{StreamExt as _, stream};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    findings,
    parts::{
        act::{Act, argument},
        chart::spark,
        format,
        icon::icon,
        paged::{self, Paged},
        text::{Tone, badge, dash, empty, figure, number, sort_head},
    },
    shell::{Nav, live, page_head},
    view::View,
};
use crate::{
    access::{Pattern, Role},
    extract::Query,
    problem::Result,
    pulse::Pulse,
    queue_reads::{self, Unread},
    records::{FindingRecord, QueueRecord, UnreadableQueue},
    v1::{queues, servers},
};

/// Rows of a page.
const ROWS: usize = 50;
/// Queues that can be sorted by their numbers, since all of them are read for it.
const SORTED: usize = 2000;
/// Findings that are shown before the queues.
const FINDINGS: usize = 5;
/// Time in which the queues are read. Those for which none is left are shown as late.
const TIME: Duration = Duration::from_secs(10);
/// Queues whose last hour is read at the same time.
const AT_ONCE: usize = 8;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    q: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    page: Option<usize>,
}

/// The queues that fit, in order.
struct Found {
    queues: Vec<QueueRecord>,
    /// Queues whose numbers cannot be read.
    unreadable: Vec<UnreadableQueue>,
    total: usize,
    /// They are in the order of their names, as there are too many to read them all.
    is_by_name_only: bool,
}

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response> {
    let (found, findings, servers) = tokio::join!(
        read(&view, &asked),
        findings::read(&view, None),
        view.app.readings.servers()
    );
    let (mut found, findings, servers) = (found?, findings?, servers?);
    let served: BTreeSet<&str> = servers
        .0
        .iter()
        .filter(|server| server.status == ServerStatus::Active)
        .flat_map(|server| server.queues.keys().map(String::as_str))
        .collect();
    let paged = Paged::of(asked.page, found.total, ROWS);
    let totals = Totals::of(&found.queues);
    let rows: Vec<QueueRecord> = match found.is_by_name_only {
        true => std::mem::take(&mut found.queues),
        false => paged.rows(&found.queues).cloned().collect(),
    };
    let pulses: Vec<Option<Pulse>> = stream::iter(rows.iter().map(|queue| queue.queue.clone()).collect::<Vec<_>>())
        .map(async |queue| view.app.pulses.of(&view.app.inspector, &queue, view.now).await)
        .buffered(AT_ONCE)
        .collect()
        .await;
    let table = Table {
        view: &view,
        asked: &asked,
        served: &served,
        rows: rows.iter().zip(&pulses).collect(),
    };
    // Those that this user may know of.
    let server_count = servers::seen(&view.caller, &servers.0, &[]).len();
    let content = html! {
        (page_head(&html! { "Overview" }, &html! {}, &html! {}))
        (live("overview", &["queues", "gone", "findings", "servers"], &html! {
            (attention(&view, &findings.findings))
            (totals.strip(found.total, server_count, found.is_by_name_only))
            section class="card" aria-labelledby="queues-title" {
                div class="card-head" {
                    h2 id="queues-title" { "Queues" }
                    (filters(&view, &asked))
                }
                @if found.is_by_name_only {
                    p class="notice info" { "There are " (format::number(found.total as u64)) " queues: they are shown by name. Filter them to fewer than " (format::number(SORTED as u64)) " to sort them by their numbers." }
                }
                (unreadable(&view, &found.unreadable))
                @if rows.is_empty() && found.unreadable.is_empty() {
                    @if asked.q.is_empty() {
                        (empty("No queues yet", "A queue is there as soon as a task has been enqueued into it."))
                    } @else {
                        (empty("No queue fits the filter", "A name fits if it contains the text; * stands for any characters."))
                    }
                } @else if !rows.is_empty() {
                    (table.markup())
                    (paged.links(&view))
                }
            }
        }))
    };
    Ok(view.page(Nav::Overview, "Overview", &content))
}

async fn read(view: &View, asked: &Asked) -> Result<Found> {
    let pattern = match asked.q.trim() {
        "" => Pattern::any(),
        text if text.contains('*') => Pattern::from(text),
        text => Pattern::from(format!("*{text}*")),
    };
    let names = queues::names(&view.app, &view.caller, &pattern).await?;
    let total = names.len();
    let is_by_name_only = total > SORTED;
    let asked_for = match is_by_name_only {
        true => Paged::of(asked.page, total, ROWS).rows(&names).cloned().collect(),
        false => names,
    };
    let _read = view.app.budgets.read(&view.caller.user().name)?;
    let read = queue_reads::read(&view.app.inspector, asked_for, TIME).await?;
    let mut queues: Vec<QueueRecord> = read.queues.iter().map(QueueRecord::of).collect();
    if !is_by_name_only {
        sort(&mut queues, &asked.sort);
    }
    Ok(Found {
        queues,
        unreadable: read.unreadable.iter().map(Unread::record).collect(),
        total,
        is_by_name_only,
    })
}

/// Sorts queues by a column, with a `-` before it for the largest first.
fn sort(queues: &mut [QueueRecord], sort: &str) {
    let (name, is_falling) = match sort.strip_prefix('-') {
        Some(name) => (name, true),
        None => (sort, false),
    };
    let by = |value: fn(&QueueRecord) -> u64, queues: &mut [QueueRecord]| queues.sort_by_key(value);
    match name {
        "size" => by(|queue| queue.size, queues),
        "pending" => by(|queue| queue.pending, queues),
        "active" => by(|queue| queue.active, queues),
        "scheduled" => by(|queue| queue.scheduled, queues),
        "retry" => by(|queue| queue.retry, queues),
        "archived" => by(|queue| queue.archived, queues),
        "processed" => by(|queue| queue.processed, queues),
        "failed" => by(|queue| queue.failed, queues),
        "latency" => queues.sort_by(|a, b| a.latency_seconds.total_cmp(&b.latency_seconds)),
        _ => {}
    }
    if is_falling {
        queues.reverse();
    }
}

fn attention(view: &View, findings: &[FindingRecord]) -> Markup {
    if findings.is_empty() {
        return html! { p class="all-well" { (icon("check")) "Nothing needs attention." } };
    }
    let more = findings.len().saturating_sub(FINDINGS);
    html! {
        section class="attention" aria-labelledby="findings-title" {
            h2 id="findings-title" { "Needs attention" }
            (findings::list(view, &findings.iter().take(FINDINGS).collect::<Vec<_>>()))
            @if more > 0 { p { a href=(view.link("findings")) { "All " (findings.len()) " findings" } } }
        }
    }
}

/// Returns the queues whose numbers cannot be read, with the reasons.
fn unreadable(view: &View, queues: &[UnreadableQueue]) -> Markup {
    html! {
        @for queue in queues.iter().take(FINDINGS) {
            p class="notice warning" {
                a class="name" href=(view.queue_link(&queue.queue)) { (queue.queue) } " cannot be read: " (queue.error)
            }
        }
        @if queues.len() > FINDINGS {
            p class="notice warning" { (queues.len() - FINDINGS) " more queues cannot be read." }
        }
    }
}

/// The sums over all queues.
#[derive(Default)]
struct Totals {
    pending: u64,
    active: u64,
    scheduled: u64,
    retry: u64,
    archived: u64,
    processed: u64,
    failed: u64,
}

impl Totals {
    fn of<'q>(queues: impl IntoIterator<Item = &'q QueueRecord>) -> Self {
        queues.into_iter().fold(Self::default(), |sum, queue| Self {
            pending: sum.pending.saturating_add(queue.pending),
            active: sum.active.saturating_add(queue.active),
            scheduled: sum.scheduled.saturating_add(queue.scheduled),
            retry: sum.retry.saturating_add(queue.retry),
            archived: sum.archived.saturating_add(queue.archived),
            processed: sum.processed.saturating_add(queue.processed),
            failed: sum.failed.saturating_add(queue.failed),
        })
    }

    fn strip(&self, queues: usize, servers: usize, is_part: bool) -> Markup {
        let below = if is_part { "on this page" } else { "tasks" };
        html! {
            dl class="figures" {
                (figure("Queues", &html! { (format::number(queues as u64)) }, &html! { (servers) (if servers == 1 { " server" } else { " servers" }) }))
                (figure("Pending", &html! { (format::number(self.pending)) }, &html! { (below) }))
                (figure("Active", &html! { (format::number(self.active)) }, &html! { (below) }))
                (figure("Scheduled", &html! { (format::number(self.scheduled)) }, &html! { (below) }))
                (figure("Retry", &html! { (format::number(self.retry)) }, &html! { (below) }))
                (figure("Archived", &html! { (format::number(self.archived)) }, &html! { (below) }))
                (figure("Processed today", &html! { (format::number(self.processed)) }, &html! { (format::number(self.failed)) " failed" }))
            }
        }
    }
}

fn filters(view: &View, asked: &Asked) -> Markup {
    html! {
        (paged::filter(view, &asked.q, "Filter queues by name"))
        @if asked.group == "prefix" {
            a class="button" href=(view.with(&[("group", ""), ("page", "")])) { "Do not group" }
        } @else {
            a class="button" href=(view.with(&[("group", "prefix"), ("page", "")])) { "Group by prefix" }
        }
    }
}

/// The part of a name before its first separator.
fn prefix(name: &str) -> &str {
    name.split([':', '.', '-', '_', '/']).next().unwrap_or(name)
}

struct Table<'a> {
    view: &'a View,
    asked: &'a Asked,
    /// Queues from which a server takes tasks.
    served: &'a BTreeSet<&'a str>,
    rows: Vec<(&'a QueueRecord, &'a Option<Pulse>)>,
}

impl Table<'_> {
    fn markup(&self) -> Markup {
        let head =
            |label: &str, name: &str, is_number: bool| sort_head(self.view, label, name, &self.asked.sort, is_number);
        html! {
            div class="table-box" tabindex="0" role="region" aria-label="Queues" {
                table data-rows {
                    thead { tr {
                        (head("Queue", "name", false))
                        (head("Size", "size", true))
                        (head("Pending", "pending", true))
                        (head("Active", "active", true))
                        (head("Scheduled", "scheduled", true))
                        (head("Retry", "retry", true))
                        (head("Archived", "archived", true))
                        (head("Latency", "latency", true))
                        th scope="col" class="num" { "Per minute" }
                        (head("Failed today", "failed", true))
                        th scope="col" { "Last hour" }
                        th scope="col" { span class="sr" { "Acts" } }
                    } }
                    @if self.asked.group == "prefix" {
                        @for (prefix, rows) in self.groups() {
                            tbody {
                                (group_head(prefix, &rows))
                                @for (queue, pulse) in rows { (self.row(queue, pulse)) }
                            }
                        }
                    } @else {
                        tbody { @for (queue, pulse) in &self.rows { (self.row(queue, pulse)) } }
                    }
                }
            }
        }
    }

    fn groups(&self) -> BTreeMap<&str, Vec<(&QueueRecord, &Option<Pulse>)>> {
        let mut groups: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (queue, pulse) in &self.rows {
            groups.entry(prefix(&queue.queue)).or_default().push((*queue, *pulse));
        }
        groups
    }

    fn row(&self, queue: &QueueRecord, pulse: &Option<Pulse>) -> Markup {
        let view = self.view;
        let name = queue.queue.as_str();
        let count = |count: u64, state: &str| {
            html! { td class="num" { @if count == 0 { (number(0)) } @else { a href=(view.state_link(name, state)) { (number(count)) } } } }
        };
        html! {
            tr id={ "queue-" (name) } {
                th scope="row" class="name" {
                    a href=(view.queue_link(name)) data-open-row { (name) }
                    @if queue.paused { " " (badge(Tone::Warning, "paused")) }
                    @if !self.served.contains(name) { " " span class="badge bad" title="No running server takes tasks from this queue." { "no consumer" } }
                }
                td class="num" { (number(queue.size)) }
                (count(queue.pending, "pending"))
                (count(queue.active, "active"))
                (count(queue.scheduled, "scheduled"))
                (count(queue.retry, "retry"))
                (count(queue.archived, "archived"))
                td class="num" { @if queue.latency_seconds > 0.0 { (format::seconds(queue.latency_seconds)) } @else { (dash()) } }
                td class="num" {
                    @match pulse {
                        Some(pulse) if pulse.total() > 0 => (format::three_digits(pulse.rate())),
                        _ => (dash()),
                    }
                }
                td class="num" { (failures(queue)) }
                td class="spark-cell" {
                    @if let Some(pulse) = pulse {
                        (spark(&pulse.runs, &format!("{} runs in the last hour, {} failed", pulse.total(), pulse.total_failed())))
                    }
                }
                td class="acts" { @if view.may(name, Role::Operator) { (pause_or_resume(view, queue, true)) } }
            }
        }
    }
}

fn group_head(prefix: &str, rows: &[(&QueueRecord, &Option<Pulse>)]) -> Markup {
    let totals = Totals::of(rows.iter().map(|(queue, _)| *queue));
    let size: u64 = rows.iter().map(|(queue, _)| queue.size).sum();
    html! {
        tr class="group" {
            th scope="rowgroup" { (prefix) " " span class="hint" { (rows.len()) (if rows.len() == 1 { " queue" } else { " queues" }) } }
            td class="num" { (number(size)) }
            @for count in [totals.pending, totals.active, totals.scheduled, totals.retry, totals.archived] {
                td class="num" { (number(count)) }
            }
            td colspan="2" {}
            td class="num" { (number(totals.failed)) }
            td colspan="2" {}
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn failures(queue: &QueueRecord) -> Markup {
    if queue.failed == 0 {
        return number(0);
    }
    let share = queue.failed as f64 / queue.processed.max(1) as f64 * 100.0;
    html! { (number(queue.failed)) " " span class="hint" { (format::three_digits(share)) " %" } }
}

/// Returns the button that pauses a queue, or resumes it.
pub(crate) fn pause_or_resume(view: &View, queue: &QueueRecord, is_quiet: bool) -> Markup {
    let name = queue.queue.as_str();
    let act = match queue.paused {
        true => Act::post(view.queue_act(name, "/resume"), "Resume", "play")
            .says("The queue is resumed.")
            .command(format!("asynq queue resume {}", argument(name))),
        false => Act::post(view.queue_act(name, "/pause"), "Pause", "pause")
            .asks(
                format!("Pause the queue {name}?"),
                "Servers take no more tasks from it until it is resumed. Tasks that run go on.",
            )
            .says("The queue is paused.")
            .command(format!("asynq queue pause {}", argument(name))),
    };
    match is_quiet {
        true => act.quiet(name).button(view),
        false => act.button(view),
    }
}

#[cfg(test)]
mod tests {
    use super::prefix;

    #[test]
    fn queues_are_grouped_by_what_is_before_the_first_separator() {
        for (name, group) in [
            ("mail", "mail"),
            ("mail:eu", "mail"),
            ("mail.us-1", "mail"),
            (":x", ""),
            ("a/b", "a"),
        ] {
            assert_eq!(prefix(name), group);
        }
    }
}
