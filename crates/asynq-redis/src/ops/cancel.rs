//! Cancel requests.

use asynq_core::{
    Cancelled, Then,
    broker::{CancelRequest, Cancellations},
    error::BrokerError,
    keys,
    names::{QueueName, TaskId},
};
use tokio::sync::mpsc;

use super::{inspect, run_task::refusal};
use crate::{
    args::Args,
    broker::core::Core,
    link::owned::Owned,
    reply::{Reply, lossy},
    scripts,
};

const OPERATION: &str = "cancel";

/// Number of requests that wait for a slow reader.
const BACKLOG: usize = 1024;

pub(crate) async fn publish(core: &Core, id: &TaskId) -> Result<(), BrokerError> {
    let mut cmd = redis::cmd("PUBLISH");
    cmd.arg(keys::CANCEL_CHANNEL).arg(id.as_str());
    core.link.command_timely(&cmd).await.map(drop)
}

pub(crate) async fn subscribe(core: &Core) -> Result<Cancellations, BrokerError> {
    let mut messages = core.link.subscribe(keys::CANCEL_CHANNEL).await?;
    let (requests, received) = mpsc::channel(BACKLOG);
    core.cancel_requests.add(&requests);
    core.keep(Owned::spawn(async move {
        while let Some(message) = messages.recv().await {
            let id = TaskId::from_storage(&lossy(message));
            if requests.send(CancelRequest { id, run: None }).await.is_err() {
                break;
            }
        }
    }));
    Ok(Cancellations::new(received))
}

/// Two round trips, as with [`run_task`](super::run_task::run_task).
pub(crate) async fn cancel_task(
    core: &Core,
    queue: &QueueName,
    id: &TaskId,
    then: Then,
) -> Result<Cancelled, BrokerError> {
    let failed_at = inspect::task_info(core, queue, id).await?.last_failed_at;
    let keys = Args::from_iter([keys::task(queue, id)]);
    let args = Args::with_capacity(4)
        .text(id.as_str())
        .text(keys::CANCEL_CHANNEL)
        .text(then.as_str())
        .int(failed_at.map_or(0, |at| at.timestamp()));
    let answer = core.link.eval_timely(&scripts::CANCEL, keys, args).await?;
    let mut reply = Reply::of_script(OPERATION, answer)?;
    match reply.int()? {
        1 => Ok(Cancelled::Kept),
        2 => Ok(Cancelled::Told),
        _ => Err(refusal(OPERATION, &mut reply, queue, id)?),
    }
}
