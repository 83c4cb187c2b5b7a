//! The entries of a scheduler, with their due ticks, ticks in progress and decided ticks.
//!
//! The entries belong to the system and not to the actor, so a crash of the actor loses nothing. The next incarnation
//! resumes an interrupted tick with the same request.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use asynq_core::{
    EntryKey, Env, MissedTicks, PeriodicTaskConfig, QueueName, Result,
    broker::{MAX_SCHEDULER_EVENTS, Tick, TickStart},
    compose::compose_within,
    info::{SchedulerEnqueueEvent, SchedulerEntry},
    periodic::TickMark,
};
use chrono::TimeDelta;

use super::{
    config::{Hooks, SchedulerConfig},
    entry::{Again, CATCH_UP, Ended, Entry, EntryId, Prepared, Run, Time, Work, earlier, keep},
};
use crate::host::host;

/// A clock that goes back by this much was set back.
const SET_BACK: TimeDelta = TimeDelta::seconds(1);
/// Approximate number of unregistered entries that are remembered.
const MOST_UNREGISTERED: usize = 10_000;

#[derive(Default)]
struct State {
    entries: BTreeMap<u64, Entry>,
    numbers: u64,
    /// Entries whose history is to be deleted.
    obsolete: BTreeSet<EntryId>,
    /// Unregistered entries, each with the time until which the storage may remember a tick of it.
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
    /// Name under which the storage records the ticks that this scheduler decided.
    name: Arc<str>,
    state: Mutex<State>,
    /// `true` once a system uses the entries.
    taken: AtomicBool,
}

impl Entries {
    pub(super) fn new(config: SchedulerConfig, env: Env) -> Self {
        let uuid = env.entropy.uuid();
        Self {
            scheduler_id: format!("{}:{}:{uuid}", host(), std::process::id()),
            name: uuid.into(),
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

    /// Claims the entries for a system; `None` if a system already has them.
    pub(super) fn take(self: &Arc<Self>) -> Option<Claim> {
        let taken = self.taken.swap(true, Ordering::Relaxed);
        (!taken).then(|| Claim {
            entries: Some(Arc::clone(self)),
            added: Vec::new(),
        })
    }

    /// Checks a registration.
    pub(crate) fn prepare(&self, config: &PeriodicTaskConfig) -> Result<Prepared> {
        Prepared::new(config, &self.config, &self.env)
    }

    pub(super) fn insert(&self, prepared: Prepared) -> EntryId {
        self.lock().insert(prepared)
    }

    /// Returns whether there was such an entry.
    pub(super) fn remove(&self, id: &EntryId) -> bool {
        let now = self.env.clock.now();
        let mut state = self.lock();
        let found = state.entries.iter().find(|(_, e)| e.subject.id == *id && !e.removed);
        let Some(number) = found.map(|(number, _)| *number) else {
            return false;
        };
        state.prune(now);
        state.remove(number, now);
        true
    }

    /// Replaces the manager's entries by the given ones, and unregisters the missing entries first. Returns the
    /// numbers of new and of removed entries.
    pub(crate) fn replace_managed(&self, wanted: Vec<Prepared>) -> (usize, usize) {
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
                // The policies are not part of the key of an entry.
                Some(same) => (same.missed, same.on_conflict) = (prepared.0.missed, prepared.0.on_conflict),
                None => new.push(prepared),
            }
        }
        let counts = (new.len(), gone.len());
        state.prune(now);
        for number in gone.into_values() {
            state.remove(number, now);
        }
        for prepared in new {
            state.insert(prepared);
        }
        counts
    }

    #[cfg(test)]
    pub(super) fn unregistered(&self) -> usize {
        self.lock().unregistered.len()
    }

    pub(super) fn shown(&self) -> Vec<SchedulerEntry> {
        self.lock().present().map(|(_, entry)| entry.shown()).collect()
    }

    /// Called when an actor starts. At the first start, the entries begin to be responsible for their ticks.
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
        let ended: Vec<_> = ended.into_iter().map(|number| state.forget(number)).collect();
        // The end of a span calls code of the application.
        drop(state);
        drop(ended);
    }

    /// Entries whose stored tick was not read yet.
    pub(super) fn unanchored(&self) -> Vec<(u64, QueueName, EntryKey)> {
        let state = self.lock();
        let unanchored = state.present().filter(|(_, entry)| !entry.anchored);
        unanchored
            .map(|(number, entry)| (*number, entry.queue.clone(), entry.key.clone()))
            .collect()
    }

    /// Returns the start of the period of an entry without a stored mark; `None` if the entry has no period.
    pub(super) fn start_of(&self, number: u64) -> Option<TickStart> {
        self.lock().entries.get(&number)?.start()
    }

    pub(super) fn anchor(&self, number: u64, last: Option<TickMark>) {
        let now = self.env.clock.now();
        if let Some(entry) = self.lock().entries.get_mut(&number).filter(|entry| !entry.anchored) {
            entry.anchor(last, now);
        }
    }

    /// Returns the entries that have work now, and the time at which the next one has.
    pub(super) fn due(&self) -> (Vec<u64>, Option<Time>) {
        let now = self.env.clock.now();
        let mut state = self.lock();
        state.see(now);
        let (mut due, mut next) = (Vec::new(), None::<Time>);
        for (number, entry) in state.entries.iter().filter(|(_, entry)| entry.anchored) {
            match entry.due_at() {
                Some(at) if at <= now => due.push(*number),
                later => next = earlier(next, later),
            }
        }
        (due, next)
    }

    /// Returns when an entry has work; `None`: never.
    pub(super) fn due_at(&self, number: u64) -> Option<Time> {
        let state = self.lock();
        state.entries.get(&number).filter(|entry| entry.anchored)?.due_at()
    }

    /// Returns the work for an entry: its tick in progress, or its due tick.
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
        let composed = match compose_within(
            &subject.task,
            &subject.options,
            &self.env,
            self.config.max_message_bytes,
        ) {
            Ok(composed) => composed,
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
            by: Arc::clone(&self.name),
            on_conflict: entry.on_conflict,
            decide: true,
        };
        let run = Arc::new(Run {
            composed,
            max_message_bytes: self.config.max_message_bytes,
            traced: OnceLock::new(),
            tick,
            following,
            subject,
            announced: AtomicBool::new(false),
            unsure: AtomicBool::new(false),
        });
        entry.running = Some(Arc::clone(&run));
        Work::Run(run)
    }

    /// Returns whether a tick must be tried again after its attempt failed.
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

    /// Records the end of a tick. Returns whether it was still in progress.
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
            // The policy can change meanwhile, so it is applied when the next tick is determined.
            Ended::TooLate => entry.wanted_until = None,
        }
        if entry.removed && !entry.is_busy() {
            state.forget(number);
        }
        true
    }

    /// Returns what is to be added to the history of an entry, now.
    pub(super) fn unrecorded(&self, number: u64) -> Option<(EntryId, SchedulerEnqueueEvent)> {
        let now = self.env.clock.now();
        let state = self.lock();
        let entry = state.entries.get(&number)?;
        if entry.record_at.is_some_and(|at| now < at) {
            return None;
        }
        Some((entry.subject.id.clone(), entry.unrecorded.first()?.clone()))
    }

    /// Records that an event was added to the history, or could not be added.
    pub(super) fn recorded(&self, number: u64, event: &SchedulerEnqueueEvent) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&number) else {
            return;
        };
        entry.unrecorded.retain(|unrecorded| unrecorded != event);
        entry.record_at = None;
        if entry.removed && !entry.is_busy() {
            state.forget(number);
        }
    }

    /// Keeps an event that could not be added, for a later attempt. It keeps at most as many events per entry as the
    /// history holds, and none for an entry that no longer exists. Returns whether this is the first failure in a
    /// row.
    pub(super) fn not_recorded(&self, number: u64, event: &SchedulerEnqueueEvent, wait: Duration) -> bool {
        let now = self.env.clock.now();
        if let Some(entry) = self.lock().entries.get_mut(&number).filter(|entry| !entry.removed) {
            let over = entry.unrecorded.len().saturating_sub(MAX_SCHEDULER_EVENTS as usize);
            entry.unrecorded.drain(..over);
            return entry.record_at.replace(now + wait).is_none();
        }
        self.recorded(number, event);
        false
    }

    /// Called when the system has ended. The ticks in progress stay where the application keeps the entries; their spans
    /// end now.
    pub(super) fn leave_open(&self) {
        let open: Vec<_> = self
            .lock()
            .entries
            .values()
            .filter_map(|entry| entry.running.clone())
            .collect();
        for run in open {
            run.leave_open();
        }
    }

    /// Entries whose history is to be deleted.
    pub(super) fn obsolete(&self) -> Vec<EntryId> {
        self.lock().obsolete.iter().cloned().collect()
    }

    /// Records that a history is deleted.
    pub(super) fn deleted(&self, id: &EntryId) {
        self.lock().obsolete.remove(id);
    }

    /// Returns all entries that may have a history.
    pub(super) fn with_history(&self) -> Vec<EntryId> {
        let state = self.lock();
        let present = state.entries.values().map(|entry| entry.subject.id.clone());
        present.chain(state.obsolete.iter().cloned()).collect()
    }
}

/// A guard of the entries of a system. If it is dropped before the system runs, the entries return to their earlier
/// state.
#[must_use]
pub(crate) struct Claim {
    entries: Option<Arc<Entries>>,
    /// Registered for the system.
    added: Vec<EntryId>,
}

impl Claim {
    /// Registers an entry for the system.
    pub(super) fn insert(&mut self, prepared: Prepared) {
        let id = self.entries.as_ref().map(|entries| entries.insert(prepared));
        self.added.extend(id);
    }

    /// The system runs.
    pub(crate) fn keep(mut self) {
        self.entries = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(entries) = self.entries.take() else {
            return;
        };
        let mut state = entries.lock();
        let ours = |entry: &Entry| entry.managed || self.added.contains(&entry.subject.id);
        state.entries.retain(|_, entry| !ours(entry));
        state.started = false;
        entries.taken.store(false, Ordering::Relaxed);
    }
}

impl State {
    fn present(&self) -> impl Iterator<Item = (&u64, &Entry)> {
        self.entries.iter().filter(|(_, entry)| !entry.removed)
    }

    fn insert(&mut self, Prepared(mut entry): Prepared) -> EntryId {
        let id = entry.subject.id.clone();
        entry.again = self.unregistered.contains_key(&entry.key);
        self.numbers += 1;
        self.entries.insert(self.numbers, entry);
        id
    }

    /// Forgets unregistered entries when there are too many, for example if a provider returns new ones each time.
    /// Entries that the storage has forgotten, or will forget first, go first.
    fn prune(&mut self, now: Time) {
        if self.unregistered.len() <= MOST_UNREGISTERED {
            return;
        }
        self.unregistered.retain(|_, until| now < *until);
        let mut ends: Vec<_> = self.unregistered.values().copied().collect();
        if let Some(over @ 1..) = ends.len().checked_sub(MOST_UNREGISTERED / 2) {
            let (_, first, _) = ends.select_nth_unstable(over);
            self.unregistered.retain(|_, until| *until >= *first);
        }
    }

    fn remove(&mut self, number: u64, now: Time) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.removed = true;
        let (key, under_way, remembered) = (entry.key.clone(), entry.is_busy(), entry.remembered(now));
        self.unregistered.insert(key, remembered);
        // An entry with a tick in progress is forgotten at the end of the tick, because the tick would write its
        // history again.
        if !under_way {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.obsolete.insert(entry.subject.id.clone());
        Some(entry)
    }

    /// Detects that the clock was set back. Otherwise the scheduler would wait for ticks in the far future.
    fn see(&mut self, now: Time) {
        if self.seen.is_some_and(|seen| now < seen - SET_BACK) {
            tracing::warn!(seen = ?self.seen, %now, "the clock was set back");
            for entry in self.entries.values_mut() {
                entry.next = earlier(entry.next, entry.timetable.after(now));
                entry.since = entry.since.min(now);
                entry.wanted_until = entry.wanted_until.min(Some(now));
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
