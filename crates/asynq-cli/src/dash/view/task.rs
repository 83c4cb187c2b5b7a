//! The page of one task.

use asynq::TaskInfo;
use asynq_web::records::{Data, RunRecord};
use ratatui::{Frame, layout::Rect, text::Line};

use super::{
    page_text::{excerpt, scrolled, wrap},
    style,
};
use crate::{
    dash::{
        app::App,
        model::Time,
        pages::{Page, TaskPage},
        text,
    },
    output::one_line,
};

/// Most bytes of a payload or a result that are shown.
const LARGEST: usize = 64 << 10;

pub(crate) fn draw(app: &App, page: &Page, task: &TaskPage, frame: &mut Frame<'_>, area: Rect) {
    let width = usize::from(area.width);
    let Some(info) = &task.task else {
        let text = match &page.fault {
            Some(_) => "This task cannot be shown. It may be gone.",
            None => "Reading.",
        };
        return scrolled(app, page.cursor, &[&[Line::raw(text)]], frame, area);
    };
    // Large data take long to lay out, and stay the same from one drawing to the next.
    let hidden = app.place.redaction.hides(info.queue.as_str(), &info.task_type);
    let kind = (width, task.raw, hidden);
    let mut laid_out = task.laid_out.borrow_mut();
    if laid_out.as_ref().is_none_or(|(former, _)| *former != kind) {
        *laid_out = Some((kind, data_lines(task, info, hidden, width)));
    }
    let data = laid_out.as_ref().map(|(_, lines)| lines.as_slice()).unwrap_or_default();
    let (fields, runs) = (fields(app, info, width), runs(info, width));
    scrolled(app, page.cursor, &[&fields, data, &runs], frame, area);
}

struct Text {
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Text {
    fn new(width: usize) -> Self {
        Self {
            width,
            lines: Vec::new(),
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        for (at, part) in wrap(excerpt(value, LARGEST), self.width.saturating_sub(14))
            .into_iter()
            .enumerate()
        {
            let name = if at == 0 { format!("{name}:") } else { String::new() };
            self.lines.push(Line::raw(format!("{name:<14}{part}")));
        }
    }

    fn heading(&mut self, text: String) {
        self.lines.push(Line::raw(""));
        self.lines.push(Line::styled(text, style::TITLE));
    }

    fn text(&mut self, text: &str) {
        self.lines.extend(wrap(text, self.width).into_iter().map(Line::raw));
    }
}

fn fields(app: &App, task: &TaskInfo, width: usize) -> Vec<Line<'static>> {
    let mut out = Text::new(width);
    let at = |time: Time| format!("{} ({})", text::stamp(time), text::relative(time, app.now));
    out.field("ID", task.id.as_str());
    out.field("Type", &one_line(&task.task_type));
    out.field("Queue", task.queue.as_str());
    let orphaned = if task.is_orphaned {
        ", orphaned: its server is gone"
    } else {
        ""
    };
    out.field("State", &format!("{}{orphaned}", task.state));
    if let Some(damage) = &task.damage {
        out.field("Damage", &format!("! cannot be read: {damage}"));
    }
    out.field("Retried", &format!("{} of {}", task.retried, task.max_retry));
    let times = [
        ("Since", task.state_since),
        ("Next run", task.next_process_at),
        ("Deadline", task.deadline),
        ("Last failed", task.last_failed_at),
        ("Completed", task.completed_at),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            out.field(name, &at(time));
        }
    }
    if let Some(timeout) = task.timeout {
        out.field("Timeout", &text::duration(timeout));
    }
    if !task.retention.is_zero() {
        out.field("Retention", &text::duration(task.retention));
    }
    if let Some(group) = &task.group {
        out.field("Group", group.as_str());
    }
    if let Some(progress) = &task.progress {
        out.field("Progress", &format!("{}% {}", progress.percent, progress.note));
    }
    if !task.last_error.is_empty() {
        out.field("Last error", &task.last_error);
    }
    for (name, value) in &task.headers {
        out.field("Header", &format!("{}: {}", one_line(name), one_line(value)));
    }
    out.lines
}

fn data_lines(page: &TaskPage, task: &TaskInfo, hidden: bool, width: usize) -> Vec<Line<'static>> {
    let mut out = Text::new(width);
    let (payload_size, result_size) = page.sizes;
    data(&mut out, "Payload", (&task.payload, payload_size), hidden, page.raw);
    if let Some(result) = &task.result {
        data(&mut out, "Result", (result, result_size), hidden, page.raw);
    }
    out.lines
}

fn runs(task: &TaskInfo, width: usize) -> Vec<Line<'static>> {
    let mut out = Text::new(width);
    if let Some(runs) = &task.runs {
        out.heading(format!("Runs ({})", runs.recorded.len()));
        if runs.missing() > 0 {
            out.text(&format!(
                "{} without a record",
                text::count(runs.missing().into(), "run")
            ));
        }
        // The last run matters most.
        for run in runs.recorded.iter().rev() {
            out.text(&run_line(&RunRecord::of(run)));
        }
    }
    out.lines
}

fn run_line(run: &RunRecord) -> String {
    let started = run.started.map_or("at an unknown time".to_owned(), text::stamp);
    let mut line = format!("{started}  {}", run.outcome);
    match (run.started, run.ended) {
        (Some(started), Some(ended)) => {
            line += &format!(
                " after {}",
                text::duration((ended - started).to_std().unwrap_or_default())
            );
        }
        _ if run.is_lost => line += ", lost with its server",
        _ => {}
    }
    if let Some(server) = &run.server {
        line += &format!("  on {}", one_line(server));
    }
    if !run.error.is_empty() {
        line += &format!("  {}", one_line(&run.error));
    }
    line
}

/// Lays out the part that is kept of a payload or a result of `size` bytes.
fn data(out: &mut Text, name: &str, (kept, size): (&[u8], usize), hidden: bool, raw: bool) {
    if hidden {
        out.heading(format!("{name} (redacted)"));
        return;
    }
    let is_cut = kept.len() < size;
    // A part of it is not what the whole is.
    let (kind, body, shown) = match (raw || is_cut, Data::of(kept, false)) {
        (true, _) => {
            let (text, shown) = plain(kept, is_cut);
            ("raw", text, shown)
        }
        (false, data) => {
            let kind = match &data {
                Data::Json(_) | Data::JsonText(_) => "JSON",
                Data::Msgpack(_) => "MessagePack",
                Data::Text(_) => "text",
                Data::Base64(_) | Data::Redacted => "bytes",
            };
            (kind, data.pretty().unwrap_or_else(|| plain(kept, false).0), size)
        }
    };
    out.heading(format!("{name} ({kind}, {})", text::bytes(size as u64)));
    out.text(&body);
    if shown < size {
        out.text(&format!("and {} more bytes", size - shown));
    }
}

/// Returns bytes as text, and the number of those it is about. A text may have been cut inside its last character.
fn plain(bytes: &[u8], is_cut: bool) -> (String, usize) {
    match str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), bytes.len()),
        Err(error) if is_cut && error.error_len().is_none() => {
            let whole = &bytes[..error.valid_up_to()];
            (String::from_utf8_lossy(whole).into_owned(), whole.len())
        }
        Err(_) => (bytes.escape_ascii().to_string(), bytes.len()),
    }
}
