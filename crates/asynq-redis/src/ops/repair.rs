//! Repairs of breaches (layout.md#invariants): each is looked at again and repaired in the same script.

use std::collections::BTreeMap;

use asynq_core::{
    TaskState,
    broker::{AGGREGATION_SET_LIFETIME, MAX_BATCH_BYTES, STATS_TTL},
    clock::unix_nanos,
    doctor::{Obstacle, Remedy, Repair, RepairMode},
    error::BrokerError,
    excerpt::Excerpt,
    inspect::Breach,
    keys, message,
    names::{QueueName, TaskId},
};

use super::{heal::places, inspect};
use crate::{
    args::Args,
    broker::core::Core,
    reply::{Reply, protocol},
    scripts,
};

/// Number of tasks, or of other keys, of one call: a millisecond or two of Redis.
const ITEMS: usize = 50;
/// Replaces bytes that are not UTF-8 in the names of a breach.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// A task, and what the script looks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    id: TaskId,
    /// See `repair_tasks.lua`.
    look: &'static str,
    container: String,
}

/// A key that is not of a task: its kind in `repair_keys.lua`, and its name.
type Key = (&'static str, String);

pub(crate) async fn repair(
    core: &Core,
    queue: &QueueName,
    breaches: &[Breach],
    mode: RepairMode,
) -> Result<Vec<Repair>, BrokerError> {
    let looks: Vec<Look> = looks(queue, breaches).into_values().flatten().collect();
    let mut keys: Vec<Key> = breaches.iter().filter_map(|breach| key_of(queue, breach)).collect();
    keys.sort();
    keys.dedup();
    let mut of_tasks = BTreeMap::new();
    let mut of_keys = BTreeMap::new();
    for part in looks.chunks(ITEMS) {
        tasks(core, queue, part, breaches, mode, &mut of_tasks).await?;
    }
    for part in keys.chunks(ITEMS) {
        of_keys.extend(other_keys(core, queue, part, mode).await?);
    }
    let mut results = Vec::with_capacity(breaches.len());
    for breach in breaches {
        let result = match (breach, breach.task(queue), key_of(queue, breach)) {
            (Breach::UnlistedQueue { .. }, ..) => list_queue(core, queue, mode).await?,
            (Breach::WrongType { key, found }, None, _) => wrong_type(core, queue, key, found).await?,
            (Breach::Dangling { container, .. }, Some(id), _) => result_of(&of_tasks, &id, Some(container)),
            (_, Some(id), _) => result_of(&of_tasks, &id, None),
            (.., Some(key)) => of_keys.get(&key).cloned().unwrap_or(Repair::Gone),
            _ => Repair::Gone,
        };
        let has_bytes = format!("{breach:?}").contains(REPLACEMENT);
        results.push(match result {
            Repair::Gone if has_bytes => Repair::Left(Obstacle::NotText),
            other => other,
        });
    }
    Ok(results)
}

/// Returns the looks for each task that a breach concerns: one for each container without a usable task, or one for all
/// its breaches.
fn looks(queue: &QueueName, breaches: &[Breach]) -> BTreeMap<TaskId, Vec<Look>> {
    let mut looks: BTreeMap<TaskId, Vec<Look>> = BTreeMap::new();
    for breach in breaches {
        let Some(id) = breach.task(queue) else { continue };
        let (look, container) = match breach {
            Breach::Dangling { container, .. } => ("id", container.as_str()),
            Breach::WrongType { .. } => ("id", ""),
            Breach::NoLease { .. } | Breach::StaleLease { .. } | Breach::PendingSince { .. } => ("fields", ""),
            _ => ("places", ""),
        };
        let look = Look {
            id: id.clone(),
            look,
            container: container.to_owned(),
        };
        let of_task = looks.entry(id).or_default();
        if !of_task.contains(&look) {
            of_task.push(look);
        }
    }
    for of_task in looks.values_mut() {
        // The first of these finds what the others would find.
        let strongest = ["id", "places", "fields"];
        let found = strongest
            .into_iter()
            .find(|of| of_task.iter().any(|look| look.look == *of));
        of_task.retain(|look| Some(look.look) == found);
    }
    looks
}

fn key_of(queue: &QueueName, breach: &Breach) -> Option<Key> {
    match breach {
        Breach::GroupIndex { group, .. } => Some(("group", keys::of_queue(queue, &format!("g:{group}")))),
        Breach::UnlistedSet { set } => Some(("group", set.clone())),
        Breach::OwnerlessLock { lock, .. } => Some(("lock", lock.clone())),
        Breach::Counter { key, .. } => Some(("counter", key.clone())),
        _ => None,
    }
    .filter(|(_, key)| key.starts_with(&keys::queue_prefix(queue)))
}

type OfTasks = BTreeMap<TaskId, Vec<(String, Repair)>>;

/// The result for one container of a task, or the first that is not `Gone`.
fn result_of(of_tasks: &OfTasks, id: &TaskId, container: Option<&String>) -> Repair {
    let results = of_tasks.get(id).map(Vec::as_slice).unwrap_or_default();
    let exact = results.iter().find(|(of, _)| container == Some(of));
    let exact = exact.filter(|(_, result)| *result != Repair::Gone);
    let any = || results.iter().find(|(_, result)| *result != Repair::Gone);
    exact.or_else(any).map_or(Repair::Gone, |(_, result)| result.clone())
}

async fn tasks(
    core: &Core,
    queue: &QueueName,
    looks: &[Look],
    breaches: &[Breach],
    mode: RepairMode,
    results: &mut OfTasks,
) -> Result<(), BrokerError> {
    let messages = undecodable(core, queue, looks).await?;
    let looks: Vec<_> = looks.iter().zip(messages).collect();
    let groups = groups_of(queue, &looks, breaches);
    let mut left = looks.as_slice();
    while !left.is_empty() {
        let now = core.now();
        let mut args = Args::with_capacity(5 + groups.len() + 4 * left.len())
            .text(&keys::queue_prefix(queue))
            .int(now.timestamp())
            .int(unix_nanos(now))
            .text(written(mode));
        args.push_count(groups.len());
        groups.iter().for_each(|key| args.push(key));
        let mut bytes = 0;
        for (look, message) in left {
            bytes += message.len();
            if bytes > MAX_BATCH_BYTES && args.len() > 5 + groups.len() {
                break;
            }
            args.push(look.id.as_str());
            args.push(look.look);
            args.push(&look.container);
            args.push(message);
        }
        let value = core.link.eval(&scripts::REPAIR_TASKS, places(queue), args).await?;
        let mut reply = match Reply::of_script("repair_tasks", value) {
            Err(BrokerError::WrongType { key }) => {
                for (look, _) in left {
                    let left = Repair::Left(Obstacle::WrongType { key: key.clone() });
                    results
                        .entry(look.id.clone())
                        .or_default()
                        .push((look.container.clone(), left));
                }
                return Ok(());
            }
            reply => reply?,
        };
        let looked = usize::try_from(reply.int()?).unwrap_or(0);
        if looked == 0 || looked > left.len() {
            return Err(protocol("repair_tasks", format!("{looked} tasks of {}", left.len())));
        }
        for (look, _) in &left[..looked] {
            let result = result(reply.text()?.as_str(), reply.text()?)?;
            results
                .entry(look.id.clone())
                .or_default()
                .push((look.container.clone(), result));
        }
        left = &left[looked..];
    }
    Ok(())
}

/// Returns the message of each task whose message cannot be read; empty for others.
async fn undecodable(core: &Core, queue: &QueueName, looks: &[Look]) -> Result<Vec<Vec<u8>>, BrokerError> {
    let mut messages = Vec::with_capacity(looks.len());
    for look in looks {
        let mut found = Vec::new();
        if look.look == "id" {
            let mut read = redis::cmd("HGET");
            read.arg(keys::task(queue, &look.id)).arg(keys::field::MSG);
            match core.link.command(&read).await {
                Ok(redis::Value::BulkString(msg)) => {
                    if message::decode_for(msg.clone().into(), queue, &look.id).is_err() {
                        found = msg;
                    }
                }
                Ok(_) | Err(BrokerError::WrongType { .. } | BrokerError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        messages.push(found);
    }
    Ok(messages)
}

/// Returns the groups and sets in which breaches of these tasks were seen.
fn groups_of(queue: &QueueName, looks: &[(&Look, Vec<u8>)], breaches: &[Breach]) -> Vec<String> {
    let prefix = keys::group_prefix(queue);
    let mut groups: Vec<String> = breaches
        .iter()
        .filter(|breach| {
            breach
                .task(queue)
                .is_some_and(|id| looks.iter().any(|(look, _)| look.id == id))
        })
        .flat_map(|breach| match breach {
            Breach::Dangling { container, .. } | Breach::WrongState { container, .. } => {
                std::slice::from_ref(container)
            }
            Breach::Duplicated { containers, .. } => containers.as_slice(),
            _ => &[],
        })
        .filter(|container| container.starts_with(&prefix))
        .cloned()
        .collect();
    groups.sort();
    groups.dedup();
    groups
}

fn written(mode: RepairMode) -> &'static str {
    match mode {
        RepairMode::Check => "0",
        RepairMode::Write => "1",
    }
}

async fn other_keys(
    core: &Core,
    queue: &QueueName,
    part: &[Key],
    mode: RepairMode,
) -> Result<Vec<(Key, Repair)>, BrokerError> {
    let ends = core.now() + AGGREGATION_SET_LIFETIME;
    let mut args = Args::with_capacity(4 + 2 * part.len())
        .text(&keys::queue_prefix(queue))
        .text(written(mode))
        .int(ends.timestamp())
        .int(i64::try_from(STATS_TTL.as_secs()).unwrap_or(i64::MAX));
    for (kind, key) in part {
        args.push(kind);
        args.push(key);
    }
    let value = core.link.eval(&scripts::REPAIR_KEYS, places(queue), args).await?;
    let mut reply = match Reply::of_script("repair_keys", value) {
        Err(BrokerError::WrongType { key }) => {
            let left = Repair::Left(Obstacle::WrongType { key });
            return Ok(part.iter().map(|key| (key.clone(), left.clone())).collect());
        }
        reply => reply?,
    };
    let results = part.iter().map(|key| {
        let result = result(reply.text()?.as_str(), reply.text()?)?;
        Ok((key.clone(), result))
    });
    results.collect()
}

/// Reads what a script did.
fn result(done: &str, detail: String) -> Result<Repair, BrokerError> {
    let state = || {
        let state = detail.parse::<TaskState>();
        state.map_err(|_| protocol("repair", format!("{:?} is no state", Excerpt(&detail))))
    };
    Ok(Repair::Done(match done {
        "gone" => return Ok(Repair::Gone),
        "left" => {
            return Ok(Repair::Left(match detail.as_str() {
                "deleted" => Obstacle::BeingDeleted,
                "sets" => Obstacle::TooManySets,
                "later" => Obstacle::NotSearched,
                "changed" => Obstacle::Changed,
                "number" => Obstacle::UnknownNumber,
                _ => Obstacle::WrongType { key: detail },
            }));
        }
        "id removed" => Remedy::RemoveId,
        "quarantined" => Remedy::Quarantine,
        "listed" => Remedy::List(state()?),
        "state set" => Remedy::SetState(state()?),
        "kept once" => Remedy::KeepOne(state()?),
        "lease added" => Remedy::AddLease,
        "lease removed" => Remedy::RemoveLease,
        "since set" => Remedy::SetPendingSince,
        "since removed" => Remedy::RemovePendingSince,
        "group+" => Remedy::AddGroup,
        "group-" => Remedy::RemoveGroup,
        "set+" => Remedy::ListSet,
        "lock-" => Remedy::RemoveLock,
        "end+" => Remedy::SetLifetime,
        "end-" => Remedy::RemoveLifetime,
        other => return Err(protocol("repair", format!("{:?} is no repair", Excerpt(other)))),
    }))
}

/// The index and the keys of a queue are in different slots, so the keys are looked for first. A name that is added while
/// the last key goes is no harm: the queue is empty.
async fn list_queue(core: &Core, queue: &QueueName, mode: RepairMode) -> Result<Repair, BrokerError> {
    if inspect::is_listed(core, queue).await? {
        return Ok(Repair::Gone);
    }
    if !inspect::has_keys(core, queue).await? {
        return Ok(Repair::Left(Obstacle::NoKeys));
    }
    if inspect::is_listed(core, queue).await? {
        return Ok(Repair::Gone);
    }
    if mode == RepairMode::Write {
        let mut add = redis::cmd("SADD");
        add.arg(keys::QUEUES).arg(queue.as_str());
        core.link.command(&add).await?;
    }
    Ok(Repair::Done(Remedy::ListQueue))
}

async fn wrong_type(core: &Core, queue: &QueueName, key: &str, found: &str) -> Result<Repair, BrokerError> {
    let mut read = redis::cmd("TYPE");
    read.arg(key);
    let value = core
        .link
        .command_at(keys::queue_prefix(queue).as_bytes(), &read)
        .await?;
    let is_there = match value {
        redis::Value::SimpleString(kind) => kind == found,
        redis::Value::BulkString(kind) => kind == found.as_bytes(),
        _ => false,
    };
    Ok(if is_there {
        Repair::Left(Obstacle::WrongType { key: key.to_owned() })
    } else {
        Repair::Gone
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaches_of_one_task_are_one_look() {
        let id = TaskId::from_storage("a");
        let breaches = [
            Breach::NoLease { id: id.clone() },
            Breach::WrongState {
                container: "asynq:{q}:active".into(),
                id: id.clone(),
                state: "retry".into(),
            },
            Breach::PendingSince {
                id: id.clone(),
                state: "retry".into(),
            },
        ];
        let all: Vec<_> = looks(&QueueName::from_storage("q"), &breaches)
            .into_values()
            .flatten()
            .collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].look, "places");
    }
}
