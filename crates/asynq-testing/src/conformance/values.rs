//! The words that cases are written in.

use std::sync::Arc;

use asynq_core::{
    broker::{LeasedTask, Outcome, Settlement},
    raw::{RawState, RawValue},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::Q;
use crate::request::RequestBuilder;

/// Success; kept if the task has a retention.
pub(super) const DONE: Outcome = Outcome::Done { retain: true };

/// A counted failure with the text `boom`.
pub(super) fn retry(at: DateTime<Utc>) -> Outcome {
    Outcome::Retry {
        at,
        error: "boom".into(),
        is_failure: true,
    }
}

/// A failure for good with the text `boom`.
pub(super) fn archive() -> Outcome {
    Outcome::Archive { error: "boom".into() }
}

/// One of each outcome.
pub(super) fn outcomes(at: DateTime<Utc>) -> [Outcome; 5] {
    [
        DONE,
        Outcome::Done { retain: false },
        retry(at),
        archive(),
        Outcome::Requeue,
    ]
}

/// An outcome for a task as it was taken.
pub(super) fn settlement(task: &LeasedTask, outcome: Outcome) -> Settlement {
    Settlement {
        lease: task.lease.clone(),
        message: Arc::clone(&task.message),
        outcome,
        run: None,
    }
}

/// The ids of tasks.
pub(super) fn ids(tasks: &[LeasedTask]) -> Vec<&str> {
    tasks.iter().map(|task| task.message.id.as_str()).collect()
}

/// The bytes of a text.
pub(super) fn bytes(text: impl AsRef<str>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref().as_bytes())
}

/// The key of [`Q`] with this suffix.
pub(super) fn key(suffix: &str) -> String {
    format!("asynq:{{{Q}}}:{suffix}")
}

/// A list value.
pub(super) fn list(items: &[&str]) -> RawValue {
    RawValue::List(items.iter().map(bytes).collect())
}

/// A sorted-set value.
pub(super) fn zset(entries: &[(&str, i64)]) -> RawValue {
    let mut entries: Vec<_> = entries.iter().map(|(member, score)| (bytes(member), *score)).collect();
    entries.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    RawValue::ZSet(entries)
}

/// A string value.
pub(super) fn string(text: &str) -> RawValue {
    RawValue::String(bytes(text))
}

/// A hash value.
pub(super) fn hash<const N: usize>(fields: [(&str, Bytes); N]) -> RawValue {
    RawValue::Hash(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// A task hash as Go writes one in this state.
pub(super) fn go_task(request: RequestBuilder, state: &str) -> RawValue {
    hash([("msg", request.encoded()), ("state", bytes(state))])
}

/// Changes one field of a task hash of [`Q`]; `None` removes it.
///
/// # Panics
/// If there is no such hash.
pub(super) fn set_field(state: &mut RawState, id: &str, field: &str, value: Option<Bytes>) {
    let Some(RawValue::Hash(fields)) = state.get_mut(&key(&format!("t:{id}"))) else {
        panic!("no task {id}")
    };
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
}

/// Changes a score in a sorted set of [`Q`].
///
/// # Panics
/// If there is no such set or member.
pub(super) fn set_score(state: &mut RawState, suffix: &str, member: &str, score: i64) {
    let Some(RawValue::ZSet(entries)) = state.get_mut(&key(suffix)) else {
        panic!("no set {suffix}")
    };
    let Some(entry) = entries.iter_mut().find(|(of, _)| of == member) else {
        panic!("no member {member}")
    };
    entry.1 = score;
    entries.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
}
