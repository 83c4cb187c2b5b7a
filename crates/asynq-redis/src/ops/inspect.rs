//! Operations of an operator.

use std::time::Duration;

use asynq_core::{
    TaskMessage, TaskState,
    broker::MAX_BATCH_BYTES,
    clock::{from_unix_secs, unix_nanos},
    error::{BrokerError, PoisonKind},
    info::{DailyStats, QueueInfo, TaskInfo},
    inspect::{ListFilter, MAX_HISTORY_DAYS, PageRequest, ScannedTask, TaskMark, TaskPage},
    keys,
    names::{QueueName, TaskId},
    progress::Progress,
    runs::Runs,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::{join, join3};
use redis::Value;

use super::{exchange::decode, groups};
use crate::{
    args::{Args, bound, keys_of},
    broker::core::Core,
    reply::{Reply, int, scalar},
    scripts,
};

/// Number of tasks that one call lists: about a millisecond of Redis.
const TASKS: u32 = 200;

pub(crate) async fn queues(core: &Core) -> Result<Vec<QueueName>, BrokerError> {
    let mut cmd = redis::cmd("SMEMBERS");
    cmd.arg(keys::QUEUES);
    let names = Reply::new("SMEMBERS", core.link.command(&cmd).await?)?.texts()?;
    let mut queues: Vec<_> = names.iter().map(|name| QueueName::from_storage(name)).collect();
    queues.sort();
    Ok(queues)
}

/// Returns whether the queue is in the index.
pub(crate) async fn is_listed(core: &Core, queue: &QueueName) -> Result<bool, BrokerError> {
    let mut cmd = redis::cmd("SISMEMBER");
    cmd.arg(keys::QUEUES).arg(queue.as_str());
    Ok(int("SISMEMBER", core.link.command(&cmd).await?)? == 1)
}

/// Returns whether a queue has any key that does not expire soon by itself, apart from tasks in no container and the like.
pub(crate) async fn has_keys(core: &Core, queue: &QueueName) -> Result<bool, BrokerError> {
    let mut cmd = redis::cmd("EXISTS");
    for key in [
        "pending",
        "active",
        "lease",
        "scheduled",
        "retry",
        "archived",
        "completed",
        "groups",
        "aggregation_sets",
        "paused",
        "processed",
        "failed",
        "x:quarantine",
    ] {
        cmd.arg(keys::of_queue(queue, key));
    }
    Ok(int("EXISTS", core.link.command(&cmd).await?)? > 0)
}

fn must_be_listed(queue: &QueueName, listed: Result<bool, BrokerError>) -> Result<(), BrokerError> {
    if listed? {
        Ok(())
    } else {
        Err(BrokerError::QueueNotFound { queue: queue.clone() })
    }
}

/// Refuses a queue that is not in the index.
pub(crate) async fn must_be_known(core: &Core, queue: &QueueName) -> Result<(), BrokerError> {
    must_be_listed(queue, is_listed(core, queue).await)
}

pub(crate) async fn history(core: &Core, queue: &QueueName, days: u32) -> Result<Vec<DailyStats>, BrokerError> {
    let now = core.now();
    let days = days.clamp(1, MAX_HISTORY_DAYS);
    let mut counters = redis::cmd("MGET");
    let dates = (0..i64::from(days)).map(|back| now - TimeDelta::days(back));
    for day in dates.clone().map(keys::day) {
        for counter in ["processed", "failed"] {
            counters.arg(keys::of_queue(queue, &format!("{counter}:{day}")));
        }
    }
    let (known, values) = join(is_listed(core, queue), core.link.command(&counters)).await;
    must_be_listed(queue, known)?;
    let mut reply = Reply::new("MGET", values?)?;
    let mut counter = || {
        let text = reply.maybe_text()?;
        let value = text.and_then(|digits| digits.parse::<i64>().ok()).unwrap_or(0);
        Ok::<u64, BrokerError>(u64::try_from(value).unwrap_or(0))
    };
    dates
        .map(|at| {
            Ok(DailyStats {
                date: at.date_naive(),
                processed: counter()?,
                failed: counter()?,
            })
        })
        .collect()
}

pub(crate) async fn queue_info(core: &Core, queue: &QueueName) -> Result<QueueInfo, BrokerError> {
    let now = core.now();
    let mut keys = keys_of(
        queue,
        &["pending", "active", "scheduled", "retry", "archived", "completed"],
    );
    let containers = keys.clone();
    let day = keys::day(now);
    for suffix in [
        &format!("processed:{day}"),
        &format!("failed:{day}"),
        "processed",
        "failed",
        "paused",
        "groups",
    ] {
        keys.push(keys::of_queue(queue, suffix));
    }
    let prefix = Args::with_capacity(1).text(&keys::queue_prefix(queue));
    let (listed, numbers, groups) = join3(
        is_listed(core, queue),
        core.link.eval(&scripts::QUEUE_INFO, keys, prefix),
        groups::infos(core, queue),
    )
    .await;
    must_be_listed(queue, listed)?;
    let (numbers, groups) = (numbers?, groups?);
    let aggregating = groups.iter().map(|group| group.size + group.in_sets).sum();
    let memory = memory_usage(core, queue, containers, aggregating).await;

    let mut reply = Reply::of_script("queue_info", numbers)?;
    let mut info = QueueInfo::empty(queue.clone(), now);
    let mut number = || Ok::<u64, BrokerError>(u64::try_from(reply.int()?).unwrap_or(0));
    info.pending = number()?;
    info.active = number()?;
    info.scheduled = number()?;
    info.retry = number()?;
    info.archived = number()?;
    info.completed = number()?;
    let mut counter = |name: &str| {
        let value = reply.bytes()?;
        let read = std::str::from_utf8(&value)
            .ok()
            .and_then(|digits| digits.parse::<i64>().ok());
        if read.is_none() && !value.is_empty() {
            tracing::warn!(%queue, counter = name, "a counter is not a number and reads as 0");
        }
        Ok::<u64, BrokerError>(u64::try_from(read.unwrap_or(0)).unwrap_or(0))
    };
    info.processed = counter("processed today")?;
    info.failed = counter("failed today")?;
    info.processed_total = counter("processed")?;
    info.failed_total = counter("failed")?;
    info.paused = reply.int()? == 1;
    info.groups = groups.iter().filter(|group| group.size > 0).count() as u64;
    info.aggregating = aggregating;
    let since = reply.text()?.parse::<i64>().ok().filter(|since| *since > 0);
    info.latency = since.map_or(Duration::ZERO, |since| {
        Duration::from_nanos(u64::try_from(unix_nanos(now).saturating_sub(since)).unwrap_or(0))
    });
    info.memory_usage = memory?;
    Ok(info)
}

/// About how many bytes the queue takes; `None` if the server does not say.
async fn memory_usage(
    core: &Core,
    queue: &QueueName,
    mut containers: Args,
    aggregating: u64,
) -> Result<Option<u64>, BrokerError> {
    const OPERATION: &str = "memory_usage";
    containers.push(keys::of_queue(queue, "groups"));
    let args = Args::with_capacity(4)
        .text(&keys::queue_prefix(queue))
        .int(20)
        .int(5)
        .int(i64::try_from(aggregating).unwrap_or(i64::MAX));
    match core.link.eval(&scripts::MEMORY_USAGE, containers, args).await {
        Ok(Value::BulkString(text)) if text.is_empty() => Ok(None),
        Ok(value) => Ok(u64::try_from(int(OPERATION, scalar(OPERATION, value)?)?).ok()),
        // A server that does not know the command, or does not let us.
        Err(BrokerError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The key of the container whose tasks are listed.
pub(super) fn container(queue: &QueueName, filter: &ListFilter) -> Result<String, BrokerError> {
    match filter {
        ListFilter::State(TaskState::Aggregating) => Err(BrokerError::GroupRequired { queue: queue.clone() }),
        ListFilter::State(state) => Ok(keys::container(queue, *state)),
        ListFilter::Group(group) => Ok(keys::group(queue, group)),
    }
}

pub(crate) async fn list_tasks(
    core: &Core,
    queue: &QueueName,
    filter: &ListFilter,
    page: PageRequest,
) -> Result<TaskPage, BrokerError> {
    let (state, container) = (filter.state(), container(queue, filter)?);
    let now = core.now();
    let mut listed = TaskPage::default();
    let mut start = i64::try_from(page.start()).unwrap_or(i64::MAX >> 8);
    let mut missing = page.size();
    // One call for most pages; long ones are read in parts.
    loop {
        let most = missing.min(TASKS);
        let part = list_part(core, queue, &container, state, start, most);
        let (known, part) = join(is_listed(core, queue), part).await;
        must_be_listed(queue, known)?;
        let mut reply = Reply::of_script("list_tasks", part?)?;
        let cut_short = reply.int()? == 1;
        let mut looked = 0;
        while !reply.is_empty() {
            looked += 1;
            listed.tasks.push(read_listed(&mut reply, queue, state, now)?.info);
        }
        missing = missing.saturating_sub(looked);
        start = start.saturating_add(i64::from(looked));
        if missing == 0 || looked == 0 || (looked < most && !cut_short) {
            return Ok(listed);
        }
    }
}

async fn list_part(
    core: &Core,
    queue: &QueueName,
    container: &str,
    state: TaskState,
    start: i64,
    most: u32,
) -> Result<Value, BrokerError> {
    let is_list = matches!(state, TaskState::Pending | TaskState::Active);
    let args = Args::with_capacity(5)
        .text(&keys::queue_prefix(queue))
        .text(if is_list { "list" } else { "zset" })
        .int(start)
        .int(i64::from(most))
        .int(bound(MAX_BATCH_BYTES));
    let keys = Args::from_iter([container, &keys::of_queue(queue, "lease")]);
    core.link.eval(&scripts::LIST_TASKS, keys, args).await
}

/// The stored parts of a task beside its message.
struct Stored {
    score: Option<i64>,
    lease: Option<i64>,
    result: Vec<u8>,
    progress: Vec<u8>,
    pending_since: Vec<u8>,
}

impl Stored {
    fn view(
        self,
        queue: &QueueName,
        id: &TaskId,
        message: &TaskMessage,
        state: TaskState,
        now: DateTime<Utc>,
    ) -> TaskInfo {
        let at = self.score.and_then(from_unix_secs);
        let due = match state {
            TaskState::Pending => Some(now),
            TaskState::Scheduled | TaskState::Retry => at,
            _ => None,
        };
        let mut info = TaskInfo::from_message(queue, id, message, state, due, Some(self.result.into()));
        info.is_orphaned = state == TaskState::Active && is_over(self.lease, now);
        info.progress = Progress::decode(&self.progress);
        info.state_since = match state {
            TaskState::Pending => nanos(&self.pending_since),
            TaskState::Aggregating | TaskState::Archived => at,
            _ => info.state_since,
        };
        info
    }
}

fn nanos(text: &[u8]) -> Option<DateTime<Utc>> {
    let nanos = std::str::from_utf8(text).ok()?.parse::<i64>().ok()?;
    (nanos > 0).then(|| DateTime::from_timestamp_nanos(nanos))
}

/// Reads one task of those that `include/listed.lua` appends.
pub(super) fn read_listed(
    reply: &mut Reply,
    queue: &QueueName,
    state: TaskState,
    now: DateTime<Utc>,
) -> Result<ScannedTask, BrokerError> {
    let (raw_id, score_text, damage) = (reply.bytes()?, reply.bytes()?, reply.damage()?);
    let (msg, result, lease) = (reply.bytes()?, reply.bytes()?, reply.maybe_int()?);
    let mut size = msg.len() + result.len();
    let stored = Stored {
        score: match score_text.is_empty() {
            true => None,
            false => Some(int("list_tasks", Value::BulkString(score_text.clone()))?),
        },
        lease,
        result,
        progress: reply.bytes()?,
        pending_since: reply.bytes()?,
    };
    size += stored.progress.len();
    let score = if score_text.is_empty() {
        stored.pending_since.clone()
    } else {
        score_text
    };
    let mark = TaskMark {
        id: raw_id.clone().into(),
        score: score.into(),
        digest: reply.bytes()?.into(),
        position: 0,
    };
    let read = match damage {
        Some(kind) => Err((TaskId::from_storage(&String::from_utf8_lossy(&raw_id)), kind)),
        None => decode(queue, &raw_id, msg),
    };
    let info = match read {
        Ok((id, message)) => stored.view(queue, &id, &message, state, now),
        Err((id, kind)) => TaskInfo::damaged(queue, &id, state, kind),
    };
    let size = size as u64;
    Ok(ScannedTask { size, info, mark })
}

fn is_over(lease: Option<i64>, now: DateTime<Utc>) -> bool {
    lease.is_some_and(|until| until <= now.timestamp())
}

/// Reads what is stored of one task, from its state on.
async fn read_task(core: &Core, queue: &QueueName, id: &TaskId) -> Result<Reply, BrokerError> {
    let mut keys = Args::from_iter([keys::task(queue, id)]);
    keys.append(&keys_of(queue, &["scheduled", "retry", "archived", "lease"]));
    let args = Args::with_capacity(2)
        .text(id.as_str())
        .text(&keys::queue_prefix(queue));
    let (known, found) = join(is_listed(core, queue), core.link.eval(&scripts::TASK_INFO, keys, args)).await;
    must_be_listed(queue, known)?;
    let mut reply = Reply::of_script("task_info", found?)?;
    must_be_usable(&mut reply, queue, id)?;
    Ok(reply)
}

pub(crate) async fn task_info(core: &Core, queue: &QueueName, id: &TaskId) -> Result<TaskInfo, BrokerError> {
    let now = core.now();
    let mut reply = read_task(core, queue, id).await?;
    let state = reply.text()?;
    let (_, message) =
        decode(queue, id.as_str().as_bytes(), reply.bytes()?).map_err(|(_, kind)| poison(queue, id, kind))?;
    let state: TaskState = state.parse().map_err(|_| poison(queue, id, PoisonKind::BadState))?;
    let result = reply.bytes()?;
    let (score, lease) = (reply.maybe_int()?, reply.maybe_int()?);
    let stored = Stored {
        score,
        lease,
        result,
        progress: reply.bytes()?,
        pending_since: reply.bytes()?,
    };
    let mut info = stored.view(queue, id, &message, state, now);
    info.runs = Some(Runs::decode(Some(&reply.bytes()?), &message));
    Ok(info)
}

/// The message of a task, as it is stored and decoded.
pub(crate) async fn stored_message(
    core: &Core,
    queue: &QueueName,
    id: &TaskId,
) -> Result<(Vec<u8>, TaskMessage), BrokerError> {
    let mut reply = read_task(core, queue, id).await?;
    reply.text()?;
    let stored = reply.bytes()?;
    let (_, message) =
        decode(queue, id.as_str().as_bytes(), stored.clone()).map_err(|(_, kind)| poison(queue, id, kind))?;
    Ok((stored, message))
}

pub(crate) async fn task_state(core: &Core, queue: &QueueName, id: &TaskId) -> Result<TaskState, BrokerError> {
    let keys = Args::from_iter([keys::task(queue, id)]);
    let (known, found) = join(
        is_listed(core, queue),
        core.link.eval(&scripts::TASK_STATE, keys, Args::default()),
    )
    .await;
    must_be_listed(queue, known)?;
    let mut reply = Reply::of_script("task_state", found?)?;
    must_be_usable(&mut reply, queue, id)?;
    reply
        .text()?
        .parse()
        .map_err(|_| poison(queue, id, PoisonKind::BadState))
}

/// Reads what is wrong with a task.
fn must_be_usable(reply: &mut Reply, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
    match reply.damage()? {
        None => Ok(()),
        Some(PoisonKind::NoHash) => Err(BrokerError::TaskNotFound {
            queue: queue.clone(),
            id: id.clone(),
        }),
        Some(kind) => Err(poison(queue, id, kind)),
    }
}

fn poison(queue: &QueueName, id: &TaskId, kind: PoisonKind) -> BrokerError {
    BrokerError::Poison {
        queue: queue.clone(),
        id: id.clone(),
        kind,
    }
}

pub(crate) async fn pause(core: &Core, queue: &QueueName) -> Result<(), BrokerError> {
    let mut cmd = redis::cmd("SET");
    cmd.arg(keys::of_queue(queue, "paused"))
        .arg(core.now().timestamp())
        .arg("NX");
    match core.link.command(&cmd).await? {
        Value::Nil => Err(BrokerError::AlreadyPaused { queue: queue.clone() }),
        _ => Ok(()),
    }
}

pub(crate) async fn unpause(core: &Core, queue: &QueueName) -> Result<(), BrokerError> {
    let mut cmd = redis::cmd("DEL");
    cmd.arg(keys::of_queue(queue, "paused"));
    if int("DEL", core.link.command(&cmd).await?)? == 0 {
        return Err(BrokerError::NotPaused { queue: queue.clone() });
    }
    Ok(())
}
