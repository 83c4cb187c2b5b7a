//! A text of an application on a page: coloured if it is JSON, bounded in its length, and folded when it is long.

use std::ops::Range;

use maud::{Escaper, Markup, PreEscaped, html};
use std::fmt::Write as _;

use super::tokens::{Kind, tokens};

/// Lines, and bytes, of a text before its fold.
const LINES: usize = 24;
const BYTES: usize = 4000;
/// Bytes of HTML around a coloured part.
const AROUND: usize = r#"<span class="j-t"></span>"#.len();

/// A text that is shown.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    parts: Vec<(Kind, Range<usize>)>,
    /// The end of what is shown.
    end: usize,
}

impl Text {
    /// Takes a text, and shows so much of its beginning as fits into a number of bytes of HTML.
    pub(super) fn new(mut text: String, is_json: bool, most: usize) -> Self {
        let mut read = most.min(text.len());
        while !text.is_char_boundary(read) {
            read -= 1;
        }
        let is_cut = read < text.len();
        text.truncate(read);
        let parts = if is_json { tokens(&text) } else { Vec::new() };
        let mut cost = 0;
        let mut starts = parts.iter().map(|(_, range)| range.start).peekable();
        let mut end = text.len();
        for (at, char) in text.char_indices() {
            if starts.next_if_eq(&at).is_some() {
                cost += AROUND;
            }
            cost += escaped_len(char);
            if cost > most {
                end = at;
                break;
            }
        }
        if is_cut || end < text.len() {
            // Whole lines, unless the last one is very long.
            end = text[..end].rfind('\n').filter(|line| *line > end / 2).unwrap_or(end);
        }
        Self { text, parts, end }
    }

    /// Returns the number of bytes of the text that are shown.
    pub(super) fn shown(&self) -> usize {
        self.end
    }

    /// Returns the number of lines that are shown.
    pub(super) fn lines(&self) -> usize {
        self.text[..self.end].lines().count()
    }

    pub(super) fn markup(&self) -> Markup {
        let shown = &self.text[..self.end];
        let fold = fold(shown);
        let lines = shown[fold..].trim_matches('\n').lines().count();
        let label = match (lines, shown[fold..].starts_with('\n')) {
            (lines, true) if lines > 1 => format!("{lines} more lines"),
            (_, true) => "1 more line".to_owned(),
            _ => "The rest".to_owned(),
        };
        let rest = fold + usize::from(shown[fold..].starts_with('\n'));
        html! {
            pre { (self.part(0..rest)) }
            @if fold < self.end {
                details { summary { (label) } pre { (self.part(rest..self.end)) } }
            }
        }
    }

    /// A part of the text, escaped and with colours.
    fn part(&self, range: Range<usize>) -> Markup {
        let mut markup = String::with_capacity(range.len() * 2);
        let mut at = range.start;
        let escape = |text: &str, markup: &mut String| {
            // Writing to a String cannot fail.
            let _ = Escaper::new(markup).write_str(text);
        };
        // The HTML parser drops a line break at the beginning of a `pre`.
        if self.text[range.clone()].starts_with('\n') {
            markup.push('\n');
        }
        let from = self.parts.partition_point(|(_, part)| part.end <= range.start);
        for (kind, part) in self.parts[from..].iter().take_while(|(_, part)| part.start < range.end) {
            let (start, end) = (part.start.max(range.start), part.end.min(range.end));
            escape(&self.text[at..start], &mut markup);
            let _ = write!(markup, r#"<span class="{}">"#, kind.class());
            escape(&self.text[start..end], &mut markup);
            markup.push_str("</span>");
            at = end;
        }
        escape(&self.text[at..range.end], &mut markup);
        PreEscaped(markup)
    }
}

/// Returns the place of the fold: behind so many lines or bytes. A short rest is not folded.
fn fold(text: &str) -> usize {
    let line = text.match_indices('\n').nth(LINES - 1).map(|(at, _)| at);
    let by_lines = match line {
        Some(at) if text[at..].matches('\n').count() > 6 => at,
        _ => text.len(),
    };
    let mut by_bytes = if text.len() > BYTES + BYTES / 4 {
        BYTES
    } else {
        text.len()
    };
    while !text.is_char_boundary(by_bytes) {
        by_bytes -= 1;
    }
    if by_bytes < by_lines {
        let line = text[..by_bytes].rfind('\n').filter(|line| *line > BYTES / 2);
        return line.unwrap_or(by_bytes);
    }
    by_lines
}

/// Returns the length of a character in HTML.
pub(crate) fn escaped_len(char: char) -> usize {
    match char {
        '&' => 5,
        '<' | '>' => 4,
        '"' => 6,
        char => char.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_bounded_and_nothing_is_lost_before_the_end() {
        for (text, is_json) in [
            ("[".to_owned() + &"1,".repeat(50_000) + "1]", true),
            ("\"".repeat(50_000), false),
            ("<b>&é\n".repeat(20_000), false),
        ] {
            let shown = Text::new(text.clone(), is_json, 10_000);
            let markup = shown.markup().into_string();
            assert!(markup.len() < 10_400, "{}", markup.len());
            assert!(shown.shown() > 300 && shown.shown() < 10_001);
            let mut plain = String::new();
            let mut is_tag = false;
            for char in markup.chars() {
                match char {
                    '<' => is_tag = true,
                    '>' => is_tag = false,
                    char if !is_tag => plain.push(char),
                    _ => {}
                }
            }
            let plain = plain.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
            let plain = plain.replace("&amp;", "&");
            // The first lines, before the fold.
            assert!(plain.starts_with(&text[..150]));
        }
    }

    #[test]
    fn a_short_text_is_whole() {
        let text = Text::new("a\n<b>".to_owned(), false, 1000);
        assert_eq!(text.markup().into_string(), "<pre>a\n&lt;b&gt;</pre>");
        let blank = Text::new("\na".to_owned(), false, 1000);
        assert_eq!(blank.markup().into_string(), "<pre>\n\na</pre>");
    }

    #[test]
    fn a_long_text_is_folded_at_a_line() {
        let text = Text::new("line\n".repeat(100), false, 100_000);
        let markup = text.markup().into_string();
        assert!(markup.contains("<summary>76 more lines</summary>"), "{markup}");
    }
}
