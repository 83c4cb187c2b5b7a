//! The invariants of the layout (layout.md#invariants), all of a queue in one look.

use std::collections::{BTreeMap, HashSet};

use asynq_core::{
    TaskState,
    inspect::Breach,
    names::{QueueName, TaskId},
    raw::RawValue,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::heal::is_set;
use crate::model::{Data, Queue, ZSet, is_counter};

/// The counter of processed tasks of a day ends up to a day before that of failed tasks, which begins later. Some
/// clocks are wrong by minutes.
const LAST_DAY: TimeDelta = TimeDelta::hours(25);

/// Everything that does not hold, sorted.
pub(crate) fn audit(data: &Data, name: &QueueName, now: DateTime<Utc>) -> Vec<Breach> {
    let Some(queue) = data.queues.get(name) else {
        return Vec::new();
    };
    let mut breaches = Vec::new();
    let places = places(queue, &mut breaches);
    check_tasks(queue, &places, &mut breaches);
    check_leases(queue, &mut breaches);
    check_groups(queue, &mut breaches);
    check_locks(queue, now, &mut breaches);
    check_counters(queue, now, &mut breaches);
    for (suffix, value) in &queue.misfits {
        if is_counter(suffix) && matches!(value, RawValue::String(_)) {
            let (key, problem) = (queue.key(suffix), "not a number".to_owned());
            breaches.push(Breach::Counter { key, problem });
            continue;
        }
        breaches.push(Breach::WrongType {
            key: queue.key(suffix),
            found: type_name(value).to_owned(),
        });
    }
    if !data.names.contains(name) && queue.has_keys(now) {
        breaches.push(Breach::UnlistedQueue { queue: name.clone() });
    }
    breaches.sort();
    breaches.dedup();
    breaches
}

/// Returns the number of ids in containers and of tasks.
pub(crate) fn looked(data: &Data, name: &QueueName) -> u64 {
    data.queues.get(name).map_or(0, |queue| {
        let lists = queue.pending.len() + queue.active.len();
        let sets = [
            &queue.scheduled,
            &queue.retry,
            &queue.archived,
            &queue.completed,
            &queue.lease,
        ];
        let sets: usize = sets.into_iter().chain(queue.gathered.values()).map(ZSet::len).sum();
        (lists + sets + queue.tasks.len()) as u64
    })
}

/// Returns the containers that each id is in. In passing: each id in a container has a usable task of the right
/// state.
fn places<'q>(queue: &'q Queue, breaches: &mut Vec<Breach>) -> BTreeMap<&'q TaskId, Vec<String>> {
    let mut places: BTreeMap<&TaskId, Vec<String>> = BTreeMap::new();
    let mut look = |suffix: &str, state: TaskState, id: &'q TaskId| {
        let container = queue.key(suffix);
        match queue
            .task(id)
            .and_then(|task| task.message(&queue.name, id).map(|_| task))
        {
            Ok(task) if !task.is(state) => breaches.push(Breach::WrongState {
                container: container.clone(),
                id: id.clone(),
                state: task.state_text(),
            }),
            Ok(_) => {}
            Err(kind) => {
                let kind = kind.to_string();
                breaches.push(Breach::Dangling {
                    container: container.clone(),
                    id: id.clone(),
                    kind,
                });
            }
        }
        places.entry(id).or_default().push(container);
    };
    queue
        .pending
        .iter()
        .for_each(|id| look("pending", TaskState::Pending, id));
    queue.active.iter().for_each(|id| look("active", TaskState::Active, id));
    queue
        .scheduled
        .iter()
        .for_each(|(id, _)| look("scheduled", TaskState::Scheduled, id));
    queue
        .retry
        .iter()
        .for_each(|(id, _)| look("retry", TaskState::Retry, id));
    queue
        .archived
        .iter()
        .for_each(|(id, _)| look("archived", TaskState::Archived, id));
    queue
        .completed
        .iter()
        .for_each(|(id, _)| look("completed", TaskState::Completed, id));
    for (name, set) in &queue.gathered {
        set.iter()
            .for_each(|(id, _)| look(&format!("g:{name}"), TaskState::Aggregating, id));
    }
    places
}

/// Each task stands in exactly one place, and is pending since some time exactly if it is pending.
fn check_tasks(queue: &Queue, places: &BTreeMap<&TaskId, Vec<String>>, breaches: &mut Vec<Breach>) {
    for (id, containers) in places {
        if containers.len() > 1 {
            let (id, containers) = ((*id).clone(), containers.clone());
            breaches.push(Breach::Duplicated { id, containers });
        }
    }
    for (id, task) in &queue.tasks {
        let state = task.state_text();
        if !places.contains_key(id) {
            breaches.push(Breach::Unlisted {
                id: id.clone(),
                state: state.clone(),
            });
        }
        if task.pending_since.is_some() != task.is(TaskState::Pending) {
            breaches.push(Breach::PendingSince { id: id.clone(), state });
        }
    }
}

/// Each active id has a lease, and each lease an active id.
fn check_leases(queue: &Queue, breaches: &mut Vec<Breach>) {
    let unleased = queue.active.iter().filter(|id| !queue.lease.contains(id));
    breaches.extend(unleased.map(|id| Breach::NoLease { id: id.clone() }));
    if queue.check(&["active"]).is_err() {
        return;
    }
    let active: HashSet<&TaskId> = queue.active.iter().collect();
    let stale = queue.lease.iter().filter(|(id, _)| !active.contains(id));
    breaches.extend(stale.map(|(id, _)| Breach::StaleLease { id: id.clone() }));
}

/// The index holds exactly the groups that have tasks, and every set is listed.
fn check_groups(queue: &Queue, breaches: &mut Vec<Breach>) {
    for name in queue.gathered.keys() {
        let key = queue.key(&format!("g:{name}"));
        if queue.groups.contains(name) || queue.aggregation_sets.contains(&key) {
            continue;
        }
        if is_set(queue, name) {
            breaches.push(Breach::UnlistedSet { set: key });
        } else {
            breaches.push(Breach::GroupIndex {
                group: name.clone(),
                has_tasks: true,
            });
        }
    }
    let empty = queue.groups.iter().filter(|group| !queue.holds_group(group));
    breaches.extend(empty.map(|group| Breach::GroupIndex {
        group: group.clone(),
        has_tasks: false,
    }));
}

/// A lock holds an id that has a task.
fn check_locks(queue: &Queue, now: DateTime<Utc>, breaches: &mut Vec<Breach>) {
    for (lock, id) in queue.locks.iter(now) {
        if !queue.holds(id) {
            breaches.push(Breach::OwnerlessLock {
                lock: lock.clone(),
                id: id.as_str().to_owned(),
            });
        }
    }
}

/// A fault of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CounterFault {
    MoreFailed,
    NoEnd,
    AnEnd,
}

impl CounterFault {
    /// Returns whether the number is right, and its lifetime is wrong.
    pub(super) fn is_of_lifetime(self) -> bool {
        self != Self::MoreFailed
    }

    fn text(self) -> &'static str {
        match self {
            Self::MoreFailed => "more tasks failed than were processed",
            Self::NoEnd => "a daily counter without an end",
            Self::AnEnd => "a total with an end",
        }
    }
}

/// No more failed than processed; days have an end and totals none.
pub(super) fn counter_faults(queue: &Queue, suffix: &str, now: DateTime<Utc>) -> Vec<CounterFault> {
    let (counters, mut faults) = (&queue.counters, Vec::new());
    let Some(value) = counters.get(suffix, now) else {
        return faults;
    };
    let (is_daily, expires) = (suffix.contains(':'), counters.expiry(suffix));
    if let Some(day) = suffix.strip_prefix("failed") {
        let processed = counters.get(&format!("processed{day}"), now);
        let has_ended = is_daily && processed.is_none() && expires.is_some_and(|end| end <= now + LAST_DAY);
        if !has_ended && value > processed.unwrap_or(0) {
            faults.push(CounterFault::MoreFailed);
        }
    }
    match (is_daily, expires) {
        (true, None) => faults.push(CounterFault::NoEnd),
        (false, Some(_)) => faults.push(CounterFault::AnEnd),
        _ => {}
    }
    faults
}

fn check_counters(queue: &Queue, now: DateTime<Utc>, breaches: &mut Vec<Breach>) {
    for (suffix, _) in queue.counters.iter(now) {
        for fault in counter_faults(queue, suffix, now) {
            breaches.push(Breach::Counter {
                key: queue.key(suffix),
                problem: fault.text().to_owned(),
            });
        }
    }
}

pub(super) fn type_name(value: &RawValue) -> &'static str {
    match value {
        RawValue::String(_) => "string",
        RawValue::List(_) => "list",
        RawValue::Set(_) => "set",
        RawValue::ZSet(_) => "zset",
        RawValue::Hash(_) => "hash",
    }
}
