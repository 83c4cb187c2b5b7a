//! The page of the entries of schedulers.

use asynq::{cron::CronSpec, info::SchedulerEntry};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
    widgets::Paragraph,
};

use super::{
    page_text::{fit, wrap},
    style,
    table::{self, Column},
    tasks::short,
};
use crate::{
    dash::{app::App, model::Time, pages::Page, text},
    output::one_line,
};

/// Number of next times.
const NEXT: usize = 3;

pub(crate) fn draw(app: &App, page: &Page, entries: &[SchedulerEntry], frame: &mut Frame<'_>, area: Rect) {
    if entries.is_empty() {
        let text = match page.read_at {
            Some(_) => "No entries. A scheduler publishes them while it runs.",
            None => "Reading.",
        };
        frame.render_widget(Paragraph::new(fit(text, area.width.into())), area);
        return;
    }
    let detail = match (entries.get(page.cursor), area.height >= 12) {
        (Some(entry), true) => detail(app, entry, area.width.into()),
        _ => Vec::new(),
    };
    let [body, below] = Layout::vertical([Constraint::Min(0), Constraint::Length(detail.len() as u16)]).areas(area);
    frame.render_widget(Paragraph::new(detail), below);
    let columns = [
        Column::text("Spec", 0, 10),
        Column::text("Type", 1, 8),
        Column::number("Next", 2),
        Column::number("Last", 3),
        Column::text("Options", 5, 8),
        Column::text("Entry", 4, 8),
    ];
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.spec.clone(),
                entry.task_type.clone(),
                entry.next.map_or("never".to_owned(), |at| text::relative(at, app.now)),
                entry.prev.map_or("-".to_owned(), |at| text::relative(at, app.now)),
                entry.options.join(" "),
                entry.id.clone(),
            ]
        })
        .collect();
    table::draw(&columns, &rows, page.cursor, frame, body);
}

/// Returns more about the entry under the cursor: its next times and its payload.
fn detail(app: &App, entry: &SchedulerEntry, width: usize) -> Vec<Line<'static>> {
    let is_hidden = app.place.redaction.hides(&entry.queue(), &entry.task_type);
    let payload = short(is_hidden, &entry.payload, entry.payload.len());
    let mut lines = vec![
        Line::raw(""),
        Line::styled(fit(&format!("entry {}", one_line(&entry.id)), width), style::TITLE),
    ];
    let times: Vec<String> = match next_times(&entry.spec, entry.next, app.now) {
        Ok(times) if times.is_empty() => vec!["never".to_owned()],
        Ok(times) => times
            .into_iter()
            .map(|at| format!("{} ({})", text::stamp(at), text::relative(at, app.now)))
            .collect(),
        Err(fault) => vec![fault],
    };
    let texts = [
        format!("next:    {}", times.join(", ")),
        format!("payload: {}", one_line(&payload)),
    ];
    for text in texts {
        lines.extend(wrap(&text, width).into_iter().take(2).map(Line::raw));
    }
    lines
}

/// Returns the next times of a spec. The first one is that which the scheduler tells, if it does: for `@every` it depends on
/// the start.
fn next_times(spec: &str, next: Option<Time>, now: Time) -> Result<Vec<Time>, String> {
    let cron = CronSpec::parse(spec).map_err(|error| format!("the spec cannot be read: {error}"))?;
    let after = |at: &Time| match cron.timezone() {
        Some(zone) => cron.next_after(&at.with_timezone(&zone)).map(|at| at.to_utc()),
        None => cron.next_after(at),
    };
    let first = next.filter(|next| *next >= now).or_else(|| after(&now));
    Ok(std::iter::successors(first, after).take(NEXT).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_times_follow_that_of_the_scheduler() {
        let at = |seconds: i64| Time::from_timestamp(1_700_000_000 + seconds, 0).unwrap();
        assert_eq!(
            next_times("@every 1h", Some(at(60)), at(0)),
            Ok(vec![at(60), at(3660), at(7260)])
        );
        // Its scheduler has gone, and what it told is past.
        assert_eq!(
            next_times("@every 1h", Some(at(-60)), at(0)),
            Ok(vec![at(3600), at(7200), at(10800)])
        );
        assert_eq!(next_times("0 0 30 2 *", None, at(0)), Ok(vec![]));
        assert!(next_times("often", None, at(0)).is_err());
    }
}
