//! Tasks and their runs.

use std::{collections::BTreeMap, time::Duration};

use asynq::{
    TaskInfo,
    task::{Progress, Run, RunOutcome},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{DataSchema, Redaction, Shown};

/// A task.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskRecord {
    /// Unique in its queue.
    pub id: String,
    /// Name of the queue.
    pub queue: String,
    /// Type, by which servers find its handler.
    #[serde(rename = "type")]
    pub task_type: String,
    /// `active`, `pending`, `aggregating`, `scheduled`, `retry`, `archived` or `completed`.
    pub state: &'static str,
    /// Time since which it is in its state, if that is known.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_since: Option<DateTime<Utc>>,
    /// Payload.
    #[schema(value_type = DataSchema)]
    pub payload: Shown,
    /// Headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Number of retries so far.
    pub retried: u32,
    /// Largest number of retries.
    pub max_retry: u32,
    /// Error of the last failure. Absent if there was none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// Time of the last failure.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed_at: Option<DateTime<Utc>>,
    /// Time at which it is due.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_process_at: Option<DateTime<Utc>>,
    /// Longest time of a run.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    /// Time by which it must be done.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// Group in which it waits, or waited, to be aggregated.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The lease of an active task has ended: its server died.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_orphaned: bool,
    /// Time for which it is kept once it has succeeded.
    pub retention_seconds: f64,
    /// Time at which it succeeded.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<DateTime<Utc>>,
    /// Result of the handler.
    #[schema(value_type = Option<DataSchema>, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Shown>,
    /// Progress of the run, as its handler reports it.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressRecord>,
    /// Last runs, the oldest one first. Absent if none are recorded.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<RunRecord>>,
    #[schema(nullable = false)]
    /// Number of runs without a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs_missing: Option<u32>,
    #[schema(nullable = false)]
    /// The task cannot be read, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

impl TaskRecord {
    /// Returns the record of a task.
    #[must_use]
    pub fn of(task: &TaskInfo, redaction: &Redaction) -> Self {
        Self {
            id: task.id.to_string(),
            queue: task.queue.to_string(),
            task_type: task.task_type.clone(),
            state: task.state.as_str(),
            state_since: task.state_since,
            payload: redaction.data(task.queue.as_str(), &task.task_type, &task.payload),
            headers: task.headers.clone(),
            retried: task.retried,
            max_retry: task.max_retry,
            last_error: task.last_error.clone(),
            last_failed_at: task.last_failed_at,
            next_process_at: task.next_process_at,
            timeout_seconds: task.timeout.as_ref().map(Duration::as_secs_f64),
            deadline: task.deadline,
            group: task.group.as_ref().map(ToString::to_string),
            is_orphaned: task.is_orphaned,
            retention_seconds: task.retention.as_secs_f64(),
            completed_at: task.completed_at,
            result: task
                .result
                .as_ref()
                .map(|result| redaction.data(task.queue.as_str(), &task.task_type, result)),
            progress: task.progress.as_ref().map(ProgressRecord::of),
            runs: task
                .runs
                .as_ref()
                .map(|runs| runs.recorded.iter().map(RunRecord::of).collect()),
            runs_missing: task
                .runs
                .as_ref()
                .map(|runs| runs.missing())
                .filter(|missing| *missing > 0),
            damage: task.damage.as_ref().map(ToString::to_string),
        }
    }
}

/// The progress of a run.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProgressRecord {
    /// Progress in per cent, 0 to 100.
    #[schema(maximum = 100)]
    pub percent: u8,
    /// Progress in words.
    pub note: String,
    /// Time of the report.
    pub at: DateTime<Utc>,
}

impl ProgressRecord {
    fn of(progress: &Progress) -> Self {
        Self {
            percent: progress.percent,
            note: progress.note.clone(),
            at: progress.at,
        }
    }
}

/// A run of a task.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunRecord {
    /// `done`, `retried`, `deferred`, `archived`, `given_back` or `other`.
    pub outcome: &'static str,
    /// Number of retries before it.
    pub retried: u32,
    /// Time of its start, if known.
    pub started: Option<DateTime<Utc>>,
    /// Time of its end, if known.
    pub ended: Option<DateTime<Utc>>,
    /// The server died, or lost its lease.
    pub is_lost: bool,
    /// `host:pid:id`.
    pub server: Option<String>,
    /// Error with which it ended. Absent if there was none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Runs before this one that have no record.
    pub missing_before: u32,
}

impl RunRecord {
    /// Returns the record of a run.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        Self {
            outcome: outcome(run.outcome),
            retried: run.retried,
            started: run.started,
            ended: run.ended,
            is_lost: run.is_lost(),
            server: run
                .server
                .as_ref()
                .map(|server| format!("{}:{}:{}", server.host, server.pid, server.server_id)),
            error: run.error.clone(),
            missing_before: run.missing_before,
        }
    }
}

/// Returns the end of a run in a word.
#[must_use]
pub fn outcome(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Done => "done",
        RunOutcome::Retried => "retried",
        RunOutcome::Deferred => "deferred",
        RunOutcome::Archived => "archived",
        RunOutcome::GivenBack => "given_back",
        _ => "other",
    }
}
