//! Groups and aggregation sets.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use asynq_core::{
    TaskState,
    broker::{AGGREGATION_SET_LIFETIME, AggregationSet, EnqueueRequest, GroupLimits, LeaseUntil, PUT_OFF, Poison},
    error::{BrokerError, EnqueueError},
    info::{GroupInfo, TaskInfo},
    keys,
    names::{GroupKey, TaskId},
};
use chrono::{DateTime, Utc};

use super::enqueue::{self, Conflict};
use crate::model::{Queue, ZSet};

/// The groups that have tasks, waiting or in aggregation sets, with their numbers.
pub(crate) fn list(queue: &Queue) -> Result<Vec<GroupInfo>, BrokerError> {
    queue.check(&["groups", "aggregation_sets"])?;
    let mut found: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for group in &queue.groups {
        if let Some(waiting) = queue.gathered.get(group) {
            found.entry(group).or_default().0 = waiting.len() as u64;
        }
    }
    for (key, _) in queue.aggregation_sets.iter() {
        let set = queue.gathered_name(key).and_then(|name| queue.gathered.get(name));
        if let (Some(set), Some(group)) = (set, keys::group_of_set(&queue.name, key)) {
            found.entry(group).or_default().1 += set.len() as u64;
        }
    }
    let infos = found.into_iter().map(|(group, (size, in_sets))| GroupInfo {
        group: GroupKey::from_storage(group),
        size,
        in_sets,
    });
    Ok(infos.collect())
}

/// The groups that have tasks waiting.
pub(crate) fn names(queue: &Queue) -> Result<Vec<GroupKey>, BrokerError> {
    queue.check(&["groups"])?;
    let waiting = queue.groups.iter().filter(|group| queue.gathered.contains_key(*group));
    Ok(waiting.map(|group| GroupKey::from_storage(group)).collect())
}

/// Makes a set of a group that is full or old enough. Hashes are not touched: their state stays
/// `aggregating`. Ids without a usable task are put aside.
pub(crate) fn collect(
    queue: &mut Queue,
    group: &GroupKey,
    limits: GroupLimits,
    set_id: String,
    now: DateTime<Utc>,
) -> Result<(Option<AggregationSet>, Vec<Poison>), BrokerError> {
    let group_name = format!("g:{group}");
    queue.check(&["groups", "aggregation_sets", &group_name])?;
    let Some(waiting) = queue.gathered.get_mut(group.as_str()) else {
        queue.groups.remove(group.as_str());
        return Ok((None, Vec::new()));
    };
    if !is_ready(waiting, limits, now) {
        return Ok((None, Vec::new()));
    }
    let most = limits.most() as usize;
    let members = waiting.pop_lowest(most.min(waiting.len()));
    if waiting.is_empty() {
        queue.gathered.remove(group.as_str());
        queue.groups.remove(group.as_str());
    }

    let mut set = ZSet::default();
    let (mut tasks, mut poisoned) = (Vec::new(), Vec::new());
    for (id, score) in members {
        match queue.task(&id).and_then(|task| task.message(&queue.name, &id)) {
            Ok(message) => {
                set.insert(id, score);
                tasks.push(Arc::new(message));
            }
            Err(kind) => poisoned.push(queue.put_aside(&id, kind, now)),
        }
    }
    if tasks.is_empty() {
        return Ok((None, poisoned));
    }
    let until = set_end(now);
    queue
        .aggregation_sets
        .insert(keys::aggregation_set(&queue.name, group, &set_id), until.0);
    queue.gathered.insert(format!("{group}:{set_id}"), set);
    let queue = queue.name.clone();
    Ok((
        Some(AggregationSet {
            queue,
            group: group.clone(),
            id: set_id,
            tasks,
            until,
        }),
        poisoned,
    ))
}

/// Full, or its oldest task has waited long enough, or nothing came for a while. Durations count
/// in whole seconds and zero is no limit, as in Go.
fn is_ready(group: &ZSet<TaskId>, limits: GroupLimits, now: DateTime<Utc>) -> bool {
    let (Some((_, oldest)), Some((_, newest))) = (group.first(), group.last()) else {
        return false;
    };
    let before = |secs: u64| now.timestamp().saturating_sub(i64::try_from(secs).unwrap_or(i64::MAX));
    let full = group.len() >= limits.most() as usize;
    let old = limits
        .max_delay
        .map(|delay| delay.as_secs())
        .is_some_and(|secs| secs > 0 && oldest <= before(secs));
    full || old || newest <= before(limits.grace.as_secs())
}

fn set_end(now: DateTime<Utc>) -> LeaseUntil {
    LeaseUntil((now + AGGREGATION_SET_LIFETIME).timestamp())
}

/// Keeps a set for another lifetime, if it is still listed.
pub(crate) fn extend(queue: &mut Queue, set: &AggregationSet, now: DateTime<Utc>) -> Result<LeaseUntil, BrokerError> {
    queue.check(&["aggregation_sets"])?;
    let key = keys::aggregation_set(&set.queue, &set.group, &set.id);
    let Some(score) = queue.aggregation_sets.score(&key) else {
        return Err(gone(set));
    };
    let until = set_end(now).max(LeaseUntil(score));
    queue.aggregation_sets.insert(key, until.0);
    Ok(until)
}

/// Lets the time of a set be over sooner, if it is still listed.
pub(crate) fn release(
    queue: &mut Queue,
    set: &AggregationSet,
    wait: Duration,
    now: DateTime<Utc>,
) -> Result<LeaseUntil, BrokerError> {
    queue.check(&["aggregation_sets"])?;
    let key = keys::aggregation_set(&set.queue, &set.group, &set.id);
    let Some(score) = queue.aggregation_sets.score(&key) else {
        return Err(gone(set));
    };
    let over = LeaseUntil::of_release(now, wait).min(LeaseUntil(score));
    queue.aggregation_sets.insert(key, over.0);
    Ok(over)
}

/// Enqueues the aggregated task, then deletes the set with its tasks and the locks they hold
/// (differences.md#freed-locks). If either cannot be, nothing happens.
pub(crate) fn finish(
    queue: &mut Queue,
    set: &AggregationSet,
    result: EnqueueRequest,
    now: DateTime<Utc>,
) -> Result<TaskInfo, EnqueueError> {
    if result.message.queue != queue.name.as_str() {
        let found = &result.message.queue;
        let reason = format!(
            "the aggregated task is for queue {found:?}, its set is in {:?}",
            queue.name
        );
        return Err(BrokerError::Refused { source: reason.into() }.into());
    }
    let name = format!("{}:{}", set.group, set.id);
    queue.check(&["aggregation_sets", &format!("g:{name}")])?;
    let key = queue.key(&format!("g:{name}"));
    enqueue::check(queue, &result.placement)?;
    let listed = queue.aggregation_sets.contains(&key);
    if !listed && enqueue::conflict(queue, &result, now) != Some(Conflict::Ourselves) {
        return Err(gone(set).into());
    }
    let info = enqueue::enqueue(queue, &result, now)?;
    if !listed {
        return Ok(info);
    }
    queue.aggregation_sets.remove(&key);
    for (id, _) in queue.gathered.remove(&name).unwrap_or_default().iter() {
        if queue.tasks.get(id).is_some_and(|task| task.is(TaskState::Aggregating)) {
            queue.tasks.remove(id);
        }
    }
    // The messages name the locks of Go's tasks too, whose hashes do not (differences.md#locks-of-grouped-tasks).
    for message in &set.tasks {
        queue.free_lock(&message.unique_key, &TaskId::from_storage(&message.id), now);
    }
    Ok(info)
}

/// Hands sets that outlived their time back to their groups, and the groups to the index
/// (differences.md#groups-handed-back).
pub(crate) fn reclaim(queue: &mut Queue, now: DateTime<Utc>) -> Result<u32, BrokerError> {
    queue.check(&["aggregation_sets", "groups"])?;
    let stale = queue.aggregation_sets.up_to(now.timestamp(), usize::MAX);
    let mut back = 0;
    for (key, _) in &stale {
        // A damaged group puts off its own sets and no others.
        if let Some(group) = keys::group_of_set(&queue.name, key)
            && queue.check(&[&format!("g:{group}")]).is_err()
            && queue
                .gathered_name(key)
                .is_some_and(|name| queue.gathered.contains_key(name))
        {
            queue.aggregation_sets.insert(key.clone(), (now + PUT_OFF).timestamp());
            continue;
        }
        back += 1;
        queue.aggregation_sets.remove(key);
        let (Some(name), Some(group)) = (queue.gathered_name(key), keys::group_of_set(&queue.name, key)) else {
            continue;
        };
        let Some(members) = queue.gathered.remove(name) else {
            continue;
        };
        let waiting = queue.gathered.entry(group.to_owned()).or_default();
        for (id, score) in members.iter() {
            let score = waiting.score(id).map_or(score, |other| other.min(score));
            waiting.insert(id.clone(), score);
        }
        queue.groups.insert(group.to_owned());
    }
    Ok(back)
}

fn gone(set: &AggregationSet) -> BrokerError {
    BrokerError::AggregationSetGone {
        queue: set.queue.clone(),
        group: set.group.clone(),
    }
}
