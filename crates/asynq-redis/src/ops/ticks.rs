//! Ticks of periodic tasks.

use asynq_core::{
    broker::{EnqueueRequest, Tick, Ticked},
    clock::unix_nanos,
    error::{BrokerError, EnqueueError},
    keys::{self, own},
    names::QueueName,
    periodic::{EntryKey, TickMark},
};
use chrono::{DateTime, Utc};
use futures::future::join;
use redis::Value;

use super::{
    by_queue, cut,
    enqueue::{publish, push, result_of},
};
use crate::{
    args::{Args, keys_of},
    broker::Core,
    reply::{Reply, again, protocol},
    scripts,
};

const OPERATION: &str = "enqueue_tick";
/// How many marks one command reads.
const MARKS: usize = 500;

pub(crate) async fn enqueue(core: &Core, request: EnqueueRequest, tick: &Tick) -> Result<Ticked, EnqueueError> {
    let queue = QueueName::from_storage(&request.message.queue);
    let now = core.now();
    let mut args = Args::with_capacity(13)
        .text(&keys::queue_prefix(&queue))
        .int(now.timestamp())
        .int(unix_nanos(now))
        .int(tick.at.timestamp())
        .int(tick.gap_secs())
        .int(tick.keep_millis());
    push(&mut args, &queue, &request, now)?;
    let mut keys = keys_of(&queue, &["pending", "scheduled", "groups"]);
    let mark = own::tick(&queue, &tick.entry);
    keys.push(mark.clone().into_bytes());
    let sent = core.link.eval(&scripts::ENQUEUE_TICK, keys, args.done());
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

pub(crate) async fn last(
    core: &Core,
    entries: &[(QueueName, EntryKey)],
) -> Vec<Result<Option<DateTime<Utc>>, BrokerError>> {
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

fn read(queue: &QueueName, entry: &EntryKey, text: &[u8]) -> Option<DateTime<Utc>> {
    let mark = TickMark::parse(text);
    if mark.is_none() {
        tracing::warn!(key = %own::tick(queue, entry), "the last tick of a periodic task cannot be read");
    }
    mark.map(|mark| mark.instant())
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
