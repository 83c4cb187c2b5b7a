//! The upper part of the page of a queue: its figures, the last hour, the last days, and the tabs.

use chrono::{NaiveTime, TimeDelta};
use maud::{Markup, html};

use super::{
    asked::{Asked, Tab, from_start},
    list::count,
};
use crate::{
    pages::{
        parts::{
            chart::{Form, Series, count_label, over_time},
            format,
            text::figure,
        },
        view::View,
    },
    records::QueueRecord,
    v1::{
        queues::{Day, GroupList},
        statistics::{Runs, Statistics},
    },
};

/// Minutes over which the rate is taken.
const RATE_OVER: i64 = 5;
/// Groups that are shown at once.
const GROUPS: usize = 24;

/// Returns the figures of a queue. `servers` is the number of servers that take tasks from it.
pub(crate) fn figures(queue: &QueueRecord, statistics: Option<&Statistics>, servers: usize) -> Markup {
    html! {
        dl class="figures" {
            (figure("Tasks", &html! { (format::number(queue.size)) }, &html! { (format::number(queue.pending)) " pending, " (format::number(queue.active)) " active" }))
            (figure("Latency", &html! { (format::seconds(queue.latency_seconds)) }, &html! { "of the next task" }))
            (figure("Rate", &html! { (statistics.map_or_else(|| "–".to_owned(), rate)) }, &html! { "runs per minute" }))
            (figure("Failed today", &html! { (format::number(queue.failed)) }, &html! { "of " (format::number(queue.processed)) " (" (share(queue.failed, queue.processed)) ")" }))
            (figure("Processed", &html! { (format::short_number(queue.processed_total)) }, &html! { "ever, " (format::short_number(queue.failed_total)) " failed" }))
            (figure("Memory", &html! { (queue.memory_bytes.map_or_else(|| "–".to_owned(), format::bytes)) }, &html! { "an estimate" }))
            (figure("Servers", &html! { (servers) }, &html! { "take tasks from it" }))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn share(part: u64, whole: u64) -> String {
    format!("{} %", format::three_digits(part as f64 / whole.max(1) as f64 * 100.0))
}

/// Returns the runs per minute over the last whole minutes.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn rate(statistics: &Statistics) -> String {
    let to = statistics.to - TimeDelta::minutes(1);
    let from = to - TimeDelta::minutes(RATE_OVER);
    let points = statistics
        .points
        .iter()
        .filter(|point| point.at >= from && point.at < to);
    let runs: u64 = points.map(|point| point.totals.runs.total).sum();
    format::three_digits(runs as f64 / RATE_OVER as f64)
}

/// An outcome in a chart: its name, the class of its colour, and its number.
type Outcome = (&'static str, &'static str, fn(&Runs) -> u64);

const OUTCOMES: [Outcome; 6] = [
    ("done", "done", |runs| runs.done),
    ("retried", "retried", |runs| runs.retried),
    ("archived", "archived", |runs| runs.archived),
    ("deferred", "deferred", |runs| runs.deferred),
    ("given back", "given-back", |runs| runs.given_back),
    ("lost", "lost", |runs| runs.lost),
];

/// Returns the last hour, minute by minute, and the last days.
pub(crate) fn charts(view: &View, queue: &QueueRecord, statistics: Option<&Statistics>, days: &[Day]) -> Markup {
    html! {
        div class="columns" {
            section class="card" aria-labelledby="hour-title" {
                h2 id="hour-title" { "Last hour " span class="hint" { "runs per minute, by outcome" } }
                @match statistics {
                    Some(statistics) if statistics.points.is_empty() && queue.processed > 0 => {
                        p class="chart-none" { "No runs recorded in the last hour. Servers of Go record none." }
                    }
                    Some(statistics) => (hour(view, statistics)),
                    None => p class="chart-none" { "The statistics cannot be read now." },
                }
            }
            section class="card" aria-labelledby="days-title" {
                h2 id="days-title" { "Last days " span class="hint" { "tasks per day (UTC), of all servers" } }
                (history(view, days))
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn hour(view: &View, statistics: &Statistics) -> Markup {
    let minutes = (statistics.to - statistics.from).num_minutes().clamp(0, 120);
    let times: Vec<_> = (0..minutes)
        .map(|minute| statistics.from + TimeDelta::minutes(minute))
        .collect();
    let series = OUTCOMES.into_iter().map(|(name, class, of)| {
        let mut values = vec![None; times.len()];
        for point in &statistics.points {
            let minute = usize::try_from((point.at - statistics.from).num_minutes());
            if let Some(value) = minute.ok().and_then(|minute| values.get_mut(minute)) {
                *value = Some(of(&point.totals.runs) as f64).filter(|runs| *runs > 0.0);
            }
        }
        Series { name, class, values }
    });
    // A legend without bars explains nothing.
    let series: Vec<Series> = series
        .filter(|series| series.values.iter().any(Option::is_some))
        .collect();
    over_time(
        view,
        "Runs of the last hour by outcome",
        &times,
        &series,
        Form::Bars,
        count_label,
    )
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn history(view: &View, days: &[Day]) -> Markup {
    let days: Vec<&Day> = days.iter().rev().collect();
    let times: Vec<_> = days
        .iter()
        .map(|day| day.date.and_time(NaiveTime::MIN).and_utc())
        .collect();
    let values = |of: fn(&Day) -> u64| days.iter().map(|day| Some(of(day) as f64)).collect();
    let series = [
        Series {
            name: "succeeded",
            class: "done",
            values: values(|day| day.processed.saturating_sub(day.failed)),
        },
        Series {
            name: "failed",
            class: "archived",
            values: values(|day| day.failed),
        },
    ];
    over_time(view, "Tasks of the last days", &times, &series, Form::Bars, count_label)
}

/// Returns the tabs, each with the number of its tasks, below a bar of their shares.
pub(crate) fn tabs(view: &View, queue: &QueueRecord, asked: &Asked) -> Markup {
    html! {
        div class="state-tabs" {
            (shares(queue))
            nav class="tabs" aria-label="States" {
                @for tab in Tab::ALL {
                    @let count = count(queue, tab);
                    a href=(from_start(view, &[("group", ""), ("state", if tab == Tab::All { "" } else { tab.as_str() })]))
                        aria-current=[(tab == asked.state).then_some("page")] {
                        @if tab == Tab::All { "All" } @else { span class={ "tab-state state-" (tab.as_str()) } { (tab.as_str()) } }
                        " " span class=(if count == 0 { "count zero" } else { "count" }) { (format::number(count)) }
                    }
                }
            }
        }
    }
}

/// Returns a bar with the share of each state. The tabs tell its numbers.
#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn shares(queue: &QueueRecord) -> Markup {
    const WIDTH: f64 = 1000.0;
    // A few tasks beside many are still seen.
    const LEAST: f64 = 4.0;
    let counts = Tab::ALL
        .into_iter()
        .filter(|tab| *tab != Tab::All)
        .map(|tab| (tab, count(queue, tab)));
    let counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    let total = counts.iter().map(|(_, count)| *count as f64).sum::<f64>().max(1.0);
    let room = WIDTH - LEAST * counts.len() as f64;
    let mut x = 0.0;
    html! {
        svg class="shares" viewBox="0 0 1000 6" preserveAspectRatio="none" aria-hidden="true" {
            rect class="meter-all" x="0" y="0" width="1000" height="6" {}
            @for (tab, count) in counts {
                @let width = LEAST + room * count as f64 / total;
                rect class={ "share state-" (tab.as_str()) } x=(format!("{x:.1}")) y="0" width=(format!("{width:.1}")) height="6" {}
                @let () = x += width;
            }
        }
    }
}

/// Returns the groups of aggregating tasks.
pub(crate) fn groups(view: &View, asked: &Asked, groups: &GroupList) -> Markup {
    if groups.groups.is_empty() {
        return html! {};
    }
    let more = groups.total.saturating_sub(GROUPS);
    html! {
        nav class="groups" aria-label="Groups" {
            a class="chip" href=(from_start(view, &[("group", "")])) aria-current=[asked.group().is_none().then_some("true")] { "All groups" }
            @for group in groups.groups.iter().take(GROUPS) {
                a class="chip" href=(from_start(view, &[("group", &group.group)])) aria-current=[(asked.group() == Some(&group.group)).then_some("true")]
                    title={ (group.size) " wait, " (group.in_sets) " are being aggregated" } {
                    span class="clip" { (group.group) } " " span class="count" { (format::number(group.size)) }
                }
            }
            @if more > 0 { span class="hint" { "and " (format::number(more as u64)) " more: use " code { "group=…" } " in the query" } }
        }
    }
}
