//! The state of a task in words: what happens next, and who runs it now.

use asynq::{TaskState, info::WorkerInfo, task::Progress};
use chrono::TimeDelta;
use maud::{Markup, html};

use super::{machine::machine, subject::Subject};
use crate::pages::parts::{
    chart::meter,
    format,
    icon::icon,
    text::{Tone, badge, copy_button, short_id, time},
};

/// Days and tasks that servers keep in the archive of a queue.
const ARCHIVE: &str = "Servers keep the last 9,999 archived tasks of a queue, for 90 days.";

/// Returns the card at the top: the sentence, the run, and the states.
pub(super) fn card(subject: &Subject<'_>) -> Markup {
    html! {
        section class={ "card now state-" (subject.task.state.as_str()) } aria-labelledby="now-title" {
            div class="now-words" {
                h2 id="now-title" class="now-title" { (sentence(subject)) }
                @for hint in hints(subject) { p class="hint" { (hint) } }
                @for warning in warnings(subject) { p class="now-warning" { (icon("findings")) span { (warning) } } }
                @if let Some(worker) = &subject.worker { (run(subject, worker)) }
                @if let Some(progress) = &subject.task.progress { (reported(subject, progress)) }
            }
            (machine(subject))
        }
    }
}

/// Returns what happens next.
fn sentence(subject: &Subject<'_>) -> Markup {
    let (view, task) = (subject.view, &subject.task);
    match task.state {
        TaskState::Pending => html! {
            @match task.state_since {
                Some(since) => { "Has waited " (format::seconds(elapsed(view.now - since))) " for a server" }
                None => { "Waits for a server" }
            }
        },
        TaskState::Active if task.is_orphaned => html! { "Its server died: it is about to be recovered" },
        TaskState::Active => match &subject.worker {
            Some(worker) => {
                html! { "Runs on " (worker.host) ", for " (format::seconds(elapsed(view.now - worker.start_time))) }
            }
            None => html! { "Runs" },
        },
        TaskState::Scheduled => match task.next_process_at {
            Some(at) if at > view.now => html! { "Runs " (time(view, at)) },
            _ => html! { "Is due: a server takes it within seconds" },
        },
        TaskState::Retry => match task.next_process_at {
            Some(at) if at > view.now => html! { "Runs again " (time(view, at)) },
            _ => html! { "Is due again: a server takes it within seconds" },
        },
        TaskState::Archived => html! {
            "Failed for good"
            @if let Some(since) = task.state_since { ", " (time(view, since)) }
            ": it does not run unless you run it"
        },
        TaskState::Completed => html! {
            "Succeeded"
            @if let Some(at) = task.completed_at { " " (time(view, at)) }
        },
        TaskState::Aggregating => match &task.group {
            Some(group) => html! { "Waits in the group " (group) " to be aggregated" },
            None => html! { "Waits in its group to be aggregated" },
        },
        state => html! { "Is " (state.as_str()) },
    }
}

fn hints(subject: &Subject<'_>) -> Vec<Markup> {
    let (view, task) = (subject.view, &subject.task);
    let mut hints = Vec::new();
    match task.state {
        TaskState::Pending => {
            if let Some(queue) = subject.queue.as_ref().filter(|queue| queue.pending > 1) {
                hints.push(html! { "One of " (format::number(queue.pending)) " pending tasks of its queue; its place among them is not known." });
            }
        }
        TaskState::Scheduled | TaskState::Retry => {
            if let Some(at) = task.next_process_at {
                hints.push(html! { "At " (view.settings.absolute(at)) "." });
            }
        }
        TaskState::Archived => hints.push(html! { (ARCHIVE) }),
        TaskState::Completed => {
            let kept = TimeDelta::from_std(task.retention).ok();
            match task
                .completed_at
                .zip(kept)
                .and_then(|(at, kept)| at.checked_add_signed(kept))
            {
                Some(until) => {
                    hints.push(html! { "Is kept until " (view.settings.absolute(until)) ", " (time(view, until)) "." })
                }
                None => hints.push(html! { "Is kept until it is deleted." }),
            }
        }
        _ => {}
    }
    if task.state == TaskState::Retry {
        let left = task.max_retry.saturating_sub(task.retried);
        hints.push(match left {
            0 => html! { "It is the last retry: if it fails again, the task is archived." },
            left => html! { (format::number(left.into())) (if left == 1 { " retry is" } else { " retries are" }) " left after " (format::number(task.retried.into())) " failures." },
        });
    }
    if let Some(deadline) = task
        .deadline
        .filter(|_| !matches!(task.state, TaskState::Completed | TaskState::Archived))
    {
        hints.push(html! { "Must be done by " (view.settings.absolute(deadline)) ", " (time(view, deadline)) "." });
    }
    hints
}

fn warnings(subject: &Subject<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let waits = matches!(
        subject.task.state,
        TaskState::Pending | TaskState::Scheduled | TaskState::Retry | TaskState::Aggregating
    );
    if waits && subject.queue.as_ref().is_some_and(|queue| queue.paused) {
        warnings.push("The queue is paused: no server takes tasks from it.".to_owned());
    }
    if waits && subject.servers == Some(0) {
        warnings.push("No running server takes tasks from this queue.".to_owned());
    }
    if subject.task.state == TaskState::Active && !subject.task.is_orphaned && subject.worker.is_none() {
        warnings.push(
            "No server publishes this run: it has just begun or ended, or its server has lost its connection."
                .to_owned(),
        );
    }
    if subject.task.state == TaskState::Active && subject.task.is_orphaned {
        warnings.push(
            "Its lease has ended. A server of its queue recovers it within a minute, and it is retried.".to_owned(),
        );
    }
    warnings
}

/// Returns who runs the task, since when and until when.
fn run(subject: &Subject<'_>, worker: &WorkerInfo) -> Markup {
    let view = subject.view;
    // Servers of Go write the beginning of time if there is no deadline.
    let deadline = Some(worker.deadline).filter(|deadline| deadline.timestamp() > 0);
    let whole = deadline.map(|deadline| (deadline - worker.start_time).as_seconds_f64());
    let part = whole.map(|whole| elapsed(view.now - worker.start_time) / whole.max(0.001));
    html! {
        dl class="pairs now-run" {
            dt { "Server" }
            dd { (worker.host) " " span class="hint" { "pid " (worker.pid) ", id " (short_id(&worker.server_id)) } (copy_button(&worker.server_id, "Copy the id of the server")) }
            dt { "Since" }
            dd { (view.settings.absolute(worker.start_time)) }
            dt { "Until" }
            dd {
                @match deadline {
                    Some(deadline) => {
                        (view.settings.absolute(deadline)) ", " (time(view, deadline))
                        @if deadline < view.now { " " (badge(Tone::Bad, "late")) }
                        @if let Some(part) = part { (meter(part, "part of the time until the deadline")) }
                    }
                    None => { "without a limit" }
                }
            }
            dt { "Lease" }
            dd { "held: its server renews it while the run goes on" }
        }
    }
}

fn reported(subject: &Subject<'_>, progress: &Progress) -> Markup {
    let is_now = subject.task.state == TaskState::Active;
    html! {
        div class="reported" {
            div class="reported-head" { span { (if is_now { "Progress" } else { "Progress of the last run" }) } span class="num" { (progress.percent) " %" } }
            (meter(f64::from(progress.percent) / 100.0, &format!("{} per cent", progress.percent)))
            p class="hint" { @if !progress.note.is_empty() { (progress.note) ", " } (time(subject.view, progress.at)) }
        }
    }
}

fn elapsed(distance: TimeDelta) -> f64 {
    distance.as_seconds_f64().max(0.0)
}
