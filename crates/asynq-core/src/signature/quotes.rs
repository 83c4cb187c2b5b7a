//! Quoted texts.

use std::collections::HashMap;

/// The quoted texts in an error, by the place of their first quote.
#[derive(Debug, Default)]
pub(super) struct Quotes(HashMap<usize, usize>);

impl Quotes {
    /// Finds the quoted texts: in double quotes, in back quotes, and in apostrophes that stand as quotes. An escaped
    /// quote ends with a quote that is escaped as often.
    pub(super) fn find(text: &str) -> Self {
        let mut pairs = HashMap::new();
        // The next place of each kind of quote, by its character and the number of backslashes in front.
        let mut next: HashMap<(u8, usize), usize> = HashMap::new();
        let bytes = text.as_bytes();
        let mut end = bytes.len();
        while end > 0 {
            let at = end - 1;
            let quote = bytes[at];
            end = at;
            if !matches!(quote, b'"' | b'`' | b'\'') {
                continue;
            }
            let backslashes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            end -= backslashes;
            let kind = (quote, backslashes);
            let (opens, closes) = match quote {
                b'\'' => (
                    backslashes == 0 && opens(text, at),
                    backslashes == 0 && closes(text, at),
                ),
                _ => (true, true),
            };
            if let Some(closing) = next.get(&kind).filter(|_| opens) {
                pairs.insert(at, closing - backslashes);
            }
            if closes {
                next.insert(kind, at);
            }
        }
        Self(pairs)
    }

    /// Returns the end of the text behind a quote at this place: the place of what closes it.
    pub(super) fn closing(&self, at: usize) -> Option<usize> {
        self.0.get(&at).copied()
    }
}

/// Returns whether an apostrophe begins a quoted text: not that of "can't".
fn opens(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    before.is_none_or(|char| is_space(char) || "([{=:,".contains(char))
}

/// Returns whether an apostrophe ends a quoted text.
fn closes(text: &str, at: usize) -> bool {
    let behind = text[at + 1..].chars().next();
    behind.is_none_or(|char| is_space(char) || ")]},.;:".contains(char))
}

/// Returns whether a quoted text is the name of a field, a type or the like.
pub(super) fn is_plain_name(quoted: &str) -> bool {
    let plain = |char: char| char.is_ascii_alphabetic() || "_-.:/".contains(char);
    quoted.len() <= 40 && quoted.chars().all(plain)
}

/// Returns whether a character counts as white space.
pub(super) fn is_space(char: char) -> bool {
    char.is_whitespace() || char.is_control()
}
