//! The statistics of servers, `asynq:{Q}:x:stats:<hour or day>`.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};

/// The fields of one hash.
pub(crate) type Fields = BTreeMap<String, Bytes>;

/// Hashes by the suffix of their key. One whose time is over is absent.
#[derive(Debug, Default)]
pub(crate) struct Statistics(BTreeMap<String, (Fields, Option<DateTime<Utc>>)>);

impl Statistics {
    /// HGETALL.
    pub(crate) fn get(&self, suffix: &str, now: DateTime<Utc>) -> Option<&Fields> {
        self.0
            .get(suffix)
            .filter(|hash| stands(hash, now))
            .map(|(fields, _)| fields)
    }

    /// The hash, to be changed, which ends at a time.
    pub(crate) fn open(&mut self, suffix: &str, expires: DateTime<Utc>, now: DateTime<Utc>) -> &mut Fields {
        let (fields, end) = self.0.entry(suffix.to_owned()).or_default();
        if end.is_some_and(|end| end <= now) {
            fields.clear();
        }
        *end = Some(expires);
        fields
    }

    /// Writes a whole hash without a lifetime, which no asynq program does.
    pub(crate) fn put(&mut self, suffix: String, fields: Fields) {
        self.0.insert(suffix, (fields, None));
    }

    /// DEL.
    pub(crate) fn remove(&mut self, suffix: &str) {
        self.0.remove(suffix);
    }

    /// Returns when a hash ends.
    pub(crate) fn expiry(&self, suffix: &str) -> Option<DateTime<Utc>> {
        self.0.get(suffix)?.1
    }

    /// The hashes that stand.
    pub(crate) fn iter(&self, now: DateTime<Utc>) -> impl Iterator<Item = (&String, &Fields)> {
        let standing = self.0.iter().filter(move |(_, hash)| stands(hash, now));
        standing.map(|(suffix, (fields, _))| (suffix, fields))
    }

    /// Gives the memory of hashes that ended back.
    pub(crate) fn sweep(&mut self, now: DateTime<Utc>) {
        self.0.retain(|_, hash| stands(hash, now));
    }
}

fn stands((_, end): &(Fields, Option<DateTime<Utc>>), now: DateTime<Utc>) -> bool {
    end.is_none_or(|end| now < end)
}
