//! The drawing of the state. It needs no colours: what they say, words and marks say too.

mod findings;
mod overlay;
mod page_text;
mod queues;
mod redis;
mod schedulers;
mod servers;
mod style;
mod table;
mod task;
mod tasks;
mod tree;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    app::App,
    pages::{Content, Page},
    text,
};
use crate::output::one_line;
use page_text::fit;

/// Draws everything.
pub(crate) fn draw(app: &App, frame: &mut Frame<'_>) {
    let area = frame.area();
    let trouble = trouble(app);
    let notice = notice(app);
    let [head, warning, body, note, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(trouble.is_some())),
        Constraint::Min(0),
        Constraint::Length(u16::from(notice.is_some())),
        Constraint::Length(u16::from(area.height > 4)),
    ])
    .areas(area);
    header(app, frame, head);
    if let Some(trouble) = trouble {
        let text = fit(&trouble, warning.width.into());
        frame.render_widget(Paragraph::new(Line::styled(text, style::ERROR)), warning);
    }
    page(app, frame, body);
    if let Some((text, style)) = notice {
        frame.render_widget(Paragraph::new(Line::styled(fit(&text, note.width.into()), style)), note);
    }
    footer(app, frame, foot);
    overlay::draw(app, frame, area);
}

fn header(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let hands = &app.place.hands;
    let state = match (hands.read_only, &hands.protected) {
        (true, _) => " [read-only]",
        (false, Some(_)) => " [protected]",
        (false, None) => "",
    };
    let titles: Vec<String> = app.titles().iter().map(|title| one_line(title)).collect();
    let last = titles.last().map(String::as_str).unwrap_or_default();
    let right = match app.page().read_at {
        Some(at) => format!("  {}", text::clock(at)),
        None => "  reading".to_owned(),
    };
    let width = usize::from(area.width);
    // The place and the page matter more than the time.
    let left_width = match width.checked_sub(right.len()) {
        Some(rest) if rest >= 20 => rest,
        _ => width,
    };
    // What is shown matters more than the way to it.
    let candidates = [
        format!("asynq {}{state} > {}", app.place.name, titles.join(" > ")),
        format!("asynq {}{state} > {last}", app.place.name),
        format!("{}{state} > {last}", app.place.name),
        format!("{last}{state}"),
    ];
    let fits = |text: &&String| Span::raw(text.as_str()).width() <= left_width;
    let left = candidates.iter().find(fits).unwrap_or(&candidates[3]);
    let left = fit(left, left_width);
    let gap = left_width.saturating_sub(Span::raw(&left).width());
    let line = Line::from(vec![
        Span::styled(left, style::TITLE),
        Span::raw(" ".repeat(gap)),
        Span::raw(if left_width < width { right } else { String::new() }),
    ]);
    frame.render_widget(Paragraph::new(line), area);
}

/// Says that Redis does not answer, or why the page could not be read.
fn trouble(app: &App) -> Option<String> {
    let page = app.page();
    if let Some(since) = app.silent_since() {
        let data = match page.read_at {
            Some(at) => format!("last data from {}", text::clock(at)),
            None => "no data yet".to_owned(),
        };
        let cause = app
            .link
            .trouble
            .as_ref()
            .map(|cause| format!(" ({cause})"))
            .unwrap_or_default();
        let silent = text::between(since, app.now);
        return Some(format!("! no answer for {silent}, {data}; trying again{cause}"));
    }
    page.fault.as_ref().map(|fault| format!("! {fault}"))
}

fn notice(app: &App) -> Option<(String, ratatui::style::Style)> {
    // A notice is newer than what is under way.
    if let Some(notice) = &app.notice {
        return Some(match notice.is_error {
            true => (format!("! {}", notice.text), style::ERROR),
            false => (notice.text.clone(), style::TITLE),
        });
    }
    if let Some(act) = &app.acting {
        return Some((format!("{}: under way", one_line(act)), style::TITLE));
    }
    let context = app.connecting.as_ref()?;
    Some((format!("connecting to {}", one_line(context)), style::TITLE))
}

fn page(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let page = app.page();
    match &page.content {
        Content::Queues(queues) => queues::draw(app, page, queues, frame, area),
        Content::Tasks(tasks) => tasks::draw(app, page, tasks, frame, area),
        Content::Task(task) => task::draw(app, page, task, frame, area),
        Content::Servers { servers, rows } => servers::draw(app, page, servers, rows, frame, area),
        Content::Trees(rows) => tree::draw(app, page, rows, frame, area),
        Content::Schedulers(entries) => schedulers::draw(app, page, entries, frame, area),
        Content::Findings(findings) => findings::draw(page, findings, frame, area),
        Content::Redis { servers, cluster } => redis::draw(app, page, servers, cluster.as_ref(), frame, area),
    }
}

fn footer(app: &App, frame: &mut Frame<'_>, area: Rect) {
    frame.render_widget(Paragraph::new(fit(keys(app.page()), area.width.into())), area);
}

/// Returns the most useful keys of a page.
fn keys(page: &Page) -> &'static str {
    match &page.content {
        Content::Queues(_) => "? help  Enter open  1-9 sort  / find  : pages  q quit  P pause  D delete",
        Content::Tasks(tasks) if tasks.scope.lists_groups() => "? help  h l state  Enter open  / filter  Esc back",
        Content::Tasks(_) => {
            "? help  h l state  / filter  space mark  n p page  R run  A archive  D delete  C cancel  Esc back"
        }
        Content::Task(_) => "? help  Esc back  j k scroll  r raw  R run  A archive  D delete  C cancel",
        Content::Servers { .. } => "? help  Esc back  Enter task  C cancel",
        Content::Trees(_) | Content::Schedulers(_) | Content::Findings(_) => "? help  Esc back  j k move",
        Content::Redis { .. } => "? help  Esc back  j k scroll",
    }
}

#[cfg(test)]
mod tests;
