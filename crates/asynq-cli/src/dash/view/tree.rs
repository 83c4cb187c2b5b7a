//! The page of the supervision trees.

use asynq::ActorState;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
    widgets::Paragraph,
};

use super::{
    page_text::{fit, wrap},
    table::{self, Column},
};
use crate::dash::{
    app::App,
    pages::{Page, TreeRow},
    text,
};

pub(crate) fn draw(app: &App, page: &Page, rows: &[TreeRow], frame: &mut Frame<'_>, area: Rect) {
    if rows.is_empty() {
        let text = match page.read_at {
            Some(_) => "No trees. Servers of Go, and servers that have just started, publish none.",
            None => "Reading.",
        };
        frame.render_widget(Paragraph::new(fit(text, area.width.into())), area);
        return;
    }
    // The whole failure of the actor under the cursor.
    let failure = rows.get(page.cursor).and_then(|row| row.last_failure.as_deref());
    let failure: Vec<Line<'static>> = match (failure, area.height >= 10) {
        (Some(failure), true) => {
            let lines = wrap(&format!("last failure: {failure}"), area.width.into());
            lines.into_iter().take(3).map(Line::raw).collect()
        }
        _ => Vec::new(),
    };
    let [body, below] = Layout::vertical([Constraint::Min(0), Constraint::Length(failure.len() as u16)]).areas(area);
    frame.render_widget(Paragraph::new(failure), below);
    let columns = [
        Column::text("Actor", 0, 16),
        Column::text("State", 1, 8),
        Column::number("Restarts", 2),
        Column::number("Since", 4),
        Column::number("Backlog", 5),
        Column::text("Note", 6, 8),
        Column::text("Last failure", 3, 12),
    ];
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                format!("{}{}", "  ".repeat(row.depth), row.name),
                state(row.state).to_owned(),
                row.restarts.to_string(),
                text::relative(row.since, app.now),
                row.backlog.map_or("-".to_owned(), |backlog| backlog.to_string()),
                row.note.clone().unwrap_or_default(),
                row.last_failure.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table::draw(&columns, &rows, page.cursor, frame, body);
}

fn state(state: ActorState) -> &'static str {
    match state {
        ActorState::Running => "running",
        ActorState::Restarting => "RESTARTING",
        ActorState::Stopped => "stopped",
        ActorState::Failed => "FAILED",
        _ => "other",
    }
}
