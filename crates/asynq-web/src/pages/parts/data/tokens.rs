//! The parts of JSON that have a colour.

use std::ops::Range;

/// The kind of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Text,
    Number,
    Word,
}

impl Kind {
    /// The class of the stylesheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Name => "j-n",
            Self::Text => "j-t",
            Self::Number => "j-d",
            Self::Word => "j-w",
        }
    }
}

/// Returns the names, texts, numbers and words of JSON, in order. The text may be only the beginning of JSON.
pub(super) fn tokens(json: &str) -> Vec<(Kind, Range<usize>)> {
    let bytes = json.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let start = at;
        let while_in = |is_in: fn(u8) -> bool| start + bytes[start..].iter().take_while(|byte| is_in(**byte)).count();
        match byte {
            b'"' => {
                at = end_of_text(bytes, start);
                let next = bytes[at..].iter().find(|byte| !byte.is_ascii_whitespace());
                let kind = if next == Some(&b':') { Kind::Name } else { Kind::Text };
                tokens.push((kind, start..at));
            }
            b'-' | b'0'..=b'9' => {
                at = while_in(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
                tokens.push((Kind::Number, start..at));
            }
            b'a'..=b'z' => {
                at = while_in(|byte| byte.is_ascii_lowercase());
                tokens.push((Kind::Word, start..at));
            }
            _ => at += 1,
        }
    }
    tokens
}

/// Returns the end of the text that begins at a quote.
fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_json_are_found() {
        let found = |json: &'static str| -> Vec<(&'static str, &'static str)> {
            let parts = tokens(json).into_iter();
            parts.map(|(kind, range)| (kind.class(), &json[range])).collect()
        };
        assert_eq!(
            found(r#"{"a\"b" : [1.50e+3, -7, true, null, "é:\\"], "c":{}}"#),
            [
                ("j-n", r#""a\"b""#),
                ("j-d", "1.50e+3"),
                ("j-d", "-7"),
                ("j-w", "true"),
                ("j-w", "null"),
                ("j-t", r#""é:\\""#),
                ("j-n", r#""c""#),
            ]
        );
        // A beginning may end anywhere.
        assert_eq!(found(r#"{"a":"b\"#), [("j-n", r#""a""#), ("j-t", r#""b\"#)]);
        assert_eq!(found("\""), [("j-t", "\"")]);
    }
}
