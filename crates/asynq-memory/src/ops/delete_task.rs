//! Deletes one task.

use asynq_core::{
    TaskState,
    error::BrokerError,
    names::{QueueName, TaskId},
};
use chrono::{DateTime, Utc};

use super::{
    inspect,
    run_task::{leave, leave_group, wrong_state},
};
use crate::model::{Data, Queue};

/// Deletes one task that is not active, or what is left of one, with its lock.
pub(crate) fn delete_task(
    data: &mut Data,
    name: &QueueName,
    id: &TaskId,
    now: DateTime<Utc>,
) -> Result<(), BrokerError> {
    let queue = inspect::known(data, name)?;
    let (state, group, has_message) = match queue.tasks.get(id) {
        Some(task) => (task.known_state().ok(), task.group.clone(), task.msg.is_some()),
        None => (None, None, false),
    };
    let mut removed = false;
    match (state, group.filter(|group| !group.is_empty())) {
        (Some(TaskState::Active), _) if has_message => return Err(wrong_state(name, id, TaskState::Active)),
        (Some(TaskState::Active), _) | (None, _) | (Some(TaskState::Aggregating), None) => {}
        (Some(TaskState::Aggregating), Some(group)) => {
            queue.check(&[&format!("g:{group}"), "groups"])?;
            removed = leave_group(queue, &group, id);
            if !removed && has_message {
                return Err(wrong_state(name, id, TaskState::Aggregating));
            }
        }
        (Some(state), _) => {
            queue.check(&[state.as_str()])?;
            removed = leave(queue, state, id);
        }
    }
    if !removed {
        removed = leave_all(queue, id, has_message);
    }
    if !removed && !queue.holds(id) {
        return Err(BrokerError::TaskNotFound {
            queue: name.clone(),
            id: id.clone(),
        });
    }
    queue.delete_task(id, now);
    queue.misfits.remove(&format!("t:{id}"));
    Ok(())
}

/// Takes an id out of all containers. An active one and one in a group stays if it has a message.
fn leave_all(queue: &mut Queue, id: &TaskId, has_message: bool) -> bool {
    let mut removed = false;
    for state in TaskState::ALL {
        removed |= leave(queue, state, id);
    }
    if !has_message {
        removed |= queue.leave_active(id);
        removed |= queue.lease.remove(id);
        for group in queue.groups.clone() {
            removed |= leave_group(queue, &group, id);
        }
    }
    removed
}
