//! The shapes of asynqmon's JSON.

use std::time::Duration;

use asynq::{
    TaskInfo, TaskState, go,
    info::{DailyStats, GroupInfo, QueueInfo, SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, WorkerInfo},
};
use chrono::{TimeDelta, Utc};
use serde::Serialize;

use super::shown::{NO_TIME, Shown, exact, exact_or_year_one, maybe_seconds, seconds};

/// The numbers of a queue.
#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    queue: String,
    memory_usage_bytes: u64,
    size: u64,
    groups: u64,
    latency_msec: u64,
    display_latency: String,
    active: u64,
    pending: u64,
    aggregating: u64,
    scheduled: u64,
    retry: u64,
    archived: u64,
    completed: u64,
    processed: u64,
    succeeded: i64,
    failed: u64,
    paused: bool,
    timestamp: String,
}

impl From<QueueInfo> for Snapshot {
    fn from(info: QueueInfo) -> Self {
        Self {
            size: info.size(),
            queue: info.queue.into(),
            memory_usage_bytes: info.memory_usage.unwrap_or(0),
            groups: info.groups,
            latency_msec: u64::try_from(info.latency.as_millis()).unwrap_or(u64::MAX),
            display_latency: display(info.latency),
            active: info.active,
            pending: info.pending,
            aggregating: info.aggregating,
            scheduled: info.scheduled,
            retry: info.retry,
            archived: info.archived,
            completed: info.completed,
            processed: info.processed,
            succeeded: difference(info.processed, info.failed),
            failed: info.failed,
            paused: info.paused,
            timestamp: exact(info.timestamp),
        }
    }
}

fn difference(processed: u64, failed: u64) -> i64 {
    processed.cast_signed().saturating_sub(failed.cast_signed())
}

/// Go's text of a time, rounded to 10 ms.
fn display(latency: Duration) -> String {
    const STEP: u128 = 10_000_000;
    let steps = (latency.as_nanos() + STEP / 2) / STEP;
    let nanos = u64::try_from(steps * STEP).unwrap_or(u64::MAX);
    go::write_duration(Duration::from_nanos(nanos))
}

/// A day of a queue.
#[derive(Debug, Serialize)]
pub(super) struct Day<'r> {
    queue: &'r str,
    processed: u64,
    succeeded: i64,
    failed: u64,
    date: String,
}

impl<'r> Day<'r> {
    pub(super) fn all(queue: &'r str, days: &[DailyStats]) -> Vec<Self> {
        let day = |day: &DailyStats| Self {
            queue,
            processed: day.processed,
            succeeded: difference(day.processed, day.failed),
            failed: day.failed,
            date: day.date.to_string(),
        };
        days.iter().map(day).collect()
    }
}

/// A group with tasks that wait.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    group: String,
    size: u64,
}

impl Group {
    /// Groups whose tasks are all being aggregated are left out, as by Go.
    pub(super) fn all(groups: Vec<GroupInfo>) -> Vec<Self> {
        let waiting = groups.into_iter().filter(|group| group.size > 0);
        let record = |group: GroupInfo| Self {
            group: group.group.into(),
            size: group.size,
        };
        waiting.map(record).collect()
    }
}

/// A task of a list. The fields after the error message are those of its state.
#[derive(Debug, Serialize)]
pub(super) struct ListedTask {
    pub(super) id: String,
    r#type: String,
    payload: String,
    queue: String,
    max_retry: u32,
    retried: u32,
    error_message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deadline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_orphaned: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_process_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

impl ListedTask {
    pub(super) fn of(task: &TaskInfo, shown: Shown<'_>) -> Self {
        use TaskState::{Active, Aggregating, Archived, Completed, Retry, Scheduled};
        let (queue, state) = (task.queue.as_str(), task.state);
        let is = |wanted: TaskState| (state == wanted).then_some(());
        Self {
            id: task.id.as_str().to_owned(),
            r#type: task.task_type.clone(),
            payload: shown.payload(queue, &task.task_type, &task.payload),
            queue: queue.to_owned(),
            max_retry: task.max_retry,
            retried: task.retried,
            error_message: task.last_error.clone(),
            start_time: is(Active).map(|()| "-".to_owned()),
            deadline: is(Active).map(|()| "-".to_owned()),
            is_orphaned: is(Active).map(|()| task.is_orphaned),
            next_process_at: is(Scheduled)
                .or(is(Retry))
                .map(|()| exact_or_year_one(task.next_process_at)),
            last_failed_at: is(Archived).map(|()| exact_or_year_one(task.last_failed_at)),
            completed_at: is(Completed).map(|()| exact_or_year_one(task.completed_at)),
            result: is(Completed).map(|()| shown.result(queue, &task.task_type, task.result.as_deref())),
            ttl_seconds: is(Completed).map(|()| ttl(task)),
            group: is(Aggregating).map(|()| {
                task.group
                    .as_ref()
                    .map(|group| group.as_str().to_owned())
                    .unwrap_or_default()
            }),
        }
    }
}

/// Seconds for which a completed task is still kept.
fn ttl(task: &TaskInfo) -> i64 {
    let Some(completed) = task.completed_at.filter(|_| task.state == TaskState::Completed) else {
        return 0;
    };
    let kept = TimeDelta::from_std(task.retention).unwrap_or(TimeDelta::MAX);
    let end = completed
        .checked_add_signed(kept)
        .unwrap_or(chrono::DateTime::<Utc>::MAX_UTC);
    (end - Utc::now()).num_seconds()
}

/// One task.
#[derive(Debug, Serialize)]
pub(super) struct Task {
    id: String,
    queue: String,
    r#type: String,
    payload: String,
    state: &'static str,
    max_retry: u32,
    retried: u32,
    error_message: String,
    last_failed_at: String,
    timeout_seconds: u64,
    deadline: String,
    next_process_at: String,
    completed_at: String,
    result: String,
    ttl_seconds: i64,
}

impl Task {
    pub(super) fn of(task: &TaskInfo, shown: Shown<'_>) -> Self {
        let queue = task.queue.as_str();
        Self {
            id: task.id.as_str().to_owned(),
            queue: queue.to_owned(),
            r#type: task.task_type.clone(),
            payload: shown.payload(queue, &task.task_type, &task.payload),
            state: task.state.as_str(),
            max_retry: task.max_retry,
            retried: task.retried,
            error_message: task.last_error.clone(),
            last_failed_at: maybe_seconds(task.last_failed_at),
            timeout_seconds: task.timeout.unwrap_or_default().as_secs(),
            deadline: maybe_seconds(task.deadline),
            next_process_at: maybe_seconds(task.next_process_at),
            completed_at: maybe_seconds(task.completed_at),
            result: shown.result(queue, &task.task_type, task.result.as_deref()),
            ttl_seconds: ttl(task),
        }
    }
}

/// A server.
#[derive(Debug, Serialize)]
pub(super) struct Server {
    id: String,
    host: String,
    pid: i32,
    concurrency: i32,
    queue_priorities: std::collections::BTreeMap<String, i32>,
    strict_priority_enabled: bool,
    start_time: String,
    status: &'static str,
    active_workers: Vec<Worker>,
}

impl Server {
    /// A server with the queues and workers that the caller may see; `None` if there is no such queue.
    pub(super) fn of(server: ServerInfo, workers: &[WorkerInfo], shown: Shown<'_>) -> Option<Self> {
        let sees = |queue: &str| shown.caller.sees(queue);
        let mut queues = server.queues;
        queues.retain(|queue, _| sees(queue));
        let of_server = workers.iter().filter(|worker| worker.server_id == server.server_id);
        let seen = of_server.filter(|worker| sees(worker.queue.as_str()));
        let is_seen = !queues.is_empty() || shown.caller.user().role_everywhere().is_some();
        is_seen.then(|| Self {
            id: server.server_id.clone(),
            host: server.host,
            pid: server.pid,
            concurrency: server.concurrency,
            queue_priorities: queues,
            strict_priority_enabled: server.strict_priority,
            start_time: seconds(server.start_time),
            status: server.status.as_str(),
            active_workers: seen.map(|worker| Worker::of(worker, shown)).collect(),
        })
    }
}

/// A task that a server runs.
#[derive(Debug, Serialize)]
struct Worker {
    task_id: String,
    queue: String,
    task_type: String,
    task_payload: String,
    start_time: String,
}

impl Worker {
    fn of(worker: &WorkerInfo, shown: Shown<'_>) -> Self {
        let queue = worker.queue.as_str();
        Self {
            task_id: worker.task_id.as_str().to_owned(),
            queue: queue.to_owned(),
            task_type: worker.task_type.clone(),
            task_payload: shown.payload(queue, &worker.task_type, &worker.payload),
            start_time: seconds(worker.start_time),
        }
    }
}

/// A periodic task.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    id: String,
    spec: String,
    task_type: String,
    task_payload: String,
    options: Vec<String>,
    next_enqueue_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_enqueue_at: Option<String>,
}

impl Entry {
    pub(super) fn of(entry: SchedulerEntry, shown: Shown<'_>) -> Self {
        Self {
            task_payload: shown.payload(&entry.queue(), &entry.task_type, &entry.payload),
            id: entry.id,
            spec: entry.spec,
            task_type: entry.task_type,
            options: entry.options,
            next_enqueue_at: entry.next.map_or_else(|| NO_TIME.to_owned(), seconds),
            prev_enqueue_at: entry.prev.map(seconds),
        }
    }
}

/// A firing of a periodic task.
#[derive(Debug, Serialize)]
pub(super) struct EnqueueEvent {
    task_id: String,
    enqueued_at: String,
}

impl From<SchedulerEnqueueEvent> for EnqueueEvent {
    fn from(event: SchedulerEnqueueEvent) -> Self {
        Self {
            task_id: event.task_id.into(),
            enqueued_at: seconds(event.enqueued_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_shown_as_by_go() {
        for (millis, text) in [(0, "0s"), (4, "0s"), (5, "10ms"), (1_234, "1.23s"), (61_000, "1m1s")] {
            assert_eq!(display(Duration::from_millis(millis)), text);
        }
        assert!(!display(Duration::MAX).is_empty());
    }
}
