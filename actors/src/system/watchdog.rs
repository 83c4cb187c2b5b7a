//! The watchdog: a thread that detects a blocked runtime, in which handlers block all threads.
//!
//! The thread requests an answer from a task of the runtime twice a second. After 2 s without an answer it logs the
//! task types that run. After 8 s without an answer it extends leases in place of the heartbeater, on its own runtime
//! and connection. Otherwise other servers would take the running tasks, and run them a second time.

use std::{
    collections::HashMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use asynq_core::{
    BrokerError, Connector, Env, QueueName, SettleError, Storage,
    broker::LeaseRef,
    error::text::report,
    panics::{drop_quietly, panic_text},
};
use futures::future::join_all;
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tracing::Dispatch;

use crate::{in_flight::table::Table, supervision::tree::Tree};

/// Longest time that the watchdog's connection may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The wait after a connection that failed.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);
/// Longest time that one extension may take.
const EXTEND_WITHIN: Duration = Duration::from_secs(8);
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The times of the watchdog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Interval at which it asks.
    ask_every: Duration,
    /// Time without an answer after which the runtime counts as blocked.
    notice_after: Duration,
    /// Time without an answer after which the watchdog extends leases. A lease lasts 30 s, of which one beat may have
    /// passed.
    extend_after: Duration,
    extend_every: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            ask_every: Duration::from_millis(500),
            notice_after: Duration::from_secs(2),
            extend_after: Duration::from_secs(8),
            extend_every: Duration::from_secs(5),
        }
    }
}

/// The means of the thread.
pub(crate) struct Watched {
    pub(crate) table: Arc<Table>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) env: Env,
    pub(crate) tree: Tree,
    /// Path in the tree at which stalls are shown.
    pub(crate) path: &'static str,
    pub(crate) patience: Patience,
}

/// Number of times that the runtime was blocked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stalls(Arc<AtomicU64>);

impl Stalls {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Shared {
    over: Mutex<bool>,
    told: Condvar,
    question: Notify,
    asked: AtomicU64,
    answered: AtomicU64,
    stalls: Stalls,
}

impl Shared {
    fn ask(&self) {
        self.asked.fetch_add(1, Ordering::AcqRel);
        self.question.notify_one();
    }

    fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire) >= self.asked.load(Ordering::Acquire)
    }

    fn is_over(&self) -> bool {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; `true` when the watch is over.
    fn wait(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(over, time, |over| !*over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Answers, on the runtime that is watched.
    async fn answer(self: Arc<Self>) {
        loop {
            self.question.notified().await;
            self.answered
                .store(self.asked.load(Ordering::Acquire), Ordering::Release);
        }
    }
}

/// Watches the runtime on which it is started, until it is dropped.
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    answers: AbortHandle,
}

impl Watchdog {
    /// Returns `None` if there is nothing to watch, because a virtual clock shows nothing of the runtime's threads,
    /// or if the thread cannot be started.
    pub(crate) fn start(watched: Watched) -> Option<Self> {
        if watched.env.clock.is_virtual() {
            return None;
        }
        let shared = Arc::new(Shared::default());
        let dispatch = tracing::dispatcher::get_default(Dispatch::clone);
        let thread = Thread {
            watched,
            shared: Arc::clone(&shared),
        };
        let spawned = std::thread::Builder::new()
            .name("asynq-watchdog".to_owned())
            .spawn(move || tracing::dispatcher::with_default(&dispatch, || thread.watch()));
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for the watchdog: a blocked runtime will not be noticed");
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "the watchdog owns it, and ends it with itself")]
        let answers = tokio::spawn(Arc::clone(&shared).answer()).abort_handle();
        Some(Self { shared, answers })
    }

    pub(crate) fn stalls(&self) -> Stalls {
        self.shared.stalls.clone()
    }
}

impl Drop for Watchdog {
    /// The thread is not joined, because the thread that drops the watchdog may be the one to join. It ends by
    /// itself.
    fn drop(&mut self) {
        self.answers.abort();
        *self.shared.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.told.notify_all();
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watchdog({:?})", self.shared.stalls)
    }
}

struct Thread {
    watched: Watched,
    shared: Arc<Shared>,
}

impl Thread {
    fn watch(self) {
        let patience = self.watched.patience;
        // The runtime ran after this.
        let mut alive = Instant::now();
        let mut stalled = false;
        loop {
            let asked = Instant::now();
            if self.shared.is_answered() {
                self.shared.ask();
            }
            if self.shared.wait(patience.ask_every) {
                return;
            }
            if self.shared.is_answered() {
                if std::mem::take(&mut stalled) {
                    self.goes_on(alive.elapsed());
                }
                alive = asked;
                continue;
            }
            if !stalled && asked.elapsed() > patience.notice_after {
                // This thread stood still as well: the process was paused.
                alive = Instant::now();
            }
            if !stalled && alive.elapsed() >= patience.notice_after {
                stalled = true;
                self.stands_still(alive.elapsed());
            }
            if alive.elapsed() >= patience.extend_after {
                self.stand_in();
            }
        }
    }

    fn stands_still(&self, since: Duration) {
        self.shared.stalls.0.fetch_add(1, Ordering::Relaxed);
        let running = self.watched.table.running_types();
        tracing::warn!(
            ?since,
            running,
            "the runtime is blocked: something holds all its threads, perhaps a handler; use spawn_blocking for such work"
        );
        let at = self.watched.env.clock.now().format("%H:%M:%S");
        let note = format!("the runtime has been blocked since {at} UTC; running: {running}");
        self.watched.tree.note(self.watched.path, Some(&note));
    }

    fn goes_on(&self, after: Duration) {
        tracing::warn!(?after, "the runtime is no longer blocked");
        let (count, at) = (
            self.shared.stalls.count(),
            self.watched.env.clock.now().format("%H:%M:%S"),
        );
        let note = format!("the runtime was blocked {count} times, the last for {after:.1?} until {at} UTC");
        self.watched.tree.note(self.watched.path, Some(&note));
    }

    /// Extends leases until the runtime answers.
    fn stand_in(&self) {
        let stand_in = AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    () = self.relieved() => {}
                    () = self.extend_leases() => {}
                }
            });
            Ok::<_, std::io::Error>(())
        });
        match std::panic::catch_unwind(stand_in) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "leases are not extended while the runtime is blocked"),
            Err(panic) => {
                let panic_text = panic_text(&*panic);
                tracing::error!(
                    panic = panic_text,
                    "leases are not extended while the runtime is blocked"
                );
                drop_quietly(panic);
            }
        }
    }

    /// Waits until the runtime answers, or the watch is over.
    async fn relieved(&self) {
        while !self.shared.is_answered() && !self.shared.is_over() {
            sleep(self.watched.patience.ask_every / 2).await;
        }
    }

    async fn extend_leases(&self) {
        let storage = loop {
            match self.connect().await {
                Ok(storage) => break storage,
                Err(error) => {
                    tracing::debug!(error = %report(&error), "no connection to extend leases on, retrying");
                    sleep(CONNECT_AGAIN).await;
                }
            }
        };
        loop {
            self.extend(&*storage).await;
            if timeout(self.watched.patience.extend_every, self.relieved())
                .await
                .is_ok()
            {
                break;
            }
        }
        let _ = timeout(CLOSE_WITHIN, storage.close()).await;
    }

    async fn connect(&self) -> Result<Arc<dyn Storage>, BrokerError> {
        match timeout(CONNECT_WITHIN, self.watched.connector.connect(self.watched.env.clone())).await {
            Ok(storage) => storage,
            Err(_) => Err(BrokerError::Unavailable { source: None }),
        }
    }

    /// Each queue has its own call, so that a queue without an answer does not delay others.
    async fn extend(&self, storage: &dyn Storage) {
        let mut queues = HashMap::<QueueName, Vec<LeaseRef>>::new();
        for lease in self.watched.table.leases_in_time() {
            queues.entry(lease.queue.clone()).or_default().push(lease);
        }
        let extensions = queues.into_iter().map(async |(queue, leases)| {
            let Ok(answers) = timeout(EXTEND_WITHIN, storage.extend_leases(leases.clone())).await else {
                tracing::warn!(%queue, of = leases.len(), within = ?EXTEND_WITHIN, "leases were not extended in time");
                return;
            };
            let failed = |answer: &&Result<_, SettleError>| matches!(answer, Err(SettleError::Broker(_)));
            let unanswered = answers.iter().filter(failed).count();
            tracing::info!(%queue, of = leases.len(), unanswered, "leases are extended while the runtime is blocked");
            self.watched.table.extended(&leases, answers);
        });
        join_all(extensions).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use asynq_core::{Clock, Entropy, Task, TaskOptions, broker::Want, compose::compose};
    use asynq_memory::MemoryStore;
    use asynq_testing::faulty::{Faults, FaultyConnector, Op};

    use super::*;
    use crate::supervision::tree::ActorState;

    const BRIEF: Patience = Patience {
        ask_every: Duration::from_millis(20),
        notice_after: Duration::from_millis(200),
        extend_after: Duration::from_millis(400),
        extend_every: Duration::from_millis(200),
    };

    /// Blocks the thread until it is so, for a minute at most.
    fn block_until(mut so: impl FnMut() -> bool) {
        let (_keep, never) = channel::<()>();
        for _ in 0..6000 {
            if so() {
                return;
            }
            assert_eq!(
                never.recv_timeout(Duration::from_millis(10)),
                Err(RecvTimeoutError::Timeout)
            );
        }
        panic!("it was never so");
    }

    #[tokio::test]
    async fn leases_are_extended_while_the_runtime_runs_nothing_and_not_after() {
        let env = Env {
            clock: Clock::system(),
            entropy: Entropy::seeded(3),
        };
        let faults = Faults::new();
        let connector: Arc<dyn Connector> = Arc::new(FaultyConnector::new(MemoryStore::new(), faults.clone()));
        let storage = connector.connect(env.clone()).await.unwrap();
        let task = compose(&Task::new("blocks", b"").unwrap(), &TaskOptions::new(), &env).unwrap();
        storage.enqueue(&[Arc::new(task)]).await.remove(0).unwrap();
        let table = Arc::new(Table::new(1, env.clock.clone()));
        let want = Want {
            queue: QueueName::default(),
            max: 1,
        };
        let taken = storage.exchange(&storage.begin(), &[], &[want]).await.leased;
        table.insert(taken, table.try_slots(1));
        let starts = table.start_ready();
        let tree = Tree::new(env.clock.clone());
        tree.set("system", ActorState::Running, None);
        let watchdog = Watchdog::start(Watched {
            table,
            connector,
            env,
            tree: tree.clone(),
            path: "system",
            patience: BRIEF,
        });
        let (watchdog, note) = (watchdog.unwrap(), || tree.snapshot().unwrap().note.unwrap_or_default());
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!((watchdog.stalls().count(), note()), (0, String::new()));
        let left = starts[0].valid.left();
        // So that what is extended ends in a later second.
        let begun = Instant::now();
        block_until(|| faults.calls(Op::ExtendLeases) >= 3 && begun.elapsed() > Duration::from_millis(1200));
        assert!(
            starts[0].valid.left() + begun.elapsed() > left + Duration::from_millis(500),
            "its lease stands"
        );
        assert!(note().contains(r#""blocks" x1"#), "{}", note());
        assert_eq!((watchdog.stalls().count(), faults.calls(Op::Connect)), (1, 2));
        // One that has answered is not stood in for.
        while !note().contains("was blocked 1 times") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let calls = faults.calls(Op::ExtendLeases);
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(faults.calls(Op::ExtendLeases), calls);
        assert_eq!(watchdog.stalls().count(), 1);
    }

    #[tokio::test]
    async fn the_thread_ends_with_the_watchdog_even_in_a_stall() {
        let faults = Faults::new();
        let connector: Arc<dyn Connector> = Arc::new(FaultyConnector::new(MemoryStore::new(), faults.clone()));
        let env = Env::default();
        let tree = Tree::new(env.clock.clone());
        let table = Arc::new(Table::new(1, env.clock.clone()));
        let patience = BRIEF;
        for stall in [false, true] {
            let watchdog = Watchdog::start(Watched {
                table: Arc::clone(&table),
                connector: Arc::clone(&connector),
                env: env.clone(),
                tree: tree.clone(),
                path: "system",
                patience,
            });
            let watchdog = watchdog.unwrap();
            let connects = faults.calls(Op::Connect);
            if stall {
                block_until(|| faults.calls(Op::Connect) > connects);
            }
            drop(watchdog);
            block_until(|| Arc::strong_count(&table) == 1);
        }
    }
}
