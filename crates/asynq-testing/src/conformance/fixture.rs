//! A fresh storage under a clock moved by hand, and what cases do with it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    BrokerError, Clock, EnqueueError, Entropy, Env, SettleError, Storage, TaskInfo, TaskState,
    broker::{Exchanged, LeasedTask, Outcome, Settlement, Want},
    inspect::{Breach, Cursor},
    names::QueueName,
    raw::{RawState, RawValue},
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    invariants,
    request::{self, RequestBuilder},
    view::{self, QueueView, TaskView},
};

use super::values::{DONE, archive, retry, settlement};

/// The queue that cases use if one will do.
pub const Q: &str = "q";

/// The means behind a storage under test: access to its raw keys and more connections.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Opens one more connection to the same data.
    async fn connect(&self, env: Env) -> Arc<dyn Storage>;

    /// All keys.
    async fn raw_state(&self) -> RawState;

    /// Returns how many whole seconds a key still lives; `None`: for ever, or there is no such key.
    async fn ttl(&self, key: &str) -> Option<i64>;

    /// Writes keys as a foreign program would: each key is replaced whole and has no end of life;
    /// `None` deletes it.
    async fn put(&self, values: Vec<(String, Option<RawValue>)>);

    /// Returns whether the ends of locks and counters follow the fixture's clock. Those of a real server
    /// follow its own.
    fn has_virtual_time(&self) -> bool;
}

/// One storage for one case. Its clock starts at the real time and stands until it is moved.
pub struct Fixture {
    /// The first connection.
    pub storage: Arc<dyn Storage>,
    /// The clock of all connections.
    pub clock: Clock,
    backend: Box<dyn Backend>,
    connections: AtomicU64,
    damaged: AtomicBool,
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixture")
            .field("storage", &self.storage)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl Fixture {
    /// A fixture over fresh data.
    pub async fn new(backend: impl Backend + 'static) -> Self {
        // A quarter past a whole second: flooring shows, and small steps stay within the second.
        let start = DateTime::from_timestamp(Utc::now().timestamp(), 250_000_000).unwrap_or_default();
        let clock = Clock::manual(start);
        let storage = backend
            .connect(Env {
                clock: clock.clone(),
                entropy: Entropy::seeded(0),
            })
            .await;
        let (connections, damaged) = (AtomicU64::new(1), AtomicBool::new(false));
        Self {
            storage,
            clock,
            backend: Box::new(backend),
            connections,
            damaged,
        }
    }

    /// One more connection, with the same clock and other tokens.
    pub async fn connect(&self) -> Arc<dyn Storage> {
        let seed = self.connections.fetch_add(1, Ordering::Relaxed);
        self.backend
            .connect(Env {
                clock: self.clock.clone(),
                entropy: Entropy::seeded(seed),
            })
            .await
    }

    /// Returns whether locks end by the fixture's clock.
    #[must_use]
    pub fn has_virtual_time(&self) -> bool {
        self.backend.has_virtual_time()
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The Unix second now.
    #[must_use]
    pub fn secs(&self) -> i64 {
        self.now().timestamp()
    }

    /// So many seconds from now.
    #[must_use]
    pub fn after(&self, secs: i64) -> DateTime<Utc> {
        self.now() + TimeDelta::seconds(secs)
    }

    /// Moves the clock forward.
    pub fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// Declares that the case leaves damage behind, so that the last audit is left out.
    pub(super) fn leaves_damage(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// All keys.
    pub async fn raw(&self) -> Raw {
        Raw {
            state: self.backend.raw_state().await,
            queue: request::queue(Q),
        }
    }

    /// Returns how many seconds a key of the queue [`Q`] still lives.
    pub(super) async fn ttl(&self, suffix: &str) -> Option<i64> {
        self.ttl_of(&format!("asynq:{{{Q}}}:{suffix}")).await
    }

    /// Returns how many seconds a key still lives.
    pub(super) async fn ttl_of(&self, key: &str) -> Option<i64> {
        self.backend.ttl(key).await
    }

    /// Changes the raw keys behind the storage's back: a foreign program, or damage.
    pub(super) async fn edit(&self, change: impl FnOnce(&mut RawState)) {
        let before = self.backend.raw_state().await;
        let mut after = before.clone();
        change(&mut after);
        let mut values: Vec<(String, Option<RawValue>)> = Vec::new();
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            values.push((key.clone(), None));
        }
        for (key, value) in after {
            if before.get(&key) != Some(&value) {
                values.push((key, Some(value).filter(|value| !is_empty(value))));
            }
        }
        self.backend.put(values).await;
    }

    /// Enqueues one task.
    pub(super) async fn try_enqueue(&self, request: RequestBuilder) -> Result<TaskInfo, EnqueueError> {
        let mut answers = self.storage.enqueue(&[Arc::new(request.build())]).await;
        assert_eq!(answers.len(), 1, "one answer for one request");
        answers.remove(0)
    }

    /// Enqueues one task, which must work.
    pub(super) async fn enqueue(&self, request: RequestBuilder) -> TaskInfo {
        self.try_enqueue(request)
            .await
            .unwrap_or_else(|error| panic!("enqueue: {error:?}"))
    }

    /// Enqueues tasks with these ids into [`Q`], in one batch.
    pub(super) async fn enqueue_ids(&self, ids: &[&str]) {
        let request = |id: &&str| Arc::new(request::request(Q, id).build());
        let batch: Vec<_> = ids.iter().map(request).collect();
        for answer in self.storage.enqueue(&batch).await {
            answer.unwrap_or_else(|error| panic!("enqueue: {error:?}"));
        }
    }

    /// One exchange that takes at most `max` tasks of [`Q`].
    pub(super) async fn exchange(&self, settle: Vec<Settlement>, max: u32) -> Exchanged {
        let count = settle.len();
        let want = if max == 0 {
            Vec::new()
        } else {
            vec![Want {
                queue: request::queue(Q),
                max,
            }]
        };
        let answer = self.storage.exchange(&self.storage.begin(), &settle, &want).await;
        assert_eq!(answer.settled.len(), count, "as many answers as settlements");
        answer
    }

    /// Takes at most `max` tasks of [`Q`], which must work.
    pub(super) async fn take(&self, max: u32) -> Vec<LeasedTask> {
        let answer = self.exchange(Vec::new(), max).await;
        assert!(answer.failed.is_empty(), "take: {:?}", answer.failed);
        assert_eq!(answer.poisoned, [], "take");
        answer.leased
    }

    /// Takes the next task of [`Q`], which must be there.
    pub(super) async fn take_one(&self) -> LeasedTask {
        self.take(1).await.pop().unwrap_or_else(|| panic!("nothing to take"))
    }

    /// Enqueues a task into [`Q`] and takes it; nothing else may be pending.
    pub(super) async fn running(&self, request: RequestBuilder) -> LeasedTask {
        self.enqueue(request).await;
        self.take_one().await
    }

    /// Writes one outcome.
    pub(super) async fn settle(&self, task: &LeasedTask, outcome: Outcome) -> Result<(), SettleError> {
        self.exchange(vec![settlement(task, outcome)], 0)
            .await
            .settled
            .remove(0)
    }

    /// Writes one outcome, which must work.
    pub(super) async fn settled(&self, task: &LeasedTask, outcome: Outcome) {
        self.settle(task, outcome)
            .await
            .unwrap_or_else(|error| panic!("settle: {error:?}"));
    }

    /// Puts a task of this id into [`Q`] in some state; nothing else may be pending. An archived
    /// or retried one was failed once.
    pub(super) async fn task_in(&self, id: &str, state: TaskState) {
        let new = request::request(Q, id);
        match state {
            TaskState::Pending => drop(self.enqueue(new).await),
            TaskState::Scheduled => drop(self.enqueue(new.at(self.after(60))).await),
            TaskState::Aggregating => drop(self.enqueue(new.group("g")).await),
            TaskState::Active => drop(self.running(new).await),
            TaskState::Retry => {
                let task = self.running(new).await;
                self.settled(&task, retry(self.after(60))).await;
            }
            TaskState::Archived => {
                let task = self.running(new).await;
                self.settled(&task, archive()).await;
            }
            TaskState::Completed => {
                let task = self.running(new.retention(3600)).await;
                self.settled(&task, DONE).await;
            }
            other => panic!("no way into the state {other}"),
        }
    }

    /// All that an audit of a queue finds.
    pub(super) async fn audit(&self, queue: &QueueName) -> Vec<Breach> {
        audit(&*self.storage, queue)
            .await
            .unwrap_or_else(|error| panic!("audit: {error:?}"))
    }

    /// The end of every case: whatever happened, the invariants hold.
    pub(super) async fn finish(&self) {
        if self.damaged.load(Ordering::Relaxed) {
            return;
        }
        let raw = self.raw().await;
        invariants::assert_hold(&raw.state);
        if self.storage.ping().await.is_err() {
            return;
        }
        let queues = self
            .storage
            .queues()
            .await
            .unwrap_or_else(|error| panic!("queues: {error:?}"));
        for queue in queues {
            let found = self.audit(&queue).await;
            assert!(found.is_empty(), "audit of {queue}: {found:#?}");
        }
    }
}

/// All that an audit of a queue finds, sorted.
///
/// # Errors
/// Those of [`audit`](asynq_core::Inspect::audit).
///
/// # Panics
/// If the audit does not come to an end.
pub async fn audit(storage: &dyn Storage, queue: &QueueName) -> Result<Vec<Breach>, BrokerError> {
    let (mut found, mut cursor) = (Vec::new(), Cursor::default());
    for _ in 0..1_000_000 {
        let page = storage.audit(queue, cursor).await?;
        found.extend(page.items);
        match page.next {
            Some(next) => cursor = next,
            None => {
                found.sort();
                return Ok(found);
            }
        }
    }
    panic!("the audit of {queue} does not come to an end");
}

/// The raw keys at one moment.
#[derive(Clone, Debug)]
pub struct Raw {
    /// All keys.
    pub state: RawState,
    queue: QueueName,
}

impl Raw {
    /// The keys of [`Q`].
    #[must_use]
    pub fn q(&self) -> QueueView<'_> {
        QueueView::new(&self.state, &self.queue)
    }

    /// A list of [`Q`], head first.
    #[must_use]
    pub fn list(&self, suffix: &str) -> Vec<String> {
        self.q().list(suffix)
    }

    /// A sorted set of [`Q`].
    #[must_use]
    pub fn zset(&self, suffix: &str) -> Vec<(String, i64)> {
        self.q().zset(suffix)
    }

    /// A string of [`Q`].
    #[must_use]
    pub fn string(&self, suffix: &str) -> Option<String> {
        self.q().string(suffix)
    }

    /// A task of [`Q`].
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn task(&self, id: &str) -> TaskView<'_> {
        self.q().task(id).unwrap_or_else(|| panic!("no task {id}"))
    }

    /// Returns whether there is a task of this id in [`Q`].
    #[must_use]
    pub fn has_task(&self, id: &str) -> bool {
        self.q().get(&format!("t:{id}")).is_some()
    }

    /// Checks that nothing changed since.
    ///
    /// # Panics
    /// If something did.
    #[track_caller]
    pub fn assert_same(&self, later: &Self) {
        view::assert_same(&self.state, &later.state);
    }
}

fn is_empty(value: &RawValue) -> bool {
    match value {
        RawValue::String(_) => false,
        RawValue::List(items) => items.is_empty(),
        RawValue::Set(members) => members.is_empty(),
        RawValue::ZSet(entries) => entries.is_empty(),
        RawValue::Hash(fields) => fields.is_empty(),
    }
}
