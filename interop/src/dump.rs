//! Every key of a database, as Go's Redis client reads it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    base64_bytes,
    process::{PATIENCE, Process, parse},
};

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct DumpedKey {
    /// Its name.
    pub key: String,
    /// Time to live, in milliseconds; `None`: for ever.
    pub ttl_ms: Option<i64>,
    /// The value.
    pub value: DumpedValue,
}

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum DumpedValue {
    /// A string.
    String(Vec<u8>),
    /// A list, head first.
    List(Vec<Vec<u8>>),
    /// A set, sorted.
    Set(Vec<Vec<u8>>),
    /// A sorted set, by score.
    ZSet(Vec<ScoredMember>),
    /// A hash.
    Hash(BTreeMap<String, Vec<u8>>),
}

/// A member of a sorted set.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredMember {
    /// The member.
    pub member: Vec<u8>,
    /// Its score.
    pub score: f64,
}

#[derive(Deserialize)]
struct Line {
    key: String,
    r#type: String,
    ttl_ms: i64,
    value: Value,
}

impl From<Line> for DumpedKey {
    fn from(line: Line) -> Self {
        let Line {
            key,
            r#type,
            ttl_ms,
            value,
        } = line;
        let list = || array(&value).iter().map(bytes).collect();
        let value = match r#type.as_str() {
            "string" => DumpedValue::String(bytes(&value)),
            "list" => DumpedValue::List(list()),
            "set" => DumpedValue::Set(list()),
            "zset" => DumpedValue::ZSet(array(&value).iter().map(scored).collect()),
            "hash" => DumpedValue::Hash(fields(&value)),
            other => panic!("{key} is of the type {other}"),
        };
        Self {
            key,
            ttl_ms: (ttl_ms >= 0).then_some(ttl_ms),
            value,
        }
    }
}

fn array(value: &Value) -> &[Value] {
    value
        .as_array()
        .map_or_else(|| panic!("expected an array, got {value}"), Vec::as_slice)
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_else(|| panic!("expected base64, got {value}"));
    base64_bytes::decode(text).unwrap_or_else(|error| panic!("expected base64, got {text:?}: {error}"))
}

fn scored(value: &Value) -> ScoredMember {
    let score = value["score"].as_f64();
    ScoredMember {
        member: bytes(&value["member"]),
        score: score.unwrap_or_else(|| panic!("expected a score in {value}")),
    }
}

fn fields(value: &Value) -> BTreeMap<String, Vec<u8>> {
    let object = value
        .as_object()
        .unwrap_or_else(|| panic!("expected an object, got {value}"));
    object
        .iter()
        .map(|(field, value)| (field.clone(), bytes(value)))
        .collect()
}

/// Reads every key of the database, sorted. Not a snapshot: for a database at rest.
///
/// # Panics
/// If the program fails.
pub async fn dump(address: &str) -> Vec<DumpedKey> {
    let lines = Process::start("dump", address, &[]).await.output(PATIENCE).await;
    lines.iter().map(|line| parse::<Line>(line).into()).collect()
}
