//! Servers with their workers, and the entries of schedulers.

use std::collections::BTreeMap;

use asynq::{
    TaskOptions,
    info::{SchedulerEntry, ServerInfo, WorkerInfo},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{DataSchema, Redaction, Shown};

/// A running server with its workers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerRecord {
    /// Id, new with each start.
    pub id: String,
    /// Name of its host.
    pub host: String,
    /// Id of its process.
    pub pid: i32,
    /// `new`, `active`, `stopped` or `closed`.
    pub state: &'static str,
    /// Time of its start.
    pub started: DateTime<Utc>,
    /// Largest number of tasks at a time.
    pub concurrency: i32,
    /// Number of tasks that run.
    pub active_workers: i32,
    /// The priorities of the queues.
    pub queues: BTreeMap<String, i32>,
    /// Queues with lower priorities wait until the others are empty.
    pub strict_priority: bool,
    /// Tasks that run.
    pub workers: Vec<WorkerRecord>,
}

impl ServerRecord {
    /// Returns the record of a server, with those of the workers that are its own.
    #[must_use]
    pub fn of(server: &ServerInfo, workers: &[WorkerInfo], redaction: &Redaction) -> Self {
        let own = |worker: &&WorkerInfo| {
            worker.server_id == server.server_id && worker.host == server.host && worker.pid == server.pid
        };
        Self::with(server, workers.iter().filter(own), redaction)
    }

    /// Returns the record of a server with its own workers.
    pub(crate) fn with<'w>(
        server: &ServerInfo,
        workers: impl IntoIterator<Item = &'w WorkerInfo>,
        redaction: &Redaction,
    ) -> Self {
        Self {
            id: server.server_id.clone(),
            host: server.host.clone(),
            pid: server.pid,
            state: server.status.as_str(),
            started: server.start_time,
            concurrency: server.concurrency,
            active_workers: server.active_worker_count,
            queues: server.queues.clone(),
            strict_priority: server.strict_priority,
            workers: workers
                .into_iter()
                .map(|worker| WorkerRecord::of(worker, redaction))
                .collect(),
        }
    }
}

/// A task that runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkerRecord {
    /// Id of the task.
    pub task: String,
    /// Type of the task.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Queue of the task.
    pub queue: String,
    /// Payload of the task.
    #[schema(value_type = DataSchema)]
    pub payload: Shown,
    /// Time of the start of the run.
    pub started: DateTime<Utc>,
    /// Time at which the run is cancelled.
    pub deadline: DateTime<Utc>,
}

impl WorkerRecord {
    /// Returns the record of a task that runs.
    #[must_use]
    pub fn of(worker: &WorkerInfo, redaction: &Redaction) -> Self {
        Self {
            task: worker.task_id.to_string(),
            task_type: worker.task_type.clone(),
            queue: worker.queue.to_string(),
            payload: redaction.data(worker.queue.as_str(), &worker.task_type, &worker.payload),
            started: worker.start_time,
            deadline: worker.deadline,
        }
    }
}

/// An entry of a scheduler.
#[derive(Debug, Serialize, ToSchema)]
pub struct EntryRecord {
    /// Id, new with each start of the scheduler.
    pub id: String,
    /// Cron spec, or `@every` and a duration.
    pub spec: String,
    /// Type of its tasks.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Payload of its tasks.
    #[schema(value_type = DataSchema)]
    pub payload: Shown,
    /// Options of its tasks, as Go writes them.
    pub options: Vec<String>,
    /// Time at which it is due next.
    pub next: Option<DateTime<Utc>>,
    /// Time at which it enqueued its last task.
    pub prev: Option<DateTime<Utc>>,
}

/// Returns the queue of an entry's tasks, `None` if its option `Queue` cannot be read.
pub(crate) fn queue_of(entry: &SchedulerEntry) -> Option<String> {
    let names_queue = |text: &&String| text.trim_start().starts_with("Queue");
    let is_read = |text: &String| TaskOptions::from_go_strings([text]) != TaskOptions::new();
    match entry.options.iter().filter(names_queue).all(is_read) {
        true => Some(entry.queue()),
        false => None,
    }
}

impl EntryRecord {
    /// Returns the record of an entry.
    #[must_use]
    pub fn of(entry: &SchedulerEntry, redaction: &Redaction) -> Self {
        Self {
            id: entry.id.clone(),
            spec: entry.spec.clone(),
            task_type: entry.task_type.clone(),
            payload: redaction.data(&entry.queue(), &entry.task_type, &entry.payload),
            options: entry.options.clone(),
            next: entry.next,
            prev: entry.prev,
        }
    }
}
