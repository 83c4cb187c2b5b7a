//! Reading a [`RawState`] in few words.

use std::collections::BTreeMap;

use asynq_core::{
    QueueName, TaskMessage, keys, message,
    names::TaskId,
    raw::{RawState, RawValue},
};
use bytes::Bytes;

/// The keys of one queue in a [`RawState`].
#[derive(Clone, Copy, Debug)]
pub struct QueueView<'s> {
    state: &'s RawState,
    queue: &'s QueueName,
}

impl<'s> QueueView<'s> {
    /// The keys of this queue.
    #[must_use]
    pub fn new(state: &'s RawState, queue: &'s QueueName) -> Self {
        Self { state, queue }
    }

    /// The value of `asynq:{Q}:<suffix>`.
    #[must_use]
    pub fn get(&self, suffix: &str) -> Option<&'s RawValue> {
        self.state.get(&keys::of_queue(self.queue, suffix))
    }

    /// The suffixes of all keys of the queue, sorted.
    #[must_use]
    pub fn suffixes(&self) -> Vec<&'s str> {
        let prefix = keys::queue_prefix(self.queue);
        self.state
            .keys()
            .filter_map(|key| key.strip_prefix(prefix.as_str()))
            .collect()
    }

    /// A list, head first; empty if there is none.
    ///
    /// # Panics
    /// If the key holds another type.
    #[must_use]
    pub fn list(&self, suffix: &str) -> Vec<String> {
        match self.get(suffix) {
            None => Vec::new(),
            Some(RawValue::List(items)) => items.iter().map(text).collect(),
            Some(other) => panic!("{suffix} is not a list: {other:?}"),
        }
    }

    /// A sorted set by score, then member; empty if there is none.
    ///
    /// # Panics
    /// If the key holds another type.
    #[must_use]
    pub fn zset(&self, suffix: &str) -> Vec<(String, i64)> {
        match self.get(suffix) {
            None => Vec::new(),
            Some(RawValue::ZSet(entries)) => entries.iter().map(|(member, score)| (text(member), *score)).collect(),
            Some(other) => panic!("{suffix} is not a sorted set: {other:?}"),
        }
    }

    /// A set, sorted; empty if there is none.
    ///
    /// # Panics
    /// If the key holds another type.
    #[must_use]
    pub fn set(&self, suffix: &str) -> Vec<String> {
        match self.get(suffix) {
            None => Vec::new(),
            Some(RawValue::Set(members)) => members.iter().map(text).collect(),
            Some(other) => panic!("{suffix} is not a set: {other:?}"),
        }
    }

    /// A string.
    ///
    /// # Panics
    /// If the key holds another type.
    #[must_use]
    pub fn string(&self, suffix: &str) -> Option<String> {
        match self.get(suffix) {
            None => None,
            Some(RawValue::String(bytes)) => Some(text(bytes)),
            Some(other) => panic!("{suffix} is not a string: {other:?}"),
        }
    }

    /// A task hash.
    #[must_use]
    pub fn task(&self, id: &str) -> Option<TaskView<'s>> {
        match self.get(&format!("t:{id}")) {
            Some(RawValue::Hash(fields)) => Some(TaskView {
                fields,
                queue: self.queue.clone(),
                id: TaskId::from_storage(id),
            }),
            _ => None,
        }
    }
}

/// A task hash.
#[derive(Clone, Debug)]
pub struct TaskView<'s> {
    fields: &'s BTreeMap<String, Bytes>,
    queue: QueueName,
    id: TaskId,
}

impl<'s> TaskView<'s> {
    /// The names of its fields, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&'s str> {
        self.fields.keys().map(String::as_str).collect()
    }

    /// A field as it is.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Bytes> {
        self.fields.get(name).cloned()
    }

    /// A field as text.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        self.fields.get(name).map(text)
    }

    /// The state; empty if there is none.
    #[must_use]
    pub fn state(&self) -> String {
        self.field(keys::field::STATE).unwrap_or_default()
    }

    /// The message.
    ///
    /// # Panics
    /// If there is none, it cannot be decoded, or it names another task.
    #[must_use]
    pub fn message(&self) -> TaskMessage {
        let bytes = self
            .bytes(keys::field::MSG)
            .unwrap_or_else(|| panic!("task {} has no message", self.id));
        let read = message::decode_for(bytes, &self.queue, &self.id);
        read.unwrap_or_else(|kind| panic!("task {}: {kind}", self.id))
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns what differs between two states, a line for each key; empty if nothing does.
#[must_use]
pub fn diff(left: &RawState, right: &RawState) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let differing = keys.into_iter().filter(|key| left.get(*key) != right.get(*key));
    differing
        .map(|key| {
            format!(
                "{key}\n   left: {}\n  right: {}",
                show(left.get(key)),
                show(right.get(key))
            )
        })
        .collect()
}

fn show(value: Option<&RawValue>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| format!("{value:?}"))
}

/// Checks that two states are the same.
///
/// # Panics
/// If they differ; the message says where.
#[track_caller]
pub fn assert_same(left: &RawState, right: &RawState) {
    let lines = diff(left, right);
    assert!(lines.is_empty(), "the states differ:\n{}", lines.join("\n"));
}
