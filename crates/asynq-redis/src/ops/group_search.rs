//! The places where a task may be that is not found where its hash leads to: all groups and aggregation sets. They
//! are searched only when something is wrong, since all keys of the database must be walked.

use std::collections::BTreeSet;

use asynq_core::{error::BrokerError, keys, names::QueueName};

use crate::{
    args::{Args, keys_of, pattern_of},
    broker::core::Core,
    reply::Reply,
    scripts,
};

/// Number of keys of the database that one call looks at.
const KEYS: i64 = 500;
/// Largest number of groups and sets that a task is looked for in.
const MOST: usize = 10_000;
/// Number of looks (a task in a group) that one call takes: a millisecond or two of Redis.
pub(crate) const LOOKS: usize = 2500;
/// Number of groups up to which all are looked into.
const FEW: usize = 50;
/// Number of tasks of one search for groups.
const IDS: usize = 50;

/// The keys of the groups and aggregation sets of a queue that may hold any of these tasks, sorted; `None`
/// if there are too many to be looked into (rules.md#bounded-calls).
///
/// Those are the ones that hold one now, and groups that a set may go back to before the caller looks.
pub(crate) async fn groups_holding(
    core: &Core,
    queue: &QueueName,
    ids: &[&[u8]],
) -> Result<Option<Vec<Vec<u8>>>, BrokerError> {
    let Some(all) = all(core, queue).await? else {
        return Ok(None);
    };
    if all.len() <= FEW {
        return Ok(Some(all.into_iter().collect()));
    }
    let mut found: BTreeSet<_> = all
        .iter()
        .filter_map(|key| group_of(key))
        .filter(|key| all.contains(key))
        .collect();
    let all: Vec<_> = all.into_iter().collect();
    for groups in all.chunks(LOOKS / IDS) {
        holding(core, queue, groups, ids, &mut found).await?;
    }
    if found.len() > LOOKS {
        tracing::warn!(%queue, "too many groups to search for a task");
        return Ok(None);
    }
    Ok(Some(found.into_iter().collect()))
}

/// Adds those of some groups and sets that hold any of these tasks now. One call for 50 tasks and 50 groups.
pub(crate) async fn holding(
    core: &Core,
    queue: &QueueName,
    groups: &[Vec<u8>],
    ids: &[&[u8]],
    found: &mut BTreeSet<Vec<u8>>,
) -> Result<(), BrokerError> {
    for ids in ids.chunks(IDS) {
        for groups in groups.chunks(LOOKS / IDS) {
            let mut args = Args::with_capacity(1 + groups.len() + ids.len());
            args.push_count(groups.len());
            groups.iter().for_each(|key| args.push(key));
            ids.iter().for_each(|id| args.push(id));
            let keys = keys_of(queue, &["groups"]);
            let value = core.link.eval(&scripts::SEARCH_GROUPS, keys, args).await?;
            let mut reply = Reply::of_script("search_groups", value)?;
            while !reply.is_empty() {
                found.insert(reply.bytes()?);
            }
        }
    }
    Ok(())
}

/// The group to which a set goes back, by the key of the set.
pub(crate) fn group_of(key: &[u8]) -> Option<Vec<u8>> {
    let colon = key.iter().rposition(|byte| *byte == b':')?;
    Some(key[..colon].to_vec())
}

/// A part of the keys of groups and sets: one `SCAN`, and the cursor at which to go on.
pub(crate) async fn page(core: &Core, queue: &QueueName, cursor: &str) -> Result<(String, Vec<Vec<u8>>), BrokerError> {
    let (pattern, prefix) = (pattern_of(queue, "g:"), keys::queue_prefix(queue));
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(KEYS);
    let mut reply = Reply::new("SCAN", core.link.command_at(prefix.as_bytes(), &scan).await?)?;
    let (cursor, mut keys, mut found) = (reply.text()?, reply.list()?, Vec::new());
    while !keys.is_empty() {
        found.push(keys.bytes()?);
    }
    Ok((cursor, found))
}

/// The keys of all of them.
async fn all(core: &Core, queue: &QueueName) -> Result<Option<BTreeSet<Vec<u8>>>, BrokerError> {
    let mut cursor = "0".to_owned();
    let mut found = BTreeSet::new();
    loop {
        let keys;
        (cursor, keys) = page(core, queue, &cursor).await?;
        found.extend(keys);
        if found.len() > MOST {
            tracing::warn!(%queue, "too many groups to search for a task");
            return Ok(None);
        }
        if cursor == "0" {
            return Ok(Some(found));
        }
    }
}

/// Returns how many tasks one call looks for in so many groups and sets.
pub(crate) fn tasks_a_call(groups: usize) -> usize {
    (LOOKS / groups.max(1)).clamp(1, 200)
}
