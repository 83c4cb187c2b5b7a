//! The settings of a server and of a client, checked all at once.

mod client;
mod limits;
mod settings;

use std::{fmt, sync::Arc, time::Duration};

use self::limits::outside;
pub use self::{
    client::{ClientConfig, ClientSettings},
    limits::{MAX_CONCURRENCY, MAX_PREFETCH, MAX_PRIORITY, message_limit_problem},
    settings::Settings,
};
use crate::{
    error::{ConfigError, ConfigFault, Result},
    handler::{ErrorHandler, HealthCheck, IsFailure, RetryDelay},
    options::{DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_TIMEOUT, MAX_DURATION, MIN_DURATION},
    shared_state::States,
};

/// The treatment of a task that no handler is registered for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownTask {
    /// The task fails with [`Error::HandlerNotFound`](crate::Error::HandlerNotFound), as in Go. The failure uses up a
    /// retry, and archives the task if no retry is left.
    #[default]
    Fail,
    /// The task is delayed by 5 to 10 s, so that another server that knows the type can take it. This uses up no
    /// retry and counts no failure. It repeats until a server knows the type or the task is deleted.
    GiveBack,
}

/// Settings of a server or an `AsynqSystem`. Setters never fail, except
/// [`group_grace_period`](Self::group_grace_period). [`validate`](Self::validate) returns all faults at once. Every
/// constructor that takes settings calls it.
///
/// Names and defaults are those of Go's `asynq.Config` unless said otherwise.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
    pub(crate) queues: Vec<(String, i32)>,
    pub(crate) strict_priority: bool,
    pub(crate) task_check_interval: Duration,
    pub(crate) delayed_task_check_interval: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) janitor_interval: Duration,
    pub(crate) janitor_batch_size: u32,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) recoverer_interval: Duration,
    pub(crate) recover_grace: Duration,
    pub(crate) syncer_interval: Duration,
    pub(crate) group_grace_period: Duration,
    pub(crate) group_max_delay: Duration,
    pub(crate) group_max_size: u32,
    pub(crate) group_check_interval: Option<Duration>,
    pub(crate) group_timeout: Duration,
    pub(crate) retry_delay: Option<RetryDelay>,
    pub(crate) is_failure: Option<IsFailure>,
    pub(crate) error_handler: Option<Arc<dyn ErrorHandler>>,
    pub(crate) health_check: Option<HealthCheck>,
    pub(crate) health_check_interval: Duration,
    pub(crate) states: States,
    pub(crate) unknown_task: UnknownTask,
    pub(crate) max_message_bytes: usize,
    pub(crate) trace_per_run: bool,
    pub(crate) statistics: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            concurrency: std::thread::available_parallelism().map_or(1, usize::from),
            prefetch: 0,
            queues: Vec::new(),
            strict_priority: false,
            task_check_interval: Duration::from_secs(1),
            delayed_task_check_interval: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(8),
            janitor_interval: Duration::from_secs(8),
            janitor_batch_size: 100,
            heartbeat_interval: Duration::from_secs(5),
            recoverer_interval: Duration::from_secs(60),
            recover_grace: crate::broker::RECOVER_GRACE,
            syncer_interval: Duration::from_secs(1),
            group_grace_period: Duration::from_secs(60),
            group_max_delay: Duration::ZERO,
            group_max_size: 0,
            group_check_interval: None,
            group_timeout: DEFAULT_TIMEOUT,
            retry_delay: None,
            is_failure: None,
            error_handler: None,
            health_check: None,
            health_check_interval: Duration::from_secs(15),
            states: States::new(),
            unknown_task: UnknownTask::Fail,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            trace_per_run: false,
            statistics: true,
        }
    }
}

impl ServerConfig {
    /// All defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of tasks that run at once, 1 to [`MAX_CONCURRENCY`]. Default: the number of usable CPUs.
    #[must_use]
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.concurrency = tasks;
        self
    }

    /// Sets how many tasks are taken ahead of the slots, 0 to [`MAX_PREFETCH`]. A slot that becomes free then has its
    /// next task without a round trip to the storage. Default: 0, none. Go has no such setting.
    ///
    /// Prefetch pays where few slots run short tasks, and most where the storage is far away: set it to one to five
    /// times [`concurrency`](Self::concurrency). Tasks that take longer than a few round trips gain nothing.
    ///
    /// A task that was taken ahead is active and has a lease, but is not shown as running. Slots take these tasks in
    /// the order of the take. A task that has found no slot within 2 s goes back to the front of its queue, and no
    /// retry is used. All of them go back, in their order, and none is taken ahead for the next 2 s, or up to 32 s if
    /// it happens again and again; then half as many are taken. They also go back when the server stops taking tasks,
    /// and at a shutdown.
    ///
    /// # Costs
    ///
    /// All promises about tasks hold: none is lost, and each one runs as often as it would without prefetch. These
    /// are weaker:
    ///
    /// - For up to 2 s, a task waits for a slot of this server although another server has a free one.
    /// - A task that arrives in a queue of higher priority starts after the tasks that were taken ahead. With
    ///   weights, the tasks that are taken ahead are split over the queues as slots are.
    /// - When a queue is paused, tasks that were taken before can start for another 2 s.
    /// - If the server dies, tasks that were taken ahead wait for the end of their lease, as running ones do: about
    ///   a minute. Servers of this project see that they may never have started, and give them back. A Go server
    ///   counts a failure.
    /// - The memory of so many more tasks is used.
    #[must_use]
    pub fn prefetch(mut self, tasks: usize) -> Self {
        self.prefetch = tasks;
        self
    }

    /// Sets the queues and their priorities, 1 to [`MAX_PRIORITY`]. Default: `default` with 1.
    ///
    /// Each free slot picks its queue at random, with a probability proportional to the priority, unless
    /// [`strict_priority`](Self::strict_priority) is set.
    #[must_use]
    pub fn queues<K: Into<String>>(mut self, queues: impl IntoIterator<Item = (K, i32)>) -> Self {
        self.queues = queues
            .into_iter()
            .map(|(name, priority)| (name.into(), priority))
            .collect();
        self
    }

    /// Sets whether a queue is served only when all queues of higher priority are empty. Default: off.
    #[must_use]
    pub fn strict_priority(mut self, strict: bool) -> Self {
        self.strict_priority = strict;
        self
    }

    /// Sets the pause between two checks when all queues are empty and the storage cannot notify us: half to one and
    /// a half times this value. 1 ms to 1 h, default 1 s.
    #[must_use]
    pub fn task_check_interval(mut self, interval: Duration) -> Self {
        self.task_check_interval = interval;
        self
    }

    /// Sets how often due tasks are looked for. 1 ms to 1 h, default 5 s.
    #[must_use]
    pub fn delayed_task_check_interval(mut self, interval: Duration) -> Self {
        self.delayed_task_check_interval = interval;
        self
    }

    /// Sets the time for which running tasks may continue after a shutdown began. After this time they are cancelled,
    /// get 2 s of grace, and are dropped and given back to their queue. 0 to 24 h, default 8 s.
    ///
    /// The whole shutdown takes at most this time plus 6 s, 14 s by default, whatever handlers and the storage do. If
    /// a process supervisor kills programs that do not end in time, give it at least that long.
    #[must_use]
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Sets the interval at which completed tasks whose retention has ended are deleted. 1 ms to 24 h, default 8 s.
    #[must_use]
    pub fn janitor_interval(mut self, interval: Duration) -> Self {
        self.janitor_interval = interval;
        self
    }

    /// Sets how many of them one call deletes, 1 to 10 000. Default: 100.
    #[must_use]
    pub fn janitor_batch_size(mut self, tasks: u32) -> Self {
        self.janitor_batch_size = tasks;
        self
    }

    /// Sets the interval at which leases are extended and the server publishes itself, 10 ms to 10 s. A lease lasts
    /// 30 s. Default: 5 s (a constant in Go).
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// Sets the interval at which tasks of dead servers are recovered and damage is repaired. This also happens once
    /// at the start. 10 ms to 24 h, default 60 s (a constant in Go).
    #[must_use]
    pub fn recoverer_interval(mut self, interval: Duration) -> Self {
        self.recoverer_interval = interval;
        self
    }

    /// Sets the time between the end of a lease and the recovery of its task, 0 to 1 h. Default: 30 s (a constant in
    /// Go). With less time, clocks that disagree can cause a task to run twice.
    #[must_use]
    pub fn recover_grace(mut self, grace: Duration) -> Self {
        self.recover_grace = grace;
        self
    }

    /// Sets the interval at which failed writes of outcomes are retried, 10 ms to 1 min. Default: 1 s (5 s in Go).
    #[must_use]
    pub fn syncer_interval(mut self, interval: Duration) -> Self {
        self.syncer_interval = interval;
        self
    }

    /// Sets the grace period of a group: its tasks are aggregated when no task has joined for this time. 1 s to 100
    /// years; fractions of a second are dropped. Default: 1 min.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) outside of this range (Go panics). No other setter can fail.
    pub fn group_grace_period(mut self, quiet: Duration) -> Result<Self> {
        if !(MIN_DURATION..=MAX_DURATION).contains(&quiet) {
            let fault = ConfigFault {
                field: "group_grace_period",
                problem: outside(MIN_DURATION, MAX_DURATION, quiet),
            };
            return Err(ConfigError { faults: vec![fault] }.into());
        }
        self.group_grace_period = quiet;
        Ok(self)
    }

    /// Sets the longest wait of the oldest task of a group, even if other tasks keep joining: 0 (no limit) or 1 s to
    /// 100 years; fractions of a second are dropped. Default: no limit.
    #[must_use]
    pub fn group_max_delay(mut self, delay: Duration) -> Self {
        self.group_max_delay = delay;
        self
    }

    /// Sets the size of a full group. That number of tasks, the oldest ones, are then aggregated at once, and never
    /// more together. 0, the default, means 10,000, which is also the maximum. Further tasks stay in the group for
    /// the next aggregation. (Go has no such limit.)
    #[must_use]
    pub fn group_max_size(mut self, tasks: u32) -> Self {
        self.group_max_size = tasks;
        self
    }

    /// Sets the interval at which groups are checked, 10 ms to 1 h. Default: 7 s, or the grace period if that is
    /// shorter (as in Go, where it cannot be set).
    #[must_use]
    pub fn group_check_interval(mut self, interval: Duration) -> Self {
        self.group_check_interval = Some(interval);
        self
    }

    /// Sets the time limit of the aggregator for the tasks of one set, 1 s to 24 h. After it the tasks return to
    /// their group. Default: 30 min (in Go 2 min, a constant).
    #[must_use]
    pub fn group_timeout(mut self, limit: Duration) -> Self {
        self.group_timeout = limit;
        self
    }

    /// Sets the delay before the next attempt of a failed task. Default: Go's formula, see
    /// [`default_retry_delay`](crate::handler::default_retry_delay).
    #[must_use]
    pub fn retry_delay(mut self, delay: RetryDelay) -> Self {
        self.retry_delay = Some(delay);
        self
    }

    /// Sets which errors count as failures. Default: all.
    #[must_use]
    pub fn is_failure(mut self, rule: IsFailure) -> Self {
        self.is_failure = Some(rule);
        self
    }

    /// Sets the error handler, which is called after every failed run. Default: none.
    #[must_use]
    pub fn error_handler(mut self, handler: impl ErrorHandler) -> Self {
        self.error_handler = Some(Arc::new(handler));
        self
    }

    /// Sets a health check, which is called at intervals with the state of the storage. Default: none.
    #[must_use]
    pub fn health_check(mut self, check: HealthCheck) -> Self {
        self.health_check = Some(check);
        self
    }

    /// Sets the interval of the health check, 10 ms to 1 h. Default: 15 s.
    #[must_use]
    pub fn health_check_interval(mut self, interval: Duration) -> Self {
        self.health_check_interval = interval;
        self
    }

    /// Sets the treatment of a task whose type has no handler. Default: [`UnknownTask::Fail`].
    #[must_use]
    pub fn unknown_task(mut self, then: UnknownTask) -> Self {
        self.unknown_task = then;
        self
    }

    /// Sets the limit of a handler's [result](crate::TaskContext::write_result), and of the encoded message of an
    /// aggregated task, in bytes; 1 KiB to 510 MiB. A larger result is refused with
    /// [`TaskError::TooLarge`](crate::TaskError::TooLarge) for `result`, and a larger aggregated task fails the
    /// aggregation. Default: 16 MiB.
    ///
    /// A result must reach the storage before the end of the lease that the task has when the result is sent, at
    /// least 30 s later.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets whether the span of each run begins a trace of its own, with a link to the span that enqueued the task.
    /// Default: off; the span of a run is then a child of the span that enqueued the task, and all runs of the task
    /// are in that trace. Turn it on where tasks wait or are retried for longer than a trace may last.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn trace_per_run(mut self, apart: bool) -> Self {
        self.trace_per_run = apart;
        self
    }

    /// Sets whether the server keeps [statistics](crate::statistics) of its runs in the storage, for
    /// [`Inspect::statistics`](crate::Inspect::statistics). Default: `true`. Go has no such statistics.
    ///
    /// # Costs
    ///
    /// A run costs a short lock and no command. Every 10 s, and at its end, the server sends one script for each queue in
    /// which something ran since. It writes two values of about 100 bytes for each task type that ran in this minute and hour.
    /// The storage keeps such values by server: 48 hours by minute, 90 days by hour. If tasks run in every minute, that comes
    /// to about 1.2 MB for a server and queue with one task type, and 0.6 MB for each further type. The server itself keeps
    /// the present minute and hour, and up to an hour by minute while the storage cannot be reached.
    #[must_use]
    pub fn statistics(mut self, keep: bool) -> Self {
        self.statistics = keep;
        self
    }

    /// Sets a value that all handlers share (Go: `BaseContext`). [`State`](crate::extract::State) arguments and
    /// [`TaskContext::states`](crate::TaskContext::states) find it by its type. There is one value of each type.
    #[must_use]
    pub fn state<S: Send + Sync + 'static>(mut self, state: S) -> Self {
        self.states.insert(state);
        self
    }

    /// The values that handlers share.
    #[must_use]
    pub fn states(&self) -> &States {
        &self.states
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("concurrency", &self.concurrency)
            .field("queues", &self.queues)
            .field("strict_priority", &self.strict_priority)
            .finish_non_exhaustive()
    }
}
