//! A Go inspector.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    base64_bytes,
    process::{GoError, Process, Refusal},
    task::GoTaskInfo,
};

/// `asynq.Inspector` in a process of its own.
#[derive(Debug)]
pub struct GoInspector(Process);

/// `asynq.QueueInfo`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoQueueInfo {
    /// Its name.
    pub queue: String,
    /// About how many bytes its tasks take.
    pub memory_usage: i64,
    /// Time for which the next task has been waiting.
    pub latency_nanos: i64,
    /// All tasks.
    pub size: u64,
    /// Groups with tasks waiting.
    pub groups: u64,
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
    /// Tasks waiting in groups.
    pub aggregating: u64,
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
    /// Time of this reading.
    pub timestamp_unix_nanos: i64,
}

/// `asynq.GroupInfo`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoGroup {
    /// Its name.
    pub group: String,
    /// Number of tasks that wait in the group.
    pub size: u64,
}

/// `asynq.ServerInfo`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoServerInfo {
    /// A UUID v4.
    pub id: String,
    /// The host's name.
    pub host: String,
    /// The process id.
    pub pid: u32,
    /// Number of tasks that it runs at once.
    pub concurrency: u64,
    /// Its queues and their priorities.
    pub queues: BTreeMap<String, i32>,
    /// `true` if priorities are strict.
    pub strict_priority: bool,
    /// Time of its start.
    pub started_unix_nanos: i64,
    /// `active`, `stopped` …
    pub status: String,
    /// The tasks that it is running.
    pub active_workers: Vec<GoWorker>,
}

/// `asynq.WorkerInfo`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoWorker {
    /// The task.
    pub task_id: String,
    /// Its type.
    pub task_type: String,
    /// Its payload.
    #[serde(with = "base64_bytes")]
    pub task_payload: Option<Vec<u8>>,
    /// Its queue.
    pub queue: String,
    /// Start of this run.
    pub started_unix_nanos: i64,
    /// Time by which the run must have ended.
    pub deadline_unix_nanos: i64,
}

/// `asynq.SchedulerEntry`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoSchedulerEntry {
    /// A UUID v4.
    pub id: String,
    /// The cron spec.
    pub spec: String,
    /// The type of its tasks.
    pub task_type: String,
    /// Their payload.
    #[serde(with = "base64_bytes")]
    pub task_payload: Option<Vec<u8>>,
    /// The options that the library could read, as texts.
    pub options: Vec<String>,
    /// Time of its next tick; 0: never.
    pub next_unix_nanos: i64,
    /// Time of its last tick; 0: never.
    pub prev_unix_nanos: i64,
}

/// `asynq.SchedulerEnqueueEvent`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoEnqueueEvent {
    /// The task.
    pub task_id: String,
    /// Time of the enqueue.
    pub enqueued_at_unix_nanos: i64,
}

/// `asynq.DailyStats`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoDailyStats {
    /// The queue.
    pub queue: String,
    /// Tasks processed that day, failures included.
    pub processed: u64,
    /// Tasks failed that day.
    pub failed: u64,
    /// The UTC day: `yyyy-mm-dd`.
    pub date: String,
}

/// One line of `inspect`; what is left out takes the library's default.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Order<'a> {
    op: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    force: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
}

impl<'a> Order<'a> {
    fn new(op: &'a str) -> Self {
        Self { op, ..Self::default() }
    }

    fn of_queue(op: &'a str, queue: &'a str) -> Self {
        Self {
            queue: Some(queue),
            ..Self::new(op)
        }
    }

    fn of_task(op: &'a str, queue: &'a str, id: &'a str) -> Self {
        Self {
            id: Some(id),
            ..Self::of_queue(op, queue)
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    result: Value,
    #[serde(flatten)]
    refusal: Refusal,
}

/// More than any test makes: lists come in one page.
const PAGE: u32 = 1000;

impl GoInspector {
    /// Connects to the Redis at `host:port`, or at a URL.
    ///
    /// # Panics
    /// If the program cannot be built or started. So do all methods if it fails.
    pub async fn start(address: &str) -> Self {
        Self(Process::start("inspect", address, &[]).await)
    }

    async fn order<T: DeserializeOwned>(&mut self, order: Order<'_>) -> Result<T, GoError> {
        let Answer { ok, result, refusal } = self.0.ask(&order).await;
        if !ok {
            return Err(refusal.into());
        }
        let result = T::deserialize(result);
        Ok(result.unwrap_or_else(|error| panic!("the answer to {order:?}: {error}")))
    }

    /// An order that must be answered with a list.
    async fn items<T: DeserializeOwned>(&mut self, order: Order<'_>) -> Vec<T> {
        let answer = self.order(order).await;
        answer.unwrap_or_else(|error| panic!("Go does not answer {order:?}: {error}"))
    }

    /// The names of all queues, sorted.
    ///
    /// # Panics
    /// If Go refuses; so do the lists below.
    pub async fn queues(&mut self) -> Vec<String> {
        self.items(Order::new("queues")).await
    }

    /// A queue at this moment.
    ///
    /// # Errors
    /// The errors of the library, here and below.
    pub async fn queue_info(&mut self, queue: &str) -> Result<GoQueueInfo, GoError> {
        self.order(Order::of_queue("queue_info", queue)).await
    }

    /// One task.
    ///
    /// # Errors
    /// [`GoErrorKind::TaskNotFound`](crate::GoErrorKind::TaskNotFound) and others.
    pub async fn task_info(&mut self, queue: &str, id: &str) -> Result<GoTaskInfo, GoError> {
        self.order(Order::of_task("task_info", queue, id)).await
    }

    /// The tasks of one state other than aggregating.
    ///
    /// # Panics
    /// If Go refuses.
    pub async fn list(&mut self, queue: &str, state: &str) -> Vec<GoTaskInfo> {
        let order = Order {
            state: Some(state),
            size: Some(PAGE),
            ..Order::of_queue("list", queue)
        };
        self.items(order).await
    }

    /// The tasks of one group.
    ///
    /// # Panics
    /// If Go refuses.
    pub async fn list_group(&mut self, queue: &str, group: &str) -> Vec<GoTaskInfo> {
        let order = Order {
            state: Some("aggregating"),
            group: Some(group),
            size: Some(PAGE),
            ..Order::of_queue("list", queue)
        };
        self.items(order).await
    }

    /// The groups of a queue, sorted.
    ///
    /// # Panics
    /// If Go refuses.
    pub async fn groups(&mut self, queue: &str) -> Vec<GoGroup> {
        self.items(Order::of_queue("groups", queue)).await
    }

    /// The servers that live, with what they are running.
    ///
    /// # Panics
    /// If Go refuses.
    pub async fn servers(&mut self) -> Vec<GoServerInfo> {
        self.items(Order::new("servers")).await
    }

    /// The entries of the schedulers that live.
    ///
    /// # Errors
    /// The errors of the library, or its panic.
    pub async fn scheduler_entries(&mut self) -> Result<Vec<GoSchedulerEntry>, GoError> {
        self.order(Order::new("scheduler_entries")).await
    }

    /// Returns what an entry has enqueued, newest first; without a page the library's own default.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn enqueue_events(
        &mut self,
        entry_id: &str,
        page: Option<(u32, u32)>,
    ) -> Result<Vec<GoEnqueueEvent>, GoError> {
        let order = Order {
            entry_id: Some(entry_id),
            page: page.map(|(number, _)| number),
            size: page.map(|(_, size)| size),
            ..Order::new("enqueue_events")
        };
        self.order(order).await
    }

    /// Stops servers from taking tasks of the queue.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn pause(&mut self, queue: &str) -> Result<(), GoError> {
        self.order(Order::of_queue("pause", queue)).await
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn unpause(&mut self, queue: &str) -> Result<(), GoError> {
        self.order(Order::of_queue("unpause", queue)).await
    }

    /// Makes a waiting task pending now.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn run(&mut self, queue: &str, id: &str) -> Result<(), GoError> {
        self.order(Order::of_task("run", queue, id)).await
    }

    /// Archives a waiting task.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn archive(&mut self, queue: &str, id: &str) -> Result<(), GoError> {
        self.order(Order::of_task("archive", queue, id)).await
    }

    /// Deletes a task that is not active.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn delete(&mut self, queue: &str, id: &str) -> Result<(), GoError> {
        self.order(Order::of_task("delete", queue, id)).await
    }

    /// Replaces the payload of a scheduled task.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn update_payload(&mut self, queue: &str, id: &str, payload: &[u8]) -> Result<(), GoError> {
        let payload = STANDARD.encode(payload);
        let order = Order {
            payload: Some(&payload),
            ..Order::of_task("update_payload", queue, id)
        };
        self.order(order).await
    }

    /// Acts on all tasks of a state, or of a group: `run_all`, `archive_all` or `delete_all`. Returns their number.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn act_on_all(
        &mut self,
        act: &str,
        queue: &str,
        state: &str,
        group: Option<&str>,
    ) -> Result<u64, GoError> {
        let order = Order {
            state: Some(state),
            group,
            ..Order::of_queue(act, queue)
        };
        self.order(order).await
    }

    /// Deletes a queue.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn delete_queue(&mut self, queue: &str, force: bool) -> Result<(), GoError> {
        let order = Order {
            force: Some(force),
            ..Order::of_queue("delete_queue", queue)
        };
        self.order(order).await
    }

    /// The counters of the last days, today first.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn history(&mut self, queue: &str, days: u32) -> Result<Vec<GoDailyStats>, GoError> {
        let order = Order {
            days: Some(days),
            ..Order::of_queue("history", queue)
        };
        self.order(order).await
    }

    /// Asks all servers to cancel a running task.
    ///
    /// # Errors
    /// The errors of the library.
    pub async fn cancel(&mut self, id: &str) -> Result<(), GoError> {
        let order = Order {
            id: Some(id),
            ..Order::new("cancel")
        };
        self.order(order).await
    }
}
