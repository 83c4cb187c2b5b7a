//! The cost of a deploy and of an outage for a fleet under load: no retry, and no task.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use asynq_actors::{AsynqSystem, Client, Exit, HandleTask, HandlerActorSpec};
use asynq_core::{
    Connector as _, Entropy, Error, QueueInfo, QueueName, Result, ServerConfig, Task,
    broker::{Env, Want},
};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{task::JoinSet, time::timeout};

use crate::env;

const SERVERS: usize = 3;
const ROUNDS: usize = 20;
/// Kinds of handlers, by how they take a cancel.
const KINDS: [&str; 6] = ["heeds", "errs", "panics", "ignores", "spawns", "actor"];

/// Observations of the runs.
#[derive(Clone, Debug, Default)]
struct Seen {
    runs: Arc<AtomicUsize>,
    retries: Arc<AtomicUsize>,
    cancels: Arc<AtomicUsize>,
}

/// Works for as long as the payload says, and takes a cancel as its type says.
async fn work(task: Task, seen: Seen) -> Result<()> {
    let context = task.context().unwrap().clone();
    seen.runs.fetch_add(1, Ordering::Relaxed);
    if context.retried() > 0 {
        seen.retries.fetch_add(1, Ordering::Relaxed);
    }
    let lasts = Duration::from_millis(String::from_utf8_lossy(task.get_payload()).parse().unwrap());
    let cancelled = async {
        context.cancelled().await;
        seen.cancels.fetch_add(1, Ordering::Relaxed);
    };
    match task.get_type() {
        "ignores" => tokio::time::sleep(lasts).await,
        "spawns" => {
            let mut part = JoinSet::new();
            part.spawn(tokio::time::sleep(lasts));
            tokio::select! {
                _ = part.join_next() => {}
                // What it waits for goes away with it.
                () = cancelled => part.abort_all(),
            }
            if let Some(Err(gone)) = part.join_next().await {
                return Err(Error::other(gone));
            }
        }
        kind => tokio::select! {
            () = tokio::time::sleep(lasts) => {}
            () = cancelled => match kind {
                "heeds" => return Err(Error::Canceled),
                "panics" => panic!("cut short"),
                _ => return Err(Error::other("the database is gone")),
            }
        },
    }
    Ok(())
}

struct Worker;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Worker {
    type Msg = HandleTask;
    type State = Seen;
    type Arguments = Seen;

    async fn pre_start(&self, _: ActorRef<HandleTask>, seen: Seen) -> Result<Seen, ActorProcessingErr> {
        Ok(seen)
    }

    async fn handle(
        &self,
        _: ActorRef<HandleTask>,
        task: HandleTask,
        seen: &mut Seen,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((task, reply)) = task.start() {
            reply.send(work(task, seen.clone()).await);
        }
        Ok(())
    }
}

async fn server(store: &MemoryStore, env: &Env, faults: &Faults, seen: &Seen) -> AsynqSystem {
    let (for_actors, seen) = (seen.clone(), seen.clone());
    AsynqSystem::builder(FaultyConnector::new(store.clone(), faults.clone()))
        .env(env.clone())
        .config(ServerConfig::new().concurrency(10))
        .handler(move |task: Task| work(task, seen.clone()))
        .handler_actor(
            HandlerActorSpec::new("actor", move || (Worker, for_actors.clone()))
                .instances(3)
                .concurrency(2),
        )
        .spawn()
        .await
        .unwrap()
}

/// Enqueues tasks that have no retry: the first failure that is counted archives them.
async fn enqueue(client: &Client, entropy: &Entropy, count: usize, longest_ms: u64) {
    let tasks = (0..count).map(|number| {
        let lasts = entropy.below(longest_ms).to_string();
        let task = Task::new(KINDS[number % KINDS.len()], lasts.as_bytes()).unwrap();
        task.with_max_retry(0).with_retention(Duration::from_secs(24 * 3600))
    });
    for answer in client.enqueue_many(tasks).await {
        answer.unwrap();
    }
}

/// Waits until the tasks have ended, and checks how.
async fn all_completed(store: &MemoryStore, env: &Env, tasks: usize, seen: &Seen) {
    let look = store.connect(env.clone()).await.unwrap();
    let info = || async { look.queue_info(&QueueName::default()).await.unwrap() };
    let ended = |info: &QueueInfo| info.completed + info.archived >= tasks as u64;
    let all = async {
        while !ended(&info().await) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let in_time = timeout(Duration::from_secs(1800), all).await;
    let info = info().await;
    assert!(in_time.is_ok(), "some never end: {info:?}, {seen:?}");
    assert_eq!(
        (info.completed, info.archived, info.failed_total),
        (tasks as u64, 0, 0),
        "{seen:?}"
    );
    assert_eq!(seen.retries.load(Ordering::Relaxed), 0, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn rolling_restarts_under_load_use_no_retry() {
    // One clock, as that of one Redis.
    let (store, env) = (MemoryStore::new(), env());
    let (faults, seen) = (Faults::new(), Seen::default());
    let producer = AsynqSystem::builder(store.clone())
        .env(env.clone())
        .spawn()
        .await
        .unwrap();
    let entropy = Entropy::seeded(11);
    let mut fleet = Vec::new();
    for _ in 0..SERVERS {
        fleet.push(server(&store, &env, &faults, &seen).await);
    }
    let mut sent = 0;
    for _ in 0..ROUNDS {
        for at in 0..SERVERS {
            // More than they can do meanwhile, some of it longer than a shutdown waits.
            enqueue(&producer.client(), &entropy, 12, 20_000).await;
            sent += 12;
            tokio::time::sleep(Duration::from_millis(entropy.below(4000))).await;
            let former = fleet.remove(at);
            assert_eq!(former.shutdown().await, Exit::Stopped);
            fleet.insert(at, server(&store, &env, &faults, &seen).await);
        }
    }
    assert!(
        seen.cancels.load(Ordering::Relaxed) > ROUNDS,
        "few were cut short: {seen:?}"
    );
    all_completed(&store, &env, sent, &seen).await;
    for system in fleet.into_iter().chain([producer]) {
        assert_eq!(system.shutdown().await, Exit::Stopped);
    }
}

/// The leases of all that runs end, whether or not an owner could give its tasks back in time.
#[tokio::test(start_paused = true)]
async fn an_outage_that_ends_every_lease_uses_no_retry() {
    for (away, offset) in [(35, 7), (65, 31), (90, 17), (300, 43)] {
        // One clock, as that of one Redis.
        let (store, env) = (MemoryStore::new(), env());
        let (faults, seen) = (Faults::new(), Seen::default());
        let producer = AsynqSystem::builder(store.clone())
            .env(env.clone())
            .spawn()
            .await
            .unwrap();
        let mut fleet = Vec::new();
        for _ in 0..SERVERS {
            fleet.push(server(&store, &env, &faults, &seen).await);
            // Their passes come at times of their own.
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
        tokio::time::sleep(Duration::from_secs(offset)).await;
        enqueue(&producer.client(), &Entropy::seeded(12), 60, 400_000).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        faults.all(Fault::unavailable());
        tokio::time::sleep(Duration::from_secs(away)).await;
        faults.clear();
        all_completed(&store, &env, 60, &seen).await;
        for system in fleet.into_iter().chain([producer]) {
            assert_eq!(system.shutdown().await, Exit::Stopped);
        }
    }
}

/// A server that had seen a dead one's task before the outage has not seen all others since.
#[tokio::test(start_paused = true)]
async fn an_outage_between_two_looks_of_a_recoverer_uses_no_retry() {
    // One clock, as that of one Redis.
    let (store, env) = (MemoryStore::new(), env());
    let (faults, seen) = (Faults::new(), Seen::default());
    let producer = AsynqSystem::builder(store.clone())
        .env(env.clone())
        .spawn()
        .await
        .unwrap();
    enqueue(&producer.client(), &Entropy::seeded(13), 1, 1000).await;
    // Taken by somebody who is gone.
    let dead = store.connect(env.clone()).await.unwrap();
    let want = Want {
        queue: QueueName::default(),
        max: 1,
    };
    let taken = dead.exchange(&dead.begin(), &[], &[want]).await;
    assert_eq!(taken.leased.len(), 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let system = server(&store, &env, &faults, &seen).await;
    enqueue(&producer.client(), &Entropy::seeded(13), 12, 400_000).await;
    // A minute later, when what is running is known to have been started.
    faults.called(Op::Expired, 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(seen.runs.load(Ordering::Relaxed) > 5, "{seen:?}");
    faults.all(Fault::unavailable());
    // Sent before the connection was lost, answered by the next one.
    faults.always(Op::Expired, Fault::Hang);
    faults.hung(Op::Expired, 1).await;
    tokio::time::sleep(Duration::from_secs(80)).await;
    faults.clear();
    faults.release();
    all_completed(&store, &env, 13, &seen).await;
    for system in [system, producer] {
        assert_eq!(system.shutdown().await, Exit::Stopped);
    }
}
