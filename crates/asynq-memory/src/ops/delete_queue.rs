//! Deletes a queue.

use asynq_core::{error::BrokerError, names::QueueName};
use chrono::{DateTime, Utc};

use super::inspect;
use crate::model::{Data, Quarantined, Queue};

/// Deletes a queue with all its tasks, or one without tasks. Locks without a task and the marks of ticks stay until
/// they end.
pub(crate) fn delete_queue(
    data: &mut Data,
    name: &QueueName,
    force: bool,
    now: DateTime<Utc>,
) -> Result<(), BrokerError> {
    let queue = inspect::known(data, name)?;
    if !force {
        let containers = [
            "pending",
            "active",
            "lease",
            "scheduled",
            "retry",
            "archived",
            "completed",
            "groups",
            "aggregation_sets",
        ];
        queue.check(&containers)?;
    }
    if !queue.active.is_empty() {
        return Err(BrokerError::QueueHasActiveTasks { queue: name.clone() });
    }
    if !force && has_tasks(queue) {
        return Err(BrokerError::QueueNotEmpty { queue: name.clone() });
    }
    let tasks: Vec<_> = queue.tasks.keys().cloned().collect();
    for id in tasks {
        queue.delete_task(&id, now);
    }
    for (id, found) in std::mem::take(&mut queue.quarantined) {
        if let Quarantined::Task(task) = found
            && let Some(lock) = task.unique_key
        {
            queue.free_lock(&lock, &id, now);
        }
    }
    let mut old = std::mem::replace(queue, Queue::new(name.clone()));
    queue.locks = old.locks;
    queue.ticks = old.ticks;
    queue.on_delayed = old.on_delayed;
    // There may have been a pause.
    old.on_pending.fire();
    data.names.remove(name);
    Ok(())
}

/// Returns whether there is a task in any container, or in quarantine.
fn has_tasks(queue: &Queue) -> bool {
    let waiting = [
        &queue.scheduled,
        &queue.retry,
        &queue.archived,
        &queue.completed,
        &queue.quarantine,
    ];
    !queue.pending.is_empty()
        || waiting.iter().any(|set| !set.is_empty())
        || queue.gathered.values().any(|set| !set.is_empty())
}
