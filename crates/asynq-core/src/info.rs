//! Values for inspectors: tasks, queues, servers and schedulers.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};

use crate::{
    clock::from_unix_secs,
    error::PoisonKind,
    identity::ServerIdentity,
    message::TaskMessage,
    names::{DEFAULT_QUEUE, GroupKey, QueueName, TaskId},
    options::TaskOptions,
    progress::Progress,
    runs::Runs,
    task_state::TaskState,
};

/// A task as the storage holds it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskInfo {
    /// Its id, unique in its queue.
    pub id: TaskId,
    /// Its queue.
    pub queue: QueueName,
    /// Its type.
    pub task_type: String,
    /// Payload of the task. The storage does not distinguish an absent payload from an empty one.
    pub payload: Bytes,
    /// Its headers (Go 0.26 and later).
    pub headers: BTreeMap<String, String>,
    /// State of the task.
    pub state: TaskState,
    /// Time at which it came into its state: when it became pending, joined its group, failed, was archived or succeeded.
    /// Not known for active and scheduled tasks.
    pub state_since: Option<DateTime<Utc>>,
    /// Largest number of retries.
    pub max_retry: u32,
    /// Number of retries used.
    pub retried: u32,
    /// The text of its last failure; empty: none.
    pub last_error: String,
    /// Time of the last failure.
    pub last_failed_at: Option<DateTime<Utc>>,
    /// Longest duration of one run. `None` means that the task has no timeout. Negative values, which other programs
    /// may write, are shown as zero.
    pub timeout: Option<Duration>,
    /// Time by which it must have ended.
    pub deadline: Option<DateTime<Utc>>,
    /// The group it was enqueued for.
    pub group: Option<GroupKey>,
    /// Time of the next run; `now` for pending tasks, `None` if there is no next run.
    pub next_process_at: Option<DateTime<Utc>>,
    /// `true` if the task is active and its lease has ended.
    pub is_orphaned: bool,
    /// Time for which it is kept after success; zero: not at all.
    pub retention: Duration,
    /// Time of its success.
    pub completed_at: Option<DateTime<Utc>>,
    /// The result that its handler wrote.
    pub result: Option<Bytes>,
    /// Progress of its run, or of the last one, if its handler reported any.
    pub progress: Option<Progress>,
    /// Runs of the task that have ended. `None` in lists and after an enqueue, which do not read them; see
    /// [`Inspect::task_info`](crate::Inspect::task_info).
    pub runs: Option<Runs>,
    /// The damage of a task whose data cannot be read or are gone. Only its id, queue and state are then known.
    /// `None` for almost all tasks.
    pub damage: Option<PoisonKind>,
}

impl TaskInfo {
    /// Returns the view of a stored message, without progress and runs, and without the time at which a task became
    /// pending, joined its group or was archived, which is not in the message. `queue` and `id` are those of the place
    /// where the message was found.
    #[must_use]
    pub fn from_message(
        queue: &QueueName,
        id: &TaskId,
        message: &TaskMessage,
        state: TaskState,
        next_process_at: Option<DateTime<Utc>>,
        result: Option<Bytes>,
    ) -> Self {
        Self {
            id: id.clone(),
            queue: queue.clone(),
            task_type: message.r#type.clone(),
            payload: message.payload.clone(),
            headers: message.headers.clone(),
            state,
            state_since: match state {
                TaskState::Retry => from_unix_secs(message.last_failed_at),
                TaskState::Completed => from_unix_secs(message.completed_at),
                _ => None,
            },
            max_retry: u32::try_from(message.retry).unwrap_or(0),
            retried: u32::try_from(message.retried).unwrap_or(0),
            last_error: message.error_msg.clone(),
            last_failed_at: from_unix_secs(message.last_failed_at),
            timeout: (message.timeout != 0).then(|| secs(message.timeout)),
            deadline: from_unix_secs(message.deadline),
            group: GroupKey::new(&message.group_key).ok(),
            next_process_at,
            is_orphaned: false,
            retention: secs(message.retention),
            completed_at: from_unix_secs(message.completed_at),
            result: result.filter(|bytes| !bytes.is_empty()),
            progress: None,
            runs: None,
            damage: None,
        }
    }

    /// Returns the view of an id without a usable task. All fields except id, queue and state are empty.
    #[must_use]
    pub fn damaged(queue: &QueueName, id: &TaskId, state: TaskState, kind: PoisonKind) -> Self {
        Self {
            damage: Some(kind),
            ..Self::from_message(queue, id, &TaskMessage::default(), state, None, None)
        }
    }
}

fn secs(value: i64) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}

/// The numbers of a queue at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueueInfo {
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
    /// Number of tasks in the state aggregating: those that wait in groups, and those that are being aggregated. Go
    /// counts only the first.
    pub aggregating: u64,
    /// Groups with tasks waiting.
    pub groups: u64,
    /// Tasks processed today (UTC), failures included.
    pub processed: u64,
    /// Tasks failed today (UTC).
    pub failed: u64,
    /// Tasks ever processed.
    pub processed_total: u64,
    /// Tasks ever failed.
    pub failed_total: u64,
    /// `true` if the queue is paused: nothing is taken from it.
    pub paused: bool,
    /// Time for which the next task has been waiting.
    pub latency: Duration,
    /// Approximate size of the queue's tasks in bytes; `None` if the storage cannot tell.
    pub memory_usage: Option<u64>,
    /// Time of this reading.
    pub timestamp: DateTime<Utc>,
}

impl QueueInfo {
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
            aggregating: 0,
            groups: 0,
            processed: 0,
            failed: 0,
            processed_total: 0,
            failed_total: 0,
            paused: false,
            latency: Duration::ZERO,
            memory_usage: None,
            timestamp,
        }
    }

    /// Returns the number of all tasks, whatever their state.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pending + self.active + self.scheduled + self.retry + self.archived + self.completed + self.aggregating
    }
}

/// A group with tasks, waiting or being aggregated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub group: GroupKey,
    /// Number of tasks that wait in the group.
    pub size: u64,
    /// Number of tasks that are being aggregated, or that will be handed back because their aggregation failed. Go
    /// shows none of them.
    pub in_sets: u64,
}

/// One day of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyStats {
    /// The UTC day.
    pub date: NaiveDate,
    /// Tasks processed that day, failures included.
    pub processed: u64,
    /// Tasks failed that day.
    pub failed: u64,
}

/// A running server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// The host's name, or `unknown-host`.
    pub host: String,
    /// The process id.
    pub pid: i32,
    /// A UUID v4 for each server object.
    pub server_id: String,
    /// Number of tasks that the server runs at once.
    pub concurrency: i32,
    /// Its queues and their priorities as configured.
    pub queues: BTreeMap<String, i32>,
    /// `true` if priorities are strict.
    pub strict_priority: bool,
    /// Status of the server.
    pub status: ServerStatus,
    /// Time of its start.
    pub start_time: DateTime<Utc>,
    /// Number of tasks that it is running.
    pub active_worker_count: i32,
}

impl From<&ServerInfo> for ServerIdentity {
    fn from(info: &ServerInfo) -> Self {
        Self {
            host: info.host.clone(),
            pid: info.pid,
            server_id: info.server_id.clone(),
        }
    }
}

/// The status of a server, in Go's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerStatus {
    /// The server is not started.
    New,
    /// Taking tasks.
    Active,
    /// Finishing what it took.
    Stopped,
    /// Shut down.
    Closed,
}

impl ServerStatus {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Active => "active",
            Self::Stopped => "stopped",
            Self::Closed => "closed",
        }
    }

    /// Parses the name on the wire. An unknown name counts as active, because the server is alive.
    #[must_use]
    pub fn from_wire(text: &str) -> Self {
        match text {
            "new" => Self::New,
            "stopped" => Self::Stopped,
            "closed" => Self::Closed,
            _ => Self::Active,
        }
    }
}

/// A task being run by a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    /// The server's host.
    pub host: String,
    /// The server's process id.
    pub pid: i32,
    /// The server.
    pub server_id: String,
    /// The task.
    pub task_id: TaskId,
    /// Its type.
    pub task_type: String,
    /// Its payload.
    pub payload: Bytes,
    /// Its queue.
    pub queue: QueueName,
    /// Start of this run.
    pub start_time: DateTime<Utc>,
    /// Time by which the run must have ended.
    pub deadline: DateTime<Utc>,
}

/// A periodic task as its scheduler publishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerEntry {
    /// A UUID v4.
    pub id: String,
    /// The cron spec as it was registered. If the entry has its own time zone, the spec has it as a `CRON_TZ=`
    /// prefix.
    pub spec: String,
    /// The type of its tasks.
    pub task_type: String,
    /// Their payload.
    pub payload: Bytes,
    /// The options given at registration, in Go's text form, each `Name(argument)`.
    pub options: Vec<String>,
    /// Next due time; `None`: never.
    pub next: Option<DateTime<Utc>>,
    /// Due time of the last tick, also if another scheduler enqueued its task or the task was refused. `None` if the
    /// scheduler has had no tick since its start.
    pub prev: Option<DateTime<Utc>>,
}

impl SchedulerEntry {
    /// Parses the [`options`](Self::options), and leaves out those that cannot be read; see
    /// [`from_go_strings`](TaskOptions::from_go_strings).
    #[must_use]
    pub fn task_options(&self) -> TaskOptions {
        TaskOptions::from_go_strings(&self.options)
    }

    /// Returns the name of the queue of its tasks: that of the options, or `default`.
    #[must_use]
    pub fn queue(&self) -> String {
        self.task_options().queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned())
    }
}

/// One firing of a scheduler entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerEnqueueEvent {
    /// The task enqueued.
    pub task_id: TaskId,
    /// Time of the enqueue.
    pub enqueued_at: DateTime<Utc>,
}
