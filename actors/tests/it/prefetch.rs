//! Tasks that are taken ahead of the slots start in order, or go back in order and in time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{AsynqSystem, Crash};
use asynq_core::{Connector, QueueName, ServerConfig, Storage, Task, TaskId, TaskState};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use tokio::{sync::Semaphore, time::Instant};

use crate::env;

const SECOND: Duration = Duration::from_secs(1);

/// The starts, as server and task, in their order.
type Starts = Arc<Mutex<Vec<String>>>;

mod sharing;

/// A server with one slot, whose runs each wait for a permit of the gate.
struct Server {
    system: AsynqSystem,
    gate: Arc<Semaphore>,
}

async fn server(connector: impl Connector, name: &'static str, prefetch: usize, starts: &Starts) -> Server {
    server_with(connector, name, ServerConfig::new().prefetch(prefetch), starts).await
}

async fn server_with(connector: impl Connector, name: &'static str, config: ServerConfig, starts: &Starts) -> Server {
    let gate = Arc::new(Semaphore::new(0));
    let (starts, opens) = (Arc::clone(starts), Arc::clone(&gate));
    let system = AsynqSystem::builder(connector)
        .env(env())
        .config(config.concurrency(1))
        .handler(move |task: Task| {
            let (starts, opens) = (Arc::clone(&starts), Arc::clone(&opens));
            async move {
                let id = task.context().unwrap().id().to_string();
                starts.lock().unwrap().push(format!("{name} {id}"));
                opens.acquire().await.unwrap().forget();
                Ok(())
            }
        })
        .spawn()
        .await
        .unwrap();
    Server { system, gate }
}

/// A store with tasks `0`, `1`, … which may not fail even once, and a look at it.
async fn store(tasks: usize) -> (MemoryStore, Arc<dyn Storage>) {
    let store = MemoryStore::new();
    let storage: Arc<dyn Storage> = store.connect(env()).await.unwrap();
    let system = AsynqSystem::builder(store.clone()).env(env()).spawn().await.unwrap();
    for number in 0..tasks {
        let task = Task::new("t", b"").unwrap().with_task_id(number.to_string());
        system.client().enqueue(task.with_max_retry(0)).await.unwrap();
    }
    system.shutdown().await;
    (store, storage)
}

async fn counts(storage: &Arc<dyn Storage>) -> (u64, u64) {
    let info = storage.queue_info(&QueueName::default()).await.unwrap();
    (info.active, info.pending)
}

/// Waits until so many tasks are active and so many pending; how long it took.
async fn until(storage: &Arc<dyn Storage>, wanted: (u64, u64)) -> Duration {
    let began = Instant::now();
    while counts(storage).await != wanted {
        assert!(
            began.elapsed() < 200 * SECOND,
            "{:?} for {wanted:?}",
            counts(storage).await
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

fn seen(starts: &Starts) -> Vec<String> {
    starts.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn tasks_taken_ahead_are_active_without_a_worker_and_start_in_order() {
    let (store, storage) = store(5).await;
    let starts = Starts::default();
    let a = server(store, "a", 2, &starts).await;
    until(&storage, (3, 2)).await;
    // One that shows no more workers than there are runs.
    tokio::time::sleep(SECOND).await;
    a.gate.add_permits(1);
    until(&storage, (3, 1)).await;
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(storage.workers().await.unwrap().len(), 1);
    a.gate.add_permits(10);
    until(&storage, (0, 0)).await;
    assert_eq!(seen(&starts), ["a 0", "a 1", "a 2", "a 3", "a 4"]);
    a.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_ahead_unless_it_is_asked_for() {
    let (store, storage) = store(5).await;
    let a = server(store, "a", 0, &Starts::default()).await;
    until(&storage, (1, 4)).await;
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(counts(&storage).await, (1, 4));
    a.system.shutdown_at_once().await;
}

/// Another server gets them, in their order, and no retry is used.
#[tokio::test(start_paused = true)]
async fn tasks_taken_ahead_go_to_others_after_two_seconds() {
    let (store, storage) = store(3).await;
    let starts = Starts::default();
    let a = server(store.clone(), "a", 2, &starts).await;
    until(&storage, (3, 0)).await;
    let b = server(store, "b", 0, &starts).await;
    b.gate.add_permits(10);
    let waited = until(&storage, (1, 0)).await;
    assert!(waited <= 3 * SECOND, "{waited:?}");
    assert_eq!(seen(&starts), ["a 0", "b 1", "b 2"]);
    a.gate.add_permits(1);
    until(&storage, (0, 0)).await;
    let info = storage.queue_info(&QueueName::default()).await.unwrap();
    assert_eq!((info.archived, info.retry), (0, 0));
    a.system.shutdown().await;
    b.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_stays_busy_has_fewer_and_fewer_tasks_taken_ahead() {
    let (store, storage) = store(50).await;
    let faults = Faults::new();
    let a = server(FaultyConnector::new(store, faults.clone()), "a", 20, &Starts::default()).await;
    until(&storage, (21, 29)).await;
    tokio::time::sleep(120 * SECOND).await;
    let calls = faults.calls(Op::Exchange);
    assert!(calls < 30, "{calls}");
    a.system.shutdown_at_once().await;
}

#[tokio::test(start_paused = true)]
async fn tasks_taken_ahead_go_back_in_order_at_a_shutdown() {
    let (store, storage) = store(4).await;
    let starts = Starts::default();
    let a = server(store.clone(), "a", 2, &starts).await;
    until(&storage, (3, 1)).await;
    a.system.shutdown_at_once().await;
    assert_eq!(counts(&storage).await, (0, 4));
    let b = server(store, "b", 0, &starts).await;
    b.gate.add_permits(10);
    until(&storage, (0, 0)).await;
    assert_eq!(seen(&starts), ["a 0", "b 0", "b 1", "b 2", "b 3"]);
    b.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn tasks_taken_ahead_go_back_at_once_when_no_more_are_to_be_taken() {
    let (store, storage) = store(3).await;
    let starts = Starts::default();
    let a = server(store, "a", 2, &starts).await;
    until(&storage, (3, 0)).await;
    a.system.stop_fetching();
    let waited = until(&storage, (1, 2)).await;
    assert!(waited < SECOND, "{waited:?}");
    a.system.resume_fetching();
    a.gate.add_permits(10);
    until(&storage, (0, 0)).await;
    assert_eq!(seen(&starts), ["a 0", "a 1", "a 2"]);
    a.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_taken_ahead_that_is_cancelled_never_starts() {
    let (store, storage) = store(3).await;
    let starts = Starts::default();
    let a = server(store, "a", 2, &starts).await;
    until(&storage, (3, 0)).await;
    let id = TaskId::new("1").unwrap();
    assert_eq!(a.system.cancel_task(&id), 1);
    tokio::time::sleep(4 * SECOND).await;
    a.gate.add_permits(10);
    until(&storage, (0, 0)).await;
    assert_eq!(seen(&starts), ["a 0", "a 2"]);
    let state = storage.task_info(&QueueName::default(), &id).await.unwrap().state;
    assert_eq!(state, TaskState::Archived, "it had no retries");
    a.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_the_processor_costs_no_task_taken_ahead() {
    for crash in [Crash::Kill, Crash::Panic, Crash::Error] {
        let (store, storage) = store(6).await;
        let starts = Starts::default();
        let a = server(store, "a", 2, &starts).await;
        until(&storage, (3, 3)).await;
        assert!(a.system.crash_actor("work/processor", crash));
        a.gate.add_permits(10);
        until(&storage, (0, 0)).await;
        assert_eq!(seen(&starts), ["a 0", "a 1", "a 2", "a 3", "a 4", "a 5"], "{crash:?}");
        a.system.shutdown().await;
    }
}

/// They may not fail even once, and others see that they were never started.
#[tokio::test(start_paused = true)]
async fn tasks_taken_ahead_by_a_server_that_died_are_run_once_by_another() {
    let (store, storage) = store(3).await;
    let starts = Starts::default();
    let faults = Faults::new();
    let a = server(FaultyConnector::new(store.clone(), faults.clone()), "a", 2, &starts).await;
    until(&storage, (3, 0)).await;
    faults.all(Fault::unavailable());
    let b = server(store, "b", 0, &starts).await;
    b.gate.add_permits(10);
    until(&storage, (0, 0)).await;
    let mut ran = seen(&starts);
    ran.retain(|start| start != "a 0" && start != "b 0");
    ran.sort();
    assert_eq!(ran, ["b 1", "b 2"]);
    a.system.shutdown_at_once().await;
    b.system.shutdown().await;
}
