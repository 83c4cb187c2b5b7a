//! The actors of `maintenance`, each at its own work.

use asynq_testing::request::batch_of;
use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::AsynqSystem;
use asynq_core::{
    BrokerError, Connector, HealthCheck, QueueName, ServerConfig, Storage, Task, TaskId, TaskState, raw::RawValue,
};
use asynq_memory::MemoryStore;
use asynq_testing::{
    faulty::{Fault, Faults, FaultyConnector, Op},
    request::request,
};
use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

use crate::env;

/// A system whose handler tells that it began, and then does as it is told.
async fn system(
    connector: impl Connector,
    config: ServerConfig,
    ends: bool,
) -> (AsynqSystem, mpsc::UnboundedReceiver<TaskId>) {
    let (began, runs) = mpsc::unbounded_channel();
    let system = AsynqSystem::builder(connector)
        .env(env())
        .config(config)
        .handler(move |task: Task| {
            let _ = began.send(task.context().unwrap().id().clone());
            async move { if ends { Ok(()) } else { pending().await } }
        })
        .spawn()
        .await
        .unwrap();
    (system, runs)
}

fn note(system: &AsynqSystem, path: &[&str]) -> Option<String> {
    system.tree().unwrap().find(path).unwrap().note.clone()
}

async fn storage(store: &MemoryStore) -> Arc<dyn Storage> {
    store.connect(env()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_delayed_task_starts_within_its_own_second_whoever_enqueued_it() {
    let store = MemoryStore::new();
    let faults = Faults::new();
    // A poll would come too late to be what starts it.
    let config = ServerConfig::new().delayed_task_check_interval(Duration::from_secs(3600));
    let (server, mut runs) = system(FaultyConnector::new(store.clone(), faults.clone()), config, true).await;
    let producer = AsynqSystem::builder(store).env(env()).spawn().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        note(&server, &["maintenance", "forwarder"]).as_deref(),
        Some("watching")
    );
    for delay in [3, 1, 2] {
        let began = Instant::now();
        let task = Task::new("t", b"").unwrap().with_process_in(Duration::from_secs(delay));
        producer.client().enqueue(task).await.unwrap();
        runs.recv().await.unwrap();
        let took = began.elapsed();
        let due = Duration::from_secs(delay);
        // The wire has whole seconds: it may be due up to one second early.
        assert!(
            took + Duration::from_secs(1) >= due && took < due + Duration::from_millis(350),
            "{took:?}"
        );
    }
    // One that is due sooner moves up the wait for one that is due later.
    for delay in [50, 2] {
        let task = Task::new("t", b"").unwrap().with_process_in(Duration::from_secs(delay));
        producer.client().enqueue(task).await.unwrap();
    }
    let began = Instant::now();
    runs.recv().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3));
    // Idle, with a watch: a look now and then.
    runs.recv().await.unwrap();
    let before = faults.calls(Op::Forward);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        faults.calls(Op::Forward) - before <= 12,
        "{}",
        faults.calls(Op::Forward) - before
    );
    server.shutdown().await;
    producer.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_watch_delayed_tasks_are_polled_for() {
    let store = MemoryStore::new();
    let faults = Faults::new();
    faults.always(Op::Watch, Fault::Fail(|| BrokerError::Unsupported { what: "watches" }));
    let config = ServerConfig::new().delayed_task_check_interval(Duration::from_secs(5));
    let (server, mut runs) = system(FaultyConnector::new(store, faults), config, true).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(note(&server, &["maintenance", "forwarder"]).as_deref(), Some("polling"));
    let task = Task::new("t", b"").unwrap().with_process_in(Duration::from_secs(1));
    server.client().enqueue(task).await.unwrap();
    let began = Instant::now();
    runs.recv().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_request_from_elsewhere_ends_the_run() {
    let store = MemoryStore::new();
    let (server, mut runs) = system(store.clone(), ServerConfig::new().concurrency(4), false).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        note(&server, &["maintenance", "subscriber"]).as_deref(),
        Some("listening")
    );
    for id in ["a", "b"] {
        let task = Task::new("t", b"").unwrap().with_task_id(id);
        server.client().enqueue(task).await.unwrap();
        runs.recv().await.unwrap();
    }
    let storage = storage(&store).await;
    storage.publish_cancellation(&TaskId::new("a").unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.running(), 1, "the other runs on");
    let a = storage
        .task_info(&Default::default(), &TaskId::new("a").unwrap())
        .await
        .unwrap();
    assert_eq!((a.state, a.last_error.as_str()), (TaskState::Retry, "context canceled"));
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn cancel_requests_are_heard_again_after_the_subscription_was_lost() {
    let store = MemoryStore::new();
    let faults = Faults::new();
    faults.next(Op::SubscribeCancellations, Fault::unavailable());
    faults.next(Op::SubscribeCancellations, Fault::unavailable());
    let connector = FaultyConnector::new(store.clone(), faults.clone());
    let (server, mut runs) = system(connector, ServerConfig::new(), false).await;
    faults.called(Op::SubscribeCancellations, 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        note(&server, &["maintenance", "subscriber"]).as_deref(),
        Some("listening")
    );
    // The storage is replaced, and with it the subscription.
    server.storage().await.unwrap().close().await;
    faults.called(Op::SubscribeCancellations, 4).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let task = Task::new("t", b"").unwrap().with_task_id("a");
    server.client().enqueue(task).await.unwrap();
    runs.recv().await.unwrap();
    storage(&store)
        .await
        .publish_cancellation(&TaskId::new("a").unwrap())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.running(), 0);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_health_check_tells_how_the_storage_is() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let faults = Faults::new();
    let connector = FaultyConnector::new(MemoryStore::new(), faults.clone());
    let seen = Arc::clone(&told);
    let check = HealthCheck::new(move |error| {
        let calls = {
            let mut told = seen.lock().unwrap();
            told.push(error.map(ToString::to_string));
            told.len()
        };
        assert_ne!(calls, 2, "a panic in it is nobody else's affair");
    });
    let config = ServerConfig::new().health_check(check);
    let (server, _runs) = system(connector, config, true).await;
    // 15, 30 and 45 s after the start.
    tokio::time::sleep(Duration::from_secs(50)).await;
    faults.always(Op::Ping, Fault::unavailable());
    tokio::time::sleep(Duration::from_secs(16)).await;
    faults.always(Op::Ping, Fault::Hang);
    tokio::time::sleep(Duration::from_secs(16)).await;
    faults.clear();
    faults.release();
    tokio::time::sleep(Duration::from_secs(16)).await;
    let healthy: Vec<_> = told.lock().unwrap().iter().map(Option::is_none).collect();
    assert_eq!(healthy, [true, true, true, false, false, true]);
    let tree = server.tree().unwrap();
    assert_eq!(tree.find(&["maintenance", "healthchecker"]).unwrap().restarts, 0);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_health_check_there_is_no_health_checker() {
    let (server, _runs) = system(MemoryStore::new(), ServerConfig::new(), true).await;
    assert!(server.tree().unwrap().find(&["maintenance", "healthchecker"]).is_none());
    server.shutdown().await;
}

/// Fifteen pages of leases of which nothing can be made, at the lowest scores, cost a task behind them no
/// pass of the recoverer: it is recovered in the first one.
#[tokio::test(start_paused = true)]
async fn damaged_leases_keep_no_task_from_being_recovered() {
    let store = MemoryStore::new();
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let hash = |msg: Bytes| {
        let fields = [("msg".to_owned(), msg), ("state".to_owned(), bytes("active"))];
        RawValue::Hash(fields.into())
    };
    let names: Vec<String> = (0..1500).map(|n| format!("damaged{n:04}")).collect();
    let key = |suffix: &str| format!("asynq:{{default}}:{suffix}");
    let (mut active, mut leases) = (vec![bytes("good")], Vec::new());
    for name in &names {
        store
            .plant(&key(&format!("t:{name}")), Some(hash(bytes("\u{1}"))))
            .unwrap();
        active.push(bytes(name));
        leases.push((bytes(name), 1000));
    }
    leases.push((bytes("good"), 1001));
    let good = request("default", "good").encoded();
    store.plant(&key("t:good"), Some(hash(good))).unwrap();
    store.plant(&key("active"), Some(RawValue::List(active))).unwrap();
    store.plant(&key("lease"), Some(RawValue::ZSet(leases))).unwrap();

    let interval = Duration::from_secs(600);
    let config = ServerConfig::new().recoverer_interval(interval);
    let (system, _runs) = system(store.clone(), config, true).await;
    let storage = storage(&store).await;
    storage
        .enqueue(&batch_of([request("default", "any").build()]))
        .await
        .remove(0)
        .unwrap();
    let began = Instant::now();
    let queue = QueueName::new("default").unwrap();
    while storage.queue_info(&queue).await.unwrap().active > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(began.elapsed() < interval / 10, "it waits for another pass");
    }
    let aside = store.raw_state().remove(&key("x:quarantine"));
    assert!(matches!(aside, Some(RawValue::ZSet(aside)) if aside.len() == 1500));
    system.shutdown().await;
}
