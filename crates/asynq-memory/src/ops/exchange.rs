//! Taking tasks, and the exchange of outcomes for tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use asynq_core::{
    TaskState, Then,
    broker::{CallRecord, Exchanged, LeaseRef, LeasedTask, MAX_BATCH, MAX_BATCH_BYTES, Poison, Settlement, Want},
    error::{BrokerError, PoisonKind, SettleError},
    names::{QueueName, TaskId},
};
use chrono::{DateTime, Utc};

use super::settle;
use crate::model::{Data, Queue};

/// Writes outcomes, then takes tasks. A queue with a damaged container refuses its whole part
/// before anything is written; other queues go on.
pub(crate) fn exchange(
    data: &mut Data,
    call: &CallRecord,
    settlements: &[Settlement],
    wants: &[Want],
    now: DateTime<Utc>,
) -> Exchanged {
    let mut answer = Exchanged::default();
    let concerned: BTreeSet<&QueueName> = queues(settlements, wants).collect();
    let damaged: BTreeMap<&QueueName, String> = concerned
        .into_iter()
        .filter_map(|name| Some((name, damage(data.queue(name), settlements, wants)?)))
        .collect();
    answer.failed = damaged
        .iter()
        .map(|(name, key)| ((*name).clone(), wrong_type(key)))
        .collect();

    for settlement in settlements {
        let name = &settlement.lease.queue;
        answer.settled.push(match damaged.get(name) {
            None => settle::settle(data.queue(name), settlement, now),
            Some(key) => Err(wrong_type(key).into()),
        });
    }
    for want in added_up(wants).iter().filter(|want| !damaged.contains_key(&want.queue)) {
        let taken = take(data.queue(&want.queue), call, want.max, now);
        answer.leased.extend(taken.leased);
        answer.poisoned.extend(taken.poisoned);
        if taken.exhausted {
            answer.exhausted.push(want.queue.clone());
        }
    }
    answer
}

/// The answer of a connection that is closed.
pub(crate) fn refused(settlements: &[Settlement], wants: &[Want]) -> Exchanged {
    let settled = settlements
        .iter()
        .map(|_| Err(SettleError::Broker(BrokerError::Closed)))
        .collect();
    let concerned: BTreeSet<&QueueName> = queues(settlements, wants).collect();
    let failed = concerned
        .into_iter()
        .map(|name| (name.clone(), BrokerError::Closed))
        .collect();
    Exchanged {
        settled,
        failed,
        ..Exchanged::default()
    }
}

/// Several wants for one queue add up.
fn added_up(wants: &[Want]) -> Vec<Want> {
    let mut all: Vec<Want> = Vec::with_capacity(wants.len());
    for want in wants {
        match all.iter_mut().find(|known| known.queue == want.queue) {
            Some(known) => known.max = known.max.saturating_add(want.max),
            None => all.push(want.clone()),
        }
    }
    all
}

fn queues<'a>(settlements: &'a [Settlement], wants: &'a [Want]) -> impl Iterator<Item = &'a QueueName> {
    settlements
        .iter()
        .map(|settlement| &settlement.lease.queue)
        .chain(wants.iter().map(|want| &want.queue))
}

/// The first key of the wrong type that this call would touch in a queue.
fn damage(queue: &Queue, settlements: &[Settlement], wants: &[Want]) -> Option<String> {
    if queue.misfits.is_empty() {
        return None;
    }
    let outcomes = settlements
        .iter()
        .filter(|settlement| settlement.lease.queue == queue.name);
    let settled = outcomes
        .clone()
        .flat_map(|settlement| settle::containers(&settlement.message, &settlement.outcome));
    let asked = outcomes.filter_map(|settlement| {
        settle::fence(queue, &settlement.lease).ok()?;
        let then = settle::asked(queue, &settlement.lease.id, &settlement.message, &settlement.outcome)?;
        (then == Then::Archive).then_some("archived")
    });
    let takes = wants.iter().any(|want| want.queue == queue.name && want.max > 0);
    let taken = if takes {
        &["pending", "active", "lease"][..]
    } else {
        &[]
    };
    taken
        .iter()
        .copied()
        .chain(settled)
        .chain(asked)
        .find(|suffix| queue.misfits.contains_key(*suffix))
        .map(|suffix| queue.key(suffix))
}

fn wrong_type(key: &str) -> BrokerError {
    BrokerError::WrongType { key: key.to_owned() }
}

/// The tasks taken from one queue.
#[derive(Default)]
struct Taken {
    leased: Vec<LeasedTask>,
    poisoned: Vec<Poison>,
    exhausted: bool,
}

/// Takes up to `max` tasks, next to run first, within the bounds of a call. What cannot be used is
/// put aside (differences.md#ids-without-a-hash, section 8.9).
fn take(queue: &mut Queue, call: &CallRecord, max: u32, now: DateTime<Utc>) -> Taken {
    let mut taken = Taken::default();
    if queue.is_paused() {
        taken.exhausted = max > 0;
        return taken;
    }
    let token: Arc<str> = call.token.as_str().into();
    let (mut count, mut bytes) = (0, 0);
    while count < max.min(MAX_BATCH) {
        let Some(id) = queue.pending.back().cloned() else {
            taken.exhausted = true;
            break;
        };
        let length = match queue.task(&id) {
            Ok(task) if task.msg.is_some() => task.message_len(),
            unusable => {
                let kind = unusable.err().unwrap_or(PoisonKind::NoMessage);
                queue.pending.pop_back();
                taken.poisoned.push(queue.put_aside(&id, kind, now));
                continue;
            }
        };
        if count > 0 && bytes + length > MAX_BATCH_BYTES {
            break;
        }
        queue.pending.pop_back();
        let since = queue.task(&id).ok().and_then(|task| task.pending_since);
        lease(queue, &id, &token, call.lease_until.0);
        (count, bytes) = (count + 1, bytes + length);
        let read = queue.task(&id).and_then(|task| {
            let message = task.message(&queue.name, &id)?;
            Ok((task.exact_deadline(&message), message))
        });
        match read {
            Ok((deadline, message)) => taken.leased.push(LeasedTask {
                deadline,
                pending_since: since.map(DateTime::from_timestamp_nanos),
                message: Arc::new(message),
                lease: LeaseRef {
                    queue: queue.name.clone(),
                    id,
                    token: call.token.clone(),
                    until: call.lease_until,
                },
            }),
            Err(kind) => {
                taken.poisoned.push(queue.put_active_aside(&id, kind, now));
            }
        }
    }
    taken
}

/// Makes a task active under a token.
fn lease(queue: &mut Queue, id: &TaskId, token: &Arc<str>, until: i64) {
    let Some(task) = queue.tasks.get_mut(id) else { return };
    task.enter(TaskState::Active);
    task.take = Some(Arc::clone(token));
    task.progress = None;
    queue.active.push_front(id.clone());
    queue.lease.insert(id.clone(), until);
}
