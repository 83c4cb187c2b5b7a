//! The in-flight table: the one structure that outlives actors.
//!
//! Per task that is ours: its message, lease, cancel token, abort handle and, once it has ended, its outcome
//! until the storage has taken it. An entry goes `Leased -> Running -> Finished -> Claimed -> gone`; each step
//! is taken under one lock and only from the step before, so no task is started twice and no outcome is written
//! by two at once. A claim goes back to `Finished` only through the end of its call
//! (rules.md#calls-outlive-actors, rules.md#entry-states and rules.md#outcomes-outlive-leases).

mod cancel;
mod outcomes;
mod stalled;
mod validity;

use std::{
    collections::{HashMap, VecDeque, hash_map},
    hash::{Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use asynq_core::{
    Clock, QueueName, SettleError, TaskId, TaskMessage,
    broker::{CallToken, LEASE, LeaseRef, LeaseUntil, LeasedTask, Outcome, Settlement},
    clock::Reading,
    compose::{run_deadline, task_deadline},
};
use chrono::{DateTime, Utc};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::Instant,
};

pub(crate) use self::{
    cancel::{Cancel, CancelReason},
    validity::Validity,
};

/// How far above the lease that stands an extension on its way may have written. A settle that
/// overtakes the answer of an extension must not be taken for a zombie's. Below the earliest
/// lease of another owner, which is written 30 s after ours ended at the soonest.
const FENCE_SLACK: Duration = Duration::from_secs(15);
/// How long the lease of an ended task is renewed while its outcome cannot be written.
const RENEW_ENDED: Duration = Duration::from_secs(120);
/// An outcome that nobody claimed for so long is the syncer's.
const UNCLAIMED: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) QueueName, pub(crate) TaskId);

impl Key {
    fn of(lease: &LeaseRef) -> Self {
        Self(lease.queue.clone(), lease.id.clone())
    }
}

impl Hash for Key {
    /// By the id alone: few ids stand in two queues, and each task is looked up several times.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.1.hash(state);
    }
}

#[derive(Debug)]
enum Phase {
    Leased {
        permit: Option<OwnedSemaphorePermit>,
    },
    Running {
        abort: Option<AbortHandle>,
    },
    Finished {
        outcome: Outcome,
        at: Instant,
        attempts: u32,
    },
    Claimed {
        call: u64,
        outcome: Outcome,
        at: Instant,
        attempts: u32,
        /// With which it was sent.
        fence: LeaseUntil,
    },
}

#[derive(Debug)]
struct Entry {
    message: Arc<TaskMessage>,
    /// `until` is the fence: no lease of ours is above it.
    lease: LeaseRef,
    /// The lease that is known to stand.
    valid: Validity,
    phase: Phase,
    cancel: Cancel,
    order: u64,
    started_at: DateTime<Utc>,
    deadline: DateTime<Utc>,
    /// The task's own deadline, where that of its message is floored.
    exact: Option<DateTime<Utc>>,
    poisoned: bool,
    /// The fences with which results were sent that are on their way.
    writes: Vec<LeaseUntil>,
}

impl Entry {
    /// Returns whether an extension now would raise the lease above the fence of an outcome or a result that is
    /// on its way. Extensions travel apart, so it could overtake that one, which would be taken for a zombie's
    /// then.
    fn would_overtake(&self, now: DateTime<Utc>) -> bool {
        let next = LeaseUntil::from_now(now);
        let claimed = match self.phase {
            Phase::Claimed { fence, .. } => Some(fence),
            _ => None,
        };
        self.writes.iter().copied().chain(claimed).any(|fence| fence < next)
    }

    /// A lease is known to have been written.
    fn extend(&mut self, until: LeaseUntil) {
        self.valid.extend(until);
        self.lease.until = self.lease.until.max(until);
    }

    /// The claim to send: while the lease stands, extensions may be on their way.
    fn fenced(&mut self, at: &Reading) -> LeaseRef {
        if self.valid.stands_at(at.steady) {
            let above = LeaseUntil((at.now + LEASE + FENCE_SLACK).timestamp());
            self.lease.until = self.lease.until.max(above);
        }
        self.lease.clone()
    }
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
    pub(crate) permit: OwnedSemaphorePermit,
}

/// How a run ended, as the table is told.
#[derive(Debug)]
pub(crate) enum End {
    /// With an outcome that is to be written.
    Outcome(Outcome),
    /// The task is no longer ours: nothing is written.
    LeaseLost,
}

/// What the end of a call told about its queue.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The queue, if it had less than was wanted.
    pub(crate) exhausted: Vec<QueueName>,
    pub(crate) leased: usize,
}

/// Outcomes claimed for one call.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    pub(crate) call: u64,
    pub(crate) items: Vec<Settlement>,
}

/// A task that is running, for the server's info.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) message: Arc<TaskMessage>,
    pub(crate) queue: QueueName,
    pub(crate) id: TaskId,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) deadline: DateTime<Utc>,
}

/// How many entries stand in each step.
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

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Leased, in the order they are to be started.
    ready: VecDeque<Key>,
    /// Finished and not yet offered: of each queue, in the order they ended.
    ended: HashMap<QueueName, VecDeque<Key>>,
    reports: Vec<Report>,
    order: u64,
    calls: u64,
    running: usize,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    state: Mutex<State>,
    slots: Arc<Semaphore>,
    fetching: AtomicBool,
    closing: AtomicBool,
    in_flight: AtomicUsize,
    adoptions: AtomicUsize,
    lookouts: AtomicUsize,
    changed: Notify,
    clock: Clock,
}

impl Table {
    pub(crate) fn new(concurrency: usize, clock: Clock) -> Self {
        Self {
            state: Mutex::default(),
            slots: Arc::new(Semaphore::new(concurrency)),
            fetching: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            adoptions: AtomicUsize::new(0),
            lookouts: AtomicUsize::new(0),
            changed: Notify::new(),
            clock,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- slots and calls -------------------------------------------------------------------

    pub(crate) fn free_slots(&self) -> usize {
        self.slots.available_permits()
    }

    /// Up to `most` slots at once; `None` when there is none.
    pub(crate) fn try_slots(&self, most: u32) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(self.free_slots()).unwrap_or(u32::MAX).min(most);
        if count == 0 {
            return None;
        }
        Arc::clone(&self.slots).try_acquire_many_owned(count).ok()
    }

    /// Returns whether tasks are to be taken. Outlives the processor.
    pub(crate) fn is_fetching(&self) -> bool {
        self.fetching.load(Ordering::SeqCst) && !self.is_closing()
    }

    pub(crate) fn set_fetching(&self, fetching: bool) {
        // Before or after a call that begins: see `call_began`.
        self.fetching.store(fetching, Ordering::SeqCst);
    }

    /// Returns whether the end of service has begun.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// A processor that is stopped closes; one that is started after it, because its supervisor
    /// had given up and was itself restarted, opens again.
    pub(crate) fn set_closing(&self, closing: bool) {
        self.closing.store(closing, Ordering::Release);
    }

    /// Waits until nothing of ours is in flight: no call, no run, no outcome that is not written,
    /// and nothing that a lost call may yet take.
    pub(crate) async fn idle(&self) {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.is_waiting() && self.lookouts.load(Ordering::Acquire) == 0 && self.counts().is_idle() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until nothing runs.
    pub(crate) async fn quiet(&self) {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.running_count() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Calls in flight.
    pub(crate) fn calls(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Counts a call; whether it may take tasks. One that may is seen by [`idle`](Self::idle) from
    /// before the stop of fetching on; the others hear of the stop here.
    #[must_use]
    pub(crate) fn call_began(&self) -> bool {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        self.is_fetching()
    }

    pub(crate) fn call_ended(&self, report: Report) {
        self.lock().reports.push(report);
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Returns whether a call is in flight, or what a lost one left behind is still looked for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.calls() > 0 || self.adoptions.load(Ordering::Acquire) > 0
    }

    pub(crate) fn adoption_began(&self) {
        self.adoptions.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn adoption_ended(&self) {
        self.adoptions.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// A lost call may take tasks late, and is looked after; the end of service does not wait for that.
    pub(crate) fn lookout_began(&self) {
        self.lookouts.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn lookout_ended(&self) {
        self.lookouts.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.lock().reports)
    }

    /// Waits for the end of a run or of a call that comes after this future was first polled or
    /// enabled.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    // --- Leased ----------------------------------------------------------------------------

    /// Enters tasks that a call took; each takes one of the permits. One that finds none (the find
    /// of a late adoption) waits for a slot.
    pub(crate) fn insert(&self, tasks: Vec<LeasedTask>, mut permits: Option<OwnedSemaphorePermit>) {
        let read = self.clock.read();
        let mut state = self.lock();
        let state = &mut *state;
        for LeasedTask {
            message,
            lease,
            deadline,
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
            let entry = Entry {
                valid: Validity::of_lease(lease.until, &self.clock, &read),
                phase: Phase::Leased {
                    permit: permits.as_mut().and_then(|p| p.split(1)),
                },
                cancel: Cancel::default(),
                order: state.order,
                started_at: read.now,
                deadline: read.now,
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
            if let Some(old) = old
                && matches!(old.phase, Phase::Running { .. })
            {
                state.running -= 1;
                old.cancel.cancel(CancelReason::LeaseLost);
            }
            state.ready.push_back(key);
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

    /// The tasks that wait to be started, now running. Those whose lease has ended meanwhile, as when
    /// the answer to their take came late, are offered back: the fence decides whether they are still
    /// ours.
    pub(crate) fn start_ready(&self) -> Vec<Start> {
        let Reading { now, steady } = self.clock.read();
        let mut state = self.lock();
        let state = &mut *state;
        let mut starts = Vec::with_capacity(state.ready.len());
        let (mut waiting, mut late) = (VecDeque::new(), Vec::new());
        while let Some(key) = state.ready.pop_front() {
            let Some(entry) = state.entries.get_mut(&key) else {
                continue;
            };
            if !matches!(entry.phase, Phase::Leased { .. }) {
                continue;
            }
            if !entry.valid.stands_at(steady) {
                tracing::warn!(queue = %key.0, task = %key.1, "lease ended before the task was started, giving it back");
                late.push(key);
                continue;
            }
            let Phase::Leased { permit } = &mut entry.phase else {
                continue;
            };
            let Some(permit) = permit.take().or_else(|| self.try_slots(1)) else {
                waiting.push_back(key);
                continue;
            };
            entry.phase = Phase::Running { abort: None };
            entry.started_at = now;
            entry.deadline = run_deadline(&entry.message, entry.exact, now);
            state.running += 1;
            starts.push(Start {
                token: entry.lease.token.clone(),
                message: Arc::clone(&entry.message),
                cancel: entry.cancel.clone(),
                valid: entry.valid.clone(),
                deadline: entry.deadline,
                by_task: task_deadline(&entry.message, entry.exact),
                permit,
                key,
            });
        }
        state.ready = waiting;
        Self::give_back(state, late);
        starts
    }

    /// Gives the tasks that wait to be started back to their queues, the last taken first.
    pub(crate) fn give_back_ready(&self) {
        let mut state = self.lock();
        let keys = state.ready.drain(..).collect();
        Self::give_back(&mut state, keys);
    }

    /// In the order of the take, as they come; the last one goes back first.
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

    // --- Running ---------------------------------------------------------------------------

    pub(crate) fn set_abort(&self, key: &Key, token: &CallToken, abort: AbortHandle) {
        if let Some(Entry {
            phase: Phase::Running { abort: slot },
            lease,
            ..
        }) = self.lock().entries.get_mut(key)
            && lease.token == *token
        {
            *slot = Some(abort);
        }
    }

    /// A run ended.
    pub(crate) fn finish(&self, key: &Key, token: &CallToken, end: End) {
        {
            let mut state = self.lock();
            let Some(entry) = state.entries.get_mut(key) else {
                return;
            };
            if entry.lease.token != *token || !matches!(entry.phase, Phase::Running { .. }) {
                return;
            }
            match end {
                End::Outcome(outcome) => {
                    entry.phase = Phase::Finished {
                        outcome,
                        at: Instant::now(),
                        attempts: 0,
                    };
                    state.ended(key.clone());
                }
                End::LeaseLost => {
                    state.entries.remove(key);
                }
            }
            state.running -= 1;
        }
        self.changed.notify_waiters();
    }

    /// The claim of a running task, for what a handler writes.
    pub(crate) fn lease_of(&self, key: &Key, token: &CallToken) -> Option<LeaseRef> {
        let read = self.clock.read();
        let mut state = self.lock();
        let entry = state.entries.get_mut(key)?;
        (entry.lease.token == *token && matches!(entry.phase, Phase::Running { .. })).then(|| entry.fenced(&read))
    }

    /// Returns whether the fence has been raised since this claim was made, while the task runs on.
    pub(crate) fn raised(&self, key: &Key, lease: &LeaseRef) -> bool {
        let state = self.lock();
        state.entries.get(key).is_some_and(|entry| {
            let runs = entry.lease.token == lease.token && matches!(entry.phase, Phase::Running { .. });
            runs && entry.lease.until > lease.until
        })
    }

    /// Notes that a result is on its way with this claim, until the value returned is dropped.
    pub(crate) fn writing(self: &Arc<Self>, key: &Key, lease: &LeaseRef) -> Writing {
        if let Some(entry) = self.lock().entries.get_mut(key)
            && entry.lease.token == lease.token
        {
            entry.writes.push(lease.until);
        }
        Writing {
            table: Arc::clone(self),
            key: key.clone(),
            lease: lease.clone(),
        }
    }

    /// Cancels the runs of tasks with this id, whatever their queue (the wire names no queue). A task that
    /// waits to be started ends as soon as it is.
    pub(crate) fn cancel_id(&self, id: &TaskId) -> usize {
        let state = self.lock();
        let hit = state.entries.iter().filter(|(Key(_, known), entry)| {
            known == id && matches!(entry.phase, Phase::Leased { .. } | Phase::Running { .. })
        });
        hit.map(|(_, entry)| entry.cancel.cancel(CancelReason::Requested))
            .count()
    }

    /// Cancels the one run with this claim, as [`cancel_id`](Self::cancel_id); whether it was there.
    pub(crate) fn cancel_run(&self, lease: &LeaseRef) -> bool {
        let state = self.lock();
        let entry = state.entries.get(&Key::of(lease));
        let hit = entry.filter(|entry| {
            entry.lease.token == lease.token && matches!(entry.phase, Phase::Leased { .. } | Phase::Running { .. })
        });
        hit.inspect(|entry| entry.cancel.cancel(CancelReason::Requested))
            .is_some()
    }

    /// Cancels all runs.
    pub(crate) fn cancel_running(&self, reason: CancelReason) {
        for entry in self.lock().entries.values() {
            if matches!(entry.phase, Phase::Running { .. }) {
                entry.cancel.cancel(reason);
            }
        }
    }

    /// Drops the futures of all runs at their next await point. Each then reports its end.
    pub(crate) fn abort_running(&self) {
        for entry in self.lock().entries.values() {
            if let Phase::Running { abort: Some(abort) } = &entry.phase {
                abort.abort();
            }
        }
    }

    pub(crate) fn running(&self) -> Vec<Running> {
        let state = self.lock();
        let running = state
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.phase, Phase::Running { .. }));
        running
            .map(|(Key(queue, id), entry)| Running {
                message: Arc::clone(&entry.message),
                queue: queue.clone(),
                id: id.clone(),
                started_at: entry.started_at,
                deadline: entry.deadline,
            })
            .collect()
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

    /// Returns how many outcomes are not written: those whose write failed, or those of the first offer.
    pub(crate) fn unsettled(&self, failed: bool) -> usize {
        let state = self.lock();
        let tried = state.entries.values().filter_map(|entry| match entry.phase {
            Phase::Finished { attempts, .. } | Phase::Claimed { attempts, .. } => Some(attempts > 0),
            _ => None,
        });
        tried.filter(|tried| *tried == failed).count()
    }

    // --- leases ----------------------------------------------------------------------------

    /// The leases that are to be extended: those that stand, but for tasks that ended more than
    /// two minutes ago or are damaged, and for those of which an outcome or a result has been on its way for 15 s:
    /// its fence must stay above every lease that is written before it arrives.
    pub(crate) fn leases(&self) -> Vec<LeaseRef> {
        self.leases_where(|_| true)
    }

    fn leases_where(&self, fits: impl Fn(&Entry) -> bool) -> Vec<LeaseRef> {
        let read = self.clock.read();
        let mut state = self.lock();
        state
            .entries
            .values_mut()
            .filter(|entry| {
                let wanted = match entry.phase {
                    Phase::Leased { .. } | Phase::Running { .. } => true,
                    Phase::Finished { at, .. } | Phase::Claimed { at, .. } => at.elapsed() < RENEW_ENDED,
                };
                let stands = entry.valid.stands_at(read.steady);
                wanted && !entry.poisoned && stands && fits(entry) && !entry.would_overtake(read.now)
            })
            .map(|entry| entry.fenced(&read))
            .collect()
    }

    /// Takes the answers to an extension.
    pub(crate) fn extended(&self, leases: &[LeaseRef], answers: Vec<Result<LeaseUntil, SettleError>>) {
        let mut state = self.lock();
        for (lease, answer) in leases.iter().zip(answers) {
            let key = Key::of(lease);
            let Some(entry) = state.entries.get_mut(&key) else {
                continue;
            };
            if entry.lease.token != lease.token {
                continue;
            }
            match answer {
                Ok(until) => entry.extend(until),
                Err(SettleError::NotOurs) => match entry.phase {
                    Phase::Leased { .. } => {
                        tracing::warn!(queue = %key.0, task = %key.1, "lease lost before the task was started");
                        state.entries.remove(&key);
                        self.changed.notify_waiters();
                    }
                    Phase::Running { .. } => {
                        tracing::warn!(queue = %key.0, task = %key.1, "lease lost, the run is cancelled");
                        entry.cancel.cancel(CancelReason::LeaseLost);
                    }
                    // Perhaps settled by a call whose answer is still on its way: that one counts.
                    Phase::Finished { .. } | Phase::Claimed { .. } => {}
                },
                Err(SettleError::Poison(_)) => entry.poisoned = true,
                // Nothing was written: what stood before stands until its end.
                Err(SettleError::NoLease | SettleError::Broker(_)) => {}
                Err(_) => {}
            }
        }
    }
}

/// A result that is on its way.
#[derive(Debug)]
pub(crate) struct Writing {
    table: Arc<Table>,
    key: Key,
    lease: LeaseRef,
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.table.lock();
        if let Some(entry) = state.entries.get_mut(&self.key)
            && entry.lease.token == self.lease.token
            && let Some(place) = entry.writes.iter().position(|fence| *fence == self.lease.until)
        {
            entry.writes.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests;
