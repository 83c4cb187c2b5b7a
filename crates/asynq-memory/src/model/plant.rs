//! Writing keys as they would stand in Redis: for tests that need damage, and whole states.

use std::{hash::Hash, sync::Arc};

use asynq_core::{
    error::BrokerError,
    keys::{self, field, own},
    names::{QueueName, TaskId},
    raw::RawValue,
};
use bytes::Bytes;

use super::{Data, Quarantined, Queue, StateField, TICK_PREFIX, TaskHash, ZSet, is_counter};

/// Returns what the typed state has no place for.
fn unsupported(what: &'static str) -> BrokerError {
    BrokerError::Unsupported { what }
}

impl Data {
    /// Replaces a key, or deletes it. A value of another type than the layout says becomes a misfit
    /// of its queue. What is planted has no lifetime.
    pub(crate) fn plant(&mut self, key: &str, value: Option<RawValue>) -> Result<(), BrokerError> {
        if let Some((queue, suffix)) = key.strip_prefix("asynq:{").and_then(|rest| rest.split_once("}:")) {
            return self.queue(&QueueName::from_storage(queue)).plant(suffix, value);
        }
        self.misfits.remove(key);
        let published = [
            (keys::SERVERS, keys::SERVERS, &mut self.servers),
            (keys::WORKERS, keys::WORKERS, &mut self.workers),
            (keys::SCHEDULERS, keys::SCHEDULERS, &mut self.schedulers),
            (own::TREES, "asynq:x:tree", &mut self.trees),
        ];
        for (index, entries, published) in published {
            if key == index {
                published.index = ZSet::default();
                match value {
                    Some(set @ RawValue::ZSet(_)) => published.index = zset(set, string)?,
                    Some(other) => drop(self.misfits.insert(key.to_owned(), other)),
                    None => {}
                }
                return Ok(());
            }
            if key.strip_prefix(entries).is_some_and(|rest| rest.starts_with(":{")) {
                published.set(key, value, None);
                return Ok(());
            }
        }
        let history = key.strip_prefix(keys::scheduler_history("").as_str());
        if key == keys::QUEUES {
            self.names.clear();
        }
        if let Some(entry) = history {
            self.history.remove(entry);
        }
        match (history, value) {
            (Some(entry), Some(set @ RawValue::ZSet(_))) => drop(self.history.insert(entry.to_owned(), zset(set, Ok)?)),
            (_, Some(RawValue::Set(names))) if key == keys::QUEUES => {
                for name in names {
                    self.names.insert(QueueName::from_storage(&string(name)?));
                }
            }
            (_, Some(other)) => drop(self.misfits.insert(key.to_owned(), other)),
            (_, None) => {}
        }
        Ok(())
    }
}

impl Queue {
    fn plant(&mut self, suffix: &str, value: Option<RawValue>) -> Result<(), BrokerError> {
        self.clear(suffix);
        if let Some(value) = value
            && let Some(misfit) = self.put(suffix, value)?
        {
            self.misfits.insert(suffix.to_owned(), misfit);
        }
        self.on_pending.fire();
        self.on_delayed.fire();
        Ok(())
    }

    fn clear(&mut self, suffix: &str) {
        self.misfits.remove(suffix);
        self.counters.remove(suffix);
        let key = self.key(suffix);
        self.locks.remove(&key);
        match suffix {
            "pending" => self.pending.clear(),
            "active" => self.active.clear(),
            "groups" => self.groups.clear(),
            "aggregation_sets" => self.aggregation_sets = ZSet::default(),
            "paused" => self.paused = None,
            _ => {}
        }
        if let Some(set) = self.set(suffix) {
            *set = ZSet::default();
        }
        if let Some(entry) = suffix.strip_prefix(TICK_PREFIX) {
            self.ticks.remove(entry);
        }
        self.statistics.remove(suffix);
        if let Some(id) = suffix.strip_prefix("t:") {
            self.tasks.remove(id);
        }
        if let Some(id) = suffix.strip_prefix("x:quarantine:") {
            self.quarantined.remove(id);
        }
        if let Some(name) = suffix.strip_prefix("g:") {
            self.gathered.remove(name);
        }
    }

    /// Puts the value where it belongs, or gives it back.
    fn put(&mut self, suffix: &str, value: RawValue) -> Result<Option<RawValue>, BrokerError> {
        if let Some(id) = suffix.strip_prefix("x:quarantine:") {
            let found = match value {
                RawValue::Hash(_) => Quarantined::Task(Box::new(task(value)?)),
                other => Quarantined::Misfit(other),
            };
            self.quarantined.insert(TaskId::from_storage(id), found);
            return Ok(None);
        }
        match (suffix, value) {
            ("pending", RawValue::List(ids)) => self.pending = ids.into_iter().map(id).collect::<Result<_, _>>()?,
            ("active", RawValue::List(ids)) => self.active = ids.into_iter().map(id).collect::<Result<_, _>>()?,
            ("groups", RawValue::Set(groups)) => {
                self.groups = groups.into_iter().map(string).collect::<Result<_, _>>()?;
            }
            ("aggregation_sets", set @ RawValue::ZSet(_)) => self.aggregation_sets = zset(set, string)?,
            (_, hash @ RawValue::Hash(_)) if suffix.starts_with("t:") => {
                self.tasks.insert(TaskId::from_storage(&suffix[2..]), task(hash)?);
            }
            (_, set @ RawValue::ZSet(_)) if suffix.starts_with("g:") => {
                self.gathered.insert(suffix[2..].to_owned(), zset(set, id)?);
            }
            (_, RawValue::String(owner)) if suffix.starts_with("unique:") => {
                self.locks.put(self.key(suffix), id(owner)?, None);
            }
            (_, set @ RawValue::ZSet(_)) if self.set(suffix).is_some() => {
                let set = zset(set, id)?;
                if let Some(place) = self.set(suffix) {
                    *place = set;
                }
            }
            (_, RawValue::String(mark)) if suffix.starts_with(TICK_PREFIX) => {
                self.ticks.put(suffix[TICK_PREFIX.len()..].to_owned(), mark, None);
            }
            (_, RawValue::Hash(fields)) if suffix.starts_with(own::STATISTICS) => {
                self.statistics.put(suffix.to_owned(), fields);
            }
            ("paused", RawValue::String(since)) => self.paused = Some(since),
            (_, RawValue::String(text)) if is_counter(suffix) && number(&text).is_some() => {
                self.counters.put(suffix.to_owned(), number(&text).unwrap_or(0), None);
            }
            (_, other) => return Ok(Some(other)),
        }
        Ok(None)
    }

    fn set(&mut self, suffix: &str) -> Option<&mut ZSet<TaskId>> {
        Some(match suffix {
            "lease" => &mut self.lease,
            "scheduled" => &mut self.scheduled,
            "retry" => &mut self.retry,
            "archived" => &mut self.archived,
            "completed" => &mut self.completed,
            "x:quarantine" => &mut self.quarantine,
            _ => return None,
        })
    }
}

fn task(value: RawValue) -> Result<TaskHash, BrokerError> {
    let RawValue::Hash(fields) = value else {
        return Err(unsupported("a task that is not a hash"));
    };
    let mut task = TaskHash::default();
    for (name, value) in fields {
        match name.as_str() {
            field::MSG => task.msg = Some(value),
            field::STATE => {
                task.state = match std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok()) {
                    Some(state) => StateField::Known(state),
                    None => StateField::Unknown(value),
                }
            }
            field::PENDING_SINCE => {
                let since = number(&value).ok_or_else(|| unsupported("a pending_since that is not a number"))?;
                task.pending_since = Some(since);
            }
            field::UNIQUE_KEY => task.unique_key = Some(string(value)?),
            field::GROUP => task.group = Some(string(value)?),
            field::RESULT => task.result = Some(value),
            own::TAKE => task.take = Some(Arc::from(string(value)?)),
            own::ADOPT => {
                let until = number(&value).ok_or_else(|| unsupported("an x:adopt that is not a number"))?;
                task.adopted = Some(until);
            }
            own::CANCEL => task.cancel = Some(value),
            own::PROGRESS => task.progress = Some(value),
            own::AT => task.at = Some(value),
            own::DEADLINE => task.deadline = Some(value),
            own::UNSTARTED => task.unstarted = Some(value),
            own::RUNS => task.runs = Some(value),
            own::ENQ => {
                let token = u64::from_str_radix(&string(value)?, 16);
                task.enq = Some(token.map_err(|_| unsupported("an x:enq that is not 16 hex digits"))?);
            }
            _ => drop(task.other.insert(name, value)),
        }
    }
    Ok(task)
}

fn zset<M: Clone + Eq + Ord + Hash>(
    value: RawValue,
    member: impl Fn(Bytes) -> Result<M, BrokerError>,
) -> Result<ZSet<M>, BrokerError> {
    let RawValue::ZSet(entries) = value else {
        return Err(unsupported("another type here"));
    };
    let mut set = ZSet::default();
    for (bytes, score) in entries {
        set.insert(member(bytes)?, score);
    }
    Ok(set)
}

fn string(bytes: Bytes) -> Result<String, BrokerError> {
    String::from_utf8(bytes.into()).map_err(|_| unsupported("a name that is not UTF-8"))
}

fn id(bytes: Bytes) -> Result<TaskId, BrokerError> {
    Ok(TaskId::from_storage(&string(bytes)?))
}

fn number(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
