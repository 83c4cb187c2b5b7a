//! The arguments of the tools. Their descriptions and limits are in the schemas that the model sees.

use asynq::{TaskState, findings::Severity, inspector::Then};
use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{CliError, Result};

/// Checks a limit, which the schema states too.
///
/// # Errors
/// [`Status::Usage`](crate::error::Status::Usage).
pub(super) fn within(name: &str, given: Option<u64>, default: u64, most: u64) -> Result<u64> {
    match given.unwrap_or(default) {
        value if (1..=most).contains(&value) => Ok(value),
        value => Err(CliError::usage(format!("`{name}` is {value}, must be 1 to {most}"))),
    }
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Active,
    Pending,
    Aggregating,
    Scheduled,
    Retry,
    Archived,
    Completed,
}

impl From<State> for TaskState {
    fn from(state: State) -> Self {
        match state {
            State::Active => Self::Active,
            State::Pending => Self::Pending,
            State::Aggregating => Self::Aggregating,
            State::Scheduled => Self::Scheduled,
            State::Retry => Self::Retry,
            State::Archived => Self::Archived,
            State::Completed => Self::Completed,
        }
    }
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Notice,
    Warning,
    Critical,
}

impl From<Level> for Severity {
    fn from(level: Level) -> Self {
        match level {
            Level::Notice => Self::Notice,
            Level::Warning => Self::Warning,
            Level::Critical => Self::Critical,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Queues {
    /// Largest number of queues. Default: 50.
    #[schemars(range(min = 1, max = 200))]
    pub(super) limit: Option<u64>,
    /// Only queues whose names come after this one in the alphabet: the next part of the list.
    pub(super) after: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Queue {
    /// Name of the queue.
    pub(super) queue: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    /// Name of the queue.
    pub(super) queue: String,
    /// Number of days, today first. Default: 10.
    #[schemars(range(min = 1, max = 90))]
    pub(super) days: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListTasks {
    /// Name of the queue.
    pub(super) queue: String,
    /// State of the tasks.
    pub(super) state: State,
    /// Name of the group, which `aggregating` needs and no other state has.
    pub(super) group: Option<String>,
    /// Number of the page, from 1. Default: 1.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) page: Option<u64>,
    /// Tasks on a page. Default: 20.
    #[schemars(range(min = 1, max = 100))]
    pub(super) limit: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneTask {
    /// Name of the queue.
    pub(super) queue: String,
    /// Id of the task.
    pub(super) id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// The query, such as `queue=critical state=retry error~"timeout" age>1h payload.user_id=1002`.
    pub(super) query: String,
    /// Largest number of tasks to find. Default: 20.
    #[schemars(range(min = 1, max = 100))]
    pub(super) limit: Option<u64>,
    /// Largest number of tasks to look at. Default: 10000.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) look_at: Option<u64>,
    /// The `next_cursor` of the answer before: the search goes on there.
    pub(super) cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CountTasks {
    /// The query, such as `state=archived type^=email:`.
    pub(super) query: String,
    /// Largest number of tasks to look at. Default: 10000.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) look_at: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Workers {
    /// Only tasks of this queue. Default: all.
    pub(super) queue: Option<String>,
    /// Largest number of running tasks, the longest running ones first. Default: 50.
    #[schemars(range(min = 1, max = 200))]
    pub(super) limit: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    /// Id of the entry, as `scheduler_entries` lists it.
    pub(super) entry: String,
    /// Number of the page, from 1. Default: 1.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) page: Option<u64>,
    /// Events on a page, newest first. Default: 20.
    #[schemars(range(min = 1, max = 200))]
    pub(super) limit: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Findings {
    /// Only what is about this queue. Default: everything.
    pub(super) queue: Option<String>,
    /// Least severity. Default: `notice`.
    pub(super) severity: Option<Level>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Errors {
    /// Name of the queue.
    pub(super) queue: String,
    /// States of the tasks. Default: `retry` and `archived`.
    pub(super) states: Option<Vec<State>>,
    /// Largest number of tasks to look at. Default: 10000.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) look_at: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    /// Only this queue. Default: all. Not with `place`.
    pub(super) queue: Option<String>,
    /// The `next_place` of the answer before: the check goes on there, also in one queue if it was one.
    pub(super) place: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Trail {
    /// Largest number of acts, newest first. Default: 30.
    #[schemars(range(min = 1, max = 200))]
    pub(super) limit: Option<u64>,
    /// Only acts on this queue.
    pub(super) queue: Option<String>,
    /// Only acts of the operator of this name.
    pub(super) actor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedisInfo {
    /// Return everything that `INFO` says, instead of what matters most here. Default: false.
    #[serde(default)]
    pub(super) all: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CronRuns {
    /// The cron spec: five fields, `@daily` and the like, or `@every 90s`.
    pub(super) spec: String,
    /// Number of times. Default: 5.
    #[schemars(range(min = 1, max = 100))]
    pub(super) count: Option<u64>,
    /// Time zone of the IANA database, such as `Europe/Berlin`. Default: UTC. A zone in the spec counts more.
    pub(super) time_zone: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActOnTask {
    /// Name of the queue.
    pub(super) queue: String,
    /// Id of the task.
    pub(super) id: String,
    /// Reason for the act, for the audit trail; at most 1024 bytes.
    #[schemars(length(min = 1, max = 1024))]
    pub(super) reason: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActOnQueue {
    /// Name of the queue.
    pub(super) queue: String,
    /// Reason for the act, for the audit trail; at most 1024 bytes.
    #[schemars(length(min = 1, max = 1024))]
    pub(super) reason: String,
}

/// The fate of a task whose run is cancelled.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// It is retried as after any failure.
    #[default]
    Retry,
    /// It is archived.
    Archive,
    /// It is deleted.
    Delete,
}

impl From<Fate> for Then {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Retry => Self::Retry,
            Fate::Archive => Self::Archive,
            Fate::Delete => Self::Delete,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelTask {
    /// Name of the queue.
    pub(super) queue: String,
    /// Id of the task, which must be active.
    pub(super) id: String,
    /// Fate of the task. Default: `retry`.
    #[serde(default)]
    pub(super) then: Fate,
    /// Reason for the act, for the audit trail; at most 1024 bytes.
    #[schemars(length(min = 1, max = 1024))]
    pub(super) reason: String,
}

/// An act on several tasks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Act {
    /// Makes scheduled, retry, archived and aggregating tasks pending.
    Run,
    /// Archives pending, scheduled, retry and aggregating tasks.
    Archive,
    /// Deletes tasks of all states but active.
    Delete,
}

impl From<Act> for asynq::inspector::Act {
    fn from(act: Act) -> Self {
        match act {
            Act::Run => Self::Run,
            Act::Archive => Self::Archive,
            Act::Delete => Self::Delete,
        }
    }
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActByQuery {
    /// The query that finds the tasks, such as `queue=critical state=archived error~"timeout"`.
    pub(super) query: String,
    /// The act.
    pub(super) act: Act,
    /// Only count the tasks, and change nothing. Default: true.
    #[serde(default = "yes")]
    pub(super) dry_run: bool,
    /// Largest number of tasks to act on. Default: 100.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) limit: Option<u64>,
    /// Reason for the act, for the audit trail; at most 1024 bytes.
    #[schemars(length(min = 1, max = 1024))]
    pub(super) reason: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EnqueueTask {
    /// Type of the task, by which servers find its handler.
    #[serde(rename = "type")]
    pub(super) task_type: String,
    /// Payload as a JSON value. Default: none.
    pub(super) payload: Option<Value>,
    /// Payload as a text, as it is, instead of `payload`.
    pub(super) payload_text: Option<String>,
    /// Name of the queue. Default: `default`.
    pub(super) queue: Option<String>,
    /// Id of the task; one that exists is refused. Default: a random one.
    pub(super) id: Option<String>,
    /// Largest number of retries. Default: 25.
    #[schemars(range(min = 0, max = 1000))]
    pub(super) max_retry: Option<u64>,
    /// Longest time of one run. Default: 1800.
    #[schemars(range(min = 1))]
    pub(super) timeout_seconds: Option<u64>,
    /// Time until the first run. Default: none.
    pub(super) process_in_seconds: Option<u64>,
    /// Time for which the task is kept once it has succeeded. Default: none.
    pub(super) retention_seconds: Option<u64>,
    /// Reason for the act, for the audit trail; at most 1024 bytes.
    #[schemars(length(min = 1, max = 1024))]
    pub(super) reason: String,
}
