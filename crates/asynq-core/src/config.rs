//! The settings of a server and of a client, checked all at once.

mod client;
mod limits;
mod settings;

use std::{fmt, sync::Arc, time::Duration};

use self::limits::outside;
pub use self::{
    client::{ClientConfig, ClientSettings},
    limits::{MAX_CONCURRENCY, MAX_PRIORITY, message_limit_problem},
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
    /// The task fails with [`Error::HandlerNotFound`](crate::Error::HandlerNotFound), as in Go: a retry is used,
    /// and when none is left it is archived.
    #[default]
    Fail,
    /// The task is put back for 5 to 10 s, so that another server that knows the type can take it. No retry is
    /// used, and it is no failure: it is put back until a server knows the type, or it is deleted.
    GiveBack,
}

/// Settings of a server or an `AsynqSystem`. Setters never fail, but for
/// [`group_grace_period`](Self::group_grace_period); [`validate`](Self::validate) reports every
/// fault at once, and whatever takes a config calls it.
///
/// Names and defaults are those of Go's `asynq.Config` unless said otherwise.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) concurrency: usize,
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
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            concurrency: std::thread::available_parallelism().map_or(1, usize::from),
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
        }
    }
}

impl ServerConfig {
    /// All defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many tasks run at once, 1 to [`MAX_CONCURRENCY`]. Default: the number of usable CPUs.
    #[must_use]
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.concurrency = tasks;
        self
    }

    /// Sets the queues and their priorities, 1 to [`MAX_PRIORITY`]. Default: `default` with 1.
    ///
    /// Each free slot draws its queue with a probability proportional to the priority, unless
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

    /// Sets how long to wait before looking again when all queues are empty and the storage cannot
    /// wake us: half to one and a half times this. 1 ms to 1 h, default 1 s.
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

    /// Sets how long running tasks may go on after a shutdown began. Then they are cancelled, given 2 s
    /// of grace, dropped, and given back to their queue. 0 to 24 h, default 8 s.
    ///
    /// The whole shutdown takes no longer than this and 6 s, 14 s by default, whatever handlers and the
    /// storage do. Where a supervisor of processes kills what does not end in time, give it that long.
    #[must_use]
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Sets how often completed tasks whose retention is over are looked for. 1 ms to 24 h, default 8 s.
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

    /// Sets how often leases are extended and the server shows itself, 10 ms to 10 s; the lease is 30 s.
    /// Default: 5 s (a constant in Go).
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// Sets how often tasks of dead servers are looked for, and damage is repaired; also once at the start. 10 ms to
    /// 24 h, default 60 s (a constant in Go).
    #[must_use]
    pub fn recoverer_interval(mut self, interval: Duration) -> Self {
        self.recoverer_interval = interval;
        self
    }

    /// Sets how long a lease must have been over before its task is taken from its owner, 0 to 1 h.
    /// Default: 30 s (a constant in Go). Below it, clocks that disagree can run a task twice.
    #[must_use]
    pub fn recover_grace(mut self, grace: Duration) -> Self {
        self.recover_grace = grace;
        self
    }

    /// Sets how often outcomes whose write failed are retried, 10 ms to 1 min. Default: 1 s (5 s in Go).
    #[must_use]
    pub fn syncer_interval(mut self, interval: Duration) -> Self {
        self.syncer_interval = interval;
        self
    }

    /// Sets how long no task must have joined a group before its tasks are aggregated, 1 s to 100 years;
    /// fractions of a second are cut. Each new task begins it anew. Default: 1 min.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) outside of this range (Go panics). The only setter
    /// that can fail.
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

    /// Sets how long the oldest task of a group may wait, even if others keep joining: 0 (no limit) or
    /// 1 s to 100 years; fractions of a second are cut. Default: no limit.
    #[must_use]
    pub fn group_max_delay(mut self, delay: Duration) -> Self {
        self.group_max_delay = delay;
        self
    }

    /// Sets the size at which a group is full: that many tasks, the oldest, are then aggregated at once, and never
    /// more together. 0, the default: 10,000, which is also the most; the rest stays in the group and is aggregated
    /// next. (Go has no such limit.)
    #[must_use]
    pub fn group_max_size(mut self, tasks: u32) -> Self {
        self.group_max_size = tasks;
        self
    }

    /// Sets how often groups are looked at, 10 ms to 1 h. Default: 7 s, or the grace period if that is
    /// shorter (as in Go, where it cannot be set).
    #[must_use]
    pub fn group_check_interval(mut self, interval: Duration) -> Self {
        self.group_check_interval = Some(interval);
        self
    }

    /// Sets how long the aggregator may take for the tasks of one set, 1 s to 24 h; beyond it they
    /// return to their group. Default: 30 min (in Go 2 min, a constant).
    #[must_use]
    pub fn group_timeout(mut self, limit: Duration) -> Self {
        self.group_timeout = limit;
        self
    }

    /// Sets how long to wait before the next attempt of a failed task. Default: Go's formula, see
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

    /// Sets a health check, which is called at intervals with the answer of the storage. Default: none.
    #[must_use]
    pub fn health_check(mut self, check: HealthCheck) -> Self {
        self.health_check = Some(check);
        self
    }

    /// Sets how often the storage's health is checked, 10 ms to 1 h. Default: 15 s.
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

    /// Sets how large a [result](crate::TaskContext::write_result) of a handler, and the encoded message of an
    /// aggregated task, may be, in bytes; 1 KiB to 510 MiB. Beyond it a result is
    /// refused with [`TaskError::TooLarge`](crate::TaskError::TooLarge) for `result`, and an aggregation fails.
    /// Default: 16 MiB.
    ///
    /// A result must reach the storage while the lease stands that the task has when it is sent: within 30 s at
    /// the least.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets a value that all handlers share, found by its type: by [`State`](crate::extract::State) arguments and
    /// [`TaskContext::states`](crate::TaskContext::states) (Go: `BaseContext`). One of each type.
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
