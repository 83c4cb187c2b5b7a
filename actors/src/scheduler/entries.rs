//! The entries of a scheduler: what is due, what is under way, what was decided.
//!
//! They belong to the system and not to the actor, so that a crash of the actor loses nothing: a tick
//! that was under way is gone on with by the next incarnation, with the request that was made for it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use asynq_core::{
    ConfigError, EntryKey, Env, Error, MissedTicks, PeriodicTaskConfig, QueueName, Result, Task, TaskError,
    TaskOptions,
    broker::{EnqueueRequest, Tick},
    compose::compose,
    cron::CronSpec,
    error::ConfigFault,
    info::{SchedulerEnqueueEvent, SchedulerEntry},
    options::MAX_DURATION,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    config::{Hooks, SchedulerConfig},
    handle::EntryId,
    timetable::Timetable,
};
use crate::heartbeater::host;

type Time = DateTime<Utc>;

/// Ticks that are late by no more than this are caught up, whatever the policy is.
pub(super) const CATCH_UP: TimeDelta = TimeDelta::minutes(5);
/// So many ticks are caught up at most.
const MOST_MISSED: usize = 1000;
/// How long a tick is remembered at least.
const KEEP: TimeDelta = TimeDelta::days(7);
/// A clock that goes back by this much was set back.
const SET_BACK: TimeDelta = TimeDelta::seconds(1);

/// What a tick enqueues; what hooks are shown.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) id: EntryId,
    pub(super) spec: String,
    pub(super) task: Task,
    pub(super) options: TaskOptions,
}

/// A tick under way. The same request, however often it is sent (SAFETY rule 3).
#[derive(Debug)]
pub(super) struct Run {
    pub(super) request: EnqueueRequest,
    pub(super) tick: Tick,
    following: Option<Time>,
    pub(super) subject: Arc<Subject>,
    /// Whether the pre-enqueue hook was called.
    announced: AtomicBool,
}

impl Run {
    /// Whether this is the first who asks.
    pub(super) fn announce(&self) -> bool {
        !self.announced.swap(true, Ordering::Relaxed)
    }
}

/// What is to be done for an entry.
pub(super) enum Work {
    /// Nothing now.
    Nothing,
    /// To see a tick through.
    Run(Arc<Run>),
    /// The task of the tick cannot be sent at all; the tick is over.
    Invalid(Arc<Subject>, TaskError),
}

/// How a tick ended.
pub(super) enum Ended {
    /// Its task was enqueued.
    Enqueued(SchedulerEnqueueEvent),
    /// It, or a later one, had been decided.
    Taken(Time),
    /// Its task cannot be enqueued.
    Failed,
    /// It is too late for it.
    TooLate,
}

/// Whether a tick is to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Yes,
    /// The answer would be the same.
    No,
    TooLate,
    /// The entry was unregistered.
    Removed,
}

struct Entry {
    subject: Arc<Subject>,
    key: EntryKey,
    queue: QueueName,
    timetable: Timetable,
    missed: MissedTicks,
    /// Registered by the manager, and the manager's to unregister.
    managed: bool,
    /// From when on this scheduler answers for its ticks: the registration, or the start of the scheduler.
    since: Time,
    /// The same entry had been unregistered before: what fell meanwhile was not wanted.
    again: bool,
    /// Whether the stored tick was looked at.
    anchored: bool,
    /// The next tick to be decided; `None`: never.
    next: Option<Time>,
    /// Ticks up to here are due however late they are.
    wanted_until: Option<Time>,
    prev: Option<Time>,
    running: Option<Arc<Run>>,
    unrecorded: Vec<SchedulerEnqueueEvent>,
    removed: bool,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<u64, Entry>,
    numbers: u64,
    /// Entries whose history is to be deleted.
    obsolete: Vec<EntryId>,
    unregistered: HashMap<EntryKey, Time>,
    started: bool,
    /// The latest time seen.
    seen: Option<Time>,
}

/// The entries of one scheduler.
pub(crate) struct Entries {
    pub(super) config: SchedulerConfig,
    pub(super) env: Env,
    /// `<host>:<pid>:<uuid>`, as Go's.
    pub(super) scheduler_id: String,
    state: Mutex<State>,
    /// Whether a system has them.
    taken: AtomicBool,
}

/// An entry that was found good.
pub(super) struct Prepared(Entry);

impl Prepared {
    pub(super) fn managed(mut self) -> Self {
        self.0.managed = true;
        self
    }
}

fn refused(spec: &str, problem: impl std::fmt::Display) -> Error {
    let fault = ConfigFault {
        field: "cronspec",
        problem: format!("{spec:?}: {problem}"),
    };
    ConfigError { faults: vec![fault] }.into()
}

/// How long a tick is remembered (SAFETY rule 10).
fn keep(tick: Time, following: Option<Time>) -> Duration {
    let periods = following.map_or(TimeDelta::zero(), |following| (following - tick) * 3);
    let keep = periods.max(KEEP).to_std().unwrap_or(MAX_DURATION);
    keep.min(MAX_DURATION)
}

fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    one.into_iter().chain(other).min()
}

impl Entry {
    /// The tick that is due, after what is too late was dropped.
    fn due(&mut self, now: Time) -> Option<Time> {
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

    /// Sets the first tick by what the storage remembers; what fell between is missed.
    fn anchor(&mut self, last: Option<Time>, now: Time) {
        self.anchored = true;
        // One beyond the next period was written by a clock that was wrong.
        let horizon = now + self.timetable.period().unwrap_or(TimeDelta::zero());
        let Some(last) = last.filter(|last| *last <= horizon) else {
            return;
        };
        let since = self.since;
        let Some(missed) = self.timetable.after(last).filter(|first| *first <= since) else {
            self.next = self.timetable.after(last);
            return;
        };
        self.next = match self.missed {
            MissedTicks::Once if !self.again => Some(self.timetable.newest(missed, since)),
            MissedTicks::All if !self.again => Some(self.timetable.newest_of(missed, since, MOST_MISSED)),
            // Skip, as Go.
            _ => self.timetable.not_before(missed, since + TimeDelta::nanoseconds(1)),
        };
        self.wanted_until = Some(since);
        self.tell_dropped(missed);
    }

    /// Tells that ticks from `first` on, up to the next one, are dropped.
    fn tell_dropped(&self, first: Time) {
        if self.next != Some(first) {
            tracing::warn!(
                spec = self.subject.spec, entry = %self.subject.id, policy = ?self.missed, from = %first,
                before = %self.next.map_or_else(|| "all".to_owned(), |kept| kept.to_string()),
                "ticks were missed, and are dropped"
            );
        }
    }

    /// Goes on from a tick to the following one.
    fn pass(&mut self, tick: Time, following: Option<Time>, now: Time) {
        self.prev = self.prev.max(Some(tick));
        self.next = if tick <= now {
            following
        } else {
            // A clock that was set back brings times again that were decided, never a pause.
            earlier(following, self.timetable.after(now))
        };
    }

    /// Goes on from a tick that was decided elsewhere, as was the last one.
    fn pass_taken(&mut self, tick: Time, following: Option<Time>, last: Time, now: Time) {
        self.pass(tick, following, now);
        match self.timetable.period() {
            // What is decided up to now need not be asked for.
            None if last > tick => self.next = self.timetable.after(tick.max(last.min(now))),
            // All schedulers take over the phase of the last. One beyond was written by a clock that was wrong.
            Some(period) if last <= now + period => {
                self.prev = self.prev.max(Some(last.min(now)));
                self.next = Some(last + period);
            }
            _ => {}
        }
    }

    fn is_busy(&self) -> bool {
        self.running.is_some() || !self.unrecorded.is_empty()
    }

    fn shown(&self) -> SchedulerEntry {
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

impl Entries {
    pub(super) fn new(config: SchedulerConfig, env: Env) -> Self {
        Self {
            scheduler_id: format!("{}:{}:{}", host(), std::process::id(), env.entropy.uuid()),
            config,
            env,
            state: Mutex::default(),
            taken: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hooks(&self) -> &Hooks {
        &self.config.hooks
    }

    /// Takes them for a system; `false` when one has them.
    pub(crate) fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::Relaxed)
    }

    /// Gives them back: the system was not started.
    pub(super) fn give_back(&self) {
        self.taken.store(false, Ordering::Relaxed);
    }

    /// Checks a registration.
    pub(super) fn prepare(&self, config: &PeriodicTaskConfig) -> Result<Prepared> {
        let given = config.get_cronspec();
        let parse = |text: &str| CronSpec::parse(text).map_err(|error| refused(given, error));
        let (mut text, mut spec) = (given.to_owned(), parse(given)?);
        if let (Some(zone), None) = (config.get_timezone(), spec.timezone()) {
            text = format!("CRON_TZ={} {given}", zone.name());
            spec = parse(&text)?;
        }
        let timetable = Timetable::new(spec, self.config.timezone);
        let (task, options) = (config.get_task().clone(), config.get_options().clone());
        let request = compose(&task, &options, &self.env)?;
        let key = EntryKey::new(&self.config.name, &text, timetable.zone().name(), &task, &options);
        let now = self.env.clock.now();
        let subject = Subject {
            id: EntryId::new(self.env.entropy.uuid()),
            spec: text,
            task,
            options,
        };
        Ok(Prepared(Entry {
            subject: Arc::new(subject),
            key,
            queue: QueueName::from_storage(&request.message.queue),
            next: timetable.after(now),
            timetable,
            missed: config.get_missed().unwrap_or(self.config.missed),
            managed: false,
            since: now,
            again: false,
            anchored: false,
            wanted_until: None,
            prev: None,
            running: None,
            unrecorded: Vec::new(),
            removed: false,
        }))
    }

    pub(super) fn insert(&self, prepared: Prepared) -> EntryId {
        self.lock().insert(prepared)
    }

    /// Whether there was such an entry.
    pub(super) fn remove(&self, id: &EntryId) -> bool {
        let now = self.env.clock.now();
        let mut state = self.lock();
        let found = state.entries.iter().find(|(_, e)| e.subject.id == *id && !e.removed);
        let Some(number) = found.map(|(number, _)| *number) else {
            return false;
        };
        state.remove(number, now);
        true
    }

    /// Makes the manager's entries those given: what is gone is unregistered first. How many came
    /// and went.
    pub(super) fn replace_managed(&self, wanted: Vec<Prepared>) -> (usize, usize) {
        let now = self.env.clock.now();
        let mut state = self.lock();
        let managed = state
            .entries
            .iter()
            .filter(|(_, entry)| entry.managed && !entry.removed);
        let mut gone: HashMap<_, _> = managed.map(|(number, entry)| (entry.key.clone(), *number)).collect();
        let (mut keys, mut new) = (HashSet::new(), Vec::new());
        for prepared in wanted {
            let key = &prepared.0.key;
            if !keys.insert(key.clone()) {
                continue;
            }
            match gone.remove(key).and_then(|number| state.entries.get_mut(&number)) {
                // The policy is not part of what an entry is known by.
                Some(same) => same.missed = prepared.0.missed,
                None => new.push(prepared),
            }
        }
        let counts = (new.len(), gone.len());
        for number in gone.into_values() {
            state.remove(number, now);
        }
        for prepared in new {
            state.insert(prepared);
        }
        counts
    }

    pub(super) fn shown(&self) -> Vec<SchedulerEntry> {
        self.lock().present().map(|(_, entry)| entry.shown()).collect()
    }

    /// The actor starts; the first time, from now on ticks are answered for.
    pub(super) fn start(&self) {
        let now = self.env.clock.now();
        let mut state = self.lock();
        if !std::mem::replace(&mut state.started, true) {
            for entry in state.entries.values_mut() {
                entry.since = now;
                entry.next = entry.timetable.after(now);
            }
        }
        // Ended by a crash after it was unregistered.
        let ended: Vec<u64> = state
            .entries
            .iter()
            .filter(|(_, e)| e.removed)
            .map(|(n, _)| *n)
            .collect();
        for number in ended {
            state.forget(number);
        }
    }

    /// Entries whose stored tick was not looked at yet.
    pub(super) fn unanchored(&self) -> Vec<(u64, QueueName, EntryKey)> {
        let state = self.lock();
        let unanchored = state.present().filter(|(_, entry)| !entry.anchored);
        unanchored
            .map(|(number, entry)| (*number, entry.queue.clone(), entry.key.clone()))
            .collect()
    }

    pub(super) fn anchor(&self, number: u64, last: Option<Time>) {
        let now = self.env.clock.now();
        if let Some(entry) = self.lock().entries.get_mut(&number).filter(|entry| !entry.anchored) {
            entry.anchor(last, now);
        }
    }

    /// The entries that have work now, and when the next one has.
    pub(super) fn due(&self) -> (Vec<u64>, Option<Time>) {
        let now = self.env.clock.now();
        let mut state = self.lock();
        state.see(now);
        let (mut due, mut next) = (Vec::new(), None::<Time>);
        for (number, entry) in state.entries.iter().filter(|(_, entry)| entry.anchored) {
            if entry.is_busy() || entry.next.is_some_and(|next| next <= now) {
                due.push(*number);
            } else {
                next = earlier(next, entry.next);
            }
        }
        (due, next)
    }

    /// When an entry has work; `None`: never.
    pub(super) fn due_at(&self, number: u64) -> Option<Time> {
        let state = self.lock();
        let entry = state.entries.get(&number).filter(|entry| entry.anchored)?;
        if entry.is_busy() {
            Some(Time::MIN_UTC)
        } else {
            entry.next
        }
    }

    /// The work for an entry: what is under way, or what is due now.
    pub(super) fn begin(&self, number: u64) -> Work {
        let now = self.env.clock.now();
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&number).filter(|entry| entry.anchored) else {
            return Work::Nothing;
        };
        if let Some(run) = &entry.running {
            return Work::Run(Arc::clone(run));
        }
        let Some(at) = entry.due(now).filter(|_| !entry.removed) else {
            return Work::Nothing;
        };
        let subject = Arc::clone(&entry.subject);
        let following = entry.timetable.after(at);
        let request = match compose(&subject.task, &subject.options, &self.env) {
            Ok(request) => request,
            Err(error) => {
                entry.pass(at, following, now);
                return Work::Invalid(subject, error);
            }
        };
        let period = entry.timetable.period();
        let tick = Tick {
            entry: entry.key.clone(),
            at,
            gap: period.and_then(|period| period.to_std().ok()).unwrap_or_default(),
            keep: keep(at, following),
        };
        let run = Arc::new(Run {
            request,
            tick,
            following,
            subject,
            announced: AtomicBool::new(false),
        });
        entry.running = Some(Arc::clone(&run));
        Work::Run(run)
    }

    /// Whether a tick whose attempt failed is to be tried again.
    pub(super) fn again(&self, number: u64, run: &Arc<Run>) -> Again {
        let now = self.env.clock.now();
        let state = self.lock();
        let Some(entry) = state.entries.get(&number).filter(|entry| !entry.removed) else {
            return Again::Removed;
        };
        let (at, limit) = (run.tick.at, now - CATCH_UP);
        let too_late = at < limit
            && match entry.missed {
                MissedTicks::All => false,
                MissedTicks::Once => run.following.is_some_and(|following| following < limit),
                _ => true,
            };
        if too_late { Again::TooLate } else { Again::Yes }
    }

    /// The end of a tick; whether it was still under way.
    pub(super) fn end(&self, number: u64, run: &Arc<Run>, ended: Ended) -> bool {
        let now = self.env.clock.now();
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&number) else {
            return false;
        };
        if !entry.running.as_ref().is_some_and(|running| Arc::ptr_eq(running, run)) {
            return false;
        }
        entry.running = None;
        let (at, following) = (run.tick.at, run.following);
        match ended {
            Ended::Enqueued(event) => {
                entry.pass(at, following, now);
                entry.unrecorded.push(event);
            }
            Ended::Taken(last) => entry.pass_taken(at, following, last, now),
            Ended::Failed => entry.pass(at, following, now),
            // What is too late is dropped when the next tick is looked for.
            Ended::TooLate => {}
        }
        if entry.removed && !entry.is_busy() {
            state.forget(number);
        }
        true
    }

    /// What is to be added to the history of an entry.
    pub(super) fn unrecorded(&self, number: u64) -> Option<(EntryId, SchedulerEnqueueEvent)> {
        let state = self.lock();
        let entry = state.entries.get(&number)?;
        Some((entry.subject.id.clone(), entry.unrecorded.first()?.clone()))
    }

    /// It was added, or could not be.
    pub(super) fn recorded(&self, number: u64, event: &SchedulerEnqueueEvent) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&number) else {
            return;
        };
        entry.unrecorded.retain(|unrecorded| unrecorded != event);
        if entry.removed && !entry.is_busy() {
            state.forget(number);
        }
    }

    /// Entries whose history is to be deleted.
    pub(super) fn obsolete(&self) -> Vec<EntryId> {
        self.lock().obsolete.clone()
    }

    /// It is deleted.
    pub(super) fn deleted(&self, id: &EntryId) {
        self.lock().obsolete.retain(|obsolete| obsolete != id);
    }

    /// All entries that may have a history.
    pub(super) fn with_history(&self) -> Vec<EntryId> {
        let state = self.lock();
        let present = state.entries.values().map(|entry| entry.subject.id.clone());
        present.chain(state.obsolete.iter().cloned()).collect()
    }
}

impl State {
    fn present(&self) -> impl Iterator<Item = (&u64, &Entry)> {
        self.entries.iter().filter(|(_, entry)| !entry.removed)
    }

    fn insert(&mut self, Prepared(mut entry): Prepared) -> EntryId {
        let id = entry.subject.id.clone();
        entry.again = self.unregistered.remove(&entry.key).is_some();
        self.numbers += 1;
        self.entries.insert(self.numbers, entry);
        id
    }

    fn remove(&mut self, number: u64, now: Time) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.removed = true;
        let (key, under_way) = (entry.key.clone(), entry.is_busy());
        self.unregistered.retain(|_, at| now - *at < KEEP);
        self.unregistered.insert(key, now);
        // One with a tick under way is forgotten at its end, lest its history comes again.
        if !under_way {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.obsolete.push(entry.subject.id.clone());
        }
    }

    /// Finds out whether the clock was set back: next ticks far ahead would else be waited for.
    fn see(&mut self, now: Time) {
        if self.seen.is_some_and(|seen| now < seen - SET_BACK) {
            tracing::warn!(seen = ?self.seen, %now, "the clock was set back");
            for entry in self.entries.values_mut() {
                entry.next = earlier(entry.next, entry.timetable.after(now));
            }
        }
        self.seen = Some(now);
    }
}

impl std::fmt::Debug for Entries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries")
            .field("scheduler_id", &self.scheduler_id)
            .field("entries", &self.lock().present().count())
            .finish()
    }
}
