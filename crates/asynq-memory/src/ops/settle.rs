//! Outcomes of active tasks.

use asynq_core::{
    TaskMessage, TaskState, Then,
    broker::{ARCHIVED_AGE, EndedRun, LeaseRef, MAX_ARCHIVED, Outcome, Settlement},
    error::{PoisonKind, SettleError},
    message,
    names::TaskId,
    runs,
};
use chrono::{DateTime, Utc};

use crate::model::{Delay, End, Queue};

/// Writes one outcome, if the task is still ours.
pub(crate) fn settle(queue: &mut Queue, settlement: &Settlement, now: DateTime<Utc>) -> Result<(), SettleError> {
    fence(queue, &settlement.lease)?;
    let run = settlement.run.as_deref();
    finish(
        queue,
        &settlement.lease.id,
        &settlement.message,
        &settlement.outcome,
        run,
        now,
    )
}

/// The containers that an outcome touches.
pub(crate) fn containers(message: &TaskMessage, outcome: &Outcome) -> impl Iterator<Item = &'static str> {
    let to = match outcome {
        Outcome::Done { retain: true } if message.retention > 0 => Some("completed"),
        Outcome::Done { .. } => None,
        Outcome::Retry { .. } => Some("retry"),
        Outcome::Archive { .. } => Some("archived"),
        Outcome::Requeue => Some("pending"),
    };
    ["active", "lease"].into_iter().chain(to)
}

/// Returns what becomes of a task instead, where its run was asked to end: of any outcome but success.
pub(crate) fn asked(queue: &Queue, id: &TaskId, message: &TaskMessage, outcome: &Outcome) -> Option<Then> {
    let task = queue.tasks.get(id)?;
    match outcome {
        Outcome::Done { .. } => None,
        _ if Then::is_over(task.take.as_deref()?, message.last_failed_at) => None,
        Outcome::Retry { .. } | Outcome::Archive { .. } | Outcome::Requeue => task.asked(),
    }
}

/// Returns whether a task is ours (rules.md#fenced-settle): active, taken by our call, and with no lease that
/// somebody else wrote since.
pub(crate) fn fence(queue: &Queue, lease: &LeaseRef) -> Result<(), SettleError> {
    let task = match queue.task(&lease.id) {
        Ok(task) => task,
        Err(PoisonKind::NotAHash) => return Err(SettleError::Poison(PoisonKind::NotAHash)),
        Err(_) => return Err(SettleError::NotOurs),
    };
    let taken_by_us = task.take.as_deref() == Some(lease.token.as_str());
    let lease_is_ours = queue.lease.score(&lease.id).is_none_or(|score| score <= lease.until.0);
    if !taken_by_us || !lease_is_ours {
        return Err(SettleError::NotOurs);
    }
    match task.known_state() {
        Ok(TaskState::Active) => Ok(()),
        Ok(_) => Err(SettleError::NotOurs),
        Err(kind) => Err(SettleError::Poison(kind)),
    }
}

/// Ends the run of an active task. One that does not stand in `active`, whatever its hash says, is
/// not touched.
pub(crate) fn finish(
    queue: &mut Queue,
    id: &TaskId,
    message: &TaskMessage,
    outcome: &Outcome,
    run: Option<&EndedRun>,
    now: DateTime<Utc>,
) -> Result<(), SettleError> {
    let asked = asked(queue, id, message, outcome);
    if !queue.leave_active(id) {
        return Err(SettleError::NotOurs);
    }
    let letter = match asked {
        Some(Then::Archive) => Some('a'),
        Some(Then::Delete) => None,
        _ => runs::letter_of(message, outcome),
    };
    if let (Some(run), Some(letter), Some(task)) = (run, letter, queue.tasks.get_mut(id)) {
        let run = run.encode(message, outcome, now.timestamp());
        task.runs = Some(runs::with_run(task.runs.as_deref(), letter, &run));
    }
    match asked {
        Some(Then::Archive) => {
            archive_as_asked(queue, id, message, outcome, now);
            return Ok(());
        }
        Some(Then::Delete) => {
            queue.delete_task(id, now);
            queue.count(false, now);
            return Ok(());
        }
        _ => {}
    }
    match outcome {
        Outcome::Done { retain: true } if message.retention > 0 => complete(queue, id, message, now),
        Outcome::Done { .. } => {
            queue.tasks.remove(id);
            queue.free_lock(&message.unique_key, id, now);
            queue.count(false, now);
        }
        Outcome::Retry { at, error, is_failure } => {
            rewrite(
                queue,
                id,
                &message::failed(message, error, now.timestamp(), *is_failure),
            );
            queue.push_delayed(id, Delay::Retry, *at);
            if *is_failure {
                queue.count(true, now);
            }
        }
        Outcome::Archive { error } => {
            rewrite(queue, id, &message::failed(message, error, now.timestamp(), false));
            archive(queue, id, now);
            queue.count(true, now);
        }
        Outcome::Requeue => queue.push_pending(id, End::Front, now),
    }
    Ok(())
}

/// Success, kept for its retention.
fn complete(queue: &mut Queue, id: &TaskId, message: &TaskMessage, now: DateTime<Utc>) {
    rewrite(queue, id, &message::completed(message, now.timestamp()));
    if let Some(task) = queue.tasks.get_mut(id) {
        task.enter(TaskState::Completed);
    }
    queue
        .completed
        .insert(id.clone(), message::kept_until(message, now.timestamp()));
    queue.free_lock(&message.unique_key, id, now);
    queue.count(false, now);
}

/// Archives a task whose run was asked to end: as failed, also where it was given back.
fn archive_as_asked(queue: &mut Queue, id: &TaskId, message: &TaskMessage, outcome: &Outcome, now: DateTime<Utc>) {
    let failed = |error, counts| message::failed(message, error, now.timestamp(), counts);
    match outcome {
        Outcome::Retry { error, is_failure, .. } => rewrite(queue, id, &failed(error, *is_failure)),
        Outcome::Archive { error } => rewrite(queue, id, &failed(error, false)),
        Outcome::Done { .. } | Outcome::Requeue => {
            if let Some(task) = queue.tasks.get_mut(id) {
                task.msg = (task.msg.as_ref()).map(|stored| message::cancelled(stored, now.timestamp()));
                task.unstarted = None;
            }
        }
    }
    archive(queue, id, now);
    queue.count(true, now);
}

/// Failure for good. The task's own state is written before old ones are trimmed, so that a task
/// trimmed at once leaves nothing behind (differences.md#archive-trimming).
pub(super) fn archive(queue: &mut Queue, id: &TaskId, now: DateTime<Utc>) {
    if let Some(task) = queue.tasks.get_mut(id) {
        task.enter(TaskState::Archived);
    }
    queue.archived.insert(id.clone(), now.timestamp());
    trim_archive(queue, now);
}

/// Deletes tasks archived too long ago, then the oldest until fewer than [`MAX_ARCHIVED`] are
/// left: one less, as Go.
fn trim_archive(queue: &mut Queue, now: DateTime<Utc>) {
    let cutoff = (now - ARCHIVED_AGE).timestamp();
    let aged = queue.archived.iter().take_while(|(_, score)| *score <= cutoff).count();
    let most = usize::try_from(MAX_ARCHIVED).unwrap_or(usize::MAX) - 1;
    let over = queue.archived.len().saturating_sub(most);
    for (id, _) in queue.archived.pop_lowest(aged.max(over)) {
        if queue.tasks.get(&id).is_some_and(|task| task.is(TaskState::Archived)) {
            queue.delete_task(&id, now);
        }
    }
}

fn rewrite(queue: &mut Queue, id: &TaskId, message: &TaskMessage) {
    if let Some(task) = queue.tasks.get_mut(id) {
        task.msg = Some(message::encode(message));
        task.unstarted = None;
    }
}
