//! A load of tasks with mixed outcomes, and the books that must balance at its end. Also included by
//! the tests of the facade, which run it on Redis.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use asynq_actors::{
    ActorState, AsynqSystem, AsynqSystemBuilder, Crash, Exit, HandleTask, HandlerActorSpec, SchedulerConfig,
    SchedulerHandle,
    supervisor::{Backoff, Intensity},
};
use asynq_core::{
    ClientConfig, Connector, Entropy, Error, HealthCheck, PeriodicTaskConfig, PeriodicTaskConfigProvider, RetryDelay,
    ServerConfig, Task, TaskId, broker::Env, error::BoxError, names::QueueName,
};
use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// At least so many tasks.
const TASKS: usize = 1000;
const CHUNK: usize = 50;
/// Time within which a crash must have happened and been mended.
const MENDED_WITHIN: Duration = Duration::from_secs(60);
const QUEUES: [&str; 2] = ["default", "low"];
/// Instances of the handler actor, where one serves the load.
const INSTANCES: usize = 10;

/// Nobody takes from it.
const TICKS: &str = "ticks";

pub(crate) type Attempts = Arc<Mutex<HashMap<(String, u32), u32>>>;

/// A system under load.
pub(crate) struct Load {
    pub(crate) system: AsynqSystem,
    /// For a look at the storage that no fault touches.
    look: Arc<dyn Connector>,
    env: Env,
    attempts: Attempts,
    ticks: Ticks,
    enqueueing: JoinSet<usize>,
    enough: CancellationToken,
}

/// The ticks of the one periodic task that were enqueued.
#[derive(Clone, Default)]
struct Ticks(Arc<Mutex<Vec<DateTime<Utc>>>>);

/// Says that there is one, a tick each second.
struct EverySecond;

#[async_trait]
impl PeriodicTaskConfigProvider for EverySecond {
    async fn get_configs(&self) -> Result<Vec<PeriodicTaskConfig>, BoxError> {
        let task = Task::new("tick", b"")?.with_queue(TICKS);
        Ok(vec![PeriodicTaskConfig::new("@every 1s", task)])
    }
}

impl Ticks {
    /// A scheduler that writes them down.
    fn scheduler(&self, env: &Env) -> SchedulerHandle {
        let own: Arc<OnceLock<SchedulerHandle>> = Arc::default();
        let (scheduler, ticks) = (Arc::clone(&own), Arc::clone(&self.0));
        let config = SchedulerConfig::new().post_enqueue(move |answer| {
            if answer.is_ok() {
                let tick = scheduler.get().unwrap().entries()[0].prev.unwrap();
                ticks.lock().unwrap().push(tick);
            }
        });
        let handle = SchedulerHandle::new(config, env.clone()).unwrap();
        own.set(handle.clone()).unwrap();
        handle
    }
}

/// Ends well, fails at first, panics at first, or takes its time; says which attempts ran.
pub(crate) async fn run_one(task: Task, attempts: Attempts) -> asynq_core::Result<()> {
    let context = task.context().expect("inside a handler");
    let (id, retried) = (context.id().to_string(), context.retried());
    *attempts.lock().unwrap().entry((id, retried)).or_default() += 1;
    let number: u64 = String::from_utf8_lossy(task.get_payload()).parse().unwrap();
    // A task that is deleted before its enqueue, whose answer was lost, is tried again is taken for a
    // new one: those that are dropped without a trace take longer than a few such attempts.
    let least = if number % 10 == 4 { 300 } else { 0 };
    tokio::time::sleep(Duration::from_millis(least + number % 97)).await;
    match number % 10 {
        1 if retried == 0 => Err(Error::other("at first")),
        2 if retried == 0 => panic!("at first"),
        3 => Err(Error::skip_retry("never")),
        4 => Err(Error::revoke("no need")),
        _ => Ok(()),
    }
}

/// Told to a handler actor: the next instance that runs a task which would end well crashes so.
type Order = Arc<Mutex<Option<Crash>>>;

/// A handler actor for the load; what panics in it fails its task and no more, but for an order.
struct Loaded;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Loaded {
    type Msg = HandleTask;
    type State = (Attempts, Order);
    type Arguments = (Attempts, Order);

    async fn pre_start(
        &self,
        _: ActorRef<HandleTask>,
        args: (Attempts, Order),
    ) -> Result<(Attempts, Order), ActorProcessingErr> {
        Ok(args)
    }

    async fn handle(
        &self,
        myself: ActorRef<HandleTask>,
        task: HandleTask,
        (attempts, order): &mut (Attempts, Order),
    ) -> Result<(), ActorProcessingErr> {
        let Some((task, reply)) = task.start() else {
            return Ok(());
        };
        let run = AssertUnwindSafe(run_one(task, Arc::clone(attempts))).catch_unwind();
        let end = run.await.unwrap_or_else(|_| Err(Error::other("it panicked")));
        let crash = if end.is_ok() {
            order.lock().unwrap().take()
        } else {
            None
        };
        match crash {
            None => reply.send(end),
            Some(Crash::Panic) => panic!("by order"),
            Some(Crash::Error) => return Err("by order".into()),
            Some(_) => {
                myself.kill();
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    }
}

/// Every actor of the tree but its root.
const ACTORS: [&str; 15] = [
    "broker",
    "client",
    "maintenance",
    "maintenance/subscriber",
    "maintenance/forwarder",
    "maintenance/recoverer",
    "maintenance/janitor",
    "maintenance/aggregator",
    "maintenance/healthchecker",
    "maintenance/scheduler",
    "maintenance/periodic_task_manager",
    "work",
    "work/heartbeater",
    "work/syncer",
    "work/processor",
];

/// A row of tests for each of [`ACTORS`] and of those that serve by handler actors; needs
/// `survives(path, crash)` and `serves_on(who, crash)` in scope.
macro_rules! crash_table {
    (#[$test:meta]) => {
        crate::load::crash_table! {
            [$test serves_on]
            handler_actor: Crashing::Instance,
            handlers: Crashing::Handlers,
        }
        crate::load::crash_table! {
            [$test survives]
            broker: "broker",
            client: "client",
            maintenance: "maintenance",
            subscriber: "maintenance/subscriber",
            forwarder: "maintenance/forwarder",
            recoverer: "maintenance/recoverer",
            janitor: "maintenance/janitor",
            aggregator: "maintenance/aggregator",
            healthchecker: "maintenance/healthchecker",
            scheduler: "maintenance/scheduler",
            periodic_task_manager: "maintenance/periodic_task_manager",
            work: "work",
            heartbeater: "work/heartbeater",
            syncer: "work/syncer",
            processor: "work/processor",
        }
    };
    ([$test:meta $survives:ident] $($name:ident: $path:expr),+ $(,)?) => {
        $(
            mod $name {
                use super::*;

                #[$test]
                async fn killed() {
                    $survives($path, Crash::Kill).await;
                }

                #[$test]
                async fn panics() {
                    $survives($path, Crash::Panic).await;
                }

                #[$test]
                async fn errs() {
                    $survives($path, Crash::Error).await;
                }
            }
        )+
    };
}
pub(crate) use crash_table;

/// The actors that crash where handler actors serve the load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crashing {
    /// One instance, with a task in its hands.
    Instance,
    /// The supervisor of all instances, and they with it.
    Handlers,
}

impl Load {
    /// Spawns a system on the connector and begins to enqueue. `look` leads to the same storage.
    pub(crate) async fn start(look: impl Connector, connector: impl Connector, env: Env) -> Self {
        let plain = |builder: AsynqSystemBuilder, seen: Attempts| {
            builder.handler(move |task: Task| run_one(task, Arc::clone(&seen)))
        };
        Self::start_with(look, connector, env, plain).await
    }

    /// The same served by the instances of a handler actor; they crash `times` times, and the
    /// books balance.
    pub(crate) async fn serves_on(
        look: impl Connector,
        connector: impl Connector,
        env: Env,
        (who, crash, times): (Crashing, Crash, u64),
    ) {
        let order = Order::default();
        let load = Self::start_with(look, connector, env, |builder, attempts| {
            let orders = Arc::clone(&order);
            let spec = HandlerActorSpec::new("t", move || (Loaded, (Arc::clone(&attempts), Arc::clone(&orders))));
            // One task in the hands, one in the mailbox.
            builder.handler_actor(spec.instances(INSTANCES).concurrency(2).suspend_after(1000))
        })
        .await;
        let restarts = || {
            let tree = load.system.tree().unwrap();
            tree.find(&["work", "handlers"])
                .unwrap()
                .children
                .iter()
                .map(|instance| instance.restarts)
                .sum::<u64>()
        };
        for time in 0..times {
            match who {
                Crashing::Handlers => load.crash("work/handlers", crash).await,
                Crashing::Instance => {
                    assert_eq!(restarts(), time, "each crash is one restart");
                    let begin = async { *order.lock().unwrap() = Some(crash) };
                    load.mended(|path| path.starts_with("work/handlers/t#"), restarts, begin)
                        .await;
                }
            }
        }
        match who {
            // The attempt in its hands, each time, and nothing of what waited in the mailbox.
            Crashing::Instance => {
                assert_eq!(restarts(), times, "each crash is one restart");
                let times = usize::try_from(times).unwrap();
                load.balance_with(times..=times).await;
            }
            Crashing::Handlers => load.balance_with(0..=INSTANCES * usize::try_from(times).unwrap()).await,
        }
    }

    /// The same with other handlers, which call [`run_one`].
    pub(crate) async fn start_with(
        look: impl Connector,
        connector: impl Connector,
        env: Env,
        serve: impl FnOnce(AsynqSystemBuilder, Attempts) -> AsynqSystemBuilder,
    ) -> Self {
        let attempts = Attempts::default();
        let often = Duration::from_millis(100);
        let builder = AsynqSystem::builder(connector)
            .env(env.clone())
            .client_config(ClientConfig::new().enqueue_timeout(MENDED_WITHIN))
            .config(
                ServerConfig::new()
                    .concurrency(20)
                    .queues([("default", 3), ("low", 1)])
                    .retry_delay(RetryDelay::new(|_, _, _| Duration::from_secs(1)))
                    .heartbeat_interval(often)
                    .syncer_interval(often)
                    .delayed_task_check_interval(often)
                    .recoverer_interval(often)
                    .janitor_interval(often)
                    .health_check(HealthCheck::new(|_| ()))
                    .health_check_interval(often)
                    .group_check_interval(often),
            )
            .intensity(Intensity {
                restarts: 1000,
                within: Duration::from_secs(60),
            })
            .backoff(Backoff {
                first: Duration::from_millis(5),
                most: Duration::from_millis(50),
            })
            .aggregator(|group: String, _: Vec<Task>| async { Task::without_payload(group) });
        let ticks = Ticks::default();
        let builder = builder
            .scheduler_handle(ticks.scheduler(&env))
            .periodic_tasks(EverySecond, Duration::from_secs(1));
        let system = serve(builder, Arc::clone(&attempts)).spawn().await.unwrap();
        let client = system.client();
        let enough = CancellationToken::new();
        let mut enqueueing = JoinSet::new();
        let stop = enough.clone();
        enqueueing.spawn(async move {
            let mut sent = 0;
            while sent < TASKS || !stop.is_cancelled() {
                let tasks = (sent..sent + CHUNK).map(|number| {
                    let task = Task::new("t", number.to_string().as_bytes()).unwrap();
                    task.with_queue(QUEUES[usize::from(number % 3 == 0)])
                        .with_retention(Duration::from_secs(24 * 3600))
                });
                for answer in client.enqueue_many(tasks).await {
                    answer.unwrap();
                }
                sent += CHUNK;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            sent
        });
        Self {
            system,
            look: Arc::new(look),
            env,
            attempts,
            ticks,
            enqueueing,
            enough,
        }
    }

    /// Crashes an actor of the system and waits until the tree has shown it running again.
    pub(crate) async fn crash(&self, path: &str, crash: Crash) {
        let names: Vec<_> = path.split('/').collect();
        let restarts = || self.system.tree().unwrap().find(&names).unwrap().restarts;
        let begin = async {
            assert!(self.system.crash_actor(path, crash), "no actor at {path}");
            match (path, crash) {
                (_, Crash::Kill) => {}
                // These hear of something only now and then.
                ("maintenance", _) => drop(self.system.kill_actor("maintenance/janitor")),
                ("work", _) => drop(self.system.kill_actor("work/syncer")),
                ("work/handlers", _) => drop(self.system.kill_actor("work/handlers/t#0")),
                ("maintenance/subscriber", _) => {
                    let storage = self.system.storage().await.unwrap();
                    let nobody = TaskId::new("nobody").unwrap();
                    storage.publish_cancellation(&nobody).await.unwrap();
                }
                _ => {}
            }
        };
        self.mended(|known| known == path, restarts, begin).await;
    }

    /// Waits until those that a crash hits have been restarted once more.
    async fn mended(&self, hit: impl Fn(&str) -> bool, restarts: impl Fn() -> u64, crash: impl Future<Output = ()>) {
        let before = restarts();
        let mut events = self.system.tree_events();
        crash.await;
        let mended = async {
            while restarts() == before {
                match events.recv().await {
                    Ok(event) if hit(&event.path["system/".len()..]) && event.state == ActorState::Restarting => {
                        assert!(event.failure.is_some(), "{event:?}");
                    }
                    _ => {}
                }
            }
        };
        tokio::time::timeout(MENDED_WITHIN, mended)
            .await
            .unwrap_or_else(|_| panic!("not restarted\n{:?}", self.system.tree()));
    }

    /// Crashes random actors in random ways, so many times, without waiting for any to be mended. Where that
    /// is slow, many crashes hit actors that are down already: then there are more.
    pub(crate) async fn storm(&self, crashes: usize) {
        let entropy = Entropy::seeded(31);
        let pick = |most: usize| usize::try_from(entropy.below(most as u64)).unwrap();
        let restarts = || -> u64 {
            let tree = self.system.tree().unwrap();
            let of = |path: &&str| tree.find(&path.split('/').collect::<Vec<_>>()).unwrap().restarts;
            ACTORS.iter().map(of).sum()
        };
        let blows = async {
            let mut blows = 0;
            while blows < crashes || restarts() <= crashes as u64 / 4 {
                let path = ACTORS[pick(ACTORS.len())];
                let crash = [Crash::Kill, Crash::Panic, Crash::Error][pick(3)];
                assert!(self.system.crash_actor(path, crash), "no actor at {path}");
                tokio::time::sleep(Duration::from_millis(pick(60) as u64)).await;
                blows += 1;
            }
        };
        let mended = tokio::time::timeout(MENDED_WITHIN, blows).await;
        assert!(mended.is_ok(), "{} restarts\n{:?}", restarts(), self.system.tree());
    }

    /// Waits until every task is settled, and checks that each came to its own end, no attempt ran
    /// twice, and nothing in the store contradicts itself.
    pub(crate) async fn balance(self) {
        self.balance_with(0..=0).await;
    }

    /// The same where crashes cost so many attempts.
    async fn balance_with(self, cost: RangeInclusive<usize>) {
        let (sent, attempts) = self.settle().await;
        let planned = sent + sent * 2 / 10;
        assert!(
            cost.contains(&attempts.saturating_sub(planned)) && attempts >= planned,
            "every task runs, two tenths of them twice, and crashes cost {cost:?}: {attempts}, not {planned}"
        );
    }

    /// The same where crashes of handlers cost attempts: how many tasks and attempts there were.
    pub(crate) async fn settle(mut self) -> (usize, usize) {
        self.enough.cancel();
        let sent = self.enqueueing.join_next().await.unwrap().unwrap();
        let storage = self.look.connect(self.env.clone()).await.unwrap();
        let settled = async {
            loop {
                let (mut completed, mut archived, mut open) = (0, 0, 0);
                for queue in QUEUES {
                    let info = storage.queue_info(&QueueName::new(queue).unwrap()).await.unwrap();
                    completed += info.completed;
                    archived += info.archived;
                    open += info.size() - info.completed - info.archived;
                }
                if open == 0 {
                    return (completed, archived);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let tasks = sent as u64;
        let ends = tokio::time::timeout(Duration::from_secs(600), settled)
            .await
            .expect("tasks are stuck");
        assert_eq!(ends, (tasks * 8 / 10, tasks / 10), "and a tenth was revoked");
        let attempts = self.attempts.lock().unwrap().clone();
        let twice: Vec<_> = attempts.iter().filter(|(_, runs)| **runs != 1).collect();
        assert!(twice.is_empty(), "attempts that ran more than once: {twice:?}");
        for queue in QUEUES {
            let queue = QueueName::new(queue).unwrap();
            assert_eq!(storage.audit(&queue, Default::default()).await.unwrap().items, []);
        }
        // After an outage the load may be done before the first tick.
        let ticked = async {
            while self.ticks.0.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ticked)
            .await
            .expect("no tick in a minute");
        assert_eq!(self.system.shutdown().await, Exit::Stopped);
        let ticks = self.ticks.0.lock().unwrap().clone();
        let each_second = ticks.is_sorted_by(|a, b| *a + Duration::from_secs(1) == *b);
        assert!(!ticks.is_empty() && each_second, "{ticks:?}");
        let info = storage.queue_info(&QueueName::new(TICKS).unwrap()).await.unwrap();
        assert_eq!(info.pending, ticks.len() as u64);
        storage.close().await;
        (sent, attempts.len())
    }
}
