//! Runs a waiting task now.

use asynq_core::{
    TaskState,
    error::{BrokerError, PoisonKind},
    names::{QueueName, TaskId},
};
use chrono::{DateTime, Utc};

use super::inspect;
use crate::model::{Data, End, Queue};

/// Makes one task pending, at the end of the line. One that waits in a group leaves it for good
/// (differences.md#the-group-field), and the last one takes the group out of the index.
pub(crate) fn run_task(data: &mut Data, name: &QueueName, id: &TaskId, now: DateTime<Utc>) -> Result<(), BrokerError> {
    let state = inspect::task_info(data, name, id, now)?.state;
    let queue = data.queue(name);
    let group = queue.tasks.get(id).and_then(|task| task.group.clone());
    let listed = match state {
        TaskState::Scheduled | TaskState::Retry | TaskState::Archived => {
            queue.check(&[state.as_str(), "pending"])?;
            let waiting = match state {
                TaskState::Scheduled => &mut queue.scheduled,
                TaskState::Retry => &mut queue.retry,
                _ => &mut queue.archived,
            };
            waiting.remove(id)
        }
        TaskState::Aggregating => match group.as_deref().filter(|group| !group.is_empty()) {
            None => false,
            Some(group) => {
                queue.check(&[&format!("g:{group}"), "pending", "groups"])?;
                if !leave_group(queue, group, id) {
                    return Err(wrong_state(name, id, state));
                }
                true
            }
        },
        _ => return Err(wrong_state(name, id, state)),
    };
    if !listed {
        return Err(BrokerError::Poison {
            queue: name.clone(),
            id: id.clone(),
            kind: PoisonKind::Misplaced,
        });
    }
    if let Some(task) = queue.tasks.get_mut(id) {
        task.group = None;
    }
    queue.push_pending(id, End::Back, now);
    Ok(())
}

/// Returns whether the task waited there.
fn leave_group(queue: &mut Queue, group: &str, id: &TaskId) -> bool {
    let Some(waiting) = queue.gathered.get_mut(group) else {
        return false;
    };
    let left = waiting.remove(id);
    if waiting.is_empty() {
        queue.gathered.remove(group);
        queue.groups.remove(group);
    }
    left
}

pub(crate) fn wrong_state(queue: &QueueName, id: &TaskId, state: TaskState) -> BrokerError {
    BrokerError::WrongState {
        queue: queue.clone(),
        id: id.clone(),
        state,
    }
}
