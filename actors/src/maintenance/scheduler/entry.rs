//! One entry of a scheduler: its due tick and its next tick.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use asynq_core::{
    ConfigError, EnqueueError, EntryKey, Env, Error, MissedTicks, OnConflict, PeriodicTaskConfig, QueueName, Result,
    Task, TaskError, TaskId, TaskOptions,
    broker::{EnqueueRequest, Tick, TickStart},
    compose::compose_within,
    cron::CronSpec,
    error::ConfigFault,
    excerpt::Excerpt,
    info::{SchedulerEnqueueEvent, SchedulerEntry},
    options::MAX_DURATION,
    periodic::{TickMark, TickOutcome},
    trace_context::TraceContext,
    traces::Sending,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::{config::SchedulerConfig, timetable::Timetable};

pub(super) type Time = DateTime<Utc>;

/// Ticks that are late by at most this time are caught up under every policy.
pub(super) const CATCH_UP: TimeDelta = TimeDelta::minutes(5);
/// Largest number of ticks that are caught up.
const MOST_MISSED: usize = 1000;
/// Least time for which a tick is remembered.
const KEEP: TimeDelta = TimeDelta::days(7);

/// The id of an entry of one scheduler: a UUID v4, new at each registration.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(Arc<str>);

impl EntryId {
    /// Makes an id from the text that inspectors show.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The task that a tick enqueues, in the form for hooks.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) id: EntryId,
    pub(super) spec: String,
    pub(super) task: Task,
    pub(super) options: TaskOptions,
}

/// A tick in progress. All its attempts send the same request (rules.md#ambiguous-is-a-state).
#[derive(Debug)]
pub(super) struct Run {
    /// As it was composed. The request that is sent carries the context of the span.
    pub(super) composed: EnqueueRequest,
    pub(super) max_message_bytes: usize,
    /// The request and its span. Made at the first attempt: a span calls code of the application, which must not run
    /// while the entries are locked.
    pub(super) traced: OnceLock<(EnqueueRequest, Sending)>,
    pub(super) tick: Tick,
    pub(super) following: Option<Time>,
    pub(super) subject: Arc<Subject>,
    /// `true` once the pre-enqueue hook was called.
    pub(super) announced: AtomicBool,
    /// `true` if an attempt may have decided the tick although its answer was lost.
    pub(super) unsure: AtomicBool,
}

impl Run {
    fn traced(&self) -> &(EnqueueRequest, Sending) {
        self.traced.get_or_init(|| {
            let mut request = self.composed.clone();
            // A tick begins a trace.
            let root = TraceContext::default();
            let sending = Sending::begin(None, &mut request, self.max_message_bytes, &root);
            (request, sending)
        })
    }

    /// Returns the request of all attempts.
    pub(super) fn request(&self) -> &EnqueueRequest {
        &self.traced().0
    }

    /// Returns its span.
    pub(super) fn sending(&self) -> &Sending {
        &self.traced().1
    }

    /// Ends the span of a tick that is open at the end of its system.
    pub(super) fn leave_open(&self) {
        if let Some((request, sending)) = self.traced.get() {
            let unknown = || EnqueueError::Unknown {
                id: TaskId::from_storage(&request.message.id),
            };
            let open = if self.is_unsure() {
                unknown()
            } else {
                EnqueueError::Closed
            };
            sending.end::<()>(Err(&open));
        }
    }

    /// Returns whether this is the first who asks.
    pub(super) fn announce(&self) -> bool {
        !self.announced.swap(true, Ordering::Relaxed)
    }

    /// Records that an attempt begins. Its effect is unknown until [`settled`](Self::settled).
    pub(super) fn attempt(&self) -> bool {
        self.unsure.swap(true, Ordering::Relaxed)
    }

    /// Records that the attempt certainly had no effect. Earlier attempts may have had one.
    pub(super) fn settled(&self, unsure_before: bool) {
        self.unsure.store(unsure_before, Ordering::Relaxed);
    }

    pub(super) fn is_unsure(&self) -> bool {
        self.unsure.load(Ordering::Relaxed)
    }
}

/// Work to be done for an entry.
pub(super) enum Work {
    /// Nothing to do now.
    Nothing,
    /// A tick to enqueue.
    Run(Arc<Run>),
    /// Records that the task of the tick cannot be sent at all, which ends the tick.
    Invalid(Arc<Subject>, TaskError),
}

/// The end of a tick.
pub(super) enum Ended {
    /// Its task was enqueued.
    Enqueued(SchedulerEnqueueEvent),
    /// The tick, or a later one, had been decided.
    Taken(Time),
    /// Its task cannot be enqueued.
    Failed,
    /// The tick is too late.
    TooLate,
}

/// Decides whether a tick is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Yes,
    /// The answer would be the same.
    No,
    TooLate,
    /// The entry was unregistered.
    Removed,
}

pub(super) struct Entry {
    pub(super) subject: Arc<Subject>,
    pub(super) key: EntryKey,
    pub(super) queue: QueueName,
    pub(super) timetable: Timetable,
    pub(super) missed: MissedTicks,
    pub(super) on_conflict: OnConflict,
    /// Registered by the manager, and the manager's to unregister.
    pub(super) managed: bool,
    /// Time from which this scheduler is responsible for the ticks: the registration, or the start of the scheduler.
    pub(super) since: Time,
    /// The same entry was unregistered before, so ticks in between are not wanted.
    pub(super) again: bool,
    /// `true` once the stored tick was read.
    pub(super) anchored: bool,
    /// The next tick to be decided; `None`: never.
    pub(super) next: Option<Time>,
    /// Ticks up to this time are due at any delay, if all missed ticks are wanted.
    pub(super) wanted_until: Option<Time>,
    pub(super) prev: Option<Time>,
    /// The stored tick in the future that was reported.
    ahead: Option<Time>,
    pub(super) running: Option<Arc<Run>>,
    pub(super) unrecorded: Vec<SchedulerEnqueueEvent>,
    /// Time at which unrecorded events are written, after a failure; `None`: now.
    pub(super) record_at: Option<Time>,
    pub(super) removed: bool,
}

/// A checked entry.
pub(crate) struct Prepared(pub(super) Entry);

impl Prepared {
    /// Checks a registration.
    pub(super) fn new(config: &PeriodicTaskConfig, scheduler: &SchedulerConfig, env: &Env) -> Result<Self> {
        let given = config.get_cronspec();
        let parse = |text: &str| CronSpec::parse(text).map_err(|error| refused(given, error));
        let (mut text, mut spec) = (given.to_owned(), parse(given)?);
        if let (Some(zone), None) = (config.get_timezone(), spec.timezone()) {
            // One prefix has no zone of its own.
            let local = ["CRON_TZ=Local ", "TZ=Local "]
                .into_iter()
                .find_map(|prefix| given.strip_prefix(prefix));
            text = format!("CRON_TZ={} {}", zone.name(), local.unwrap_or(given));
            spec = parse(&text)?;
        }
        let timetable = Timetable::new(spec, scheduler.timezone);
        let (task, options) = (config.get_task().clone(), config.get_options().clone());
        let request = compose_within(&task, &options, env, scheduler.max_message_bytes)?;
        let key = EntryKey::new(&scheduler.name, &text, timetable.zone().name(), &task, &options);
        let now = env.clock.now();
        let subject = Subject {
            id: EntryId::new(env.entropy.uuid()),
            spec: text,
            task,
            options,
        };
        Ok(Self(Entry {
            subject: Arc::new(subject),
            key,
            queue: QueueName::from_storage(&request.message.queue),
            next: timetable.after(now),
            timetable,
            missed: config.get_missed().unwrap_or(scheduler.missed),
            on_conflict: config.get_on_conflict().unwrap_or(scheduler.on_conflict),
            managed: false,
            since: now,
            again: false,
            anchored: false,
            wanted_until: None,
            prev: None,
            ahead: None,
            running: None,
            unrecorded: Vec::new(),
            record_at: None,
            removed: false,
        }))
    }

    pub(crate) fn managed(mut self) -> Self {
        self.0.managed = true;
        self
    }
}

fn refused(spec: &str, problem: impl std::fmt::Display) -> Error {
    let fault = ConfigFault {
        field: "cronspec",
        problem: format!("{:?}: {problem}", Excerpt(spec)),
    };
    ConfigError { faults: vec![fault] }.into()
}

/// Returns the time for which a tick is recorded (rules.md#one-tick-one-task).
pub(super) fn keep(tick: Time, following: Option<Time>) -> Duration {
    let periods = following.map_or(TimeDelta::zero(), |following| (following - tick) * 3);
    let keep = periods.max(KEEP).to_std().unwrap_or(MAX_DURATION);
    keep.min(MAX_DURATION)
}

pub(super) fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    one.into_iter().chain(other).min()
}

impl Entry {
    /// Returns the due tick, after dropping the ticks that are too late.
    pub(super) fn due(&mut self, now: Time) -> Option<Time> {
        let next = self.next.filter(|next| *next <= now)?;
        let limit = now - CATCH_UP;
        if next >= limit || self.wanted_until.is_some_and(|until| next <= until) {
            return Some(next);
        }
        let last_late = limit - TimeDelta::nanoseconds(1);
        let kept = match self.missed {
            MissedTicks::Once => Some(self.timetable.newest(next, last_late)),
            MissedTicks::All => {
                self.wanted_until = Some(last_late);
                Some(self.timetable.newest_of(next, now, MOST_MISSED))
            }
            // Skip, as Go.
            _ => self.timetable.not_before(next, limit),
        };
        self.next = kept;
        self.tell_dropped(next);
        kept.filter(|kept| *kept <= now)
    }

    /// Returns the start of the period to record for an entry without a tick. A cron spec needs none, because its
    /// ticks do not depend on a start.
    pub(super) fn start(&self) -> Option<TickStart> {
        self.timetable.period()?;
        Some(TickStart {
            queue: self.queue.clone(),
            entry: self.key.clone(),
            at: self.since,
            keep: keep(self.since, self.timetable.after(self.since)),
        })
    }

    /// Sets the first tick according to the mark in the storage. The ticks in between are missed.
    pub(super) fn anchor(&mut self, mark: Option<TickMark>, now: Time) {
        self.anchored = true;
        // A mark beyond the next period was written by a wrong clock.
        let horizon = now + self.timetable.period().unwrap_or(TimeDelta::zero());
        let Some(mark) = mark.filter(|mark| mark.instant() <= horizon) else {
            return;
        };
        let (last, since) = (mark.instant(), self.since.min(now));
        if mark.outcome == TickOutcome::Started {
            // The period continues, and nothing was missed because there was no tick yet.
            let first = self.timetable.after(last);
            self.next = first.and_then(|first| self.timetable.not_before(first, since + TimeDelta::nanoseconds(1)));
            return;
        }
        let Some(missed) = self.timetable.after(last).filter(|first| *first <= since) else {
            self.next = self.timetable.after(last);
            return;
        };
        self.next = match self.missed {
            MissedTicks::Once if !self.again => Some(self.timetable.newest(missed, since)),
            MissedTicks::All if !self.again => {
                self.wanted_until = Some(since);
                Some(self.timetable.newest_of(missed, since, MOST_MISSED))
            }
            // Skip, as Go.
            _ => self.timetable.not_before(missed, since + TimeDelta::nanoseconds(1)),
        };
        self.tell_dropped(missed);
    }

    /// Logs that ticks from `first` on, up to the next one, are dropped.
    fn tell_dropped(&self, first: Time) {
        if self.next != Some(first) {
            tracing::warn!(
                spec = self.subject.spec, entry = %self.subject.id, policy = ?self.missed, from = %first,
                before = %self.next.map_or_else(|| "all".to_owned(), |kept| kept.to_string()),
                "ticks were missed, and are dropped"
            );
        }
    }

    /// Moves from a tick to the following one.
    pub(super) fn pass(&mut self, tick: Time, following: Option<Time>, now: Time) {
        self.prev = self.prev.max(Some(tick));
        self.next = if tick <= now {
            following
        } else {
            // A clock that was set back reaches times again whose ticks were decided, but never causes a pause.
            earlier(following, self.timetable.after(now))
        };
    }

    /// Continues from a tick that another scheduler decided, as the last tick was.
    pub(super) fn pass_taken(&mut self, tick: Time, following: Option<Time>, last: Time, now: Time) {
        self.pass(tick, following, now);
        self.tell_ahead(last, now);
        match self.timetable.period() {
            // The ticks up to now are decided, so they need no request.
            None if last > tick => self.next = self.timetable.after(tick.max(last.min(now))),
            // All schedulers adopt the phase of the last tick. A tick in the far future was written by a wrong clock.
            Some(period) if last <= now + period => {
                self.prev = self.prev.max(Some(last.min(now)));
                self.next = Some(last + period);
            }
            _ => {}
        }
    }

    /// Logs once that the stored tick can only come from a wrong clock. Until that time has passed or the mark has
    /// expired, the storage refuses all other ticks.
    fn tell_ahead(&mut self, last: Time, now: Time) {
        let period = self.timetable.period().unwrap_or_default();
        if last <= now + period + CATCH_UP || self.ahead == Some(last) {
            return;
        }
        self.ahead = Some(last);
        tracing::warn!(
            spec = self.subject.spec, entry = %self.subject.id, %last, %now,
            "a tick of the future was decided by a scheduler whose clock was wrong; ticks before it are lost"
        );
    }

    /// Returns the time until which the storage may have a mark of a tick that was decided up to now.
    pub(super) fn remembered(&self, now: Time) -> Time {
        let ahead = self.next.map(|next| keep(next, self.timetable.after(next)));
        let last = self.prev.map(|prev| keep(prev, self.next));
        let longest = ahead.max(last).unwrap_or_else(|| keep(now, None));
        now + longest
    }

    pub(super) fn is_busy(&self) -> bool {
        self.running.is_some() || !self.unrecorded.is_empty()
    }

    /// Returns when there is work; `None`: never.
    pub(super) fn due_at(&self) -> Option<Time> {
        let begun = self.running.is_some().then_some(Time::MIN_UTC);
        let record = (!self.unrecorded.is_empty()).then(|| self.record_at.unwrap_or(Time::MIN_UTC));
        earlier(begun, earlier(record, self.next.filter(|_| !self.removed)))
    }

    pub(super) fn shown(&self) -> SchedulerEntry {
        let Subject {
            id,
            spec,
            task,
            options,
        } = &*self.subject;
        SchedulerEntry {
            id: id.to_string(),
            spec: spec.clone(),
            task_type: task.get_type().to_owned(),
            payload: task.payload_bytes().unwrap_or_default(),
            options: options.to_go_strings(),
            next: self.next,
            prev: self.prev,
        }
    }
}
