//! Damaged tasks in the log.

use asynq_core::broker::Poison;

/// Logs the damaged tasks that were quarantined or dropped: the first hundred, and the number of the others.
pub(crate) fn log_poison(actor: &'static str, poisoned: &[Poison]) {
    const MOST: usize = 100;
    for poison in poisoned.iter().take(MOST) {
        tracing::error!(actor, queue = %poison.queue, task = %poison.id, kind = %poison.kind, "damaged task put aside");
    }
    if poisoned.len() > MOST {
        let more = poisoned.len() - MOST;
        tracing::error!(actor, queue = %poisoned[0].queue, more, "more damaged tasks put aside");
    }
}
