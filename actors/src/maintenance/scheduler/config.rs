//! The settings of a scheduler, which are checked all at once, and the hooks of the application.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use asynq_core::{
    ConfigError, EnqueueError, MissedTicks, OnConflict, Task, TaskInfo, TaskOptions,
    config::message_limit_problem,
    error::ConfigFault,
    options::DEFAULT_MAX_MESSAGE_BYTES,
    panics::{drop_quietly, panic_text},
};
use chrono_tz::Tz;

const DEFAULT_NAME: &str = "default";
const LEAST_HEARTBEAT: Duration = Duration::from_secs(1);
const MOST_HEARTBEAT: Duration = Duration::from_secs(3600);

type PreEnqueue = dyn Fn(&Task, &TaskOptions) + Send + Sync;
type PostEnqueue = dyn Fn(Result<&TaskInfo, &EnqueueError>) + Send + Sync;
type OnError = dyn Fn(&Task, &TaskOptions, &EnqueueError) + Send + Sync;

/// Settings of a scheduler. Setters never fail. [`validate`](Self::validate) returns all faults at once. Every
/// constructor that takes settings calls it.
///
/// The hooks run in the tasks of the scheduler that call the storage, so they must be fast and must not block. A hook
/// that panics is logged, and the tick continues.
///
/// ```
/// use asynq::{SchedulerConfig, scheduler::{MissedTicks, Tz}};
///
/// let config = SchedulerConfig::new()
///     .name("reports")
///     .timezone(Tz::Europe__Berlin)
///     .missed(MissedTicks::Once)
///     .error_handler(|task, _options, error| eprintln!("{}: {error}", task.get_type()));
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone)]
pub struct SchedulerConfig {
    pub(super) name: String,
    pub(super) timezone: Tz,
    pub(super) heartbeat_interval: Duration,
    pub(super) missed: MissedTicks,
    pub(super) on_conflict: OnConflict,
    pub(super) max_message_bytes: usize,
    pub(super) hooks: Hooks,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            timezone: Tz::UTC,
            heartbeat_interval: Duration::from_secs(10),
            missed: MissedTicks::default(),
            on_conflict: OnConflict::default(),
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            hooks: Hooks::default(),
        }
    }
}

impl SchedulerConfig {
    /// All defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name; not blank. Of all schedulers with the same name, in all processes, exactly one enqueues each
    /// tick of an entry. Schedulers with different names are independent. Default: `default`. In Go each scheduler
    /// enqueues every tick.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the time zone of specs that name none (Go: `Location`). It must be the same in all schedulers of the
    /// name. Default: UTC.
    #[must_use]
    pub fn timezone(mut self, timezone: Tz) -> Self {
        self.timezone = timezone;
        self
    }

    /// Sets the interval at which the entries are published for inspectors, 1 s to 1 h. They expire after twice this
    /// interval. Changes are published at once. Default: 10 s.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// Sets the treatment of missed ticks, for entries without their own. Default: [`MissedTicks::Skip`], as in Go.
    #[must_use]
    pub fn missed(mut self, missed: MissedTicks) -> Self {
        self.missed = missed;
        self
    }

    /// Sets the treatment of ticks whose task has a fixed id that another task has, for entries without their own.
    /// Default: [`OnConflict::Skip`], as in Go.
    #[must_use]
    pub fn on_conflict(mut self, policy: OnConflict) -> Self {
        self.on_conflict = policy;
        self
    }

    /// Sets the limit of the encoded message of a periodic task, in bytes, 1 KiB to 510 MiB. A registration with a
    /// larger message is refused with [`TaskError::TooLarge`](asynq_core::TaskError::TooLarge) for `message size`.
    /// Default: 16 MiB.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets a hook that is called before the task of a tick is sent, once for each tick, with the options of the
    /// registration. Another scheduler may turn out to have enqueued the task.
    #[must_use]
    pub fn pre_enqueue(mut self, hook: impl Fn(&Task, &TaskOptions) + Send + Sync + 'static) -> Self {
        self.hooks.pre = Some(Arc::new(hook));
        self
    }

    /// Sets a hook that is called once for each tick that this scheduler decided: the task was enqueued, or could not
    /// be.
    #[must_use]
    pub fn post_enqueue(mut self, hook: impl Fn(Result<&TaskInfo, &EnqueueError>) + Send + Sync + 'static) -> Self {
        self.hooks.post = Some(Arc::new(hook));
        self
    }

    /// Sets a hook that is called for each failed attempt to enqueue. While the storage is unreachable, a tick is
    /// tried many times.
    #[must_use]
    pub fn error_handler(
        mut self,
        handler: impl Fn(&Task, &TaskOptions, &EnqueueError) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.error = Some(Arc::new(handler));
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults. Each has the name of its field and the limits.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        if self.name.trim().is_empty() {
            faults.push(ConfigFault {
                field: "scheduler name",
                problem: "must contain one or more characters".to_owned(),
            });
        }
        faults.extend(
            message_limit_problem(self.max_message_bytes).map(|problem| ConfigFault {
                field: "scheduler max_message_bytes",
                problem,
            }),
        );
        faults.extend(outside(
            "scheduler heartbeat_interval",
            self.heartbeat_interval,
            LEAST_HEARTBEAT,
            MOST_HEARTBEAT,
        ));
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { faults })
        }
    }
}

/// The fault of a setting that is outside of its limits.
pub(crate) fn outside(field: &'static str, value: Duration, least: Duration, most: Duration) -> Option<ConfigFault> {
    (value < least || value > most).then(|| ConfigFault {
        field,
        problem: format!("must be {least:?} to {most:?}, not {value:?}"),
    })
}

impl fmt::Debug for SchedulerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerConfig")
            .field("name", &self.name)
            .field("timezone", &self.timezone)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

/// The hooks of the application, whose panics are caught.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    pre: Option<Arc<PreEnqueue>>,
    post: Option<Arc<PostEnqueue>>,
    error: Option<Arc<OnError>>,
}

impl Hooks {
    pub(super) fn pre(&self, task: &Task, options: &TaskOptions) {
        if let Some(hook) = &self.pre {
            contained("pre-enqueue hook", || hook(task, options));
        }
    }

    pub(super) fn post(&self, answer: Result<&TaskInfo, &EnqueueError>) {
        if let Some(hook) = &self.post {
            contained("post-enqueue hook", || hook(answer));
        }
    }

    pub(super) fn error(&self, task: &Task, options: &TaskOptions, error: &EnqueueError) {
        if let Some(hook) = &self.error {
            contained("error handler", || hook(task, options, error));
        }
    }
}

fn contained(which: &'static str, hook: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(hook)) {
        tracing::error!(panic = panic_text(&*panic), "the scheduler's {which} panicked");
        drop_quietly(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_reported_at_once_with_their_limits() {
        SchedulerConfig::new().validate().unwrap();
        let bad = SchedulerConfig::new()
            .name(" ")
            .heartbeat_interval(Duration::from_millis(999));
        assert_eq!(
            bad.validate().unwrap_err().to_string(),
            "invalid configuration: scheduler name must contain one or more characters; \
             scheduler heartbeat_interval must be 1s to 3600s, not 999ms"
        );
    }

    #[test]
    fn a_hook_that_panics_harms_nobody() {
        let config = SchedulerConfig::new()
            .pre_enqueue(|_, _| panic!("pre"))
            .post_enqueue(|_| panic!("post"))
            .error_handler(|_, _, _| panic!("error"));
        let (task, options) = (Task::new("t", b"").unwrap(), TaskOptions::new());
        config.hooks.pre(&task, &options);
        config.hooks.post(Err(&EnqueueError::Closed));
        config.hooks.error(&task, &options, &EnqueueError::Closed);
    }
}
