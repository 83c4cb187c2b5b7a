//! The unique locks of a queue, `asynq:{Q}:unique:…`.

use std::collections::HashMap;

use asynq_core::names::TaskId;
use chrono::{DateTime, Utc};

/// Locks by the full name of their key. One whose time is over is absent.
#[derive(Debug, Default)]
pub(crate) struct Locks(HashMap<String, Lock>);

#[derive(Debug)]
struct Lock {
    owner: TaskId,
    expires: Option<DateTime<Utc>>,
}

impl Lock {
    fn stands(&self, now: DateTime<Utc>) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

impl Locks {
    /// The id in the lock.
    pub(crate) fn owner(&self, key: &str, now: DateTime<Utc>) -> Option<&TaskId> {
        self.0.get(key).filter(|lock| lock.stands(now)).map(|lock| &lock.owner)
    }

    /// Returns when the lock ends.
    pub(crate) fn expiry(&self, key: &str) -> Option<DateTime<Utc>> {
        self.0.get(key)?.expires
    }

    /// SET; `expires` `None` is a lock without a lifetime, which no asynq program makes.
    pub(crate) fn put(&mut self, key: String, owner: TaskId, expires: Option<DateTime<Utc>>) {
        self.0.insert(key, Lock { owner, expires });
    }

    /// DEL, if the lock still holds the id: whether it did.
    pub(crate) fn free(&mut self, key: &str, id: &TaskId, now: DateTime<Utc>) -> bool {
        self.owner(key, now) == Some(id) && self.remove(key)
    }

    /// DEL.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }

    /// The locks that stand.
    pub(crate) fn iter(&self, now: DateTime<Utc>) -> impl Iterator<Item = (&String, &TaskId)> {
        self.0
            .iter()
            .filter(move |(_, lock)| lock.stands(now))
            .map(|(key, lock)| (key, &lock.owner))
    }

    /// Gives the memory of expired locks back.
    pub(crate) fn sweep(&mut self, now: DateTime<Utc>) {
        self.0.retain(|_, lock| lock.stands(now));
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_lock_ends_with_its_time_and_is_freed_by_its_owner_only() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let (a, b) = (TaskId::new("a").unwrap(), TaskId::new("b").unwrap());
        let mut locks = Locks::default();
        locks.put("k".into(), a.clone(), Some(now + TimeDelta::seconds(2)));
        assert!(!locks.free("k", &b, now));
        assert_eq!(locks.owner("k", now + TimeDelta::milliseconds(1999)), Some(&a));
        assert_eq!(locks.owner("k", now + TimeDelta::seconds(2)), None);
        assert!(!locks.free("k", &a, now + TimeDelta::seconds(2)));
        assert!(locks.free("k", &a, now));
        assert_eq!(locks.iter(now).count(), 0);
    }
}
