//! New tasks.

use std::{collections::HashSet, sync::Arc, time::Duration};

use asynq_core::{
    TaskState,
    broker::{EnqueueRequest, MAX_BATCH, MAX_BATCH_BYTES, Placement},
    clock::{exact_millis, unix_nanos},
    error::{BrokerError, EnqueueError},
    excerpt::Excerpt,
    info::TaskInfo,
    keys, message,
    names::{QueueName, TaskId},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::{join, join_all};

use super::batch::{by_queue, cut, in_order};
use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::{again, codes, protocol},
    scripts,
};

const OPERATION: &str = "enqueue";
/// The longest life of a lock: a hundred years. Redis refuses a script that sets one without end.
const LONGEST_LOCK: i64 = 100 * 366 * 24 * 3600;

pub(crate) async fn enqueue(core: &Core, batch: &[Arc<EnqueueRequest>]) -> Vec<Result<TaskInfo, EnqueueError>> {
    let queues: Vec<QueueName> = batch
        .iter()
        .map(|request| QueueName::from_storage(&request.message.queue))
        .collect();
    let parts = by_queue(queues.iter());
    if parts.is_empty() {
        return Vec::new();
    }
    let names = parts.iter().map(|part| &part.queue);
    let calls = parts.iter().flat_map(|part| {
        let calls = cut(part.items.clone(), MAX_BATCH as usize, MAX_BATCH_BYTES, |index| {
            size_of(&batch[*index])
        });
        calls.into_iter().map(|items| (&part.queue, items))
    });
    let sent = calls.map(|(queue, items)| create(core, queue, items, batch));
    // The names are written first, so that no task stands in a queue that nobody knows.
    let ((), answers) = join(publish(core, names), join_all(sent)).await;

    in_order(OPERATION, batch.len(), answers.into_iter().flatten())
}

/// Puts the names into the index of queues, with each call (differences.md#the-index-of-queues). A failure is
/// no reason to fail an enqueue: the next one, into whichever queue, publishes the names again.
pub(crate) async fn publish<'q>(core: &Core, queues: impl Iterator<Item = &'q QueueName>) {
    let names: Vec<_> = queues.collect();
    let missing = core.unpublished.names();
    let mut cmd = redis::cmd("SADD");
    cmd.arg(keys::QUEUES);
    for queue in names.iter().copied().chain(&missing) {
        cmd.arg(queue.as_str());
    }
    match core.link.command(&cmd).await {
        Ok(_) => core.unpublished.forget(&missing),
        Err(error) => core.unpublished.keep(names.into_iter(), &error),
    }
}

/// One call of the script.
async fn create(
    core: &Core,
    queue: &QueueName,
    items: Vec<usize>,
    batch: &[Arc<EnqueueRequest>],
) -> Vec<(usize, Result<TaskInfo, EnqueueError>)> {
    let now = core.now();
    let mut refused = Vec::new();
    let mut sent = Vec::with_capacity(items.len());
    let mut rendered = Args::with_capacity(5 * items.len());
    for index in items {
        match push(&mut rendered, queue, &batch[index], now) {
            Ok(()) => sent.push(index),
            Err(error) => refused.push((index, Err(error.into()))),
        }
    }
    if sent.is_empty() {
        return refused;
    }
    let mut args = Args::with_capacity(4 + 5 * sent.len())
        .text(&keys::queue_prefix(queue))
        .int(now.timestamp())
        .int(unix_nanos(now));
    args.push_count(sent.len());
    args.append(rendered);
    let places: &[_] = if are_plain(sent.iter().map(|index| &*batch[*index])) {
        &["pending"]
    } else {
        &["pending", "scheduled", "groups"]
    };
    let keys = keys_of(queue, places);
    let answer = core.link.eval_apart(&scripts::ENQUEUE, keys, args.done()).await;
    let mut results = refused;
    match answer.and_then(|value| codes(OPERATION, value, sent.len())) {
        Ok(codes) => {
            let made = sent.into_iter().zip(codes);
            results.extend(made.map(|(index, code)| (index, result_of(code, queue, &batch[index], now))));
        }
        Err(error) => {
            results.extend(
                sent.into_iter()
                    .map(|index| (index, Err(EnqueueError::Broker(again(&error))))),
            );
        }
    }
    results
}

/// Returns whether all of these are what `include/enqueue_plain.lua` takes: pending, with ids that differ, and with
/// neither a lock nor a deadline in ms.
fn are_plain<'r>(mut requests: impl ExactSizeIterator<Item = &'r EnqueueRequest>) -> bool {
    let several = requests.len() > 1;
    let mut seen = HashSet::with_capacity(if several { requests.len() } else { 0 });
    requests.all(|request| {
        matches!(request.placement, Placement::Pending)
            && request.unique_ttl.is_none()
            && request.deadline.and_then(exact_millis).is_none()
            && (!several || seen.insert(request.message.id.as_str()))
    })
}

/// Adds an item as `include/create.lua` takes it.
pub(crate) fn push(
    args: &mut Args,
    queue: &QueueName,
    request: &EnqueueRequest,
    now: DateTime<Utc>,
) -> Result<(), BrokerError> {
    let EnqueueRequest {
        message,
        placement,
        unique_ttl,
        deadline,
        token,
    } = request;
    let lock = unique_ttl.map(|ttl| (message.unique_key.as_str(), ttl_secs(placement, ttl, now)));
    if let Some((key, _)) = lock
        && !key.starts_with(&keys::unique_prefix(queue))
    {
        // Any other key could be somebody's data, and in another cluster slot.
        let reason = format!("{:?} is not a unique lock of queue {queue:?}", Excerpt(key));
        return Err(BrokerError::Refused { source: reason.into() });
    }
    args.push(&message.id);
    let kind = match (placement, lock.is_some()) {
        (Placement::Pending, false) => 'p',
        (Placement::Pending, true) => 'P',
        (Placement::Scheduled(_), false) => 's',
        (Placement::Scheduled(_), true) => 'S',
        (Placement::Group(_), false) => 'g',
        (Placement::Group(_), true) => 'G',
    };
    args.push_owned(match deadline.and_then(exact_millis) {
        Some(millis) => format!("{kind}{token:016x} {millis}").into_bytes(),
        None => format!("{kind}{token:016x}").into_bytes(),
    });
    args.push_owned(message::encode(message).into());
    match placement {
        Placement::Pending => {}
        Placement::Scheduled(at) => args.push_time(*at),
        Placement::Group(group) => args.push(group.as_str()),
    }
    if let Some((key, ttl)) = lock {
        args.push(key);
        args.push_int(ttl);
    }
    Ok(())
}

/// The lock lives until `ttl` after the task is due, in whole seconds, at least one
/// (differences.md#lifetime-of-locks).
fn ttl_secs(placement: &Placement, ttl: Duration, now: DateTime<Utc>) -> i64 {
    let mut lives = TimeDelta::from_std(ttl).unwrap_or(TimeDelta::MAX);
    if let Placement::Scheduled(at) = placement {
        lives = lives.checked_add(&(*at - now)).unwrap_or(TimeDelta::MAX);
    }
    let whole = lives.num_seconds().saturating_add(i64::from(lives.subsec_nanos() > 0));
    whole.clamp(1, LONGEST_LOCK)
}

/// Returns what a code says of one item.
pub(crate) fn result_of(
    code: u8,
    queue: &QueueName,
    request: &EnqueueRequest,
    now: DateTime<Utc>,
) -> Result<TaskInfo, EnqueueError> {
    match code {
        b'1' | b'2' => {}
        b'd' => return Err(EnqueueError::DuplicateTask),
        b'0' => return Err(EnqueueError::TaskIdConflict),
        b'w' | b'i' => {
            let key = match &request.placement {
                Placement::Group(group) if code == b'w' => keys::group(queue, group),
                Placement::Group(_) => keys::of_queue(queue, "groups"),
                Placement::Scheduled(_) => keys::of_queue(queue, "scheduled"),
                Placement::Pending => keys::of_queue(queue, "pending"),
            };
            return Err(BrokerError::WrongType { key }.into());
        }
        _ => return Err(protocol(OPERATION, format!("an unknown code {code}")).into()),
    }
    let (state, due) = match &request.placement {
        Placement::Pending => (TaskState::Pending, Some(now)),
        Placement::Scheduled(at) => (TaskState::Scheduled, Some(*at)),
        Placement::Group(_) => (TaskState::Aggregating, None),
    };
    let id = TaskId::from_storage(&request.message.id);
    Ok(TaskInfo::from_message(queue, &id, &request.message, state, due, None))
}

/// About how many bytes a request takes on its way. A lock and an id are sent beside the message, too.
fn size_of(request: &EnqueueRequest) -> usize {
    request.size() + request.message.unique_key.len() + request.message.id.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_lives_whole_seconds_from_the_time_the_task_is_due() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let lives = |placement: &Placement, ttl| ttl_secs(placement, ttl, now);
        assert_eq!(lives(&Placement::Pending, Duration::from_millis(1100)), 2);
        assert_eq!(lives(&Placement::Pending, Duration::from_millis(1000)), 1);
        assert_eq!(lives(&Placement::Pending, Duration::from_nanos(1)), 1);
        let soon = Placement::Scheduled(now + TimeDelta::milliseconds(2500));
        assert_eq!(lives(&soon, Duration::from_secs(1)), 4);
        let past = Placement::Scheduled(now - TimeDelta::seconds(90));
        assert_eq!(lives(&past, Duration::from_secs(60)), 1);
        assert_eq!(lives(&Placement::Pending, Duration::MAX), LONGEST_LOCK);
    }

    #[test]
    fn no_request_sends_more_bytes_than_it_is_said_to() {
        let env = asynq_core::broker::Env::default();
        let (text, queue) = ("x".repeat(100_000), QueueName::default());
        let plain = asynq_core::Task::new("t", b"").unwrap();
        let unique = asynq_core::Task::new(&text, b"").unwrap();
        for task in [
            plain.clone(),
            unique.with_unique_ttl(Duration::from_secs(60)),
            plain.clone().with_task_id(&text),
            plain.clone().with_header(&text, &text),
            plain.with_group(&text),
        ] {
            let request = asynq_core::compose::compose(&task, &asynq_core::TaskOptions::new(), &env).unwrap();
            let mut args = Args::with_capacity(8);
            push(&mut args, &queue, &request, env.clock.now()).unwrap();
            let sent: usize = args.done().iter().map(Vec::len).sum();
            assert!(
                sent <= size_of(&request),
                "{sent} bytes, said are {}",
                size_of(&request)
            );
        }
    }
}
