//! Tasks that are taken ahead leave queues and other servers as they are.

use super::*;

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

async fn enqueue(system: &AsynqSystem, queue: &str, tasks: usize) {
    for number in 0..tasks {
        let task = Task::new("t", b"").unwrap().with_queue(queue);
        let task = task.with_task_id(format!("{queue}{number}")).with_max_retry(0);
        system.client().enqueue(task).await.unwrap();
    }
}

async fn until_started(starts: &Starts, count: usize) {
    let deadline = Instant::now() + 200 * SECOND;
    while seen(starts).len() < count {
        assert!(Instant::now() < deadline, "{:?}", seen(starts));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Those that were taken before the pause start for 2 s, and not later.
#[tokio::test(start_paused = true)]
async fn a_queue_that_is_paused_has_its_tasks_started_for_two_seconds_at_most() {
    let (store, storage) = store(5).await;
    let starts = Starts::default();
    let a = server(store, "a", 3, &starts).await;
    until(&storage, (4, 1)).await;
    storage.pause(&QueueName::default()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    a.gate.add_permits(1);
    until_started(&starts, 2).await;
    until(&storage, (1, 3)).await;
    a.gate.add_permits(10);
    until(&storage, (0, 3)).await;
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(seen(&starts), ["a 0", "a 1"]);
    assert_eq!(counts(&storage).await, (0, 3));
    storage.unpause(&QueueName::default()).await.unwrap();
    until(&storage, (0, 0)).await;
    assert_eq!(seen(&starts), ["a 0", "a 1", "a 2", "a 3", "a 4"]);
    a.system.shutdown().await;
}

/// A task of a higher queue that comes later waits for those that were taken ahead, and for no others.
#[tokio::test(start_paused = true)]
async fn strict_priority_holds_for_what_is_not_taken_yet() {
    let store = MemoryStore::new();
    let starts = Starts::default();
    let config = ServerConfig::new()
        .queues([("high", 2), ("low", 1)])
        .strict_priority(true);
    let a = server_with(store, "a", config.prefetch(2), &starts).await;
    enqueue(&a.system, "low", 10).await;
    until_started(&starts, 1).await;
    tokio::time::sleep(SECOND).await;
    enqueue(&a.system, "high", 1).await;
    for started in 2..=11 {
        a.gate.add_permits(1);
        until_started(&starts, started).await;
        // Time for the place that came free, without which the order of what follows would be a race.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seen = seen(&starts);
    assert_eq!(seen[..5], ["a low0", "a low1", "a low2", "a high0", "a low3"]);
    a.gate.add_permits(1);
    a.system.shutdown().await;
}

/// Places and slots are not for a queue that gives no answer.
#[tokio::test(start_paused = true)]
async fn a_queue_without_answers_holds_no_place() {
    let (store, faults) = (MemoryStore::new(), Faults::new());
    let storage: Arc<dyn Storage> = store.connect(env()).await.unwrap();
    let starts = Starts::default();
    let config = ServerConfig::new().queues([("sick", 100), ("well", 1)]);
    let connector = FaultyConnector::new(store.clone(), faults.clone());
    let a = server_with(connector, "a", config.prefetch(4), &starts).await;
    faults.for_queue(&queue("sick")).always(Op::Exchange, Fault::Hang);
    for name in ["sick", "well"] {
        enqueue(&a.system, name, 6).await;
    }
    let began = Instant::now();
    let active = async || storage.queue_info(&queue("well")).await.unwrap().active;
    while active().await < 5 {
        assert!(began.elapsed() < 2 * SECOND, "{}", active().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    faults.for_queue(&queue("sick")).clear();
    faults.for_queue(&queue("sick")).release();
    a.gate.add_permits(20);
    until_started(&starts, 12).await;
    a.system.shutdown().await;
    let unique: std::collections::BTreeSet<_> = seen(&starts).into_iter().collect();
    assert_eq!(unique.len(), 12);
}

/// The server stands still with what it has taken ahead, another one runs it, and then the first one gives it back.
#[tokio::test(start_paused = true)]
async fn a_return_that_comes_after_a_recovery_changes_nothing() {
    let (store, storage) = store(3).await;
    let starts = Starts::default();
    let faults = Faults::new();
    let a = server(FaultyConnector::new(store.clone(), faults.clone()), "a", 2, &starts).await;
    until(&storage, (3, 0)).await;
    faults.always(Op::Exchange, Fault::Hang);
    faults.always(Op::ExtendLeases, Fault::unavailable());
    faults.always(Op::Expired, Fault::unavailable());
    let b = server(store.clone(), "b", 0, &starts).await;
    b.gate.add_permits(10);
    until_started(&starts, 3).await;
    until(&storage, (0, 0)).await;
    faults.clear();
    faults.release();
    a.gate.add_permits(10);
    tokio::time::sleep(60 * SECOND).await;
    let mut ran = seen(&starts);
    ran.retain(|start| !start.ends_with(" 0"));
    ran.sort();
    assert_eq!(ran, ["b 1", "b 2"]);
    assert_eq!(counts(&storage).await, (0, 0));
    a.system.shutdown().await;
    b.system.shutdown().await;
    let violations = asynq_testing::invariants::check(&store.raw_state());
    assert!(violations.is_empty(), "{violations:?}");
}
