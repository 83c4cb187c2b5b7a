//! Text that somebody chose, made harmless for a terminal.

use asynq::go::is_printable;

/// A text on one line, without characters that control a terminal: these are escaped as in Rust.
pub(crate) fn one_line(text: &str) -> String {
    if text.chars().all(is_shown) {
        return text.to_owned();
    }
    text.chars()
        .map(|char| {
            if is_shown(char) {
                char.to_string()
            } else {
                char.escape_default().to_string()
            }
        })
        .collect()
}

/// A text of several lines, without other characters that control a terminal.
pub(crate) fn lines(text: &str) -> String {
    text.split('\n').map(one_line).collect::<Vec<_>>().join("\n")
}

/// Returns whether a terminal shows a character, and does not act on it or change the order of others by it. Characters that
/// are letters to Unicode and look like nothing do not count as shown.
pub(crate) fn is_shown(char: char) -> bool {
    is_printable(char) && !matches!(char, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        assert_eq!(one_line("a\u{1b}[31mb\nc\u{202e}"), "a\\u{1b}[31mb\\nc\\u{202e}");
        assert_eq!(lines("a\nb\u{7}"), "a\nb\\u{7}");
    }

    #[test]
    fn nothing_is_hidden_in_a_name() {
        for hidden in [
            '\u{ad}',
            '\u{200b}',
            '\u{202e}',
            '\u{180e}',
            '\u{3164}',
            '\u{e0041}',
            '\u{feff}',
            '\u{7f}',
        ] {
            assert!(!is_shown(hidden), "{hidden:?}");
        }
        assert_eq!(one_line("日本 ü 😀"), "日本 ü 😀");
    }
}
