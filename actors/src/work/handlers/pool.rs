//! The instances of one spec, and the tasks that wait for them.
//!
//! Belongs to the runtime, not to an actor: it outlives every crash. A run asks for a credit,
//! sends its task to the instance whose credit it is, and waits for the answer; its future is
//! dropped when the run ends otherwise, and then takes the task back. A credit returns when the
//! task is answered or let go of, so an instance that still works on an ended run gets nothing new.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::Env;
use chrono::{DateTime, Utc};
use ractor::ActorId;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    incarnation::Incarnation,
    rate_limit::Bucket,
    suspension::{Health, Standing},
};
use crate::{supervision::tree::Tree, work::handled::PutBack};

/// Time for which the type may be without any instance before its tasks are put back.
const DESERTED: Duration = Duration::from_secs(5);
/// Tasks that found no instance come back after this, up to twice as long.
const RETURN: Duration = Duration::from_secs(10);

/// The right to give an instance one task; returns on drop.
#[derive(Debug)]
pub(super) struct Credit(Option<Given>);

#[derive(Debug)]
struct Given {
    pool: Arc<Pool>,
    live: Arc<Incarnation>,
    /// `true` for the one task that shows whether the type works again.
    trial: bool,
    started: bool,
    answered: bool,
}

impl Credit {
    pub(super) fn live(&self) -> Option<Arc<Incarnation>> {
        self.0.as_ref().map(|given| Arc::clone(&given.live))
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        let given = self.0.as_ref();
        given.map_or(DateTime::<Utc>::MIN_UTC, |given| given.pool.env.clock.now())
    }

    pub(super) fn started(&mut self) {
        if let Some(given) = &mut self.0 {
            given.started = true;
        }
    }

    pub(super) fn answered(&mut self) {
        if let Some(given) = &mut self.0 {
            given.answered = true;
            given.pool.answered(given.live.instance);
        }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(given) = self.0.take() {
            let pool = Arc::clone(&given.pool);
            pool.returned(given);
        }
    }
}

#[derive(Debug)]
struct Seat {
    live: Arc<Incarnation>,
    free: usize,
    /// Count at which it was last given a task.
    used: u64,
}

/// A credit, or for how long the type is suspended.
type Answer = Result<Credit, Duration>;

#[derive(Debug)]
struct State {
    seats: Vec<Seat>,
    /// The newest incarnation of each instance, until its supervisor has heard of its end.
    newest: HashMap<usize, Arc<Incarnation>>,
    /// Runs that wait, the first first.
    waiting: VecDeque<oneshot::Sender<Answer>>,
    health: Health,
    /// The instance that has the task of the trial.
    on_trial: Option<ActorId>,
    /// The note in the tree while the type is suspended or on trial.
    note: Option<String>,
    /// Time since which there is no instance.
    deserted: Option<Instant>,
    used: u64,
}

/// The parts of a pool.
pub(super) struct PoolParts {
    pub(super) pattern: Arc<str>,
    pub(super) concurrency: usize,
    pub(super) rate_limit: Option<(u32, Duration)>,
    pub(super) kill_after: Duration,
    pub(super) suspend_after: u32,
    /// Paths of the instances in the tree.
    pub(super) paths: Vec<String>,
    pub(super) tree: Tree,
    pub(super) env: Env,
}

pub(crate) struct Pool {
    pub(super) pattern: Arc<str>,
    concurrency: usize,
    pub(super) kill_after: Duration,
    pub(super) bucket: Option<Mutex<Bucket>>,
    paths: Vec<String>,
    tree: Tree,
    env: Env,
    state: Mutex<State>,
    /// One for each task whose run has ended and that is still with its instance.
    pub(super) watchdogs: Mutex<JoinSet<()>>,
}

impl Pool {
    pub(super) fn new(parts: PoolParts) -> Arc<Self> {
        let state = State {
            seats: Vec::new(),
            newest: HashMap::new(),
            waiting: VecDeque::new(),
            health: Health::new(parts.paths.len(), parts.suspend_after),
            on_trial: None,
            note: None,
            deserted: Some(Instant::now()),
            used: 0,
        };
        Arc::new(Self {
            pattern: parts.pattern,
            concurrency: parts.concurrency,
            kill_after: parts.kill_after,
            bucket: parts.rate_limit.map(|(tasks, per)| Mutex::new(Bucket::new(tasks, per))),
            paths: parts.paths,
            tree: parts.tree,
            env: parts.env,
            state: Mutex::new(state),
            watchdogs: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- instances -------------------------------------------------------------------------

    /// An instance is ready for tasks.
    pub(super) fn enter(self: &Arc<Self>, live: Arc<Incarnation>) {
        let mut state = self.lock();
        state.deserted = None;
        state.newest.insert(live.instance, Arc::clone(&live));
        state.seats.push(Seat {
            live,
            free: self.concurrency,
            used: 0,
        });
        self.hand_out(&mut state);
    }

    /// An instance came to its end, with its last words where it has any.
    pub(super) fn leave(&self, live: &Incarnation, words: Option<String>) {
        if let Some(words) = words {
            live.says(words);
        }
        let mut state = self.lock();
        state.seats.retain(|seat| seat.live.id() != live.id());
        if state.seats.is_empty() {
            state.deserted.get_or_insert_with(Instant::now);
        }
        live.leaves();
    }

    /// The supervisor has heard of the end of an instance.
    pub(super) fn mourn(&self, instance: usize) {
        if let Some(live) = self.lock().newest.remove(&instance) {
            live.mourn();
        }
    }

    /// The supervisor is about to restart an instance: after how long.
    pub(super) fn crashed(&self, instance: usize, failure: &str) -> Duration {
        let mut state = self.lock();
        let then = state.health.crashed(instance, &self.env.entropy);
        if let Some(span) = then.suspended {
            self.suspended(&mut state, span, failure);
        } else if let (Some(note), Some(path)) = (&state.note, self.paths.get(instance)) {
            // The crash has taken it away.
            self.tree.note(path, Some(note));
        }
        then.restart
    }

    /// The type is suspended from now on.
    fn suspended(&self, state: &mut State, span: Duration, failure: &str) {
        let crashes = state.health.crashes();
        tracing::error!(
            pattern = %self.pattern, crashes, suspended_for = ?span, failure,
            "handler actors crash without answering any task, the task type is suspended"
        );
        let until = (self.env.clock.now() + span).format("%H:%M:%S");
        let note = format!("suspended until {until} UTC after {crashes} crashes: {failure}");
        for path in &self.paths {
            self.tree.note(path, Some(&note));
        }
        state.note = Some(note);
        for waiting in state.waiting.drain(..) {
            // Whose run has ended does not care.
            let _ = waiting.send(Err(span));
        }
    }

    fn answered(&self, instance: usize) {
        let mut state = self.lock();
        if state.health.answered(instance) {
            state.note = None;
            tracing::info!(pattern = %self.pattern, "handler actors work again, the suspension is over");
            for path in &self.paths {
                self.tree.note(path, None);
            }
        }
    }

    // --- credits ---------------------------------------------------------------------------

    /// Gives the free credits to those who wait.
    fn hand_out(self: &Arc<Self>, state: &mut State) {
        loop {
            let trial = match state.health.standing() {
                Standing::Good => false,
                Standing::Trial if state.on_trial.is_none() => true,
                Standing::Trial | Standing::Suspended(_) => return,
            };
            let free = state.seats.iter_mut().filter(|seat| seat.free > 0);
            // The least busy; of these the one that has rested longest.
            let best = free.max_by_key(|seat| (seat.free, std::cmp::Reverse(seat.used)));
            let (Some(seat), false) = (best, state.waiting.is_empty()) else {
                return;
            };
            let Some(waiting) = state.waiting.pop_front() else {
                return;
            };
            let given = Given {
                pool: Arc::clone(self),
                live: Arc::clone(&seat.live),
                trial,
                started: false,
                answered: false,
            };
            match waiting.send(Ok(Credit(Some(given)))) {
                Ok(()) => {
                    state.used += 1;
                    seat.free -= 1;
                    seat.used = state.used;
                    if trial {
                        state.on_trial = Some(seat.live.id());
                    }
                }
                // Its run has ended. The credit was not given, so it need not return.
                Err(Ok(mut credit)) => drop(credit.0.take()),
                Err(Err(_)) => {}
            }
        }
    }

    fn returned(self: &Arc<Self>, given: Given) {
        let mut state = self.lock();
        if let Some(seat) = state.seats.iter_mut().find(|seat| seat.live.id() == given.live.id()) {
            seat.free += 1;
        }
        if given.trial && state.on_trial == Some(given.live.id()) {
            state.on_trial = None;
            let unsolved = given.started && !given.answered;
            if unsolved && state.health.standing() == Standing::Trial {
                let span = state.health.suspend(&self.env.entropy);
                self.suspended(&mut state, span, "the trial was not answered");
            }
        }
        self.hand_out(&mut state);
    }

    /// A task was taken back from an instance that came to its end; its credit may return late.
    pub(super) fn taken_back(self: &Arc<Self>, live: &Incarnation) {
        let mut state = self.lock();
        if state.on_trial == Some(live.id()) {
            state.on_trial = None;
            self.hand_out(&mut state);
        }
    }

    pub(super) fn standing(&self) -> Standing {
        self.lock().health.standing()
    }

    pub(super) async fn credit(self: &Arc<Self>) -> Result<Credit, PutBack> {
        let mut credit = {
            let mut state = self.lock();
            if let Standing::Suspended(left) = state.health.standing() {
                return Err(self.while_suspended(left));
            }
            let (give, credit) = oneshot::channel();
            if state.waiting.len() == state.waiting.capacity() {
                state.waiting.retain(|waiting| !waiting.is_closed());
            }
            state.waiting.push_back(give);
            self.hand_out(&mut state);
            credit
        };
        loop {
            match timeout(DESERTED, &mut credit).await {
                Ok(Ok(Ok(credit))) => return Ok(credit),
                Ok(Ok(Err(left))) => return Err(self.while_suspended(left)),
                Err(_) if !self.is_deserted() => {}
                Ok(Err(_)) | Err(_) => return Err(self.come_back("no instance of the handler actor runs")),
            }
        }
    }

    fn is_deserted(&self) -> bool {
        self.lock().deserted.is_some_and(|since| since.elapsed() >= DESERTED)
    }

    pub(super) fn while_suspended(&self, left: Duration) -> PutBack {
        PutBack {
            // The storage knows whole seconds: not before the end.
            after: left + Duration::from_secs(1),
            why: format!("task type is suspended: handler actors of {:?} crash", self.pattern),
        }
    }

    pub(super) fn come_back(&self, why: &str) -> PutBack {
        PutBack {
            after: RETURN + self.env.entropy.up_to(RETURN),
            why: format!("{why} ({:?})", self.pattern),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}
