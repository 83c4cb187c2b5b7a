//! The page of all queues, with what needs attention above.

use asynq::info::QueueInfo;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
    widgets::Paragraph,
};

use super::{
    page_text::fit,
    style,
    table::{self, Column},
};
use crate::{
    dash::{
        app::App,
        pages::{Page, Queues, SortBy, tasks_in},
        text,
    },
    output::one_line,
};

/// Width of the throughput of the last reads.
const BARS: usize = 30;
/// Most warnings above the queues.
const WARNINGS: usize = 3;

pub(crate) fn draw(app: &App, page: &Page, queues: &Queues, frame: &mut Frame<'_>, area: Rect) {
    // On a small screen the queues matter more.
    let most = match area.height {
        0..6 => 0,
        6..14 => 1,
        _ => WARNINGS,
    };
    let warnings = warnings(app, queues, most, area.width.into());
    let [above, body] = Layout::vertical([Constraint::Length(warnings.len() as u16), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(warnings), above);
    if queues.rows.is_empty() {
        let text = match page.read_at {
            Some(_) => "No queues. A queue begins with its first task.",
            None => "Reading the queues.",
        };
        frame.render_widget(Paragraph::new(fit(text, body.width.into())), body);
        return;
    }
    let sorted = |by: SortBy, title: &str| match queues.sort.by == by {
        true => format!("{title} {}", if queues.sort.is_upward() { '^' } else { 'v' }),
        false => title.to_owned(),
    };
    let number = |by: SortBy, rank| Column::number(sorted(by, by.title()), rank);
    let mut columns = vec![
        Column::text(sorted(SortBy::Queue, "Queue"), 0, 8),
        Column::text(sorted(SortBy::State, "State"), 1, 6),
        number(SortBy::Size, 2),
        number(SortBy::Latency, 3),
        number(SortBy::Processed, 5),
        number(SortBy::Failed, 4),
        number(SortBy::Errors, 7),
        number(SortBy::Rate, 6),
        number(SortBy::Memory, 16),
    ];
    let states = &SortBy::ALL[columns.len()..];
    let ranks = [9, 10, 15, 12, 11, 13, 14];
    columns.extend(states.iter().zip(ranks).map(|(state, rank)| number(*state, rank)));
    columns.push(Column::history("Throughput", 8, 10));
    let rows: Vec<Vec<String>> = queues.rows.iter().map(|queue| row(queues, queue)).collect();
    table::draw(&columns, &rows, page.cursor, frame, body);
}

fn row(queues: &Queues, queue: &QueueInfo) -> Vec<String> {
    let rates = queues.rates.get(queue.queue.as_str());
    let mut cells = vec![
        queue.queue.to_string(),
        if queue.paused { "PAUSED" } else { "RUN" }.to_owned(),
        queue.size().to_string(),
        text::duration(queue.latency),
        queue.processed.to_string(),
        queue.failed.to_string(),
        text::share(queue.failed, queue.processed),
        rates
            .and_then(|rates| rates.last())
            .map_or("-".to_owned(), |rate| format!("{rate:.1}")),
        queue.memory_usage.map_or("-".to_owned(), text::bytes),
    ];
    for by in SortBy::ALL {
        if let SortBy::Tasks(state) = by {
            cells.push(tasks_in(queue, state).to_string());
        }
    }
    cells.push(rates.map(|rates| text::bars(&rates.all(), BARS)).unwrap_or_default());
    cells
}

fn warnings(app: &App, queues: &Queues, most: usize, width: usize) -> Vec<Line<'static>> {
    let unread = queues
        .unread
        .iter()
        .map(|(queue, why)| one_line(&format!("! queue {queue:?} cannot be read: {why}")));
    let findings = app.findings.iter().flat_map(|findings| findings.iter());
    let findings = findings.map(|finding| format!("! {}: {}", finding.severity, one_line(&finding.to_string())));
    let left_out = match queues.left_out {
        0 => None,
        number => Some(format!(
            "! {} left out: there are too many",
            text::count(number as u64, "queue")
        )),
    };
    let all: Vec<String> = left_out.into_iter().chain(unread).chain(findings).collect();
    let shown = match all.len() > most {
        true => most.saturating_sub(1),
        false => all.len(),
    };
    let left = all.len() - shown;
    let mut lines: Vec<Line<'static>> = all
        .into_iter()
        .take(shown)
        .map(|text| Line::styled(fit(&text, width), style::WARNING))
        .collect();
    if left > 0 && most > 0 {
        let text = match shown {
            0 => format!("! {}, see :findings", text::count(left as u64, "finding")),
            _ => format!("! {left} more, see :findings"),
        };
        lines.push(Line::styled(fit(&text, width), style::WARNING));
    }
    lines
}
