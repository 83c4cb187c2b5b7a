//! Systems that end without being stopped: the user's actor above them ends, or their root is killed.

use std::{future::pending, sync::Arc, time::Duration};

use asynq_actors::{AsynqSystem, AsynqSystemBuilder, Exit, HandleTask, HandlerActorSpec};
use asynq_core::{
    BrokerError, EnqueueError, Error, Inspect, ServerConfig, Task, TaskId, TaskState,
    inspect::{ListFilter, PageRequest},
};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::env;

const RUNNING: usize = 20;

/// The user's own supervisor.
struct Boss;

enum Order {
    Panic,
}
#[cfg(feature = "ractor-cluster")]
impl ractor::Message for Order {}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Boss {
    type Msg = Order;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Order>, Order::Panic: Order, (): &mut ()) -> Result<(), ActorProcessingErr> {
        panic!("the boss panics")
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Order>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// The end of a system that nobody shuts down.
#[derive(Clone, Copy, Debug)]
enum End {
    ParentStops,
    ParentIsKilled,
    ParentPanics,
    RootIsKilled,
}

const ENDS: [End; 4] = [
    End::ParentStops,
    End::ParentIsKilled,
    End::ParentPanics,
    End::RootIsKilled,
];

impl End {
    fn come(self, boss: &ActorRef<Order>) {
        match self {
            Self::ParentStops => boss.stop(None),
            Self::ParentIsKilled => boss.kill(),
            Self::ParentPanics => boss.cast(Order::Panic).unwrap(),
            Self::RootIsKilled => boss.get_children().iter().for_each(|root| root.kill()),
        }
    }
}

/// A system under a boss, and what its storage is made to do.
struct World {
    store: MemoryStore,
    faults: Faults,
    boss: ActorRef<Order>,
    system: AsynqSystem,
}

impl World {
    async fn new(more: impl FnOnce(AsynqSystemBuilder) -> AsynqSystemBuilder) -> Self {
        Self::on(MemoryStore::new(), more).await
    }

    async fn on(store: MemoryStore, more: impl FnOnce(AsynqSystemBuilder) -> AsynqSystemBuilder) -> Self {
        let faults = Faults::new();
        let (boss, _) = Actor::spawn(None, Boss, ()).await.unwrap();
        let connector = FaultyConnector::new(store.clone(), faults.clone());
        let config = ServerConfig::new().concurrency(RUNNING);
        let builder = AsynqSystem::builder(connector).env(env()).config(config);
        let system = more(builder).spawn_linked(boss.get_cell()).await.unwrap();
        system.ping().await.unwrap();
        Self {
            store,
            faults,
            boss,
            system,
        }
    }

    /// With a handler that tells when it begins, and ends when the payload says so.
    async fn with_handler() -> (Self, mpsc::UnboundedReceiver<()>) {
        let (began, runs) = mpsc::unbounded_channel();
        let world = Self::new(|builder| {
            builder.handler(move |task: Task| {
                let _ = began.send(());
                async move {
                    match String::from_utf8_lossy(task.get_payload()).parse() {
                        Ok(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
                        Err(_) => pending().await,
                    }
                    Ok(())
                }
            })
        })
        .await;
        (world, runs)
    }

    async fn enqueue(&self, ids: impl IntoIterator<Item = String>, payload: &str) {
        for id in ids {
            let task = Task::new("t", payload.as_bytes()).unwrap().with_task_id(&id);
            self.system.client().enqueue(task).await.unwrap();
        }
    }

    /// The state of a task, and how many retries it has used.
    async fn state(&self, id: &str) -> Option<(TaskState, u32)> {
        let broker = self.store.open(env());
        let info = broker.task_info(&Default::default(), &TaskId::new(id).unwrap()).await;
        info.ok().map(|info| (info.state, info.retried))
    }

    async fn pending(&self) -> Vec<String> {
        let filter = ListFilter::State(TaskState::Pending);
        let broker = self.store.open(env());
        let queue = Default::default();
        let page = broker
            .list_tasks(&queue, &filter, PageRequest::default())
            .await
            .unwrap();
        page.tasks.into_iter().map(|task| task.id.to_string()).collect()
    }

    /// Nothing in the store contradicts itself.
    async fn no_breach(&self) {
        let broker = self.store.open(env());
        for queue in broker.queues().await.unwrap() {
            let page = broker.audit(&queue, Default::default()).await.unwrap();
            assert_eq!(page.items, [], "{queue}");
        }
    }
}

fn names(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{prefix}{number:02}"))
}

#[tokio::test(start_paused = true)]
async fn what_runs_goes_back_to_the_front_however_the_system_ends() {
    for end in ENDS {
        let (world, mut runs) = World::with_handler().await;
        world.enqueue(names("r", RUNNING), "-").await;
        for _ in 0..RUNNING {
            runs.recv().await.unwrap();
        }
        world.enqueue(names("w", 3), "-").await;
        let began = Instant::now();
        end.come(&world.boss);
        assert_eq!(world.system.wait().await, Exit::Killed, "{end:?}");
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "{end:?}: {:?}",
            began.elapsed()
        );
        // The last taken was given back first, so the order is as it was.
        let expected: Vec<_> = names("r", RUNNING).chain(names("w", 3)).collect();
        assert_eq!(world.pending().await, expected, "{end:?}");
        for id in expected {
            assert_eq!(world.state(&id).await, Some((TaskState::Pending, 0)), "{end:?} {id}");
        }
        world.no_breach().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_by_itself_within_the_grace_is_done() {
    for end in ENDS {
        let (world, mut runs) = World::with_handler().await;
        world.enqueue(names("short", 3), "1500").await;
        world.enqueue(names("long", 1), "60000").await;
        for _ in 0..4 {
            runs.recv().await.unwrap();
        }
        end.come(&world.boss);
        assert_eq!(world.system.wait().await, Exit::Killed);
        for id in names("short", 3) {
            assert_eq!(world.state(&id).await, None, "{end:?} {id}: done");
        }
        assert_eq!(world.state("long00").await, Some((TaskState::Pending, 0)), "{end:?}");
        world.no_breach().await;
    }
}

/// The outcomes are on their way, and the storage takes a second to answer.
#[tokio::test(start_paused = true)]
async fn outcomes_that_wait_are_written_by_a_slow_storage() {
    for end in ENDS {
        let (world, mut runs) = World::with_handler().await;
        world.enqueue(names("a", 5), "100").await;
        for _ in 0..5 {
            runs.recv().await.unwrap();
        }
        world.faults.always(Op::Exchange, Fault::Hang);
        world.faults.hung(Op::Exchange, 1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        end.come(&world.boss);
        let mut later = JoinSet::new();
        let faults = world.faults.clone();
        later.spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            faults.clear();
            faults.release();
        });
        assert_eq!(world.system.wait().await, Exit::Killed);
        for id in names("a", 5) {
            assert_eq!(world.state(&id).await, None, "{end:?} {id}: done");
        }
        world.no_breach().await;
    }
}

/// A storage that never answers keeps nobody waiting for ever.
#[tokio::test(start_paused = true)]
async fn an_end_without_a_storage_is_an_end_all_the_same() {
    for end in ENDS {
        let (world, mut runs) = World::with_handler().await;
        world.enqueue(names("a", 5), "-").await;
        for _ in 0..5 {
            runs.recv().await.unwrap();
        }
        world.faults.all(Fault::Hang);
        let began = Instant::now();
        end.come(&world.boss);
        assert_eq!(world.system.wait().await, Exit::Killed);
        assert!(
            began.elapsed() < Duration::from_secs(7),
            "{end:?}: {:?}",
            began.elapsed()
        );
        assert!(matches!(
            world.system.broker().storage().await,
            Err(BrokerError::Closed)
        ));
    }
}

/// Errors that a handler meets while the system ends are not the task's failure.
#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_because_the_system_ends_uses_no_retry() {
    let (began, mut runs) = mpsc::unbounded_channel();
    let world = World::new(|builder| {
        builder.handler(move |task: Task| {
            let _ = began.send(());
            async move {
                task.context().unwrap().cancelled().await;
                Err(asynq_core::Error::other("the rest of the application is gone"))
            }
        })
    })
    .await;
    world.enqueue(names("a", 1), "").await;
    runs.recv().await.unwrap();
    world.boss.stop(None);
    assert_eq!(world.system.wait().await, Exit::Killed);
    assert_eq!(world.state("a00").await, Some((TaskState::Pending, 0)));
}

/// Works on each of its tasks for ever, one within its handler, the others in its state.
struct Keeper(mpsc::UnboundedSender<()>);

enum Keep {
    Task(HandleTask),
}
#[cfg(feature = "ractor-cluster")]
impl ractor::Message for Keep {}

impl From<HandleTask> for Keep {
    fn from(task: HandleTask) -> Self {
        Self::Task(task)
    }
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Keeper {
    type Msg = Keep;
    type State = Vec<asynq_actors::TaskReply>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Keep>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Keep>,
        Keep::Task(offer): Keep,
        replies: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (task, reply) = offer.start().unwrap();
        self.0.send(()).unwrap();
        if task.get_payload() == b"here" {
            pending::<()>().await;
        }
        replies.push(reply);
        Ok(())
    }
}

/// The instances are killed with the system, which is not the tasks' failure.
#[tokio::test(start_paused = true)]
async fn tasks_of_handler_actors_go_back_and_use_no_retry() {
    for end in ENDS {
        let (began, mut runs) = mpsc::unbounded_channel();
        let world = World::new(|builder| {
            let spec = HandlerActorSpec::new("t", move || (Keeper(began.clone()), ()));
            builder.handler_actor(spec.instances(2).concurrency(5))
        })
        .await;
        world.enqueue(names("kept", 6), "kept").await;
        world.enqueue(names("here", 2), "here").await;
        for _ in 0..8 {
            runs.recv().await.unwrap();
        }
        // In the mailbox, or waiting for an instance.
        world.enqueue(names("waits", 4), "kept").await;
        end.come(&world.boss);
        assert_eq!(world.system.wait().await, Exit::Killed);
        for id in names("kept", 6).chain(names("here", 2)).chain(names("waits", 4)) {
            assert_eq!(world.state(&id).await, Some((TaskState::Pending, 0)), "{end:?} {id}");
        }
        world.no_breach().await;
    }
}

#[tokio::test(start_paused = true)]
async fn enqueues_under_way_have_an_answer_when_the_system_has_ended() {
    for end in ENDS {
        let world = World::new(|builder| builder).await;
        world.faults.always(Op::Enqueue, Fault::Hang);
        let mut callers = JoinSet::new();
        for id in names("a", 10) {
            let client = world.system.client();
            callers.spawn(async move {
                let task = Task::new("t", b"").unwrap().with_task_id(&id);
                (id, client.enqueue(task).await)
            });
        }
        world.faults.hung(Op::Enqueue, 1).await;
        let began = Instant::now();
        end.come(&world.boss);
        assert_eq!(world.system.wait().await, Exit::Killed);
        while let Some(answer) = callers.join_next().await {
            let (id, answer) = answer.unwrap();
            match answer {
                Err(Error::Enqueue(EnqueueError::Unknown { id: told })) => assert_eq!(told.as_str(), id),
                answer => panic!("{end:?}: {answer:?}"),
            }
        }
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "{end:?}: {:?}",
            began.elapsed()
        );
        let late = world.system.client().enqueue(Task::new("t", b"").unwrap()).await;
        assert!(matches!(late, Err(Error::Enqueue(EnqueueError::Closed))), "{late:?}");
    }
}

/// The end of one system is no affair of another in the same process.
#[tokio::test(start_paused = true)]
async fn the_end_of_one_system_leaves_another_alone() {
    let (one, mut runs) = World::with_handler().await;
    let (other, mut others) = World::with_handler().await;
    for world in [&one, &other] {
        world.enqueue(names("a", 3), "30000").await;
    }
    for _ in 0..3 {
        runs.recv().await.unwrap();
        others.recv().await.unwrap();
    }
    one.boss.stop(None);
    assert_eq!(one.system.wait().await, Exit::Killed);
    assert_eq!((one.system.running(), other.system.running()), (0, 3));
    other.system.drain().await;
    for id in names("a", 3) {
        assert_eq!(one.state(&id).await, Some((TaskState::Pending, 0)));
        assert_eq!(other.state(&id).await, None, "done");
    }
    assert_eq!(other.system.shutdown().await, Exit::Stopped);
}

/// Nobody winds down what runs: the processor is just being restarted.
#[tokio::test(start_paused = true)]
async fn a_shutdown_without_a_processor_gives_back_what_runs() {
    let (world, mut runs) = World::with_handler().await;
    world.enqueue(names("a", 3), "-").await;
    world.enqueue(names("short", 1), "2000").await;
    for _ in 0..4 {
        runs.recv().await.unwrap();
    }
    assert!(world.system.kill_actor("work/processor"));
    tokio::task::yield_now().await;
    assert_eq!(world.system.shutdown().await, Exit::Stopped);
    for id in names("a", 3) {
        assert_eq!(world.state(&id).await, Some((TaskState::Pending, 0)), "{id}");
    }
    assert_eq!(world.state("short00").await, None, "done");
    world.no_breach().await;
}

/// The parent ends while the system is being shut down.
#[tokio::test(start_paused = true)]
async fn a_parent_that_ends_during_a_shutdown_loses_nothing() {
    for end in ENDS {
        let (world, mut runs) = World::with_handler().await;
        world.enqueue(names("a", 3), "-").await;
        for _ in 0..3 {
            runs.recv().await.unwrap();
        }
        world.system.stop();
        tokio::time::sleep(Duration::from_secs(1)).await;
        end.come(&world.boss);
        let began = Instant::now();
        world.system.wait().await;
        assert!(
            began.elapsed() < Duration::from_secs(14),
            "{end:?}: {:?}",
            began.elapsed()
        );
        for id in names("a", 3) {
            assert_eq!(world.state(&id).await, Some((TaskState::Pending, 0)), "{end:?} {id}");
        }
        world.no_breach().await;
    }
}

/// The crash of a branch is not the end of the system: what runs goes on.
#[tokio::test(start_paused = true)]
async fn a_crash_below_the_root_gives_nothing_back() {
    let (world, mut runs) = World::with_handler().await;
    world.enqueue(names("a", 3), "30000").await;
    for _ in 0..3 {
        runs.recv().await.unwrap();
    }
    for path in ["work", "broker", "work/processor", "maintenance"] {
        assert!(world.system.kill_actor(path));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.system.running(), 3);
    world.system.drain().await;
    for id in names("a", 3) {
        assert_eq!(world.state(&id).await, None, "done");
    }
    assert!(runs.try_recv().is_err(), "each ran once");
    let _: Arc<_> = world.system.storage().await.unwrap();
    assert_eq!(world.system.shutdown().await, Exit::Stopped);
}
