//! Ticks of periodic tasks.

use asynq_core::{
    broker::{EnqueueRequest, TICK_RECEIPT, Tick, TickStart, Ticked},
    clock::unix_nanos,
    error::{BrokerError, EnqueueError},
    keys::{self, own},
    names::QueueName,
    periodic::{EntryKey, OnConflict, TickMark},
};
use chrono::{DateTime, Utc};
use futures::future::join;
use redis::Value;

use super::{
    batch::{by_queue, cut},
    enqueue::{publish, push, result_of},
};
use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::{Reply, again, protocol},
    scripts,
};

const OPERATION: &str = "enqueue_tick";
/// Number of marks that one command reads.
const MARKS: usize = 500;

pub(crate) async fn enqueue(core: &Core, request: EnqueueRequest, tick: &Tick) -> Result<Ticked, EnqueueError> {
    let queue = QueueName::from_storage(&request.message.queue);
    let now = core.now();
    let mut args = Args::with_capacity(16)
        .text(&keys::queue_prefix(&queue))
        .int(now.timestamp())
        .int(unix_nanos(now))
        .int(tick.at.timestamp())
        .int(tick.gap_secs())
        .int(tick.keep_millis())
        .int(i64::try_from(TICK_RECEIPT.as_millis()).unwrap_or(i64::MAX))
        .int(i64::from(tick.decide))
        .int(i64::from(tick.on_conflict == OnConflict::ReplaceFinished));
    push(&mut args, &queue, &request, now)?;
    let mut keys = keys_of(&queue, &["pending", "scheduled", "groups"]);
    let mark = own::tick(&queue, &tick.entry);
    keys.push(&mark);
    keys.push(own::tick_receipt(&queue, &tick.entry, &tick.by));
    keys.append(&keys_of(&queue, &["archived", "completed"]));
    let sent = core.link.eval_apart(&scripts::ENQUEUE_TICK, keys, args);
    let ((), answer) = join(publish(core, std::iter::once(&queue)), sent).await;
    let mut reply = Reply::of_script(OPERATION, answer?)?;
    let (code, last, damage) = (reply.bytes()?, reply.maybe_int()?, reply.text()?);
    if !damage.is_empty() {
        tracing::warn!(key = %mark, %damage, "the last tick of a periodic task could not be read and was replaced");
    }
    match (code.as_slice(), last) {
        (b"t", Some(last)) => Ok(Ticked::Taken { last: instant(last) }),
        ([code], None) => result_of(*code, &queue, &request, now).map(Ticked::Enqueued),
        _ => Err(protocol(OPERATION, "an unknown code".to_owned()).into()),
    }
}

pub(crate) async fn last(core: &Core, entries: &[(QueueName, EntryKey)]) -> Vec<Result<Option<TickMark>, BrokerError>> {
    let parts = by_queue(entries.iter().map(|(queue, _)| queue));
    let calls: Vec<Vec<usize>> = parts
        .into_iter()
        .flat_map(|part| cut(part.items, MARKS, usize::MAX, |_| 0))
        .collect();
    let commands: Vec<_> = calls
        .iter()
        .map(|call| {
            let mut cmd = redis::cmd("MGET");
            for index in call {
                let (queue, entry) = &entries[*index];
                cmd.arg(own::tick(queue, entry));
            }
            cmd
        })
        .collect();
    let mut results: Vec<_> = entries.iter().map(|_| Ok(None)).collect();
    for (call, answer) in calls.into_iter().zip(core.link.pipeline(&commands).await) {
        match answer.and_then(|answer| marks(answer, call.len())) {
            Ok(marks) => {
                for (index, mark) in call.into_iter().zip(marks) {
                    let (queue, entry) = &entries[index];
                    results[index] = Ok(mark.and_then(|text| read(queue, entry, &text)));
                }
            }
            Err(error) => call.into_iter().for_each(|index| results[index] = Err(again(&error))),
        }
    }
    results
}

/// A start that cannot be written leaves the entry without one.
pub(crate) async fn start(core: &Core, starts: &[TickStart]) -> Vec<Result<Option<TickMark>, BrokerError>> {
    let mut commands = Vec::with_capacity(2 * starts.len());
    for start in starts {
        let key = own::tick(&start.queue, &start.entry);
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(start.mark().to_string()).arg("NX");
        set.arg("PX").arg(start.keep_millis());
        let mut get = redis::cmd("GET");
        get.arg(&key);
        commands.extend([set, get]);
    }
    let queues = starts.iter().map(|start| &start.queue);
    let ((), answers) = join(publish(core, queues), core.link.pipeline(&commands)).await;
    let of_gets = answers.into_iter().skip(1).step_by(2);
    let mut marks = starts.iter().zip(of_gets).map(|(start, answer)| match answer {
        Ok(Value::BulkString(text)) => Ok(read(&start.queue, &start.entry, &text)),
        // Of another type.
        Ok(_) | Err(BrokerError::WrongType { .. } | BrokerError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    });
    let missing = || Err(protocol("start_ticks", "an entry has no answer".to_owned()));
    starts.iter().map(|_| marks.next().unwrap_or_else(missing)).collect()
}

fn read(queue: &QueueName, entry: &EntryKey, text: &[u8]) -> Option<TickMark> {
    let mark = TickMark::parse(text);
    if mark.is_none() {
        tracing::warn!(key = %own::tick(queue, entry), "the last tick of a periodic task cannot be read");
    }
    mark
}

/// The values of an MGET: a key that holds another type reads as absent.
fn marks(answer: Value, n: usize) -> Result<Vec<Option<Vec<u8>>>, BrokerError> {
    let Value::Array(values) = answer else {
        return Err(protocol("MGET", "an array was expected".to_owned()));
    };
    if values.len() != n {
        return Err(protocol("MGET", format!("{} values for {n} keys", values.len())));
    }
    let text = |value| match value {
        Value::BulkString(text) => Some(text),
        _ => None,
    };
    Ok(values.into_iter().map(text).collect())
}

fn instant(secs: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(secs, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
