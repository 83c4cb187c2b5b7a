//! New tasks.

use std::{collections::HashSet, sync::Arc, time::Duration};

use asynq_core::{
    TaskState,
    broker::{EnqueueRequest, MAX_BATCH, MAX_BATCH_BYTES, Placement},
    clock::{exact_millis, unix_nanos},
    error::{BrokerError, EnqueueError},
    excerpt::Excerpt,
    info::TaskInfo,
    keys::{self, KeyOf},
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
    let Some(first) = batch.first() else { return Vec::new() };
    let queue = QueueName::from_storage(&first.message.queue);
    if is_one_call(batch) {
        // The name is written first, so that no task stands in a queue that nobody knows.
        let ((), answers) = join(publish(core, std::iter::once(&queue)), create(core, &queue, batch)).await;
        return answers;
    }
    let queues: Vec<QueueName> = batch
        .iter()
        .map(|request| QueueName::from_storage(&request.message.queue))
        .collect();
    let parts = by_queue(queues.iter());
    let names = parts.iter().map(|part| &part.queue);
    let calls = parts.iter().flat_map(|part| {
        let calls = cut(part.items.clone(), MAX_BATCH as usize, MAX_BATCH_BYTES, |index| {
            size_of(&batch[*index])
        });
        calls.into_iter().map(|items| (&part.queue, items))
    });
    let sent = calls.map(|(queue, items)| async move {
        let requests: Vec<_> = items.iter().map(|index| Arc::clone(&batch[*index])).collect();
        let answers = create(core, queue, &requests).await;
        items.into_iter().zip(answers)
    });
    let ((), answers) = join(publish(core, names), join_all(sent)).await;
    in_order(OPERATION, batch.len(), answers.into_iter().flatten())
}

/// Returns whether a batch concerns one queue and fits into one call.
fn is_one_call(batch: &[Arc<EnqueueRequest>]) -> bool {
    let [first, others @ ..] = batch else { return false };
    let queue = &first.message.queue;
    others.is_empty()
        || batch.len() <= MAX_BATCH as usize
            && others.iter().all(|request| request.message.queue == *queue)
            && batch.iter().map(|request| size_of(request)).sum::<usize>() <= MAX_BATCH_BYTES
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

/// One call of the script, for requests of one queue; an answer for each.
async fn create(
    core: &Core,
    queue: &QueueName,
    requests: &[Arc<EnqueueRequest>],
) -> Vec<Result<TaskInfo, EnqueueError>> {
    let now = core.now();
    // Those that are refused here are not sent.
    let sent = requests.iter().filter(|request| check_lock(queue, request).is_ok());
    let count = sent.clone().count();
    let codes = match count {
        0 => Ok(Vec::new()),
        _ => send(core, queue, sent.map(|request| &**request), count, now).await,
    };
    let mut codes = codes.map(Vec::into_iter);
    let answers = requests.iter().map(|request| {
        check_lock(queue, request)?;
        match &mut codes {
            Ok(codes) => result_of(codes.next().unwrap_or_default(), queue, request, now),
            Err(error) => Err(EnqueueError::Broker(again(error))),
        }
    });
    answers.collect()
}

/// Sends so many requests, and returns a code for each.
async fn send<'r>(
    core: &Core,
    queue: &QueueName,
    requests: impl Iterator<Item = &'r EnqueueRequest> + Clone,
    count: usize,
    now: DateTime<Utc>,
) -> Result<Vec<u8>, BrokerError> {
    /// About what the head of a call, and what stands beside the message of an item, take.
    const BESIDE: usize = 128;
    let bytes = requests.clone().map(|request| request.size() + BESIDE).sum::<usize>();
    let mut args = Args::sized(4 + 5 * count, BESIDE + bytes);
    args.push_display(KeyOf(queue, ""));
    args.push_int(now.timestamp());
    args.push_int(unix_nanos(now));
    args.push_count(count);
    for request in requests.clone() {
        push(&mut args, queue, request, now)?;
    }
    let places: &[_] = if are_plain(requests, count) {
        &["pending"]
    } else {
        &["pending", "scheduled", "groups"]
    };
    let answer = core.link.eval_apart(&scripts::ENQUEUE, keys_of(queue, places), args);
    codes(OPERATION, answer.await?, count)
}

/// Returns whether the lock of a request, if it has one, is one of its queue: any other key could be somebody's data,
/// and in another cluster slot.
fn check_lock(queue: &QueueName, request: &EnqueueRequest) -> Result<(), BrokerError> {
    let key = request.message.unique_key.as_str();
    if request.unique_ttl.is_none() || key.starts_with(&keys::unique_prefix(queue)) {
        return Ok(());
    }
    let reason = format!("{:?} is not a unique lock of queue {queue:?}", Excerpt(key));
    Err(BrokerError::Refused { source: reason.into() })
}

/// Returns whether all of these are what `include/enqueue_plain.lua` takes: pending, with ids that differ, and with
/// neither a lock nor a deadline in ms.
fn are_plain<'r>(mut requests: impl Iterator<Item = &'r EnqueueRequest>, count: usize) -> bool {
    let several = count > 1;
    let mut seen = HashSet::with_capacity(if several { count } else { 0 });
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
    check_lock(queue, request)?;
    args.push(&message.id);
    let kind = match (placement, lock.is_some()) {
        (Placement::Pending, false) => 'p',
        (Placement::Pending, true) => 'P',
        (Placement::Scheduled(_), false) => 's',
        (Placement::Scheduled(_), true) => 'S',
        (Placement::Group(_), false) => 'g',
        (Placement::Group(_), true) => 'G',
    };
    match deadline.and_then(exact_millis) {
        Some(millis) => args.push_display(format_args!("{kind}{token:016x} {millis}")),
        None => args.push_display(format_args!("{kind}{token:016x}")),
    }
    args.push_message(message);
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
            let sent: usize = args.bytes();
            assert!(
                sent <= size_of(&request),
                "{sent} bytes, said are {}",
                size_of(&request)
            );
        }
    }
}
