//! The statistics of runs: all are counted once, whatever happens to actors and to the storage.

use std::{sync::Arc, time::Duration};

use asynq_actors::{AsynqSystem, Crash, Exit};
use asynq_core::{
    BrokerError, Clock, Connector, Entropy, Env, Error, RetryDelay, ServerConfig, Storage, Task, TaskOptions,
    UnknownTask,
    statistics::{Bucket, QueueStatistics, RunEnd, Step, TimeRange},
};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use chrono::{DateTime, Utc};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than a write takes to come.
const SOON: Duration = Duration::from_secs(11);

/// Time that begins five seconds into a minute.
fn env(seed: u64) -> Env {
    Env {
        clock: Clock::tokio_at("2026-11-29T10:00:05Z".parse::<DateTime<Utc>>().unwrap()),
        entropy: Entropy::seeded(seed),
    }
}

struct Bench {
    store: MemoryStore,
    env: Env,
    faults: Faults,
    system: AsynqSystem,
    runs: mpsc::UnboundedReceiver<String>,
    /// The actor under which the system runs.
    boss: ActorCell,
}

struct Boss;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Boss {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

fn config() -> ServerConfig {
    ServerConfig::new()
        .concurrency(8)
        .queues([("default", 1), ("other", 1)])
        .retry_delay(RetryDelay::new(|_, _, _| Duration::from_secs(3600)))
}

/// A system whose handler does what the payload says, and tells the type of each task that it begins.
async fn spawn(
    store: &MemoryStore,
    env: &Env,
    faults: &Faults,
    config: ServerConfig,
) -> (AsynqSystem, mpsc::UnboundedReceiver<String>, ActorCell) {
    let (boss, _) = Actor::spawn(None, Boss, ()).await.unwrap();
    let (began, runs) = mpsc::unbounded_channel();
    let system = AsynqSystem::builder(FaultyConnector::new(store.clone(), faults.clone()))
        .env(env.clone())
        .config(config)
        .handler(move |task: Task| {
            let _ = began.send(task.get_type().to_owned());
            async move {
                match task.get_payload() {
                    b"fail" => Err(Error::other("failed")),
                    b"skip" => Err(Error::skip_retry("never")),
                    b"unknown" => Err(Error::HandlerNotFound {
                        task_type: task.get_type().to_owned(),
                    }),
                    b"snooze" => Err(Error::snooze(Duration::from_secs(3600))),
                    b"forever" => std::future::pending().await,
                    secs => {
                        let secs = String::from_utf8_lossy(secs).parse().unwrap_or(0);
                        tokio::time::sleep(Duration::from_secs(secs)).await;
                        Ok(())
                    }
                }
            }
        })
        .spawn_linked(boss.get_cell())
        .await
        .unwrap();
    (system, runs, boss.get_cell())
}

impl Bench {
    async fn start(config: ServerConfig) -> Self {
        let (store, env, faults) = (MemoryStore::new(), env(11), Faults::new());
        let (system, runs, boss) = spawn(&store, &env, &faults, config).await;
        Self {
            store,
            env,
            faults,
            system,
            runs,
            boss,
        }
    }

    /// Enqueues tasks, and waits until all have begun.
    async fn run(&mut self, tasks: &[(&str, &str)]) {
        for (task_type, payload) in tasks {
            let task = Task::new(*task_type, payload.as_bytes()).unwrap();
            self.system.client().enqueue(task).await.unwrap();
        }
        for _ in tasks {
            self.runs.recv().await.unwrap();
        }
    }

    async fn storage(&self) -> Arc<dyn Storage> {
        self.store.connect(self.env.clone()).await.unwrap()
    }

    async fn read_in(&self, queue: &str, points: u32, step: Step) -> QueueStatistics {
        let range = TimeRange::last(points, step, self.env.clock.now()).unwrap();
        let queue = asynq_core::QueueName::new(queue).unwrap();
        self.storage().await.statistics(&queue, &range).await.unwrap()
    }

    async fn read(&self, points: u32, step: Step) -> QueueStatistics {
        self.read_in("default", points, step).await
    }

    /// Returns the statistics of the last hours: the same by minute and by hour.
    async fn total(&self) -> Bucket {
        let minutes = self.read(180, Step::Minute).await.total();
        assert_eq!(self.read(4, Step::Hour).await.total(), minutes);
        minutes
    }

    async fn total_runs(&self) -> u64 {
        self.total().await.total().runs.total()
    }
}

#[tokio::test(start_paused = true)]
async fn ends_and_times_are_counted_by_type() {
    let mut bench = Bench::start(config()).await;
    bench
        .run(&[
            ("mail", "2"),
            ("mail", "2"),
            ("bad", "fail"),
            ("worse", "skip"),
            ("late", "snooze"),
        ])
        .await;
    let later = TaskOptions::new().process_in(Duration::from_secs(20)).max_retry(0);
    let task = Task::new("bad", b"fail").unwrap();
    bench.system.client().enqueue_with(task, later).await.unwrap();
    bench.runs.recv().await.unwrap();
    tokio::time::sleep(SOON).await;
    let found = bench.total().await;
    let runs = |task_type: &str, end| found.get(task_type).unwrap().runs.of(end);
    assert_eq!(runs("mail", RunEnd::Done), 2);
    assert_eq!(runs("late", RunEnd::Deferred), 1);
    assert_eq!(runs("worse", RunEnd::Archived), 1);
    assert_eq!((runs("bad", RunEnd::Retried), runs("bad", RunEnd::Archived)), (1, 1));
    assert_eq!(found.total().runs.total(), 6);
    let mail = found.get("mail").unwrap();
    assert_eq!((mail.run_time.count(), mail.run_time.sum()), (2, 4 * SECOND));
    assert_eq!(mail.wait_time.count(), 2);
    assert!(mail.wait_time.sum() < SECOND, "{:?}", mail.wait_time.sum());
    bench.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn waiting_begins_when_a_task_is_pending() {
    let mut bench = Bench::start(config()).await;
    let storage = bench.storage().await;
    storage.pause(&Default::default()).await.unwrap();
    let task = Task::new("mail", b"").unwrap();
    bench.system.client().enqueue(task).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    storage.unpause(&Default::default()).await.unwrap();
    bench.runs.recv().await.unwrap();
    bench.system.shutdown().await;
    let waited = bench.total().await.total().wait_time.sum();
    assert!((300..303).contains(&waited.as_secs()), "{waited:?}");
}

/// One script for each queue and ten seconds in which something ran, and none for others.
#[tokio::test(start_paused = true)]
async fn a_write_for_each_queue_in_which_something_ran() {
    let mut bench = Bench::start(config()).await;
    let writes = |bench: &Bench| bench.faults.calls(Op::WriteStatistics);
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(writes(&bench), 0, "nothing ran");
    // Two hundred runs in 40 s, in one of two queues.
    for _ in 0..40 {
        bench
            .run(&[("a", "0"), ("b", "0"), ("a", "0"), ("b", "0"), ("c", "0")])
            .await;
        tokio::time::sleep(SECOND).await;
    }
    tokio::time::sleep(SOON).await;
    let so_far = writes(&bench);
    assert!((4..=6).contains(&so_far), "{so_far}");
    tokio::time::sleep(100 * SECOND).await;
    bench.system.shutdown().await;
    assert_eq!(writes(&bench), so_far, "nothing is new");
    assert_eq!(bench.total_runs().await, 200);
}

#[tokio::test(start_paused = true)]
async fn minutes_are_told_apart() {
    let mut bench = Bench::start(config()).await;
    for _ in 0..3 {
        bench.run(&[("t", "0"), ("t", "0")]).await;
        tokio::time::sleep(60 * SECOND).await;
    }
    let runs: Vec<_> = bench.read(5, Step::Minute).await.points;
    let runs: Vec<_> = runs.iter().map(|point| point.types.total().runs.total()).collect();
    assert_eq!(runs, [2, 2, 2]);
    bench.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_writes_the_rest() {
    let mut bench = Bench::start(config().shutdown_timeout(SECOND)).await;
    bench.run(&[("short", "0"), ("mid", "1"), ("endless", "forever")]).await;
    assert_eq!(bench.system.shutdown().await, Exit::Stopped);
    let found = bench.total().await;
    assert_eq!(found.get("short").unwrap().runs.of(RunEnd::Done), 1);
    assert_eq!(found.get("endless").unwrap().runs.of(RunEnd::GivenBack), 1);
    assert_eq!(found.total().runs.total(), 3);
}

/// Counts are not the actor's: its successor writes them.
#[tokio::test(start_paused = true)]
async fn a_crash_loses_nothing() {
    let mut bench = Bench::start(config()).await;
    for path in ["work/statistician", "work", "work/statistician", "broker"] {
        bench.run(&[("t", "0"), ("t", "0")]).await;
        tokio::time::sleep(3 * SECOND).await;
        assert!(bench.system.kill_actor(path));
        tokio::time::sleep(2 * SECOND).await;
    }
    tokio::time::sleep(SOON).await;
    assert_eq!(bench.total_runs().await, 8);
    for crash in [Crash::Panic, Crash::Error] {
        bench.run(&[("t", "0")]).await;
        assert!(bench.system.crash_actor("work/statistician", crash));
        tokio::time::sleep(3 * SOON).await;
    }
    assert_eq!(bench.total_runs().await, 10);
    let tree = bench.system.tree().unwrap();
    // Killed twice, and once more with its branch.
    let restarts = tree.find(&["work", "statistician"]).unwrap().restarts;
    assert_eq!(restarts, 5, "{tree}");
    bench.system.shutdown().await;
}

/// A killed root leaves nobody to write but the task that tears down.
#[tokio::test(start_paused = true)]
async fn a_killed_system_writes_the_rest() {
    let mut bench = Bench::start(config()).await;
    bench.run(&[("t", "0"), ("endless", "forever")]).await;
    bench.boss.kill();
    assert_eq!(bench.system.wait().await, Exit::Killed);
    let found = bench.total().await;
    assert_eq!(found.get("t").unwrap().runs.of(RunEnd::Done), 1);
    assert_eq!(found.get("endless").unwrap().runs.of(RunEnd::GivenBack), 1);
}

/// A write is repeated until it has its answer, and counts once.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_counts_nothing_twice() {
    for fault in [
        Fault::LoseReply,
        Fault::LoseRequest,
        Fault::Fail(|| BrokerError::OutOfMemory),
    ] {
        let mut bench = Bench::start(config()).await;
        for _ in 0..3 {
            bench.faults.next(Op::WriteStatistics, fault);
        }
        for _ in 0..4 {
            bench.run(&[("t", "0"), ("t", "0"), ("t", "fail")]).await;
            tokio::time::sleep(9 * SECOND).await;
        }
        tokio::time::sleep(2 * SOON).await;
        assert_eq!(bench.total_runs().await, 12, "{fault:?}");
        assert!(bench.faults.calls(Op::WriteStatistics) > 4);
        bench.system.shutdown().await;
        assert_eq!(bench.total_runs().await, 12, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn servers_are_added_up() {
    let mut bench = Bench::start(config()).await;
    let (second, mut runs, _boss) = spawn(&bench.store, &env(12), &bench.faults, config()).await;
    let mut ran = [0_u64; 2];
    for _ in 0..60 {
        bench
            .system
            .client()
            .enqueue(Task::new("t", b"1").unwrap())
            .await
            .unwrap();
    }
    while ran.iter().sum::<u64>() < 60 {
        tokio::select! {
            Some(_) = bench.runs.recv() => ran[0] += 1,
            Some(_) = runs.recv() => ran[1] += 1,
        }
    }
    assert!(ran.iter().all(|ran| *ran > 0), "{ran:?}: one did nothing");
    second.shutdown().await;
    bench.system.shutdown().await;
    assert_eq!(bench.total_runs().await, 60);
}

/// A queue whose statistics hang does not hold up those of another, nor its own tasks.
#[tokio::test(start_paused = true)]
async fn a_queue_that_hangs_holds_up_no_other() {
    let mut bench = Bench::start(config()).await;
    bench
        .faults
        .for_queue(&asynq_core::QueueName::new("other").unwrap())
        .always(Op::WriteStatistics, Fault::Hang);
    for _ in 0..6 {
        bench.run(&[("t", "0")]).await;
        let other = TaskOptions::new().queue("other");
        bench
            .system
            .client()
            .enqueue_with(Task::new("o", b"").unwrap(), other)
            .await
            .unwrap();
        bench.runs.recv().await.unwrap();
        tokio::time::sleep(9 * SECOND).await;
    }
    tokio::time::sleep(SOON).await;
    assert_eq!(bench.total_runs().await, 6);
    assert!(bench.read_in("other", 60, Step::Minute).await.points.is_empty());
    bench.faults.clear();
    bench
        .faults
        .for_queue(&asynq_core::QueueName::new("other").unwrap())
        .release();
    tokio::time::sleep(3 * SOON).await;
    assert_eq!(
        bench
            .read_in("other", 60, Step::Minute)
            .await
            .total()
            .total()
            .runs
            .total(),
        6
    );
    bench.system.shutdown().await;
}

/// Statistics that cannot be written are kept, those of minutes for an hour.
#[tokio::test(start_paused = true)]
async fn a_long_outage_costs_bounded_memory() {
    let mut bench = Bench::start(config()).await;
    bench.faults.always(Op::WriteStatistics, Fault::unavailable());
    for _ in 0..100 {
        bench.run(&[("t", "0")]).await;
        tokio::time::sleep(60 * SECOND).await;
    }
    bench.faults.clear();
    tokio::time::sleep(2 * SOON).await;
    let minutes = bench.read(180, Step::Minute).await.points.len();
    assert!((58..=60).contains(&minutes), "{minutes}");
    assert_eq!(bench.read(4, Step::Hour).await.total().total().runs.total(), 100);
    bench.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn statistics_can_be_switched_off() {
    let mut bench = Bench::start(config().statistics(false)).await;
    bench.run(&[("t", "0")]).await;
    tokio::time::sleep(2 * SOON).await;
    assert!(!bench.system.tree().unwrap().to_string().contains("statistician"));
    bench.system.shutdown().await;
    assert_eq!(bench.faults.calls(Op::WriteStatistics), 0);
    assert_eq!(bench.total_runs().await, 0);
}

/// A task that is put back has not run: it is neither a run that was delayed, nor has it a time.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_put_back_counts_as_given_back_and_has_no_time() {
    let mut bench = Bench::start(config().unknown_task(UnknownTask::GiveBack)).await;
    bench.run(&[("t", "unknown")]).await;
    tokio::time::sleep(SOON).await;
    let total = bench.total().await;
    let of_type = total.get("t").unwrap();
    let back = of_type.runs.of(RunEnd::GivenBack);
    assert!(back > 0 && of_type.runs.total() == back, "{of_type:?}");
    assert!(of_type.run_time.is_empty(), "{of_type:?}");
    bench.system.shutdown().await;
}
