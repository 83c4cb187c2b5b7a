//! Runs a waiting task now.

use asynq_core::{
    TaskState,
    error::{BrokerError, PoisonKind},
    names::{QueueName, TaskId},
};
use chrono::{DateTime, Utc};

use super::inspect;
use crate::model::{Data, End, Queue};

/// Makes one task pending, at the end of the line.
pub(crate) fn run_task(data: &mut Data, name: &QueueName, id: &TaskId, now: DateTime<Utc>) -> Result<(), BrokerError> {
    let from = [TaskState::Scheduled, TaskState::Retry, TaskState::Archived];
    take_out(data, name, id, &from, "pending", now)?.push_pending(id, End::Back, now);
    Ok(())
}

/// Takes one task out of its place, for another one: if its state is one of these, or if it waits in a group. Such a
/// task leaves the group for good (differences.md#the-group-field), and the last one takes the group out of the index.
pub(super) fn take_out<'d>(
    data: &'d mut Data,
    name: &QueueName,
    id: &TaskId,
    from: &[TaskState],
    to: &str,
    now: DateTime<Utc>,
) -> Result<&'d mut Queue, BrokerError> {
    let state = inspect::task_info(data, name, id, now)?.state;
    let queue = data.queue(name);
    let group = queue.tasks.get(id).and_then(|task| task.group.clone());
    let listed = match state {
        TaskState::Aggregating => match group.as_deref().filter(|group| !group.is_empty()) {
            None => false,
            Some(group) => {
                queue.check(&[&format!("g:{group}"), to, "groups"])?;
                if !leave_group(queue, group, id) {
                    return Err(wrong_state(name, id, state));
                }
                true
            }
        },
        state if from.contains(&state) => {
            queue.check(&[state.as_str(), to])?;
            leave(queue, state, id)
        }
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
    Ok(queue)
}

/// Takes an id out of the container of a state other than aggregating. Returns whether it stood there.
pub(super) fn leave(queue: &mut Queue, state: TaskState, id: &TaskId) -> bool {
    let set = match state {
        TaskState::Scheduled => &mut queue.scheduled,
        TaskState::Retry => &mut queue.retry,
        TaskState::Archived => &mut queue.archived,
        TaskState::Completed => &mut queue.completed,
        TaskState::Pending => {
            let before = queue.pending.len();
            queue.pending.retain(|of| of != id);
            return queue.pending.len() < before;
        }
        _ => return false,
    };
    set.remove(id)
}

/// Takes an id out of a group, and the group out of the index if it was the last. Returns whether it waited there.
pub(super) fn leave_group(queue: &mut Queue, group: &str, id: &TaskId) -> bool {
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
