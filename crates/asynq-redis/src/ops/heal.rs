//! Repair of the damage that crashed writers leave behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use asynq_core::{
    broker::{AGGREGATION_SET_LIFETIME, Healed, Poison, RECOVER_GRACE},
    clock::unix_nanos,
    error::{BrokerError, PoisonKind},
    keys::{self, own},
    names::{GroupKey, QueueName, TaskId},
};
use chrono::{DateTime, Utc};

use super::{
    group_search::{groups_holding, tasks_a_call},
    list_search::{self, Search, SearchPlace},
};
use crate::{
    args::{Args, keys_of, pattern_of},
    broker::core::Core,
    reply::{Reply, int, scalar},
    scripts,
};

/// Number of entries of one container, and keys of the database, that one call looks at: about a millisecond of
/// Redis.
const ENTRIES: u32 = 250;
/// Containers in which ids without a task stay for long.
const SETS: [&str; 4] = ["scheduled", "retry", "archived", "completed"];
/// Number of groups that one call looks at, whether they have tasks.
const GROUPS: i64 = 50;
/// Number of tasks that are not where they should be at which a look ends; the next one continues behind it.
const MOST_DOUBTFUL: usize = 100;
/// Time by which a task waits longer than the tasks next to run before it is looked for: the clocks of clients may
/// differ.
pub(super) const OVERTAKEN: Duration = Duration::from_secs(60);
/// Time for which a position is remembered, in seconds.
const PLACE_LIVES: i64 = 24 * 3600;

/// The place where the next look at a queue begins. It is kept in Redis, so that a look continues where another
/// server's ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    active: i64,
    lease: i64,
    scan: String,
    /// Ranks in [`SETS`].
    sets: [i64; SETS.len()],
}

impl Default for Position {
    fn default() -> Self {
        Self {
            active: 0,
            lease: 0,
            scan: "0".to_owned(),
            sets: [0; SETS.len()],
        }
    }
}

impl Position {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (active, lease, scan) = (number()?, number()?, number()?);
        let mut sets = [0; SETS.len()];
        for rank in &mut sets {
            *rank = i64::try_from(number()?).ok()?;
        }
        parts.next().is_none().then_some(Self {
            active: i64::try_from(active).ok()?,
            lease: i64::try_from(lease).ok()?,
            scan: scan.to_string(),
            sets,
        })
    }

    fn write(&self) -> String {
        let sets = self.sets.map(|rank| format!(" {rank}")).concat();
        format!("{} {} {}{sets}", self.active, self.lease, self.scan)
    }

    /// The position of a queue; the start where none can be read.
    async fn load(core: &Core, queue: &QueueName) -> Result<Self, BrokerError> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(own::heal_place(queue));
        match core.link.command(&cmd).await {
            Ok(redis::Value::BulkString(text)) => {
                Ok(std::str::from_utf8(&text).ok().and_then(Self::read).unwrap_or_default())
            }
            Ok(_) | Err(BrokerError::WrongType { .. } | BrokerError::Refused { .. }) => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// A position that is not kept is no harm: the next look begins at the one before.
    async fn store(&self, core: &Core, queue: &QueueName) {
        let key = own::heal_place(queue);
        let cmd = if *self == Self::default() {
            redis::cmd("DEL").arg(key).to_owned()
        } else {
            let mut set = redis::cmd("SET");
            set.arg(key).arg(self.write()).arg("EX").arg(PLACE_LIVES).to_owned()
        };
        if let Err(error) = core.link.command(&cmd).await {
            tracing::debug!(%queue, %error, "the place of a repair could not be stored");
        }
    }
}

/// KEYS of `include/places.lua`.
pub(crate) fn places(queue: &QueueName) -> Args {
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
            "x:finished",
        ],
    )
}

/// Claims the repairs of a queue for this connection.
pub(crate) async fn claim(core: &Core, queue: &QueueName, lasts: Duration) -> Result<bool, BrokerError> {
    const OPERATION: &str = "claim_heal";
    let millis = i64::try_from(lasts.as_millis())
        .unwrap_or(i64::MAX)
        .clamp(1, PLACE_LIVES * 1000);
    let args = Args::with_capacity(2).text(core.id()).int(millis);
    let keys = Args::from_iter([own::healer(queue)]);
    let value = core.link.eval(&scripts::CLAIM_HEAL, keys, args).await?;
    Ok(int(OPERATION, scalar(OPERATION, value)?)? == 1)
}

pub(crate) async fn heal(core: &Core, queue: &QueueName, limit: u32) -> Result<Healed, BrokerError> {
    core.refresh_clock().await;
    let now = core.now();
    let limit = i64::from(limit.max(1));
    let mut position = Position::load(core, queue).await?;
    let mut healed = Healed::default();
    let mut doubtful = Doubtful::new();
    // What was repaired is told even if the rest fails.
    let done = async {
        heal_active(core, queue, limit, now, &mut position, &mut healed, &mut doubtful).await?;
        heal_sets(core, queue, limit, &mut position, &mut healed).await?;
        heal_keys(core, queue, limit, now, &mut position, &mut healed, &mut doubtful).await?;
        relist(core, queue, doubtful, now, &mut healed).await
    };
    let done = done.await;
    position.store(core, queue).await;
    match done {
        Err(error) if healed.is_empty() => Err(error),
        Err(error) => {
            tracing::warn!(%queue, %error, "the keys of a queue could not be examined");
            Ok(healed)
        }
        Ok(()) => Ok(healed),
    }
}

/// Ids as they stand in Redis, each once, with what their tasks said.
type Doubtful = BTreeMap<Vec<u8>, Seen>;

/// State and `pending_since` of a task.
#[derive(Debug)]
struct Seen {
    state: Vec<u8>,
    since: Vec<u8>,
}

/// Repairs what needs no look elsewhere, and collects what does. Looks at `limit` entries of `active`
/// and of `lease`, or at all that are left before the end.
async fn heal_active(
    core: &Core,
    queue: &QueueName,
    limit: i64,
    now: DateTime<Utc>,
    position: &mut Position,
    healed: &mut Healed,
    doubtful: &mut Doubtful,
) -> Result<(), BrokerError> {
    let (mut active, mut leases) = (limit, limit);
    while (active > 0 || leases > 0) && doubtful.len() < MOST_DOUBTFUL {
        let args = Args::with_capacity(8)
            .text(&keys::queue_prefix(queue))
            .int(now.timestamp())
            .int(position.active)
            .int(position.lease)
            .int(active.min(ENTRIES.into()))
            .int(leases.min(ENTRIES.into()))
            .int(i64::try_from(RECOVER_GRACE.as_secs()).unwrap_or(i64::MAX))
            .int(GROUPS);
        let value = core.link.eval(&scripts::HEAL, places(queue), args).await?;
        let mut reply = Reply::of_script("heal", value)?;
        healed.leased.extend(ids(reply.list()?)?);
        healed.stale_leases.extend(ids(reply.list()?)?);
        collect(reply.list()?, doubtful)?;
        healed.poisoned.extend(poison(queue, reply.list()?)?);
        let (next_active, next_lease) = (reply.int()?, reply.int()?);
        if active > 0 {
            active -= active.min(ENTRIES.into());
            position.active = next_active;
        }
        if leases > 0 {
            leases -= leases.min(ENTRIES.into());
            position.lease = next_lease;
        }
        // What has come to its end begins anew with the next look.
        active = if position.active == 0 { 0 } else { active };
        leases = if position.lease == 0 { 0 } else { leases };
    }
    Ok(())
}

/// Takes ids without a task out of the sorted sets, of each `limit` at most, or all that are left before the end.
async fn heal_sets(
    core: &Core,
    queue: &QueueName,
    limit: i64,
    position: &mut Position,
    healed: &mut Healed,
) -> Result<(), BrokerError> {
    for (suffix, rank) in SETS.into_iter().zip(&mut position.sets) {
        let mut left = limit;
        while left > 0 {
            let looked = left.min(ENTRIES.into());
            let args = Args::with_capacity(3)
                .text(&keys::queue_prefix(queue))
                .int(*rank)
                .int(looked);
            let value = core
                .link
                .eval(&scripts::DROP_DANGLING, keys_of(queue, &[suffix]), args)
                .await?;
            let mut reply = Reply::of_script("drop_dangling", value)?;
            *rank = reply.int()?;
            healed.poisoned.extend(ids(reply.list()?)?.into_iter().map(|id| Poison {
                queue: queue.clone(),
                id,
                kind: PoisonKind::NoHash,
            }));
            left -= looked;
            if *rank == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// The same with the keys of the database, at most `limit` or so.
async fn heal_keys(
    core: &Core,
    queue: &QueueName,
    limit: i64,
    now: DateTime<Utc>,
    position: &mut Position,
    healed: &mut Healed,
    doubtful: &mut Doubtful,
) -> Result<(), BrokerError> {
    let overtaken = i64::try_from(OVERTAKEN.as_nanos()).unwrap_or(i64::MAX);
    let mut left = limit;
    while left > 0 && doubtful.len() < MOST_DOUBTFUL {
        let looked = left.min(ENTRIES.into());
        let args = Args::with_capacity(6)
            .text(&keys::queue_prefix(queue))
            .int((now + AGGREGATION_SET_LIFETIME).timestamp())
            .text(&pattern_of(queue, ""))
            .text(&position.scan)
            .int(looked)
            .int(overtaken);
        let value = core.link.eval(&scripts::HEAL_KEYS, places(queue), args).await?;
        let mut reply = Reply::of_script("heal_keys", value)?;
        position.scan = reply.text()?;
        collect(reply.list()?, doubtful)?;
        healed
            .regrouped
            .extend(reply.list()?.texts()?.iter().map(|name| GroupKey::from_storage(name)));
        healed.relisted_sets.extend(reply.list()?.texts()?);
        healed.unlocked.extend(reply.list()?.texts()?);
        left -= looked;
        if position.scan == "0" {
            break;
        }
    }
    Ok(())
}

/// Looks for these tasks everywhere and puts those where their state says that do not stand there.
async fn relist(
    core: &Core,
    queue: &QueueName,
    doubtful: Doubtful,
    now: DateTime<Utc>,
    healed: &mut Healed,
) -> Result<(), BrokerError> {
    if doubtful.is_empty() {
        return Ok(());
    }
    let pending = search_pending(core, queue, &doubtful).await?;
    let names: Vec<&[u8]> = doubtful.keys().map(Vec::as_slice).collect();
    let Some(groups) = groups_holding(core, queue, &names).await? else {
        return Ok(());
    };
    let doubtful: Vec<_> = doubtful.into_iter().collect();
    let mut left = doubtful.as_slice();
    while !left.is_empty() {
        let part = &left[..left.len().min(tasks_a_call(groups.len()))];
        let mut args = Args::with_capacity(4 + groups.len() + 4 * part.len())
            .text(&keys::queue_prefix(queue))
            .int(now.timestamp())
            .int(unix_nanos(now));
        args.push_count(groups.len());
        groups.iter().for_each(|name| args.push(name));
        for (id, Seen { state, since }) in part {
            args.push(id);
            args.push(state);
            args.push(since);
            args.push(match &pending {
                Some(found) if found.contains(id) => "1",
                Some(_) => "0",
                None => "",
            });
        }
        let value = core.link.eval(&scripts::RELIST, places(queue), args).await?;
        let mut reply = Reply::of_script("relist", value)?;
        let looked = usize::try_from(reply.int()?).unwrap_or(0).clamp(1, part.len());
        healed.relisted.extend(ids(reply.list()?)?);
        healed.poisoned.extend(poison(queue, reply.list()?)?);
        left = &left[looked..];
    }
    Ok(())
}

/// Returns which of these stand in `pending`; `None` if that could not be found out.
async fn search_pending(
    core: &Core,
    queue: &QueueName,
    doubtful: &Doubtful,
) -> Result<Option<BTreeSet<Vec<u8>>>, BrokerError> {
    let (mut found, mut place) = (BTreeSet::new(), SearchPlace::default());
    loop {
        let ids = doubtful.keys().map(Vec::as_slice);
        match list_search::search_pending(core, queue, &mut place, ids, &mut found).await? {
            Search::Done => return Ok(Some(found)),
            Search::Failed => return Ok(None),
            Search::GoesOn => {}
        }
    }
}

fn collect(mut reply: Reply, doubtful: &mut Doubtful) -> Result<(), BrokerError> {
    while !reply.is_empty() {
        let (id, state, since) = (reply.bytes()?, reply.bytes()?, reply.bytes()?);
        doubtful.insert(id, Seen { state, since });
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let position = Position {
            active: 7,
            lease: 0,
            scan: "18446744073709551615".to_owned(),
            sets: [1, 0, 3, 4],
        };
        assert_eq!(Position::read(&position.write()), Some(position));
        for bad in [
            "",
            "1 2",
            "1 2 x",
            "1 2 3",
            "1 2 3 4 5 6 7 8",
            "-1 2 3 4 5 6 7",
            "1  3 4 5 6 7",
            "1 2 3 4 5 6 -7",
        ] {
            assert_eq!(Position::read(bad), None, "{bad:?}");
        }
    }
}
