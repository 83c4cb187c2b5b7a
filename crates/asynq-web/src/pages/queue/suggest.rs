//! Suggestions for the query that is being written.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use futures::future::join;
use maud::{Markup, html};
use serde::Deserialize;

use super::asked::{LONGEST_QUERY, quoted};
use crate::{
    extract::{Json, Path, Query},
    pages::view::View,
    problem::{Problem, Result},
    v1::{
        queues::{self, ListGroups},
        search::{self, Search},
        statistics::{self, PointLength, ShowStatistics},
    },
};

/// Suggestions at a time.
const MOST: usize = 12;
/// Tasks whose types are looked at.
const SAMPLE: u64 = 20;

/// The kind of the values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    State,
    Number,
    Bytes,
    Span,
    Time,
    Flag,
}

/// The fields of the query language, with the operator that is used most and what they are.
const FIELDS: [(&str, Kind, &str, &str); 22] = [
    ("type", Kind::Text, "=", "type of the task"),
    ("error", Kind::Text, "~", "last error"),
    ("state", Kind::State, "=", "state"),
    ("id", Kind::Text, "=", "id"),
    ("payload", Kind::Text, "~", "text of the payload"),
    (
        "payload.",
        Kind::Text,
        "",
        "a value in the payload, such as payload.user_id=42",
    ),
    ("result", Kind::Text, "~", "text of the result"),
    ("result.", Kind::Text, "", "a value in the result"),
    ("header.", Kind::Text, "", "a header, such as header.tenant=acme"),
    ("retried", Kind::Number, ">=", "number of retries so far"),
    ("max_retry", Kind::Number, "=", "largest number of retries"),
    ("age", Kind::Span, ">", "time in its state"),
    ("last_failed_at", Kind::Time, ">", "time of the last failure"),
    ("next_process_at", Kind::Time, "<", "time at which it is due"),
    ("completed_at", Kind::Time, ">", "time at which it succeeded"),
    ("deadline", Kind::Time, "<", "time by which it must be done"),
    ("timeout", Kind::Span, ">", "longest time of a run"),
    ("retention", Kind::Span, ">", "time for which it is kept"),
    ("progress", Kind::Number, "<", "per cent"),
    ("size", Kind::Bytes, ">", "bytes of the payload"),
    ("group", Kind::Text, "=", "group"),
    ("orphaned", Kind::Flag, "=", "its server died"),
];

const OPERATORS: [(&str, &str); 10] = [
    ("=", "equals; several values with commas"),
    ("!=", "equals none of"),
    ("~", "contains; /…/ is a regular expression"),
    ("!~", "does not contain"),
    ("^=", "begins with"),
    ("$=", "ends with"),
    (">", "more than"),
    (">=", "at least"),
    ("<", "less than"),
    ("<=", "at most"),
];

impl Kind {
    fn has(self, operator: &str) -> bool {
        match self {
            Self::Text => true,
            Self::State | Self::Flag => matches!(operator, "=" | "!="),
            _ => !matches!(operator, "~" | "!~" | "^=" | "$="),
        }
    }

    fn values(self) -> &'static [&'static str] {
        match self {
            Self::Text => &[],
            Self::State => &[
                "active",
                "pending",
                "aggregating",
                "scheduled",
                "retry",
                "archived",
                "completed",
            ],
            Self::Number => &["0", "1", "3", "5", "10"],
            Self::Bytes => &["1kB", "10kB", "100kB", "1MiB"],
            Self::Span => &["1m", "10m", "1h", "1d", "7d"],
            Self::Time => &["now", "now-10m", "now-1h", "now-1d", "now+1h", "now+1d"],
            Self::Flag => &["true", "false"],
        }
    }
}

/// A suggestion: the text that takes the place of the last one, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Suggestion {
    text: String,
    hint: String,
}

/// The end of a query, at which something is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'q> {
    /// A name or a word between conditions, as far as it is written.
    Name(&'q str),
    /// A value, as far as it is written, behind a field and an operator.
    Value { field: &'q str, value: &'q str },
    /// Nothing can be said.
    Unknown,
}

impl<'q> Place<'q> {
    /// Returns the place at the end of the text.
    fn at_end(text: &'q str) -> Self {
        let (mut start, mut quote, mut escaped) = (0, None, false);
        for (index, c) in text.char_indices() {
            match quote {
                Some(_) if escaped => escaped = false,
                Some(_) if c == '\\' => escaped = true,
                Some(open) if c == open => quote = None,
                Some(_) => {}
                None if matches!(c, '"' | '\'') => quote = Some(c),
                None if c.is_whitespace() || matches!(c, '(' | ')') => start = index + c.len_utf8(),
                None => {}
            }
        }
        let token = &text[start..];
        let is_operator = |c: char| matches!(c, '=' | '!' | '~' | '^' | '$' | '<' | '>');
        let Some(operator) = token.find(is_operator) else {
            return if quote.is_none() {
                Self::Name(token)
            } else {
                Self::Unknown
            };
        };
        let (field, rest) = token.split_at(operator);
        let value = rest.trim_start_matches(is_operator);
        // Of several values, the last one is being written.
        let value = value.rsplit(',').next().unwrap_or(value);
        match (field, quote) {
            ("", _) => Self::Unknown,
            (field, None) => Self::Value { field, value },
            // A value in quotes that is not closed yet.
            (field, Some(open)) => match value.strip_prefix(open) {
                Some(_) => Self::Value { field, value },
                None => Self::Unknown,
            },
        }
    }

    /// Returns what is written of it.
    fn written(self) -> &'q str {
        match self {
            Self::Name(written) | Self::Value { value: written, .. } => written,
            Self::Unknown => "",
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    /// The query up to the caret.
    #[serde(default)]
    before: String,
}

/// Answers with the items of a list box. Each has the text that takes the place of the last `data-cut` characters before the caret.
pub(crate) async fn show(view: View, Path(queue): Path<String>, Query(asked): Query<Asked>) -> Result<Response> {
    if asked.before.len() > LONGEST_QUERY * 4 {
        let detail = format!(
            "before has {} bytes, must have at most {}",
            asked.before.len(),
            LONGEST_QUERY * 4
        );
        return Err(Problem::invalid("before", detail));
    }
    let place = Place::at_end(&asked.before);
    let suggestions = match place {
        Place::Name(written) => names(
            written,
            asked.before.trim_end() != asked.before && !asked.before.trim().is_empty(),
        ),
        Place::Value { field, value } => values(field, value, known(&view, &queue, field).await),
        Place::Unknown => Vec::new(),
    };
    Ok(items(&suggestions, place.written()).into_response())
}

fn names(written: &str, is_behind: bool) -> Vec<Suggestion> {
    let lower = written.to_lowercase();
    let suggestion = |text: String, hint: &str| Suggestion {
        text,
        hint: hint.to_owned(),
    };
    if let Some((name, kind, ..)) = FIELDS
        .into_iter()
        .find(|(name, ..)| *name == lower && !name.ends_with('.'))
    {
        let operators = OPERATORS.into_iter().filter(|(operator, _)| kind.has(operator));
        let operators = operators.map(|(operator, hint)| suggestion(format!("{name}{operator}"), hint));
        return operators.take(MOST).collect();
    }
    let fields = FIELDS
        .into_iter()
        .filter(|(name, ..)| name.starts_with(&lower) && *name != lower);
    let mut all: Vec<Suggestion> = fields
        .map(|(name, _, operator, hint)| suggestion(format!("{name}{operator}"), hint))
        .collect();
    if is_behind || !written.is_empty() {
        let words = ["or", "not"]
            .into_iter()
            .filter(|word| word.starts_with(&lower) && *word != lower);
        all.extend(words.map(|word| suggestion(format!("{word} "), "combines conditions")));
    }
    all.truncate(MOST);
    all
}

fn values(field: &str, written: &str, known: Vec<String>) -> Vec<Suggestion> {
    let kind = FIELDS
        .into_iter()
        .find(|(name, ..)| *name == field)
        .map(|(_, kind, ..)| kind);
    let plain = written.trim_start_matches(['"', '\'']);
    let fixed = kind
        .map(Kind::values)
        .unwrap_or_default()
        .iter()
        .map(|value| (*value).to_owned());
    let all = fixed.chain(known);
    let is_word =
        |value: &str| !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || "(),\"'".contains(c));
    all.filter(|value| value.to_lowercase().contains(&plain.to_lowercase()) && value != plain)
        .take(MOST)
        .map(|value| Suggestion {
            hint: String::new(),
            text: match is_word(&value) {
                true => format!("{value} "),
                false => format!("{} ", quoted(&value)),
            },
        })
        .collect()
}

/// Returns the values of a field that are known for the queue: its types of the last two days and of now, and its groups. None are missed if
/// they cannot be read.
async fn known(view: &View, queue: &str, field: &str) -> Vec<String> {
    match field {
        "type" => {
            let (mut types, found) = join(types(view, queue), found_types(view, queue)).await;
            types.extend(found);
            types.sort();
            types.dedup();
            types
        }
        "group" => {
            let list = ListGroups { limit: Some(200) };
            let groups = queues::groups(State(view.app.clone()), Path(queue.to_owned()), Query(list)).await;
            let groups = groups.map(|groups| groups.0.groups).unwrap_or_default();
            groups.into_iter().map(|group| group.group).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the types of some tasks that are in the queue now.
async fn found_types(view: &View, queue: &str) -> Vec<String> {
    let body = Search {
        query: format!("queue={}", quoted(queue)),
        limit: Some(SAMPLE),
        look_at: Some(SAMPLE),
        cursor: None,
    };
    let found = search::search(State(view.app.clone()), view.caller.clone(), Json(body)).await;
    let tasks = found.map(|found| found.0.tasks).unwrap_or_default();
    tasks.into_iter().map(|task| task.task_type).collect()
}

/// Returns the types of the tasks that have run in the last two days.
pub(crate) async fn types(view: &View, queue: &str) -> Vec<String> {
    let asked = ShowStatistics {
        from: None,
        to: None,
        step: Some(PointLength::Hour),
        task_type: None,
    };
    let (app, caller) = (view.app.clone(), view.caller.clone());
    let shown = statistics::show(State(app), caller, Path(queue.to_owned()), Query(asked)).await;
    let types = shown.map(|shown| shown.0.types).unwrap_or_default();
    types.into_iter().map(|of| of.task_type).collect()
}

fn items(suggestions: &[Suggestion], written: &str) -> Markup {
    // The script counts as the browser does, in units of UTF-16.
    let cut = written.encode_utf16().count();
    html! {
        @for (index, suggestion) in suggestions.iter().enumerate() {
            li role="option" id={ "suggestion-" (index) } aria-selected="false" data-cut=(cut) data-text=(suggestion.text) {
                code { (suggestion.text.trim_end()) } @if !suggestion.hint.is_empty() { span class="hint" { (suggestion.hint) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::asked::Tab, *};

    fn texts(suggestions: &[Suggestion]) -> Vec<&str> {
        suggestions.iter().map(|suggestion| suggestion.text.as_str()).collect()
    }

    #[test]
    fn the_place_at_the_end_of_a_query_is_found() {
        let value = |field, value| Place::Value { field, value };
        for (text, place) in [
            ("", Place::Name("")),
            ("sta", Place::Name("sta")),
            ("state=re", value("state", "re")),
            ("state=retry,ar", value("state", "ar")),
            ("state=retry ", Place::Name("")),
            ("(not age>=1", value("age", "1")),
            (r#"error~"time out"#, value("error", "\"time out")),
            (r#"error~"a b" ty"#, Place::Name("ty")),
            (r#"error~"a\" b" ty"#, Place::Name("ty")),
            ("payload.a.b=", value("payload.a.b", "")),
            ("=x", Place::Unknown),
            ("\"abc", Place::Unknown),
        ] {
            assert_eq!(Place::at_end(text), place, "{text}");
        }
    }

    #[test]
    fn fields_operators_and_values_are_suggested() {
        assert_eq!(texts(&names("ret", false)), ["retried>=", "retention>"]);
        assert_eq!(texts(&names("state", false)), ["state=", "state!="]);
        assert_eq!(texts(&names("o", true)), ["orphaned=", "or "]);
        assert_eq!(texts(&values("state", "ar", Vec::new())), ["archived "]);
        let types = ["mail:send".to_owned(), "odd \"type\"".to_owned()];
        assert_eq!(
            texts(&values("type", "", types.to_vec())),
            ["mail:send ", r#""odd \"type\"" "#]
        );
        assert!(names("nothing", false).is_empty());
    }

    #[test]
    fn what_is_suggested_is_understood() {
        for (name, kind, operator, _) in FIELDS {
            let name = match name.strip_suffix('.') {
                Some(name) => format!("{name}.x"),
                None => name.to_owned(),
            };
            let operator = if operator.is_empty() { "=" } else { operator };
            let value = kind.values().first().copied().unwrap_or("x");
            let query = format!("{name}{operator}{value}");
            asynq::query::Query::parse(&query).unwrap();
        }
        for tab in Tab::ALL.into_iter().filter(|tab| *tab != Tab::All) {
            assert!(Kind::State.values().contains(&tab.as_str()));
        }
    }
}
