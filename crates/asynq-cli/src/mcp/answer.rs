//! Answers of tools: JSON of a bounded size, and errors.

use std::io;

use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::{CliError, Result, Status};

/// Largest answer, in bytes of JSON. It travels twice, as a value and as text with more escapes: at most 256 KiB.
const MAX_ANSWER: usize = 80 * 1024;
/// Longest payload of a task that is shown alone, in bytes.
pub(super) const LONG: usize = 64 * 1024;
/// Longest payload of a task in a list, in bytes.
pub(super) const SHORT: usize = 4096;
/// Longest texts and payloads of an answer, in bytes. An answer that is too large gets shorter ones.
const LONGEST: [usize; 7] = [LONG, LONG / 2, LONG / 4, SHORT, 1024, 256, 64];
/// Bytes that a text at most has more than its beginning, once it is cut.
const NOTE: usize = 48;

/// A value as JSON.
///
/// # Errors
/// [`Status::Failure`] if it has no JSON.
pub(super) fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| CliError::failure(format!("cannot write the answer: {error}")))
}

/// Returns the answer with a value, cut where it is too long.
pub(super) fn of(value: Value) -> CallToolResult {
    CallToolResult::structured(bounded(value))
}

/// Returns an error that the model sees.
pub(super) fn failed(error: &CliError) -> CallToolResult {
    let kind = match error.status {
        Status::Failure => "failed",
        Status::Usage => "wrong_arguments",
        Status::NotFound => "not_found",
        Status::Refused => "refused",
        Status::Connection => "no_connection",
    };
    let hint = match error.status {
        Status::NotFound => Some("`list_queues` lists the queues, `list_tasks` and `search_tasks` list tasks."),
        Status::Connection if error.hint.is_none() => Some("Redis does not answer. A later call tries again."),
        _ => error.hint.as_deref(),
    };
    let mut answer = CallToolResult::structured_error(json!({"error": error.message, "kind": kind, "hint": hint}));
    let text = match hint {
        Some(hint) => format!("{}\n{hint}", error.message),
        None => error.message.clone(),
    };
    answer.content = vec![ContentBlock::text(text)];
    answer
}

/// Cuts a value that is too large: first long texts and payloads, then the ends of its lists.
fn bounded(mut value: Value) -> Value {
    for longest in LONGEST {
        if size_once_short(&value, longest) <= MAX_ANSWER {
            shorten(&mut value, longest);
            return value;
        }
    }
    shorten(&mut value, LONGEST[LONGEST.len() - 1]);
    shorten_lists(&mut value);
    value
}

/// Counts bytes, and fails after the most.
struct Count {
    bytes: usize,
    most: usize,
}

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        match self.bytes > self.most {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes of JSON; of a larger one it only says that it is larger than `most`.
fn size(value: &(impl Serialize + ?Sized), most: usize) -> usize {
    let mut count = Count { bytes: 0, most };
    // It fails only where it stops to count.
    let _ = serde_json::to_writer(&mut count, value);
    count.bytes
}

/// The size that a value has once it is shortened, or a little more. Of a large one it only says that it is larger than an
/// answer may be.
fn size_once_short(value: &Value, longest: usize) -> usize {
    match value {
        Value::String(text) => match beginning(text, longest) {
            Some(cut) => size(cut, MAX_ANSWER) + NOTE,
            None => size(text, MAX_ANSWER),
        },
        Value::Array(items) => sum(items.iter().map(|item| size_once_short(item, longest) + 1)),
        Value::Object(fields) => match beginning_of_data(fields, longest) {
            Some(cut) => size(&cut, MAX_ANSWER) + NOTE,
            None => sum(fields
                .iter()
                .map(|(name, field)| size(name, MAX_ANSWER) + size_once_short(field, longest) + 2)),
        },
        other => size(other, MAX_ANSWER),
    }
}

/// The sum of the sizes of parts, as far as it matters.
fn sum(sizes: impl Iterator<Item = usize>) -> usize {
    let mut sum = 2;
    for size in sizes {
        sum += size;
        if sum > MAX_ANSWER {
            break;
        }
    }
    sum
}

/// Cuts texts, and payloads as a whole.
fn shorten(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) => {
            if let Some(cut) = beginning(text, longest) {
                *text = format!("{cut}… (cut, {} bytes)", text.len());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shorten(item, longest)),
        Value::Object(fields) => {
            if let Some(cut) = beginning_of_data(fields, longest) {
                fields.remove("value");
                fields.insert("beginning".to_owned(), cut);
            } else {
                fields.values_mut().for_each(|field| shorten(field, longest));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The beginning of the payload that an object is, if it is too long. It may already be a beginning.
fn beginning_of_data(fields: &Map<String, Value>, longest: usize) -> Option<Value> {
    if fields.len() != 2 || !fields.contains_key("encoding") {
        return None;
    }
    if let Some(data) = fields.get("value") {
        let json;
        let text = match data {
            Value::String(text) => text,
            other if size(other, longest) <= longest => return None,
            other => {
                json = other.to_string();
                &json
            }
        };
        let cut = beginning(text, longest)?;
        return Some(json!({"cut": format!("the first {} of {} bytes", cut.len(), text.len()), "text": cut}));
    }
    let before = fields.get("beginning")?;
    let cut = beginning(before.get("text")?.as_str()?, longest)?;
    let (_, of) = before.get("cut")?.as_str()?.split_once(" of ")?;
    let bytes = match fields.get("encoding").and_then(Value::as_str) {
        Some("base64") => cut.len() / 4 * 3,
        _ => cut.len(),
    };
    Some(json!({"cut": format!("the first {bytes} of {of}"), "text": cut}))
}

/// The first bytes of a text that is longer.
fn beginning(text: &str, longest: usize) -> Option<&str> {
    let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end))?;
    (text.len() > longest).then(|| &text[..end])
}

/// Halves the longest list of the answer until it is small enough.
fn shorten_lists(answer: &mut Value) {
    let (mut left_out, mut least) = (0, usize::MAX);
    while size(answer, MAX_ANSWER) > MAX_ANSWER {
        let Some(fields) = answer.as_object_mut() else { break };
        let lists = fields.values_mut().filter_map(Value::as_array_mut);
        let Some(list) = lists
            .max_by_key(|list| size(list, usize::MAX))
            .filter(|list| !list.is_empty())
        else {
            break;
        };
        let kept = list.len() / 2;
        left_out += list.len() - kept;
        least = least.min(kept).max(1);
        list.truncate(kept);
    }
    if size(answer, MAX_ANSWER) > MAX_ANSWER {
        *answer = json!({"cut": "the answer is too large; ask for less"});
    } else if left_out > 0
        && let Some(fields) = answer.as_object_mut()
    {
        // It would go on behind what is left out.
        fields.remove("next_cursor");
        if let Some(is_complete) = fields.get_mut("is_complete") {
            *is_complete = false.into();
        }
        // The steps of a check have no limit.
        let instead = match fields.contains_key("next_place") {
            true => "`asynq doctor` in a shell shows all".to_owned(),
            false => format!("repeat the call with limit {least}, or ask for less"),
        };
        fields.insert(
            "cut".to_owned(),
            json!(format!(
                "{left_out} items are left out, because the answer is too large; {instead}"
            )),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_answer_is_as_it_is() {
        let value = json!({"tasks": [{"payload": {"encoding": "json", "value": {"a": [1, "é"]}}}]});
        assert_eq!(bounded(value.clone()), value);
    }

    #[test]
    fn long_texts_and_payloads_are_cut_with_a_note() {
        let long = "é".repeat(30_000);
        let cut = bounded(json!({
            "error": long,
            "payload": {"encoding": "text", "value": long},
            "result": {"encoding": "json", "value": {"a": long}},
        }));
        assert!(
            cut["error"].as_str().unwrap().ends_with("é… (cut, 60000 bytes)"),
            "{cut}"
        );
        assert_eq!(cut["payload"]["beginning"]["cut"], "the first 16384 of 60000 bytes");
        assert!(
            cut["result"]["beginning"]["text"]
                .as_str()
                .unwrap()
                .starts_with("{\"a\":\"éé"),
            "{cut}"
        );
    }

    #[test]
    fn no_answer_is_too_large() {
        let task = json!({"id": "i".repeat(500), "payload": {"encoding": "text", "value": "\u{1}\"".repeat(50_000)}});
        let size = |value: &Value| value.to_string().len();
        let cut = bounded(json!({"tasks": vec![task.clone(); 100], "looked_at": 100}));
        assert_eq!(cut["tasks"].as_array().unwrap().len(), 100);
        assert!(size(&cut) <= MAX_ANSWER);
        let more = bounded(json!({"tasks": vec![task; 1000], "next_cursor": "x", "is_complete": true}));
        assert!(size(&more) <= MAX_ANSWER + 200);
        let kept = more["tasks"].as_array().unwrap().len();
        let note = format!(
            "{} items are left out, because the answer is too large; repeat the call with limit {kept}",
            1000 - kept
        );
        assert!(more["cut"].as_str().unwrap().starts_with(&note), "{more}");
        // A cursor would go on behind what is left out.
        assert_eq!((more.get("next_cursor"), &more["is_complete"]), (None, &false.into()));
        let fields: serde_json::Map<_, _> = (0..50_000).map(|n| (format!("field{n}"), json!(n))).collect();
        assert!(size(&bounded(json!({"headers": fields}))) < 100);
        // Twice, with escapes, and with what the protocol adds.
        let worst = of(json!({"t": vec!["\"\\".repeat(100); 1000]}));
        assert!(serde_json::to_string(&worst).unwrap().len() < 256 * 1024);
    }

    #[test]
    fn a_beginning_is_cut_again() {
        let task = |encoding: &str| {
            let beginning = json!({"cut": "the first 4000 of 9000 bytes", "text": "x".repeat(4000)});
            json!({"encoding": encoding, "beginning": beginning})
        };
        let cut = bounded(json!({"tasks": vec![task("text"); 50], "results": vec![task("base64"); 20]}));
        assert_eq!(cut["tasks"][0]["beginning"]["cut"], "the first 1024 of 9000 bytes");
        assert_eq!(cut["results"][0]["beginning"]["cut"], "the first 768 of 9000 bytes");
        assert_eq!(cut["tasks"][49]["beginning"]["text"], "x".repeat(1024));
    }

    #[test]
    fn an_error_has_its_hint() {
        let error = failed(&CliError::usage("wrong").hint("Do better."));
        assert_eq!(error.is_error, Some(true));
        assert_eq!(error.content[0].as_text().unwrap().text, "wrong\nDo better.");
        assert_eq!(error.structured_content.unwrap()["kind"], "wrong_arguments");
    }
}
