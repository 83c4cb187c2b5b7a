//! A queue, and the few moves that every transition is made of.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use asynq_core::{
    TaskState,
    broker::Poison,
    clock::{exact_millis, unix_nanos},
    error::{BrokerError, PoisonKind},
    keys::{self, own},
    names::{QueueName, TaskId},
    raw::{RawState, RawValue},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{Counters, Locks, Signals, Statistics, TICK_PREFIX, TaskHash, Ticks, ZSet};

/// The keys under `asynq:{Q}:`.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Its name.
    pub name: QueueName,
    /// `t:<id>`.
    pub tasks: HashMap<TaskId, TaskHash>,
    /// `pending`; index 0 is the head. The tail runs next.
    pub pending: VecDeque<TaskId>,
    /// `active`; the head was taken last.
    pub active: VecDeque<TaskId>,
    /// `lease`; score: when the lease ends.
    pub lease: ZSet<TaskId>,
    /// `scheduled`; score: when it is due.
    pub scheduled: ZSet<TaskId>,
    /// `retry`; score: when it is due.
    pub retry: ZSet<TaskId>,
    /// `archived`; score: when it was archived.
    pub archived: ZSet<TaskId>,
    /// `completed`; score: when its retention is over.
    pub completed: ZSet<TaskId>,
    /// `groups`: names of groups that have tasks waiting.
    pub groups: BTreeSet<String>,
    /// `g:<G>` and `g:<G>:<SET>`, by what follows `g:`; score: when it joined the group. Which of
    /// them is a set is known from `aggregation_sets` alone, as in Redis.
    pub gathered: BTreeMap<String, ZSet<TaskId>>,
    /// `aggregation_sets`: full key names; score: when the set is handed back.
    pub aggregation_sets: ZSet<String>,
    /// `paused`: since when, Unix seconds; that it is there is all that counts.
    pub paused: Option<Bytes>,
    /// `processed`, `failed`, and both by day.
    pub counters: Counters,
    /// `unique:…`.
    pub locks: Locks,
    /// `x:tick:<entry>`.
    pub ticks: Ticks,
    /// `x:stats:<hour or day>`.
    pub statistics: Statistics,
    /// `x:healer`: which connection repairs the queue, and until when.
    pub healer: Option<(u64, DateTime<Utc>)>,
    /// `x:quarantine`; score: when.
    pub quarantine: ZSet<TaskId>,
    /// `x:quarantine:<id>`.
    pub quarantined: BTreeMap<TaskId, Quarantined>,
    /// Keys that hold another type than the layout says, by their suffix. Only damage puts one here.
    pub misfits: BTreeMap<String, RawValue>,
    /// Watches for tasks that may be taken.
    pub on_pending: Signals,
    /// Watches for new delayed tasks.
    pub on_delayed: Signals,
    prefix: String,
    lock_prefix: String,
}

/// The content of a task key that was put aside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Quarantined {
    /// A task hash.
    Task(Box<TaskHash>),
    /// Another type.
    Misfit(RawValue),
}

/// An end of the pending list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// RPUSH, the tail: runs next.
    Front,
    /// LPUSH, the head: runs after all others.
    Back,
}

/// A sorted set of tasks that wait for their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// The set of tasks that wait for their first run.
    Scheduled,
    /// The set of tasks that wait for their next attempt.
    Retry,
}

impl Delay {
    /// The state of its tasks.
    pub(crate) fn state(self) -> TaskState {
        match self {
            Self::Scheduled => TaskState::Scheduled,
            Self::Retry => TaskState::Retry,
        }
    }
}

impl Queue {
    /// A queue without keys.
    pub(crate) fn new(name: QueueName) -> Self {
        Self {
            prefix: keys::queue_prefix(&name),
            lock_prefix: keys::unique_prefix(&name),
            name,
            tasks: HashMap::new(),
            pending: VecDeque::new(),
            active: VecDeque::new(),
            lease: ZSet::default(),
            scheduled: ZSet::default(),
            retry: ZSet::default(),
            archived: ZSet::default(),
            completed: ZSet::default(),
            groups: BTreeSet::new(),
            gathered: BTreeMap::new(),
            aggregation_sets: ZSet::default(),
            paused: None,
            counters: Counters::default(),
            locks: Locks::default(),
            ticks: Ticks::default(),
            statistics: Statistics::default(),
            healer: None,
            quarantine: ZSet::default(),
            quarantined: BTreeMap::new(),
            misfits: BTreeMap::new(),
            on_pending: Signals::default(),
            on_delayed: Signals::default(),
        }
    }

    /// The full name of a key.
    pub(crate) fn key(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.prefix)
    }

    /// Refuses the call if one of these keys holds another type than the layout says.
    pub(crate) fn check(&self, suffixes: &[&str]) -> Result<(), BrokerError> {
        match suffixes.iter().find(|suffix| self.misfits.contains_key(**suffix)) {
            Some(suffix) => Err(BrokerError::WrongType { key: self.key(suffix) }),
            None => Ok(()),
        }
    }

    /// Returns whether nothing is taken from it.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some() || self.misfits.contains_key("paused")
    }

    /// EXISTS on the task key.
    pub(crate) fn holds(&self, id: &TaskId) -> bool {
        self.tasks.contains_key(id) || self.is_misfit(id)
    }

    fn is_misfit(&self, id: &TaskId) -> bool {
        !self.misfits.is_empty() && self.misfits.contains_key(&format!("t:{id}"))
    }

    /// EXISTS on the group's key.
    pub(crate) fn holds_group(&self, group: &str) -> bool {
        let is_misfit = || self.misfits.contains_key(&format!("g:{group}"));
        self.gathered.contains_key(group) || (!self.misfits.is_empty() && is_misfit())
    }

    /// The task hash.
    pub(crate) fn task(&self, id: &TaskId) -> Result<&TaskHash, PoisonKind> {
        match self.tasks.get(id) {
            Some(task) => Ok(task),
            None if self.is_misfit(id) => Err(PoisonKind::NotAHash),
            None => Err(PoisonKind::NoHash),
        }
    }

    /// Returns whether the key is a lock of this queue; no other is ever touched as one.
    pub(crate) fn is_lock(&self, key: &str) -> bool {
        key.starts_with(&self.lock_prefix)
    }

    /// EXISTS on the lock's key.
    pub(crate) fn is_locked(&self, key: &str, now: DateTime<Utc>) -> bool {
        let misfit = || {
            key.strip_prefix(self.prefix.as_str())
                .is_some_and(|suffix| self.misfits.contains_key(suffix))
        };
        self.locks.owner(key, now).is_some() || (!self.misfits.is_empty() && misfit())
    }

    /// The set of delayed tasks.
    pub(crate) fn delayed(&mut self, delay: Delay) -> &mut ZSet<TaskId> {
        match delay {
            Delay::Scheduled => &mut self.scheduled,
            Delay::Retry => &mut self.retry,
        }
    }

    /// Makes a task pending: the one way there. The hash must exist.
    pub(crate) fn push_pending(&mut self, id: &TaskId, end: End, now: DateTime<Utc>) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.enter(TaskState::Pending);
        task.pending_since = Some(unix_nanos(now));
        match end {
            End::Front => self.pending.push_back(id.clone()),
            End::Back => self.pending.push_front(id.clone()),
        }
        if !self.is_paused() {
            self.on_pending.fire();
        }
    }

    /// Makes a task wait for its time: the one way there. The hash must exist.
    pub(crate) fn push_delayed(&mut self, id: &TaskId, delay: Delay, due: DateTime<Utc>) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.enter(delay.state());
        task.at = exact_millis(due).map(|millis| millis.to_string().into());
        self.delayed(delay).insert(id.clone(), due.timestamp());
        self.on_delayed.fire();
    }

    /// Puts a task into a group, and the group into the index: the one way there. The hash must exist.
    pub(crate) fn push_group(&mut self, id: &TaskId, group: &str, now: DateTime<Utc>) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.enter(TaskState::Aggregating);
        self.gathered
            .entry(group.to_owned())
            .or_default()
            .insert(id.clone(), now.timestamp());
        self.groups.insert(group.to_owned());
    }

    /// Takes an id out of `active` and, if it stood there, out of `lease`: whether it did. Ids
    /// mostly leave in the order they came, so the search begins at the tail.
    pub(crate) fn leave_active(&mut self, id: &TaskId) -> bool {
        // Mostly the very id that was put there: comparing addresses first spares a walk through
        // the text of thousands.
        let same = |of: &TaskId| std::ptr::eq(of.as_str(), id.as_str());
        let found = self
            .active
            .iter()
            .rposition(same)
            .or_else(|| self.active.iter().rposition(|of| of == id));
        let Some(index) = found else { return false };
        self.active.remove(index);
        self.lease.remove(id);
        true
    }

    /// Deletes a task hash and frees the lock that it names, if the lock still holds its id.
    pub(crate) fn delete_task(&mut self, id: &TaskId, now: DateTime<Utc>) {
        let Some(task) = self.tasks.remove(id) else { return };
        if let Some(lock) = task.unique_key {
            self.free_lock(&lock, id, now);
        }
    }

    /// Frees a lock if it still holds the id.
    pub(crate) fn free_lock(&mut self, lock: &str, id: &TaskId, now: DateTime<Utc>) {
        if self.is_lock(lock) {
            self.locks.free(lock, id, now);
        }
    }

    /// Puts an active task aside: out of `active` and `lease`, wherever it stands.
    pub(crate) fn put_active_aside(&mut self, id: &TaskId, kind: PoisonKind, now: DateTime<Utc>) -> Poison {
        self.leave_active(id);
        self.lease.remove(id);
        self.put_aside(id, kind, now)
    }

    /// Puts the data of an id aside, where neither we nor Go look at it again, and says so. An id
    /// without data leaves nothing to keep. The caller takes the id out of its container.
    pub(crate) fn put_aside(&mut self, id: &TaskId, kind: PoisonKind, now: DateTime<Utc>) -> Poison {
        let found = match self.tasks.remove(id) {
            Some(task) => Some(Quarantined::Task(Box::new(task))),
            None => self.misfits.remove(&format!("t:{id}")).map(Quarantined::Misfit),
        };
        if let Some(found) = found {
            let secs = now.timestamp();
            let name = match self.quarantined.contains_key(id) {
                true => TaskId::from_storage(&format!("{id}@{secs}")),
                false => id.clone(),
            };
            self.quarantine.insert(name.clone(), secs);
            self.quarantined.insert(name, found);
        }
        Poison {
            queue: self.name.clone(),
            id: id.clone(),
            kind,
        }
    }

    /// Returns when a key ends; `None`: never, or there is no such key.
    pub(crate) fn expiry(&self, key: &str) -> Option<DateTime<Utc>> {
        let suffix = key.strip_prefix(self.prefix.as_str())?;
        if let Some(entry) = suffix.strip_prefix(TICK_PREFIX) {
            return self.ticks.expiry(entry);
        }
        if suffix.starts_with(own::STATISTICS) {
            return self.statistics.expiry(suffix);
        }
        self.locks.expiry(key).or_else(|| self.counters.expiry(suffix))
    }

    /// Returns whether Redis would hold any key of this queue, apart from the marks of ticks and statistics, which
    /// expire by themselves.
    pub(crate) fn has_keys(&self, now: DateTime<Utc>) -> bool {
        let mut keys = RawState::new();
        self.render(now, &mut keys);
        let passing = [self.key(TICK_PREFIX), self.key(own::STATISTICS)];
        keys.keys()
            .any(|key| !passing.iter().any(|start| key.starts_with(start)))
    }

    /// The name of a group or set from its full key.
    pub(crate) fn gathered_name<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(self.prefix.as_str())?.strip_prefix("g:")
    }

    /// Counts a task that was processed, or that failed.
    pub(crate) fn count(&mut self, failed: bool, now: DateTime<Utc>) {
        let misfits = &self.misfits;
        self.counters.count(failed, now, |suffix| misfits.contains_key(suffix));
    }
}

/// Returns whether a text is a UUID as aggregation sets have it.
pub(crate) fn is_uuid(text: &str) -> bool {
    let dash = |index: usize| matches!(index, 8 | 13 | 18 | 23);
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if dash(i) { b == b'-' } else { b.is_ascii_hexdigit() })
}
