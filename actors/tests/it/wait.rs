//! Waiting for the end of a task, whatever becomes of it and of the storage.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use asynq_actors::{AsynqSystem, Client, Waited};
use asynq_core::{BrokerError, Error, RetryDelay, ServerConfig, Task, TaskInfo, TaskState};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use tokio::time::Instant;

use crate::env;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

struct World {
    faults: Faults,
    system: AsynqSystem,
    client: Client,
}

impl World {
    /// Runs tasks: each takes the time that its payload says, in milliseconds, and ends as its type says.
    async fn new() -> Self {
        let faults = Faults::new();
        let retried = Arc::<AtomicBool>::default();
        let connector = FaultyConnector::new(MemoryStore::new(), faults.clone());
        let system = AsynqSystem::builder(connector)
            .env(env())
            .config(ServerConfig::new().retry_delay(RetryDelay::new(|_, _, _| HOUR)))
            .handler(move |task: Task| {
                let retried = Arc::clone(&retried);
                async move {
                    let text = String::from_utf8_lossy(task.get_payload()).into_owned();
                    tokio::time::sleep(Duration::from_millis(text.parse().unwrap_or(0))).await;
                    match task.get_type() {
                        "ok" => {
                            let run = task.context().ok_or(Error::other("no run"))?;
                            run.write_result(format!("after {text} ms")).await.map(drop)
                        }
                        "fail" => Err(Error::other("not today")),
                        "give up" => Err(Error::skip_retry("never")),
                        "give up once" if retried.swap(true, Ordering::SeqCst) => Ok(()),
                        "give up once" => Err(Error::skip_retry("not the first time")),
                        _ => Err(Error::revoke("of no use")),
                    }
                }
            })
            .spawn()
            .await
            .unwrap();
        let client = system.client();
        Self { faults, system, client }
    }

    fn looks(&self) -> u64 {
        self.faults.calls(Op::TaskState)
    }

    fn reads(&self) -> u64 {
        self.faults.calls(Op::TaskInfo)
    }

    async fn enqueue(&self, task_type: &str, takes: Duration) -> TaskInfo {
        let payload = takes.as_millis().to_string();
        let task = Task::new(task_type, payload.as_bytes()).unwrap().with_retention(HOUR);
        self.client.enqueue(task).await.unwrap()
    }

    /// Waits until the task is in this state.
    async fn until(&self, info: &TaskInfo, state: TaskState) {
        let storage = self.system.storage().await.unwrap();
        while storage.task_state(&info.queue, &info.id).await.unwrap() != state {
            tokio::time::sleep(SECOND / 10).await;
        }
    }

    /// Waits for the task, and does something between the first look and what follows.
    async fn look_then(&self, info: &TaskInfo, within: Duration, then: impl AsyncFnOnce()) -> Waited {
        self.faults.next(Op::TaskState, Fault::HoldReply);
        let change = async {
            self.faults.hung(Op::TaskState, 1).await;
            then().await;
            self.faults.release();
        };
        let (waited, ()) = tokio::join!(self.client.wait(info, within), change);
        waited.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_heard_of_soon_after_few_looks() {
    let world = World::new().await;
    for (takes, late, looks) in [(0, 60, 6), (100, 100, 20), (10_000, 1600, 60), (600_000, 1600, 700)] {
        let takes = Duration::from_millis(takes);
        let (began, before, read) = (Instant::now(), world.looks(), world.reads());
        let info = world.enqueue("ok", takes).await;
        let waited = world.client.wait(&info, HOUR).await.unwrap();
        let Waited::Completed(end) = &waited else {
            panic!("{waited:?}")
        };
        assert_eq!((end.id.clone(), end.state), (info.id, TaskState::Completed));
        let result = format!("after {} ms", takes.as_millis());
        assert_eq!(waited.result().unwrap(), result.as_bytes());
        let delay = began.elapsed() - takes;
        assert!(delay <= Duration::from_millis(late), "{takes:?}: {delay:?} late");
        let looked = world.looks() - before;
        assert!((1..=looks).contains(&looked), "{takes:?}: {looked} looks");
        assert_eq!(
            world.reads() - read,
            1,
            "the whole task, its payload included, is read once"
        );
    }
    world.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn each_end_has_its_answer() {
    let world = World::new().await;
    let wait = async |info: &TaskInfo, within| world.client.wait(info, within).await.unwrap();

    let info = world.enqueue("give up", SECOND).await;
    let Waited::Archived(end) = wait(&info, HOUR).await else {
        panic!("not archived")
    };
    assert_eq!((end.last_error.as_str(), end.state), ("never", TaskState::Archived));

    let info = world.enqueue("revoke", SECOND).await;
    assert_eq!(wait(&info, HOUR).await, Waited::Gone);

    let vanishes = Task::new("ok", b"1000").unwrap();
    let info = world.client.enqueue(vanishes).await.unwrap();
    assert_eq!(wait(&info, HOUR).await, Waited::Gone);
    let never_there = world.client.wait_for("default", "nobody", HOUR).await.unwrap();
    assert_eq!(never_there, Waited::Gone);
    let no_queue = world.client.wait_for("none", "nobody", HOUR).await.unwrap();
    assert_eq!(no_queue, Waited::Gone);
    let blank = world.client.wait_for(" ", "nobody", HOUR).await.unwrap_err();
    assert!(matches!(blank, Error::Invalid(_)), "{blank}");

    // A task that is tried again has not ended.
    let info = world.enqueue("fail", SECOND).await;
    let began = Instant::now();
    let Waited::NotYet(now) = wait(&info, 30 * SECOND).await else {
        panic!("it has ended")
    };
    assert_eq!(began.elapsed(), 30 * SECOND);
    assert_eq!((now.state, now.last_error.as_str()), (TaskState::Retry, "not today"));

    // Zero is one look.
    let (began, looked, read) = (Instant::now(), world.looks(), world.reads());
    assert!(matches!(wait(&info, Duration::ZERO).await, Waited::NotYet(_)));
    assert_eq!(
        (began.elapsed(), world.looks(), world.reads()),
        (Duration::ZERO, looked, read + 1)
    );

    let later = Task::new("ok", b"")
        .unwrap()
        .with_process_in(5 * SECOND)
        .with_retention(HOUR);
    let info = world.client.enqueue(later).await.unwrap();
    assert!(matches!(wait(&info, SECOND).await, Waited::NotYet(now) if now.state == TaskState::Scheduled));
    assert!(matches!(wait(&info, Duration::MAX).await, Waited::Completed(_)));
    world.system.shutdown().await;
}

/// A task that has ended by one look may have changed before it is read.
#[tokio::test(start_paused = true)]
async fn a_task_that_changes_between_the_look_and_the_read_is_waited_for_or_gone() {
    let world = World::new().await;
    let storage = world.system.storage().await.unwrap();
    // It is run once more, and succeeds.
    let info = world.enqueue("give up once", SECOND).await;
    world.until(&info, TaskState::Archived).await;
    let again = async || storage.run_task(&info.queue, &info.id).await.unwrap();
    let waited = world.look_then(&info, HOUR, again).await;
    assert!(matches!(waited, Waited::Completed(_)), "{waited:?}");

    // It is run once more, and the time is over meanwhile.
    let info = world.enqueue("give up", 30 * SECOND).await;
    world.until(&info, TaskState::Archived).await;
    let again = async || {
        storage.run_task(&info.queue, &info.id).await.unwrap();
        tokio::time::sleep(10 * SECOND).await;
    };
    let waited = world.look_then(&info, 10 * SECOND, again).await;
    assert!(
        matches!(&waited, Waited::NotYet(now) if now.state == TaskState::Active),
        "{waited:?}"
    );

    // Its retention is over.
    let short = Task::new("ok", b"").unwrap().with_retention(SECOND);
    let info = world.client.enqueue(short).await.unwrap();
    world.until(&info, TaskState::Completed).await;
    let swept = async || {
        tokio::time::sleep(2 * SECOND).await;
        storage.delete_expired(&info.queue, 100).await.unwrap();
    };
    assert_eq!(world.look_then(&info, HOUR, swept).await, Waited::Gone);

    // The read fails, and comes through with a later look.
    let info = world.enqueue("ok", SECOND).await;
    world.faults.next(Op::TaskInfo, Fault::unavailable());
    let read = world.reads();
    let waited = world.client.wait(&info, HOUR).await.unwrap();
    assert!(matches!(waited, Waited::Completed(_)), "{waited:?}");
    assert_eq!(world.reads() - read, 2);
    world.system.shutdown_at_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_leaves_nothing_behind() {
    let world = World::new().await;
    let info = world.enqueue("ok", 10 * SECOND).await;
    for wait in [0, 1, 10, 100, 1000] {
        let wait = Duration::from_millis(wait);
        let dropped = tokio::time::timeout(wait, world.client.wait(&info, HOUR)).await;
        assert!(dropped.is_err(), "{dropped:?}");
    }
    let waits = (0..100).map(|_| world.client.wait(&info, HOUR));
    for waited in futures::future::join_all(waits).await {
        assert!(matches!(waited, Ok(Waited::Completed(_))), "{waited:?}");
    }
    world.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_is_away_for_a_while_is_waited_for_and_no_longer() {
    let world = World::new().await;
    let info = world.enqueue("ok", SECOND).await;
    world.faults.always(Op::TaskState, Fault::unavailable());
    world.faults.always(Op::TaskInfo, Fault::unavailable());
    let began = Instant::now();
    let error = world.client.wait(&info, 20 * SECOND).await.unwrap_err();
    assert!(
        matches!(error, Error::Broker(BrokerError::Unavailable { .. })),
        "{error:?}"
    );
    assert!((20..22).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());

    let back = async {
        tokio::time::sleep(5 * SECOND).await;
        world.faults.clear();
    };
    let (waited, ()) = tokio::join!(world.client.wait(&info, 20 * SECOND), back);
    assert!(matches!(waited, Ok(Waited::Completed(_))), "{waited:?}");

    // One that never answers holds nobody for longer than was said, and a second.
    world.faults.always(Op::TaskState, Fault::Hang);
    let began = Instant::now();
    let error = world.client.wait(&info, 3 * SECOND).await.unwrap_err();
    assert!(
        matches!(error, Error::Broker(BrokerError::Unavailable { .. })),
        "{error:?}"
    );
    assert!((3..=4).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    world.faults.clear();
    world.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_its_system() {
    let world = World::new().await;
    let later = Task::new("ok", b"").unwrap().with_process_in(HOUR);
    let info = world.client.enqueue(later).await.unwrap();
    let end = async {
        tokio::time::sleep(5 * SECOND).await;
        world.system.shutdown().await;
    };
    let began = Instant::now();
    let (waited, ()) = tokio::join!(world.client.wait(&info, HOUR), end);
    assert!(matches!(waited, Err(Error::Broker(BrokerError::Closed))), "{waited:?}");
    assert!(began.elapsed() < 10 * SECOND, "{:?}", began.elapsed());
}
