//! Ticks of periodic tasks.

use asynq_core::{
    broker::{EnqueueRequest, Tick, Ticked},
    error::EnqueueError,
    names::{QueueName, TaskId},
    periodic::{EntryKey, TickMark, TickOutcome},
};
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
    let (at, token) = (tick.at.timestamp(), request.token);
    if let Some(last) = mark(queue, &tick.entry, now) {
        let (_, info) = enqueue::info(queue, &request, now);
        if last.at == at && last.token == token {
            return match last.outcome {
                TickOutcome::Enqueued => Ok(Ticked::Enqueued(info)),
                TickOutcome::Duplicate => Err(EnqueueError::DuplicateTask),
                TickOutcome::IdConflict => Err(EnqueueError::TaskIdConflict),
            };
        }
        if at < last.at.saturating_add(tick.gap_secs()) {
            // A later tick may have been decided since our first attempt; then the task tells.
            let id = TaskId::from_storage(&request.message.id);
            if queue.tasks.get(&id).is_some_and(|task| task.enq == Some(token)) {
                return Ok(Ticked::Enqueued(info));
            }
            return Ok(Ticked::Taken { last: last.instant() });
        }
    }
    let answer = enqueue::enqueue(queue, request, now);
    let outcome = match &answer {
        Ok(_) => TickOutcome::Enqueued,
        Err(EnqueueError::DuplicateTask) => TickOutcome::Duplicate,
        Err(EnqueueError::TaskIdConflict) => TickOutcome::IdConflict,
        Err(_) => return answer.map(Ticked::Enqueued),
    };
    let text = TickMark { at, token, outcome }.to_string();
    let ends = TimeDelta::try_milliseconds(tick.keep_millis()).and_then(|keep| now.checked_add_signed(keep));
    queue.misfits.remove(&format!("{TICK_PREFIX}{}", tick.entry));
    queue.ticks.put(tick.entry.as_str().to_owned(), text.into(), ends);
    answer.map(Ticked::Enqueued)
}

/// The last tick of an entry.
pub(crate) fn last_tick(data: &Data, queue: &QueueName, entry: &EntryKey, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mark = mark(data.queues.get(queue)?, entry, now)?;
    Some(mark.instant())
}

/// What is remembered. What cannot be read counts as nothing.
fn mark(queue: &Queue, entry: &EntryKey, now: DateTime<Utc>) -> Option<TickMark> {
    let text = queue.ticks.get(entry.as_str(), now)?;
    let mark = TickMark::parse(text);
    if mark.is_none() {
        tracing::warn!(queue = %queue.name, %entry, "the last tick of a periodic task cannot be read");
    }
    mark
}
