//! Deletes one task.

use asynq_core::{
    error::BrokerError,
    keys,
    names::{QueueName, TaskId},
};

use super::{inspect, run_task::refusal};
use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::Reply,
    scripts,
};

const OPERATION: &str = "delete_task";

/// Largest number of groups that are searched for an id without a hash.
const MOST_GROUPS: i64 = 200;

/// Two round trips: the queue must be known before anything is deleted.
pub(crate) async fn delete_task(core: &Core, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
    inspect::must_be_known(core, queue).await?;
    let mut keys = Args::from_iter([keys::task(queue, id)]);
    keys.append(&keys_of(
        queue,
        &[
            "pending",
            "scheduled",
            "retry",
            "archived",
            "completed",
            "groups",
            "active",
            "lease",
        ],
    ));
    let args = Args::with_capacity(3)
        .text(&keys::queue_prefix(queue))
        .text(id.as_str())
        .int(MOST_GROUPS);
    let value = core.link.eval(&scripts::DELETE_TASK, keys, args).await?;
    let mut reply = Reply::of_script(OPERATION, value)?;
    match reply.int()? {
        1 => Ok(()),
        _ => Err(refusal(OPERATION, &mut reply, queue, id)?),
    }
}
