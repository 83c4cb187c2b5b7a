//! The page of findings.

use asynq::findings::Finding;
use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Text},
    widgets::{HighlightSpacing, List, ListItem, ListState, Paragraph},
};

use super::{
    page_text::{fit, wrap},
    style,
};
use crate::{dash::pages::Page, output::one_line};

pub(crate) fn draw(page: &Page, findings: &[Finding], frame: &mut Frame<'_>, area: Rect) {
    if findings.is_empty() {
        let text = match page.read_at {
            Some(_) => "Nothing needs attention.",
            None => "Reading.",
        };
        frame.render_widget(Paragraph::new(fit(text, area.width.into())), area);
        return;
    }
    let width = usize::from(area.width).saturating_sub(4);
    let items = findings.iter().map(|finding| {
        let text = format!("{}: {}", finding.severity, one_line(&finding.to_string()));
        let mut lines: Vec<Line<'_>> = wrap(&text, width)
            .into_iter()
            .map(|line| Line::styled(line, style::WARNING))
            .collect();
        let command = wrap(&one_line(&finding.command), width.saturating_sub(4));
        lines.extend(command.into_iter().map(|line| Line::raw(format!("    {line}"))));
        ListItem::new(Text::from(lines))
    });
    let list = List::new(items)
        .highlight_symbol("> ")
        .highlight_spacing(HighlightSpacing::Always);
    let mut state = ListState::default().with_selected(Some(page.cursor.min(findings.len() - 1)));
    frame.render_stateful_widget(list, area, &mut state);
}
