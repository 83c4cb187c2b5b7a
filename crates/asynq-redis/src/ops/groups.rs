//! Groups and aggregation sets.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use asynq_core::{
    TaskMessage,
    broker::{
        AGGREGATION_SET_LIFETIME, AggregationSet, EnqueueRequest, GroupLimits, LeaseUntil, MAX_BATCH, MAX_BATCH_BYTES,
        PUT_OFF,
    },
    clock::unix_nanos,
    error::{BrokerError, EnqueueError},
    excerpt::Excerpt,
    info::{GroupInfo, TaskInfo},
    keys::{self, own},
    names::{GroupKey, QueueName},
};
use chrono::{DateTime, Utc};
use futures::future::join;

use super::{
    enqueue,
    exchange::decode,
    quarantine::{self, Fence},
};
use crate::{
    args::{Args, bound, keys_of},
    broker::core::Core,
    reply::{Reply, codes, int, protocol, scalar},
    scripts,
};

/// Number of groups or sets that one call looks at.
const GROUPS: i64 = 250;
/// Number of sets that one call hands back.
const SETS: i64 = 100;
/// Number of tasks that one call moves between a group and a set: a millisecond or so of Redis.
const MOVED: i64 = 500;
/// Number of tasks of a finished set that one call deletes.
const DELETED: i64 = 250;
/// Number of locks that one call frees.
const LOCKS: usize = 250;

/// The groups that have tasks, waiting or in aggregation sets, sorted. In one step where there are so few that
/// one call looks at all.
pub(crate) async fn infos(core: &Core, queue: &QueueName) -> Result<Vec<GroupInfo>, BrokerError> {
    let mut infos = BTreeMap::new();
    let mut found = |group: &str, size, in_sets| {
        let group = GroupKey::from_storage(group);
        let info = infos.entry(group.clone()).or_insert(GroupInfo {
            group,
            size: 0,
            in_sets: 0,
        });
        info.size += size;
        info.in_sets += in_sets;
    };
    let (waiting, sets) = sizes(core, queue, true).await?;
    for (group, size) in &waiting {
        found(group, *size, 0);
    }
    for (set, size) in &sets {
        if let Some(group) = keys::group_of_set(queue, set) {
            found(group, 0, *size);
        }
    }
    Ok(infos.into_values().collect())
}

/// The groups that have tasks waiting, sorted.
pub(crate) async fn names(core: &Core, queue: &QueueName) -> Result<Vec<GroupKey>, BrokerError> {
    let (waiting, _) = sizes(core, queue, false).await?;
    Ok(waiting.keys().map(|group| GroupKey::from_storage(group)).collect())
}

/// Numbers of tasks by names.
type Sizes = BTreeMap<String, u64>;

/// The groups that have tasks waiting, and the aggregation sets by their keys if they are wanted.
async fn sizes(core: &Core, queue: &QueueName, with_sets: bool) -> Result<(Sizes, Sizes), BrokerError> {
    let (mut waiting, mut sets) = (Sizes::new(), Sizes::new());
    let (mut group, mut set) = ("0".to_owned(), if with_sets { "0" } else { "" }.to_owned());
    loop {
        let args = Args::with_capacity(4)
            .text(&keys::queue_prefix(queue))
            .text(&group)
            .text(&set)
            .int(GROUPS);
        let keys = keys_of(queue, &["groups", "aggregation_sets"]);
        let value = core.link.eval(&scripts::GROUPS, keys, args).await?;
        let mut reply = Reply::of_script("groups", value)?;
        (group, set) = (reply.text()?, reply.text()?);
        for found in [&mut waiting, &mut sets] {
            let mut part = reply.list()?;
            while !part.is_empty() {
                found.insert(part.text()?, u64::try_from(part.int()?).unwrap_or(0));
            }
        }
        // What has come to its end is not begun anew.
        for cursor in [&mut group, &mut set] {
            if cursor == "0" {
                cursor.clear();
            }
        }
        if group.is_empty() && set.is_empty() {
            return Ok((waiting, sets));
        }
    }
}

pub(crate) async fn collect(
    core: &Core,
    queue: &QueueName,
    group: &GroupKey,
    limits: GroupLimits,
) -> Result<Option<AggregationSet>, BrokerError> {
    core.refresh_clock().await;
    let now = core.now();
    let id = core.link.env().entropy.uuid();
    let until = set_end(now);
    let before = |secs: u64| now.timestamp().saturating_sub(i64::try_from(secs).unwrap_or(i64::MAX));
    let most = limits.most();
    let mut args = Args::with_capacity(7).text(group.as_str()).int(i64::from(most));
    // Durations count in whole seconds and zero is no limit, as in Go.
    match limits.max_delay.map(|delay| delay.as_secs()).filter(|secs| *secs > 0) {
        Some(secs) => args.push_int(before(secs)),
        None => args.push(""),
    }
    let args = args.int(before(limits.grace.as_secs())).int(until.0).int(MOVED);
    let keys = Args::from_iter([
        keys::group(queue, group),
        keys::aggregation_set(queue, group, &id),
        keys::of_queue(queue, "aggregation_sets"),
        keys::of_queue(queue, "groups"),
    ]);
    let mut has = 0;
    loop {
        let mut args = args.clone();
        args.push_int(has);
        let value = core.link.eval(&scripts::COLLECT_GROUP, keys.clone(), args).await?;
        let mut reply = Reply::of_script("collect_group", value)?;
        has = reply.int()?;
        if has == 0 {
            return Ok(None);
        }
        if reply.int()? == 0 {
            break;
        }
    }
    let mut set = AggregationSet {
        queue: queue.clone(),
        group: group.clone(),
        id,
        tasks: Vec::new(),
        until,
    };
    set.tasks = read(core, &set).await?;
    Ok((!set.tasks.is_empty()).then_some(set))
}

/// Reads the tasks of a set. What cannot be used leaves it and is put aside.
async fn read(core: &Core, set: &AggregationSet) -> Result<Vec<Arc<TaskMessage>>, BrokerError> {
    let AggregationSet { queue, group, .. } = set;
    let key = keys::aggregation_set(queue, group, &set.id);
    let mut tasks = Vec::new();
    let (mut rank, mut emptied) = (0, false);
    while rank >= 0 {
        let args = Args::with_capacity(5)
            .text(&keys::queue_prefix(queue))
            .int(rank)
            .int(i64::from(MAX_BATCH))
            .int(bound(MAX_BATCH_BYTES))
            .int(core.now().timestamp());
        let keys = Args::from_iter([&key, &keys::of_queue(queue, "aggregation_sets")]);
        let value = core.link.eval(&scripts::READ_SET, keys, args).await?;
        let mut reply = Reply::of_script("read_set", value)?;
        rank = reply.int()?;
        let mut found = reply.list()?;
        while !found.is_empty() {
            let (raw_id, msg) = (found.bytes()?, found.bytes()?);
            match decode(queue, &raw_id, msg) {
                Ok((_, message)) => tasks.push(Arc::new(message)),
                Err((_, kind)) => {
                    // Those behind it moved up.
                    let gone = quarantine::put_aside(core, queue, &raw_id, kind, Fence::Member(&key)).await;
                    rank -= i64::from(gone && rank > 0);
                    emptied |= gone;
                }
            }
        }
        for (id, kind) in reply.list()?.damaged()? {
            tracing::warn!(%queue, %id, %kind, "a task cannot be used and was put aside");
        }
        // One more look takes a set off the list that has nothing left in it.
        if rank == -1 && tasks.is_empty() && std::mem::take(&mut emptied) {
            rank = 0;
        }
    }
    if rank == -2 {
        return Err(gone(set));
    }
    Ok(tasks)
}

fn set_end(now: DateTime<Utc>) -> LeaseUntil {
    LeaseUntil((now + AGGREGATION_SET_LIFETIME).timestamp())
}

pub(crate) async fn extend(core: &Core, set: &AggregationSet) -> Result<LeaseUntil, BrokerError> {
    core.refresh_clock().await;
    end_at(core, set, set_end(core.now()), "GT").await
}

pub(crate) async fn release(core: &Core, set: &AggregationSet, wait: Duration) -> Result<LeaseUntil, BrokerError> {
    core.refresh_clock().await;
    end_at(core, set, LeaseUntil::of_release(core.now(), wait), "LT").await
}

/// Moves the end of a set, later or sooner as `only_if` says; the end that is then in force.
async fn end_at(core: &Core, set: &AggregationSet, end: LeaseUntil, only_if: &str) -> Result<LeaseUntil, BrokerError> {
    const OPERATION: &str = "end_set";
    let key = keys::aggregation_set(&set.queue, &set.group, &set.id);
    let args = Args::with_capacity(3).text(&key).int(end.0).text(only_if);
    let keys = keys_of(&set.queue, &["aggregation_sets"]);
    let value = core.link.eval(&scripts::END_SET, keys, args).await?;
    match scalar(OPERATION, value)? {
        redis::Value::BulkString(text) if text.is_empty() => Err(gone(set)),
        value => int(OPERATION, value).map(LeaseUntil),
    }
}

pub(crate) async fn finish(
    core: &Core,
    set: &AggregationSet,
    result: EnqueueRequest,
) -> Result<TaskInfo, EnqueueError> {
    const OPERATION: &str = "finish_aggregation";
    let queue = &set.queue;
    if result.message.queue != queue.as_str() {
        let reason = format!(
            "the aggregated task is for queue {:?}, its set is in {queue:?}",
            Excerpt(&result.message.queue)
        );
        return Err(BrokerError::Refused { source: reason.into() }.into());
    }
    let now = core.now();
    let mut args = Args::with_capacity(16)
        .text(&keys::queue_prefix(queue))
        .int(now.timestamp())
        .int(unix_nanos(now));
    enqueue::push(&mut args, queue, &result, now)?;
    let mut keys = keys_of(queue, &["pending", "scheduled", "groups"]);
    keys.push(keys::aggregation_set(queue, &set.group, &set.id));
    let finished_set = own::finished_set(queue, &set.group, &set.id);
    keys.append(&keys_of(queue, &["aggregation_sets"]));
    keys.push(own::finished(queue));
    keys.push(&finished_set);
    let published = enqueue::publish(core, std::iter::once(queue));
    let finished = core.link.eval_apart(&scripts::FINISH_AGGREGATION, keys, args);
    let ((), value) = join(published, finished).await;
    let info = match codes(OPERATION, value?, 1)?.first() {
        Some(b'g') => return Err(gone(set).into()),
        Some(code) => enqueue::result_of(*code, queue, &result, now)?,
        None => return Err(protocol(OPERATION, "no code".to_owned()).into()),
    };
    // By the message, not by the hash, in which Go does not record the lock
    // (differences.md#locks-of-grouped-tasks, differences.md#freed-locks).
    let locked: Vec<_> = set.tasks.iter().filter(|task| !task.unique_key.is_empty()).collect();
    let mut locked = locked.as_slice();
    loop {
        let (now, later) = locked.split_at(locked.len().min(LOCKS));
        locked = later;
        match forget(core, queue, finished_set.as_bytes(), now).await {
            Ok(left) if left == 0 && locked.is_empty() => break,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%queue, group = %set.group, %error, "tasks that were aggregated are deleted later");
                break;
            }
        }
    }
    Ok(info)
}

/// Deletes a part of the tasks of a finished set, and frees these locks; how many are left.
async fn forget(
    core: &Core,
    queue: &QueueName,
    finished_set: &[u8],
    locked: &[&Arc<TaskMessage>],
) -> Result<i64, BrokerError> {
    const OPERATION: &str = "forget_finished";
    let mut args = Args::with_capacity(2 + 2 * locked.len())
        .text(&keys::queue_prefix(queue))
        .int(DELETED);
    for task in locked {
        args.push(&task.unique_key);
        args.push(&task.id);
    }
    let keys = Args::from_iter([own::finished(queue).as_bytes(), finished_set]);
    let value = core.link.eval(&scripts::FORGET_FINISHED, keys, args).await?;
    int(OPERATION, scalar(OPERATION, value)?)
}

pub(crate) async fn reclaim(core: &Core, queue: &QueueName) -> Result<u32, BrokerError> {
    if !core.may_take_over().await {
        return Ok(0);
    }
    let mut sets: u32 = 0;
    loop {
        let now = core.now();
        let args = Args::with_capacity(6)
            .text(&keys::queue_prefix(queue))
            .int(now.timestamp())
            .int(SETS)
            .int(MOVED)
            .text(&core.link.env().entropy.uuid())
            .int((now + PUT_OFF).timestamp());
        let keys = keys_of(queue, &["aggregation_sets", "groups", "x:finished"]);
        let value = core.link.eval(&scripts::RECLAIM_SETS, keys, args).await?;
        let mut reply = Reply::of_script("reclaim_sets", value)?;
        let (count, more) = (u32::try_from(reply.int()?).unwrap_or(0), reply.int()? == 1);
        sets = sets.saturating_add(count);
        for key in reply.list()?.texts()? {
            tracing::error!(
                %queue, key,
                "the tasks of an old aggregation set cannot join their group, whose key holds another type"
            );
        }
        let mut finished = reply.list()?;
        if !more {
            // What one that died had still to delete.
            while !finished.is_empty() {
                let set = finished.bytes()?;
                while forget(core, queue, &set, &[]).await? > 0 {}
            }
            return Ok(sets);
        }
    }
}

fn gone(set: &AggregationSet) -> BrokerError {
    BrokerError::AggregationSetGone {
        queue: set.queue.clone(),
        group: set.group.clone(),
    }
}
