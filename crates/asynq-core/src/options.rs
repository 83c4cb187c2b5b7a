//! The options of a task: all optional, chained, merged, checked when the task is enqueued.

mod go;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};

/// Default of [`TaskOptions::max_retry`] (Go: `defaultMaxRetry`).
pub const DEFAULT_MAX_RETRY: u32 = 25;
/// The timeout of a task that has neither timeout nor deadline (Go: `defaultTimeout`).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The shortest timeout, retention and unique TTL: the wire carries whole seconds.
pub const MIN_DURATION: Duration = Duration::from_secs(1);
/// The longest duration of any option: 100 years of 365 days. Go has no such limit; it keeps every sum in range.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The largest number of retries that the wire carries.
pub const MAX_RETRIES: u32 = i32::MAX as u32;
/// The default limit of an encoded message, in bytes: payload, headers, type and all other fields. Go has no such
/// limit.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 16 << 20;
/// The highest limit that can be set for an encoded message: 510 MiB. Redis accepts 512 MiB as one value (by default,
/// see `proto-max-bulk-len`), and the text of an error must also fit.
pub const MAX_MESSAGE_BYTES: usize = 510 << 20;
/// Largest part of an error's text that is kept with its task, in bytes. A longer text is truncated.
pub const MAX_ERROR_BYTES: usize = 1 << 20;

/// The time at which a task is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessAt {
    /// At this time, to the millisecond. A time not in the future means at once.
    At(DateTime<Utc>),
    /// At this time after the enqueue.
    In(Duration),
}

/// Options of a task, or of one enqueue call. In the options of a task, a field that is not set takes its default. In
/// those of a call, it takes the option of the task.
///
/// Setters never fail. An invalid value is refused when the task is enqueued, with an error that names the field and
/// the limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskOptions {
    pub(crate) queue: Option<String>,
    pub(crate) task_id: Option<String>,
    pub(crate) max_retry: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<DateTime<Utc>>,
    pub(crate) unique_ttl: Option<Duration>,
    pub(crate) process: Option<ProcessAt>,
    pub(crate) retention: Option<Duration>,
    pub(crate) group: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
}

impl TaskOptions {
    /// No option set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The queue; not blank. Default: `default`.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// The id; not blank, unique in its queue while the task's data live. Default: a random
    /// UUID v4.
    #[must_use]
    pub fn task_id(mut self, id: impl Into<String>) -> Self {
        self.task_id = Some(id.into());
        self
    }

    /// Sets how often a failed task is retried, 0 to [`MAX_RETRIES`]. Default: 25.
    #[must_use]
    pub fn max_retry(mut self, retries: u32) -> Self {
        self.max_retry = Some(retries);
        self
    }

    /// Sets the longest duration of one run: 1 s to 100 years, without fractions of a second; zero means not set.
    /// Default: 30 min if there is no deadline either.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the time by which the task must have ended, to the millisecond. A Go server drops fractions of a second,
    /// and inspectors show whole seconds. If a timeout is set too, the earlier one counts. A deadline in the past is
    /// accepted, and the task then fails without a run, as in Go. Default: none.
    #[must_use]
    pub fn deadline(mut self, deadline: DateTime<Utc>) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Refuses other tasks of the same queue, type and payload until this task is done, or until this duration after
    /// it is due has passed: 1 s to 100 years. Default: not unique.
    #[must_use]
    pub fn unique_ttl(mut self, ttl: Duration) -> Self {
        self.unique_ttl = Some(ttl);
        self
    }

    /// Sets the time at which the task is due, to the millisecond. With a free server, the task starts at most a
    /// fraction of a second after this time, and never before. Go programs drop fractions of a second: a Go server
    /// may start the task by that fraction earlier, and inspectors show whole seconds. Replaces
    /// [`process_in`](Self::process_in).
    #[must_use]
    pub fn process_at(mut self, at: DateTime<Utc>) -> Self {
        self.process = Some(ProcessAt::At(at));
        self
    }

    /// Sets the delay between the enqueue and the time at which the task is due, at most 100 years. Replaces
    /// [`process_at`](Self::process_at).
    #[must_use]
    pub fn process_in(mut self, delay: Duration) -> Self {
        self.process = Some(ProcessAt::In(delay));
        self
    }

    /// Sets the time for which the task is kept after success: 1 s to 100 years, without fractions of a second. Zero,
    /// the default, means that the task is not kept.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Sets the group in which the task waits to be aggregated; not blank, and not together with a time in the future
    /// (differences.md#group-with-a-time: Go would run such a task alone). Default: none.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// A header; one of the same name is replaced. Go 0.26 and later read headers.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Returns these options, overridden by those that are set in `call`. Headers are merged by name.
    #[must_use]
    pub fn merged(&self, call: &TaskOptions) -> TaskOptions {
        let mut headers = self.headers.clone();
        headers.extend(call.headers.iter().map(|(k, v)| (k.clone(), v.clone())));
        TaskOptions {
            queue: call.queue.clone().or_else(|| self.queue.clone()),
            task_id: call.task_id.clone().or_else(|| self.task_id.clone()),
            max_retry: call.max_retry.or(self.max_retry),
            timeout: call.timeout.or(self.timeout),
            deadline: call.deadline.or(self.deadline),
            unique_ttl: call.unique_ttl.or(self.unique_ttl),
            process: call.process.or(self.process),
            retention: call.retention.or(self.retention),
            group: call.group.clone().or_else(|| self.group.clone()),
            headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_the_call_win_and_headers_add_up() {
        let task = TaskOptions::new()
            .queue("a")
            .max_retry(3)
            .header("k", "task")
            .header("t", "1");
        let call = TaskOptions::new().queue("b").header("k", "call");
        let merged = task.merged(&call);
        assert_eq!(merged.queue.as_deref(), Some("b"));
        assert_eq!(merged.max_retry, Some(3));
        assert_eq!(merged.headers["k"], "call");
        assert_eq!(merged.headers["t"], "1");
    }

    #[test]
    fn the_last_of_process_at_and_process_in_wins() {
        let at = DateTime::from_timestamp(1_900_000_000, 0).unwrap();
        let options = TaskOptions::new().process_at(at).process_in(Duration::from_secs(3));
        assert_eq!(options.process, Some(ProcessAt::In(Duration::from_secs(3))));
    }
}
