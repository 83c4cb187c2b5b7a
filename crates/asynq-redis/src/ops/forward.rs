//! Delayed tasks that are due.

use asynq_core::{
    broker::{Forwarded, MAX_BATCH, PUT_OFF, Poison},
    clock::unix_nanos,
    error::BrokerError,
    keys,
    names::{QueueName, TaskId},
};
use chrono::DateTime;

use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::Reply,
    scripts,
};

pub(crate) async fn forward(core: &Core, queue: &QueueName, limit: u32) -> Result<Forwarded, BrokerError> {
    core.refresh_clock().await;
    let now = core.now();
    let args = Args::with_capacity(5)
        .text(&keys::queue_prefix(queue))
        .int(now.timestamp())
        .int(unix_nanos(now))
        .int(i64::from(limit.clamp(1, MAX_BATCH)))
        .int((now + PUT_OFF).timestamp());
    let keys = keys_of(queue, &["scheduled", "retry", "pending", "groups"]);
    let value = core.link.eval(&scripts::FORWARD, keys, args).await?;
    let mut reply = Reply::of_script("forward", value)?;
    let moved = u32::try_from(reply.int()?).unwrap_or(0);
    let due = reply.maybe_due()?;
    let aside = reply.list()?.damaged()?;
    let put_off = reply.list()?.texts()?;
    let held = reply.maybe_int()?.and_then(DateTime::from_timestamp_millis);
    let next = due.and_then(|score| DateTime::from_timestamp(score, 0));
    Ok(Forwarded {
        moved,
        more: due.is_some_and(|score| score <= now.timestamp()),
        next_due: next.into_iter().chain(held).min(),
        poisoned: aside
            .into_iter()
            .map(|(id, kind)| Poison {
                queue: queue.clone(),
                id,
                kind,
            })
            .collect(),
        put_off: put_off.iter().map(|id| TaskId::from_storage(id)).collect(),
    })
}
