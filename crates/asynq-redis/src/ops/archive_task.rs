//! Archives a waiting task.

use asynq_core::{
    broker::{ARCHIVED_AGE, MAX_ARCHIVED},
    error::BrokerError,
    keys,
    names::{QueueName, TaskId},
};

use super::{inspect, run_task::refusal, settle::MOST_TRIMMED};
use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::Reply,
    scripts,
};

const OPERATION: &str = "archive_task";

/// Two round trips, as with [`run_task`](super::run_task::run_task).
pub(crate) async fn archive_task(core: &Core, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
    inspect::task_info(core, queue, id).await?;
    let mut keys = Args::from_iter([keys::task(queue, id)]);
    keys.append(&keys_of(
        queue,
        &["pending", "scheduled", "retry", "archived", "groups"],
    ));
    let now = core.now();
    let args = Args::with_capacity(6)
        .text(&keys::queue_prefix(queue))
        .text(id.as_str())
        .int(now.timestamp())
        .int((now - ARCHIVED_AGE).timestamp())
        .int(i64::from(MAX_ARCHIVED))
        .int(MOST_TRIMMED);
    let value = core.link.eval(&scripts::ARCHIVE_TASK, keys, args).await?;
    let mut reply = Reply::of_script(OPERATION, value)?;
    match reply.int()? {
        1 => Ok(()),
        _ => Err(refusal(OPERATION, &mut reply, queue, id)?),
    }
}
