//! Comparison of two databases, to the byte, but for values that depend on the moment of writing.

use std::collections::BTreeMap;

use asynq_core::{
    TaskMessage,
    keys::field,
    message::{decode, encode},
};
use asynq_interop::{DumpedKey, DumpedValue, ScoredMember, dump};
use asynq_testing::RedisServer;
use bytes::Bytes;

/// Largest difference between the times of two programs that do the same at about the same time.
const APART_SECS: i64 = 60;

/// A part of a task that may differ between us and Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// The bytes of the message, not what it says.
    Encoding,
    /// The text of its error.
    ErrorText,
    /// We write this field and Go does not.
    OursAlone(&'static str),
    /// Go leaves this field and we do not.
    GosAlone(&'static str),
}

/// Known differences by task id, and why they are.
pub(crate) type Known = [(&'static str, Difference, &'static str)];

/// A database at rest, without our own keys (`x:`), which no Go program looks at, and without those of servers,
/// which have names of their own.
pub(crate) struct Database(BTreeMap<String, DumpedKey>);

impl Database {
    pub(crate) async fn of(redis: &RedisServer) -> Self {
        let left_out = |key: &str| {
            key.contains("}:x:")
                || ["asynq:x:", "asynq:servers", "asynq:workers"]
                    .iter()
                    .any(|prefix| key.starts_with(prefix))
        };
        let keys = dump(&redis.address()).await.into_iter();
        Self(
            keys.filter(|entry| !left_out(&entry.key))
                .map(|entry| (entry.key.clone(), entry))
                .collect(),
        )
    }

    /// Leaves out the keys with this beginning, and returns how many there were.
    pub(crate) fn forget(&mut self, beginning: &str) -> usize {
        let before = self.0.len();
        self.0.retain(|key, _| !key.starts_with(beginning));
        before - self.0.len()
    }

    /// Returns how many tasks there are.
    pub(crate) fn tasks(&self) -> usize {
        let hashes = self
            .0
            .values()
            .filter(|entry| matches!(entry.value, DumpedValue::Hash(_)));
        hashes.count()
    }
}

/// Compares what we wrote with what Go wrote.
///
/// # Panics
/// If they differ in anything that is not known.
#[track_caller]
pub(crate) fn assert_same(ours: &Database, gos: &Database, known: &Known) {
    let missing = |from: &Database, of: &Database| {
        let names = of.0.keys().filter(|key| !from.0.contains_key(*key));
        names.cloned().collect::<Vec<_>>()
    };
    let apart = (missing(gos, ours), missing(ours, gos));
    assert_eq!(
        apart,
        Default::default(),
        "keys that only we (left) and only Go (right) have"
    );
    for (key, go) in &gos.0 {
        let ours = &ours.0[key];
        assert_same_time(
            key,
            "TTL",
            ours.ttl_ms.map(|ms| ms / 1000),
            go.ttl_ms.map(|ms| ms / 1000),
        );
        match (&ours.value, &go.value) {
            (DumpedValue::Hash(ours), DumpedValue::Hash(go)) => Comparison { key, known }.hashes(ours, go),
            (DumpedValue::ZSet(ours), DumpedValue::ZSet(go)) => assert_same_members(key, ours, go),
            (ours, go) => assert_eq!(ours, go, "{key}"),
        }
    }
}

/// Times are both there or both not, and about the same.
#[track_caller]
fn assert_same_time(key: &str, what: &str, ours: Option<i64>, go: Option<i64>) {
    let same = match (ours, go) {
        (Some(ours), Some(go)) => (ours - go).abs() <= APART_SECS,
        (ours, go) => ours == go,
    };
    assert!(same, "{key}: {what} is {ours:?} with us and {go:?} with Go");
}

/// Scores are times.
fn assert_same_members(key: &str, ours: &[ScoredMember], go: &[ScoredMember]) {
    let by_member = |entries: &[ScoredMember]| -> BTreeMap<Vec<u8>, i64> {
        let whole = |score: f64| {
            assert_eq!(score.fract(), 0.0, "{key} has scores that are no whole numbers");
            score as i64
        };
        entries
            .iter()
            .map(|entry| (entry.member.clone(), whole(entry.score)))
            .collect()
    };
    let (ours, go) = (by_member(ours), by_member(go));
    assert_eq!(ours.keys().collect::<Vec<_>>(), go.keys().collect::<Vec<_>>(), "{key}");
    for (member, score) in &go {
        assert_same_time(key, "a score", Some(ours[member]), Some(*score));
    }
}

struct Comparison<'c> {
    key: &'c str,
    known: &'c Known,
}

impl Comparison<'_> {
    fn known(&self) -> impl Iterator<Item = Difference> {
        let of_key = self.key.split_once("}:t:").map(|(_, id)| id);
        let known = self.known.iter().filter(move |(id, ..)| Some(*id) == of_key);
        known.map(|(_, difference, _)| *difference)
    }

    fn knows(&self, difference: Difference) -> bool {
        self.known().any(|known| known == difference)
    }

    fn hashes(&self, ours: &BTreeMap<String, Vec<u8>>, go: &BTreeMap<String, Vec<u8>>) {
        let key = self.key;
        // Either may have been enqueued by us.
        let gos_own = |fields: &BTreeMap<String, Vec<u8>>| {
            let mut fields = fields.clone();
            fields.retain(|name, _| !name.starts_with("x:"));
            fields
        };
        let (mut ours, mut go) = (gos_own(ours), gos_own(go));
        for difference in self.known() {
            let (fields, name) = match difference {
                Difference::OursAlone(name) => (&mut ours, name),
                Difference::GosAlone(name) => (&mut go, name),
                _ => continue,
            };
            assert!(fields.remove(name).is_some(), "{key}: {name}");
        }
        let names = |fields: &BTreeMap<String, Vec<u8>>| fields.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&go), "our (left) and Go's (right) fields of {key}");
        for (name, go) in &go {
            let ours = &ours[name];
            match name.as_str() {
                field::PENDING_SINCE => {
                    let seconds = |text: &[u8]| String::from_utf8_lossy(text).parse::<i64>().unwrap() / 1_000_000_000;
                    assert_same_time(key, name, Some(seconds(ours)), Some(seconds(go)));
                }
                field::MSG => self.messages(ours, go),
                _ => assert_eq!(ours, go, "{key}: {name}"),
            }
        }
    }

    fn messages(&self, ours: &[u8], go: &[u8]) {
        let key = self.key;
        let (our_bytes, go_bytes) = (Bytes::copy_from_slice(ours), Bytes::copy_from_slice(go));
        let (ours, go) = (decode(our_bytes.clone()).unwrap(), decode(go_bytes.clone()).unwrap());
        let time = |at: i64| (at != 0).then_some(at);
        assert_same_time(
            key,
            "last_failed_at",
            time(ours.last_failed_at),
            time(go.last_failed_at),
        );
        assert_same_time(key, "completed_at", time(ours.completed_at), time(go.completed_at));
        let timed = TaskMessage {
            last_failed_at: ours.last_failed_at,
            completed_at: ours.completed_at,
            ..go.clone()
        };
        let told = if self.knows(Difference::ErrorText) {
            assert_eq!(ours.error_msg.is_empty(), go.error_msg.is_empty(), "{key}");
            TaskMessage {
                error_msg: ours.error_msg.clone(),
                ..timed
            }
        } else {
            timed
        };
        assert_eq!(ours, told, "the message in {key}");
        if !self.knows(Difference::Encoding) {
            // Both write it in the one way in which our encoder does.
            assert_eq!(encode(&ours), our_bytes, "our bytes in {key}");
            assert_eq!(encode(&go), go_bytes, "Go's bytes in {key}");
        }
    }
}
