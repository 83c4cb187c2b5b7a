//! Our values in the shapes of the Go program, so that both can be compared.

use std::time::Duration;

use asynq::{Task, TaskInfo, info::QueueInfo};
use asynq_interop::{GoQueueInfo, GoTask, GoTaskInfo};
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// The same task for our client, or what our types cannot express.
pub(crate) fn task(input: &GoTask) -> Result<Task, String> {
    let inexpressible = |what: &str, value: i64| format!("{what} of {value} cannot be expressed");
    let millis = |what: &'static str, value: i64| {
        u64::try_from(value)
            .map(Duration::from_millis)
            .map_err(|_| inexpressible(what, value))
    };
    let time =
        |what: &'static str, value: i64| DateTime::from_timestamp(value, 0).ok_or_else(|| inexpressible(what, value));
    let payload = input.payload.clone().map(Bytes::from);
    let mut task = Task::from_bytes(input.r#type.as_str(), payload).map_err(|error| error.to_string())?;
    for (name, value) in input.headers.iter().flatten() {
        task = task.with_header(name, value);
    }
    if let Some(queue) = &input.queue {
        task = task.with_queue(queue);
    }
    if let Some(id) = &input.task_id {
        task = task.with_task_id(id);
    }
    if let Some(retries) = input.max_retry {
        let retries = u32::try_from(retries).map_err(|_| inexpressible("max retry", retries))?;
        task = task.with_max_retry(retries);
    }
    if let Some(timeout) = input.timeout_ms {
        task = task.with_timeout(millis("timeout", timeout)?);
    }
    if let Some(deadline) = input.deadline_unix {
        task = task.with_deadline(time("deadline", deadline)?);
    }
    if let Some(ttl) = input.unique_ms {
        task = task.with_unique_ttl(millis("unique TTL", ttl)?);
    }
    if let Some(at) = input.process_at_unix {
        task = task.with_process_at(time("process at", at)?);
    }
    if let Some(delay) = input.process_in_ms {
        task = task.with_process_in(millis("process in", delay)?);
    }
    if let Some(retention) = input.retention_ms {
        task = task.with_retention(millis("retention", retention)?);
    }
    if let Some(group) = &input.group {
        task = task.with_group(group);
    }
    Ok(task)
}

pub(crate) fn task_info(info: &TaskInfo) -> GoTaskInfo {
    GoTaskInfo {
        id: info.id.to_string(),
        queue: info.queue.to_string(),
        r#type: info.task_type.clone(),
        payload: Some(info.payload.to_vec()),
        headers: info.headers.clone(),
        state: info.state.as_str().to_owned(),
        max_retry: info.max_retry.into(),
        retried: info.retried.into(),
        last_err: info.last_error.clone(),
        last_failed_at: info.last_failed_at.map_or(0, nanos),
        timeout_ms: info.timeout.map_or(0, whole_millis),
        deadline_unix: seconds(info.deadline),
        group: info.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        next_process_at_unix: seconds(info.next_process_at),
        is_orphaned: info.is_orphaned,
        retention_ms: whole_millis(info.retention),
        completed_at_unix: seconds(info.completed_at),
        result: info.result.as_ref().map(|bytes| bytes.to_vec()),
    }
}

pub(crate) fn queue_info(info: &QueueInfo) -> GoQueueInfo {
    GoQueueInfo {
        queue: info.queue.to_string(),
        memory_usage: info.memory_usage.map_or(0, |bytes| i64::try_from(bytes).unwrap()),
        latency_nanos: i64::try_from(info.latency.as_nanos()).unwrap(),
        size: info.size(),
        groups: info.groups,
        pending: info.pending,
        active: info.active,
        scheduled: info.scheduled,
        retry: info.retry,
        archived: info.archived,
        completed: info.completed,
        aggregating: info.aggregating,
        processed: info.processed,
        failed: info.failed,
        processed_total: info.processed_total,
        failed_total: info.failed_total,
        paused: info.paused,
        timestamp_unix_nanos: nanos(info.timestamp),
    }
}

pub(crate) fn nanos(at: DateTime<Utc>) -> i64 {
    at.timestamp_nanos_opt().unwrap()
}

fn seconds(at: Option<DateTime<Utc>>) -> i64 {
    at.map_or(0, |at| at.timestamp())
}

fn whole_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap()
}
