//! Outcomes and takes, one script call for each queue, all in one write.

use std::{collections::HashSet, sync::Arc};

use asynq_core::{
    broker::{
        CallRecord, CallToken, Exchanged, LeaseRef, LeasedTask, MAX_BATCH, MAX_BATCH_BYTES, Poison, Settlement, Want,
    },
    clock::from_exact_millis,
    error::{BrokerError, PoisonKind, SettleError},
    message,
    names::{QueueName, TaskId},
};
use chrono::{DateTime, Utc};
use futures::{FutureExt as _, future::join_all};
use redis::Value;

use super::{
    batch::{self, cut, in_order},
    quarantine::{self, Fence},
    settle::{self, Answer},
};
use crate::{
    args::{Args, bound, keys_of},
    broker::core::Core,
    clock_sync,
    reply::{Reply, again, check_codes, protocol},
    scripts,
};

const OPERATION: &str = "exchange";
/// Largest difference, in seconds, between our clock and the server's at which a call still takes tasks. Its lease,
/// of 30 s, is worth extending then.
const MOST_ASKEW: i64 = 10;

/// The part of an exchange that concerns one queue.
struct Part {
    queue: QueueName,
    /// Places in the list of settlements.
    items: Vec<usize>,
    want: u32,
}

/// The answer to a part.
#[derive(Default)]
struct Outcomes {
    settled: Vec<(usize, Result<(), SettleError>)>,
    taken: Taken,
    failed: Vec<BrokerError>,
}

/// The answer to a take.
#[derive(Default)]
struct Taken {
    leased: Vec<LeasedTask>,
    poisoned: Vec<Poison>,
    exhausted: bool,
}

pub(crate) async fn exchange(core: &Core, call: &CallRecord, settle: &[Settlement], want: &[Want]) -> Exchanged {
    let parts = split(settle, want);
    let done = join_all(parts.iter().map(|part| exchange_queue(core, call, part, settle))).await;

    let mut answer = Exchanged::default();
    let mut settled = Vec::with_capacity(settle.len());
    for (part, outcomes) in parts.into_iter().zip(done) {
        settled.extend(outcomes.settled);
        answer.leased.extend(outcomes.taken.leased);
        answer.poisoned.extend(outcomes.taken.poisoned);
        if outcomes.taken.exhausted {
            answer.exhausted.push(part.queue.clone());
        }
        answer
            .failed
            .extend(outcomes.failed.into_iter().map(|error| (part.queue.clone(), error)));
    }
    answer.settled = in_order(OPERATION, settle.len(), settled);
    answer
}

/// Splits the work by queue, in the order of the wants, then of the outcomes. Several wants for one
/// queue add up.
fn split(settle: &[Settlement], want: &[Want]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for Want { queue, max } in want {
        match parts.iter_mut().find(|part| part.queue == *queue) {
            Some(part) => part.want = part.want.saturating_add(*max),
            None => parts.push(Part {
                queue: queue.clone(),
                items: Vec::new(),
                want: *max,
            }),
        }
    }
    for batch::Part { queue, items } in batch::by_queue(settle.iter().map(|settlement| &settlement.lease.queue)) {
        match parts.iter_mut().find(|part| part.queue == queue) {
            Some(part) => part.items = items,
            None => parts.push(Part { queue, items, want: 0 }),
        }
    }
    parts
}

async fn exchange_queue(core: &Core, call: &CallRecord, part: &Part, settle: &[Settlement]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let mut items = part.items.clone();
    let mut want = part.want.min(MAX_BATCH);
    while !items.is_empty() || want > 0 {
        let size = |index: &usize| {
            let Settlement {
                message, outcome, run, ..
            } = &settle[*index];
            settle::size_of(message, outcome, run.is_some())
        };
        let mut calls = cut(std::mem::take(&mut items), MAX_BATCH as usize, MAX_BATCH_BYTES, size);
        if calls.is_empty() {
            calls.push(Vec::new());
        }
        // All are written at once; the last one takes.
        let last = calls.len() - 1;
        let sent = calls.into_iter().enumerate().map(|(nth, items)| {
            let want = if nth == last { want } else { 0 };
            let (keys, args, asked) = render(core, call, &part.queue, items, settle, want);
            let reply = core.link.eval_on(call.connection, &scripts::EXCHANGE, keys, args);
            reply.map(|reply| (reply, asked))
        });
        let clock = &core.link.env().clock;
        let asked_at = clock.steady();
        let replies = join_all(sent).await;
        let answered_at = clock.steady();
        let mut took = true;
        for (nth, (reply, asked)) in replies.into_iter().enumerate() {
            match reply.and_then(|value| read(value, &part.queue, asked.len())) {
                Ok(read) => {
                    settle::report_counters(&part.queue, &read.note);
                    let mut later = false;
                    for (index, answer) in asked.into_iter().zip(read.answers) {
                        match answer {
                            Answer::Settled(result) => outcomes.settled.push((index, result)),
                            Answer::Later => {
                                later = true;
                                items.push(index);
                            }
                        }
                    }
                    if nth == last {
                        took = !later;
                        accept(core, call, &part.queue, read.taken, &mut outcomes.taken).await;
                        outcomes.taken.poisoned.extend(read.aside);
                        outcomes.taken.exhausted |= read.exhausted;
                        if let Some(time) = read.time {
                            clock_sync::hear(clock, time, asked_at, answered_at);
                        }
                    }
                }
                Err(error) => {
                    let failures = asked
                        .into_iter()
                        .map(|index| (index, Err(SettleError::Broker(again(&error)))));
                    outcomes.settled.extend(failures);
                    outcomes.failed.push(error);
                }
            }
        }
        if took {
            want = 0;
        }
    }
    outcomes
}

/// The settlements of one call that share a fence.
struct Fenced<'s> {
    token: &'s CallToken,
    until: i64,
    /// Places in the list of settlements.
    plain: Vec<usize>,
}

/// The keys and arguments of one call, and the places of the settlements in the order of its answers. `now` is that
/// of the moment it is written.
fn render(
    core: &Core,
    call: &CallRecord,
    queue: &QueueName,
    items: Vec<usize>,
    settle: &[Settlement],
    want: u32,
) -> (Args, Args, Vec<usize>) {
    let now = core.now();
    let is_plain = |index: &usize| settle::is_plain(queue, &settle[*index].message, &settle[*index].outcome);
    // Of two outcomes for one task the first counts, so then all keep their order.
    let apart = items.len() < 2 || !has_twice(items.iter().map(|index| &settle[*index].lease.id));
    let mut fences: Vec<Fenced<'_>> = Vec::new();
    let mut others = Args::default();
    let mut order = Vec::with_capacity(items.len());
    let count = items.len();
    for index in items {
        let Settlement {
            lease,
            message,
            outcome,
            run,
        } = &settle[index];
        let (token, until) = (&lease.token, lease.until.0);
        let known = fences
            .iter()
            .rposition(|fence| fence.until == until && fence.token == token);
        let number = known.unwrap_or_else(|| {
            let plain = Vec::with_capacity(count);
            fences.push(Fenced { token, until, plain });
            fences.len() - 1
        });
        if apart && is_plain(&index) {
            fences[number].plain.push(index);
        } else {
            order.push(index);
            others.push(lease.id.as_str());
            others.push_count(number + 1);
            settle::push(&mut others, queue, message, outcome, run.as_deref(), now);
        }
    }
    let mut args = settle::head(queue, now, 6 + 3 * fences.len() + count + 5 + others.len())
        .int(i64::from(want))
        .int(bound(MAX_BATCH_BYTES))
        .text(call.token.as_str())
        .int(call.lease_until.0);
    if core.link.tells_one_time() {
        args.push_int(MOST_ASKEW);
    } else {
        args.push("");
    }
    args.push_count(fences.len());
    let mut answers = Vec::with_capacity(count);
    for fence in fences {
        args.push(fence.token.as_str());
        args.push_int(fence.until);
        args.push_count(fence.plain.len());
        for index in &fence.plain {
            args.push(settle[*index].lease.id.as_str());
        }
        answers.extend(fence.plain);
    }
    if !order.is_empty() {
        settle::push_more(&mut args, now, order.len());
        args.append(&others);
        answers.extend(order);
    }
    (keys_of(queue, &["pending"]), args, answers)
}

fn has_twice<'i>(mut ids: impl ExactSizeIterator<Item = &'i TaskId>) -> bool {
    let mut seen = HashSet::with_capacity(ids.len());
    !ids.all(|id| seen.insert(id))
}

/// A task as it was taken.
#[derive(Default)]
struct Found {
    id: Vec<u8>,
    message: Vec<u8>,
    /// Nanoseconds since when it was pending; `None` if its hash does not say.
    since: Option<i64>,
    /// Its deadline in ms where that is no whole second.
    deadline: Option<i64>,
}

/// The answer to one call.
struct Answered {
    answers: Vec<Answer>,
    taken: Vec<Found>,
    aside: Vec<Poison>,
    exhausted: bool,
    note: String,
    /// The server's, where nothing was taken since ours differs.
    time: Option<DateTime<Utc>>,
}

fn read(value: Value, queue: &QueueName, items: usize) -> Result<Answered, BrokerError> {
    let mut reply = Reply::of_script(OPERATION, value)?;
    let codes = check_codes(OPERATION, reply.bytes()?, items)?;
    let answers: Option<Vec<_>> = codes.iter().map(|code| Answer::read(*code)).collect();
    let answers = answers.ok_or_else(|| protocol(OPERATION, "an unknown code".to_owned()))?;
    let (exhausted, note, count) = (reply.int()? == 1, reply.text()?, reply.int()?);
    let count = usize::try_from(count).unwrap_or(0).min(reply.len());
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        taken.push(Found {
            id: reply.bytes()?,
            ..Found::default()
        });
    }
    for task in &mut taken {
        task.message = reply.bytes()?;
    }
    if count > 0 {
        tell_since(&mut taken, &reply.text()?);
    }
    let (mut aside, mut time) = (Vec::new(), None);
    if !reply.is_empty() {
        let damaged = reply.list()?.damaged()?.into_iter();
        aside.extend(damaged.map(|(id, kind)| Poison {
            queue: queue.clone(),
            id,
            kind,
        }));
        time = reply.time()?;
        let mut deadlines = reply.list()?;
        while !deadlines.is_empty() {
            let number = usize::try_from(deadlines.int()?).unwrap_or(0);
            let millis = deadlines.millis()?;
            if let Some(task) = number.checked_sub(1).and_then(|index| taken.get_mut(index)) {
                task.deadline = millis;
            }
        }
    }
    Ok(Answered {
        answers,
        taken,
        aside,
        exhausted,
        note,
        time,
    })
}

/// The number of tasks at the front of a take that come with their `pending_since`, and the distance of those behind them
/// that do: a look at all would cost Redis more than it is worth.
const TOLD: (usize, usize) = (4, 8);

/// Reads since when tasks were pending. Those between two that tell it lie between them too, since tasks are taken in the
/// order in which they became pending.
fn tell_since(taken: &mut [Found], text: &str) {
    let mut told = text.split(' ').map(|word| word.parse().ok());
    let mut last: Option<(usize, Option<i64>)> = None;
    for place in 0..taken.len() {
        if place >= TOLD.0 && (place + 1) % TOLD.1 != 0 {
            taken[place].since = last.and_then(|(_, since)| since);
            continue;
        }
        let since: Option<i64> = told.next().flatten();
        taken[place].since = since;
        if let (Some((before, Some(first))), Some(since)) = (last, since) {
            let (gap, steps) = (since.saturating_sub(first), (place - before) as i64);
            for (step, between) in (1..).zip(&mut taken[before + 1..place]) {
                between.since = Some(first.saturating_add(gap / steps * step));
            }
        }
        last = Some((place, since));
    }
}

/// Decodes what was taken. What cannot be decoded is put aside; it is ours, so nobody else does.
async fn accept(core: &Core, call: &CallRecord, queue: &QueueName, tasks: Vec<Found>, taken: &mut Taken) {
    for Found {
        id: raw_id,
        message,
        since,
        deadline,
    } in tasks
    {
        match decode(queue, &raw_id, message) {
            Ok((id, message)) => taken.leased.push(LeasedTask {
                deadline: deadline.and_then(|millis| from_exact_millis(message.deadline, millis)),
                pending_since: since.map(DateTime::from_timestamp_nanos),
                message: Arc::new(message),
                lease: LeaseRef {
                    queue: queue.clone(),
                    id,
                    token: call.token.clone(),
                    until: call.lease_until,
                },
            }),
            Err((id, kind)) => {
                quarantine::put_aside(core, queue, &raw_id, kind, Fence::Take(&call.token)).await;
                taken.poisoned.push(Poison {
                    queue: queue.clone(),
                    id,
                    kind,
                });
            }
        }
    }
}

/// The message of a task that was found under an id.
pub(crate) fn decode(
    queue: &QueueName,
    raw_id: &[u8],
    msg: Vec<u8>,
) -> Result<(TaskId, asynq_core::TaskMessage), (TaskId, PoisonKind)> {
    let id = TaskId::from_storage(&String::from_utf8_lossy(raw_id));
    match message::decode_for(msg.into(), queue, &id) {
        // An id that is not UTF-8 cannot be in a message; its replacement characters can.
        Ok(message) if id.as_str().as_bytes() == raw_id => Ok((id, message)),
        Ok(_) => Err((id, PoisonKind::Mismatch)),
        Err(kind) => Err((id, kind)),
    }
}
