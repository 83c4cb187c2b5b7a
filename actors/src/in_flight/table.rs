//! The in-flight table: the one structure that outlives actors.
//!
//! Per task that is ours: its message, lease, cancel token, abort handle and, once it has ended, its outcome
//! until the storage has taken it. An entry goes `Leased -> Running -> Finished -> Claimed -> gone`; each step
//! is taken under one lock and only from the step before, so no task is started twice and no outcome is written
//! by two at once. A claim goes back to `Finished` only through the end of its call
//! (rules.md#calls-outlive-actors, rules.md#entry-states and rules.md#outcomes-outlive-leases).

mod ahead;
mod cancel;
mod entry;
mod leases;
mod outcomes;
mod permits;
mod runs;
mod service;
mod stalled;
mod validity;

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

use asynq_core::{
    Clock, QueueName, TaskMessage,
    broker::{CallToken, LeasedTask, Outcome},
    clock::Reading,
    compose::{run_deadline, task_deadline},
    statistics::RunEnd,
    tree::ServerIdentity,
};
use chrono::{DateTime, Utc};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

pub(crate) use self::{
    cancel::{Cancel, CancelReason},
    entry::Key,
    outcomes::Claim,
    permits::Permits,
    runs::End,
    validity::Validity,
};
use self::{
    entry::{Ahead, Entry, Phase},
    permits::{AHEAD, AheadLook},
};
use crate::{metrics::Meters, statistics::Statistics};

/// Numbers of entries in each step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) leased: usize,
    pub(crate) running: usize,
    pub(crate) ended: usize,
}

impl Counts {
    pub(crate) fn is_idle(self) -> bool {
        self == Self::default()
    }
}

/// The report of an ended call about its queue.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The queue, if it had less than was wanted.
    pub(crate) exhausted: Vec<QueueName>,
    pub(crate) leased: usize,
}

/// A task that may now be run; the slot goes with it.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) key: Key,
    pub(crate) token: CallToken,
    pub(crate) message: Arc<TaskMessage>,
    pub(crate) cancel: Cancel,
    pub(crate) valid: Validity,
    pub(crate) deadline: DateTime<Utc>,
    /// The deadline that the task itself has.
    pub(crate) by_task: Option<DateTime<Utc>>,
    /// Time for which the task was pending, if it is known.
    pub(crate) waited: Option<Duration>,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// The end of an attempt to start a task.
enum Step {
    Started {
        start: Start,
        /// `true` if it had been taken ahead of the slots.
        ahead: bool,
    },
    /// Its lease has ended.
    Late(Key),
    /// It has no slot, and none is free.
    NoSlot(Key),
    /// It is no longer ours, or was started before.
    Gone,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Leased with a slot, in the order they are to be started.
    ready: VecDeque<Key>,
    /// Leased without a slot, in the order they are to be started. They are not walked over: where many are taken
    /// ahead, each end of a run would cost a look at all of them.
    waiting: VecDeque<Key>,
    /// Finished and not yet offered: of each queue, in the order they ended.
    ended: HashMap<QueueName, VecDeque<Key>>,
    reports: Vec<Report>,
    order: u64,
    calls: u64,
    running: usize,
    /// Tasks taken ahead that were started, or given back since they found no slot, since the last look.
    ahead: AheadLook,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    state: Mutex<State>,
    slots: Arc<Semaphore>,
    /// Places of tasks that are taken ahead of a slot.
    ahead: Arc<Semaphore>,
    /// Number of these places; 0 where none is taken ahead.
    most_ahead: usize,
    fetching: AtomicBool,
    closing: AtomicBool,
    in_flight: AtomicUsize,
    adoptions: AtomicUsize,
    lookouts: AtomicUsize,
    changed: Notify,
    clock: Clock,
    /// The server that the records of runs name.
    server: Option<Arc<ServerIdentity>>,
    /// The place where runs are counted.
    statistics: Option<Arc<Statistics>>,
    meters: Meters,
}

impl Table {
    pub(crate) fn new(concurrency: usize, clock: Clock) -> Self {
        Self {
            state: Mutex::default(),
            slots: Arc::new(Semaphore::new(concurrency)),
            ahead: Arc::new(Semaphore::new(0)),
            most_ahead: 0,
            fetching: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            adoptions: AtomicUsize::new(0),
            lookouts: AtomicUsize::new(0),
            changed: Notify::new(),
            clock,
            server: None,
            statistics: None,
            meters: Meters::new(),
        }
    }

    /// Sets the server that the records of runs name.
    #[must_use]
    pub(crate) fn of_server(mut self, server: Arc<ServerIdentity>) -> Self {
        self.server = Some(server);
        self
    }

    /// Sets the place where runs are counted.
    #[must_use]
    pub(crate) fn counting(mut self, statistics: Option<Arc<Statistics>>) -> Self {
        self.statistics = statistics;
        self
    }

    /// Sets the metrics of runs.
    #[must_use]
    pub(crate) fn metered(mut self, meters: &Meters) -> Self {
        self.meters = meters.clone();
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters tasks that a call took; each takes one of the slots.
    #[cfg(test)]
    pub(crate) fn insert(&self, tasks: Vec<LeasedTask>, slots: Option<OwnedSemaphorePermit>) {
        self.enter(tasks, Permits { slots, ahead: None });
    }

    /// Enters tasks that a call took; each takes one of the permits, slots first. One that finds none, because its
    /// call was late, waits for a slot. Where tasks are taken ahead it does so as one of them, for a short time.
    pub(crate) fn enter(&self, tasks: Vec<LeasedTask>, mut permits: Permits) {
        let read = self.clock.read();
        let since = Instant::now();
        let mut state = self.lock();
        let state = &mut *state;
        for LeasedTask {
            message,
            lease,
            deadline,
            pending_since,
        } in tasks
        {
            let key = Key::of(&lease);
            state.order += 1;
            let mut place = state.entries.entry(key.clone());
            if let hash_map::Entry::Occupied(known) = &mut place
                && known.get().lease.token == lease.token
            {
                let known = known.get_mut();
                // Told twice: the take is the same, so is the run.
                known.extend(lease.until);
                continue;
            }
            let valid = Validity::of_lease(lease.until, &self.clock, &read);
            let Permits { slots: permit, ahead } = permits.split(1);
            let ahead = (permit.is_none() && self.most_ahead > 0).then(|| Ahead::new(ahead, since));
            let has_slot = permit.is_some();
            let entry = Entry {
                cancel: Cancel::beside(&valid),
                valid,
                phase: Phase::Leased { permit, ahead },
                order: state.order,
                started_at: read.now,
                deadline: read.now,
                pending_since,
                began: read.steady,
                ended_at: None,
                exact: deadline,
                poisoned: false,
                writes: Vec::new(),
                message,
                lease,
            };
            // The storage gave it anew, so what stands here under the same id is settled or lost:
            // its call, or its run, finds another token and leaves this one alone.
            let old = match place {
                hash_map::Entry::Occupied(mut known) => Some(known.insert(entry)),
                hash_map::Entry::Vacant(place) => {
                    place.insert(entry);
                    None
                }
            };
            match old {
                Some(Entry {
                    phase: Phase::Running { .. },
                    cancel,
                    message,
                    began,
                    ..
                }) => {
                    state.running -= 1;
                    cancel.cancel(CancelReason::LeaseLost);
                    self.count_end(&key, &message, RunEnd::Lost, began, &read);
                    self.meter_end(&key, &message, RunEnd::Lost, began, &read);
                }
                // Its place in line goes with it: those who wait stand in the order in which they came.
                Some(Entry {
                    phase: Phase::Leased { .. },
                    ..
                }) => {
                    state.ready.retain(|waiting| *waiting != key);
                    state.waiting.retain(|waiting| *waiting != key);
                }
                _ => {}
            }
            if has_slot {
                state.ready.push_back(key);
            } else {
                state.waiting.push_back(key);
            }
        }
    }

    /// An adoption found again what its call had told of: the take is the same, so is the run.
    pub(crate) fn extended_by_adoption(&self, tasks: &[LeasedTask]) {
        let mut state = self.lock();
        for LeasedTask { lease, .. } in tasks {
            let key = Key::of(lease);
            if let Some(known) = state.entries.get_mut(&key)
                && known.lease.token == lease.token
            {
                known.extend(lease.until);
            }
        }
    }

    /// The tasks that wait to be started, now running; none once the end of service has begun, which gives them
    /// back. Those whose lease has ended meanwhile, as when the answer to their take came late, are offered back: the
    /// fence decides whether they are still ours. Those that were taken ahead and have waited too long go back too, so
    /// that none starts late after the process stood still.
    pub(crate) fn start_ready(&self) -> Vec<Start> {
        let read = self.clock.read();
        let starts = self.ready(&read);
        self.count_starts(&starts, read.now);
        starts
    }

    fn ready(&self, read: &Reading) -> Vec<Start> {
        let mut state = self.lock();
        if self.is_closing() {
            return Vec::new();
        }
        let state = &mut *state;
        Self::give_back_waiting(state, AHEAD);
        let mut starts = Vec::with_capacity(state.ready.len());
        let mut late = Vec::new();
        while let Some(key) = state.waiting.pop_front() {
            match self.start(&mut state.entries, key, read) {
                Step::NoSlot(key) => {
                    state.waiting.push_front(key);
                    break;
                }
                Step::Late(key) => late.push(key),
                Step::Gone => {}
                Step::Started { start, ahead } => {
                    state.running += 1;
                    state.ahead.started += usize::from(ahead);
                    starts.push(start);
                }
            }
        }
        while let Some(key) = state.ready.pop_front() {
            match self.start(&mut state.entries, key, read) {
                Step::NoSlot(key) => state.waiting.push_back(key),
                Step::Late(key) => late.push(key),
                Step::Gone => {}
                Step::Started { start, .. } => {
                    state.running += 1;
                    starts.push(start);
                }
            }
        }
        Self::give_back(state, late);
        starts
    }

    /// Starts the task of a leased entry, if there is a slot for it.
    fn start(&self, entries: &mut HashMap<Key, Entry>, key: Key, read: &Reading) -> Step {
        let Some(entry) = entries.get_mut(&key) else {
            return Step::Gone;
        };
        let Phase::Leased { permit, ahead } = &mut entry.phase else {
            return Step::Gone;
        };
        if !entry.valid.stands_at(read.steady) {
            tracing::warn!(queue = %key.0, task = %key.1, "lease ended before the task was started, giving it back");
            return Step::Late(key);
        }
        let Some(permit) = permit.take().or_else(|| self.try_slots(1)) else {
            return Step::NoSlot(key);
        };
        let ahead = ahead.as_ref().is_some_and(Ahead::has_place);
        entry.phase = Phase::Running { abort: None };
        entry.started_at = read.now;
        entry.began = read.steady;
        entry.deadline = run_deadline(&entry.message, entry.exact, read.now);
        let start = Start {
            key,
            token: entry.lease.token.clone(),
            message: Arc::clone(&entry.message),
            cancel: entry.cancel.clone(),
            valid: entry.valid.clone(),
            deadline: entry.deadline,
            by_task: task_deadline(&entry.message, entry.exact),
            waited: entry
                .pending_since
                .map(|since| (read.now - since).to_std().unwrap_or_default()),
            permit,
        };
        Step::Started { start, ahead }
    }

    /// Gives the tasks that wait to be started back to their queues, the last taken first.
    pub(crate) fn give_back_ready(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        let mut keys: Vec<Key> = state.waiting.drain(..).chain(state.ready.drain(..)).collect();
        keys.sort_by_key(|key| state.entries.get(key).map(|entry| entry.order));
        Self::give_back(state, keys);
    }

    /// Gives entries back in the order of the take; the last one goes back first.
    fn give_back(state: &mut State, keys: Vec<Key>) {
        for key in keys.into_iter().rev() {
            if let Some(entry) = state.entries.get_mut(&key)
                && matches!(entry.phase, Phase::Leased { .. })
            {
                entry.phase = Phase::Finished {
                    outcome: Outcome::Requeue,
                    at: Instant::now(),
                    attempts: 0,
                };
                state.ended(key);
            }
        }
    }

    pub(crate) fn running_count(&self) -> usize {
        self.lock().running
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        let mut counts = Counts::default();
        for entry in state.entries.values() {
            match entry.phase {
                Phase::Leased { .. } => counts.leased += 1,
                Phase::Running { .. } => counts.running += 1,
                Phase::Finished { .. } | Phase::Claimed { .. } => counts.ended += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests;
