//! Changes of a waiting task: its payload, or its time.

use asynq_core::{
    error::BrokerError,
    keys,
    names::{QueueName, TaskId},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{inspect, run_task::refusal};
use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::Reply,
    scripts,
};

/// Number of attempts if others change the message meanwhile.
const ATTEMPTS: usize = 10;

/// Reads the message, and writes it if it is the same by then. Two round trips.
pub(crate) async fn payload(core: &Core, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), BrokerError> {
    const OPERATION: &str = "update_payload";
    for _ in 0..ATTEMPTS {
        let (read, mut message) = inspect::stored_message(core, queue, id).await?;
        message.payload = payload.clone();
        let mut args = Args::with_capacity(2);
        args.push(read);
        args.push_message(&message);
        let keys = Args::from_iter([keys::task(queue, id)]);
        let value = core.link.eval_apart(&scripts::UPDATE_PAYLOAD, keys, args).await?;
        let mut reply = Reply::of_script(OPERATION, value)?;
        match reply.int()? {
            1 => return Ok(()),
            2 => {}
            _ => return Err(refusal(OPERATION, &mut reply, queue, id)?),
        }
    }
    Err(BrokerError::Busy {
        reason: format!("task {id} was changed by others {ATTEMPTS} times meanwhile"),
    })
}

/// Two round trips, as with [`run_task`](super::run_task::run_task).
pub(crate) async fn reschedule(
    core: &Core,
    queue: &QueueName,
    id: &TaskId,
    at: DateTime<Utc>,
) -> Result<(), BrokerError> {
    const OPERATION: &str = "reschedule";
    inspect::task_info(core, queue, id).await?;
    let mut keys = Args::from_iter([keys::task(queue, id)]);
    keys.append(&keys_of(queue, &["scheduled", "retry", "archived"]));
    let mut args = Args::with_capacity(3)
        .text(&keys::queue_prefix(queue))
        .text(id.as_str());
    args.push_time(at.max(DateTime::UNIX_EPOCH));
    let value = core.link.eval(&scripts::RESCHEDULE, keys, args).await?;
    let mut reply = Reply::of_script(OPERATION, value)?;
    match reply.int()? {
        1 => Ok(()),
        _ => Err(refusal(OPERATION, &mut reply, queue, id)?),
    }
}

/// One command. The counters of other days stay.
pub(crate) async fn clear_counters(core: &Core, queue: &QueueName) -> Result<(), BrokerError> {
    inspect::must_be_known(core, queue).await?;
    let mut delete = redis::cmd("DEL");
    let day = keys::day(core.now());
    for counter in ["processed", "failed"] {
        delete.arg(keys::of_queue(queue, counter));
        delete.arg(keys::of_queue(queue, &format!("{counter}:{day}")));
    }
    core.link.command(&delete).await.map(drop)
}
