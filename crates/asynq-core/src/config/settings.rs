//! The checked settings with which a server works.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use super::{
    ServerConfig, UnknownTask,
    limits::{MAX_CONCURRENCY, MAX_PREFETCH, MAX_PRIORITY, message_limit_problem, outside},
};
use crate::{
    error::{ConfigError, ConfigFault, Result},
    excerpt::Excerpt,
    handler::{ErrorHandler, HealthCheck, IsFailure, RetryDelay},
    names::{DEFAULT_QUEUE, QueueName},
    options::{MAX_DURATION, MIN_DURATION},
    shared_state::States,
};

/// The longest pause between two checks of the groups, if none is set.
const GROUP_CHECK_INTERVAL: Duration = Duration::from_secs(7);

/// A checked [`ServerConfig`], with which the runtime works.
#[derive(Clone)]
#[allow(missing_docs, reason = "each field is the setting of the same name of ServerConfig")]
pub struct Settings {
    pub concurrency: usize,
    pub prefetch: usize,
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
    pub trace_per_run: bool,
    pub statistics: bool,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("concurrency", &self.concurrency)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

impl ServerConfig {
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
        if self.prefetch > MAX_PREFETCH {
            fault(
                "prefetch",
                format!("must be 0 to {MAX_PREFETCH}, not {}", self.prefetch),
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
            prefetch: self.prefetch,
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
            trace_per_run: self.trace_per_run,
            statistics: self.statistics,
        })
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

    #[test]
    fn the_number_of_tasks_taken_ahead_is_checked() {
        assert_eq!(ServerConfig::new().validate().unwrap().prefetch, 0);
        let most = ServerConfig::new().prefetch(MAX_PREFETCH);
        assert_eq!(most.validate().unwrap().prefetch, MAX_PREFETCH);
        let error = ServerConfig::new().prefetch(MAX_PREFETCH + 1).validate().unwrap_err();
        let expected = "invalid configuration: prefetch must be 0 to 10000, not 10001";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_limit_for_messages_is_checked() {
        let bad = ServerConfig::new().max_message_bytes(512 << 20);
        let limits = "max_message_bytes must be 1024 to 534773760, not 536870912";
        assert!(bad.validate().unwrap_err().to_string().contains(limits));
    }
}
