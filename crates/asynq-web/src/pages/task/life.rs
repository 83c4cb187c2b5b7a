//! The life of a task along the time: its runs with the waits between them, its state, and the times to come.

use asynq::TaskState;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::subject::Subject;
use crate::{
    pages::parts::{data::folded, format, text::time},
    records::RunRecord,
    v1::tasks::{Event, EventKind},
};

/// Seconds between two events that are not worth a line.
const SHORT_WAIT: f64 = 1.0;
/// Seconds by which times in whole seconds and those of runs may differ.
const ROUNDED: i64 = 2;

pub(super) fn card(subject: &Subject<'_>) -> Markup {
    html! {
        section class="card" aria-labelledby="life-title" {
            div class="card-head" { h2 id="life-title" { "Life" } }
            ol class="timeline" { (entries(subject)) }
        }
    }
}

fn entries(subject: &Subject<'_>) -> Markup {
    let now = subject.view.now;
    let events: Vec<&Event> = subject
        .life
        .events
        .iter()
        .filter(|event| is_told(subject, event))
        .collect();
    let coming = events.partition_point(|event| event.at <= now);
    let mut last: Option<DateTime<Utc>> = None;
    let mut number = 0_u32;
    let after = missing_after(subject);
    html! {
        @if !events.first().is_some_and(|event| event.event == EventKind::State && matches!(subject.task.state, TaskState::Pending | TaskState::Aggregating)) {
            (line("past", &html! { "Enqueued" }, &html! { span class="hint" { "time not recorded" } }, &html! {}))
        }
        @for event in events.get(..coming).unwrap_or_default() {
            @if let Some(run) = &event.run {
                @if run.missing_before > 0 { (missing(run.missing_before)) }
                @let () = number += 1 + run.missing_before;
                @if let Some(last) = last { (wait(last, event.at)) }
                (run_entry(subject, run, event.at, number))
                @let () = last = Some(run.ended.unwrap_or(event.at));
            } @else {
                (past(subject, event))
                @let () = last = Some(event.at);
            }
        }
        @if after > 0 { (missing(after)) }
        @if let Some(worker) = &subject.worker {
            @if let Some(last) = last { (wait(last, worker.start_time)) }
            (line("active", &html! { "Runs on " (worker.host) }, &time(subject.view, worker.start_time), &html! {
                p class="hint" { "since " (subject.view.settings.absolute(worker.start_time)) }
            }))
        } @else if subject.task.state == TaskState::Active {
            (line("active", &html! { "Runs" }, &html! {}, &html! {}))
        }
        @for event in events.get(coming..).unwrap_or_default() { (future(subject, event)) }
    }
}

/// Returns whether an event says more than the runs beside it.
fn is_told(subject: &Subject<'_>, event: &Event) -> bool {
    let near = |at: DateTime<Utc>| (at - event.at).num_seconds().abs() <= ROUNDED;
    let mut runs = subject.life.events.iter().filter_map(|event| event.run.as_ref());
    let is_end_of_run = runs.any(|run| run.ended.is_some_and(near));
    match event.event {
        EventKind::Failed | EventKind::Completed => !is_end_of_run,
        // A retry began with a failure, which is told.
        EventKind::State => {
            matches!(subject.task.state, TaskState::Pending | TaskState::Aggregating)
                || subject.task.state == TaskState::Archived && !is_end_of_run
        }
        EventKind::Deadline => !matches!(subject.task.state, TaskState::Completed | TaskState::Archived),
        _ => true,
    }
}

fn missing_after(subject: &Subject<'_>) -> u32 {
    subject.task.runs.as_ref().map_or(0, |runs| runs.missing_after)
}

fn missing(count: u32) -> Markup {
    html! {
        li class="timeline-gap" {
            (format::number(count.into())) (if count == 1 { " run" } else { " runs" }) " without a record: by a server of Go, lost, or too long ago"
        }
    }
}

fn wait(from: DateTime<Utc>, to: DateTime<Utc>) -> Markup {
    let seconds = (to - from).as_seconds_f64();
    html! { @if seconds >= SHORT_WAIT { li class="timeline-gap" { "waited " (format::seconds(seconds)) } } }
}

/// An entry: the class of its mark, its title, its time, and what is below.
fn line(class: &str, title: &Markup, at: &Markup, below: &Markup) -> Markup {
    html! {
        li class={ "timeline-" (class) } {
            div class="timeline-head" { span class="timeline-title" { (title) } (at) }
            (below)
        }
    }
}

fn run_entry(subject: &Subject<'_>, run: &RunRecord, at: DateTime<Utc>, number: u32) -> Markup {
    let view = subject.view;
    let (class, words) = match run.outcome {
        _ if run.is_lost => ("bad", "lost: its server died"),
        "done" => ("good", "succeeded"),
        "retried" => ("retry", "failed, to be retried"),
        "deferred" => ("scheduled", "put off, without using a retry"),
        "archived" => ("bad", "failed for good"),
        "given_back" => ("past", "given back by a server that stopped"),
        _ => ("past", "ended"),
    };
    let took = run
        .started
        .zip(run.ended)
        .map(|(started, ended)| (ended - started).as_seconds_f64());
    html! {
        (line(class, &html! { "Run " (format::number(number.into())) " " span class="timeline-words" { (words) } }, &time(view, run.ended.unwrap_or(at)), &html! {
            p class="hint" {
                @match run.started {
                    Some(started) => { (view.settings.absolute(started)) }
                    None => { "start not recorded" }
                }
                @if let Some(took) = took { ", took " strong class="num" { (duration(took)) } }
                @else { ", end not recorded" }
                @if let Some(server) = &run.server { br; "on " span title=(server) { (host(server)) } }
            }
            @if !run.error.is_empty() {
                details class="timeline-error" {
                    summary { span class="clip" { (run.error) } }
                    (folded(&run.error, 4096))
                }
            }
        }))
    }
}

/// Records have whole milliseconds.
fn duration(seconds: f64) -> String {
    match seconds < 0.001 {
        true => "under 1ms".to_owned(),
        false => format::seconds(seconds),
    }
}

/// The host and the process of `host:pid:id`.
fn host(server: &str) -> &str {
    server.rsplit_once(':').map_or(server, |(process, _)| process)
}

fn past(subject: &Subject<'_>, event: &Event) -> Markup {
    let (class, title) = match event.event {
        EventKind::Failed => ("retry", html! { "Failed" }),
        EventKind::Completed => ("good", html! { "Succeeded" }),
        EventKind::Due => ("scheduled", html! { "Due" }),
        EventKind::Deadline => ("bad", html! { "Deadline" }),
        EventKind::Expires => ("past", html! { "May be deleted" }),
        EventKind::State | EventKind::Run => match subject.task.state {
            TaskState::Pending => ("pending", html! { "Became pending" }),
            TaskState::Aggregating => ("aggregating", html! { "Joined its group" }),
            TaskState::Archived => ("bad", html! { "Archived" }),
            state => ("past", html! { "Became " (state.as_str()) }),
        },
    };
    line(
        class,
        &title,
        &time(subject.view, event.at),
        &html! { p class="hint" { (subject.view.settings.absolute(event.at)) } },
    )
}

fn future(subject: &Subject<'_>, event: &Event) -> Markup {
    let task = &subject.task;
    let title = match event.event {
        EventKind::Due if task.state == TaskState::Retry => {
            html! { "Retry " (format::number(u64::from(task.retried) + 1)) " of " (format::number(task.max_retry.into())) }
        }
        EventKind::Due => html! { "First run" },
        EventKind::Deadline => html! { "Deadline: it must be done" },
        EventKind::Expires => html! { "Is deleted" },
        _ => html! { "To come" },
    };
    let left = task.max_retry.saturating_sub(task.retried + 1);
    line(
        "future",
        &title,
        &time(subject.view, event.at),
        &html! {
            p class="hint" {
                (subject.view.settings.absolute(event.at))
                @if event.event == EventKind::Due && task.state == TaskState::Retry && left > 0 {
                    br; "then up to " (format::number(left.into())) " more, at times that the server sets after each failure"
                }
            }
        },
    )
}
