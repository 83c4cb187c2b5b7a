//! Keeping what was taken: extension and adoption.

use std::sync::Arc;

use asynq_core::{
    TaskState,
    broker::{CallRecord, LeaseRef, LeaseUntil, LeasedTask, Poison},
    error::{BrokerError, SettleError},
    names::TaskId,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::settle::fence;
use crate::model::Queue;

/// Extends a lease; never shortens it and never makes a new one.
pub(crate) fn extend(queue: &mut Queue, lease: &LeaseRef, now: DateTime<Utc>) -> Result<LeaseUntil, SettleError> {
    queue.check(&["lease"])?;
    fence(queue, lease)?;
    let until = LeaseUntil::from_now(now);
    match queue.lease.score(&lease.id) {
        Some(score) => {
            let until = until.max(LeaseUntil(score));
            queue.lease.insert(lease.id.clone(), until.0);
            Ok(until)
        }
        // Damage. The run goes on under the lease it knows, until heal has put one in place.
        None => Ok(until),
    }
}

/// Finds what a lost call took and gives it a new lease, oldest take first. Go never clears our
/// token: where the lease is above the one that the call wrote, somebody else took the task since.
pub(crate) fn adopt(
    queue: &mut Queue,
    lost: &CallRecord,
    now: DateTime<Utc>,
) -> Result<(Vec<LeasedTask>, Vec<Poison>), BrokerError> {
    queue.check(&["active", "lease"])?;
    let new = LeaseUntil::from_now(now);
    let ours: Vec<TaskId> = queue.active.iter().rev().filter(|id| is_from(queue, id, lost)).cloned().collect();
    let (mut adopted, mut poisoned) = (Vec::new(), Vec::new());
    for id in ours {
        match queue.task(&id).and_then(|task| task.message(&queue.name, &id)) {
            Ok(message) => {
                let until = queue.lease.score(&id).map_or(new, |score| new.max(LeaseUntil(score)));
                queue.lease.insert(id.clone(), until.0);
                let lease = LeaseRef { queue: queue.name.clone(), id, token: lost.token.clone(), until };
                adopted.push(LeasedTask { message: Arc::new(message), lease });
            }
            Err(kind) => {
                poisoned.push(queue.put_active_aside(&id, kind, now));
            }
        }
    }
    Ok((adopted, poisoned))
}

fn is_from(queue: &Queue, id: &TaskId, call: &CallRecord) -> bool {
    let taken = queue.task(id).is_ok_and(|task| {
        task.is(TaskState::Active) && task.take.as_deref() == Some(call.token.as_str())
    });
    taken && queue.lease.score(id).is_none_or(|score| score <= call.lease_until.0)
}

/// Writes what a handler calls its result, while the task is ours (pitfalls G12).
pub(crate) fn write_result(queue: &mut Queue, lease: &LeaseRef, result: Bytes) -> Result<usize, SettleError> {
    fence(queue, lease)?;
    let length = result.len();
    if let Some(task) = queue.tasks.get_mut(&lease.id) {
        task.result = Some(result);
    }
    Ok(length)
}
