//! Periodic tasks: a cron spec with the task that it enqueues, and the key of an entry.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

pub use crate::names::EntryKey;
use crate::{
    error::BoxError,
    options::{ProcessAt, TaskOptions},
    task::Task,
};

/// The treatment of missed ticks: those that were due while no scheduler of the name was running, and those that a
/// running one could not enqueue within five minutes.
///
/// A running scheduler always enqueues ticks that are less late, for example after an outage of the storage or a
/// restart of its actor. An entry without a decided tick has missed nothing. The storage records the last tick of an
/// entry for seven days, or for three of its periods if that is longer. Ticks that were missed before that time are
/// not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissedTicks {
    /// Missed ticks are dropped, as in Go.
    #[default]
    Skip,
    /// The newest one is enqueued.
    Once,
    /// All missed ticks are enqueued, oldest first. Of more than a thousand, only the newest thousand.
    All,
}

/// The treatment of a tick whose task has a fixed id, if another task in the queue has the same id, in any state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnConflict {
    /// The tick enqueues nothing, as in Go. An archived task keeps its id, and so does a completed task within its
    /// retention, so no tick enqueues anything until that task is deleted.
    #[default]
    Skip,
    /// If the other task is archived or completed, one step deletes it, with its result and its unique lock, and
    /// enqueues the new task. A task in any other state stays, and the tick enqueues nothing.
    ReplaceFinished,
}

/// A periodic task as returned by a [`PeriodicTaskConfigProvider`] (Go: `PeriodicTaskConfig`).
///
/// This type does not check its values. The registration of the entry refuses a spec or an option that is not valid.
///
/// ```
/// use asynq::{Task, TaskOptions, cron::Tz, scheduler::PeriodicTaskConfig};
///
/// let report = Task::new("report:daily", b"{}")?;
/// let config = PeriodicTaskConfig::new("0 7 * * *", report)
///     .options(TaskOptions::new().queue("low"))
///     .timezone(Tz::Europe__Berlin);
/// assert_eq!(config.get_cronspec(), "0 7 * * *");
/// # Ok::<(), asynq::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PeriodicTaskConfig {
    cronspec: String,
    task: Task,
    options: TaskOptions,
    timezone: Option<Tz>,
    missed: Option<MissedTicks>,
    on_conflict: Option<OnConflict>,
}

impl PeriodicTaskConfig {
    /// The task, to be enqueued whenever the spec says so.
    pub fn new(cronspec: impl Into<String>, task: Task) -> Self {
        Self {
            cronspec: cronspec.into(),
            task,
            options: TaskOptions::new(),
            timezone: None,
            missed: None,
            on_conflict: None,
        }
    }

    /// Sets the options of the registration, which override those of the task. Default: none.
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the time zone of the spec, unless the spec names one itself. Default: the scheduler's.
    pub fn timezone(mut self, timezone: Tz) -> Self {
        self.timezone = Some(timezone);
        self
    }

    /// The policy for missed ticks. Default: the scheduler's.
    pub fn missed(mut self, missed: MissedTicks) -> Self {
        self.missed = Some(missed);
        self
    }

    /// Sets the treatment of a tick whose task has a fixed id, if another task has the same id. Default: the
    /// scheduler's.
    pub fn on_conflict(mut self, policy: OnConflict) -> Self {
        self.on_conflict = Some(policy);
        self
    }

    /// The spec as it was given.
    #[must_use]
    pub fn get_cronspec(&self) -> &str {
        &self.cronspec
    }

    /// The task.
    #[must_use]
    pub fn get_task(&self) -> &Task {
        &self.task
    }

    /// The options of the registration, without the task's own.
    #[must_use]
    pub fn get_options(&self) -> &TaskOptions {
        &self.options
    }

    /// The time zone, if it has one of its own.
    #[must_use]
    pub fn get_timezone(&self) -> Option<Tz> {
        self.timezone
    }

    /// The policy for missed ticks, if it has one of its own.
    #[must_use]
    pub fn get_missed(&self) -> Option<MissedTicks> {
        self.missed
    }

    /// The policy for ids that are taken, if it has one of its own.
    #[must_use]
    pub fn get_on_conflict(&self) -> Option<OnConflict> {
        self.on_conflict
    }
}

/// The source of the periodic tasks (Go: `PeriodicTaskConfigProvider`). It is called at intervals: entries that are
/// new are registered, and those that it no longer returns are unregistered.
#[async_trait]
pub trait PeriodicTaskConfigProvider: Send + Sync + 'static {
    /// Returns all periodic tasks that are to exist. The order does not matter.
    ///
    /// # Errors
    /// Whatever went wrong. The set that was given last stays in force.
    ///
    /// # Cancel safety
    /// Must be safe: a call that takes too long is dropped.
    async fn get_configs(&self) -> Result<Vec<PeriodicTaskConfig>, BoxError>;
}

#[async_trait]
impl<P: PeriodicTaskConfigProvider + ?Sized> PeriodicTaskConfigProvider for Arc<P> {
    async fn get_configs(&self) -> Result<Vec<PeriodicTaskConfig>, BoxError> {
        (**self).get_configs().await
    }
}

impl EntryKey {
    /// Returns the key of the entry that a scheduler of this name makes of a registration. `options` are those of the
    /// registration, merged over the task's own. `timezone` is the name of the zone of the spec if the spec names
    /// none itself.
    #[must_use]
    pub fn new(scheduler: &str, spec: &str, timezone: &str, task: &Task, options: &TaskOptions) -> Self {
        let TaskOptions {
            queue,
            task_id,
            max_retry,
            timeout,
            deadline,
            unique_ttl,
            process,
            retention,
            group,
            headers,
        } = task.options().merged(options);
        let mut parts = Parts(md5::Context::new());
        for text in [scheduler, spec, timezone, task.get_type()] {
            parts.part(text);
        }
        parts.maybe("payload", task.payload_bytes());
        parts.maybe("queue", queue);
        parts.maybe("task_id", task_id);
        parts.maybe("max_retry", max_retry.map(|n| n.to_string()));
        parts.maybe("timeout", timeout.map(|span| span.as_nanos().to_string()));
        parts.maybe("deadline", deadline.map(|at| at.timestamp().to_string()));
        parts.maybe("unique_ttl", unique_ttl.map(|span| span.as_nanos().to_string()));
        let process = process.map(|process| match process {
            ProcessAt::At(at) => format!("at {}", at.timestamp()),
            ProcessAt::In(delay) => format!("in {}", delay.as_nanos()),
        });
        parts.maybe("process", process);
        parts.maybe("retention", retention.map(|span| span.as_nanos().to_string()));
        parts.maybe("group", group);
        for (name, value) in headers {
            parts.part("header");
            parts.part(name);
            parts.part(value);
        }
        Self::of_digest(&parts.hex())
    }
}

/// The stored mark of the last decided tick of an entry; see [`own::tick`](crate::keys::own::tick). Its text is
/// `<Unix second> <token> <outcome>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickMark {
    /// Due time of the tick, in Unix seconds.
    pub at: i64,
    /// The token of the request that decided it.
    pub token: u64,
    /// The decision.
    pub outcome: TickOutcome,
}

/// The decision on a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickOutcome {
    /// `1`: the task was enqueued.
    Enqueued,
    /// `d`: its unique lock was taken.
    Duplicate,
    /// `0`: its id was taken.
    IdConflict,
    /// `s`: there was none yet; the period of the entry counts from there.
    Started,
}

impl TickMark {
    /// Reads the text; `None` if it is none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        let (at, token, outcome) = (words.next()?, words.next()?, words.next()?);
        let digits = at.strip_prefix('-').unwrap_or(at);
        let is_time = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && at.len() <= 15;
        let is_token = token.len() == 16 && token.bytes().all(|b| b.is_ascii_hexdigit());
        if words.next().is_some() || !is_time || !is_token {
            return None;
        }
        Some(Self {
            at: at.parse().ok()?,
            token: u64::from_str_radix(token, 16).ok()?,
            outcome: match outcome {
                "1" => TickOutcome::Enqueued,
                "d" => TickOutcome::Duplicate,
                "0" => TickOutcome::IdConflict,
                "s" => TickOutcome::Started,
                _ => return None,
            },
        })
    }

    /// Returns when the tick was due.
    #[must_use]
    pub fn instant(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.at, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl fmt::Display for TickMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            TickOutcome::Enqueued => '1',
            TickOutcome::Duplicate => 'd',
            TickOutcome::IdConflict => '0',
            TickOutcome::Started => 's',
        };
        write!(f, "{} {:016x} {outcome}", self.at, self.token)
    }
}

/// Hashes parts so that no two lists of parts are the same bytes.
struct Parts(md5::Context);

impl Parts {
    fn part(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.0.consume((bytes.len() as u64).to_be_bytes());
        self.0.consume(bytes);
    }

    fn maybe(&mut self, name: &str, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            self.part(name);
            self.part(value);
        }
    }

    fn hex(self) -> String {
        use fmt::Write as _;
        let mut hex = String::with_capacity(32);
        for byte in self.0.finalize().iter() {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    fn key(scheduler: &str, spec: &str, zone: &str, task: &Task, options: TaskOptions) -> EntryKey {
        EntryKey::new(scheduler, spec, zone, task, &options)
    }

    /// Processes of different versions must agree: this value never changes.
    #[test]
    fn the_key_of_an_entry_is_fixed() {
        let task = Task::new("t", b"p").unwrap().with_queue("low");
        let options = TaskOptions::new().max_retry(3).header("k", "v");
        let key = key("default", "@every 30s", "UTC", &task, options);
        assert_eq!(key.as_str(), "f7edae6068eb5528201f6d1358c42001");
    }

    #[test]
    fn whatever_makes_another_entry_makes_another_key() {
        let (task, none) = (Task::new("t", b"p").unwrap(), TaskOptions::new);
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let second = Duration::from_secs(1);
        let mut keys = vec![
            key("a", "b", "", &task, none()),
            key("ab", "", "", &task, none()),
            key("", "ab", "", &task, none()),
            key("a", "", "b", &task, none()),
            key("a", "b", "", &Task::new("t", b"").unwrap(), none()),
            key("a", "b", "", &Task::without_payload("t").unwrap(), none()),
            key("a", "b", "", &Task::new("u", b"p").unwrap(), none()),
        ];
        let options = [
            none().queue("q"),
            none().task_id("q"),
            none().group("q"),
            none().max_retry(1),
            none().timeout(second),
            none().retention(second),
            none().unique_ttl(second),
            none().process_in(second),
            none().process_at(at),
            none().deadline(at),
            none().header("k", "v"),
            none().header("k", "v").header("l", ""),
        ];
        keys.extend(options.map(|options| key("a", "b", "", &task, options)));
        let different: HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn a_mark_is_read_as_written_and_nothing_else_is_one() {
        for outcome in [
            TickOutcome::Enqueued,
            TickOutcome::Duplicate,
            TickOutcome::IdConflict,
            TickOutcome::Started,
        ] {
            for at in [1_700_000_000, 0, -5] {
                let mark = TickMark {
                    at,
                    token: 0xab,
                    outcome,
                };
                assert_eq!(TickMark::parse(mark.to_string().as_bytes()), Some(mark));
            }
        }
        for text in [
            "",
            "1700000000",
            "1700000000 00000000000000ab",
            "1700000000 00000000000000ab 2",
            "1700000000 00000000000000ab 1 ",
            "+1700000000 00000000000000ab 1",
            "- 00000000000000ab 1",
            "1700000000 +0000000000000ab 1",
            "1700000000 ab 1",
            "1700000000000000 00000000000000ab 1",
            "99999999999999999999 00000000000000ab 1",
        ] {
            assert_eq!(TickMark::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(TickMark::parse(b"\xff"), None);
    }

    #[test]
    fn where_an_option_was_set_does_not_matter() {
        let plain = Task::new("t", b"p").unwrap();
        let set = plain.clone().with_queue("low").with_max_retry(7);
        let options = TaskOptions::new().queue("low").max_retry(3);
        assert_eq!(
            key("s", "* * * * *", "UTC", &plain, options.clone()),
            key("s", "* * * * *", "UTC", &set, options),
        );
    }
}
