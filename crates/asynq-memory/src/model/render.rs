//! The keys and values that Redis would hold.

use std::collections::BTreeMap;

use asynq_core::{
    keys::{self, field, own},
    names::TaskId,
    raw::{RawState, RawValue},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{Data, Published, Quarantined, Queue, StateField, TICK_PREFIX, TaskHash, ZSet};

impl Data {
    /// Returns all keys as Redis would show them at this time. Empty containers do not exist.
    pub(crate) fn raw(&self, now: DateTime<Utc>) -> RawState {
        let mut state = RawState::new();
        let names = self.names.iter().map(|name| text(name.as_str())).collect();
        put(&mut state, keys::QUEUES.to_owned(), RawValue::Set(names));
        for queue in self.queues.values() {
            queue.render(now, &mut state);
        }
        for (index, published) in [
            (keys::SERVERS, &self.servers),
            (keys::WORKERS, &self.workers),
            (keys::SCHEDULERS, &self.schedulers),
            (own::TREES, &self.trees),
        ] {
            published.render(index, now, &mut state);
        }
        for (id, events) in &self.history {
            put(&mut state, keys::scheduler_history(id), zset(events, Clone::clone));
        }
        for (key, value) in &self.misfits {
            put(&mut state, key.clone(), value.clone());
        }
        state
    }
}

impl Published {
    fn render(&self, index: &str, now: DateTime<Utc>, state: &mut RawState) {
        put(state, index.to_owned(), zset(&self.index, |key| text(key)));
        for (key, value) in self.values(now) {
            put(state, key.clone(), value.clone());
        }
    }
}

impl Queue {
    /// Adds the keys of this queue.
    pub(crate) fn render(&self, now: DateTime<Utc>, state: &mut RawState) {
        let mut add = |suffix: &str, value| put(state, self.key(suffix), value);
        for (id, task) in &self.tasks {
            add(&format!("t:{id}"), RawValue::Hash(task.raw()));
        }
        add("pending", RawValue::List(self.pending.iter().map(member).collect()));
        add("active", RawValue::List(self.active.iter().map(member).collect()));
        for (suffix, set) in [
            ("lease", &self.lease),
            ("scheduled", &self.scheduled),
            ("retry", &self.retry),
            ("archived", &self.archived),
            ("completed", &self.completed),
            ("x:quarantine", &self.quarantine),
        ] {
            add(suffix, zset(set, member));
        }
        for (name, set) in &self.gathered {
            add(&format!("g:{name}"), zset(set, member));
        }
        add(
            "groups",
            RawValue::Set(self.groups.iter().map(|group| text(group)).collect()),
        );
        add("aggregation_sets", zset(&self.aggregation_sets, |key| text(key)));
        if let Some(since) = &self.paused {
            add("paused", RawValue::String(since.clone()));
        }
        for (suffix, counter) in self.counters.iter(now) {
            add(suffix, RawValue::String(decimal(counter.value)));
        }
        for (entry, mark) in self.ticks.iter(now) {
            add(&format!("{TICK_PREFIX}{entry}"), RawValue::String(mark.clone()));
        }
        for (suffix, fields) in self.statistics.iter(now) {
            add(suffix, RawValue::Hash(fields.clone()));
        }
        for (id, found) in &self.quarantined {
            let value = match found {
                Quarantined::Task(task) => RawValue::Hash(task.raw()),
                Quarantined::Misfit(value) => value.clone(),
            };
            add(&format!("x:quarantine:{id}"), value);
        }
        for (suffix, value) in &self.misfits {
            add(suffix, value.clone());
        }
        for (key, owner) in self.locks.iter(now) {
            put(state, key.clone(), RawValue::String(member(owner)));
        }
    }
}

impl TaskHash {
    /// The fields of the hash.
    pub(crate) fn raw(&self) -> BTreeMap<String, Bytes> {
        let state = match &self.state {
            StateField::Missing => None,
            StateField::Known(state) => Some(Bytes::from_static(state.as_str().as_bytes())),
            StateField::Unknown(bytes) => Some(bytes.clone()),
        };
        let fields = [
            (field::MSG, self.msg.clone()),
            (field::STATE, state),
            (field::PENDING_SINCE, self.pending_since.map(decimal)),
            (field::UNIQUE_KEY, self.unique_key.as_deref().map(text)),
            (field::GROUP, self.group.as_deref().map(text)),
            (field::RESULT, self.result.clone()),
            (own::TAKE, self.take.as_deref().map(text)),
            (own::ADOPT, self.adopted.map(decimal)),
            (own::CANCEL, self.cancel.clone()),
            (own::PROGRESS, self.progress.clone()),
            (own::AT, self.at.clone()),
            (own::DEADLINE, self.deadline.clone()),
            (own::UNSTARTED, self.unstarted.clone()),
            (own::RUNS, self.runs.clone()),
            (own::ENQ, self.enq.map(|token| text(&format!("{token:016x}")))),
        ];
        let present = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        self.other.clone().into_iter().chain(present).collect()
    }
}

fn put(state: &mut RawState, key: String, value: RawValue) {
    let empty = match &value {
        RawValue::String(_) => false,
        RawValue::List(items) => items.is_empty(),
        RawValue::Set(members) => members.is_empty(),
        RawValue::ZSet(entries) => entries.is_empty(),
        RawValue::Hash(fields) => fields.is_empty(),
    };
    if !empty {
        state.insert(key, value);
    }
}

fn zset<M: Clone + Eq + Ord + std::hash::Hash>(set: &ZSet<M>, bytes: impl Fn(&M) -> Bytes) -> RawValue {
    RawValue::ZSet(set.iter().map(|(member, score)| (bytes(member), score)).collect())
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn member(id: &TaskId) -> Bytes {
    text(id.as_str())
}

fn decimal(value: i64) -> Bytes {
    value.to_string().into()
}
