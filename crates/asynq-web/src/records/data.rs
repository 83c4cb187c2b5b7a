//! Bytes of an application as JSON.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use super::json;

/// Bytes of an application: their value, and how it is to be read.
///
/// In JSON it is an object with `encoding`, which is `json`, `msgpack`, `text`, `base64` or `redacted`, and `value`.
#[derive(Debug)]
pub enum Data {
    /// JSON, as it is: numbers keep all their digits.
    Json(Box<RawValue>),
    /// JSON as text, for a format that cannot hold its value.
    JsonText(String),
    /// MessagePack, as JSON.
    Msgpack(Value),
    /// Any other text.
    Text(String),
    /// Any other bytes.
    Base64(String),
    /// Hidden by the configuration.
    Redacted,
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut data = serializer.serialize_struct("Data", 2)?;
        data.serialize_field("encoding", self.encoding())?;
        match self {
            Self::Json(raw) => data.serialize_field("value", raw)?,
            Self::Msgpack(value) => data.serialize_field("value", value)?,
            Self::JsonText(text) | Self::Text(text) | Self::Base64(text) => data.serialize_field("value", text)?,
            Self::Redacted => {}
        }
        data.end()
    }
}

impl Data {
    /// The way in which the value is to be read.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::Json(_) | Self::JsonText(_) => "json",
            Self::Msgpack(_) => "msgpack",
            Self::Text(_) => "text",
            Self::Base64(_) => "base64",
            Self::Redacted => "redacted",
        }
    }

    /// Returns the value of bytes by what they are: JSON, a map or an array of MessagePack, any other text, or other bytes.
    #[must_use]
    pub fn of(bytes: &[u8], hidden: bool) -> Self {
        if hidden {
            return Self::Redacted;
        }
        if let Ok(text) = str::from_utf8(bytes) {
            return match serde_json::from_str::<Box<RawValue>>(text) {
                // In NDJSON it has one line. A text in JSON holds no line break as it is, so these stand between values.
                Ok(raw) if raw.get().contains(['\n', '\r']) => {
                    match RawValue::from_string(raw.get().replace(['\n', '\r'], " ")) {
                        Ok(raw) => Self::Json(raw),
                        Err(_) => Self::Text(text.to_owned()),
                    }
                }
                Ok(raw) => Self::Json(raw),
                Err(_) => Self::Text(text.to_owned()),
            };
        }
        match msgpack(bytes) {
            Some(value) => Self::Msgpack(value),
            None => Self::Base64(BASE64_STANDARD.encode(bytes)),
        }
    }

    /// Returns a value that usual readers cannot hold as a text: numbers would lose digits or are too large, or it is nested
    /// too deeply.
    #[must_use]
    pub(super) fn with_usual_values(self) -> Self {
        // A reader that bounds the depth, as most do, also finds it in an answer.
        let is_usual = |json: &str| {
            let nested = format!("{}{json}{}", "[".repeat(json::AROUND), "]".repeat(json::AROUND));
            serde_json::from_str::<Value>(&nested).is_ok()
        };
        match self {
            Self::Json(raw) if !json::has_usual_numbers(raw.get()) || !is_usual(raw.get()) => {
                Self::Text(raw.get().to_owned())
            }
            other => other,
        }
    }

    /// Returns the data for people, laid out on several lines; `None` if they are hidden or no text.
    #[must_use]
    pub fn pretty(&self) -> Option<String> {
        match self {
            Self::Json(raw) => Some(json::indented(raw.get())),
            Self::JsonText(text) => Some(json::indented(text)),
            Self::Msgpack(value) => serde_json::to_string_pretty(value).ok(),
            Self::Text(text) => Some(text.clone()),
            Self::Base64(_) | Self::Redacted => None,
        }
    }
}

/// Data of an application in an answer.
#[derive(Debug)]
pub enum Shown {
    /// All of it.
    Whole(Data),
    /// The beginning of data that are too long. They are not parsed.
    Beginning {
        /// `text` or `base64`.
        encoding: &'static str,
        /// The beginning.
        text: String,
        /// Number of bytes that the text stands for.
        cut: usize,
        /// Number of all bytes.
        size: usize,
    },
}

impl Shown {
    pub(super) fn beginning(bytes: &[u8], longest: usize) -> Self {
        let start = bytes.get(..longest).unwrap_or(bytes);
        let text = match str::from_utf8(start) {
            Ok(text) => Some(text),
            // A character is cut.
            Err(error) if error.error_len().is_none() => str::from_utf8(&start[..error.valid_up_to()]).ok(),
            Err(_) => None,
        };
        let (encoding, text, cut) = match text {
            Some(text) => ("text", text.to_owned(), text.len()),
            None => {
                let start = &start[..longest / 4 * 3];
                ("base64", BASE64_STANDARD.encode(start), start.len())
            }
        };
        let size = bytes.len();
        Self::Beginning {
            encoding,
            text,
            cut,
            size,
        }
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(data) => data.serialize(serializer),
            Self::Beginning {
                encoding,
                text,
                cut,
                size,
            } => {
                let beginning = serde_json::json!({"cut": format!("the first {cut} of {size} bytes"), "text": text});
                let mut data = serializer.serialize_struct("Shown", 2)?;
                data.serialize_field("encoding", encoding)?;
                data.serialize_field("beginning", &beginning)?;
                data.end()
            }
        }
    }
}

/// The form of [`Shown`] in the description of the API.
#[derive(ToSchema)]
#[schema(as = Data)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct DataSchema {
    /// The way in which the value is to be read. JSON that usual readers cannot hold is `text`.
    #[schema(value_type = Encoding)]
    encoding: Encoding,
    /// The value: any JSON for `json` and `msgpack`, a text for `text` and `base64`. Absent if it is hidden or cut.
    #[schema(value_type = Option<Value>)]
    value: Option<Value>,
    /// The beginning of data that are too long.
    #[schema(nullable = false)]
    beginning: Option<Beginning>,
}

/// The way in which data are to be read.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum Encoding {
    Json,
    Msgpack,
    Text,
    Base64,
    Redacted,
}

/// The beginning of data that are too long.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Beginning {
    /// Its part of the whole, in words.
    cut: String,
    text: String,
}

/// Reads a whole MessagePack map or array. Any single byte is a value too, so other values do not count.
fn msgpack(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, 64).ok()?;
    (rest.is_empty() && (value.is_map() || value.is_array())).then(|| as_json(&value))
}

fn as_json(value: &rmpv::Value) -> Value {
    use rmpv::Value as M;
    match value {
        M::Nil => Value::Null,
        M::Boolean(flag) => Value::Bool(*flag),
        M::Integer(number) => number
            .as_u64()
            .map(Value::from)
            .or_else(|| number.as_i64().map(Value::from))
            .unwrap_or_else(|| Value::String(number.to_string())),
        M::F32(number) => Value::from(*number),
        M::F64(number) => Value::from(*number),
        M::String(text) => Value::String(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        M::Binary(bytes) => Value::String(BASE64_STANDARD.encode(bytes)),
        M::Array(values) => values.iter().map(as_json).collect(),
        M::Map(entries) => {
            let name = |key: &M| match key {
                M::String(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
                other => as_json(other).to_string(),
            };
            entries.iter().map(|(key, value)| (name(key), as_json(value))).collect()
        }
        M::Ext(kind, bytes) => serde_json::json!({"ext": kind, "base64": BASE64_STANDARD.encode(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Redaction, *};

    fn json(bytes: &[u8]) -> String {
        serde_json::to_string(&Data::of(bytes, false)).unwrap()
    }

    #[test]
    fn data_are_shown_by_what_they_are() {
        let number = br#"{"id":12345678901234567890123,"b":1.10}"#;
        assert_eq!(
            json(number),
            r#"{"encoding":"json","value":{"id":12345678901234567890123,"b":1.10}}"#
        );
        assert_eq!(json(b"hello"), r#"{"encoding":"text","value":"hello"}"#);
        assert_eq!(json(b""), r#"{"encoding":"text","value":""}"#);
        assert_eq!(
            json(b"\x81\xa2id\xcd\x03\xea"),
            r#"{"encoding":"msgpack","value":{"id":1002}}"#
        );
        assert_eq!(json(b"\xff\x00"), r#"{"encoding":"base64","value":"/wA="}"#);
        let hidden = serde_json::to_string(&Data::of(b"secret", true)).unwrap();
        assert_eq!(hidden, r#"{"encoding":"redacted"}"#);
    }

    #[test]
    fn long_data_are_cut_and_odd_values_are_text() {
        let shown = |bytes: &[u8]| serde_json::to_value(Redaction::default().up_to(8).data("q", "t", bytes)).unwrap();
        let beginning = |encoding: &str, cut: &str, text: &str| serde_json::json!({"encoding": encoding, "beginning": {"cut": cut, "text": text}});
        assert_eq!(
            shown(br#"{"a":12}"#),
            serde_json::json!({"encoding": "json", "value": {"a": 12}})
        );
        assert_eq!(
            shown("{\"a\":\"éé\"}".as_bytes()),
            beginning("text", "the first 8 of 12 bytes", "{\"a\":\"é")
        );
        assert_eq!(
            shown("aéééé".as_bytes()),
            beginning("text", "the first 7 of 9 bytes", "aééé")
        );
        assert_eq!(
            shown(&[255; 9]),
            beginning("base64", "the first 6 of 9 bytes", "////////")
        );
        let shown = |text: String| {
            let redaction = Redaction::default().up_to(1000);
            serde_json::to_value(redaction.data("q", "t", text.as_bytes())).unwrap()["encoding"].clone()
        };
        for (text, encoding) in [
            ("1e300".to_owned(), "json"),
            ("{\"a\":1e400}".to_owned(), "text"),
            ("12345678901234567890123".to_owned(), "text"),
            ("[".repeat(60) + &"]".repeat(60), "json"),
            ("[".repeat(120) + &"]".repeat(120), "text"),
            ("[".repeat(300) + &"]".repeat(300), "text"),
        ] {
            assert_eq!(shown(text.clone()), encoding, "{text}");
        }
    }

    #[test]
    fn json_on_several_lines_becomes_one_line() {
        assert_eq!(json(b"{\n\"a\": 1\n}"), r#"{"encoding":"json","value":{ "a": 1 }}"#);
    }

    #[test]
    fn large_numbers_keep_their_digits_for_people_too() {
        let large = Data::of(br#"{"id":12345678901234567890123}"#, false);
        assert_eq!(
            large.pretty().as_deref(),
            Some("{\n  \"id\": 12345678901234567890123\n}")
        );
        let exact = json::has_usual_numbers;
        for json in [
            "[18446744073709551615,-9223372036854775808,1.10,1e5]",
            r#"{"a\\\"12345678901234567890123":"12345678901234567890123"}"#,
        ] {
            assert!(exact(json), "{json}");
        }
        for json in [
            "18446744073709551616",
            "[0.12345678901234567]",
            r#"{"\\":12345678901234567890123}"#,
        ] {
            assert!(!exact(json), "{json}");
        }
        let blank = Data::of(br#"{"a":"b c"}"#, false);
        assert_eq!(blank.pretty().as_deref(), Some("{\n  \"a\": \"b c\"\n}"));
        let small = Data::of(br#"{"id":1}"#, false);
        assert_eq!(small.pretty().as_deref(), Some("{\n  \"id\": 1\n}"));
        let ordered = Data::of(br#"{"to":"a","n":[1,{}]}"#, false);
        let text = "{\n  \"to\": \"a\",\n  \"n\": [\n    1,\n    {}\n  ]\n}";
        assert_eq!(ordered.pretty().as_deref(), Some(text));
    }
}
