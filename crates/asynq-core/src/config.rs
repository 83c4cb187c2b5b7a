//! The settings of a server, checked all at once.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use crate::{
    error::{ConfigError, ConfigFault, Result},
    excerpt::Excerpt,
    handler::{ErrorHandler, HealthCheck, IsFailure, RetryDelay},
    keys::DEFAULT_QUEUE,
    names::QueueName,
    options::{DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_TIMEOUT, MAX_DURATION, MAX_MESSAGE_BYTES, MIN_DURATION},
    states::States,
};

/// The most tasks one server runs at once. Our limit.
pub const MAX_CONCURRENCY: usize = 1_000_000;
/// The highest priority of a queue. Our limit.
pub const MAX_PRIORITY: i32 = 1_000_000;
/// The longest wait between two looks at the groups, where none is set.
const GROUP_CHECK_INTERVAL: Duration = Duration::from_secs(7);

/// The smallest limit for messages that can be set.
const MIN_MESSAGE_LIMIT: usize = 1 << 10;

/// What becomes of a task that no handler is registered for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownTask {
    /// It fails with [`Error::HandlerNotFound`](crate::Error::HandlerNotFound), as in Go: a retry
    /// is used up, and when none is left it is archived.
    #[default]
    Fail,
    /// It is put back for 5 to 10 s, so that another server that knows the type can take it. No
    /// retry is used up, and it is no failure: it goes round until somebody knows it, or it is
    /// deleted.
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

    /// The queues and their priorities, 1 to [`MAX_PRIORITY`]. Default: `default` with 1.
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

    /// Sets how often completed tasks are looked for whose retention is over. 1 ms to 24 h, default 8 s.
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

    /// Sets how often tasks of dead servers are looked for, and what is broken is healed; also once at
    /// the start. 10 ms to 24 h, default 60 s (a constant in Go).
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

    /// Sets how often outcomes are offered again whose write failed, 10 ms to 1 min. Default: 1 s (5 s
    /// in Go).
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

    /// With how many tasks a group is full: so many, the oldest, are then aggregated at once, and
    /// never more together. 0, the default: 10,000, which is also the most; the rest stays in the group
    /// and is aggregated next. (Go has no such limit.)
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

    /// Who is told of failed runs. Default: nobody.
    #[must_use]
    pub fn error_handler(mut self, handler: impl ErrorHandler) -> Self {
        self.error_handler = Some(Arc::new(handler));
        self
    }

    /// Who is told at intervals whether the storage answers. Default: nobody.
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

    /// Sets what becomes of a task whose type has no handler here. Default: [`UnknownTask::Fail`].
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

    /// A value that all handlers share, found by its type: by
    /// [`State`](crate::extract::State) arguments and [`TaskContext::states`](crate::TaskContext::states)
    /// (Go: `BaseContext`). One of each type.
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

    /// Checks every setting.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults, each naming the field and its limits.
    pub fn validate(&self) -> Result<Settings, ConfigError> {
        let mut faults = Vec::new();
        let mut fault = |field, problem| faults.push(ConfigFault { field, problem });
        if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
            fault(
                "concurrency",
                format!("must be 1 to {MAX_CONCURRENCY}, not {}", self.concurrency),
            );
        }
        let mut queues = BTreeMap::new();
        for (name, priority) in &self.queues {
            if !(1..=MAX_PRIORITY).contains(priority) {
                fault(
                    "queues",
                    format!(
                        "priority of {:?} must be 1 to {MAX_PRIORITY}, not {priority}",
                        Excerpt(name)
                    ),
                );
            }
            match QueueName::new(name) {
                Ok(queue) => {
                    if queues.insert(queue, *priority).is_some() {
                        fault("queues", format!("names {:?} twice", Excerpt(name)));
                    }
                }
                Err(error) => fault("queues", error.to_string()),
            }
        }
        if self.queues.is_empty() {
            queues.insert(QueueName::from_storage(DEFAULT_QUEUE), 1);
        }
        let (ms, hour, day) = (
            Duration::from_millis(1),
            Duration::from_secs(3600),
            Duration::from_secs(24 * 3600),
        );
        let group_check_interval = self
            .group_check_interval
            .unwrap_or(GROUP_CHECK_INTERVAL.min(self.group_grace_period));
        for (field, value, least, most) in [
            ("task_check_interval", self.task_check_interval, ms, hour),
            (
                "delayed_task_check_interval",
                self.delayed_task_check_interval,
                ms,
                hour,
            ),
            ("shutdown_timeout", self.shutdown_timeout, Duration::ZERO, day),
            ("janitor_interval", self.janitor_interval, ms, day),
            (
                "heartbeat_interval",
                self.heartbeat_interval,
                10 * ms,
                Duration::from_secs(10),
            ),
            ("recoverer_interval", self.recoverer_interval, 10 * ms, day),
            ("recover_grace", self.recover_grace, Duration::ZERO, hour),
            (
                "syncer_interval",
                self.syncer_interval,
                10 * ms,
                Duration::from_secs(60),
            ),
            ("health_check_interval", self.health_check_interval, 10 * ms, hour),
            ("group_check_interval", group_check_interval, 10 * ms, hour),
            ("group_timeout", self.group_timeout, MIN_DURATION, day),
        ] {
            if value < least || value > most {
                fault(field, outside(least, most, value));
            }
        }
        let delay = self.group_max_delay;
        if !delay.is_zero() && !(MIN_DURATION..=MAX_DURATION).contains(&delay) {
            let problem = outside(MIN_DURATION, MAX_DURATION, delay);
            fault("group_max_delay", format!("{problem}; 0 is no limit"));
        }
        if let Some(problem) = message_limit_problem(self.max_message_bytes) {
            fault("max_message_bytes", problem);
        }
        if !(1..=10_000).contains(&self.janitor_batch_size) {
            fault(
                "janitor_batch_size",
                format!("must be 1 to 10000, not {}", self.janitor_batch_size),
            );
        }
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        Ok(Settings {
            concurrency: self.concurrency,
            queues,
            strict_priority: self.strict_priority,
            task_check_interval: self.task_check_interval,
            delayed_task_check_interval: self.delayed_task_check_interval,
            shutdown_timeout: self.shutdown_timeout,
            janitor_interval: self.janitor_interval,
            janitor_batch_size: self.janitor_batch_size,
            heartbeat_interval: self.heartbeat_interval,
            recoverer_interval: self.recoverer_interval,
            recover_grace: self.recover_grace,
            syncer_interval: self.syncer_interval,
            group_grace_period: self.group_grace_period,
            group_max_delay: Some(delay).filter(|delay| !delay.is_zero()),
            group_max_size: Some(self.group_max_size).filter(|size| *size > 0),
            group_check_interval,
            group_timeout: self.group_timeout,
            retry_delay: self.retry_delay.clone(),
            is_failure: self.is_failure.clone(),
            error_handler: self.error_handler.clone(),
            health_check: self.health_check.clone(),
            health_check_interval: self.health_check_interval,
            states: self.states.clone(),
            unknown_task: self.unknown_task,
            max_message_bytes: self.max_message_bytes,
        })
    }
}

/// Returns what is wrong with a limit for messages or results.
#[must_use]
pub fn message_limit_problem(bytes: usize) -> Option<String> {
    let (least, most) = (MIN_MESSAGE_LIMIT, MAX_MESSAGE_BYTES);
    (!(least..=most).contains(&bytes)).then(|| format!("must be {least} to {most}, not {bytes}"))
}

fn outside(least: Duration, most: Duration, value: Duration) -> String {
    format!("must be {least:?} to {most:?}, not {value:?}")
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

/// Settings of a client, or of the client part of an `AsynqSystem`. Ours: Go's client has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    pub(crate) enqueue_timeout: Duration,
    pub(crate) max_waiting: usize,
    pub(crate) max_waiting_bytes: usize,
    pub(crate) max_message_bytes: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            enqueue_timeout: Duration::from_secs(10),
            max_waiting: 4096,
            max_waiting_bytes: 64 << 20,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
        }
    }
}

impl ClientConfig {
    /// All defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long an enqueue is tried before it is given up, 10 ms to 1 h. Default: 10 s.
    #[must_use]
    pub fn enqueue_timeout(mut self, timeout: Duration) -> Self {
        self.enqueue_timeout = timeout;
        self
    }

    /// Sets how many enqueues may wait for their answer at once, 1 to 1 000 000. Beyond it `enqueue`
    /// waits and `try_enqueue` refuses. Default: 4096.
    #[must_use]
    pub fn max_waiting(mut self, tasks: usize) -> Self {
        self.max_waiting = tasks;
        self
    }

    /// Sets how many bytes of them, 1 MiB to 1 GiB: of a task its encoded message counts, with its headers, and
    /// what holds it. One task counts at most this much. While a batch of up to 200 tasks is being sent it
    /// is held once more. Default: 64 MiB.
    #[must_use]
    pub fn max_waiting_bytes(mut self, bytes: usize) -> Self {
        self.max_waiting_bytes = bytes;
        self
    }

    /// Sets how large one encoded message may be, in bytes: payload, headers, type and all; 1 KiB to 510 MiB,
    /// which is about what Redis takes. An enqueue beyond it is refused before anything is sent, with
    /// [`TaskError::TooLarge`](crate::TaskError::TooLarge) for `message size`. Default: 16 MiB.
    ///
    /// A message travels whole, so on a slow way it needs its time: 16 MiB at 1 MB/s take 17 s, and
    /// [`enqueue_timeout`](Self::enqueue_timeout) must allow for it. Whoever takes the task needs as long again.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults, each naming the field and its limits.
    pub fn validate(&self) -> Result<ClientSettings, ConfigError> {
        let mut faults = Vec::new();
        let mut fault = |field, problem| faults.push(ConfigFault { field, problem });
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(3600));
        if !(least..=most).contains(&self.enqueue_timeout) {
            fault(
                "enqueue_timeout",
                format!("must be {least:?} to {most:?}, not {:?}", self.enqueue_timeout),
            );
        }
        if !(1..=1_000_000).contains(&self.max_waiting) {
            fault("max_waiting", format!("must be 1 to 1000000, not {}", self.max_waiting));
        }
        if let Some(problem) = message_limit_problem(self.max_message_bytes) {
            fault("max_message_bytes", problem);
        }
        if !(1 << 20..=1 << 30).contains(&self.max_waiting_bytes) {
            fault(
                "max_waiting_bytes",
                format!("must be 1048576 to 1073741824, not {}", self.max_waiting_bytes),
            );
        }
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        Ok(ClientSettings {
            enqueue_timeout: self.enqueue_timeout,
            max_waiting: self.max_waiting,
            max_waiting_bytes: self.max_waiting_bytes,
            max_message_bytes: self.max_message_bytes,
        })
    }
}

/// A [`ClientConfig`] that was found good. What the runtime works with.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field is the setting of the same name of ClientConfig")]
pub struct ClientSettings {
    pub enqueue_timeout: Duration,
    pub max_waiting: usize,
    pub max_waiting_bytes: usize,
    pub max_message_bytes: usize,
}

/// A [`ServerConfig`] that was found good. What the runtime works with.
#[derive(Clone)]
#[allow(missing_docs, reason = "each field is the setting of the same name of ServerConfig")]
pub struct Settings {
    pub concurrency: usize,
    pub queues: BTreeMap<QueueName, i32>,
    pub strict_priority: bool,
    pub task_check_interval: Duration,
    pub delayed_task_check_interval: Duration,
    pub shutdown_timeout: Duration,
    pub janitor_interval: Duration,
    pub janitor_batch_size: u32,
    pub heartbeat_interval: Duration,
    pub recoverer_interval: Duration,
    pub recover_grace: Duration,
    pub syncer_interval: Duration,
    pub group_grace_period: Duration,
    pub group_max_delay: Option<Duration>,
    pub group_max_size: Option<u32>,
    pub group_check_interval: Duration,
    pub group_timeout: Duration,
    pub retry_delay: Option<RetryDelay>,
    pub is_failure: Option<IsFailure>,
    pub error_handler: Option<Arc<dyn ErrorHandler>>,
    pub health_check: Option<HealthCheck>,
    pub health_check_interval: Duration,
    pub states: States,
    pub unknown_task: UnknownTask,
    pub max_message_bytes: usize,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("concurrency", &self.concurrency)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_good_and_serve_the_default_queue() {
        let settings = ServerConfig::new().validate().unwrap();
        assert_eq!(
            settings.queues.into_iter().collect::<Vec<_>>(),
            [(QueueName::default(), 1)]
        );
    }

    #[test]
    fn client_limits_are_checked() {
        ClientConfig::new().validate().unwrap();
        let bad = ClientConfig::new()
            .enqueue_timeout(Duration::ZERO)
            .max_waiting(0)
            .max_waiting_bytes(1)
            .max_message_bytes(1023);
        let error = bad.validate().unwrap_err();
        assert_eq!(error.faults.len(), 4);
        let limits = "max_message_bytes must be 1024 to 534773760, not 1023";
        assert!(error.to_string().contains(limits), "{error}");
        let bad = ServerConfig::new().max_message_bytes(512 << 20);
        let limits = "max_message_bytes must be 1024 to 534773760, not 536870912";
        assert!(bad.validate().unwrap_err().to_string().contains(limits));
    }

    #[test]
    fn groups_are_looked_at_as_often_as_in_go() {
        let settings = ServerConfig::new().validate().unwrap();
        assert_eq!(settings.group_grace_period, Duration::from_secs(60));
        assert_eq!((settings.group_max_delay, settings.group_max_size), (None, None));
        assert_eq!(settings.group_check_interval, Duration::from_secs(7));
        let quick = ServerConfig::new()
            .group_grace_period(Duration::from_secs(2))
            .unwrap()
            .group_max_delay(Duration::from_secs(300))
            .group_max_size(100);
        let settings = quick.clone().validate().unwrap();
        assert_eq!(settings.group_check_interval, Duration::from_secs(2));
        assert_eq!(settings.group_max_delay, Some(Duration::from_secs(300)));
        assert_eq!(settings.group_max_size, Some(100));
        let quick = quick.group_check_interval(Duration::from_millis(10));
        assert_eq!(
            quick.validate().unwrap().group_check_interval,
            Duration::from_millis(10)
        );
    }

    #[test]
    fn bad_settings_of_groups_are_refused() {
        let refused = |text: String, expected: &str| assert_eq!(text, format!("invalid configuration: {expected}"));
        for grace in [Duration::ZERO, Duration::from_millis(999), Duration::MAX] {
            let error = ServerConfig::new().group_grace_period(grace).unwrap_err();
            let expected = format!("group_grace_period must be 1s to 3153600000s, not {grace:?}");
            refused(error.to_string(), &expected);
        }
        let bad = ServerConfig::new()
            .group_check_interval(Duration::ZERO)
            .group_timeout(Duration::from_millis(999))
            .group_max_delay(Duration::from_millis(1));
        refused(
            bad.validate().unwrap_err().to_string(),
            "group_check_interval must be 10ms to 3600s, not 0ns; \
             group_timeout must be 1s to 86400s, not 999ms; \
             group_max_delay must be 1s to 3153600000s, not 1ms; 0 is no limit",
        );
    }

    #[test]
    fn all_faults_are_reported_at_once_with_their_limits() {
        let error = ServerConfig::new()
            .concurrency(0)
            .queues([(" ", 1), ("low", 0)])
            .heartbeat_interval(Duration::from_secs(60))
            .janitor_batch_size(0)
            .validate()
            .unwrap_err();
        let fields: Vec<_> = error.faults.iter().map(|f| f.field).collect();
        assert_eq!(
            fields,
            [
                "concurrency",
                "queues",
                "queues",
                "heartbeat_interval",
                "janitor_batch_size"
            ]
        );
        assert!(
            error
                .to_string()
                .contains("heartbeat_interval must be 10ms to 10s, not 60s"),
            "{error}"
        );
    }
}
