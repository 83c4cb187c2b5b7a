//! Acts on many tasks, which run in the background after the request that has started them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use asynq::{
    Inspector,
    inspector::{Act, ActByQuery, ActProgress},
};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use futures::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use utoipa::ToSchema;

use crate::{
    background::Background,
    problem::{Problem, Result},
};

/// Acts that run at a time. Others wait.
const AT_ONCE: usize = 4;
/// Acts of one user that run at a time.
const AT_ONCE_OF_USER: usize = 2;
/// Acts that are kept, those that have ended included, of all users and of one.
const MOST: usize = 100;
const MOST_OF_USER: usize = 20;
/// Time for which an act is kept after its end.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// Attempts of a step that fails because the storage does not answer.
const ATTEMPTS: u32 = 4;
/// Time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// Time between two looks whether the user may still act.
const LOOK: Duration = Duration::from_secs(3);
/// Tasks of a list that failed, of which an act tells the errors.
const MOST_ERRORS: usize = 20;

/// The state of an act on many tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ActState {
    /// Others run before it.
    Waiting,
    /// It runs.
    Running,
    /// It has looked at all tasks.
    Complete,
    /// It has acted on as many tasks as it may.
    LimitReached,
    /// Somebody has stopped it, or the server has ended.
    Stopped,
    /// Its user may no longer act, or has other rights than at its start.
    Forbidden,
    /// It could not go on.
    Failed,
}

impl ActState {
    fn has_ended(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

/// A task of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskName {
    /// Name of the queue.
    pub(crate) queue: String,
    /// Id of the task.
    pub(crate) id: String,
}

/// A task that could not be acted on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TaskFault {
    /// Name of the queue.
    pub(crate) queue: String,
    /// Id of the task.
    pub(crate) id: String,
    /// The error in words.
    pub(crate) error: String,
}

/// An act on many tasks, with its numbers so far.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ActRecord {
    /// Id of the act.
    pub(crate) id: String,
    /// Name of the user who has started it.
    pub(crate) user: String,
    /// Reason for it, as it stands in the audit trail.
    pub(crate) reason: String,
    /// `run`, `archive` or `delete`.
    pub(crate) act: &'static str,
    /// The query that finds the tasks. `null` if they are a list.
    pub(crate) query: Option<String>,
    /// Number of tasks of the list. `null` if a query finds them.
    pub(crate) listed: Option<usize>,
    pub(crate) state: ActState,
    /// Number of tasks that were looked at.
    pub(crate) looked_at: u64,
    /// Number of tasks that met the query.
    pub(crate) found: u64,
    /// Number of tasks that were acted on.
    pub(crate) done: u64,
    /// Number of tasks that were left alone, as they had moved or changed.
    pub(crate) moved: u64,
    /// Number of tasks that were left alone, as the query could not decide about them.
    pub(crate) undecided: u64,
    /// Number of ids without a task that were removed.
    pub(crate) dropped: u64,
    /// Number of tasks that were quarantined, as their data cannot be used.
    pub(crate) poisoned: u64,
    /// Number of tasks of the list that could not be acted on.
    pub(crate) refused: u64,
    /// The first of them.
    pub(crate) refusals: Vec<TaskFault>,
    /// Largest number of tasks to act on.
    pub(crate) limit: Option<u64>,
    /// Tasks to act on in a second.
    pub(crate) rate: Option<u32>,
    pub(crate) created: DateTime<Utc>,
    pub(crate) started: Option<DateTime<Utc>>,
    pub(crate) ended: Option<DateTime<Utc>>,
    /// The error that ended it.
    pub(crate) error: Option<String>,
}

impl ActRecord {
    /// Returns whether it neither runs nor waits.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.has_ended()
    }
}

/// The tasks of an act.
pub(crate) enum Work {
    /// The tasks that a query finds.
    Query(Box<ActByQuery>),
    /// A list of tasks.
    List(Inspector, Vec<TaskName>),
}

/// The settings of a new act.
pub(crate) struct NewAct {
    pub(crate) user: String,
    pub(crate) reason: String,
    pub(crate) act: Act,
    pub(crate) query: Option<String>,
    pub(crate) limit: Option<u64>,
    pub(crate) rate: Option<u32>,
    pub(crate) work: Work,
    pub(crate) rights: Rights,
    pub(crate) key: Option<Key>,
}

/// The key by which a request that comes again is recognized, with a hash of what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) asks: u64,
}

/// Tells whether the user of an act may still act.
pub(crate) struct Rights {
    may: Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
    next_look: Option<tokio::time::Instant>,
}

impl Rights {
    /// Rights that are asked for again before the first step, and then every few seconds.
    pub(crate) fn new<F: Future<Output = bool> + Send + 'static>(may: impl Fn() -> F + Send + Sync + 'static) -> Self {
        Self {
            may: Box::new(move || may().boxed()),
            next_look: None,
        }
    }

    async fn are_lost(&mut self) -> bool {
        if self.next_look.is_some_and(|at| tokio::time::Instant::now() < at) {
            return false;
        }
        let may = (self.may)().await;
        self.next_look = Some(tokio::time::Instant::now() + LOOK);
        !may
    }
}

/// The acts of all users.
#[derive(Debug)]
pub(crate) struct Acts {
    background: Background,
    slots: Arc<Semaphore>,
    list: Mutex<VecDeque<Arc<Entry>>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    record: Mutex<ActRecord>,
    ended: Mutex<Option<Instant>>,
    stop: watch::Sender<bool>,
    key: Option<Key>,
    /// The slots of its user.
    own_slots: Arc<Semaphore>,
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, ActRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, state: ActState, error: Option<String>) {
        let mut record = self.lock();
        (record.state, record.error, record.ended) = (state, error, Some(Utc::now()));
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn count(&self, progress: ActProgress) {
        let mut record = self.lock();
        (record.looked_at, record.found, record.done) = (progress.looked_at, progress.found, progress.done);
        (record.moved, record.undecided) = (progress.moved, progress.undecided);
        (record.dropped, record.poisoned) = (progress.dropped, progress.poisoned);
    }

    fn is_old(&self) -> bool {
        let ended = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.is_some_and(|at| at.elapsed() >= KEPT)
    }
}

impl Acts {
    pub(crate) fn new(background: Background) -> Self {
        Self {
            background,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            list: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Starts an act in the background. One that its user has started with the same key before is returned instead.
    pub(crate) fn start(&self, mut new: NewAct) -> Result<ActRecord> {
        if self.background.is_stopping() {
            return Err(Problem::unavailable("the server is about to end"));
        }
        let entry = {
            let mut list = self.lock();
            list.retain(|entry| !entry.is_old());
            let is_own = |entry: &Arc<Entry>| entry.lock().user == new.user;
            if let Some(key) = &new.key {
                let has_key = |entry: &&Arc<Entry>| entry.key.as_ref().is_some_and(|known| known.text == key.text);
                if let Some(known) = list.iter().filter(|entry| is_own(entry)).find(has_key) {
                    return match known.key.as_ref() == Some(key) {
                        true => Ok(known.lock().clone()),
                        false => Err(Problem::new(
                            StatusCode::CONFLICT,
                            "key_reused",
                            "idempotency_key: another act was started with this key",
                        )),
                    };
                }
            }
            let own = list.iter().filter(|entry| is_own(entry)).count();
            if own >= MOST_OF_USER && !make_room(&mut list, is_own) {
                let detail = format!("{MOST_OF_USER} acts of this user run or wait already");
                return Err(Problem::too_many(detail, 10));
            }
            if list.len() >= MOST && !make_room(&mut list, |_| true) {
                return Err(Problem::too_many(format!("{MOST} acts run or wait already"), 10));
            }
            let own_slots = list
                .iter()
                .find(|entry| is_own(entry))
                .map(|entry| Arc::clone(&entry.own_slots));
            let entry = Arc::new(Entry {
                record: Mutex::new(self.record(&new)),
                ended: Mutex::new(None),
                stop: watch::Sender::new(false),
                key: new.key.take(),
                own_slots: own_slots.unwrap_or_else(|| Arc::new(Semaphore::new(AT_ONCE_OF_USER))),
            });
            list.push_back(Arc::clone(&entry));
            entry
        };
        let record = entry.lock().clone();
        let work = run(entry, new, self.background.clone(), Arc::clone(&self.slots));
        self.background.spawn(work);
        Ok(record)
    }

    fn record(&self, new: &NewAct) -> ActRecord {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        ActRecord {
            // Ids of another run of the server are others.
            id: format!("{:x}-{number}", self.background.started().timestamp_millis()),
            user: new.user.clone(),
            reason: new.reason.clone(),
            act: new.act.as_str(),
            query: new.query.clone(),
            listed: match &new.work {
                Work::List(_, tasks) => Some(tasks.len()),
                Work::Query(_) => None,
            },
            state: ActState::Waiting,
            looked_at: 0,
            found: 0,
            done: 0,
            moved: 0,
            undecided: 0,
            dropped: 0,
            poisoned: 0,
            refused: 0,
            refusals: Vec::new(),
            limit: new.limit,
            rate: new.rate,
            created: Utc::now(),
            started: None,
            ended: None,
            error: None,
        }
    }

    /// Returns the acts for which `shown` returns `true`, the newest one first.
    pub(crate) fn list(&self, shown: impl Fn(&ActRecord) -> bool) -> Vec<ActRecord> {
        let mut list = self.lock();
        list.retain(|entry| !entry.is_old());
        let records = list.iter().rev().map(|entry| entry.lock().clone());
        records.filter(shown).collect()
    }

    /// Asks an act to stop after its current step.
    pub(crate) fn stop(&self, id: &str) {
        if let Some(entry) = self.lock().iter().find(|entry| entry.lock().id == id) {
            entry.stop.send_replace(true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Entry>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the act that ended first, of those that may go, and returns whether there is one.
fn make_room(list: &mut VecDeque<Arc<Entry>>, may_go: impl Fn(&Arc<Entry>) -> bool) -> bool {
    let oldest = list
        .iter()
        .position(|entry| may_go(entry) && entry.lock().state.has_ended());
    oldest.and_then(|oldest| list.remove(oldest)).is_some()
}

impl Drop for Acts {
    fn drop(&mut self) {
        // Nobody could ask about them any more.
        for entry in self.lock().iter() {
            entry.stop.send_replace(true);
        }
    }
}

async fn run(entry: Arc<Entry>, new: NewAct, background: Background, slots: Arc<Semaphore>) {
    let mut stop = entry.stop.subscribe();
    let stopped = async {
        tokio::select! {
            _ = stop.wait_for(|is| *is) => {}
            () = background.stopping() => {}
        }
    };
    let mut stopped = std::pin::pin!(stopped);
    // A slot of the user first: one who waits for it holds no other. The semaphores are never closed.
    let own_slots = Arc::clone(&entry.own_slots);
    let both = async { (own_slots.acquire_owned().await, slots.acquire_owned().await) };
    let _slots = tokio::select! {
        biased;
        () = &mut stopped => return entry.end(ActState::Stopped, None),
        slots = both => slots,
    };
    {
        let mut record = entry.lock();
        (record.state, record.started) = (ActState::Running, Some(Utc::now()));
    }
    let must_stop = || *entry.stop.borrow() || background.is_stopping();
    match new.work {
        Work::Query(act) => by_query(&entry, *act, new.limit, must_stop, new.rights).await,
        Work::List(inspector, tasks) => {
            let list = List {
                inspector,
                act: new.act,
                tasks,
                rate: new.rate,
            };
            on_list(&entry, list, must_stop, new.rights).await;
        }
    }
}

async fn by_query(
    entry: &Entry,
    mut act: ActByQuery,
    limit: Option<u64>,
    must_stop: impl Fn() -> bool,
    mut rights: Rights,
) {
    let mut attempts = 0;
    let (state, error) = loop {
        if must_stop() {
            break (ActState::Stopped, None);
        }
        if rights.are_lost().await {
            break (ActState::Forbidden, None);
        }
        match act.next().await {
            Ok(Some(progress)) => {
                attempts = 0;
                entry.count(progress);
            }
            Ok(None) if limit.is_some_and(|limit| act.progress().done >= limit) => {
                break (ActState::LimitReached, None);
            }
            Ok(None) => break (ActState::Complete, None),
            Err(error) => {
                let problem = Problem::from(error);
                attempts += 1;
                if !problem.is_outage() || attempts == ATTEMPTS {
                    break (ActState::Failed, Some(problem.detail));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    // The end is in the audit trail before anybody can read that it has ended.
    entry.count(act.stop().await);
    entry.end(state, error);
}

/// An act on a list of tasks.
struct List {
    inspector: Inspector,
    act: Act,
    tasks: Vec<TaskName>,
    rate: Option<u32>,
}

async fn on_list(entry: &Entry, list: List, must_stop: impl Fn() -> bool, mut rights: Rights) {
    let List {
        inspector,
        act,
        tasks,
        rate,
    } = list;
    let pause = rate.map(|rate| Duration::from_secs(1) / rate.max(1));
    for task in tasks {
        if must_stop() {
            return entry.end(ActState::Stopped, None);
        }
        if rights.are_lost().await {
            return entry.end(ActState::Forbidden, None);
        }
        let TaskName { queue, id } = &task;
        let acted = match act {
            Act::Run => inspector.run_task(queue, id).await,
            Act::Archive => inspector.archive_task(queue, id).await,
            Act::Delete => inspector.delete_task(queue, id).await,
            other => return entry.end(ActState::Failed, Some(format!("the act {other} is not known here"))),
        };
        {
            let mut record = entry.lock();
            record.looked_at += 1;
            match acted.map_err(Problem::from) {
                Ok(()) => {
                    record.found += 1;
                    record.done += 1;
                }
                Err(problem) if problem.is_outage() => {
                    drop(record);
                    return entry.end(ActState::Failed, Some(problem.detail));
                }
                Err(problem) => {
                    record.refused += 1;
                    if record.refusals.len() < MOST_ERRORS {
                        let (TaskName { queue, id }, error) = (task, problem.detail);
                        record.refusals.push(TaskFault { queue, id, error });
                    }
                }
            }
        }
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    entry.end(ActState::Complete, None);
}
