//! The options of a task: all optional, chained, merged, checked when the task is enqueued.

mod go;
mod printable;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};

/// Default of [`TaskOptions::max_retry`] (Go: `defaultMaxRetry`).
pub const DEFAULT_MAX_RETRY: u32 = 25;
/// The timeout of a task that has neither timeout nor deadline (Go: `defaultTimeout`).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The shortest timeout, retention and unique TTL: the wire carries whole seconds.
pub const MIN_DURATION: Duration = Duration::from_secs(1);
/// The longest of any duration: 100 years of 365 days. Our limit; it keeps every sum in range.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The largest number of retries that the wire carries.
pub const MAX_RETRIES: u32 = i32::MAX as u32;
/// The default limit of an encoded message: payload, headers, type and all. Our limit; Go has none.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 16 << 20;
/// The highest limit of an encoded message that can be set: 510 MiB. Redis takes 512 MiB as one value, unless
/// its `proto-max-bulk-len` says otherwise, and the text of an error must still fit in.
pub const MAX_MESSAGE_BYTES: usize = 510 << 20;
/// Largest part of the text of a task's error that is kept with the task, in bytes; a longer text is cut.
pub const MAX_ERROR_BYTES: usize = 1 << 20;

/// The time at which a task is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessAt {
    /// At this time, to the millisecond. A time not in the future means at once.
    At(DateTime<Utc>),
    /// At this time after the enqueue.
    In(Duration),
}

/// Options of a task, or of one enqueue call. A field that is not set takes the default, or the
/// task's own option where this is a call's.
///
/// Setters never fail; bad values are refused when the task is enqueued, with an error that names
/// the field and the limit.
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

    /// Sets how long one run may take: 1 s to 100 years, fractions of a second are cut; zero means not
    /// set. Default: 30 min if there is no deadline either.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the time by which the task must have ended, to the millisecond; a Go server cuts fractions of a second,
    /// and inspectors show whole seconds. With a timeout too, the earlier one counts. A deadline in the past is
    /// accepted, and the task then fails without being run, as in Go. Default: none.
    #[must_use]
    pub fn deadline(mut self, deadline: DateTime<Utc>) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Refuse other tasks of the same (queue, type, payload) until this one is done, at most for
    /// this time after it is due: 1 s to 100 years. Default: not unique.
    #[must_use]
    pub fn unique_ttl(mut self, ttl: Duration) -> Self {
        self.unique_ttl = Some(ttl);
        self
    }

    /// Sets when to run, to the millisecond: never before this time, and a fraction of a second after it where
    /// a server is free. Go programs cut fractions of a second: a Go server may start it that much earlier, and
    /// inspectors show whole seconds. Replaces [`process_in`](Self::process_in).
    #[must_use]
    pub fn process_at(mut self, at: DateTime<Utc>) -> Self {
        self.process = Some(ProcessAt::At(at));
        self
    }

    /// Sets how long after the enqueue to run; at most 100 years. Replaces
    /// [`process_at`](Self::process_at).
    #[must_use]
    pub fn process_in(mut self, delay: Duration) -> Self {
        self.process = Some(ProcessAt::In(delay));
        self
    }

    /// Sets how long to keep the task after success: 1 s to 100 years, fractions are cut; zero means
    /// not at all, the default.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// The group in which the task waits to be aggregated; not blank, and not together with a
    /// time in the future (differences.md#group-with-a-time: Go would run such a task alone). Default: none.
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

    /// Returns these options, overridden by those that `call` sets. Headers add up by name.
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
