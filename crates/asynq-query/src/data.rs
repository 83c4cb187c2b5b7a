//! Values inside of payloads and results: JSON and MessagePack.

use std::{borrow::Cow, collections::HashMap};

use serde_json::value::RawValue;

use crate::{MAX_DATA, grammar::Step};

/// A value that a path leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// Null, or nothing at all.
    Null,
    Bool(bool),
    /// A number, as its text: none is rounded.
    Number(String),
    Text(String),
    /// A list, a map or binary data.
    Other,
}

/// Looks a value up. `None` if the data are neither JSON nor MessagePack, or larger than [`MAX_DATA`].
pub(crate) fn look_up(data: &[u8], path: &[Step]) -> Option<Found> {
    if data.is_empty() || data.len() > MAX_DATA {
        return None;
    }
    in_json(data, path).or_else(|| in_msgpack(data, path))
}

fn in_json(data: &[u8], path: &[Step]) -> Option<Found> {
    let mut at: &RawValue = serde_json::from_slice(data).ok()?;
    for step in path {
        let next = match step {
            Step::Key(key) => match serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(at.get()) {
                Ok(map) => map.get(key.as_str()).copied(),
                Err(_) => None,
            },
            Step::Index(index) => match serde_json::from_str::<Vec<&RawValue>>(at.get()) {
                Ok(list) => list.get(*index).copied(),
                Err(_) => None,
            },
        };
        let Some(next) = next else {
            return Some(Found::Null);
        };
        at = next;
    }
    let text = at.get();
    Some(match text.as_bytes().first() {
        Some(b'"') => Found::Text(serde_json::from_str(text).ok()?),
        Some(b't' | b'f') => Found::Bool(text == "true"),
        Some(b'n') => Found::Null,
        Some(b'{' | b'[') => Found::Other,
        _ => Found::Number(text.to_owned()),
    })
}

fn in_msgpack(mut data: &[u8], path: &[Step]) -> Option<Found> {
    use rmpv::ValueRef;

    let whole = rmpv::decode::read_value_ref(&mut data).ok()?;
    // A single byte is a number in MessagePack, and so is the first letter of any text.
    if !data.is_empty() || !matches!(whole, ValueRef::Map(_) | ValueRef::Array(_)) {
        return None;
    }
    let mut at = &whole;
    for step in path {
        let next = match (step, at) {
            (Step::Key(key), ValueRef::Map(map)) => {
                let named = |name: &ValueRef<'_>| matches!(name, ValueRef::String(text) if text.as_str() == Some(key));
                map.iter().rev().find(|(name, _)| named(name)).map(|(_, value)| value)
            }
            (Step::Index(index), ValueRef::Array(list)) => list.get(*index),
            _ => None,
        };
        let Some(next) = next else {
            return Some(Found::Null);
        };
        at = next;
    }
    Some(match at {
        ValueRef::Nil => Found::Null,
        ValueRef::Boolean(value) => Found::Bool(*value),
        ValueRef::Integer(number) => Found::Number(number.to_string()),
        ValueRef::F32(number) => Found::Number(number.to_string()),
        ValueRef::F64(number) => Found::Number(number.to_string()),
        ValueRef::String(text) => text.as_str().map_or(Found::Other, |text| Found::Text(text.to_owned())),
        _ => Found::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    #[test]
    fn values_are_found_in_json() {
        let data = br#" {"user":{"id":90071992547409931,"name":"A\u00e9"},"items":[{"ok":true},null],"a":1,"a":2} "#;
        let found = |path: &[Step]| look_up(data, path);
        assert_eq!(
            found(&[key("user"), key("id")]),
            Some(Found::Number("90071992547409931".into()))
        );
        assert_eq!(found(&[key("user"), key("name")]), Some(Found::Text("Aé".into())));
        assert_eq!(
            found(&[key("items"), Step::Index(0), key("ok")]),
            Some(Found::Bool(true))
        );
        assert_eq!(found(&[key("items"), Step::Index(1)]), Some(Found::Null));
        assert_eq!(found(&[key("items"), Step::Index(2)]), Some(Found::Null));
        assert_eq!(
            found(&[key("items"), key("x")]),
            Some(Found::Null),
            "a list has no names"
        );
        assert_eq!(found(&[key("items")]), Some(Found::Other));
        assert_eq!(
            found(&[key("a")]),
            Some(Found::Number("2".into())),
            "the last of two counts"
        );
        assert_eq!(look_up(b"17", &[]), Some(Found::Number("17".into())));
    }

    #[test]
    fn values_are_found_in_messagepack() {
        let map = rmpv::Value::Map(vec![
            ("id".into(), u64::MAX.into()),
            ("list".into(), vec![rmpv::Value::from("x"), rmpv::Value::Nil].into()),
            ("raw".into(), rmpv::Value::Binary(vec![1])),
            ("half".into(), 0.5.into()),
        ]);
        let mut data = Vec::new();
        rmpv::encode::write_value(&mut data, &map).unwrap();
        let found = |path: &[Step]| look_up(&data, path);
        assert_eq!(found(&[key("id")]), Some(Found::Number(u64::MAX.to_string())));
        assert_eq!(found(&[key("list"), Step::Index(0)]), Some(Found::Text("x".into())));
        assert_eq!(found(&[key("list"), Step::Index(7)]), Some(Found::Null));
        assert_eq!(found(&[key("raw")]), Some(Found::Other));
        assert_eq!(found(&[key("half")]), Some(Found::Number("0.5".into())));
        data.push(0);
        assert_eq!(look_up(&data, &[key("id")]), None, "more behind it");
    }

    #[test]
    fn other_data_are_not_read() {
        for data in [&b""[..], b"hello", b"{\"a\":", b"\xff\xfe", &vec![b' '; MAX_DATA + 1]] {
            assert_eq!(look_up(data, &[key("a")]), None);
        }
        // Deep nesting is refused by both readers, and does not exhaust the stack.
        let deep = "[".repeat(1_000_000);
        assert_eq!(look_up(deep.as_bytes(), &[Step::Index(0)]), None);
        assert_eq!(look_up(&vec![0x91; 1_000_000], &[Step::Index(0)]), None);
    }
}
