//! Completed tasks whose retention is over.

use asynq_core::{TaskState, error::BrokerError};
use chrono::{DateTime, Utc};

use crate::model::Queue;

/// Deletes at most `limit` of them; how many. In passing, the memory of expired locks and counters
/// is given back, which Redis does by itself.
pub(crate) fn delete_expired(queue: &mut Queue, limit: u32, now: DateTime<Utc>) -> Result<u32, BrokerError> {
    queue.locks.sweep(now);
    queue.counters.sweep(now);
    queue.ticks.sweep(now);
    queue.statistics.sweep(now);
    queue.check(&["completed"])?;
    let over = queue.completed.up_to(now.timestamp(), limit as usize);
    for (id, _) in &over {
        queue.completed.remove(id);
        if queue.tasks.get(id).is_some_and(|task| task.is(TaskState::Completed)) {
            queue.tasks.remove(id);
        }
    }
    Ok(u32::try_from(over.len()).unwrap_or(u32::MAX))
}
