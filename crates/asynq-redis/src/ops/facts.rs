//! The facts that findings are made of.

use std::{collections::BTreeMap, time::Duration};

use asynq_core::{
    Result,
    clock::from_unix_secs,
    error::BrokerError,
    findings::{ClockFacts, DayRuns, FACT_GROUPS, FACT_IDS, GroupFacts, Pause, QueueFacts, StorageFacts},
    keys::{self, own},
    names::{GroupKey, QueueName, TaskId},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::{join, join_all};
use redis::Value;

use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    clock_sync::server_time,
    link::wire::{field_of_info, lines_of_info},
    links::Master,
    reply::Reply,
    scripts,
};

pub(crate) async fn queue(core: &Core, queue: &QueueName, late: Duration) -> Result<QueueFacts, BrokerError> {
    let now = core.now();
    let mut keys = keys_of(
        queue,
        &[
            "pending",
            "active",
            "scheduled",
            "retry",
            "archived",
            "completed",
            "lease",
        ],
    );
    keys.push(own::quarantine(queue));
    let days = [now, now - TimeDelta::days(1)].map(keys::day);
    let counters = days
        .iter()
        .flat_map(|day| ["processed", "failed"].map(|counter| format!("{counter}:{day}")));
    for suffix in ["groups".to_owned(), "paused".to_owned()].into_iter().chain(counters) {
        keys.push(keys::of_queue(queue, &suffix));
    }
    let late = TimeDelta::from_std(late).unwrap_or(TimeDelta::MAX);
    let late = now.checked_sub_signed(late).map_or(0, |at| at.timestamp());
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let args = Args::with_capacity(4)
        .text(&keys::queue_prefix(queue))
        .int(late)
        .int(count(FACT_IDS))
        .int(count(FACT_GROUPS));
    let value = core.link.eval(&scripts::QUEUE_FACTS, keys, args).await?;
    read(queue, now, Reply::of_script("queue_facts", value)?)
}

fn read(queue: &QueueName, now: DateTime<Utc>, mut reply: Reply) -> Result<QueueFacts, BrokerError> {
    let mut facts = QueueFacts::empty(queue.clone(), now);
    for number in [
        &mut facts.pending,
        &mut facts.active,
        &mut facts.scheduled,
        &mut facts.retry,
        &mut facts.archived,
        &mut facts.completed,
        &mut facts.leases,
        &mut facts.quarantined,
        &mut facts.groups,
    ] {
        *number = natural(reply.int()?);
    }
    let is_paused = reply.int()? == 1;
    let since = number(&reply.text()?).and_then(from_unix_secs);
    facts.pause = is_paused.then_some(Pause { since });
    for runs in &mut facts.runs {
        let mut counter = || Ok::<u64, BrokerError>(natural(number(&reply.text()?).unwrap_or(0)));
        *runs = DayRuns {
            processed: counter()?,
            failed: counter()?,
        };
    }
    let nanos = number(&reply.text()?).filter(|nanos| *nanos > 0);
    facts.pending_since = nanos.map(DateTime::from_timestamp_nanos);
    facts.late = natural(reply.int()?);
    facts.ended_leases = natural(reply.int()?);
    let (first, ends) = (reply.id()?, reply.maybe_int()?);
    facts.first_lease = ends.and_then(from_unix_secs).map(|ends| (first, ends));
    facts.first_archived = reply.maybe_int()?.and_then(from_unix_secs);
    facts.unleased = ids(reply.list()?)?;
    facts.stale_leases = ids(reply.list()?)?;
    let mut groups = reply.list()?;
    while !groups.is_empty() {
        facts.some_groups.push(GroupFacts {
            group: GroupKey::from_storage(&groups.text()?),
            size: natural(groups.int()?),
            since: groups.maybe_int()?.and_then(from_unix_secs),
        });
    }
    facts.some_groups.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(facts)
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn ids(list: Reply) -> Result<Vec<TaskId>, BrokerError> {
    Ok(list.texts()?.iter().map(|id| TaskId::from_storage(id)).collect())
}

/// The facts of each master.
pub(crate) async fn storage(core: &Core) -> Vec<Result<StorageFacts, BrokerError>> {
    let masters = match core.link.masters() {
        Ok(masters) => masters,
        Err(error) => return vec![Err(error)],
    };
    join_all(masters.iter().map(|master| of_master(core, master))).await
}

async fn of_master(core: &Core, master: &Master) -> Result<StorageFacts, BrokerError> {
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    let clock = &core.link.env().clock;
    let time = async {
        let asked = clock.steady();
        let answer = master.command(&redis::cmd("TIME")).await?;
        Ok::<_, BrokerError>((answer, clock.wall(), clock.steady().saturating_sub(asked)))
    };
    let (info, time) = join(master.command(&info), time).await;
    let mut facts = StorageFacts::default();
    facts.node = master.name();
    match info {
        Ok(info) => read_memory(&info, &mut facts),
        // Users may be allowed no INFO.
        Err(BrokerError::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    match time {
        Ok((answer, host, trip)) => {
            let within = trip / 2;
            facts.clock = server_time(&answer)
                .filter(|_| clock.is_system())
                .map(|server| ClockFacts {
                    server,
                    host: host - TimeDelta::from_std(within).unwrap_or_default(),
                    within,
                });
        }
        Err(BrokerError::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(facts)
}

fn read_memory(info: &Value, facts: &mut StorageFacts) {
    let number = |field| field_of_info(info, field).and_then(|text| text.parse::<u64>().ok());
    facts.eviction_policy = field_of_info(info, "maxmemory_policy").filter(|policy| !policy.is_empty());
    facts.used_memory = number("used_memory");
    facts.max_memory = number("maxmemory").filter(|bytes| *bytes > 0);
}

/// Asks each master about itself.
pub(crate) async fn server_infos(core: &Core) -> Vec<(Option<String>, Result<BTreeMap<String, String>>)> {
    let masters = match core.link.masters() {
        Ok(masters) => masters,
        Err(error) => return vec![(None, Err(error.into()))],
    };
    let infos = masters.iter().map(|master| async {
        let info = master.command(&redis::cmd("INFO")).await;
        (master.name(), info.map(|info| lines_of_info(&info)).map_err(Into::into))
    });
    join_all(infos).await
}

/// Asks a node about its cluster.
pub(crate) async fn cluster_info(core: &Core) -> Result<BTreeMap<String, String>, BrokerError> {
    let mut info = redis::cmd("CLUSTER");
    info.arg("INFO");
    Ok(lines_of_info(&core.link.command(&info).await?))
}

/// The text that [`server_infos`] or [`cluster_info`] splits.
pub(crate) async fn info_text(core: &Core) -> Result<String, BrokerError> {
    let words: &[&str] = match core.link.has_one_slot() {
        true => &["INFO"],
        false => &["CLUSTER", "INFO"],
    };
    text_of(core, words).await
}

/// Asks a node for all nodes of its cluster.
pub(crate) async fn cluster_nodes_text(core: &Core) -> Result<String, BrokerError> {
    text_of(core, &["CLUSTER", "NODES"]).await
}

async fn text_of(core: &Core, words: &[&str]) -> Result<String, BrokerError> {
    let mut cmd = redis::cmd(words[0]);
    cmd.arg(&words[1..]);
    match core.link.command(&cmd).await? {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => Ok(text),
        _ => Err(BrokerError::Protocol {
            operation: "INFO",
            source: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_info() {
        let info = "# Memory\r\nused_memory:900\r\nmaxmemory:1000\r\nmaxmemory_policy:allkeys-lru\r\n";
        let mut facts = StorageFacts::default();
        read_memory(&Value::BulkString(info.into()), &mut facts);
        assert_eq!((facts.used_memory, facts.max_memory), (Some(900), Some(1000)));
        assert_eq!(facts.eviction_policy.as_deref(), Some("allkeys-lru"));
        let mut facts = StorageFacts::default();
        read_memory(
            &Value::BulkString("used_memory:x\r\nmaxmemory:0\r\n".into()),
            &mut facts,
        );
        assert_eq!(facts, StorageFacts::default());
    }
}
