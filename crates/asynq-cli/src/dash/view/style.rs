//! The styles of the screen. With NO_COLOR the terminal gets no colours.

use ratatui::style::{Color, Modifier, Style};

pub(crate) const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
pub(crate) const DIM: Style = Style::new().add_modifier(Modifier::DIM);
pub(crate) const WARNING: Style = Style::new().fg(Color::Yellow);
pub(crate) const ERROR: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
pub(crate) const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);
