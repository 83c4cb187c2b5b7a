//! Tables that leave out columns where there is no room for them.

use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    text::{Line, Span},
    widgets::{Cell, HighlightSpacing, Row, Table, TableState},
};

use super::{
    page_text::{excerpt, fit},
    style,
};
use crate::output::one_line;

/// Most bytes of a cell that are looked at. An error may be long.
const LONGEST: usize = 1024;
/// Blanks between columns.
const GAP: u16 = 2;
/// Width of the mark of the row under the cursor.
const CURSOR: u16 = 2;

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    title: String,
    /// Columns with the largest number are left out first.
    rank: u8,
    right: bool,
    /// The column can be made as narrow as this.
    least: u16,
    /// The end is shown, and not the beginning, where there is too little room.
    keeps_end: bool,
}

impl Column {
    /// A column of text.
    pub(crate) fn text(title: impl Into<String>, rank: u8, least: u16) -> Self {
        Self {
            title: title.into(),
            rank,
            right: false,
            least,
            keeps_end: false,
        }
    }

    /// A column of a history, whose end matters most.
    pub(crate) fn history(title: impl Into<String>, rank: u8, least: u16) -> Self {
        Self {
            keeps_end: true,
            ..Self::text(title, rank, least)
        }
    }

    /// A column of numbers, which are never cut.
    pub(crate) fn number(title: impl Into<String>, rank: u8) -> Self {
        Self {
            title: title.into(),
            rank,
            right: true,
            least: u16::MAX,
            keeps_end: false,
        }
    }
}

/// Draws a table with the cursor in the row `selected`.
pub(crate) fn draw(columns: &[Column], rows: &[Vec<String>], selected: usize, frame: &mut Frame<'_>, area: Rect) {
    let cell = |text: &String| one_line(excerpt(text, LONGEST));
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let widths = widths(columns, &rows, area.width.saturating_sub(CURSOR));
    let shown: Vec<(usize, u16)> = widths
        .iter()
        .enumerate()
        .filter_map(|(at, width)| Some((at, (*width)?)))
        .collect();
    let cell = |at: usize, width: u16, text: &str| {
        let text = match columns[at].keeps_end {
            true => text
                .chars()
                .skip(text.chars().count().saturating_sub(width.into()))
                .collect(),
            false => fit(text, width.into()),
        };
        Cell::new(match columns[at].right {
            true => Line::from(text).right_aligned(),
            false => Line::from(text),
        })
    };
    let row = |texts: &[String]| {
        let text = |at: usize| texts.get(at).map(String::as_str).unwrap_or_default();
        Row::new(
            shown
                .iter()
                .map(|(at, width)| cell(*at, *width, text(*at)))
                .collect::<Vec<_>>(),
        )
    };
    let titles: Vec<String> = columns.iter().map(|column| column.title.clone()).collect();
    let count = rows.len();
    let table = Table::new(
        rows.iter().map(|texts| row(texts)),
        shown.iter().map(|(_, width)| Constraint::Length(*width)),
    )
    .header(row(&titles).style(style::TITLE))
    .column_spacing(GAP)
    .highlight_symbol("> ")
    .highlight_spacing(HighlightSpacing::Always)
    .row_highlight_style(style::SELECTED);
    let mut state = TableState::new().with_selected((count > 0).then(|| selected.min(count - 1)));
    frame.render_stateful_widget(table, area, &mut state);
}

/// Returns the width of each column; `None`: it is left out.
fn widths(columns: &[Column], rows: &[Vec<String>], room: u16) -> Vec<Option<u16>> {
    let wide = |text: &str| u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX);
    let wanted: Vec<u16> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let cells = rows.iter().map(|row| row.get(at).map_or(0, |cell| wide(cell)));
            cells.max().unwrap_or(0).max(wide(&column.title))
        })
        .collect();
    let least = |at: usize| wanted[at].min(columns[at].least);
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let need = |kept: &[usize]| {
        let cells: u32 = kept.iter().map(|at| u32::from(least(*at))).sum();
        cells + u32::from(GAP) * (kept.len().saturating_sub(1) as u32)
    };
    while kept.len() > 1 && need(&kept) > u32::from(room) {
        // Of equal ranks the last one goes.
        let Some(worst) = kept.iter().copied().max_by_key(|at| (columns[*at].rank, *at)) else {
            break;
        };
        kept.retain(|at| *at != worst);
    }
    let mut spare = u32::from(room).saturating_sub(need(&kept));
    let mut widths = vec![None; columns.len()];
    let mut by_rank = kept;
    by_rank.sort_by_key(|at| (columns[*at].rank, *at));
    for at in by_rank {
        let more = u32::from(wanted[at] - least(at)).min(spare);
        spare -= more;
        widths[at] = Some((u32::from(least(at)) + more).min(u32::from(room)) as u16);
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_the_lowest_rank_go_first() {
        let columns = [
            Column::text("name", 0, 4),
            Column::number("size", 2),
            Column::text("type", 1, 3),
        ];
        let rows = [vec!["a long name".to_owned(), "12345".to_owned(), "a type".to_owned()]];
        let at = |room| widths(&columns, &rows, room);
        assert_eq!(at(40), [Some(11), Some(5), Some(6)]);
        assert_eq!(at(18), [Some(6), Some(5), Some(3)]);
        assert_eq!(at(15), [Some(10), None, Some(3)]);
        assert_eq!(at(8), [Some(8), None, None]);
        assert_eq!(at(2), [Some(2), None, None]);
        assert_eq!(at(0), [Some(0), None, None]);
    }
}
