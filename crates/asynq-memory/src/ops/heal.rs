//! Repair of the damage that crashed writers leave behind. The whole queue is looked at in one step, and a limited
//! number of entries of each kind is repaired; Redis, which must not be held up, looks at a part in each call.

use std::{collections::BTreeMap, time::Duration};

use asynq_core::{
    TaskState,
    broker::{AGGREGATION_SET_LIFETIME, Healed, Poison},
    error::{BrokerError, PoisonKind},
    names::{GroupKey, TaskId},
};
use chrono::{DateTime, Utc};

use crate::model::{End, Queue, is_uuid};

/// The longest life of a claim.
const LONGEST_CLAIM: Duration = Duration::from_secs(24 * 3600);

/// Claims the repairs of a queue for one connection: whether it holds the claim now.
pub(crate) fn claim(queue: &mut Queue, connection: u64, lasts: Duration, now: DateTime<Utc>) -> bool {
    if queue
        .healer
        .is_some_and(|(holder, until)| holder != connection && until > now)
    {
        return false;
    }
    let lasts = lasts.clamp(Duration::from_millis(1), LONGEST_CLAIM);
    queue.healer = Some((connection, now + lasts));
    true
}

/// Repairs one queue: first active tasks and leases, then hashes, groups and locks.
pub(crate) fn heal(queue: &mut Queue, limit: u32, now: DateTime<Utc>) -> Result<Healed, BrokerError> {
    queue.check(&[
        "pending",
        "active",
        "lease",
        "scheduled",
        "retry",
        "archived",
        "completed",
        "groups",
        "aggregation_sets",
    ])?;
    let limit = limit.max(1) as usize;
    let mut healed = Healed::default();
    forget_empty_groups(queue);
    heal_leases(queue, limit, now, &mut healed);
    heal_sets(queue, limit, &mut healed);
    heal_hashes(queue, limit, now, &mut healed);
    heal_groups(queue, limit, now, &mut healed);
    heal_locks(queue, limit, now, &mut healed);
    Ok(healed)
}

/// A fault of an id in `active`.
enum Fault {
    /// Entry that cannot be used.
    Unusable(PoisonKind),
    /// Active task without a lease (differences.md#active-without-a-lease).
    NoLease,
    /// Task that is also where its state says.
    Stray,
    /// Task that is here alone, although its state says something else.
    WrongState,
}

/// Returns whether nothing can be done with a task. Its message is not looked at here: whoever takes or
/// recovers the task does.
fn unusable(queue: &Queue, id: &TaskId) -> Option<PoisonKind> {
    match queue.task(id) {
        Ok(task) if task.msg.is_none() => Some(PoisonKind::NoMessage),
        Ok(task) => task.known_state().err(),
        Err(kind) => Some(kind),
    }
}

/// Active ids and leases fit each other.
fn heal_leases(queue: &mut Queue, limit: usize, now: DateTime<Utc>, healed: &mut Healed) {
    let times = times_listed(queue);
    let fault = |id: &TaskId| {
        if let Some(kind) = unusable(queue, id) {
            return Some(Fault::Unusable(kind));
        }
        match queue.tasks.get(id).is_some_and(|task| task.is(TaskState::Active)) {
            true => (!queue.lease.contains(id)).then_some(Fault::NoLease),
            false if times.get(id).is_some_and(|times| *times > 1) => Some(Fault::Stray),
            false => Some(Fault::WrongState),
        }
    };
    let faults = queue.active.iter().filter_map(|id| Some((id.clone(), fault(id)?)));
    let faults: Vec<(TaskId, Fault)> = faults.take(limit).collect();

    let is_active = |id: &TaskId| queue.task(id).is_ok_and(|task| task.is(TaskState::Active));
    let stale = queue
        .lease
        .iter()
        .filter(|(id, _)| !is_active(id))
        .map(|(id, _)| id.clone());
    let stale: Vec<TaskId> = stale.take(limit).collect();

    for id in &stale {
        queue.lease.remove(id);
    }
    healed.stale_leases.extend(stale);
    for (id, fault) in faults {
        match fault {
            Fault::Unusable(kind) => healed.poisoned.push(queue.put_active_aside(&id, kind, now)),
            // The usual recovery takes it from there, and a living owner can extend it again.
            Fault::NoLease => {
                queue.lease.insert(id.clone(), now.timestamp());
                healed.leased.push(id);
            }
            Fault::Stray => {
                queue.leave_active(&id);
                healed.relisted.push(id);
            }
            Fault::WrongState => {
                if let Some(task) = queue.tasks.get_mut(&id) {
                    task.enter(TaskState::Active);
                }
                queue.lease.insert(id.clone(), now.timestamp());
                healed.relisted.push(id);
            }
        }
    }
}

/// Returns how often each id stands in a container.
fn times_listed(queue: &Queue) -> BTreeMap<TaskId, usize> {
    let mut times = BTreeMap::new();
    let mut see = |id: &TaskId| *times.entry(id.clone()).or_insert(0) += 1;
    queue.pending.iter().chain(&queue.active).for_each(&mut see);
    let sets = [&queue.scheduled, &queue.retry, &queue.archived, &queue.completed];
    sets.into_iter()
        .chain(queue.gathered.values())
        .flat_map(|set| set.iter())
        .for_each(|(id, _)| see(id));
    times
}

/// Ids without a task leave the sets in which they would stay for long.
fn heal_sets(queue: &mut Queue, limit: usize, healed: &mut Healed) {
    let Queue {
        tasks,
        misfits,
        scheduled,
        retry,
        archived,
        completed,
        ..
    } = queue;
    let is_gone = |id: &TaskId| !tasks.contains_key(id) && !misfits.contains_key(&format!("t:{id}"));
    let mut gone: Vec<TaskId> = Vec::new();
    for set in [scheduled, retry, archived, completed] {
        let ids = set.iter().map(|(id, _)| id).filter(|id| is_gone(id));
        let ids: Vec<_> = ids.take(limit).cloned().collect();
        for id in &ids {
            set.remove(id);
        }
        gone.extend(ids);
    }
    healed.poisoned.extend(gone.into_iter().map(|id| Poison {
        queue: queue.name.clone(),
        id,
        kind: PoisonKind::NoHash,
    }));
}

/// A hash that stands in no container becomes what its state says; one whose time is not known any
/// more is due now.
fn heal_hashes(queue: &mut Queue, limit: usize, now: DateTime<Utc>, healed: &mut Healed) {
    let times = times_listed(queue);
    let mut unlisted: Vec<TaskId> = queue
        .tasks
        .keys()
        .filter(|id| !times.contains_key(*id))
        .cloned()
        .collect();
    unlisted.extend(misfit_tasks(queue).filter(|id| !times.contains_key(id)));
    unlisted.sort();
    unlisted.truncate(limit);
    for id in unlisted {
        match unusable(queue, &id) {
            Some(kind) => {
                queue.lease.remove(&id);
                healed.poisoned.push(queue.put_aside(&id, kind, now));
            }
            None => {
                relist(queue, &id, now);
                healed.relisted.push(id);
            }
        }
    }
}

fn misfit_tasks(queue: &Queue) -> impl Iterator<Item = TaskId> {
    queue
        .misfits
        .keys()
        .filter_map(|suffix| suffix.strip_prefix("t:"))
        .map(TaskId::from_storage)
}

pub(super) fn relist(queue: &mut Queue, id: &TaskId, now: DateTime<Utc>) {
    let Some(task) = queue.tasks.get(id) else { return };
    let (state, group) = (task.known_state(), task.group.clone().filter(|group| !group.is_empty()));
    let at = now.timestamp();
    match (state, group) {
        (Ok(TaskState::Active), _) => {
            queue.active.push_front(id.clone());
            if !queue.lease.contains(id) {
                queue.lease.insert(id.clone(), at);
            }
        }
        (Ok(TaskState::Scheduled), _) => {
            queue.scheduled.insert(id.clone(), at);
            queue.on_delayed.fire();
        }
        (Ok(TaskState::Retry), _) => {
            queue.retry.insert(id.clone(), at);
            queue.on_delayed.fire();
        }
        (Ok(TaskState::Archived), _) => drop(queue.archived.insert(id.clone(), at)),
        // It would be deleted at once otherwise.
        (Ok(TaskState::Completed), _) => drop(queue.completed.insert(id.clone(), at + 86_400)),
        (Ok(TaskState::Aggregating), Some(group)) => {
            queue.gathered.entry(group.clone()).or_default().insert(id.clone(), at);
            queue.groups.insert(group);
        }
        _ => queue.push_pending(id, End::Back, now),
    }
}

/// Groups without tasks leave the index: nobody collects those, and Go's tools stumble over them
/// (layout.md#invariants).
fn forget_empty_groups(queue: &mut Queue) {
    let empty: Vec<String> = queue
        .groups
        .iter()
        .filter(|group| !queue.holds_group(group))
        .cloned()
        .collect();
    for group in empty {
        queue.groups.remove(&group);
    }
}

/// Groups that have tasks stand in the index (differences.md#groups-handed-back,
/// differences.md#groups-of-forwarded-tasks), and so do aggregation sets in theirs.
fn heal_groups(queue: &mut Queue, limit: usize, now: DateTime<Utc>, healed: &mut Healed) {
    let set_key = |name: &str| queue.key(&format!("g:{name}"));
    let missing = queue
        .gathered
        .keys()
        .filter(|name| !queue.groups.contains(*name) && !queue.aggregation_sets.contains(&set_key(name)));
    let missing: Vec<(String, bool)> = missing
        .take(limit)
        .map(|name| (name.clone(), is_set(queue, name)))
        .collect();
    let until = (now + AGGREGATION_SET_LIFETIME).timestamp();
    for (name, is_set) in missing {
        if is_set {
            let key = queue.key(&format!("g:{name}"));
            queue.aggregation_sets.insert(key.clone(), until);
            healed.relisted_sets.push(key);
        } else {
            healed.regrouped.push(GroupKey::from_storage(&name));
            queue.groups.insert(name);
        }
    }
}

/// Returns whether a name that stands in no index is that of an aggregation set: a group may be called after a
/// colon and a UUID, too, so its tasks tell, the first ten.
pub(super) fn is_set(queue: &Queue, name: &str) -> bool {
    let Some((group, set)) = name.rsplit_once(':') else {
        return false;
    };
    let members = queue.gathered.get(name).into_iter().flat_map(|set| set.iter()).take(10);
    let mut named = members.filter_map(|(id, _)| queue.tasks.get(id)?.group.as_deref());
    is_uuid(set) && named.find(|named| !named.is_empty()).unwrap_or(group) == group
}

/// A lock whose owner has no task is removed.
fn heal_locks(queue: &mut Queue, limit: usize, now: DateTime<Utc>, healed: &mut Healed) {
    let ownerless = queue
        .locks
        .iter(now)
        .filter(|(key, owner)| queue.is_lock(key) && !queue.holds(owner));
    let mut ownerless: Vec<String> = ownerless.map(|(key, _)| key.clone()).collect();
    ownerless.sort();
    ownerless.truncate(limit);
    for key in &ownerless {
        queue.locks.remove(key);
    }
    healed.unlocked.extend(ownerless);
}
