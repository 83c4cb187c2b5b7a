//! The page of servers and what they run.

use asynq::info::ServerInfo;
use ratatui::{Frame, layout::Rect, widgets::Paragraph};

use super::{
    page_text::fit,
    table::{self, Column},
    tasks::short,
};
use crate::dash::{
    app::App,
    pages::{Page, ServerRow},
    text,
};

pub(crate) fn draw(
    app: &App,
    page: &Page,
    servers: &[ServerInfo],
    rows: &[ServerRow],
    frame: &mut Frame<'_>,
    area: Rect,
) {
    if rows.is_empty() {
        let text = match page.read_at {
            Some(_) => "No running servers.",
            None => "Reading.",
        };
        frame.render_widget(Paragraph::new(fit(text, area.width.into())), area);
        return;
    }
    let columns = [
        Column::text("Server, task", 0, 16),
        Column::text("Runs", 1, 8),
        Column::number("Since", 2),
        Column::number("Until", 3),
        Column::text("Queues", 4, 8),
        Column::text("Payload", 5, 8),
    ];
    // There may be many thousands.
    let height = usize::from(area.height.saturating_sub(1)).max(1);
    let selected = page.cursor.min(rows.len() - 1);
    let first = (selected + 1).saturating_sub(height);
    let shown = rows.iter().skip(first).take(height);
    let shown: Vec<Vec<String>> = shown.map(|row| cells(app, servers, row)).collect();
    table::draw(&columns, &shown, selected - first, frame, area);
}

fn cells(app: &App, servers: &[ServerInfo], row: &ServerRow) -> Vec<String> {
    match row {
        ServerRow::Server(at) => {
            let Some(server) = servers.get(*at) else {
                return Vec::new();
            };
            let queues = server
                .queues
                .iter()
                .map(|(queue, priority)| format!("{queue}={priority}"));
            let queues = queues.collect::<Vec<_>>().join(" ");
            let strict = if server.strict_priority { " strict" } else { "" };
            vec![
                format!("{}:{} {}", server.host, server.pid, server.status.as_str()),
                format!("{} of {}", server.active_worker_count, server.concurrency),
                text::relative(server.start_time, app.now),
                String::new(),
                format!("{queues}{strict}"),
                server.server_id.clone(),
            ]
        }
        ServerRow::Worker(worker, size) => {
            let is_hidden = app.place.redaction.hides(worker.queue.as_str(), &worker.task_type);
            vec![
                format!("  {}", worker.task_id),
                worker.task_type.clone(),
                text::relative(worker.start_time, app.now),
                text::relative(worker.deadline, app.now),
                worker.queue.to_string(),
                short(is_hidden, &worker.payload, *size),
            ]
        }
    }
}
