//! Wake-ups: a look at some queues that leaves a watch on them.

use asynq_core::{
    broker::{Watch, WatchKind},
    error::BrokerError,
    names::QueueName,
};

use crate::{args::keys_of, broker::core::Core, link::Probe, scripts};

pub(crate) async fn watch(core: &Core, queues: &[QueueName], kind: WatchKind) -> Result<Watch, BrokerError> {
    let (script, suffixes) = match kind {
        WatchKind::Pending => (&scripts::PROBE_PENDING, ["paused", "pending"]),
        WatchKind::Delayed => (&scripts::PROBE_DELAYED, ["scheduled", "retry"]),
    };
    let keys = queues.iter().flat_map(|queue| keys_of(queue, &suffixes)).collect();
    core.link
        .watch(Probe {
            script,
            keys,
            args: Vec::new(),
        })
        .await
}
