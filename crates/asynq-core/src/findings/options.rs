//! Thresholds.

use std::time::Duration;

use chrono::TimeDelta;

use crate::inspect::SCAN_STEP;

/// Largest number of queues that one look at the findings reads.
pub const MAX_QUEUES: usize = 10_000;

/// Thresholds and bounds of findings. Values out of range count as the nearest one in range.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FindingsOptions {
    pub(super) unserved_after: Duration,
    pub(super) oldest_pending: Duration,
    pub(super) late_after: Duration,
    pub(super) retry_storm: u64,
    pub(super) failure_jump: f64,
    pub(super) failure_runs: u64,
    pub(super) paused_after: Duration,
    pub(super) group_after: Duration,
    pub(super) archive_tasks: u64,
    pub(super) archive_age: Duration,
    pub(super) memory_share: f64,
    pub(super) clock_skew: TimeDelta,
    pub(super) sample: u32,
    pub(super) queue_timeout: Duration,
    pub(super) at_once: usize,
    pub(super) max_queues: usize,
}

impl Default for FindingsOptions {
    fn default() -> Self {
        Self {
            unserved_after: Duration::from_secs(60),
            oldest_pending: Duration::from_secs(10 * 60),
            late_after: Duration::from_secs(2 * 60),
            retry_storm: 50,
            failure_jump: 0.1,
            failure_runs: 100,
            paused_after: Duration::from_secs(3600),
            group_after: Duration::from_secs(30 * 60),
            archive_tasks: 9_000,
            archive_age: Duration::from_secs(83 * 24 * 3600),
            memory_share: 0.8,
            clock_skew: TimeDelta::seconds(1),
            sample: SCAN_STEP,
            queue_timeout: Duration::from_secs(5),
            at_once: 16,
            max_queues: MAX_QUEUES,
        }
    }
}

impl FindingsOptions {
    /// All defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long tasks must wait before it is a finding that no server takes from their queue, or that none
    /// aggregates their group. Default: 1 min, so that a deploy is none.
    #[must_use]
    pub fn unserved_after(mut self, wait: Duration) -> Self {
        self.unserved_after = wait;
        self
    }

    /// Sets the wait of the oldest pending task from which it is a finding. Default: 10 min.
    #[must_use]
    pub fn oldest_pending(mut self, wait: Duration) -> Self {
        self.oldest_pending = wait;
        self
    }

    /// Sets how long ago a lease must have ended, or a delayed task must have been due, to be late. Servers recover
    /// tasks within 90 s by default. Default: 2 min.
    #[must_use]
    pub fn late_after(mut self, after: Duration) -> Self {
        self.late_after = after;
        self
    }

    /// Sets the number of tasks with the same error in the sample from which they are a retry storm, from 1 on.
    /// Default: 50.
    #[must_use]
    pub fn retry_storm(mut self, tasks: u64) -> Self {
        self.retry_storm = tasks.max(1);
        self
    }

    /// Sets by how much the share of failures must exceed that of yesterday, 0 to 1. It must be at least twice that of
    /// yesterday, too. Default: 0.1.
    #[must_use]
    pub fn failure_jump(mut self, share: f64) -> Self {
        self.failure_jump = if share.is_nan() { 1.0 } else { share.clamp(0.0, 1.0) };
        self
    }

    /// Sets the number of runs of today from which the share of failures counts, from 1 on. Default: 100.
    #[must_use]
    pub fn failure_runs(mut self, runs: u64) -> Self {
        self.failure_runs = runs.max(1);
        self
    }

    /// Sets the duration of a pause from which it is a finding. Default: 1 h.
    #[must_use]
    pub fn paused_after(mut self, pause: Duration) -> Self {
        self.paused_after = pause;
        self
    }

    /// Sets how long the first task of a group must wait before the group counts as not aggregated. It should exceed the
    /// longest grace period and delay of the servers. Default: 30 min.
    #[must_use]
    pub fn group_after(mut self, wait: Duration) -> Self {
        self.group_after = wait;
        self
    }

    /// Sets the number of archived tasks from which the archive is nearly full, up to its limit of 9,999. Default: 9,000.
    #[must_use]
    pub fn archive_tasks(mut self, tasks: u64) -> Self {
        self.archive_tasks = tasks.clamp(1, 9_999);
        self
    }

    /// Sets the age of an archived task from which it is nearly too old, up to the limit of 90 days. Default: 83 days.
    #[must_use]
    pub fn archive_age(mut self, age: Duration) -> Self {
        self.archive_age = age.min(crate::broker::ARCHIVED_AGE);
        self
    }

    /// Sets the share of the memory of Redis from which it is nearly full, 0 to 1. Default: 0.8.
    #[must_use]
    pub fn memory_share(mut self, share: f64) -> Self {
        self.memory_share = if share.is_nan() { 1.0 } else { share.clamp(0.0, 1.0) };
        self
    }

    /// Sets the difference of the clocks from which it is a finding, in whole milliseconds. Default: 1 s.
    #[must_use]
    pub fn clock_skew(mut self, difference: Duration) -> Self {
        self.clock_skew = TimeDelta::from_std(difference).unwrap_or(TimeDelta::MAX);
        self
    }

    /// Sets the number of pending tasks, and of retry tasks, that are looked at in each queue, 0 to 200. Default: 200.
    #[must_use]
    pub fn sample(mut self, tasks: u32) -> Self {
        self.sample = tasks.min(SCAN_STEP);
        self
    }

    /// Sets the time after which a queue that does not answer is given up, and marked as unreadable, 10 ms to 10 min.
    /// Default: 5 s.
    #[must_use]
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = timeout.clamp(Duration::from_millis(10), Duration::from_secs(600));
        self
    }

    /// Sets the number of queues that are read at once, 1 to 64. Default: 16.
    #[must_use]
    pub fn at_once(mut self, queues: usize) -> Self {
        self.at_once = queues.clamp(1, 64);
        self
    }

    /// Sets the number of queues that are read, 1 to 10,000; those that are first by name. Default: 10,000.
    #[must_use]
    pub fn max_queues(mut self, queues: usize) -> Self {
        self.max_queues = queues.clamp(1, MAX_QUEUES);
        self
    }
}
