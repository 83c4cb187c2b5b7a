//! JSON as text: laid out or compacted, with every number and name as it stands.

/// Deepest nesting that is laid out. Each level costs two blanks in every line, so deep values would grow without limit.
const DEEPEST: usize = 64;

/// Lays JSON out on several lines. Nothing but the blanks between its parts changes, so that numbers keep all their digits and
/// names that stand twice stay. The text must be JSON. One that is nested deeper than 64 levels is returned as it is.
#[must_use]
pub fn indented(json: &str) -> String {
    let mut laid_out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    };
    let compact = compact(json);
    let mut rest = compact.char_indices().peekable();
    let mut in_string = false;
    while let Some((at, char)) = rest.next() {
        if in_string {
            laid_out.push(char);
            match char {
                '\\' => laid_out.extend(rest.next().map(|(_, escaped)| escaped)),
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match char {
            '{' | '[' => {
                laid_out.push(char);
                // An empty one stays on its line.
                if !compact[at + 1..].starts_with(['}', ']']) {
                    depth += 1;
                    if depth > DEEPEST {
                        return json.to_owned();
                    }
                    line(&mut laid_out, depth);
                }
            }
            '}' | ']' => {
                if !compact[..at].ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    line(&mut laid_out, depth);
                }
                laid_out.push(char);
            }
            ',' => {
                laid_out.push(char);
                line(&mut laid_out, depth);
            }
            ':' => laid_out.push_str(": "),
            char => {
                in_string = char == '"';
                laid_out.push(char);
            }
        }
    }
    laid_out
}

/// Takes the blanks between the parts of JSON away. The text must be JSON.
#[must_use]
pub fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let mut chars = json.chars();
    let mut in_string = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' if in_string => {
                compact.push(char);
                compact.extend(chars.next());
            }
            '"' => {
                in_string = !in_string;
                compact.push(char);
            }
            ' ' | '\t' | '\n' | '\r' if !in_string => {}
            char => compact.push(char),
        }
    }
    compact
}

/// Returns whether JSON's usual numbers hold all numbers of a value with all their digits.
pub(super) fn has_usual_numbers(json: &str) -> bool {
    let mut rest = json;
    while let Some(start) = rest.find(|char: char| char == '"' || char == '-' || char.is_ascii_digit()) {
        rest = &rest[start..];
        if rest.starts_with('"') {
            let mut escaped = false;
            let end = rest[1..].find(|char| {
                let ends = char == '"' && !escaped;
                escaped = char == '\\' && !escaped;
                ends
            });
            rest = &rest[end.map_or(rest.len(), |end| end + 2)..];
            continue;
        }
        let end = rest
            .find(|char: char| !char.is_ascii_digit() && !"+-.eE".contains(char))
            .unwrap_or(rest.len());
        let number = &rest[..end];
        let digits = number
            .split(['e', 'E'])
            .next()
            .unwrap_or(number)
            .chars()
            .filter(char::is_ascii_digit)
            .count();
        if digits > 15 && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
            return false;
        }
        rest = &rest[end..];
    }
    true
}

/// Levels that may stand around a value in a record.
pub const AROUND: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_changes_blanks_only() {
        for (json, laid_out) in [
            (
                r#"{"a": "b c", "n":[1, 2.50]}"#,
                "{\n  \"a\": \"b c\",\n  \"n\": [\n    1,\n    2.50\n  ]\n}",
            ),
            (r#"{"a":{},"b":[ ]}"#, "{\n  \"a\": {},\n  \"b\": []\n}"),
            (r#"{"{\"[\\":",:"}"#, "{\n  \"{\\\"[\\\\\": \",:\"\n}"),
            ("1e999", "1e999"),
            (r#"{"a":1,"a":2}"#, "{\n  \"a\": 1,\n  \"a\": 2\n}"),
            ("12345678901234567890123", "12345678901234567890123"),
        ] {
            assert_eq!(indented(json), laid_out, "{json}");
            assert_eq!(compact(&indented(json)), compact(json), "{json}");
        }
        for depth in [DEEPEST + 1, 30_000] {
            let deep = "[".repeat(depth + 1) + &"]".repeat(depth + 1);
            assert_eq!(indented(&deep), deep);
        }
        let deep = "[".repeat(DEEPEST) + &"]".repeat(DEEPEST);
        assert_eq!(compact(&indented(&deep)), deep);
    }
}
