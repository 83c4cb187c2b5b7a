//! Recovery of tasks whose owners died.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    TaskMessage, TaskState, Then,
    broker::{
        CallToken, Expired, ExpiredPlace, ExpiredTask, LeaseUntil, MAX_BATCH, MAX_BATCH_BYTES, MAX_UNSTARTED, Outcome,
        Recovery,
    },
    error::{BrokerError, PoisonKind, SettleError},
    names::TaskId,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::settle;
use crate::model::{Queue, TaskHash, number};

/// Lists tasks whose lease ended at least `grace` ago, longest first, behind a place. Undecodable ones are
/// put aside and never stop the sweep (differences.md#poison-messages).
pub(crate) fn expired(
    queue: &mut Queue,
    grace: Duration,
    limit: u32,
    place: &ExpiredPlace,
    now: DateTime<Utc>,
) -> Result<Expired, BrokerError> {
    queue.check(&["active", "lease"])?;
    let grace = TimeDelta::from_std(grace).unwrap_or(TimeDelta::MAX);
    let cutoff = now.checked_sub_signed(grace).map_or(i64::MIN, |at| at.timestamp());
    let mut found = Expired::default();
    let mut bytes = 0;
    let place = place.lease().and_then(|(score, id)| {
        let id = TaskId::from_storage(&String::from_utf8_lossy(id));
        Some((score.parse::<i64>().ok()?, id))
    });
    let mut last = place.clone();
    let page = queue.lease.behind(place).take_while(|(_, score)| *score <= cutoff);
    let page: Vec<(TaskId, i64)> = page
        .take(limit.clamp(1, MAX_BATCH) as usize)
        .map(|(id, score)| (id.clone(), score))
        .collect();
    for (id, score) in page {
        let behind = (score, id.clone());
        match look(queue, &id) {
            Ok(Some((message, length))) => {
                bytes += length;
                if bytes > MAX_BATCH_BYTES && !found.tasks.is_empty() {
                    break;
                }
                let task = queue.task(&id).ok();
                let unstarted = task.is_some_and(|task| may_be_unstarted(task, score));
                let lease = task.and_then(|task| CallToken::lease_in(task.take.as_deref()?));
                let taken = lease.and_then(|lease| ExpiredTask::taken_by(lease, &message));
                let (queue, message) = (queue.name.clone(), Arc::new(message));
                found.tasks.push(ExpiredTask {
                    queue,
                    message,
                    until: LeaseUntil(score),
                    unstarted,
                    taken,
                });
            }
            Ok(None) => drop(queue.lease.remove(&id)),
            Err(kind) => found.poisoned.push(queue.put_active_aside(&id, kind, now)),
        }
        last = Some(behind);
    }
    let mut left = queue.lease.behind(last.clone());
    found.more = left.next().is_some_and(|(_, score)| score <= cutoff);
    found.next = last.map_or_else(ExpiredPlace::default, |(score, id)| {
        ExpiredPlace::behind(score.to_string(), id.as_str().as_bytes().to_vec())
    });
    Ok(found)
}

/// The message of a leased task and its length; `None` if the task is in another state, so that its
/// lease was left behind.
fn look(queue: &Queue, id: &TaskId) -> Result<Option<(TaskMessage, usize)>, PoisonKind> {
    let task = queue.task(id)?;
    if task.msg.is_none() {
        return Err(PoisonKind::NoMessage);
    }
    if task.known_state()? != TaskState::Active {
        return Ok(None);
    }
    Ok(Some((task.message(&queue.name, id)?, task.message_len())))
}

/// Returns whether a task may be given back as one that was never started: its lease is still that of our take.
fn may_be_unstarted(task: &TaskHash, score: i64) -> bool {
    let taken_until = task.take.as_deref().and_then(CallToken::lease_in);
    let given_back = task.unstarted.as_deref().map_or(Some(0), number);
    taken_until == Some(LeaseUntil(score)) && given_back.is_some_and(|times| times < i64::from(MAX_UNSTARTED))
}

/// Ends the run of an expired task in its owner's stead, if the lease is still the one that was
/// seen.
pub(crate) fn recover(queue: &mut Queue, recovery: &Recovery, now: DateTime<Utc>) -> Result<(), SettleError> {
    let ExpiredTask { message, until, .. } = &recovery.task;
    if matches!(recovery.outcome, Outcome::Done { .. }) {
        return Err(BrokerError::Refused {
            source: "a task cannot be recovered as done".into(),
        }
        .into());
    }
    let touched: Vec<&str> = settle::containers(message, &recovery.outcome).collect();
    queue.check(&touched)?;
    let id = TaskId::from_storage(&message.id);
    let state = match queue.task(&id) {
        Ok(task) => task.known_state(),
        Err(PoisonKind::NotAHash) => return Err(SettleError::Poison(PoisonKind::NotAHash)),
        Err(_) => return Err(SettleError::NotOurs),
    };
    if queue.lease.score(&id) != Some(until.0) {
        return Err(SettleError::NotOurs);
    }
    match state {
        Ok(TaskState::Active) => {
            if settle::asked(queue, &id, message, &recovery.outcome) == Some(Then::Archive) {
                queue.check(&["archived"])?;
            }
            let run = recovery.task.lost_run();
            settle::finish(queue, &id, message, &recovery.outcome, Some(&run), now)?;
            if recovery.outcome == Outcome::Requeue
                && let Some(task) = queue.tasks.get_mut(&id).filter(|task| task.is(TaskState::Pending))
            {
                let times = task.unstarted.as_deref().and_then(number).unwrap_or(0) + 1;
                task.unstarted = Some(times.to_string().into());
            }
            Ok(())
        }
        Ok(_) => Err(SettleError::NotOurs),
        Err(kind) => Err(SettleError::Poison(kind)),
    }
}
