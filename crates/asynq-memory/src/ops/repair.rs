//! Repairs of breaches (layout.md#invariants): each is looked at again and repaired in the same step.

use std::collections::BTreeMap;

use asynq_core::{
    TaskState,
    broker::{AGGREGATION_SET_LIFETIME, STATS_TTL},
    clock::unix_nanos,
    doctor::{Obstacle, Remedy, Repair, RepairMode},
    error::{BrokerError, PoisonKind},
    inspect::Breach,
    keys,
    names::{QueueName, TaskId},
    raw::RawValue,
};
use chrono::{DateTime, Utc};

use super::{
    audit::{counter_faults, type_name},
    heal::{is_set, relist},
};
use crate::model::{Data, Queue, is_counter};

/// The containers that all other operations on tasks need.
const CONTAINERS: [&str; 9] = [
    "pending",
    "active",
    "lease",
    "scheduled",
    "retry",
    "archived",
    "completed",
    "groups",
    "aggregation_sets",
];

pub(crate) fn repair(
    data: &mut Data,
    name: &QueueName,
    breaches: &[Breach],
    mode: RepairMode,
    now: DateTime<Utc>,
) -> Result<Vec<Repair>, BrokerError> {
    let write = mode == RepairMode::Write;
    let mut of_tasks: BTreeMap<TaskId, Repair> = BTreeMap::new();
    let mut results = Vec::with_capacity(breaches.len());
    // Breaches of one task are repaired together: by the one that finds what the others would find.
    for (id, strongest) in strongest(name, breaches) {
        let Some(queue) = data.queues.get_mut(name) else { break };
        for breach in strongest {
            let result = one(queue, breach, write, now);
            let known = of_tasks.entry(id.clone()).or_insert(Repair::Gone);
            if *known == Repair::Gone {
                *known = result;
            }
        }
    }
    for breach in breaches {
        results.push(match (breach.task(name), data.queues.get_mut(name)) {
            (Some(id), _) => of_tasks.get(&id).cloned().unwrap_or(Repair::Gone),
            (None, None) => Repair::Gone,
            (None, Some(_)) if matches!(breach, Breach::UnlistedQueue { .. }) => list_queue(data, name, write, now),
            (None, Some(queue)) => one(queue, breach, write, now),
        });
    }
    Ok(results)
}

fn strongest<'b>(queue: &QueueName, breaches: &'b [Breach]) -> BTreeMap<TaskId, Vec<&'b Breach>> {
    let strength = |breach: &Breach| match breach {
        Breach::Dangling { .. } | Breach::WrongType { .. } => 2,
        Breach::NoLease { .. } | Breach::StaleLease { .. } | Breach::PendingSince { .. } => 0,
        _ => 1,
    };
    let mut found: BTreeMap<TaskId, Vec<&'b Breach>> = BTreeMap::new();
    for breach in breaches {
        if let Some(id) = breach.task(queue) {
            let known = found.entry(id).or_default();
            match known.first().map_or(-1, |first| strength(first)) {
                before if strength(breach) > before => *known = vec![breach],
                2 if strength(breach) == 2 => known.push(breach),
                _ => {}
            }
        }
    }
    found
}

fn list_queue(data: &mut Data, name: &QueueName, write: bool, now: DateTime<Utc>) -> Repair {
    if data.names.contains(name) || !data.queues.get(name).is_some_and(|queue| queue.has_keys(now)) {
        return Repair::Gone;
    }
    if write {
        data.names.insert(name.clone());
    }
    Repair::Done(Remedy::ListQueue)
}

fn one(queue: &mut Queue, breach: &Breach, write: bool, now: DateTime<Utc>) -> Repair {
    if let (Breach::WrongType { .. }, Some(id)) = (breach, breach.task(&queue.name)) {
        return dangling(queue, "", &id, write, now);
    }
    if let Breach::WrongType { key, found } = breach {
        let suffix = key.strip_prefix(&keys::queue_prefix(&queue.name));
        let value = suffix.and_then(|suffix| queue.misfits.get(suffix));
        return match value.is_some_and(|value| type_name(value) == found) {
            true => left_by_type(key.clone()),
            false => Repair::Gone,
        };
    }
    if let Err(BrokerError::WrongType { key }) = queue.check(&CONTAINERS) {
        return left_by_type(key);
    }
    match breach {
        Breach::Dangling { container, id, .. } => dangling(queue, container, id, write, now),
        Breach::NoLease { id } | Breach::StaleLease { id } | Breach::PendingSince { id, .. } => {
            fields(queue, id, write, now)
        }
        Breach::WrongState { id, .. } | Breach::Unlisted { id, .. } | Breach::Duplicated { id, .. } => {
            places(queue, id, write, now)
        }
        Breach::GroupIndex { group, .. } => gathered(queue, group, write, now),
        Breach::UnlistedSet { set } => match queue.gathered_name(set).map(str::to_owned) {
            Some(name) => gathered(queue, &name, write, now),
            None => Repair::Gone,
        },
        Breach::OwnerlessLock { lock, .. } => match queue.locks.owner(lock, now) {
            Some(owner) if queue.is_lock(lock) && !queue.holds(owner) => done(Remedy::RemoveLock, write, || {
                queue.locks.remove(lock);
            }),
            _ => Repair::Gone,
        },
        Breach::Counter { key, .. } => counter(queue, key, write, now),
        _ => Repair::Gone,
    }
}

fn left_by_type(key: String) -> Repair {
    Repair::Left(Obstacle::WrongType { key })
}

fn done<R>(remedy: Remedy, write: bool, act: impl FnOnce() -> R) -> Repair {
    if write {
        act();
    }
    Repair::Done(remedy)
}

/// A container of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    State(TaskState),
    Gathered(String),
}

impl Place {
    fn state(&self) -> TaskState {
        match self {
            Self::State(state) => *state,
            Self::Gathered(_) => TaskState::Aggregating,
        }
    }
}

/// The containers of an id, each with the number of times.
fn places_of(queue: &Queue, id: &TaskId) -> Vec<(Place, usize)> {
    let count = |list: &std::collections::VecDeque<TaskId>| list.iter().filter(|of| *of == id).count();
    let mut found = vec![
        (TaskState::Pending, count(&queue.pending)),
        (TaskState::Active, count(&queue.active)),
        (TaskState::Scheduled, usize::from(queue.scheduled.contains(id))),
        (TaskState::Retry, usize::from(queue.retry.contains(id))),
        (TaskState::Archived, usize::from(queue.archived.contains(id))),
        (TaskState::Completed, usize::from(queue.completed.contains(id))),
    ];
    found.retain(|(_, times)| *times > 0);
    let mut found: Vec<_> = found
        .into_iter()
        .map(|(state, times)| (Place::State(state), times))
        .collect();
    let gathered = queue.gathered.iter().filter(|(_, set)| set.contains(id));
    found.extend(gathered.map(|(name, _)| (Place::Gathered(name.clone()), 1)));
    found
}

/// Removes an id from a container; of a list, `times` of the entries at the head.
fn leave(queue: &mut Queue, place: &Place, id: &TaskId, times: usize) {
    let mut left = times;
    let mut keep = |of: &TaskId| {
        let goes = of == id && left > 0;
        left -= usize::from(goes);
        !goes
    };
    match place {
        Place::State(TaskState::Pending) => queue.pending.retain(&mut keep),
        Place::State(TaskState::Active) => queue.active.retain(&mut keep),
        Place::State(TaskState::Scheduled) => drop(queue.scheduled.remove(id)),
        Place::State(TaskState::Retry) => drop(queue.retry.remove(id)),
        Place::State(TaskState::Archived) => drop(queue.archived.remove(id)),
        Place::State(TaskState::Completed) => drop(queue.completed.remove(id)),
        Place::State(_) => {}
        Place::Gathered(name) => {
            let Some(set) = queue.gathered.get_mut(name) else {
                return;
            };
            set.remove(id);
            if set.is_empty() {
                queue.gathered.remove(name);
                queue.groups.remove(name);
            }
        }
    }
}

fn named(queue: &Queue, container: &str) -> Option<Place> {
    match queue.gathered_name(container) {
        Some(name) => Some(Place::Gathered(name.to_owned())),
        None => {
            let suffix = container.strip_prefix(&keys::queue_prefix(&queue.name))?;
            suffix.parse().ok().map(Place::State)
        }
    }
}

fn dangling(queue: &mut Queue, container: &str, id: &TaskId, write: bool, now: DateTime<Utc>) -> Repair {
    if queue.holds(id) {
        let usable = queue.task(id).and_then(|task| task.message(&queue.name, id));
        return match usable {
            Ok(_) => Repair::Gone,
            Err(kind) => put_aside(queue, id, kind, write, now),
        };
    }
    let Some(place) = named(queue, container).filter(|place| places_of(queue, id).iter().any(|(of, _)| of == place))
    else {
        return Repair::Gone;
    };
    done(Remedy::RemoveId, write, || {
        leave(queue, &place, id, 1);
        if place == Place::State(TaskState::Active) && !queue.active.contains(id) {
            queue.lease.remove(id);
        }
    })
}

fn put_aside(queue: &mut Queue, id: &TaskId, kind: PoisonKind, write: bool, now: DateTime<Utc>) -> Repair {
    done(Remedy::Quarantine, write, || {
        for (place, times) in places_of(queue, id) {
            leave(queue, &place, id, times);
        }
        queue.lease.remove(id);
        queue.put_aside(id, kind, now);
    })
}

/// Lease and `pending_since` of a task.
fn fields(queue: &mut Queue, id: &TaskId, write: bool, now: DateTime<Utc>) -> Repair {
    let is_listed = queue.active.contains(id);
    let Ok(task) = queue.task(id) else {
        return match queue.lease.contains(id) && !is_listed {
            true => done(Remedy::RemoveLease, write, || queue.lease.remove(id)),
            false => Repair::Gone,
        };
    };
    let is_active = task.is(TaskState::Active);
    let is_doubtful = (is_active || queue.lease.contains(id)) && is_listed != is_active;
    if task.msg.is_none() || task.known_state().is_err() {
        return places(queue, id, write, now);
    }
    if is_doubtful {
        // As Redis does without a search of all groups.
        let is_known = |place: &Place| match place {
            Place::State(_) => true,
            Place::Gathered(name) => {
                task.group.as_ref() == Some(name) || queue.aggregation_sets.contains(&queue.key(&format!("g:{name}")))
            }
        };
        return match places_of(queue, id).iter().any(|(place, _)| is_known(place)) {
            true => places(queue, id, write, now),
            false => Repair::Left(Obstacle::NotSearched),
        };
    }
    agree(queue, id, write, now).map_or(Repair::Gone, Repair::Done)
}

/// Makes lease and `pending_since` agree with the state of a task.
fn agree(queue: &mut Queue, id: &TaskId, write: bool, now: DateTime<Utc>) -> Option<Remedy> {
    let task = queue.tasks.get_mut(id)?;
    let (is_active, is_pending) = (task.is(TaskState::Active), task.is(TaskState::Pending));
    let lease = match (is_active, queue.lease.contains(id)) {
        (true, false) => Some(Remedy::AddLease),
        (false, true) => Some(Remedy::RemoveLease),
        _ => None,
    };
    let since = match (is_pending, task.pending_since.is_some()) {
        (true, false) => Some(Remedy::SetPendingSince),
        (false, true) => Some(Remedy::RemovePendingSince),
        _ => None,
    };
    if write {
        match &lease {
            Some(Remedy::AddLease) => drop(queue.lease.insert(id.clone(), now.timestamp())),
            Some(_) => drop(queue.lease.remove(id)),
            None => {}
        }
        if since.is_some() {
            task.pending_since = is_pending.then(|| unix_nanos(now));
        }
    }
    lease.or(since)
}

/// Number by which a place is chosen, of several; the smallest is kept.
fn rank(queue: &Queue, id: &TaskId, place: &Place) -> u32 {
    let Some(task) = queue.tasks.get(id) else { return 0 };
    let rank = match place.state() {
        state if task.is(state) => 0,
        TaskState::Pending => 10,
        TaskState::Scheduled => 20,
        TaskState::Retry => 30,
        TaskState::Aggregating => 40,
        TaskState::Archived => 50,
        TaskState::Completed => 60,
        _ => 70,
    };
    match place {
        Place::State(_) => rank,
        Place::Gathered(name) if queue.aggregation_sets.contains(&queue.key(&format!("g:{name}"))) => rank,
        Place::Gathered(name) => rank + if task.group.as_ref() == Some(name) { 1 } else { 2 },
    }
}

/// Any breach of a task: it stays where its state says. In one other container it gets the state of the container,
/// except that a task that is not completed leaves the completed ones. In no container it is listed by its state.
fn places(queue: &mut Queue, id: &TaskId, write: bool, now: DateTime<Utc>) -> Repair {
    let found = places_of(queue, id);
    let state = match queue.task(id) {
        Err(PoisonKind::NoHash) => return Repair::Gone,
        Err(kind) => return put_aside(queue, id, kind, write, now),
        Ok(task) if task.msg.is_none() => return put_aside(queue, id, PoisonKind::NoMessage, write, now),
        Ok(task) => task.known_state(),
    };
    let group = queue.tasks.get(id).and_then(|task| task.group.clone());
    if let Some(group) = group.filter(|group| queue.misfits.contains_key(&format!("g:{group}"))) {
        return left_by_type(queue.key(&format!("g:{group}")));
    }
    let chosen = found.iter().min_by_key(|(place, _)| rank(queue, id, place)).cloned();
    let Some((place, times)) = chosen else {
        return match state {
            Ok(state) => list(queue, id, state, write, now),
            Err(kind) => put_aside(queue, id, kind, write, now),
        };
    };
    let mut remedy = None;
    if found.len() > 1 || times > 1 {
        remedy = Some(Remedy::KeepOne(place.state()));
        if write {
            found
                .iter()
                .filter(|(of, _)| *of != place)
                .for_each(|(of, times)| leave(queue, of, id, *times));
            if times > 1 {
                leave(queue, &place, id, times - 1);
            }
        }
    }
    match state {
        Ok(state) if place.state() == TaskState::Completed && state != TaskState::Completed => {
            if write {
                leave(queue, &place, id, times);
            }
            let listed = list(queue, id, state, write, now);
            if write {
                agree(queue, id, write, now);
            }
            return listed;
        }
        Ok(state) if state == place.state() => {}
        _ => {
            remedy = remedy.or(Some(Remedy::SetState(place.state())));
            if write {
                enter(queue, id, &place, now);
            }
        }
    }
    match remedy {
        Some(remedy) => {
            if write {
                agree(queue, id, write, now);
            }
            Repair::Done(remedy)
        }
        None => agree(queue, id, write, now).map_or(Repair::Gone, Repair::Done),
    }
}

fn list(queue: &mut Queue, id: &TaskId, state: TaskState, write: bool, now: DateTime<Utc>) -> Repair {
    let has_group = queue
        .tasks
        .get(id)
        .and_then(|task| task.group.as_ref())
        .is_some_and(|group| !group.is_empty());
    let listed = match state {
        TaskState::Aggregating if !has_group => TaskState::Pending,
        state => state,
    };
    done(Remedy::List(listed), write, || {
        relist(queue, id, now);
        agree(queue, id, true, now);
    })
}

/// Gives a task the state of its container.
fn enter(queue: &mut Queue, id: &TaskId, place: &Place, now: DateTime<Utc>) {
    let group = match place {
        Place::State(_) => None,
        Place::Gathered(name) => {
            let is_a_set = queue.aggregation_sets.contains(&queue.key(&format!("g:{name}"))) || is_set(queue, name);
            let group = name.rsplit_once(':').filter(|_| is_a_set);
            Some(group.map_or(name.as_str(), |(group, _)| group).to_owned())
        }
    };
    let Some(task) = queue.tasks.get_mut(id) else { return };
    task.enter(place.state());
    if group.is_some() {
        task.group = group;
    }
    if place.state() == TaskState::Pending {
        task.pending_since = Some(unix_nanos(now));
        if !queue.is_paused() {
            queue.on_pending.fire();
        }
    }
}

/// A group or aggregation set that is in no index, or a group in the index without tasks.
fn gathered(queue: &mut Queue, name: &str, write: bool, now: DateTime<Utc>) -> Repair {
    let key = queue.key(&format!("g:{name}"));
    if !queue.holds_group(name) {
        return match queue.groups.contains(name) {
            true => done(Remedy::RemoveGroup, write, || queue.groups.remove(name)),
            false => Repair::Gone,
        };
    }
    if !queue.gathered.contains_key(name) {
        return left_by_type(key);
    }
    if queue.groups.contains(name) || queue.aggregation_sets.contains(&key) {
        return Repair::Gone;
    }
    if is_set(queue, name) {
        return done(Remedy::ListSet, write, || {
            let ends = (now + AGGREGATION_SET_LIFETIME).timestamp();
            queue.aggregation_sets.insert(key, ends);
        });
    }
    done(Remedy::AddGroup, write, || queue.groups.insert(name.to_owned()))
}

fn counter(queue: &mut Queue, key: &str, write: bool, now: DateTime<Utc>) -> Repair {
    let Some(suffix) = key.strip_prefix(&keys::queue_prefix(&queue.name)) else {
        return Repair::Gone;
    };
    match queue.misfits.get(suffix) {
        Some(RawValue::String(_)) if is_counter(suffix) => return Repair::Left(Obstacle::UnknownNumber),
        Some(_) => return left_by_type(key.to_owned()),
        None => {}
    }
    let Some(value) = queue.counters.get(suffix, now) else {
        return Repair::Gone;
    };
    let faults = counter_faults(queue, suffix, now);
    let is_daily = suffix.contains(':');
    let mends = faults.iter().any(|fault| fault.is_of_lifetime());
    if mends && write {
        let ends = is_daily.then(|| now + STATS_TTL);
        queue.counters.put(suffix.to_owned(), value, ends);
    }
    match (faults.len(), mends) {
        (0, _) => Repair::Gone,
        (1, true) if is_daily => Repair::Done(Remedy::SetLifetime),
        (1, true) => Repair::Done(Remedy::RemoveLifetime),
        _ => Repair::Left(Obstacle::UnknownNumber),
    }
}
