//! Extension of leases, and adoption of taken tasks.

use std::{collections::HashSet, sync::Arc};

use asynq_core::{
    TaskState,
    broker::{CallRecord, LeaseRef, LeaseUntil, LeasedTask, Poison},
    error::{BrokerError, SettleError},
    names::TaskId,
    progress::Progress,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{publish, settle::fence};
use crate::model::{Data, Queue};

/// Extends leases; never shortens one and never makes a new one. All fences are tested before the
/// first lease is written. The connection hears again of those whose run was asked to end.
pub(crate) fn extend(
    data: &mut Data,
    connection: u64,
    batch: &[LeaseRef],
    now: DateTime<Utc>,
) -> Vec<Result<LeaseUntil, SettleError>> {
    let ours: Vec<_> = batch
        .iter()
        .map(|lease| may_extend(data.queue(&lease.queue), lease))
        .collect();
    for (lease, _) in batch.iter().zip(&ours).filter(|(_, ours)| ours.is_ok()) {
        let task = data.queue(&lease.queue).tasks.get(&lease.id);
        if task.is_some_and(|task| task.asked().is_some()) {
            publish::repeat_cancel(data, connection, lease);
        }
    }
    let new = LeaseUntil::from_now(now);
    let extend = |(lease, ours): (&LeaseRef, Result<(), SettleError>)| {
        ours?;
        let leases = &mut data.queue(&lease.queue).lease;
        // Without a lease, which is damage, the run goes on under the one it knows, until heal has
        // put one in place. Nothing is written, so nothing more is claimed.
        let Some(score) = leases.score(&lease.id) else {
            return Err(SettleError::NoLease);
        };
        let until = new.max(LeaseUntil(score));
        leases.insert(lease.id.clone(), until.0);
        Ok(until)
    };
    batch.iter().zip(ours).map(extend).collect()
}

fn may_extend(queue: &Queue, lease: &LeaseRef) -> Result<(), SettleError> {
    queue.check(&["lease"])?;
    fence(queue, lease)
}

/// Finds what a lost call took and gives it a new lease, oldest take first. Go never clears our
/// token: where the lease is above the one that the call wrote, somebody else took the task since,
/// unless it is the one that an earlier adoption wrote whose own answer was lost.
pub(crate) fn adopt(
    queue: &mut Queue,
    lost: &CallRecord,
    now: DateTime<Utc>,
) -> Result<(Vec<LeasedTask>, Vec<Poison>), BrokerError> {
    queue.check(&["active", "lease"])?;
    let new = LeaseUntil::from_now(now);
    let mut seen = HashSet::new();
    let found = queue.active.iter().rev().filter(|id| is_from(queue, id, lost));
    let ours: Vec<TaskId> = found.filter(|id| seen.insert(*id)).cloned().collect();
    let (mut adopted, mut poisoned) = (Vec::new(), Vec::new());
    for id in ours {
        let until = queue.lease.score(&id).map_or(new, |score| new.max(LeaseUntil(score)));
        if let Some(task) = queue.tasks.get_mut(&id).filter(|task| task.msg.is_some()) {
            task.adopted = Some(until.0);
            queue.lease.insert(id.clone(), until.0);
        }
        let read = queue.task(&id).and_then(|task| {
            let message = task.message(&queue.name, &id)?;
            Ok((task.exact_deadline(&message), message))
        });
        match read {
            Ok((deadline, message)) => {
                let lease = LeaseRef {
                    queue: queue.name.clone(),
                    id,
                    token: lost.token.clone(),
                    until,
                };
                adopted.push(LeasedTask {
                    deadline,
                    pending_since: None,
                    message: Arc::new(message),
                    lease,
                });
            }
            Err(kind) => poisoned.push(queue.put_active_aside(&id, kind, now)),
        }
    }
    Ok((adopted, poisoned))
}

fn is_from(queue: &Queue, id: &TaskId, call: &CallRecord) -> bool {
    let Ok(task) = queue.task(id) else { return false };
    let taken = task.is(TaskState::Active) && task.take.as_deref() == Some(call.token.as_str());
    let ours = |score| score <= call.lease_until.0 || Some(score) == task.adopted;
    taken && queue.lease.score(id).is_none_or(ours)
}

/// Writes how far a run has come, while the task is ours.
pub(crate) fn write_progress(queue: &mut Queue, lease: &LeaseRef, progress: &Progress) -> Result<(), SettleError> {
    progress
        .check()
        .map_err(|error| BrokerError::Refused { source: error.into() })?;
    fence(queue, lease)?;
    queue.check(&["lease"])?;
    if let Some(task) = queue.tasks.get_mut(&lease.id) {
        task.progress = Some(progress.encode());
    }
    Ok(())
}

/// Writes what a handler calls its result, while the task is ours (differences.md#results-of-lost-tasks).
pub(crate) fn write_result(queue: &mut Queue, lease: &LeaseRef, result: Bytes) -> Result<usize, SettleError> {
    fence(queue, lease)?;
    queue.check(&["lease"])?;
    let length = result.len();
    if let Some(task) = queue.tasks.get_mut(&lease.id) {
        task.result = Some(result);
    }
    Ok(length)
}
