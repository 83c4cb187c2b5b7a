//! The kinds of findings, with their evidence.

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Serialize, Serializer};

use super::facts::DayRuns;
use crate::{
    names::{GroupKey, TaskId},
    signature::SignatureCount,
};

/// The seriousness of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing; nothing waits for it.
    Notice,
    /// Something does not go as it should.
    Warning,
    /// Tasks do not run, or may be lost.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// The servers of a queue that aggregate groups, as far as is known. Servers of Go do not publish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregators {
    /// A server of ours that takes from the queue aggregates groups.
    Running,
    /// No server that takes from the queue aggregates groups.
    None,
    /// A server of Go takes from the queue, or a server has not published its tree.
    Unknown,
}

/// Tasks of one type in a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TypeCount {
    /// The type.
    pub task_type: String,
    /// Number of its tasks in the sample.
    pub count: u64,
    /// The first of them.
    pub example: TaskId,
}

/// The kind of a finding, with the numbers, times and ids that it is based on. In JSON, its [name](Self::name) is the field
/// `kind`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// A part of the facts could not be read, so there may be more findings.
    Unreadable {
        /// The part.
        part: &'static str,
        /// The error.
        error: String,
    },
    /// No running server takes from a queue that has tasks to run.
    NoConsumer {
        /// Number of pending tasks.
        pending: u64,
        /// Number of scheduled and retry tasks that are late.
        late: u64,
        /// Time since which the task that runs next is pending.
        since: Option<DateTime<Utc>>,
    },
    /// No running server has a handler for the types of some tasks. Known if all servers of the queue are ours.
    UnhandledTypes {
        /// The types, the most frequent first; at most 10.
        types: Vec<TypeCount>,
        /// Number of tasks without a handler in the sample.
        tasks: u64,
        /// Size of the sample.
        looked_at: u64,
    },
    /// Redis may delete keys when its memory is full, and tasks with them.
    EvictionPolicy {
        /// The node of a cluster.
        node: Option<String>,
        /// The policy.
        policy: String,
    },
    /// The memory of Redis is nearly full. A full Redis refuses new tasks.
    MemoryNearLimit {
        /// The node of a cluster.
        node: Option<String>,
        /// Used bytes.
        used: u64,
        /// Largest number of bytes.
        limit: u64,
    },
    /// Many tasks wait for their retry after the same error.
    RetryStorm {
        /// The error, with its count in the sample.
        error: SignatureCount,
        /// Size of the sample.
        looked_at: u64,
        /// Number of all tasks in the state retry.
        retry: u64,
    },
    /// A much larger share of the runs fails today than yesterday (UTC).
    FailureJump {
        /// DayRuns of today.
        today: DayRuns,
        /// DayRuns of yesterday.
        yesterday: DayRuns,
    },
    /// The task that runs next has been pending for long, although servers take from the queue.
    OldestPending {
        /// Time since which it is pending.
        since: DateTime<Utc>,
        /// Duration of its wait.
        #[serde(rename = "waited_seconds", serialize_with = "seconds")]
        waited: Duration,
        /// Number of pending tasks.
        pending: u64,
    },
    /// A queue has been paused for long.
    PausedLong {
        /// Begin of the pause; `None` if it is not known.
        since: Option<DateTime<Utc>>,
        /// Number of tasks that wait for its end: pending ones, and scheduled and retry tasks that are late.
        waiting: u64,
    },
    /// Tasks wait in a group that is not aggregated.
    StuckGroup {
        /// The group that waits longest.
        group: GroupKey,
        /// Number of its tasks.
        size: u64,
        /// Time at which its first task joined the group.
        since: DateTime<Utc>,
        /// The servers that could aggregate it.
        aggregators: Aggregators,
        /// Number of such groups among those that were looked at.
        stuck: u64,
        /// Number of groups that were looked at.
        looked_at: u64,
        /// Number of all groups.
        groups: u64,
    },
    /// Tasks of servers that died are not recovered: their leases ended long ago.
    Orphans {
        /// Number of such leases.
        leases: u64,
        /// The task whose lease ended first.
        first: TaskId,
        /// Time at which its lease ended.
        ended: DateTime<Utc>,
    },
    /// Active tasks have no lease, so no server recovers them.
    ActiveWithoutLease {
        /// Least number of such tasks.
        at_least: u64,
        /// Some of them, at most 10.
        examples: Vec<TaskId>,
        /// Number of active tasks.
        active: u64,
        /// Number of leases.
        leases: u64,
    },
    /// Leases are left over: their tasks are not active.
    StaleLeases {
        /// Least number of such leases.
        at_least: u64,
        /// Some of their tasks, at most 10.
        examples: Vec<TaskId>,
    },
    /// Servers have put damaged tasks aside. They are kept as they were found, and are not run.
    Quarantine {
        /// Number of such tasks.
        tasks: u64,
    },
    /// A task of a scheduler is registered several times, and is enqueued several times.
    RepeatedEntry {
        /// The cron spec.
        spec: String,
        /// The type of its tasks.
        task_type: String,
        /// The ids of the entries, at most 10.
        entries: Vec<String>,
        /// Number of the entries.
        count: u64,
        /// Two tasks that different entries enqueued within less than half of the spec's interval.
        tasks: [TaskId; 2],
        /// Times of the two enqueues.
        at: [DateTime<Utc>; 2],
    },
    /// The clock of this host differs from that of Redis.
    ClockSkew {
        /// The node of a cluster.
        node: Option<String>,
        /// Time by which Redis is ahead of this host.
        #[serde(rename = "ahead_seconds", serialize_with = "signed_seconds")]
        ahead: TimeDelta,
        /// Uncertainty of that.
        #[serde(rename = "within_seconds", serialize_with = "seconds")]
        within: Duration,
    },
    /// The archive is nearly full, or its first tasks are nearly too old. Servers delete what is beyond: all but the last
    /// 9,999 tasks, and tasks older than 90 days.
    ArchiveNearLimit {
        /// Number of archived tasks.
        archived: u64,
        /// Largest number.
        limit: u64,
        /// Time at which the first of them was archived.
        first: Option<DateTime<Utc>>,
    },
}

impl FindingKind {
    /// The name of the kind, such as `no_consumer`, for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::NoConsumer { .. } => "no_consumer",
            Self::UnhandledTypes { .. } => "unhandled_types",
            Self::EvictionPolicy { .. } => "eviction_policy",
            Self::MemoryNearLimit { .. } => "memory_near_limit",
            Self::RetryStorm { .. } => "retry_storm",
            Self::FailureJump { .. } => "failure_jump",
            Self::OldestPending { .. } => "oldest_pending",
            Self::PausedLong { .. } => "paused_long",
            Self::StuckGroup { .. } => "stuck_group",
            Self::Orphans { .. } => "orphans",
            Self::ActiveWithoutLease { .. } => "active_without_lease",
            Self::StaleLeases { .. } => "stale_leases",
            Self::Quarantine { .. } => "quarantine",
            Self::RepeatedEntry { .. } => "repeated_entry",
            Self::ClockSkew { .. } => "clock_skew",
            Self::ArchiveNearLimit { .. } => "archive_near_limit",
        }
    }

    /// The order of kinds of one severity.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::NoConsumer { .. } => 0,
            Self::UnhandledTypes { .. } => 1,
            Self::EvictionPolicy { .. } => 2,
            Self::MemoryNearLimit { .. } => 3,
            Self::RetryStorm { .. } => 4,
            Self::ActiveWithoutLease { .. } => 5,
            Self::StuckGroup { .. } => 6,
            Self::Orphans { .. } => 7,
            Self::OldestPending { .. } => 8,
            Self::FailureJump { .. } => 9,
            Self::PausedLong { .. } => 10,
            Self::ClockSkew { .. } => 11,
            Self::RepeatedEntry { .. } => 12,
            Self::Quarantine { .. } => 13,
            Self::StaleLeases { .. } => 14,
            Self::ArchiveNearLimit { .. } => 15,
            Self::Unreadable { .. } => 16,
        }
    }
}

fn seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

fn signed_seconds<S: Serializer>(span: &TimeDelta, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_seconds_f64())
}
