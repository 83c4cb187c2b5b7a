//! Wake-ups: a look at queues and, if there is nothing, a watch on them, in one step.

use asynq_core::{
    broker::{Watch, WatchKind},
    names::QueueName,
};
use tokio::sync::watch;

use crate::model::{Data, Waker};

/// Looks, then watches. The watch is told of a push to an unpaused queue, of the end of a pause, or
/// of a new delayed task; not of tasks leaving, which nobody waits for. What is due already is no
/// news to a watch on delayed tasks: who sets one forwards then.
pub(crate) fn watch(data: &mut Data, names: &[QueueName], kind: WatchKind, connection: u64) -> Watch {
    let mut known = names.iter().filter_map(|name| data.queues.get(name));
    if kind == WatchKind::Pending && known.any(|queue| !queue.is_paused() && !queue.pending.is_empty()) {
        return Watch::ready();
    }
    let (signal, told) = watch::channel(None);
    for name in names {
        let queue = data.queue(name);
        let signals = match kind {
            WatchKind::Pending => &mut queue.on_pending,
            WatchKind::Delayed => &mut queue.on_delayed,
        };
        signals.arm(Waker {
            connection,
            signal: signal.clone(),
        });
    }
    Watch::new(told)
}
