//! `asynq task list` and `inspect`.

use std::{fmt::Write as _, num::NonZeroU32, str::FromStr as _};

use asynq::{
    TaskInfo, TaskState,
    inspect::ListFilter,
    names::{GroupKey, QueueName},
};
use asynq_web::records::{Data, Redaction, TaskRecord, outcome};
use chrono::Utc;
use clap::Args;

use super::OneTask;
use crate::{
    cli::Global,
    error::{CliError, Result},
    go,
    output::{BOLD, lines, one_line},
    redact,
    session::Session,
};

/// Largest number of tasks on a page.
const LARGEST_PAGE: i64 = 10_000;

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Queue of the tasks.
    #[arg(short, long, allow_hyphen_values = true, add = super::super::complete::queues())]
    queue: String,
    /// State of the tasks: active, pending, aggregating, scheduled, retry, archived or completed.
    #[arg(short, long)]
    state: String,
    /// Group of aggregating tasks.
    #[arg(short, long, allow_hyphen_values = true)]
    group: Option<String>,
    /// Number of the page, from 1.
    #[arg(long, default_value = "1")]
    page: NonZeroU32,
    /// Number of tasks on a page, 1 to 10000.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=LARGEST_PAGE))]
    size: u32,
    /// List all tasks instead of a page, as they are read.
    #[arg(long, conflicts_with_all = ["page", "size"])]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    task: OneTask,
}

impl List {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let state = TaskState::from_str(&self.state)
            .map_err(|_| CliError::usage(format!("state={:?} is not supported", self.state)))?;
        let group = match (state, &self.group) {
            (TaskState::Aggregating, None) => {
                return Err(CliError::usage(
                    "flag --group is required for listing aggregating tasks",
                ));
            }
            (TaskState::Aggregating, Some(group)) => Some(group.as_str()),
            _ => None,
        };
        let session = global.connect().await?;
        let redaction = session.redaction();
        let mut listing = session.out.listing(columns(state));
        if self.all {
            let filter = match group {
                Some(group) => ListFilter::Group(GroupKey::new(group).map_err(asynq::Error::from)?),
                None => ListFilter::State(state),
            };
            let queue = QueueName::new(&self.queue).map_err(asynq::Error::from)?;
            let mut tasks = std::pin::pin!(session.inspector.scan_tasks(queue.as_str(), &filter)?);
            while let Some(task) = futures::TryStreamExt::try_next(&mut tasks).await? {
                listing.push(row(&task, state, &redaction), &TaskRecord::of(&task, &redaction))?;
            }
        } else {
            for task in self.page_of(&session, state, group).await? {
                listing.push(row(&task, state, &redaction), &TaskRecord::of(&task, &redaction))?;
            }
        }
        let none = || match group {
            Some(group) => format!("No aggregating tasks in group {group:?} "),
            None => format!("No {state} tasks in {:?} queue", self.queue),
        };
        listing.end(none).map(drop)
    }

    async fn page_of(&self, session: &Session, state: TaskState, group: Option<&str>) -> Result<Vec<TaskInfo>> {
        let (inspector, page) = (&session.inspector, self.page.get());
        Ok(match group {
            Some(group) => inspector.list_group(&self.queue, group, page, self.size).await?,
            None => inspector.list_tasks(&self.queue, state, page, self.size).await?,
        })
    }
}

/// The columns of Go's program.
fn columns(state: TaskState) -> &'static [&'static str] {
    match state {
        TaskState::Scheduled => &["ID", "Type", "Payload", "Process In"],
        TaskState::Retry => &[
            "ID",
            "Type",
            "Payload",
            "Next Retry",
            "Last Error",
            "Last Failed",
            "Retried",
            "Max Retry",
        ],
        TaskState::Archived => &["ID", "Type", "Payload", "Last Failed", "Last Error"],
        TaskState::Completed => &["ID", "Type", "Payload", "CompletedAt", "Result"],
        TaskState::Aggregating => &["ID", "Type", "Payload", "Group"],
        _ => &["ID", "Type", "Payload"],
    }
}

fn row(task: &TaskInfo, state: TaskState, redaction: &Redaction) -> Vec<String> {
    let is_hidden = redaction.hides(task.queue.as_str(), &task.task_type);
    let text = |bytes: &[u8]| redact::text(is_hidden, bytes);
    let payload = match &task.damage {
        Some(damage) => format!("(damaged: {damage})"),
        None => text(&task.payload),
    };
    let mut cells = vec![task.id.to_string(), task.task_type.clone(), payload];
    match state {
        TaskState::Scheduled => cells.push(process_in(task)),
        TaskState::Retry => cells.extend([
            process_in(task),
            task.last_error.clone(),
            go::date_or_empty(task.last_failed_at),
            task.retried.to_string(),
            task.max_retry.to_string(),
        ]),
        TaskState::Archived => cells.extend([go::date_or_empty(task.last_failed_at), task.last_error.clone()]),
        TaskState::Completed => cells.extend([
            go::date_or_empty(task.completed_at),
            text(task.result.as_deref().unwrap_or_default()),
        ]),
        TaskState::Aggregating => cells.push(task.group.as_ref().map(ToString::to_string).unwrap_or_default()),
        _ => {}
    }
    cells
}

fn process_in(task: &TaskInfo) -> String {
    let now = Utc::now();
    match task.next_process_at {
        Some(at) if at >= now => format!("in {}", go::between(now, at)),
        _ => "right now".to_owned(),
    }
}

impl Inspect {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        let task = session.inspector.get_task_info(&self.task.queue, &self.task.id).await?;
        let redaction = session.redaction();
        session
            .out
            .record(&TaskRecord::of(&task, &redaction), || text_of(&task, &redaction))
    }
}

/// The text of Go's program, and after it what Go's does not show.
fn text_of(task: &TaskInfo, redaction: &Redaction) -> String {
    let now = Utc::now();
    let next = match task.next_process_at {
        None => "n/a".to_owned(),
        Some(at) if at < now => "now".to_owned(),
        Some(at) => format!("{} (in {})", go::date(at), go::between(now, at)),
    };
    let mut text = format!(
        "{BOLD}Task Info{BOLD:#}\nQueue:   {}\nID:      {}\nType:    {}\nState:   {}\nRetried: {}/{}\n\nNext process time: {next}\n",
        one_line(task.queue.as_str()),
        one_line(task.id.as_str()),
        one_line(&task.task_type),
        task.state,
        task.retried,
        task.max_retry,
    );
    if !task.last_error.is_empty() {
        let failed = go::date_or_empty(task.last_failed_at);
        let error = lines(&task.last_error);
        text += &format!("\n{BOLD}Last Failure{BOLD:#}\nFailed at:     {failed}\nError message: {error}\n");
    }
    // Writing to a String cannot fail.
    let _ = more(&mut text, task, redaction);
    text
}

/// Adds the part that Go's program does not show.
fn more(text: &mut String, task: &TaskInfo, redaction: &Redaction) -> std::fmt::Result {
    writeln!(text, "\n{BOLD}Details{BOLD:#}")?;
    if let Some(damage) = &task.damage {
        writeln!(text, "Damaged:    {}", one_line(&damage.to_string()))?;
    }
    if let Some(since) = task.state_since {
        writeln!(
            text,
            "State since: {} ({} ago)",
            go::date(since),
            go::between(since, Utc::now())
        )?;
    }
    if task.is_orphaned {
        writeln!(
            text,
            "Orphaned:    its server died or lost its lease; a recoverer retries or archives it"
        )?;
    }
    if let Some(group) = &task.group {
        writeln!(text, "Group:       {}", one_line(group.as_str()))?;
    }
    if let Some(timeout) = task.timeout {
        writeln!(text, "Timeout:     {}", asynq::go::write_duration(timeout))?;
    }
    if let Some(deadline) = task.deadline {
        writeln!(text, "Deadline:    {}", go::date(deadline))?;
    }
    writeln!(text, "Retention:   {}", asynq::go::write_duration(task.retention))?;
    if let Some(at) = task.completed_at {
        writeln!(text, "Completed:   {}", go::date(at))?;
    }
    if let Some(progress) = &task.progress {
        let note = one_line(&progress.note);
        writeln!(
            text,
            "Progress:    {}% {note} ({})",
            progress.percent,
            go::date(progress.at)
        )?;
    }
    for (name, value) in &task.headers {
        writeln!(text, "Header:      {}: {}", one_line(name), one_line(value))?;
    }
    let hidden = redaction.hides(task.queue.as_str(), &task.task_type);
    data(text, "Payload", &task.payload, hidden)?;
    if let Some(result) = &task.result {
        data(text, "Result", result, hidden)?;
    }
    let Some(runs) = task.runs.as_ref().filter(|runs| !runs.recorded.is_empty()) else {
        return Ok(());
    };
    writeln!(text, "\n{BOLD}Runs{BOLD:#}")?;
    for run in &runs.recorded {
        if run.missing_before > 0 {
            writeln!(text, "({} without a record)", run.missing_before)?;
        }
        let started = run.started.map_or_else(|| "unknown time".to_owned(), go::date);
        let lasted = match (run.started, run.ended) {
            (Some(started), Some(ended)) => {
                let span = (ended - started).to_std().unwrap_or_default();
                format!("after {}", asynq::go::write_duration(span))
            }
            _ => "lost".to_owned(),
        };
        let server = run.server.as_ref();
        let server = server.map_or_else(String::new, |server| {
            format!(" on {}:{}", one_line(&server.host), server.pid)
        });
        writeln!(
            text,
            "{started}  {} {lasted}{server}  {}",
            outcome(run.outcome),
            one_line(&run.error)
        )?;
    }
    if runs.missing_after > 0 {
        writeln!(text, "({} without a record)", runs.missing_after)?;
    }
    Ok(())
}

fn data(text: &mut String, title: &str, bytes: &[u8], hidden: bool) -> std::fmt::Result {
    let data = Data::of(bytes, hidden);
    let kind = match &data {
        Data::Json(_) | Data::JsonText(_) => "JSON",
        Data::Msgpack(_) => "MessagePack",
        Data::Text(_) => "text",
        Data::Base64(_) => "Base64",
        Data::Redacted => return writeln!(text, "\n{BOLD}{title}{BOLD:#} (redacted)"),
    };
    let bytes = match bytes.len() {
        1 => "1 byte".to_owned(),
        count => format!("{count} bytes"),
    };
    writeln!(text, "\n{BOLD}{title}{BOLD:#} ({kind}, {bytes})")?;
    match (&data, data.pretty()) {
        (_, Some(shown)) if shown.is_empty() => Ok(()),
        (_, Some(shown)) => writeln!(text, "{}", lines(&shown)),
        (Data::Base64(encoded), None) => writeln!(text, "{encoded}"),
        (_, None) => Ok(()),
    }
}
