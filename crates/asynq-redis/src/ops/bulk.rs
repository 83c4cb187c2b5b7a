//! Acts on all tasks of a state or group.

use asynq_core::{
    Act,
    broker::{ARCHIVED_AGE, MAX_ARCHIVED},
    clock::unix_nanos,
    error::{BrokerError, PoisonKind},
    inspect::{ActedOn, BULK_STEP, BulkEntry, BulkPlace, BulkStep, ListFilter, TaskMark},
    keys,
    names::{QueueName, TaskId},
};

use super::{inspect, settle::MOST_TRIMMED};
use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::{Reply, protocol},
    scripts,
};

const OPERATION: &str = "act_on_some";

/// The keys of the scripts, and their first nine arguments.
fn prepared(core: &Core, queue: &QueueName, filter: &ListFilter, act: Act) -> (Args, Args) {
    let (container, group) = match filter {
        ListFilter::State(state) => (keys::container(queue, *state), ""),
        ListFilter::Group(group) => (keys::group(queue, group), group.as_str()),
    };
    let mut keys = Args::from_iter([container]);
    keys.append(&keys_of(queue, &["pending", "archived", "groups", "aggregation_sets"]));
    let now = core.now();
    let args = Args::with_capacity(15)
        .text(&keys::queue_prefix(queue))
        .text(act.as_str())
        .text(filter.state().as_str())
        .text(group)
        .int(now.timestamp())
        .int(unix_nanos(now))
        .int((now - ARCHIVED_AGE).timestamp())
        .int(i64::from(MAX_ARCHIVED))
        .int(MOST_TRIMMED);
    (keys, args)
}

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
    let (keys, mut args) = prepared(core, queue, filter, act);
    args.push_int(i64::from(BULK_STEP));
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
    let poisoned = quarantined(queue, reply.list()?)?;
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

/// Two round trips: the queue must be known before anything is changed.
pub(crate) async fn act_on_these(
    core: &Core,
    queue: &QueueName,
    filter: &ListFilter,
    act: Act,
    tasks: &[TaskMark],
) -> Result<ActedOn, BrokerError> {
    const OPERATION: &str = "act_on_these";
    filter.must_allow(act, queue)?;
    inspect::must_be_known(core, queue).await?;
    let mut acted = ActedOn::default();
    for tasks in tasks.chunks(BULK_STEP as usize) {
        let (keys, mut args) = prepared(core, queue, filter, act);
        let positions = || tasks.iter().map(|task| task.position);
        for position in [positions().min(), positions().max()] {
            args.push_int(i64::try_from(position.unwrap_or(0)).unwrap_or(i64::MAX >> 8));
        }
        for task in tasks {
            args.push(&task.id);
            args.push(&task.score);
            args.push(&task.digest);
        }
        let value = core.link.eval(&scripts::ACT_ON_THESE, keys, args).await?;
        let mut reply = Reply::of_script(OPERATION, value)?;
        let mut count = || {
            let count = reply.int()?;
            u32::try_from(count).map_err(|_| protocol(OPERATION, format!("{count} tasks")))
        };
        acted.done += count()?;
        acted.moved += count()?;
        acted.dropped += count()?;
        acted.poisoned.extend(quarantined(queue, reply.list()?)?);
    }
    Ok(acted)
}

/// Reads which tasks were quarantined.
fn quarantined(queue: &QueueName, reply: Reply) -> Result<Vec<(TaskId, PoisonKind)>, BrokerError> {
    let poisoned = reply.damaged()?;
    for (id, kind) in &poisoned {
        tracing::warn!(%queue, task_id = %id, error = %kind, "quarantined a damaged task");
    }
    Ok(poisoned)
}
