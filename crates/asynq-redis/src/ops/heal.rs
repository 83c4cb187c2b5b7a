//! What crashed writers left behind.

use std::collections::BTreeSet;

use asynq_core::{
    broker::{AGGREGATION_SET_LIFETIME, Healed, MAX_BATCH, Poison, RECOVER_GRACE},
    clock::unix_nanos,
    error::BrokerError,
    keys,
    names::{GroupKey, QueueName, TaskId},
};
use chrono::{DateTime, Utc};

use super::gathered::{gathered, tasks_a_call};
use crate::{
    args::{Args, keys_of, pattern_of},
    broker::Core,
    reply::Reply,
    scripts,
};

/// Where the next look at a queue begins.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    active: i64,
    lease: i64,
    scan: String,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            active: 0,
            lease: 0,
            scan: "0".to_owned(),
        }
    }
}

/// KEYS of `include/places.lua`.
pub(crate) fn places(queue: &QueueName) -> Vec<Vec<u8>> {
    keys_of(
        queue,
        &[
            "pending",
            "active",
            "lease",
            "scheduled",
            "retry",
            "archived",
            "completed",
            "groups",
            "aggregation_sets",
        ],
    )
}

pub(crate) async fn heal(core: &Core, queue: &QueueName, limit: u32) -> Result<Healed, BrokerError> {
    let now = core.now();
    let limit = i64::from(limit.clamp(1, 5 * MAX_BATCH));
    let mut place = core.heal_place(queue);
    let mut healed = Healed::default();
    // What was repaired is reported even if the rest fails.
    let mut doubtful = heal_active(core, queue, limit, now, &mut place, &mut healed).await?;
    let rest = async {
        doubtful.append(&mut heal_keys(core, queue, limit, now, &mut place, &mut healed).await?);
        relist(core, queue, doubtful, now, &mut healed).await
    };
    let rest = rest.await;
    core.set_heal_place(queue, place);
    match rest {
        Err(error) if healed.is_empty() => Err(error),
        Err(error) => {
            tracing::warn!(%queue, %error, "the keys of a queue could not be looked at");
            Ok(healed)
        }
        Ok(()) => Ok(healed),
    }
}

/// Ids as they stand in Redis, each once.
type Ids = BTreeSet<Vec<u8>>;

/// Repairs what needs no look elsewhere; the ids that do.
async fn heal_active(
    core: &Core,
    queue: &QueueName,
    limit: i64,
    now: DateTime<Utc>,
    place: &mut Place,
    healed: &mut Healed,
) -> Result<Ids, BrokerError> {
    let args = Args::with_capacity(6)
        .text(&keys::queue_prefix(queue))
        .int(now.timestamp())
        .int(place.active)
        .int(place.lease)
        .int(limit)
        .int(i64::try_from(RECOVER_GRACE.as_secs()).unwrap_or(i64::MAX));
    let value = core.link.eval(&scripts::HEAL, places(queue), args.done()).await?;
    let mut reply = Reply::of_script("heal", value)?;
    healed.leased.extend(ids(reply.list()?)?);
    healed.stale_leases.extend(ids(reply.list()?)?);
    let doubtful = raw_ids(reply.list()?)?;
    healed.poisoned.extend(poison(queue, reply.list()?)?);
    place.active = reply.int()?;
    place.lease = reply.int()?;
    Ok(doubtful)
}

/// Repairs what needs no look elsewhere; the ids that do.
async fn heal_keys(
    core: &Core,
    queue: &QueueName,
    limit: i64,
    now: DateTime<Utc>,
    place: &mut Place,
    healed: &mut Healed,
) -> Result<Ids, BrokerError> {
    let args = Args::with_capacity(5)
        .text(&keys::queue_prefix(queue))
        .int((now + AGGREGATION_SET_LIFETIME).timestamp())
        .text(&pattern_of(queue, ""))
        .text(&place.scan)
        .int(limit);
    let value = core.link.eval(&scripts::HEAL_KEYS, places(queue), args.done()).await?;
    let mut reply = Reply::of_script("heal_keys", value)?;
    place.scan = reply.text()?;
    let doubtful = raw_ids(reply.list()?)?;
    healed
        .regrouped
        .extend(reply.list()?.texts()?.iter().map(|name| GroupKey::from_storage(name)));
    healed.relisted_sets.extend(reply.list()?.texts()?);
    healed.unlocked.extend(reply.list()?.texts()?);
    Ok(doubtful)
}

/// Looks for these tasks everywhere and puts those where their state says that do not stand there.
async fn relist(
    core: &Core,
    queue: &QueueName,
    doubtful: Ids,
    now: DateTime<Utc>,
    healed: &mut Healed,
) -> Result<(), BrokerError> {
    if doubtful.is_empty() {
        return Ok(());
    }
    let Some(groups) = gathered(core, queue).await? else {
        return Ok(());
    };
    let doubtful: Vec<_> = doubtful.into_iter().collect();
    for part in doubtful.chunks(tasks_a_call(groups.len())) {
        let mut args = Args::with_capacity(4 + groups.len() + part.len())
            .text(&keys::queue_prefix(queue))
            .int(now.timestamp())
            .int(unix_nanos(now));
        args.push_count(groups.len());
        groups.iter().chain(part).for_each(|name| args.push(name));
        let value = core.link.eval(&scripts::RELIST, places(queue), args.done()).await?;
        let mut reply = Reply::of_script("relist", value)?;
        healed.relisted.extend(ids(reply.list()?)?);
        healed.poisoned.extend(poison(queue, reply.list()?)?);
    }
    Ok(())
}

fn raw_ids(mut reply: Reply) -> Result<Ids, BrokerError> {
    let mut found = Ids::new();
    while !reply.is_empty() {
        found.insert(reply.bytes()?);
    }
    Ok(found)
}

fn ids(reply: Reply) -> Result<Vec<TaskId>, BrokerError> {
    Ok(reply.texts()?.iter().map(|id| TaskId::from_storage(id)).collect())
}

fn poison(queue: &QueueName, reply: Reply) -> Result<Vec<Poison>, BrokerError> {
    let found = reply.damaged()?;
    Ok(found
        .into_iter()
        .map(|(id, kind)| Poison {
            queue: queue.clone(),
            id,
            kind,
        })
        .collect())
}
