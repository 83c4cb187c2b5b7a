//! Changes of a waiting task: its payload, or its time.

use asynq_core::{
    TaskState,
    error::{BrokerError, PoisonKind},
    keys, message,
    names::{QueueName, TaskId},
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    inspect,
    run_task::{leave, wrong_state},
};
use crate::model::{Data, Delay};

/// Replaces the payload of a scheduled task.
pub(crate) fn payload(
    data: &mut Data,
    name: &QueueName,
    id: &TaskId,
    payload: Bytes,
    now: DateTime<Utc>,
) -> Result<(), BrokerError> {
    let state = inspect::task_info(data, name, id, now)?.state;
    if state != TaskState::Scheduled {
        return Err(wrong_state(name, id, state));
    }
    if let Some(task) = data.queue(name).tasks.get_mut(id)
        && let Ok(mut stored) = task.message(name, id)
    {
        stored.payload = payload;
        task.msg = Some(message::encode(&stored));
    }
    Ok(())
}

/// Changes the time of a delayed task, or makes an archived one scheduled. The lock of a scheduled task moves with it.
pub(crate) fn reschedule(
    data: &mut Data,
    name: &QueueName,
    id: &TaskId,
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), BrokerError> {
    let state = inspect::task_info(data, name, id, now)?.state;
    let delay = match state {
        TaskState::Scheduled | TaskState::Archived => Delay::Scheduled,
        TaskState::Retry => Delay::Retry,
        _ => return Err(wrong_state(name, id, state)),
    };
    let queue = data.queue(name);
    queue.check(&[state.as_str(), delay.state().as_str()])?;
    let before = queue.scheduled.score(id);
    if !leave(queue, state, id) {
        return Err(BrokerError::Poison {
            queue: name.clone(),
            id: id.clone(),
            kind: PoisonKind::Misplaced,
        });
    }
    let at = at.max(DateTime::UNIX_EPOCH);
    let mut lock = None;
    if let Some(task) = queue.tasks.get_mut(id) {
        lock = task.unique_key.clone();
        if state == TaskState::Archived {
            task.group = None;
        }
    }
    queue.push_delayed(id, delay, at);
    if let (TaskState::Scheduled, Some(before), Some(lock)) = (state, before, lock)
        && queue.is_lock(&lock)
        && queue.locks.owner(&lock, now) == Some(id)
        && let Some(ends) = queue.locks.expiry(&lock)
    {
        let moved = TimeDelta::try_seconds(at.timestamp() - before).and_then(|by| ends.checked_add_signed(by));
        let ends = moved
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
            .max(now + TimeDelta::seconds(1));
        queue.locks.put(lock, id.clone(), Some(ends));
    }
    Ok(())
}

/// Deletes the counters of today and the totals.
pub(crate) fn clear_counters(data: &mut Data, name: &QueueName, now: DateTime<Utc>) -> Result<(), BrokerError> {
    let queue = inspect::known(data, name)?;
    let day = keys::day(now);
    for counter in ["processed", "failed"] {
        for suffix in [counter.to_owned(), format!("{counter}:{day}")] {
            queue.counters.remove(&suffix);
            queue.misfits.remove(&suffix);
        }
    }
    Ok(())
}
