//! Records that schedulers publish about themselves.

use std::time::Duration;

use asynq_core::{
    broker::MAX_SCHEDULER_EVENTS,
    error::BrokerError,
    info::{SchedulerEnqueueEvent, SchedulerEntry},
    inspect::PageRequest,
    keys, published,
};
use futures::future::join;

use super::server_state::{announce, read, whole_secs};
use crate::{
    args::Args,
    broker::core::Core,
    reply::{Reply, scalar},
    scripts,
};

pub(crate) async fn write(
    core: &Core,
    scheduler_id: &str,
    entries: &[SchedulerEntry],
    ttl: Duration,
) -> Result<(), BrokerError> {
    let ttl = whole_secs(ttl);
    let key = keys::scheduler_entries(scheduler_id);
    let mut args = Args::with_capacity(1 + entries.len()).int(ttl);
    for entry in entries {
        args.push(published::encode_scheduler_entry(entry));
    }
    let listed = announce(core, keys::SCHEDULERS, &key, ttl);
    let written = core
        .link
        .eval_timely(&scripts::WRITE_ENTRIES, Args::from_iter([&key]), args);
    let (listed, written) = join(listed, written).await;
    listed?;
    scalar("write_entries", written?).map(drop)
}

pub(crate) async fn clear(core: &Core, scheduler_id: &str) -> Result<(), BrokerError> {
    let key = keys::scheduler_entries(scheduler_id);
    let mut remove = redis::cmd("ZREM");
    remove.arg(keys::SCHEDULERS).arg(&key);
    let mut delete = redis::cmd("DEL");
    delete.arg(&key);
    // A write may be on its way still.
    core.link.commands_last(&[remove, delete]).await
}

pub(crate) async fn record(core: &Core, entry_id: &str, event: &SchedulerEnqueueEvent) -> Result<(), BrokerError> {
    let mut args = Args::with_capacity(3).int(event.enqueued_at.timestamp());
    args.push(published::encode_enqueue_event(event));
    let args = args.int(i64::from(MAX_SCHEDULER_EVENTS));
    let keys = Args::from_iter([keys::scheduler_history(entry_id)]);
    scalar(
        "record_event",
        core.link.eval(&scripts::RECORD_EVENT, keys, args).await?,
    )
    .map(drop)
}

pub(crate) async fn clear_history(core: &Core, entry_id: &str) -> Result<(), BrokerError> {
    let mut delete = redis::cmd("DEL");
    delete.arg(keys::scheduler_history(entry_id));
    core.link.command(&delete).await.map(drop)
}

/// The entries of the schedulers that live. Only reads: dead names are left to those who announce theirs.
pub(crate) async fn entries(core: &Core) -> Result<Vec<SchedulerEntry>, BrokerError> {
    let mut entries = Vec::new();
    for value in read(core, keys::SCHEDULERS, "LRANGE", &["0", "-1"]).await? {
        let mut list = Reply::new("LRANGE", value)?;
        while !list.is_empty() {
            match published::decode_scheduler_entry(list.bytes()?.into()) {
                Some(entry) => entries.push(entry),
                None => tracing::warn!("a scheduler entry cannot be read"),
            }
        }
    }
    Ok(entries)
}

pub(crate) async fn events(
    core: &Core,
    entry_id: &str,
    page: PageRequest,
) -> Result<Vec<SchedulerEnqueueEvent>, BrokerError> {
    let key = keys::scheduler_history(entry_id);
    let (first, last) = (page.start(), page.start() + u64::from(page.size()) - 1);
    let mut cmd = redis::cmd("ZREVRANGE");
    cmd.arg(&key).arg(first).arg(last);
    let answer = core.link.command(&cmd).await.map_err(|error| match error {
        // The answer of a command does not name the key.
        BrokerError::WrongType { .. } => BrokerError::WrongType { key },
        other => other,
    })?;
    let mut reply = Reply::new("ZREVRANGE", answer)?;
    let mut events = Vec::with_capacity(reply.len());
    while !reply.is_empty() {
        match published::decode_enqueue_event(&reply.bytes()?) {
            Some(event) => events.push(event),
            None => tracing::warn!(entry_id, "an enqueue event of a scheduler entry cannot be read"),
        }
    }
    Ok(events)
}
