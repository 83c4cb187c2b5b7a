//! The states of a task and the ways between them, with its place among them, as a picture.

use asynq::{TaskState, task::RunOutcome};
use maud::{Markup, html};

use super::subject::Subject;
use crate::pages::parts::format;

/// An order of the states on the page.
struct Layout {
    class: &'static str,
    /// Width and height of the picture, and of a state.
    size: (i32, i32),
    node: (i32, i32),
    /// The states with their places.
    nodes: [(TaskState, i32, i32); 7],
    /// The ways from one state to another: the line, and the head of its arrow.
    ways: [(&'static str, &'static str); 7],
}

const WIDE: Layout = Layout {
    class: "machine-wide",
    size: (576, 136),
    node: (112, 40),
    nodes: [
        (TaskState::Scheduled, 4, 8),
        (TaskState::Pending, 156, 8),
        (TaskState::Active, 308, 8),
        (TaskState::Completed, 460, 8),
        (TaskState::Aggregating, 4, 88),
        (TaskState::Retry, 232, 88),
        (TaskState::Archived, 460, 88),
    ],
    ways: [
        ("M116 28h34", "M150 24l6 4-6 4z"),
        ("M116 108h30c24 0 44-28 50-54", "M192 54l4-6 4 7z"),
        ("M268 28h34", "M302 24l6 4-6 4z"),
        ("M420 28h34", "M454 24l6 4-6 4z"),
        ("M352 48c0 18-8 26-18 36", "M331 80l1 8 7-4z"),
        ("M244 88c-12-10-16-20-17-34", "M223 55l4-7 4 6z"),
        ("M376 48c0 40 30 60 78 60", "M454 104l6 4-6 4z"),
    ],
};

const NARROW: Layout = Layout {
    class: "machine-narrow",
    size: (288, 172),
    node: (84, 38),
    nodes: [
        (TaskState::Scheduled, 2, 4),
        (TaskState::Pending, 102, 4),
        (TaskState::Active, 102, 67),
        (TaskState::Completed, 102, 130),
        (TaskState::Aggregating, 202, 4),
        (TaskState::Retry, 2, 67),
        (TaskState::Archived, 202, 130),
    ],
    ways: [
        ("M86 23h11", "M96 19l6 4-6 4z"),
        ("M202 23h-11", "M192 19l-6 4 6 4z"),
        ("M144 42v20", "M140 61l4 6 4-6z"),
        ("M144 105v20", "M140 124l4 6 4-6z"),
        ("M102 86h-11", "M92 82l-6 4 6 4z"),
        ("M60 67c4-16 20-20 44-21", "M110 50l4-8-8 3z"),
        ("M186 86c30 0 56 14 58 39", "M240 124l4 6 4-6z"),
    ],
};

/// Returns the picture, for wide and for narrow pages. It is told to readers of a screen in a sentence.
pub(super) fn machine(subject: &Subject<'_>) -> Markup {
    html! { @for layout in [&WIDE, &NARROW] { (picture(subject, layout)) } }
}

fn picture(subject: &Subject<'_>, layout: &Layout) -> Markup {
    let current = subject.task.state.as_str();
    html! {
        svg class={ "machine " (layout.class) } viewBox={ "0 0 " (layout.size.0) " " (layout.size.1) } role="img"
            aria-label={ "The task is " (current) ". Tasks go from scheduled or aggregating to pending, then active, then completed, retry or archived." } {
            @for (line, head) in layout.ways {
                path class="machine-way" d=(line) {}
                path class="machine-head" d=(head) {}
            }
            @for (state, x, y) in layout.nodes { (one(subject, layout, state, (x, y))) }
        }
    }
}

fn one(subject: &Subject<'_>, layout: &Layout, state: TaskState, (x, y): (i32, i32)) -> Markup {
    let class = match () {
        () if subject.task.state == state => "current",
        () if was_in(subject, state) => "past",
        () => "other",
    };
    let note = note(subject, state);
    let (width, height) = layout.node;
    let (middle, center) = (x + width / 2, y + height / 2);
    html! {
        g class={ "machine-" (class) " state-" (state.as_str()) } {
            rect x=(x) y=(y) width=(width) height=(height) rx="8" {}
            text x=(middle) y=(center + if note.is_some() { -3 } else { 4 }) { (state.as_str()) }
            @if let Some(note) = note { text class="machine-note" x=(middle) y=(center + 12) { (note) } }
        }
    }
}

/// Returns whether the task is known to have been in a state.
fn was_in(subject: &Subject<'_>, state: TaskState) -> bool {
    let task = &subject.task;
    let has_run = task.last_failed_at.is_some() || task.completed_at.is_some() || !runs(subject).is_empty();
    let is_now = |states: &[TaskState]| states.contains(&task.state);
    match state {
        TaskState::Pending => has_run || is_now(&[TaskState::Active]),
        TaskState::Active => has_run,
        TaskState::Retry => task.retried > 0,
        TaskState::Archived => runs(subject).iter().any(|run| run.outcome == RunOutcome::Archived),
        TaskState::Aggregating => task.group.is_some(),
        _ => false,
    }
}

fn runs<'s>(subject: &'s Subject<'_>) -> &'s [asynq::task::Run] {
    let runs = subject.task.runs.as_ref();
    runs.map_or(&[], |runs| runs.recorded.as_slice())
}

fn note(subject: &Subject<'_>, state: TaskState) -> Option<String> {
    let (task, now) = (&subject.task, subject.view.now);
    let is_current = task.state == state;
    match state {
        TaskState::Retry if task.retried > 0 || is_current => Some(format!(
            "{} of {}",
            format::number(task.retried.into()),
            format::number(task.max_retry.into())
        )),
        TaskState::Scheduled | TaskState::Completed | TaskState::Archived | TaskState::Pending if is_current => {
            let at = if state == TaskState::Scheduled {
                task.next_process_at
            } else {
                task.state_since
            };
            at.map(|at| format::relative(at, now))
        }
        TaskState::Active if is_current => {
            let started = subject.worker.as_ref().map(|worker| worker.start_time);
            started.map(|at| format::relative(at, now))
        }
        TaskState::Active => {
            let known = u64::try_from(runs(subject).len()).unwrap_or(0) + u64::from(subject.life.runs_missing);
            (known > 0).then(|| format!("{} {}", format::number(known), if known == 1 { "run" } else { "runs" }))
        }
        _ => None,
    }
}
