//! A shutdown is over by its one deadline, whatever its parts and the storage do.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use asynq_actors::{AsynqSystem, AsynqSystemBuilder, Exit, HandleTask, HandlerActorSpec};
use asynq_core::{EnqueueError, Error, PeriodicTaskConfig, ServerConfig, Task};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::env;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// The default of the shutdown timeout.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Time that a shutdown may take beyond that, as its documentation says.
const REST: Duration = Duration::from_secs(6);

/// The behaviour of the storage from the shutdown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    Works,
    Away,
    /// Its answers come 10 s late.
    Late,
    Hangs,
}

impl Storage {
    fn take_effect(self, faults: &Faults, background: &mut JoinSet<()>) {
        match self {
            Self::Works => {}
            Self::Away => faults.all(Fault::unavailable()),
            Self::Hangs => faults.all(Fault::Hang),
            Self::Late => {
                faults.all(Fault::HoldReply);
                let faults = faults.clone();
                background.spawn(async move {
                    loop {
                        tokio::time::sleep(10 * SECOND).await;
                        faults.release();
                    }
                });
            }
        }
    }
}

const STORAGES: [Storage; 4] = [Storage::Works, Storage::Away, Storage::Late, Storage::Hangs];

struct World {
    faults: Faults,
    system: AsynqSystem,
    background: JoinSet<()>,
}

impl World {
    async fn new(more: impl FnOnce(AsynqSystemBuilder) -> AsynqSystemBuilder) -> Self {
        let faults = Faults::new();
        let connector = FaultyConnector::new(MemoryStore::new(), faults.clone());
        let builder = AsynqSystem::builder(connector).env(env());
        Self {
            faults,
            system: more(builder).spawn().await.unwrap(),
            background: JoinSet::new(),
        }
    }

    /// With a handler whose runs last so long, and nothing stops them; a few of them run.
    async fn running(lasts: Duration, more: impl FnOnce(AsynqSystemBuilder) -> AsynqSystemBuilder) -> Self {
        let (began, mut runs) = mpsc::unbounded_channel();
        let world = Self::new(|builder| {
            more(builder.config(config())).handler(move |_: Task| {
                let _ = began.send(());
                async move {
                    tokio::time::sleep(lasts).await;
                    Ok(())
                }
            })
        })
        .await;
        for _ in 0..5 {
            world.system.client().enqueue(task("t")).await.unwrap();
            runs.recv().await.unwrap();
        }
        world
    }

    /// Returns how long the shutdown takes when the storage does that from its beginning on.
    async fn shutdown(&mut self, storage: Storage) -> Duration {
        storage.take_effect(&self.faults, &mut self.background);
        let began = Instant::now();
        let exit = tokio::time::timeout(10 * MINUTE, self.system.shutdown()).await;
        assert_eq!(exit.expect("an end"), Exit::Stopped, "{storage:?}");
        began.elapsed()
    }
}

fn config() -> ServerConfig {
    ServerConfig::new().concurrency(10)
}

fn task(task_type: &str) -> Task {
    Task::new(task_type, b"").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_fails_keeps_a_shutdown_for_a_stated_time_after_the_last_run() {
    for storage in STORAGES {
        for lasts in [SECOND, 3 * SECOND] {
            let mut world = World::running(lasts, |builder| builder).await;
            let took = world.shutdown(storage).await;
            // 3 s for outcomes, and less than 2 s for the rest.
            let most = if storage == Storage::Works {
                lasts + SECOND
            } else {
                lasts + 5 * SECOND
            };
            assert!(took <= most, "{storage:?}, runs of {lasts:?}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn runs_that_do_not_end_keep_a_shutdown_for_the_timeout_and_the_rest() {
    for storage in STORAGES {
        let mut world = World::running(60 * MINUTE, |builder| builder).await;
        let took = world.shutdown(storage).await;
        assert!(took >= TIMEOUT && took <= TIMEOUT + REST, "{storage:?}: {took:?}");
        assert_eq!(world.system.running(), 0, "{storage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_never_came_keeps_a_shutdown_no_longer() {
    for fault in [Fault::Hang, Fault::unavailable()] {
        let faults = Faults::new();
        faults.always(Op::Connect, fault);
        let connector = FaultyConnector::new(MemoryStore::new(), faults);
        let builder = AsynqSystem::builder(connector).env(env()).config(config());
        let system = builder.handler(|_: Task| async { Ok(()) }).spawn().await.unwrap();
        let mut enqueue = JoinSet::new();
        let client = system.client();
        enqueue.spawn(async move { client.enqueue(task("t")).await });
        tokio::time::sleep(SECOND).await;
        let began = Instant::now();
        assert_eq!(system.shutdown().await, Exit::Stopped);
        assert!(began.elapsed() <= 5 * SECOND, "{fault:?}: {:?}", began.elapsed());
        let answer = enqueue.join_next().await.unwrap().unwrap();
        let failed = matches!(
            answer,
            Err(Error::Broker(_) | Error::Enqueue(EnqueueError::Unknown { .. }))
        );
        assert!(failed, "{fault:?}: {answer:?}");
    }
}

/// Nothing of it was ever sent, or the storage has refused it: that is known.
#[tokio::test(start_paused = true)]
async fn enqueues_that_a_storage_does_not_take_have_their_answer_by_the_end() {
    for storage in [Storage::Away, Storage::Late, Storage::Hangs] {
        let mut world = World::new(|builder| builder).await;
        world.system.ping().await.unwrap();
        storage.take_effect(&world.faults, &mut world.background);
        let mut callers = JoinSet::new();
        for _ in 0..300 {
            let client = world.system.client();
            callers.spawn(async move { client.enqueue(task("t")).await });
        }
        tokio::time::sleep(SECOND).await;
        let took = world.shutdown(storage).await;
        assert!(took <= 5 * SECOND, "{storage:?}: {took:?}");
        while let Some(answer) = callers.join_next().await {
            let answer = answer.unwrap();
            match storage {
                Storage::Away => assert!(matches!(answer, Err(Error::Broker(_))), "{answer:?}"),
                _ => assert!(
                    matches!(
                        answer,
                        Err(Error::Enqueue(EnqueueError::Unknown { .. }) | Error::Broker(_))
                    ),
                    "{storage:?}: {answer:?}"
                ),
            }
        }
    }
}

/// Takes as long as it likes to start or to stop.
struct Slow {
    starts_slowly: Arc<AtomicBool>,
}

enum Nudge {
    Task(HandleTask),
}
#[cfg(feature = "ractor-cluster")]
impl ractor::Message for Nudge {}

impl From<HandleTask> for Nudge {
    fn from(task: HandleTask) -> Self {
        Self::Task(task)
    }
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Slow {
    type Msg = Nudge;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nudge>, (): ()) -> Result<(), ActorProcessingErr> {
        if self.starts_slowly.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Nudge>,
        Nudge::Task(offer): Nudge,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        drop(offer);
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Nudge>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        pending().await
    }
}

fn slow_actors(starts_slowly: &Arc<AtomicBool>) -> HandlerActorSpec {
    let starts_slowly = Arc::clone(starts_slowly);
    let make = move || {
        let starts_slowly = Arc::clone(&starts_slowly);
        (Slow { starts_slowly }, ())
    };
    HandlerActorSpec::new("actor", make).instances(20).stop_within(MINUTE)
}

/// Handlers that ignore the cancel, an aggregator that never ends, twenty actors that do not stop,
/// enqueues and ticks under way: their times do not add up.
#[tokio::test(start_paused = true)]
async fn all_that_can_be_late_at_once_is_no_later_than_the_deadline() {
    for storage in STORAGES {
        let actors = slow_actors(&Arc::default());
        let mut world = World::running(60 * MINUTE, |builder| {
            let tick = PeriodicTaskConfig::new("@every 1s", task("tick"));
            builder
                .config(
                    config()
                        .group_grace_period(SECOND)
                        .unwrap()
                        .group_check_interval(SECOND),
                )
                .aggregator(|_: String, _: Vec<Task>| pending::<Result<Task, Error>>())
                .handler_actor(actors)
                .periodic(tick)
        })
        .await;
        world.system.client().enqueue(task("t").with_group("g")).await.unwrap();
        tokio::time::sleep(5 * SECOND).await;
        let mut callers = JoinSet::new();
        storage.take_effect(&world.faults, &mut world.background);
        for _ in 0..100 {
            let client = world.system.client();
            callers.spawn(async move { client.enqueue(task("t")).await });
        }
        tokio::task::yield_now().await;
        let took = world.shutdown(storage).await;
        assert!(took >= TIMEOUT && took <= TIMEOUT + REST, "{storage:?}: {took:?}");
        callers.join_all().await;
    }
}

/// A supervisor that starts a child hears of a stop all the same.
#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_does_not_keep_a_stop_waiting() {
    let starts_slowly = Arc::new(AtomicBool::new(false));
    let actors = slow_actors(&starts_slowly).instances(1).stop_within(SECOND);
    let mut world = World::running(SECOND, |builder| builder.handler_actor(actors)).await;
    starts_slowly.store(true, Ordering::Relaxed);
    for path in ["work/handlers/actor#0", "work/handlers", "work"] {
        assert!(world.system.kill_actor(path));
        // The restart has begun, and takes for ever.
        tokio::time::sleep(2 * SECOND).await;
    }
    let took = world.shutdown(Storage::Works).await;
    assert!(took <= 4 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_under_way_can_be_hurried() {
    let world = World::running(60 * MINUTE, |builder| builder.config(config().shutdown_timeout(MINUTE))).await;
    let began = Instant::now();
    world.system.stop();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(world.system.running(), 5);
    assert_eq!(world.system.shutdown_within(Duration::ZERO).await, Exit::Stopped);
    let took = began.elapsed();
    assert!(took <= 10 * SECOND + REST, "{took:?}");
}
