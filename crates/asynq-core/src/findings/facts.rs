//! Facts that findings are made of.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskInfo},
    names::{GroupKey, QueueName, TaskId},
    tree::PublishedTree,
};

/// Number of ids of the active tasks, and of the leases, that [`Inspect::queue_facts`](crate::Inspect::queue_facts)
/// looks at.
pub const FACT_IDS: usize = 100;
/// Number of groups that [`Inspect::queue_facts`](crate::Inspect::queue_facts) looks at.
pub const FACT_GROUPS: usize = 100;

/// The facts about one queue, all of one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueueFacts {
    /// Its name.
    pub queue: QueueName,
    /// Tasks in the state pending.
    pub pending: u64,
    /// Tasks in the state active.
    pub active: u64,
    /// Tasks in the state scheduled.
    pub scheduled: u64,
    /// Tasks in the state retry.
    pub retry: u64,
    /// Tasks in the state archived.
    pub archived: u64,
    /// Tasks in the state completed.
    pub completed: u64,
    /// Number of leases.
    pub leases: u64,
    /// Number of damaged tasks that servers have put aside.
    pub quarantined: u64,
    /// The pause of the queue; `None` if it is not paused.
    pub pause: Option<Pause>,
    /// Time since which the task that runs next is pending; `None` if there is none, or it does not say.
    pub pending_since: Option<DateTime<Utc>>,
    /// DayRuns of today and of yesterday (UTC).
    pub runs: [DayRuns; 2],
    /// Number of scheduled and retry tasks that are late: due for longer than was asked about.
    pub late: u64,
    /// Number of leases that ended longer ago than was asked about, without the [stale](Self::stale_leases) ones.
    pub ended_leases: u64,
    /// The lease that ended first, or ends first, among those that were looked at and are not stale.
    pub first_lease: Option<(TaskId, DateTime<Utc>)>,
    /// Time at which the first task of the archive was archived.
    pub first_archived: Option<DateTime<Utc>>,
    /// The ids without a lease among the [`FACT_IDS`] tasks that have been active for longest.
    pub unleased: Vec<TaskId>,
    /// The ids whose task is not active among the [`FACT_IDS`] leases that end first.
    pub stale_leases: Vec<TaskId>,
    /// Number of groups in the index.
    pub groups: u64,
    /// Groups with waiting tasks: all of them, or those among [`FACT_GROUPS`] of the index, which differ from one call to
    /// the next.
    pub some_groups: Vec<GroupFacts>,
    /// Time of this reading.
    pub timestamp: DateTime<Utc>,
}

impl QueueFacts {
    /// A queue without tasks.
    #[must_use]
    pub fn empty(queue: QueueName, timestamp: DateTime<Utc>) -> Self {
        Self {
            queue,
            pending: 0,
            active: 0,
            scheduled: 0,
            retry: 0,
            archived: 0,
            completed: 0,
            leases: 0,
            quarantined: 0,
            pause: None,
            pending_since: None,
            runs: [DayRuns::default(); 2],
            late: 0,
            ended_leases: 0,
            first_lease: None,
            first_archived: None,
            unleased: Vec::new(),
            stale_leases: Vec::new(),
            groups: 0,
            some_groups: Vec::new(),
            timestamp,
        }
    }
}

/// The pause of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Its begin, in whole seconds; `None` if the key of the pause has no time in it.
    pub since: Option<DateTime<Utc>>,
}

/// The runs of a queue in one UTC day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DayRuns {
    /// Tasks processed, failures included.
    pub processed: u64,
    /// Tasks failed.
    pub failed: u64,
}

impl DayRuns {
    /// Returns the share of failures, 0 to 1; 0 without runs.
    #[must_use]
    pub fn failure_rate(self) -> f64 {
        if self.processed == 0 {
            0.0
        } else {
            self.failed.min(self.processed) as f64 / self.processed as f64
        }
    }
}

/// A group with waiting tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// Its name.
    pub group: GroupKey,
    /// Number of tasks that wait in it.
    pub size: u64,
    /// Time at which the first of them joined the group, in whole seconds.
    pub since: Option<DateTime<Utc>>,
}

/// The facts about a server that stores tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageFacts {
    /// `host:port`; `None` for the only server.
    pub node: Option<String>,
    /// The policy of Redis for a full memory, such as `noeviction`; `None` if the server does not say.
    pub eviction_policy: Option<String>,
    /// Memory that is used, in bytes.
    pub used_memory: Option<u64>,
    /// Memory that may be used, in bytes; `None` if it has no limit.
    pub max_memory: Option<u64>,
    /// The time of the server, and of this host.
    pub clock: Option<ClockFacts>,
}

/// The time of a server, compared with that of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockFacts {
    /// Time of the server.
    pub server: DateTime<Utc>,
    /// Time of this host's wall clock, without correction, in the middle of the question.
    pub host: DateTime<Utc>,
    /// Uncertainty: half of the time that the question took.
    pub within: Duration,
}

/// The facts about a queue, with samples of its tasks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueueReading {
    /// The facts.
    pub facts: QueueFacts,
    /// Some pending tasks, the next to run first.
    pub pending: Vec<TaskInfo>,
    /// Some tasks in the state retry, the next to run first.
    pub retry: Vec<TaskInfo>,
}

impl QueueReading {
    /// A reading without samples.
    #[must_use]
    pub fn new(facts: QueueFacts) -> Self {
        Self {
            facts,
            pending: Vec::new(),
            retry: Vec::new(),
        }
    }
}

/// A scheduler entry with its last enqueue events.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntryReading {
    /// The entry.
    pub entry: SchedulerEntry,
    /// Its events, newest first.
    pub events: Vec<SchedulerEnqueueEvent>,
}

impl EntryReading {
    /// An entry with its events.
    #[must_use]
    pub fn new(entry: SchedulerEntry, events: Vec<SchedulerEnqueueEvent>) -> Self {
        Self { entry, events }
    }
}

/// A part of the facts that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The queue, if it is about one.
    pub queue: Option<QueueName>,
    /// The part, such as `servers`.
    pub part: &'static str,
    /// The error.
    pub error: String,
}

/// All facts that findings are made of.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Facts {
    /// The time to which durations count, that of the storage.
    pub now: DateTime<Utc>,
    /// The queues.
    pub queues: Vec<QueueReading>,
    /// The living servers; `None` if they could not be read.
    pub servers: Option<Vec<ServerInfo>>,
    /// The supervision trees of our servers.
    pub trees: Vec<PublishedTree>,
    /// Scheduler entries that are registered several times.
    pub entries: Vec<EntryReading>,
    /// The servers that store the tasks; none for a storage in this process.
    pub storage: Vec<StorageFacts>,
    /// Parts that could not be read.
    pub unread: Vec<Unread>,
}
