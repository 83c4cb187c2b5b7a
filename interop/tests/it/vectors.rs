//! Vectors: our client writes what the Go client writes, to the byte.

use asynq_core::raw::{RawState, RawValue};
use asynq_interop::{DumpedValue, GoTask, VECTORS, dump};
use asynq_testing::RedisServer;
use bytes::Bytes;
use serde::Deserialize;

use crate::{
    same::{Database, Difference, Known, assert_same},
    sides::{Producer, Refusal, Side},
};

/// Tasks that Go accepts and our types or our client refuse, each with its reason.
const REFUSED_BY_US: &[(&str, &str)] = &[
    ("max-retry-negative", "max retry of -3 cannot be expressed"),
    ("timeout-sub-second", "timeout of 500ms is below the limit of 1s"),
    ("timeout-negative", "timeout of -5000 cannot be expressed"),
    (
        "deadline-zero",
        "deadline is outside 1970-01-01T00:00:01Z to 9999-12-31T23:59:59Z",
    ),
    ("retention-negative", "retention of -2000 cannot be expressed"),
    ("group-scheduled", "group and process at cannot be combined"),
    ("everything", "group and process at cannot be combined"),
];

const KNOWN: &Known = &[
    (
        "two-headers",
        Difference::Encoding,
        "Go writes several headers in random order",
    ),
    (
        "empty-header",
        Difference::Encoding,
        "Go writes the name and the value of a header even if they are empty",
    ),
    (
        "group-unique",
        Difference::OursAlone("unique_key"),
        "Go does not note the lock of a grouped task here, and leaks it when the task is deleted",
    ),
];

#[derive(Deserialize)]
struct Vector {
    vector: String,
    #[serde(flatten)]
    task: serde_json::Map<String, serde_json::Value>,
}

/// Returns what the two might see differently: which names are blank.
fn blank_or_not() -> impl Iterator<Item = (String, GoTask)> {
    let names = [
        "", "\n", "\u{a0}", "\u{85}", "\u{2003}", "\u{3000}", "\u{200b}", "\u{feff}", " a ", "\0",
    ];
    names.into_iter().flat_map(|name| {
        let id = format!("{name:?}");
        [
            (format!("type {name:?}"), GoTask::new(name).id(&format!("type {id}"))),
            (
                format!("queue {name:?}"),
                GoTask::new("t").queue(name).id(&format!("queue {id}")),
            ),
            (
                format!("group {name:?}"),
                GoTask::new("t").group(name).id(&format!("group {id}")),
            ),
            (format!("id {name:?}"), GoTask::new("t").id(name)),
        ]
    })
}

fn vectors() -> Vec<(String, GoTask)> {
    let lines = VECTORS.lines().filter(|line| !line.is_empty());
    let vectors = lines.map(|line| {
        let Vector { vector, task } = serde_json::from_str(line).unwrap();
        (vector, serde_json::from_value(task.into()).unwrap())
    });
    vectors.collect()
}

#[tokio::test]
async fn our_client_writes_what_gos_client_writes() {
    let (ours, gos) = (RedisServer::start().await, RedisServer::start().await);
    let mut our_client = Producer::start(Side::Rust, &ours).await;
    let mut go_client = Producer::start(Side::Go, &gos).await;
    let mut refused_by_us = Vec::new();
    let mut written = 0;
    for (name, task) in vectors().into_iter().chain(blank_or_not()) {
        let by_us = our_client.try_enqueue(&task).await;
        if let Some((_, reason)) = REFUSED_BY_US.iter().find(|(refused, _)| *refused == name) {
            assert_eq!(by_us, Err(Refusal::Other((*reason).to_owned())), "{name}");
            refused_by_us.push(name);
            continue;
        }
        let by_go = go_client.try_enqueue(&task).await;
        match (&by_us, &by_go) {
            // The words for what makes no sense are our own.
            (Err(Refusal::Other(_)), Err(Refusal::Other(_))) => {}
            _ => assert_eq!(by_us, by_go, "{name}"),
        }
        written += usize::from(by_us.is_ok());
    }
    let expected: Vec<_> = REFUSED_BY_US.iter().map(|(name, _)| *name).collect();
    assert_eq!(refused_by_us, expected);

    let (ours, gos) = (Database::of(&ours).await, Database::of(&gos).await);
    assert_eq!(ours.tasks(), written);
    assert_same(&ours, &gos, KNOWN);
}

/// The two ways in which these tests look at raw keys see the same.
#[tokio::test]
async fn both_readers_of_raw_keys_agree() {
    let redis = RedisServer::start().await;
    let mut client = Producer::start(Side::Go, &redis).await;
    for (_, task) in vectors() {
        let _ = client.try_enqueue(&task).await;
    }
    let dumped = dump(&redis.address())
        .await
        .into_iter()
        .map(|entry| (entry.key, raw(entry.value)));
    let raw = redis.client().await.raw_state().await;
    asynq_testing::view::assert_same(&dumped.collect::<RawState>(), &raw);
}

fn raw(value: DumpedValue) -> RawValue {
    match value {
        DumpedValue::String(bytes) => RawValue::String(bytes.into()),
        DumpedValue::List(items) => RawValue::List(items.into_iter().map(Bytes::from).collect()),
        DumpedValue::Set(members) => RawValue::Set(members.into_iter().map(Bytes::from).collect()),
        DumpedValue::ZSet(entries) => RawValue::ZSet(
            entries
                .into_iter()
                .map(|entry| (entry.member.into(), entry.score as i64))
                .collect(),
        ),
        DumpedValue::Hash(fields) => {
            RawValue::Hash(fields.into_iter().map(|(name, bytes)| (name, bytes.into())).collect())
        }
    }
}
