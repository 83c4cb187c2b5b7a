//! The refusal of a query.

use std::fmt;

/// A query that is refused: where, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct QueryError {
    /// The place, as a number of characters from the start of the query.
    pub position: usize,
    /// A text that would be right there, such as `a duration such as 90s or 1h30m`.
    pub expected: String,
    /// The text that stands there; empty at the end of the query.
    pub found: String,
}

/// Longest excerpt of a query in its refusal, in characters.
const EXCERPT: usize = 40;

impl QueryError {
    /// A refusal of the text between two byte offsets.
    pub(crate) fn at(text: &str, from: usize, to: usize, expected: impl Into<String>) -> Self {
        let from = (0..=from.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        let from = from.unwrap_or(0);
        let to = (to.max(from).min(text.len())..=text.len()).find(|at| text.is_char_boundary(*at));
        let found = &text[from..to.unwrap_or(text.len())];
        Self {
            position: text[..from].chars().count(),
            expected: expected.into(),
            found: found.chars().take(EXCERPT).collect(),
        }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            expected,
            found,
        } = self;
        write!(f, "query, character {}: expected {expected}, found ", position + 1)?;
        match found.is_empty() {
            true => f.write_str("its end"),
            false => write!(f, "{found:?}"),
        }
    }
}
