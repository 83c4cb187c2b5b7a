//! The columns of a list of tasks, and what stands in them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::asked::Tab;
use crate::{
    pages::{
        parts::{
            chart::meter,
            format,
            text::{Tone, badge, dash, state, time, time_or_dash},
        },
        view::View,
    },
    records::{Data, Shown, TaskRecord},
};

/// Characters of a payload, a result or an error in a row.
const SHORT: usize = 100;
/// Characters of an error in the title of its cell.
const LONG: usize = 160;
/// Characters of a name in a row.
const NAME: usize = 60;

/// A column that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    State,
    Type,
    Group,
    Payload,
    Result,
    Retries,
    Progress,
    Error,
    Server,
    Since,
    Due,
    Failed,
    Completed,
    Expires,
    Deadline,
    Timeout,
}

impl Column {
    pub(crate) const ALL: [Self; 16] = [
        Self::State,
        Self::Type,
        Self::Group,
        Self::Payload,
        Self::Result,
        Self::Retries,
        Self::Progress,
        Self::Error,
        Self::Server,
        Self::Since,
        Self::Due,
        Self::Failed,
        Self::Completed,
        Self::Expires,
        Self::Deadline,
        Self::Timeout,
    ];

    /// Returns the name in the address.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Type => "type",
            Self::Group => "group",
            Self::Payload => "payload",
            Self::Result => "result",
            Self::Retries => "retries",
            Self::Progress => "progress",
            Self::Error => "error",
            Self::Server => "server",
            Self::Since => "since",
            Self::Due => "due",
            Self::Failed => "failed",
            Self::Completed => "completed",
            Self::Expires => "expires",
            Self::Deadline => "deadline",
            Self::Timeout => "timeout",
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::State => "State",
            Self::Type => "Type",
            Self::Group => "Group",
            Self::Payload => "Payload",
            Self::Result => "Result",
            Self::Retries => "Retries",
            Self::Progress => "Progress",
            Self::Error => "Last error",
            Self::Server => "Server",
            Self::Since => "Since",
            Self::Due => "Due",
            Self::Failed => "Last failed",
            Self::Completed => "Completed",
            Self::Expires => "Kept until",
            Self::Deadline => "Deadline",
            Self::Timeout => "Timeout",
        }
    }

    /// Returns the class of its cells.
    pub(crate) fn class(self) -> Option<&'static str> {
        match self {
            Self::Retries | Self::Timeout => Some("num"),
            // They take the room that the others leave.
            Self::Payload | Self::Result | Self::Error => Some("grow"),
            _ => None,
        }
    }

    /// Returns the columns that fit the tasks of a tab.
    pub(crate) fn of(tab: Tab) -> &'static [Self] {
        match tab {
            Tab::All => &[
                Self::State,
                Self::Type,
                Self::Payload,
                Self::Retries,
                Self::Error,
                Self::Since,
                Self::Due,
            ],
            Tab::Active => &[
                Self::Type,
                Self::Payload,
                Self::Retries,
                Self::Progress,
                Self::Server,
                Self::Since,
                Self::Deadline,
            ],
            Tab::Pending => &[Self::Type, Self::Payload, Self::Retries, Self::Since],
            Tab::Aggregating => &[Self::Group, Self::Type, Self::Payload, Self::Since],
            Tab::Scheduled => &[Self::Type, Self::Payload, Self::Retries, Self::Due],
            Tab::Retry => &[
                Self::Type,
                Self::Payload,
                Self::Retries,
                Self::Error,
                Self::Failed,
                Self::Due,
            ],
            Tab::Archived => &[Self::Type, Self::Payload, Self::Retries, Self::Error, Self::Failed],
            Tab::Completed => &[Self::Type, Self::Payload, Self::Result, Self::Completed, Self::Expires],
        }
    }

    /// Returns the columns that the address names, or those that fit the tab if it names none.
    pub(crate) fn chosen(view: &View, tab: Tab) -> Vec<Self> {
        let names: Vec<String> = view
            .parameters(&[])
            .into_iter()
            .filter(|(name, _)| name == "c")
            .map(|(_, value)| value)
            .collect();
        let chosen: Vec<Self> = Self::ALL
            .into_iter()
            .filter(|column| names.iter().any(|name| name == column.as_str()))
            .collect();
        match chosen.is_empty() {
            true => Self::of(tab).to_vec(),
            false => chosen,
        }
    }

    /// Returns what stands in the column for a task. `runners` has the servers by the tasks that they run.
    pub(crate) fn cell(self, view: &View, task: &TaskRecord, runners: &Runners) -> Markup {
        let runner = runners.get(&task.id).filter(|_| task.state == "active");
        match self {
            Self::State => html! {
                (state(task.state))
                @if task.is_orphaned { " " span class="badge bad" title="Its lease has ended: the server died. It is given back soon." { "orphaned" } }
            },
            Self::Type => name(&task.task_type),
            Self::Group => match &task.group {
                Some(group) => name(group),
                None => dash(),
            },
            Self::Payload => data(&task.payload),
            Self::Result => task.result.as_ref().map_or_else(dash, data),
            Self::Retries => {
                html! { span class=(if task.retried == 0 { "num zero" } else { "num" }) { (task.retried) " / " (task.max_retry) } }
            }
            Self::Progress => match &task.progress {
                Some(progress) => html! {
                    span class="progress-cell" title=(cut(&progress.note, LONG)) {
                        (meter(f64::from(progress.percent) / 100.0, &format!("{} per cent", progress.percent)))
                        span class="num" { (progress.percent) " %" }
                    }
                },
                None => dash(),
            },
            Self::Error if task.last_error.is_empty() => dash(),
            Self::Error => {
                html! { span class="clip error" title=(cut(&task.last_error, LONG)) { (cut(&task.last_error, SHORT)) } }
            }
            Self::Server => match runner {
                Some(runner) => name(&runner.server),
                None => dash(),
            },
            Self::Since => time_or_dash(view, task.state_since.or(runner.map(|runner| runner.since))),
            Self::Due if matches!(task.state, "scheduled" | "retry") => time_or_dash(view, task.next_process_at),
            Self::Due => dash(),
            Self::Failed => time_or_dash(view, task.last_failed_at),
            Self::Completed => time_or_dash(view, task.completed_at),
            Self::Expires => time_or_dash(view, expires(task)),
            Self::Deadline => match task.deadline.or(runner.map(|runner| runner.until)) {
                Some(at) if at < view.now => html! { span class="late" { (time(view, at)) } },
                at => time_or_dash(view, at),
            },
            Self::Timeout => task
                .timeout_seconds
                .map_or_else(dash, |seconds| html! { (format::seconds(seconds)) }),
        }
    }
}

/// The servers, by the ids of the tasks that they run.
pub(crate) type Runners = BTreeMap<String, Runner>;

/// A server that runs a task.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    /// `host:pid`.
    pub(crate) server: String,
    pub(crate) since: DateTime<Utc>,
    /// Time by which the run must have ended.
    pub(crate) until: DateTime<Utc>,
}

/// Returns the time at which a completed task is deleted.
fn expires(task: &TaskRecord) -> Option<DateTime<Utc>> {
    let at = task.completed_at.filter(|_| task.state == "completed")?;
    #[expect(clippy::cast_possible_truncation, reason = "it saturates, and the sum is checked")]
    let kept = TimeDelta::try_milliseconds((task.retention_seconds * 1000.0) as i64)?;
    at.checked_add_signed(kept)
}

/// Returns the beginning of a payload or a result in one line.
fn data(shown: &Shown) -> Markup {
    let (text, size) = match shown {
        Shown::Whole(Data::Redacted) => return badge(Tone::Neutral, "hidden"),
        Shown::Whole(Data::Json(raw)) => (cut(raw.get(), SHORT), None),
        Shown::Whole(Data::JsonText(text) | Data::Text(text)) => (cut(text, SHORT), None),
        Shown::Whole(Data::Msgpack(value)) => (cut(&value.to_string(), SHORT), None),
        Shown::Whole(Data::Base64(text)) => (cut(text, SHORT), None),
        Shown::Beginning { text, size, .. } => (cut(text, SHORT), Some(*size)),
    };
    if text.is_empty() {
        return dash();
    }
    html! {
        span class="clip" { code { (text) } }
        @if let Some(size) = size { span class="hint" { (format::bytes(size as u64)) } }
    }
}

/// Returns a name, or its beginning with the rest in the title.
fn name(name: &str) -> Markup {
    let short = cut(name, NAME);
    let title = (short.chars().count() > 30).then(|| cut(name, LONG));
    html! { span class="clip" title=[title] { (short) } }
}

/// Returns the beginning of a text in one line.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let mut line: String = text
        .chars()
        .take(most)
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .collect();
    if text.chars().nth(most).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_one_short_line() {
        assert_eq!(cut("a\nb\tc", 9), "a b c");
        assert_eq!(cut("ééé", 2), "éé…");
        assert_eq!(cut("éé", 2), "éé");
    }
}
