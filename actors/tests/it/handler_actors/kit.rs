//! A handler actor that does as its tasks say, and a record of what it did.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{AsynqSystem, AsynqSystemBuilder, Exit, HandleTask, HandlerActorSpec, TreeNode};
use asynq_core::{
    Clock, Entropy, Error, Inspect, RetryDelay, ServerConfig, Storage, Task, TaskInfo, TaskState, broker::Env,
    error::BrokerError,
};
use asynq_memory::MemoryStore;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::watch, task::JoinSet, time::Instant};

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// One thing that an instance did.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Deed {
    /// `start`, `late`, `lost`, `offered`, `cancelled`, `answered`, `done`, `stop`.
    pub(super) what: &'static str,
    /// The payload of the task.
    pub(super) order: String,
    /// Counts the starts of instances.
    pub(super) incarnation: usize,
    /// Number of tasks that its state has seen.
    pub(super) seen: usize,
    pub(super) retried: u32,
    pub(super) at: Instant,
}

#[derive(Debug, Default)]
struct Record {
    deeds: Vec<Deed>,
    starts: usize,
    fail_starts: usize,
    working: usize,
    most_working: usize,
}

/// One test's handler actors. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    record: Arc<Mutex<Record>>,
    news: Arc<watch::Sender<usize>>,
    /// The gate that `gate` waits for.
    gate: Arc<watch::Sender<bool>>,
}

pub(super) struct Player;

pub(super) struct PlayerState {
    stage: Stage,
    incarnation: usize,
    seen: usize,
    elsewhere: JoinSet<()>,
}

/// The actor's own message: a task, or something of its own.
#[derive(Debug)]
pub(super) enum Cue {
    Task(Box<HandleTask>),
    Nothing,
}

/// Messages that never arrived: the first one of each task whose type says so.
static LOST: Mutex<Vec<HandleTask>> = Mutex::new(Vec::new());
#[cfg(feature = "ractor-cluster")]
impl ractor::Message for Cue {}

impl From<HandleTask> for Cue {
    fn from(task: HandleTask) -> Self {
        assert!(task.task_type() != "unconvertible", "no such cue");
        let mut lost = LOST.lock().unwrap();
        if task.task_type().ends_with(":lost") && lost.iter().all(|before| before.id() != task.id()) {
            lost.push(task);
            return Self::Nothing;
        }
        Self::Task(Box::new(task))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the stage is broken")]
struct Broken;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Player {
    type Msg = Cue;
    type State = PlayerState;
    type Arguments = Stage;

    async fn pre_start(&self, _: ActorRef<Cue>, stage: Stage) -> Result<PlayerState, ActorProcessingErr> {
        let incarnation = stage.with(|record| {
            if record.fail_starts > 0 {
                record.fail_starts -= 1;
                return None;
            }
            record.starts += 1;
            Some(record.starts)
        });
        Ok(PlayerState {
            incarnation: incarnation.ok_or(Broken)?,
            stage,
            seen: 0,
            elsewhere: JoinSet::new(),
        })
    }

    async fn handle(&self, _: ActorRef<Cue>, cue: Cue, state: &mut PlayerState) -> Result<(), ActorProcessingErr> {
        let Cue::Task(offer) = cue else {
            state.stage.says("lost", "", state.incarnation, state.seen, 0);
            return Ok(());
        };
        let (stage, incarnation) = (state.stage.clone(), state.incarnation);
        let peeked = offer.task_type().to_owned();
        match peeked.as_str() {
            "ignore" => {
                stage.says("offered", "", incarnation, state.seen, 0);
                return Ok(());
            }
            "stall" => {
                stage.says("offered", "", incarnation, state.seen, 0);
                std::future::pending().await
            }
            "panic unstarted" => panic!("at first sight"),
            _ => {}
        }
        let Some((task, reply)) = offer.start() else {
            stage.says("late", &peeked, incarnation, state.seen, 0);
            return Ok(());
        };
        state.seen += 1;
        let order = String::from_utf8_lossy(task.get_payload()).into_owned();
        let context = task.context().unwrap().clone();
        let retried = context.retried();
        let seen = state.seen;
        let says = move |what, order: &str| stage.says(what, order, incarnation, seen, retried);
        says("start", &order);
        let (verb, amount) = order.split_once(' ').unwrap_or((&order, "0"));
        let time = Duration::from_millis(amount.parse().unwrap_or(0));
        match verb {
            "panic" => panic!("the {seen}. task is too much"),
            "break" => return Err(Box::new(Broken)),
            "fail" => reply.send(Err(Error::other("no luck"))),
            "skip" => reply.send(Err(Error::skip_retry("never"))),
            "drop" => drop(reply),
            "hang" => std::future::pending().await,
            "sleep" => {
                tokio::time::sleep(time).await;
                reply.send(Ok(()));
            }
            "gate" => {
                let _ = state.stage.gate.subscribe().wait_for(|open| *open).await;
                reply.send(Ok(()));
            }
            "cancel" => {
                context.cancelled().await;
                says("cancelled", &order);
                tokio::time::sleep(time).await;
                says("answered", &order);
                reply.send(Err(Error::Canceled));
            }
            "result" => {
                context.write_result(format!("{seen} of {incarnation}")).await.unwrap();
                reply.send(Ok(()));
            }
            "elsewhere" => {
                let stage = state.stage.clone();
                stage.works(1);
                state.elsewhere.spawn(async move {
                    tokio::time::sleep(time).await;
                    stage.works(-1);
                    reply.send(Ok(()));
                });
            }
            "yield" => {
                tokio::task::yield_now().await;
                reply.send(Ok(()));
                says("done", &order);
            }
            _ => reply.send(Ok(())),
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Cue>, state: &mut PlayerState) -> Result<(), ActorProcessingErr> {
        state.stage.says("stop", "", state.incarnation, state.seen, 0);
        Ok(())
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        Self {
            record: Arc::default(),
            news: Arc::default(),
            gate: Arc::default(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Record) -> T) -> T {
        act(&mut self.record.lock().unwrap())
    }

    fn says(&self, what: &'static str, order: &str, incarnation: usize, seen: usize, retried: u32) {
        let deed = Deed {
            what,
            order: order.to_owned(),
            incarnation,
            seen,
            retried,
            at: Instant::now(),
        };
        let count = self.with(|record| {
            record.deeds.push(deed);
            record.deeds.len()
        });
        self.news.send_replace(count);
    }

    fn works(&self, more: isize) {
        self.with(|record| {
            record.working = record.working.checked_add_signed(more).unwrap();
            record.most_working = record.most_working.max(record.working);
        });
    }

    pub(super) fn spec(&self, pattern: &str) -> HandlerActorSpec {
        let stage = self.clone();
        HandlerActorSpec::new(pattern, move || (Player, stage.clone()))
    }

    pub(super) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    pub(super) fn fail_starts(&self, times: usize) {
        self.with(|record| record.fail_starts = times);
    }

    /// Starts of instances so far.
    pub(super) fn starts(&self) -> usize {
        self.with(|record| record.starts)
    }

    /// Most tasks at once that were worked on `elsewhere`.
    pub(super) fn most_working(&self) -> usize {
        self.with(|record| record.most_working)
    }

    pub(super) fn deeds(&self, what: &str) -> Vec<Deed> {
        self.with(|record| record.deeds.iter().filter(|deed| deed.what == what).cloned().collect())
    }

    /// Waits, in virtual time, until so many deeds of a kind are done.
    pub(super) async fn until(&self, count: usize, what: &str) -> Vec<Deed> {
        let mut news = self.news.subscribe();
        let enough = news.wait_for(|_| self.deeds(what).len() >= count);
        if tokio::time::timeout(30 * MINUTE, enough).await.is_err() {
            panic!(
                "never {count} of {what:?}: {:#?}",
                self.with(|record| record.deeds.clone())
            );
        }
        self.deeds(what)
    }
}

pub(super) fn env() -> Env {
    Env {
        clock: Clock::tokio(),
        entropy: Entropy::seeded(5),
    }
}

pub(super) fn config() -> ServerConfig {
    ServerConfig::new()
        .concurrency(8)
        .retry_delay(RetryDelay::new(|_, _, _| Duration::from_secs(10)))
}

/// A system on its own store.
pub(super) struct House {
    pub(super) system: AsynqSystem,
    pub(super) store: MemoryStore,
    storage: Arc<dyn Storage>,
}

impl House {
    pub(super) async fn open(specs: impl IntoIterator<Item = HandlerActorSpec>) -> Self {
        Self::with(config(), specs, |builder| builder).await
    }

    pub(super) async fn with(
        config: ServerConfig,
        specs: impl IntoIterator<Item = HandlerActorSpec>,
        more: impl FnOnce(AsynqSystemBuilder) -> AsynqSystemBuilder,
    ) -> Self {
        Self::on(MemoryStore::new(), config, specs, more).await
    }

    pub(super) async fn on(
        store: MemoryStore,
        config: ServerConfig,
        specs: impl IntoIterator<Item = HandlerActorSpec>,
        more: impl FnOnce(AsynqSystemBuilder) -> AsynqSystemBuilder,
    ) -> Self {
        let builder = AsynqSystem::builder(store.clone()).config(config).env(env());
        let builder = specs.into_iter().fold(more(builder), AsynqSystemBuilder::handler_actor);
        let system = builder.spawn().await.unwrap();
        let storage = system.storage().await.unwrap();
        Self { system, store, storage }
    }

    pub(super) async fn enqueue(&self, task: Task) -> TaskInfo {
        self.system.client().enqueue(task).await.unwrap()
    }

    pub(super) async fn info(&self, task: &TaskInfo) -> Option<TaskInfo> {
        match self.storage.task_info(&task.queue, &task.id).await {
            Ok(info) => Some(info),
            Err(BrokerError::TaskNotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits, in virtual time, until the task is in the state; `None`: until it is gone.
    async fn until_state(&self, task: &TaskInfo, state: Option<TaskState>) -> Option<TaskInfo> {
        let reached = async {
            loop {
                let info = self.info(task).await;
                if info.as_ref().map(|info| info.state) == state {
                    return info;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(30 * MINUTE, reached).await {
            Ok(info) => info,
            Err(_) => panic!("never {state:?}: {:#?}\n{:?}", self.info(task).await, self.system),
        }
    }

    pub(super) async fn until(&self, task: &TaskInfo, state: TaskState) -> TaskInfo {
        self.until_state(task, Some(state)).await.unwrap()
    }

    pub(super) async fn until_done(&self, task: &TaskInfo) {
        self.until_state(task, None).await;
    }

    pub(super) fn node(&self, path: &[&str]) -> TreeNode {
        let root = self.system.tree().unwrap();
        let node = root.find(&["work", "handlers"]).unwrap().find(path);
        node.unwrap_or_else(|| panic!("no {path:?} in\n{root}")).clone()
    }

    /// Ends it, and checks that nothing in the store contradicts itself.
    pub(super) async fn close(self) {
        assert_eq!(self.system.shutdown().await, Exit::Stopped);
        let broker = self.store.open(env());
        for queue in broker.queues().await.unwrap() {
            assert_eq!(
                broker.audit(&queue, Default::default()).await.unwrap().items,
                [],
                "{queue}"
            );
        }
    }
}

pub(super) fn task(task_type: &str, order: &str) -> Task {
    Task::new(task_type, order.as_bytes()).unwrap()
}

/// Lets happen what needs no time.
pub(super) async fn breathe() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
