//! The end of a run, on request.

use asynq_core::{
    Cancelled, TaskState, Then,
    error::BrokerError,
    names::{QueueName, TaskId},
};
use chrono::{DateTime, Utc};

use super::{inspect, publish, run_task::wrong_state};
use crate::model::Data;

/// Tells all servers to end the run of an active task, and keeps what becomes of the task then, unless a
/// Go server took it.
pub(crate) fn cancel_task(
    data: &mut Data,
    name: &QueueName,
    id: &TaskId,
    then: Then,
    now: DateTime<Utc>,
) -> Result<Cancelled, BrokerError> {
    let info = inspect::task_info(data, name, id, now)?;
    if info.state != TaskState::Active {
        return Err(wrong_state(name, id, info.state));
    }
    let failed_at = info.last_failed_at.map_or(0, |at| at.timestamp());
    publish::cancel(data, id);
    let Some(task) = data.queue(name).tasks.get_mut(id) else {
        return Ok(Cancelled::Told);
    };
    let token = task.take.as_deref().filter(|token| !Then::is_over(token, failed_at));
    task.cancel = token.map(|token| then.encode(token).into());
    Ok(match task.cancel {
        Some(_) => Cancelled::Kept,
        None => Cancelled::Told,
    })
}
