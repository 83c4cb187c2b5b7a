//! The last ticks of periodic tasks, `asynq:{Q}:x:tick:<entry>`.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};

/// Prefix of the entry in the suffix of a key.
pub(crate) const PREFIX: &str = "x:tick:";

/// Marks by entry. One whose time is over is absent.
#[derive(Debug, Default)]
pub(crate) struct Ticks(BTreeMap<String, (Bytes, Option<DateTime<Utc>>)>);

impl Ticks {
    /// GET.
    pub(crate) fn get(&self, entry: &str, now: DateTime<Utc>) -> Option<&Bytes> {
        self.0.get(entry).filter(|mark| stands(mark, now)).map(|(text, _)| text)
    }

    /// SET; `expires` `None` is a mark without a lifetime, which no asynq program makes.
    pub(crate) fn put(&mut self, entry: String, text: Bytes, expires: Option<DateTime<Utc>>) {
        self.0.insert(entry, (text, expires));
    }

    /// DEL.
    pub(crate) fn remove(&mut self, entry: &str) {
        self.0.remove(entry);
    }

    /// Returns when the mark ends.
    pub(crate) fn expiry(&self, entry: &str) -> Option<DateTime<Utc>> {
        self.0.get(entry)?.1
    }

    /// The marks that stand.
    pub(crate) fn iter(&self, now: DateTime<Utc>) -> impl Iterator<Item = (&String, &Bytes)> {
        self.0
            .iter()
            .filter(move |(_, mark)| stands(mark, now))
            .map(|(entry, (text, _))| (entry, text))
    }

    /// Gives the memory of marks that ended back.
    pub(crate) fn sweep(&mut self, now: DateTime<Utc>) {
        self.0.retain(|_, mark| stands(mark, now));
    }
}

fn stands((_, end): &(Bytes, Option<DateTime<Utc>>), now: DateTime<Utc>) -> bool {
    end.is_none_or(|end| now < end)
}
