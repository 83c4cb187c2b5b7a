//! New tasks.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    TaskState,
    broker::{EnqueueRequest, Placement},
    clock::exact_millis,
    error::{BrokerError, EnqueueError},
    info::TaskInfo,
    message,
    names::TaskId,
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::model::{Data, Delay, End, Queue, TaskHash};

/// Enqueues a batch, each task for itself. A damaged container refuses those that go there; others go on.
pub(crate) fn enqueue_all(
    data: &mut Data,
    batch: &[Arc<EnqueueRequest>],
    now: DateTime<Utc>,
) -> Vec<Result<TaskInfo, EnqueueError>> {
    let one = |request: &Arc<EnqueueRequest>| {
        let queue = data.publish(&request.message.queue);
        check(queue, &request.placement)?;
        enqueue(queue, request, now)
    };
    batch.iter().map(one).collect()
}

/// Enqueues one task. Both tests come before any write: the lock, then the id
/// (differences.md#locks-and-id-conflicts). What our own earlier attempt left, known by its token, is success
/// (rules.md#ambiguous-is-a-state).
pub(crate) fn enqueue(
    queue: &mut Queue,
    request: &EnqueueRequest,
    now: DateTime<Utc>,
) -> Result<TaskInfo, EnqueueError> {
    check_lock(queue, request)?;
    let conflict = conflict(queue, request, now);
    let (id, info) = info(queue, request, now);
    let EnqueueRequest {
        message,
        placement,
        unique_ttl,
        deadline,
        token,
    } = request;

    match conflict {
        Some(Conflict::Ourselves) => return Ok(info),
        Some(Conflict::Lock) => return Err(EnqueueError::DuplicateTask),
        Some(Conflict::Id) => return Err(EnqueueError::TaskIdConflict),
        None => {}
    }

    let mut task = TaskHash {
        msg: Some(message::encode(message)),
        enq: Some(*token),
        deadline: deadline.and_then(exact_millis).map(|millis| millis.to_string().into()),
        ..TaskHash::default()
    };
    if let Some(ttl) = unique_ttl {
        queue.locks.put(
            message.unique_key.clone(),
            id.clone(),
            Some(lock_end(placement, *ttl, now)),
        );
        task.unique_key = Some(message.unique_key.clone());
    }
    if let Placement::Group(group) = placement {
        task.group = Some(group.as_str().to_owned());
    }
    queue.tasks.insert(id.clone(), task);
    match placement {
        Placement::Pending => queue.push_pending(&id, End::Back, now),
        Placement::Scheduled(at) => queue.push_delayed(&id, Delay::Scheduled, *at),
        Placement::Group(group) => queue.push_group(&id, group.as_str(), now),
    }
    Ok(info)
}

/// Refuses a lock that is none of the queue's.
pub(crate) fn check_lock(queue: &Queue, request: &EnqueueRequest) -> Result<(), BrokerError> {
    let key = &request.message.unique_key;
    if request.unique_ttl.is_none() || queue.is_lock(key) {
        return Ok(());
    }
    let reason = format!("{key:?} is not a unique lock of queue {:?}", queue.name);
    Err(BrokerError::Refused { source: reason.into() })
}

/// A new task as its enqueue answers it.
pub(crate) fn info(queue: &Queue, request: &EnqueueRequest, now: DateTime<Utc>) -> (TaskId, TaskInfo) {
    let id = TaskId::from_storage(&request.message.id);
    let (state, due) = match &request.placement {
        Placement::Pending => (TaskState::Pending, Some(now)),
        Placement::Scheduled(at) => (TaskState::Scheduled, Some(*at)),
        Placement::Group(_) => (TaskState::Aggregating, None),
    };
    let info = TaskInfo::from_message(&queue.name, &id, &request.message, state, due, None);
    (id, info)
}

/// An obstacle to a new task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// The same request, which took effect before.
    Ourselves,
    /// The lock is taken.
    Lock,
    /// The id is taken.
    Id,
}

/// Returns what stands against a request; the lock comes before the id.
pub(crate) fn conflict(queue: &Queue, request: &EnqueueRequest, now: DateTime<Utc>) -> Option<Conflict> {
    let id = request.message.id.as_str();
    let ours = queue.tasks.get(id).is_some_and(|task| task.enq == Some(request.token));
    let lock = request.message.unique_key.as_str();
    if request.unique_ttl.is_some() && queue.is_locked(lock, now) {
        let by_us = ours && queue.locks.owner(lock, now).is_some_and(|owner| owner.as_str() == id);
        return Some(if by_us { Conflict::Ourselves } else { Conflict::Lock });
    }
    if ours {
        return Some(Conflict::Ourselves);
    }
    queue.holds(&TaskId::from_storage(id)).then_some(Conflict::Id)
}

/// Refuses a placement whose containers are damaged, before anything is written.
pub(crate) fn check(queue: &Queue, placement: &Placement) -> Result<(), BrokerError> {
    match placement {
        Placement::Pending => queue.check(&["pending"]),
        Placement::Scheduled(_) => queue.check(&["scheduled"]),
        Placement::Group(group) => queue.check(&["groups", &format!("g:{group}")]),
    }
}

/// The longest life of a lock: a hundred years.
const LONGEST_LOCK: i64 = 100 * 366 * 24 * 3600;

/// The lock lives until `ttl` after the task is due, in whole seconds, at least one
/// (differences.md#lifetime-of-locks).
fn lock_end(placement: &Placement, ttl: Duration, now: DateTime<Utc>) -> DateTime<Utc> {
    let mut lives = TimeDelta::from_std(ttl).unwrap_or(TimeDelta::MAX);
    if let Placement::Scheduled(at) = placement {
        lives = lives.checked_add(&(*at - now)).unwrap_or(TimeDelta::MAX);
    }
    let whole = lives.num_seconds().saturating_add(i64::from(lives.subsec_nanos() > 0));
    now + TimeDelta::seconds(whole.clamp(1, LONGEST_LOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_lives_whole_seconds_from_the_time_the_task_is_due() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let lives = |placement: &Placement, ttl| (lock_end(placement, ttl, now) - now).num_milliseconds();
        assert_eq!(lives(&Placement::Pending, Duration::from_millis(1100)), 2000);
        assert_eq!(lives(&Placement::Pending, Duration::from_millis(1000)), 1000);
        assert_eq!(lives(&Placement::Pending, Duration::from_nanos(1)), 1000);
        let soon = Placement::Scheduled(now + TimeDelta::milliseconds(2500));
        assert_eq!(lives(&soon, Duration::from_secs(1)), 4000);
        let past = Placement::Scheduled(now - TimeDelta::seconds(90));
        assert_eq!(lives(&past, Duration::from_secs(60)), 1000);
        assert_eq!(lives(&Placement::Pending, Duration::MAX), LONGEST_LOCK * 1000);
    }
}
