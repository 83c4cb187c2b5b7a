//! The drawing of what lies over a page.

use ratatui::{
    Frame,
    layout::{Constraint, Flex, Layout, Position, Rect},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};

use super::{
    page_text::{fit, scrolled, wrap},
    style,
};
use crate::{
    dash::{
        app::App,
        input::Input,
        keys::HELP,
        overlay::{Confirm, Overlay},
    },
    output::one_line,
};

pub(crate) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    match &app.overlay {
        None => {}
        Some(Overlay::Help { scroll }) => help(app, *scroll, frame, area),
        Some(Overlay::Filter { input, fault }) => {
            let fault = fault.as_ref().map(|(at, text)| (Some(*at), text.as_str()));
            line('/', input, fault, frame, area);
        }
        Some(Overlay::Command { input, fault }) => {
            line(':', input, fault.as_deref().map(|text| (None, text)), frame, area);
        }
        Some(Overlay::Confirm(confirm)) => question(confirm, frame, area),
    }
}

/// Clears a box in the middle, draws its border, and returns what is inside.
fn boxed(title: &str, width: u16, height: u16, frame: &mut Frame<'_>, area: Rect) -> Rect {
    let [area] = Layout::vertical([Constraint::Length(height)])
        .flex(Flex::Center)
        .areas(area);
    let [area] = Layout::horizontal([Constraint::Length(width)])
        .flex(Flex::Center)
        .areas(area);
    // Where a border would take all the room there is none.
    let block = match area.height >= 6 && area.width >= 12 {
        true => Block::bordered().title(Line::styled(
            format!(" {} ", fit(title, usize::from(area.width).saturating_sub(4))),
            style::TITLE,
        )),
        false => Block::new(),
    };
    frame.render_widget(Clear, area);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

fn help(app: &App, scroll: usize, frame: &mut Frame<'_>, area: Rect) {
    let inner = boxed("Help: j k scroll, Esc closes", 72, HELP.len() as u16 + 2, frame, area);
    let width = usize::from(inner.width);
    let lines = HELP.iter().map(|(key, text)| match text.is_empty() {
        true => Line::styled(fit(key, width), style::TITLE),
        false => Line::raw(fit(&format!("  {key:<16}{text}"), width)),
    });
    scrolled(app, scroll, &[&lines.collect::<Vec<_>>()], frame, inner);
}

/// Draws a line that is being typed, at the bottom, with what is wrong below.
fn line(sign: char, input: &Input, fault: Option<(Option<usize>, &str)>, frame: &mut Frame<'_>, area: Rect) {
    let width = usize::from(area.width);
    let mut below: Vec<Line<'static>> = Vec::new();
    let shift = shift(input, width.saturating_sub(2));
    if let Some((place, text)) = fault {
        if let Some(place) = place {
            let before: String = input.text().chars().take(place).collect();
            let at = (Span::raw(before).width() + 1).saturating_sub(shift);
            below.push(Line::raw(format!("{}^", " ".repeat(at.min(width.saturating_sub(1))))));
        }
        below.extend(
            wrap(text, width)
                .into_iter()
                .take(2)
                .map(|text| Line::styled(text, style::ERROR)),
        );
    }
    let height = (1 + below.len() as u16).min(area.height);
    let area = Rect {
        y: area.bottom() - height,
        height,
        ..area
    };
    frame.render_widget(Clear, area);
    let [first, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    typed(&sign.to_string(), input, true, frame, first);
    frame.render_widget(Paragraph::new(below), rest);
}

/// Returns the number of columns by which a line must move left so that its cursor is seen.
fn shift(input: &Input, width: usize) -> usize {
    (Span::raw(input.parts().0).width() + 1).saturating_sub(width.max(1))
}

/// Draws a line that is being typed, with the cursor if the keys go there.
fn typed(label: &str, input: &Input, is_current: bool, frame: &mut Frame<'_>, area: Rect) {
    let [label_area, text_area] =
        Layout::horizontal([Constraint::Length(Span::raw(label).width() as u16), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(label), label_area);
    let shift = shift(input, usize::from(text_area.width).saturating_sub(1));
    // The text has been cleared of what controls a terminal, except for what changes the order of characters.
    let text = one_line(input.text());
    let scroll = (0, u16::try_from(shift).unwrap_or(u16::MAX));
    frame.render_widget(Paragraph::new(text).scroll(scroll), text_area);
    if is_current && !text_area.is_empty() {
        let x = Span::raw(one_line(input.parts().0)).width().saturating_sub(shift);
        let x = text_area.x + u16::try_from(x).unwrap_or(u16::MAX).min(text_area.width - 1);
        frame.set_cursor_position(Position { x, y: text_area.y });
    }
}

fn question(confirm: &Confirm, frame: &mut Frame<'_>, area: Rect) {
    let width = area.width.min(Confirm::WIDEST);
    let Some(rows) = confirm.rows((area.width, area.height)) else {
        let text = "Make the terminal larger to see the whole question. Esc cancels.";
        let lines = wrap(text, usize::from(width).saturating_sub(2));
        let inner = boxed("Confirm", width, lines.len() as u16 + 2, frame, area);
        let lines = wrap(text, inner.width.into()).into_iter().map(Line::raw);
        frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inner);
        return;
    };
    let inner = boxed("Confirm, Esc cancels", width, rows.height() as u16, frame, area);
    let [title, body, reason, label, answer, below] = Layout::vertical([
        Constraint::Length(rows.title.len() as u16),
        Constraint::Length(rows.body.len() as u16),
        Constraint::Length(1),
        Constraint::Length(rows.label.len() as u16),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(inner);
    let lines = |texts: Vec<String>| texts.into_iter().map(Line::raw).collect::<Vec<_>>();
    frame.render_widget(Paragraph::new(lines(rows.title)).style(style::TITLE), title);
    frame.render_widget(Paragraph::new(lines(rows.body)), body);
    typed("Reason: ", &confirm.reason, !confirm.at_answer, frame, reason);
    frame.render_widget(Paragraph::new(lines(rows.label)), label);
    typed("> ", &confirm.answer, confirm.at_answer, frame, answer);
    if let Some(fault) = &confirm.fault {
        let fault = fit(&format!("! {fault}"), below.width.into());
        frame.render_widget(Paragraph::new(Line::styled(fault, style::ERROR)), below);
    }
}
