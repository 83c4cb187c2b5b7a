//! Records that servers and schedulers publish about themselves: an index by expiry and values that expire.

use std::collections::BTreeMap;

use asynq_core::raw::RawValue;
use chrono::{DateTime, Utc};

use super::ZSet;

/// One of `asynq:servers`, `asynq:workers`, `asynq:schedulers` and `asynq:x:trees`, with the keys that it lists.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Key names; score: the Unix second at which the entry ends.
    pub index: ZSet<String>,
    values: BTreeMap<String, (RawValue, Option<DateTime<Utc>>)>,
}

impl Published {
    /// Replaces what is published under a key. `None` publishes the name alone. Names that ended leave
    /// the index.
    pub(crate) fn put(&mut self, key: &str, value: Option<RawValue>, ttl_secs: i64, now: DateTime<Utc>) {
        self.values.retain(|_, value| stands(value, now));
        self.index.remove_below(now.timestamp());
        self.index
            .insert(key.to_owned(), now.timestamp().saturating_add(ttl_secs));
        self.set(
            key,
            value,
            now.checked_add_signed(chrono::TimeDelta::try_seconds(ttl_secs).unwrap_or_default()),
        );
    }

    /// SET or DEL of the value alone.
    pub(crate) fn set(&mut self, key: &str, value: Option<RawValue>, expires: Option<DateTime<Utc>>) {
        match value {
            Some(value) => drop(self.values.insert(key.to_owned(), (value, expires))),
            None => drop(self.values.remove(key)),
        }
    }

    /// Returns when the value ends.
    pub(crate) fn expiry(&self, key: &str) -> Option<DateTime<Utc>> {
        self.values.get(key)?.1
    }

    /// Takes back what was published.
    pub(crate) fn remove(&mut self, key: &str) {
        self.index.remove(&key.to_owned());
        self.values.remove(key);
    }

    /// Returns what stands behind the living names.
    pub(crate) fn living(&self, now: DateTime<Utc>) -> impl Iterator<Item = &RawValue> {
        let names = self.index.iter().filter(move |(_, end)| *end >= now.timestamp());
        names
            .filter_map(move |(key, _)| self.values.get(key).filter(|value| stands(value, now)))
            .map(|(value, _)| value)
    }

    /// The values that stand.
    pub(crate) fn values(&self, now: DateTime<Utc>) -> impl Iterator<Item = (&String, &RawValue)> {
        self.values
            .iter()
            .filter(move |(_, value)| stands(value, now))
            .map(|(key, (value, _))| (key, value))
    }
}

fn stands((_, end): &(RawValue, Option<DateTime<Utc>>), now: DateTime<Utc>) -> bool {
    end.is_none_or(|end| now < end)
}
