//! Queues and the errors of their tasks.

use asynq::{
    error::Error,
    info::QueueInfo,
    inspector::{ErrorSignatures, SignatureCount},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::told;

/// The numbers of a queue.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueRecord {
    /// Name.
    pub queue: String,
    /// Servers take no tasks from it.
    pub paused: bool,
    /// Number of all tasks.
    pub size: u64,
    /// Number of groups with tasks.
    pub groups: u64,
    /// Number of tasks that run.
    pub active: u64,
    /// Number of tasks that wait for a server.
    pub pending: u64,
    /// Number of tasks that wait in groups.
    pub aggregating: u64,
    /// Number of tasks that wait for their time.
    pub scheduled: u64,
    /// Number of tasks that wait for their retry.
    pub retry: u64,
    /// Number of archived tasks.
    pub archived: u64,
    /// Number of tasks that have succeeded and are kept.
    pub completed: u64,
    /// Today (UTC), failures included.
    pub processed: u64,
    /// Failures today (UTC).
    pub failed: u64,
    /// Processed ever, failures included.
    pub processed_total: u64,
    /// Failures ever.
    pub failed_total: u64,
    /// Time for which the pending task that runs next has waited.
    pub latency_seconds: f64,
    /// Memory that the queue takes, an estimate. `null` if it is not known.
    pub memory_bytes: Option<u64>,
    /// Time of these numbers.
    pub timestamp: DateTime<Utc>,
}

impl QueueRecord {
    /// Returns the record of a queue.
    #[must_use]
    pub fn of(queue: &QueueInfo) -> Self {
        Self {
            queue: queue.queue.to_string(),
            paused: queue.paused,
            size: queue.size(),
            groups: queue.groups,
            active: queue.active,
            pending: queue.pending,
            aggregating: queue.aggregating,
            scheduled: queue.scheduled,
            retry: queue.retry,
            archived: queue.archived,
            completed: queue.completed,
            processed: queue.processed,
            failed: queue.failed,
            processed_total: queue.processed_total,
            failed_total: queue.failed_total,
            latency_seconds: queue.latency.as_secs_f64(),
            memory_bytes: queue.memory_usage,
            timestamp: queue.timestamp,
        }
    }
}

/// A queue whose numbers cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UnreadableQueue {
    /// Name.
    pub queue: String,
    /// The kind of the error, for programs, as in the errors of the API. `late` if there was no time left for the queue.
    pub code: &'static str,
    /// The error in words.
    pub error: String,
}

impl UnreadableQueue {
    /// Returns the record of a queue with this error; `None` if there was no time left for it.
    #[must_use]
    pub(crate) fn of(queue: &str, error: Option<&Error>) -> Self {
        let (code, error) = error.map_or_else(|| ("late", "there was no time left to read it".to_owned()), told);
        Self {
            queue: queue.to_owned(),
            code,
            error,
        }
    }
}

/// The errors of the tasks of a queue, grouped.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignaturesRecord {
    /// Name of the queue.
    pub queue: String,
    /// The most frequent ones, the most frequent one first.
    pub top: Vec<SignatureRecord>,
    /// Number of different ones.
    pub different: u64,
    /// Number of tasks that were looked at.
    pub looked_at: u64,
    /// Number of these tasks that have no error.
    pub without_error: u64,
    /// Number of these tasks whose data cannot be read.
    pub unreadable: u64,
    /// Number of tasks there are.
    pub total: u64,
    /// All of them were looked at.
    pub complete: bool,
}

impl SignaturesRecord {
    /// Returns the record of a queue's errors.
    #[must_use]
    pub fn of(queue: &str, errors: ErrorSignatures) -> Self {
        let complete = errors.is_complete();
        Self {
            queue: queue.to_owned(),
            complete,
            top: errors.top.into_iter().map(SignatureRecord::of).collect(),
            different: errors.different,
            looked_at: errors.looked_at,
            without_error: errors.without_error,
            unreadable: errors.unreadable,
            total: errors.total,
        }
    }
}

/// The tasks whose last errors have one signature.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignatureRecord {
    /// The error without its numbers, ids and quoted parts.
    pub signature: String,
    /// Number of the tasks, among those that were looked at.
    pub count: u64,
    /// Id of the task that failed first.
    pub first: String,
    /// Time of its failure.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// Id of the task that failed last.
    pub last: String,
    /// Time of its failure.
    pub last_failed_at: Option<DateTime<Utc>>,
    /// Error of the task that failed last.
    pub example: String,
}

impl SignatureRecord {
    fn of(count: SignatureCount) -> Self {
        Self {
            signature: count.signature,
            count: count.count,
            first: count.first.to_string(),
            first_failed_at: count.first_failed_at,
            last: count.last.to_string(),
            last_failed_at: count.last_failed_at,
            example: count.example,
        }
    }
}
