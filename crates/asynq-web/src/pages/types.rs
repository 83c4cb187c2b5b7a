//! The page of the task types: how often their runs fail, and how long they run and wait.

use std::collections::BTreeMap;

use asynq::statistics::{RunEnd, Step, TimeRange, TypeStatistics};
use axum::{extract::State, response::Response};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, stream};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    errors_by_signature,
    parts::{
        chart::{Form, Series, count_label, over_time, wide_over_time},
        format,
        paged::{Paged, filter},
        text::{dash, empty, figure, number, sort_head},
    },
    shell::{Nav, live, page_head},
    view::View,
};
use crate::{
    access::Role,
    extract::Query,
    problem::{Problem, Result},
    v1::{
        queues::{self, ListQueues},
        statistics::{Durations, Runs, Totals},
    },
};

/// Rows of a page.
const ROWS: usize = 50;
/// Queues that are read for one page.
const QUEUES: usize = 50;
/// Queues that are read at the same time.
const AT_ONCE: usize = 4;
/// Types that are told apart over all queues.
const TYPES: usize = 2000;
/// Names of queues that the filter offers.
const OFFERED: usize = 200;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    pub(crate) queue: String,
    /// `1h` (default), `24h`, `7d` or `30d`.
    #[serde(default)]
    range: String,
    /// Only this type, with more about it.
    #[serde(default, rename = "type")]
    pub(crate) task_type: String,
    #[serde(default)]
    q: String,
    #[serde(default)]
    sort: String,
    page: Option<usize>,
}

/// The ranges: their names, the steps of their points, and the number of these.
const RANGES: [(&str, &str, Step, u32); 4] = [
    ("1h", "1 hour", Step::Minute, 60),
    ("24h", "24 hours", Step::Hour, 24),
    ("7d", "7 days", Step::Hour, 168),
    ("30d", "30 days", Step::Day, 30),
];

/// The queues that are read, and what is not.
pub(crate) struct Read {
    pub(crate) queues: Vec<String>,
    /// Number of queues that were left out.
    left_out: usize,
    /// Names for the filter.
    offered: Vec<String>,
}

/// The statistics of several queues together.
#[derive(Default)]
struct Merged {
    types: BTreeMap<String, TypeStatistics>,
    /// Number of types that were left out, as there are too many.
    types_left_out: usize,
    points: BTreeMap<DateTime<Utc>, TypeStatistics>,
    unreadable: usize,
}

impl Merged {
    fn total(&self) -> TypeStatistics {
        let mut total = TypeStatistics::default();
        self.types.values().for_each(|of_type| total.merge(of_type));
        total
    }
}

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response> {
    let range = RANGES.iter().find(|range| range.0 == asked.range).unwrap_or(&RANGES[0]);
    let (_, _, step, points) = *range;
    let read = choose(&view, &asked.queue).await?;
    let time = TimeRange::last(points, step, view.now).map_err(asynq::Error::from)?;
    let merged = merge(&view, &read.queues, &time, &asked.task_type).await?;
    let errors = errors_by_signature::read(&view, &read.queues, &asked.task_type).await?;
    let starts = starts(&time);
    let title = match asked.task_type.as_str() {
        "" => html! { "Task types" },
        name => html! { (name) },
    };
    let below = match asked.task_type.as_str() {
        "" => html! { "How often runs fail, and how long tasks run and wait, by their type." },
        _ => html! { a href=(view.with(&[("type", "")])) { "All task types" } },
    };
    let content = html! {
        (page_head(&title, &below, &html! {}))
        (choices(&view, &asked, range.0, &read))
        (live("types", &[], &html! {
            @if read.left_out > 0 {
                p class="notice info" { "The " (read.queues.len()) " queues with the most tasks today are counted together. " (format::number(read.left_out as u64)) " more are left out: choose one of them." }
            }
            @if merged.types_left_out > 0 { p class="notice warning" { "There are more than " (format::number(TYPES as u64)) " types: the rest is left out. Choose a queue." } }
            @if merged.unreadable > 0 { p class="notice warning" { (merged.unreadable) " queues could not be read." } }
            @if merged.types.is_empty() {
                (empty("No runs in this time", "Runs are counted a few seconds after they end. Servers of Go count none."))
            } @else {
                (figures(&Totals::of(&merged.total())))
                (charts(&view, &starts, &merged))
                @if asked.task_type.is_empty() { (table(&view, &asked, &merged)) }
            }
            (errors_by_signature::card(&view, &errors))
        }))
    };
    let title = if asked.task_type.is_empty() {
        "Task types"
    } else {
        &asked.task_type
    };
    Ok(view.page(Nav::Types, title, &content))
}

/// Returns the queues to read: the one that is asked for, or those with the most tasks today.
async fn choose(view: &View, queue: &str) -> Result<Read> {
    let list = ListQueues {
        pattern: None,
        after: None,
        limit: Some(1000),
    };
    let list = queues::list(State(view.app.clone()), view.caller.clone(), Query(list))
        .await?
        .0;
    let mut offered: Vec<String> = list
        .queues
        .iter()
        .map(|queue| queue.queue.clone())
        .take(OFFERED)
        .collect();
    if !queue.is_empty() {
        view.caller.need(queue, Role::Viewer)?;
        view.app.inspector.get_queue_stats(queue).await?;
        if !offered.iter().any(|name| name == queue) {
            offered.push(queue.to_owned());
        }
        return Ok(Read {
            queues: vec![queue.to_owned()],
            left_out: 0,
            offered,
        });
    }
    let mut busiest = list.queues;
    busiest.sort_by_key(|queue| std::cmp::Reverse(queue.processed));
    Ok(Read {
        left_out: list.total.saturating_sub(QUEUES),
        queues: busiest.into_iter().take(QUEUES).map(|queue| queue.queue).collect(),
        offered,
    })
}

async fn merge(view: &View, queues: &[String], range: &TimeRange, task_type: &str) -> Result<Merged> {
    let _read = view.app.budgets.read(&view.caller.user().name)?;
    let reads = stream::iter(queues.to_vec())
        .map(async |queue| view.app.inspector.statistics(&queue, *range).await)
        .buffered(AT_ONCE);
    let mut reads = std::pin::pin!(reads);
    let mut merged = Merged::default();
    while let Some(read) = reads.next().await {
        let statistics = match read.map_err(Problem::from) {
            Ok(statistics) => statistics,
            Err(problem) if problem.is_outage() => return Err(problem),
            // A queue that cannot be read hides no other.
            Err(_) => {
                merged.unreadable += 1;
                continue;
            }
        };
        let is_asked = |name: &str| task_type.is_empty() || name == task_type;
        for point in &statistics.points {
            let types = point.types.types().filter(|(name, _)| is_asked(name));
            for (_, of_type) in types {
                merged.points.entry(point.at).or_default().merge(of_type);
            }
        }
        let total = statistics.total();
        let types = total.types().filter(|(name, _)| is_asked(name));
        for (name, of_type) in types {
            let has_place = merged.types.len() < TYPES;
            match merged.types.get_mut(name) {
                Some(sum) => sum.merge(of_type),
                None if has_place => {
                    merged.types.insert(name.to_owned(), of_type.clone());
                }
                None => merged.types_left_out += 1,
            }
        }
    }
    Ok(merged)
}

fn starts(range: &TimeRange) -> Vec<DateTime<Utc>> {
    let step = TimeDelta::from_std(range.step().duration()).unwrap_or(TimeDelta::days(1));
    std::iter::successors(Some(range.from()), |at| at.checked_add_signed(step))
        .take_while(|at| *at < range.to())
        .collect()
}

fn choices(view: &View, asked: &Asked, range: &str, read: &Read) -> Markup {
    html! {
        form class="card filters" method="get" aria-label="What is counted" {
            @for (name, value) in view.parameters(&["queue", "page", "range"]) { input type="hidden" name=(name) value=(value); }
            @if range != RANGES[0].0 { input type="hidden" name="range" value=(range); }
            select name="queue" aria-label="Queue" {
                option value="" selected[asked.queue.is_empty()] { "All queues" }
                @for name in &read.offered { option value=(name) selected[*name == asked.queue] { (name) } }
            }
            button class="button" { "Show" }
            nav class="segments" aria-label="Time" {
                @for (name, label, ..) in &RANGES {
                    a href=(view.with(&[("range", name), ("page", "")])) aria-current=[(*name == range).then_some("true")] { (label) }
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64 * 100.0
}

fn duration(seconds: Option<f64>) -> Markup {
    html! { @match seconds { Some(seconds) => (format::seconds(seconds)), None => (dash()) } }
}

fn figures(totals: &Totals) -> Markup {
    let runs = &totals.runs;
    let more = |durations: &Durations| html! { "p90 " (duration(durations.p90)) ", p99 " (duration(durations.p99)) };
    html! {
        dl class="figures" {
            (figure("Runs", &html! { (format::number(runs.total)) }, &html! { (format::number(runs.done)) " done" }))
            (figure("Failed", &html! { (format::number(runs.failed)) }, &html! { (format::three_digits(share(runs.failed, runs.total))) " % of all runs" }))
            (figure("Archived", &html! { (format::number(runs.archived)) }, &html! { "no retries left" }))
            (figure("Lost", &html! { (format::number(runs.lost)) }, &html! { "their servers ended" }))
            (figure("Run time", &duration(totals.run_seconds.p50), &more(&totals.run_seconds)))
            (figure("Wait time", &duration(totals.wait_seconds.p50), &more(&totals.wait_seconds)))
        }
    }
}

/// Outcomes in charts: their ends, names and colours.
const ENDS: [(RunEnd, &str, &str); 6] = [
    (RunEnd::Done, "done", "done"),
    (RunEnd::Deferred, "deferred", "deferred"),
    (RunEnd::GivenBack, "given back", "given-back"),
    (RunEnd::Retried, "retried", "retried"),
    (RunEnd::Archived, "archived", "archived"),
    (RunEnd::Lost, "lost", "lost"),
];

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn charts(view: &View, starts: &[DateTime<Utc>], merged: &Merged) -> Markup {
    let at = |start: &DateTime<Utc>| merged.points.get(start);
    let total = merged.total();
    let ends = ENDS
        .iter()
        .filter(|(end, ..)| *end == RunEnd::Done || total.runs.of(*end) > 0);
    let outcomes: Vec<Series> = ends
        .map(|(end, name, class)| Series {
            name,
            class,
            values: starts
                .iter()
                .map(|start| Some(at(start).map_or(0, |point| point.runs.of(*end)) as f64))
                .collect(),
        })
        .collect();
    let percentiles = |of: fn(&Totals) -> &Durations| -> Vec<Series> {
        let totals: Vec<Option<Totals>> = starts.iter().map(|start| at(start).map(Totals::of)).collect();
        let series = |name, class, part: fn(&Durations) -> Option<f64>| Series {
            name,
            class,
            values: totals.iter().map(|totals| part(of(totals.as_ref()?))).collect(),
        };
        vec![
            series("p50", "first", |durations| durations.p50),
            series("p90", "second", |durations| durations.p90),
            series("p99", "third", |durations| durations.p99),
        ]
    };
    html! {
        section class="card" { h2 { "Outcomes" } (wide_over_time(view, "Ended runs by their outcomes, over time", starts, &outcomes, Form::Bars, count_label)) }
        div class="columns" {
            section class="card" { h2 { "Run time" } (over_time(view, "Percentiles of the run time, over time", starts, &percentiles(|totals| &totals.run_seconds), Form::Lines, format::seconds)) }
            section class="card" { h2 { "Wait time" } (over_time(view, "Percentiles of the wait time, over time", starts, &percentiles(|totals| &totals.wait_seconds), Form::Lines, format::seconds)) }
        }
    }
}

fn table(view: &View, asked: &Asked, merged: &Merged) -> Markup {
    let text = asked.q.trim().to_lowercase();
    let mut rows: Vec<(&str, Totals)> = merged
        .types
        .iter()
        .filter(|(name, _)| text.is_empty() || name.to_lowercase().contains(&text))
        .map(|(name, of_type)| (name.as_str(), Totals::of(of_type)))
        .collect();
    sort(&mut rows, &asked.sort);
    let page = Paged::of(asked.page, rows.len(), ROWS);
    let head = |label: &str, name: &str, is_number: bool| sort_head(view, label, name, &asked.sort, is_number);
    html! {
        section class="card" aria-labelledby="types-title" {
            div class="card-head" { h2 id="types-title" { "Types" } (filter(view, &asked.q, "Filter by type")) }
            @if rows.is_empty() { (empty("No type fits the filter", "A type fits if its name contains the text.")) } @else {
                div class="table-box" tabindex="0" role="region" aria-label="Types" {
                    table data-rows {
                        thead {
                            tr { td colspan="5" {} th colspan="3" scope="colgroup" class="num over" { "Run time" } th colspan="3" scope="colgroup" class="num over" { "Wait time" } }
                            tr {
                                (head("Type", "type", false)) (head("Runs", "runs", true)) (head("Failed", "failed", true)) (head("Share", "share", true)) th scope="col" { "Outcomes" }
                                (head("p50", "run50", true)) (head("p90", "run90", true)) (head("p99", "run99", true))
                                (head("p50", "wait50", true)) (head("p90", "wait90", true)) (head("p99", "wait99", true))
                            }
                        }
                        tbody { @for (name, totals) in page.rows(&rows) { (row(view, name, totals)) } }
                    }
                }
                (page.links(view))
            }
        }
    }
}

fn sort(rows: &mut [(&str, Totals)], sort: &str) {
    let by =
        |key: fn(&Totals) -> f64, rows: &mut [(&str, Totals)]| rows.sort_by(|a, b| key(&a.1).total_cmp(&key(&b.1)));
    match sort.trim_start_matches('-') {
        "type" => {}
        "failed" => rows.sort_by_key(|row| row.1.runs.failed),
        "share" => by(|totals| share(totals.runs.failed, totals.runs.total), rows),
        "run50" => by(|totals| totals.run_seconds.p50.unwrap_or(0.0), rows),
        "run90" => by(|totals| totals.run_seconds.p90.unwrap_or(0.0), rows),
        "run99" => by(|totals| totals.run_seconds.p99.unwrap_or(0.0), rows),
        "wait50" => by(|totals| totals.wait_seconds.p50.unwrap_or(0.0), rows),
        "wait90" => by(|totals| totals.wait_seconds.p90.unwrap_or(0.0), rows),
        "wait99" => by(|totals| totals.wait_seconds.p99.unwrap_or(0.0), rows),
        _ => rows.sort_by_key(|row| row.1.runs.total),
    }
    // Without a choice, the types with the most runs come first.
    if sort.is_empty() || sort.starts_with('-') {
        rows.reverse();
    }
}

fn row(view: &View, name: &str, totals: &Totals) -> Markup {
    let (runs, run, wait) = (&totals.runs, &totals.run_seconds, &totals.wait_seconds);
    let rate = share(runs.failed, runs.total);
    html! {
        tr {
            th scope="row" class="name" { a href=(view.with(&[("type", name), ("q", ""), ("sort", ""), ("page", "")])) data-open-row { (name) } }
            td class="num" { (number(runs.total)) }
            td class="num" { (number(runs.failed)) }
            td class="num" { @if runs.failed == 0 { (dash()) } @else { (format::three_digits(rate)) " %" } }
            td class="meter-cell" { (outcome_bar(runs)) }
            @for seconds in [run.p50, run.p90, run.p99, wait.p50, wait.p90, wait.p99] { td class="num" { (duration(seconds)) } }
        }
    }
}

/// Returns the parts of the outcomes as a bar.
fn outcome_bar(runs: &Runs) -> Markup {
    let parts = [
        (runs.done, "done"),
        (runs.deferred, "deferred"),
        (runs.given_back, "given-back"),
        (runs.retried, "retried"),
        (runs.archived, "archived"),
        (runs.lost, "lost"),
    ];
    let label = format!(
        "{} done, {} retried, {} archived, {} lost",
        runs.done, runs.retried, runs.archived, runs.lost
    );
    html! {
        svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(label) {
            title { (label) }
            @let mut from = 0.0;
            @for (count, class) in parts {
                @let width = share(count, runs.total);
                @if count > 0 { rect class={ "chart-bar series-" (class) } x=(format!("{from:.1}")) y="0" width=(format!("{width:.1}")) height="8" {} }
                @let () = from += width;
            }
        }
    }
}
