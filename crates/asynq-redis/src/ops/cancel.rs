//! Cancel requests.

use asynq_core::{broker::Cancellations, error::BrokerError, keys, names::TaskId};
use tokio::sync::mpsc;

use crate::{broker::Core, link::owned::Owned, reply::lossy};

/// How many requests wait for a slow reader.
const BACKLOG: usize = 1024;

pub(crate) async fn publish(core: &Core, id: &TaskId) -> Result<(), BrokerError> {
    let mut cmd = redis::cmd("PUBLISH");
    cmd.arg(keys::CANCEL_CHANNEL).arg(id.as_str());
    core.link.command_timely(&cmd).await.map(drop)
}

pub(crate) async fn subscribe(core: &Core) -> Result<Cancellations, BrokerError> {
    let mut messages = core.link.subscribe(keys::CANCEL_CHANNEL).await?;
    let (ids, received) = mpsc::channel(BACKLOG);
    core.keep(Owned::spawn(async move {
        while let Some(message) = messages.recv().await {
            if ids.send(TaskId::from_storage(&lossy(message))).await.is_err() {
                break;
            }
        }
    }));
    Ok(Cancellations::new(received))
}
