//! Acts on all tasks of a state or group.

use asynq_core::{
    Act,
    broker::{ARCHIVED_AGE, MAX_ARCHIVED},
    clock::unix_nanos,
    error::BrokerError,
    inspect::{BULK_STEP, BulkEntry, BulkPlace, BulkStep, ListFilter},
    keys,
    names::QueueName,
};

use super::{inspect, settle::MOST_TRIMMED};
use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::{Reply, protocol},
    scripts,
};

const OPERATION: &str = "act_on_some";

/// Two round trips: the queue must be known before anything is changed.
pub(crate) async fn act_on_some(
    core: &Core,
    queue: &QueueName,
    filter: &ListFilter,
    act: Act,
    place: Option<BulkPlace>,
) -> Result<BulkStep, BrokerError> {
    filter.must_allow(act, queue)?;
    inspect::must_be_known(core, queue).await?;
    let (container, group) = match filter {
        ListFilter::State(state) => (keys::container(queue, *state), ""),
        ListFilter::Group(group) => (keys::group(queue, group), group.as_str()),
    };
    let mut keys = Args::from_iter([container]);
    keys.append(&keys_of(queue, &["pending", "archived", "groups", "aggregation_sets"]));
    let now = core.now();
    let mut args = Args::with_capacity(15)
        .text(&keys::queue_prefix(queue))
        .text(act.as_str())
        .text(filter.state().as_str())
        .text(group)
        .int(now.timestamp())
        .int(unix_nanos(now))
        .int((now - ARCHIVED_AGE).timestamp())
        .int(i64::from(MAX_ARCHIVED))
        .int(MOST_TRIMMED)
        .int(i64::from(BULK_STEP));
    if let Some(place) = place {
        for entry in [&place.after, &place.last] {
            args.push(&entry.score);
            args.push(&entry.id);
        }
        args.push_int(i64::try_from(place.left).unwrap_or(i64::MAX));
    }
    let value = core.link.eval(&scripts::ACT_ON_SOME, keys, args).await?;
    let mut reply = Reply::of_script(OPERATION, value)?;
    let mut count = || {
        let count = reply.int()?;
        u32::try_from(count).map_err(|_| protocol(OPERATION, format!("{count} tasks")))
    };
    let (done, dropped) = (count()?, count()?);
    let poisoned = reply.list()?.damaged()?;
    for (id, kind) in &poisoned {
        tracing::warn!(%queue, task_id = %id, error = %kind, "quarantined a damaged task");
    }
    let next = if reply.is_empty() {
        None
    } else {
        Some(read_place(&mut reply)?)
    };
    Ok(BulkStep {
        done,
        dropped,
        poisoned,
        next,
    })
}

fn read_place(reply: &mut Reply) -> Result<BulkPlace, BrokerError> {
    let mut entry = || {
        Ok::<_, BrokerError>(BulkEntry {
            score: reply.bytes()?.into(),
            id: reply.bytes()?.into(),
        })
    };
    let (after, last) = (entry()?, entry()?);
    Ok(BulkPlace {
        after,
        last,
        left: u64::try_from(reply.int()?).unwrap_or(0),
    })
}
