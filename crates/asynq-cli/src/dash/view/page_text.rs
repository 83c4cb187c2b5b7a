//! Texts in the width that there is, and pages that are one text.

use ratatui::{Frame, layout::Rect, text::Line, widgets::Paragraph};

use crate::dash::app::App;
pub(crate) use crate::dash::text::{excerpt, fit, wrap};

/// Draws a text of several parts that scrolls, from its line `first`, and tells how far it can.
pub(crate) fn scrolled(app: &App, first: usize, parts: &[&[Line<'static>]], frame: &mut Frame<'_>, area: Rect) {
    let count: usize = parts.iter().map(|lines| lines.len()).sum();
    let last = count.saturating_sub(usize::from(area.height).max(1));
    app.last_line.set(last);
    let lines = parts.iter().flat_map(|lines| lines.iter());
    let shown = lines.skip(first.min(last)).take(area.height.into());
    frame.render_widget(Paragraph::new(shown.cloned().collect::<Vec<_>>()), area);
}
