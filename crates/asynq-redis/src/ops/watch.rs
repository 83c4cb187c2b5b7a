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
    let mut keys = Vec::with_capacity(queues.len() * suffixes.len());
    for queue in queues {
        keys.extend(keys_of(queue, &suffixes).iter().map(<[u8]>::to_vec));
    }
    core.link
        .watch(Probe {
            script,
            keys,
            args: Vec::new(),
        })
        .await
}
