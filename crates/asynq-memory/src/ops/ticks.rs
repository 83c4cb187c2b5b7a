//! Ticks of periodic tasks.

use asynq_core::{
    TaskState,
    broker::{EnqueueRequest, TICK_RECEIPT, Tick, TickStart, Ticked},
    error::{BrokerError, EnqueueError},
    info::TaskInfo,
    names::{QueueName, TaskId},
    periodic::{EntryKey, OnConflict, TickMark, TickOutcome},
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::enqueue;
use crate::model::{Data, Queue, TICK_PREFIX};

/// Enqueues the task of a tick and remembers it, unless it was decided before.
pub(crate) fn enqueue_tick(
    data: &mut Data,
    request: EnqueueRequest,
    tick: &Tick,
    now: DateTime<Utc>,
) -> Result<Ticked, EnqueueError> {
    let queue = data.publish(&request.message.queue);
    enqueue::check(queue, &request.placement)?;
    enqueue::check_lock(queue, &request)?;
    if tick.on_conflict == OnConflict::ReplaceFinished {
        queue.check(&["archived", "completed"])?;
    }
    let (at, token) = (tick.at.timestamp(), request.token);
    if let Some(last) = mark(queue, &tick.entry, now) {
        let (_, info) = enqueue::info(queue, &request, now);
        if last.at == at && last.token == token && last.outcome != TickOutcome::Started {
            return answer(last.outcome, info);
        }
        // A start after the tick was written by a wrong clock.
        let counts = last.outcome != TickOutcome::Started || last.at <= at;
        if counts && at < last.at.saturating_add(tick.gap_secs()) {
            return match decided(queue, &request, tick, now) {
                Some(outcome) => answer(outcome, info),
                None => Ok(Ticked::Taken { last: last.instant() }),
            };
        }
    }
    if !tick.decide {
        let (_, info) = enqueue::info(queue, &request, now);
        return match decided(queue, &request, tick, now) {
            Some(outcome) => answer(outcome, info),
            None => Ok(Ticked::Taken {
                last: mark(queue, &tick.entry, now).map_or(tick.at, |last| last.instant()),
            }),
        };
    }
    if tick.on_conflict == OnConflict::ReplaceFinished {
        make_room(queue, &request, now);
    }
    let created = enqueue::enqueue(queue, &request, now);
    let outcome = match &created {
        Ok(_) => TickOutcome::Enqueued,
        Err(EnqueueError::DuplicateTask) => TickOutcome::Duplicate,
        Err(EnqueueError::TaskIdConflict) => TickOutcome::IdConflict,
        Err(_) => return created.map(Ticked::Enqueued),
    };
    let text = TickMark { at, token, outcome }.to_string();
    let ends = TimeDelta::try_milliseconds(tick.keep_millis()).and_then(|keep| now.checked_add_signed(keep));
    queue.misfits.remove(&format!("{TICK_PREFIX}{}", tick.entry));
    let text = Bytes::from(text);
    queue.ticks.put(tick.entry.as_str().to_owned(), text.clone(), ends);
    queue.ticks.put(
        receipt(tick),
        text,
        now.checked_add_signed(TimeDelta::from_std(TICK_RECEIPT).unwrap_or(TimeDelta::MAX)),
    );
    created.map(Ticked::Enqueued)
}

fn receipt(tick: &Tick) -> String {
    format!("{}:{}", tick.entry, tick.by)
}

/// Returns what became of a request, if it decided the tick before: the task tells, or the receipt, which
/// outlives it.
fn decided(queue: &Queue, request: &EnqueueRequest, tick: &Tick, now: DateTime<Utc>) -> Option<TickOutcome> {
    let id = TaskId::from_storage(&request.message.id);
    if queue.tasks.get(&id).is_some_and(|task| task.enq == Some(request.token)) {
        return Some(TickOutcome::Enqueued);
    }
    let mark = TickMark::parse(queue.ticks.get(&receipt(tick), now)?)?;
    (mark.at == tick.at.timestamp() && mark.token == request.token).then_some(mark.outcome)
}

fn answer(outcome: TickOutcome, info: TaskInfo) -> Result<Ticked, EnqueueError> {
    match outcome {
        TickOutcome::Enqueued => Ok(Ticked::Enqueued(info)),
        TickOutcome::Duplicate => Err(EnqueueError::DuplicateTask),
        TickOutcome::IdConflict => Err(EnqueueError::TaskIdConflict),
        TickOutcome::Started => Err(BrokerError::Refused {
            source: "a tick cannot have ended as a start".into(),
        }
        .into()),
    }
}

/// Deletes the task that has the id if it is finished, and its lock. A lock of another task comes first.
fn make_room(queue: &mut Queue, request: &EnqueueRequest, now: DateTime<Utc>) {
    let id = TaskId::from_storage(&request.message.id);
    let lock = request.unique_ttl.map(|_| request.message.unique_key.as_str());
    let owner = lock.and_then(|lock| queue.locks.owner(lock, now));
    if owner.is_some_and(|owner| *owner != id) {
        return;
    }
    let Some(task) = queue.tasks.get(&id).filter(|task| task.enq != Some(request.token)) else {
        return;
    };
    let (state, unique_key) = (task.known_state(), task.unique_key.clone());
    let stood = match state {
        Ok(TaskState::Archived) => queue.archived.remove(&id),
        Ok(TaskState::Completed) => queue.completed.remove(&id),
        _ => false,
    };
    if stood {
        queue.tasks.remove(&id);
        for lock in unique_key.iter().map(String::as_str).chain(lock) {
            queue.free_lock(lock, &id, now);
        }
    }
}

/// The last tick of an entry, or where its period starts.
pub(crate) fn last_tick(data: &Data, queue: &QueueName, entry: &EntryKey, now: DateTime<Utc>) -> Option<TickMark> {
    mark(data.queues.get(queue)?, entry, now)
}

/// Remembers where the period of an entry starts, unless something is remembered.
pub(crate) fn start(data: &mut Data, start: &TickStart, now: DateTime<Utc>) -> Option<TickMark> {
    let queue = data.publish(start.queue.as_str());
    let (entry, suffix) = (start.entry.as_str(), format!("{TICK_PREFIX}{}", start.entry));
    if queue.ticks.get(entry, now).is_none() && !queue.misfits.contains_key(&suffix) {
        let ends = TimeDelta::try_milliseconds(start.keep_millis()).and_then(|keep| now.checked_add_signed(keep));
        queue.ticks.put(entry.to_owned(), start.mark().to_string().into(), ends);
    }
    mark(queue, &start.entry, now)
}

/// Returns what is remembered. What cannot be read counts as nothing.
fn mark(queue: &Queue, entry: &EntryKey, now: DateTime<Utc>) -> Option<TickMark> {
    let text = queue.ticks.get(entry.as_str(), now)?;
    let mark = TickMark::parse(text);
    if mark.is_none() {
        tracing::warn!(queue = %queue.name, %entry, "the last tick of a periodic task cannot be read");
    }
    mark
}
