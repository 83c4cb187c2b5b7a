//! Runs a waiting task now.

use asynq_core::{
    TaskState,
    clock::unix_nanos,
    error::{BrokerError, PoisonKind},
    excerpt::Excerpt,
    keys,
    names::{QueueName, TaskId},
};

use super::inspect;
use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::{Reply, protocol},
    scripts,
};

const OPERATION: &str = "run_task";

/// Two round trips, as Go's: the first finds what is not there or cannot be read, and the script looks
/// at the state again.
pub(crate) async fn run_task(core: &Core, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
    inspect::task_info(core, queue, id).await?;
    let mut keys = Args::from_iter([keys::task(queue, id)]);
    keys.append(&keys_of(
        queue,
        &["pending", "scheduled", "retry", "archived", "groups"],
    ));
    let args = Args::with_capacity(3)
        .text(&keys::queue_prefix(queue))
        .text(id.as_str())
        .int(unix_nanos(core.now()));
    let mut reply = Reply::of_script(OPERATION, core.link.eval(&scripts::RUN_TASK, keys, args).await?)?;
    match reply.int()? {
        1 => Ok(()),
        _ => Err(refusal(OPERATION, &mut reply, queue, id)?),
    }
}

/// Returns what a script found that refused a task: what is wrong with it, or its state.
pub(crate) fn refusal(
    operation: &'static str,
    reply: &mut Reply,
    queue: &QueueName,
    id: &TaskId,
) -> Result<BrokerError, BrokerError> {
    let (damage, state) = (reply.damage()?, reply.text()?);
    let (queue, id) = (queue.clone(), id.clone());
    Ok(match damage {
        Some(PoisonKind::NoHash) => BrokerError::TaskNotFound { queue, id },
        Some(kind) => BrokerError::Poison { queue, id, kind },
        None => {
            let state: TaskState = state
                .parse()
                .map_err(|_| protocol(operation, format!("{:?} is not a state", Excerpt(&state))))?;
            BrokerError::WrongState { queue, id, state }
        }
    })
}
