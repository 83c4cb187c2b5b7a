//! The page of tasks by their state, or of groups.

use asynq::{TaskInfo, TaskState, findings::Finding, info::QueueInfo};
use asynq_web::records::Data;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    page_text::{excerpt, fit},
    style,
    table::{self, Column},
};
use crate::{
    dash::{
        app::App,
        model::TaskKey,
        pages::{Page, Tasks, tasks_in},
        text,
    },
    output::one_line,
};

/// Payloads above this many bytes are not read for a row, only shown.
const LARGE: usize = 4096;
/// Bytes of a large payload that are shown.
const EXCERPT: usize = 256;

pub(crate) fn draw(app: &App, page: &Page, tasks: &Tasks, frame: &mut Frame<'_>, area: Rect) {
    let has_tabs = tasks.scope.state.is_some() && tasks.scope.group.is_none();
    let summary = tasks.queue.as_deref().filter(|_| area.height >= 12).map(summary);
    let warning = warning(app, tasks).filter(|_| area.height >= 14);
    let [warned, about, tabs, filter, body, paging] = Layout::vertical([
        Constraint::Length(u16::from(warning.is_some())),
        Constraint::Length(u16::from(summary.is_some())),
        Constraint::Length(u16::from(has_tabs)),
        Constraint::Length(u16::from(tasks.scope.filter.is_some())),
        Constraint::Min(0),
        Constraint::Length(u16::from(area.height > 4)),
    ])
    .areas(area);
    if let Some(warning) = warning {
        let text = Line::styled(fit(&warning, warned.width.into()), style::WARNING);
        frame.render_widget(Paragraph::new(text), warned);
    }
    if let Some(summary) = summary {
        frame.render_widget(Paragraph::new(fit(&summary, about.width.into())), about);
    }
    if let (true, Some(state)) = (has_tabs, tasks.scope.state) {
        frame.render_widget(Paragraph::new(state_tabs(tasks, state, tabs.width.into())), tabs);
    }
    if let Some(query) = &tasks.scope.filter {
        let text = format!("filter: {}", one_line(query));
        frame.render_widget(Paragraph::new(fit(&text, filter.width.into())), filter);
    }
    let is_empty = tasks.rows.is_empty() && tasks.groups.is_empty();
    if is_empty {
        let text = match (page.read_at, &tasks.scope.filter, &tasks.next) {
            (None, ..) => "Reading.",
            (Some(_), Some(_), Some(_)) => "No such task so far. n looks further.",
            (Some(_), Some(_), None) => "No such task.",
            (Some(_), None, _) => "No tasks here.",
        };
        frame.render_widget(Paragraph::new(fit(text, body.width.into())), body);
    } else if tasks.scope.lists_groups() {
        let columns = [
            Column::text("Group", 0, 8),
            Column::number("Size", 1),
            Column::number("Being aggregated", 2),
        ];
        let row = |group: &asynq::info::GroupInfo| {
            vec![
                group.group.to_string(),
                group.size.to_string(),
                group.in_sets.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = tasks.groups.iter().map(row).collect();
        table::draw(&columns, &rows, page.cursor, frame, body);
    } else {
        let columns = columns(tasks.scope.state);
        let rows: Vec<Vec<String>> = tasks
            .rows
            .iter()
            .zip(&tasks.sizes)
            .map(|(task, sizes)| row(app, tasks, task, *sizes))
            .collect();
        table::draw(&columns, &rows, page.cursor, frame, body);
    }
    let paging_text = match page.read_at {
        Some(_) => showing(app, tasks),
        None => String::new(),
    };
    frame.render_widget(Paragraph::new(fit(&paging_text, paging.width.into())), paging);
}

/// Returns the most serious finding about the queue.
fn warning(app: &App, tasks: &Tasks) -> Option<String> {
    let queue = tasks.scope.queue.as_deref()?;
    let is_about = |finding: &&Finding| finding.queue.as_ref().is_some_and(|name| name.as_str() == queue);
    let finding = app.findings.as_ref()?.iter().find(is_about)?;
    Some(format!("! {}: {}", finding.severity, one_line(&finding.to_string())))
}

/// Returns the numbers of the queue.
fn summary(queue: &QueueInfo) -> String {
    let memory = queue
        .memory_usage
        .map(|bytes| format!("  memory {}", text::bytes(bytes)));
    format!(
        "{}  size {}  latency {}  processed {}  failed {}{}",
        if queue.paused { "PAUSED" } else { "RUN" },
        queue.size(),
        text::duration(queue.latency),
        queue.processed,
        queue.failed,
        memory.unwrap_or_default(),
    )
}

/// Returns the states with their numbers; the one that is shown stands in brackets, and is never left out.
fn state_tabs(tasks: &Tasks, current: TaskState, width: usize) -> Line<'static> {
    let mut shown: Vec<(bool, String)> = TaskState::ALL
        .into_iter()
        .map(|state| {
            let number = tasks.queue.as_ref().map(|queue| format!(":{}", tasks_in(queue, state)));
            let text = format!("{state}{}", number.unwrap_or_default());
            match state == current {
                true => (true, format!("[{text}]")),
                false => (false, text),
            }
        })
        .collect();
    let needed = |shown: &[(bool, String)]| shown.iter().map(|(_, text)| text.len() + 1).sum::<usize>();
    while needed(&shown) > width + 1 && shown.len() > 1 {
        // The states farther from the current one go first.
        let at = shown.iter().position(|(is_current, _)| *is_current).unwrap_or(0);
        match at * 2 >= shown.len() {
            true => drop(shown.remove(0)),
            false => drop(shown.pop()),
        }
    }
    let mut spans = Vec::new();
    for (is_current, text) in shown {
        let style = if is_current { style::TITLE } else { style::DIM };
        spans.extend([Span::styled(fit(&text, width), style), Span::raw(" ")]);
    }
    Line::from(spans)
}

fn columns(state: Option<TaskState>) -> Vec<Column> {
    let mut columns = vec![Column::text(" ID", 0, 12)];
    if state.is_none() {
        columns.extend([Column::text("Queue", 1, 6), Column::text("State", 2, 8)]);
    }
    columns.push(Column::text("Type", 1, 8));
    match state {
        Some(TaskState::Active) => columns.push(Column::text("Note", 3, 8)),
        Some(TaskState::Scheduled) => columns.push(Column::number("Next run", 2)),
        Some(TaskState::Retry) => columns.extend([
            Column::number("Next run", 2),
            Column::number("Retried", 4),
            Column::text("Last error", 3, 10),
        ]),
        Some(TaskState::Archived) => columns.extend([
            Column::number("Failed", 2),
            Column::number("Retried", 4),
            Column::text("Last error", 3, 10),
        ]),
        Some(TaskState::Completed) => {
            columns.extend([Column::number("Completed", 2), Column::text("Result", 4, 8)]);
        }
        Some(TaskState::Aggregating) => columns.extend([Column::text("Group", 2, 6), Column::number("Since", 3)]),
        Some(_) => columns.push(Column::number("Since", 3)),
        None => columns.push(Column::text("Last error", 3, 10)),
    }
    columns.push(Column::text("Payload", 5, 8));
    columns
}

fn row(app: &App, tasks: &Tasks, task: &TaskInfo, (payload_size, result_size): (usize, usize)) -> Vec<String> {
    let mark = if tasks.marks.contains_key(&TaskKey::of(task)) {
        '*'
    } else {
        ' '
    };
    let relative = |at: Option<_>| at.map_or("-".to_owned(), |at| text::relative(at, app.now));
    let retried = || format!("{}/{}", task.retried, task.max_retry);
    let is_hidden = app.place.redaction.hides(task.queue.as_str(), &task.task_type);
    let mut cells = vec![format!("{mark}{}", task.id)];
    if tasks.scope.state.is_none() {
        cells.extend([task.queue.to_string(), task.state.to_string()]);
    }
    cells.push(task.task_type.clone());
    match tasks.scope.state {
        Some(TaskState::Active) => cells.push(note(task)),
        Some(TaskState::Scheduled) => cells.push(relative(task.next_process_at)),
        Some(TaskState::Retry) => cells.extend([relative(task.next_process_at), retried(), task.last_error.clone()]),
        Some(TaskState::Archived) => cells.extend([relative(task.last_failed_at), retried(), task.last_error.clone()]),
        Some(TaskState::Completed) => {
            let result = task.result.as_ref();
            let result = result.map(|result| short(is_hidden, result, result_size));
            cells.extend([relative(task.completed_at), result.unwrap_or_default()]);
        }
        Some(TaskState::Aggregating) => {
            let group = task.group.as_ref().map(ToString::to_string).unwrap_or_default();
            cells.extend([group, relative(task.state_since)]);
        }
        Some(_) => cells.push(relative(task.state_since)),
        None => cells.push(task.last_error.clone()),
    }
    cells.push(match &task.damage {
        Some(damage) => format!("! cannot be read: {damage}"),
        None => short(is_hidden, &task.payload, payload_size),
    });
    cells
}

/// Says what is special about an active task: its progress, or that its server is gone.
fn note(task: &TaskInfo) -> String {
    if task.is_orphaned {
        return "orphaned".to_owned();
    }
    task.progress
        .as_ref()
        .map(|progress| format!("{}% {}", progress.percent, progress.note))
        .unwrap_or_default()
}

/// Returns a payload or a result of `size` bytes in one line, by the part of it that is kept.
pub(crate) fn short(is_hidden: bool, bytes: &[u8], size: usize) -> String {
    if size > LARGE && !is_hidden {
        let (beginning, is_text) = match str::from_utf8(bytes) {
            Ok(text) => (text, true),
            // The part may end inside a character.
            Err(error) => {
                let whole = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
                (whole, bytes.len() < size && error.error_len().is_none())
            }
        };
        return match is_text {
            true => excerpt(beginning, EXCERPT).to_owned(),
            false => format!("({} of bytes)", text::bytes(size as u64)),
        };
    }
    match Data::of(bytes, is_hidden) {
        Data::Json(raw) => raw.get().to_owned(),
        Data::Msgpack(value) => value.to_string(),
        Data::Text(text) | Data::JsonText(text) => text,
        Data::Base64(_) => format!("({} of bytes)", text::bytes(bytes.len() as u64)),
        Data::Redacted => "(redacted)".to_owned(),
    }
}

fn showing(app: &App, tasks: &Tasks) -> String {
    let mut text = String::new();
    if !tasks.marks.is_empty() {
        text += &format!("{} marked  ", tasks.marks.len());
    }
    let size = app.list_size();
    let (from, count) = (tasks.page * size, tasks.rows.len());
    if tasks.scope.lists_groups() {
        return format!("{text}{}", text::count(tasks.groups.len() as u64, "group"));
    }
    if tasks.scope.filter.is_some() {
        text += &format!(
            "page {}: {}, looked at {}",
            tasks.page + 1,
            text::count(count as u64, "task"),
            tasks.looked_at
        );
        if tasks.undecided > 0 {
            text += &format!(", {} undecided", tasks.undecided);
        }
    } else if count > 0 {
        text += &format!("showing {}-{}", from + 1, from + count);
        if let Some(total) = tasks.total() {
            text += &format!(" of {total}");
        }
    }
    if tasks.has_next(size) {
        text += "  n next page";
    }
    if tasks.page > 0 {
        text += "  p previous page";
    }
    text
}
