//! Enqueued tasks, and assertions about them.

use std::{fmt, time::Duration};

use asynq_core::{QueueName, TaskId, TaskInfo, TaskState};
use chrono::{DateTime, TimeDelta, Utc};

/// Largest part of a payload that is shown, in characters.
const SHOWN: usize = 200;

/// A task that was enqueued and not yet run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EnqueuedTask {
    /// The result of its enqueue.
    pub info: TaskInfo,
    /// Time for which other tasks of the same type, payload and queue are refused, from when this task is due. `None`
    /// if it is not unique.
    pub unique_ttl: Option<Duration>,
    /// Time of the enqueue, by the kit's clock.
    pub enqueued_at: DateTime<Utc>,
}

impl EnqueuedTask {
    /// Returns the time at which the task is due, to the second. `None` if that time had passed at the enqueue.
    #[must_use]
    pub fn process_at(&self) -> Option<DateTime<Utc>> {
        self.info
            .next_process_at
            .filter(|_| self.info.state == TaskState::Scheduled)
    }

    pub(super) fn is(&self, queue: &QueueName, id: &TaskId) -> bool {
        self.info.queue == *queue && self.info.id == *id
    }
}

/// Writes one line: type, id, queue, payload, time, and the options that differ from the defaults.
impl fmt::Display for EnqueuedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { info, unique_ttl, .. } = self;
        write!(f, "{:?} {} in {}", info.task_type, info.id, info.queue)?;
        let payload = String::from_utf8_lossy(&info.payload);
        match payload.char_indices().nth(SHOWN) {
            None => write!(f, ", payload {payload:?}")?,
            Some((cut, _)) => write!(f, ", payload {:?}… ({} bytes)", &payload[..cut], info.payload.len())?,
        }
        if let Some(at) = self.process_at() {
            write!(f, ", at {} (in {:?})", rfc3339(at), self.delay())?;
        }
        if let Some(group) = &info.group {
            write!(f, ", group {group:?}")?;
        }
        if let Some(ttl) = unique_ttl {
            write!(f, ", unique for {ttl:?}")?;
        }
        write!(f, ", max retry {}", info.max_retry)?;
        if let Some(timeout) = info.timeout {
            write!(f, ", timeout {timeout:?}")?;
        }
        if let Some(deadline) = info.deadline {
            write!(f, ", deadline {}", rfc3339(deadline))?;
        }
        if !info.retention.is_zero() {
            write!(f, ", retention {:?}", info.retention)?;
        }
        if !info.headers.is_empty() {
            write!(f, ", headers {:?}", info.headers)?;
        }
        Ok(())
    }
}

impl EnqueuedTask {
    fn delay(&self) -> Duration {
        let wait = self.process_at().map(|at| at - self.enqueued_at);
        wait.and_then(|wait| wait.to_std().ok()).unwrap_or_default()
    }
}

fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// The enqueued tasks that satisfy all conditions so far; at least one. Each condition narrows the tasks, and panics
/// if none is left. The panic message lists all enqueued tasks. A chain of conditions needs no final call.
#[derive(Clone, Debug)]
pub struct Found {
    all: Vec<EnqueuedTask>,
    fitting: Vec<EnqueuedTask>,
    said: Vec<String>,
}

impl Found {
    #[track_caller]
    pub(super) fn of_type(all: Vec<EnqueuedTask>, task_type: &str) -> Self {
        let start = Self {
            fitting: all.clone(),
            all,
            said: Vec::new(),
        };
        start.matching(format!("type {task_type:?}"), |task| task.info.task_type == task_type)
    }

    /// Requires a condition of your own. `what` describes it in the panic message.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn matching(mut self, what: impl Into<String>, rule: impl FnMut(&EnqueuedTask) -> bool) -> Self {
        let mut rule = rule;
        self.said.push(what.into());
        let before = std::mem::take(&mut self.fitting);
        self.fitting = before.into_iter().filter(|task| rule(task)).collect();
        assert!(
            !self.fitting.is_empty(),
            "no enqueued task with {}\n{}",
            self.said.join(", "),
            shown(&self.all)
        );
        self
    }

    /// Requires this payload.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn payload(self, payload: impl AsRef<[u8]>) -> Self {
        let payload = payload.as_ref();
        let what = format!("payload {:?}", String::from_utf8_lossy(payload));
        self.matching(what, |task| task.info.payload == payload)
    }

    /// Requires a JSON payload equal to this value. The order of fields and white space do not matter.
    ///
    /// # Panics
    /// When none fits, and when the value cannot be written as JSON.
    #[cfg(feature = "json")]
    #[track_caller]
    pub fn json(self, value: &(impl serde::Serialize + ?Sized)) -> Self {
        let value = serde_json::to_value(value).expect("the expected value can be written as JSON");
        self.matching(format!("JSON payload {value}"), |task| {
            serde_json::from_slice::<serde_json::Value>(&task.info.payload).is_ok_and(|payload| payload == value)
        })
    }

    /// Requires this queue.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn queue(self, queue: &str) -> Self {
        self.matching(format!("queue {queue:?}"), |task| task.info.queue.as_str() == queue)
    }

    /// Requires this id.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn id(self, id: &str) -> Self {
        self.matching(format!("id {id:?}"), |task| task.info.id.as_str() == id)
    }

    /// Requires a task that runs as soon as a server is free: neither delayed nor in a group.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn at_once(self) -> Self {
        self.matching("no delay", |task| task.info.state == TaskState::Pending)
    }

    /// Requires a task that is due this long after its enqueue. Times are rounded down to seconds, so a delay that is
    /// shorter by less than one second fits too.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn delayed_by(self, delay: Duration) -> Self {
        let most = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
        self.matching(format!("delay {delay:?}"), |task| {
            let waits = task.process_at().map(|at| at - task.enqueued_at);
            waits.is_some_and(|waits| waits <= most && most - waits < TimeDelta::seconds(1))
        })
    }

    /// Requires a task that is due at this time, to the second.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn process_at(self, at: DateTime<Utc>) -> Self {
        self.matching(format!("time {}", rfc3339(at)), |task| {
            task.process_at().map(|at| at.timestamp()) == Some(at.timestamp())
        })
    }

    /// Requires a task that waits in this group.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn group(self, group: &str) -> Self {
        self.matching(format!("group {group:?}"), |task| {
            task.info.group.as_ref().is_some_and(|own| own.as_str() == group)
        })
    }

    /// Requires a task that is unique for this duration.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn unique_ttl(self, ttl: Duration) -> Self {
        self.matching(format!("unique TTL {ttl:?}"), |task| task.unique_ttl == Some(ttl))
    }

    /// Requires this largest number of retries.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn max_retry(self, retries: u32) -> Self {
        self.matching(format!("max retry {retries}"), |task| task.info.max_retry == retries)
    }

    /// Requires this timeout of a run, in whole seconds.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.matching(format!("timeout {timeout:?}"), |task| {
            task.info.timeout == Some(timeout)
        })
    }

    /// Requires this deadline, to the second.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn deadline(self, deadline: DateTime<Utc>) -> Self {
        self.matching(format!("deadline {}", rfc3339(deadline)), |task| {
            task.info.deadline.map(|at| at.timestamp()) == Some(deadline.timestamp())
        })
    }

    /// Requires this retention, in whole seconds.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn retention(self, retention: Duration) -> Self {
        self.matching(format!("retention {retention:?}"), |task| {
            task.info.retention == retention
        })
    }

    /// Requires this header.
    ///
    /// # Panics
    /// When none fits.
    #[track_caller]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.matching(format!("header {name:?}: {value:?}"), |task| {
            task.info.headers.get(name).is_some_and(|own| own == value)
        })
    }

    /// Asserts that exactly this number of tasks fit.
    ///
    /// # Panics
    /// When the number differs.
    #[track_caller]
    pub fn times(self, count: usize) -> Self {
        assert!(
            self.fitting.len() == count,
            "{} instead of {count} enqueued tasks with {}\n{}",
            self.fitting.len(),
            self.said.join(", "),
            shown(&self.all)
        );
        self
    }

    /// Asserts that exactly one task fits.
    ///
    /// # Panics
    /// When more than one task fits.
    #[track_caller]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Returns the tasks that fit, in the order in which they were enqueued.
    #[must_use]
    pub fn tasks(self) -> Vec<EnqueuedTask> {
        self.fitting
    }
}

/// Lists all tasks, one per line.
pub(super) fn shown(all: &[EnqueuedTask]) -> String {
    if all.is_empty() {
        return "nothing is enqueued".to_owned();
    }
    let lines: Vec<_> = all.iter().map(|task| format!("\n  {task}")).collect();
    format!("enqueued:{}", lines.concat())
}
