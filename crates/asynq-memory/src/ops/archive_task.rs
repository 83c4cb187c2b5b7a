//! Archives a waiting task.

use asynq_core::{
    TaskState,
    error::BrokerError,
    names::{QueueName, TaskId},
};
use chrono::{DateTime, Utc};

use super::{run_task::take_out, settle};
use crate::model::Data;

/// Archives one task. Its message does not change, and nothing is counted.
pub(crate) fn archive_task(
    data: &mut Data,
    name: &QueueName,
    id: &TaskId,
    now: DateTime<Utc>,
) -> Result<(), BrokerError> {
    let from = [TaskState::Pending, TaskState::Scheduled, TaskState::Retry];
    let queue = take_out(data, name, id, &from, "archived", now)?;
    if let Some(task) = queue.tasks.get_mut(id) {
        task.unstarted = None;
    }
    settle::archive(queue, id, now);
    Ok(())
}
