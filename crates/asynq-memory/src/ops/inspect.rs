//! Operations of an operator.

use std::time::Duration;

use asynq_core::{
    TaskState,
    clock::{from_unix_secs, unix_nanos},
    error::{BrokerError, PoisonKind},
    info::{DailyStats, QueueInfo, TaskInfo},
    inspect::{ListFilter, MAX_HISTORY_DAYS, PageRequest, TaskPage},
    keys,
    names::{GroupKey, QueueName, TaskId},
    progress::Progress,
    runs::Runs,
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::groups;
use crate::model::{Data, Queue, TaskHash, ZSet};

/// The names of all queues, sorted.
pub(crate) fn queues(data: &Data) -> Result<Vec<QueueName>, BrokerError> {
    data.check(keys::QUEUES)?;
    Ok(data.names.iter().cloned().collect())
}

/// The processed and failed tasks of the last days, today first.
pub(crate) fn history(
    data: &mut Data,
    name: &QueueName,
    days: u32,
    now: DateTime<Utc>,
) -> Result<Vec<DailyStats>, BrokerError> {
    let queue = known(data, name)?;
    let counter = |suffix: String| {
        let value = queue.counters.get(&suffix, now).unwrap_or(0);
        u64::try_from(value).unwrap_or(0)
    };
    let days = (0..i64::from(days.clamp(1, MAX_HISTORY_DAYS))).map(|back| now - TimeDelta::days(back));
    let stats = days.map(|at| DailyStats {
        date: at.date_naive(),
        processed: counter(format!("processed:{}", keys::day(at))),
        failed: counter(format!("failed:{}", keys::day(at))),
    });
    Ok(stats.collect())
}

/// The queue, if it is in the index; one without keys is empty.
pub(super) fn known<'d>(data: &'d mut Data, name: &QueueName) -> Result<&'d mut Queue, BrokerError> {
    data.check(keys::QUEUES)?;
    if data.names.contains(name) {
        Ok(data.queue(name))
    } else {
        Err(not_found(name))
    }
}

fn not_found(queue: &QueueName) -> BrokerError {
    BrokerError::QueueNotFound { queue: queue.clone() }
}

/// A queue at this moment. Memory usage is what its tasks' fields take, not the containers.
pub(crate) fn queue_info(data: &mut Data, name: &QueueName, now: DateTime<Utc>) -> Result<QueueInfo, BrokerError> {
    let queue = known(data, name)?;
    queue.check(&["pending", "active", "scheduled", "retry", "archived", "completed"])?;
    let found = groups::list(queue)?;
    let counter = |suffix: &str| {
        queue
            .counters
            .get(suffix, now)
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0)
    };
    let day = keys::day(now);
    let next = queue.pending.back().and_then(|id| queue.tasks.get(id));
    let since = next.and_then(|task| task.pending_since).filter(|since| *since > 0);
    let mut info = QueueInfo::empty(name.clone(), now);
    info.pending = queue.pending.len() as u64;
    info.active = queue.active.len() as u64;
    info.scheduled = queue.scheduled.len() as u64;
    info.retry = queue.retry.len() as u64;
    info.archived = queue.archived.len() as u64;
    info.completed = queue.completed.len() as u64;
    info.aggregating = found.iter().map(|group| group.size + group.in_sets).sum();
    info.groups = found.iter().filter(|group| group.size > 0).count() as u64;
    info.processed = counter(&format!("processed:{day}"));
    info.failed = counter(&format!("failed:{day}"));
    info.processed_total = counter("processed");
    info.failed_total = counter("failed");
    info.paused = queue.is_paused();
    info.latency = since.map_or(Duration::ZERO, |since| {
        Duration::from_nanos(u64::try_from(unix_nanos(now).saturating_sub(since)).unwrap_or(0))
    });
    info.memory_usage = Some(
        queue
            .tasks
            .iter()
            .map(|(id, task)| (id.as_str().len() + size_of(task)) as u64)
            .sum(),
    );
    Ok(info)
}

fn progress_of(task: &TaskHash) -> Option<Progress> {
    Progress::decode(task.progress.as_ref()?)
}

fn size_of(task: &TaskHash) -> usize {
    let text = |field: &Option<String>| field.as_ref().map_or(0, String::len);
    task.message_len()
        + task.result.as_ref().map_or(0, Bytes::len)
        + task.cancel.as_ref().map_or(0, Bytes::len)
        + task.progress.as_ref().map_or(0, Bytes::len)
        + text(&task.unique_key)
        + text(&task.group)
        + task
            .other
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
}

/// A page of the tasks of one state or group.
pub(crate) fn list_tasks(
    data: &mut Data,
    name: &QueueName,
    filter: &ListFilter,
    page: PageRequest,
    now: DateTime<Utc>,
) -> Result<TaskPage, BrokerError> {
    let (queue, container) = container(data, name, filter)?;
    queue.check(&[&container])?;
    let state = filter.state();
    let ids = match filter {
        ListFilter::State(TaskState::Pending) => cut(queue.pending.iter().rev().map(|id| (id, None)), page),
        ListFilter::State(TaskState::Active) => cut(queue.active.iter().rev().map(|id| (id, None)), page),
        _ => {
            let entries = sorted(queue, filter).into_iter().flat_map(|set| set.iter());
            cut(entries.map(|(id, score)| (id, Some(score))), page)
        }
    };
    Ok(TaskPage {
        tasks: ids
            .into_iter()
            .map(|(id, score)| view(queue, state, id, score, now))
            .collect(),
    })
}

/// The queue, if it is in the index, and the suffix of the container whose tasks are listed.
pub(super) fn container<'d>(
    data: &'d mut Data,
    name: &QueueName,
    filter: &ListFilter,
) -> Result<(&'d mut Queue, String), BrokerError> {
    let suffix = match filter {
        ListFilter::State(TaskState::Aggregating) => {
            return Err(BrokerError::GroupRequired { queue: name.clone() });
        }
        ListFilter::State(state) => state.as_str().to_owned(),
        ListFilter::Group(group) => format!("g:{group}"),
    };
    Ok((known(data, name)?, suffix))
}

/// The sorted set of the tasks; `None` for pending and active tasks, which stand in lists, and for a group without tasks.
pub(super) fn sorted<'q>(queue: &'q Queue, filter: &ListFilter) -> Option<&'q ZSet<TaskId>> {
    match filter {
        ListFilter::State(TaskState::Scheduled) => Some(&queue.scheduled),
        ListFilter::State(TaskState::Retry) => Some(&queue.retry),
        ListFilter::State(TaskState::Archived) => Some(&queue.archived),
        ListFilter::State(TaskState::Completed) => Some(&queue.completed),
        ListFilter::State(_) => None,
        ListFilter::Group(group) => queue.gathered.get(group.as_str()),
    }
}

/// A task of a container, as inspectors see it. In a sorted set it has a score.
pub(super) fn view(queue: &Queue, state: TaskState, id: &TaskId, score: Option<i64>, now: DateTime<Utc>) -> TaskInfo {
    let name = &queue.name;
    let found = queue.task(id).and_then(|task| Ok((task, task.message(name, id)?)));
    let (task, message) = match found {
        Ok(found) => found,
        Err(kind) => return TaskInfo::damaged(name, id, state, kind),
    };
    let at = score.and_then(from_unix_secs);
    let due = match state {
        TaskState::Pending => Some(now),
        TaskState::Scheduled | TaskState::Retry => at,
        _ => None,
    };
    let mut info = TaskInfo::from_message(name, id, &message, state, due, task.result.clone());
    info.is_orphaned = state == TaskState::Active && is_over(queue, id, now);
    info.progress = progress_of(task);
    info.state_since = match state {
        TaskState::Pending => task
            .pending_since
            .filter(|since| *since > 0)
            .map(DateTime::from_timestamp_nanos),
        TaskState::Aggregating | TaskState::Archived => at,
        _ => info.state_since,
    };
    info
}

fn cut<T>(items: impl Iterator<Item = T>, page: PageRequest) -> Vec<T> {
    let start = usize::try_from(page.start()).unwrap_or(usize::MAX);
    items.skip(start).take(page.size() as usize).collect()
}

fn is_over(queue: &Queue, id: &TaskId, now: DateTime<Utc>) -> bool {
    queue.lease.score(id).is_some_and(|score| score <= now.timestamp())
}

/// One task.
pub(crate) fn task_info(
    data: &mut Data,
    name: &QueueName,
    id: &TaskId,
    now: DateTime<Utc>,
) -> Result<TaskInfo, BrokerError> {
    let (queue, task) = found(data, name, id)?;
    let message = task.message(name, id).map_err(|kind| poison(name, id, kind))?;
    let state = task.known_state().map_err(|kind| poison(name, id, kind))?;
    let filter = match &task.group {
        Some(group) if state == TaskState::Aggregating => GroupKey::new(group).ok().map(ListFilter::Group),
        _ => Some(ListFilter::State(state)),
    };
    let score = filter.and_then(|filter| sorted(queue, &filter)?.score(id));
    let mut info = view(queue, state, id, score, now);
    info.runs = Some(Runs::decode(task.runs.as_deref(), &message));
    Ok(info)
}

/// The state of one task.
pub(crate) fn task_state(data: &mut Data, name: &QueueName, id: &TaskId) -> Result<TaskState, BrokerError> {
    let (_, task) = found(data, name, id)?;
    match &task.msg {
        Some(_) => task.known_state().map_err(|kind| poison(name, id, kind)),
        None => Err(poison(name, id, PoisonKind::NoMessage)),
    }
}

fn found<'d>(data: &'d mut Data, name: &QueueName, id: &TaskId) -> Result<(&'d Queue, &'d TaskHash), BrokerError> {
    let queue = known(data, name)?;
    match queue.task(id) {
        Ok(task) => Ok((queue, task)),
        Err(PoisonKind::NoHash) => Err(BrokerError::TaskNotFound {
            queue: name.clone(),
            id: id.clone(),
        }),
        Err(kind) => Err(poison(name, id, kind)),
    }
}

fn poison(name: &QueueName, id: &TaskId, kind: PoisonKind) -> BrokerError {
    BrokerError::Poison {
        queue: name.clone(),
        id: id.clone(),
        kind,
    }
}

/// Begins a pause. The queue need not exist.
pub(crate) fn pause(queue: &mut Queue, now: DateTime<Utc>) -> Result<(), BrokerError> {
    if queue.is_paused() {
        return Err(BrokerError::AlreadyPaused {
            queue: queue.name.clone(),
        });
    }
    queue.paused = Some(now.timestamp().to_string().into());
    Ok(())
}

/// Ends a pause and wakes those who wait for tasks.
pub(crate) fn unpause(queue: &mut Queue) -> Result<(), BrokerError> {
    let misfit = queue.misfits.remove("paused").is_some();
    if queue.paused.take().is_none() && !misfit {
        return Err(BrokerError::NotPaused {
            queue: queue.name.clone(),
        });
    }
    queue.on_pending.fire();
    Ok(())
}
