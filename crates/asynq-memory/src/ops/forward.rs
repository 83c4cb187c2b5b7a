//! Delayed tasks that are due.

use std::collections::HashSet;

use asynq_core::{
    broker::{Forwarded, MAX_BATCH, PUT_OFF, Poison},
    clock::from_exact_millis,
    error::{BrokerError, PoisonKind},
    names::TaskId,
};
use chrono::{DateTime, Utc};

use crate::model::{Delay, End, Queue, number};

/// Number of tasks of this second that are looked at for one that may be moved, so that those held back hide no
/// others.
const LOOK_AT: usize = 10;

/// Moves due tasks, scheduled first, then retry, at most `limit` of each and no
/// more than [`MAX_BATCH`].
pub(crate) fn forward(queue: &mut Queue, limit: u32, now: DateTime<Utc>) -> Result<Forwarded, BrokerError> {
    queue.check(&["scheduled", "retry", "pending", "groups"])?;
    let limit = limit.clamp(1, MAX_BATCH) as usize;
    let (mut due, mut held, mut full) = (Vec::new(), None, Vec::new());
    for delay in [Delay::Scheduled, Delay::Retry] {
        let mut ready = queue.delayed(delay).up_to(now.timestamp(), LOOK_AT * limit);
        let all = ready.len();
        ready.retain(|(id, score)| {
            let until = held_until(queue, id, *score, now);
            held = held.into_iter().chain(until).min();
            until.is_none()
        });
        let more = ready.len() > limit || (ready.len() == limit && all == LOOK_AT * limit);
        if more {
            full.push(delay);
        }
        ready.truncate(limit);
        due.extend(ready.into_iter().map(|(id, _)| (delay, id)));
    }
    let mut done = Forwarded::default();
    let mut seen = HashSet::new();
    for (delay, id) in &due {
        if group_is_damaged(queue, id) {
            queue.delayed(*delay).insert(id.clone(), (now + PUT_OFF).timestamp());
            if seen.insert(id) {
                done.put_off.push(id.clone());
            }
            continue;
        }
        queue.delayed(*delay).remove(id);
        // An id in both sets moves once.
        if seen.insert(id) {
            match forward_one(queue, id, now) {
                Ok(()) => done.moved += 1,
                Err(poison) => done.poisoned.push(poison),
            }
        }
    }
    // What is left of this second is held back, unless the bound was reached.
    let left = |delay: Delay, first: Option<(&TaskId, i64)>| {
        let (_, score) = first?;
        (score > now.timestamp() || full.contains(&delay)).then_some(score)
    };
    let next = left(Delay::Scheduled, queue.scheduled.first())
        .into_iter()
        .chain(left(Delay::Retry, queue.retry.first()))
        .min();
    done.more = next.is_some_and(|score| score <= now.timestamp());
    let next = next.and_then(|score| DateTime::from_timestamp(score, 0));
    done.next_due = next.into_iter().chain(held).min();
    Ok(done)
}

/// Returns whether a usable task waits for a group whose key holds another type.
fn group_is_damaged(queue: &Queue, id: &TaskId) -> bool {
    let task = queue.tasks.get(id).filter(|task| task.msg.is_some());
    let group = task.and_then(|task| task.group.as_ref());
    group.is_some_and(|group| queue.check(&[&format!("g:{group}")]).is_err())
}

/// Returns when a task of this second is due that is to come yet; no other is held back.
fn held_until(queue: &Queue, id: &TaskId, score: i64, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if score != now.timestamp() {
        return None;
    }
    let millis = number(queue.tasks.get(id)?.at.as_deref()?)?;
    from_exact_millis(score, millis).filter(|_| millis > now.timestamp_millis())
}

/// The field `group` of the hash decides, not the message (layout.md#task-hash).
fn forward_one(queue: &mut Queue, id: &TaskId, now: DateTime<Utc>) -> Result<(), Poison> {
    let group = match queue.task(id) {
        Ok(task) if task.msg.is_some() => task.group.clone().filter(|group| !group.is_empty()),
        Ok(_) => return Err(queue.put_aside(id, PoisonKind::NoMessage, now)),
        Err(kind) => return Err(queue.put_aside(id, kind, now)),
    };
    match group {
        Some(group) => queue.push_group(id, &group, now),
        None => queue.push_pending(id, End::Back, now),
    }
    Ok(())
}
