//! A storage that fails, loses answers and comes back, under load: the books must balance.

use std::time::Duration;

use asynq_actors::AsynqSystem;
use asynq_core::{EnqueueError, Error, Task, TaskState, broker::Connector, error::BrokerError};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op, Plan};

use crate::{env, load::Load};

const HOT: [Op; 4] = [Op::Enqueue, Op::Exchange, Op::ExtendLeases, Op::Adopt];

async fn survives(plan: Plan) {
    let store = MemoryStore::new();
    let faults = Faults::new();
    faults.plan(plan);
    let load = Load::start(store.clone(), FaultyConnector::new(store, faults.clone()), env()).await;
    load.balance().await;
    assert!(
        faults.calls(Op::Exchange) > 20,
        "the load was too small to say anything"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail() {
    survives(Plan::seeded(1).with(200, Fault::unavailable())).await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost() {
    survives(Plan::seeded(2).only(&HOT).with(200, Fault::LoseReply)).await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_lost() {
    survives(Plan::seeded(3).only(&HOT).with(200, Fault::LoseRequest)).await;
}

#[tokio::test(start_paused = true)]
async fn all_at_once() {
    let plan = Plan::seeded(4)
        .only(&HOT)
        .with(80, Fault::LoseReply)
        .with(80, Fault::LoseRequest)
        .with(80, Fault::unavailable());
    survives(plan).await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_is_away_for_ten_seconds() {
    let store = MemoryStore::new();
    let faults = Faults::new();
    let load = Load::start(store.clone(), FaultyConnector::new(store, faults.clone()), env()).await;
    tokio::time::sleep(Duration::from_millis(130)).await;
    faults.all(Fault::unavailable());
    // Less than the time an enqueue is tried, so nothing is refused.
    tokio::time::sleep(Duration::from_secs(8)).await;
    faults.clear();
    load.balance().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_while_answers_are_lost() {
    let store = MemoryStore::new();
    let faults = Faults::new();
    faults.plan(Plan::seeded(5).only(&HOT).with(150, Fault::LoseReply));
    let load = Load::start(store.clone(), FaultyConnector::new(store, faults), env()).await;
    for path in [
        "work/processor",
        "client",
        "broker",
        "work",
        "work/syncer",
        "work/heartbeater",
        "work/processor",
    ] {
        tokio::time::sleep(Duration::from_millis(90)).await;
        assert!(load.system.kill_actor(path));
    }
    load.balance().await;
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_without_answer_is_unknown_and_says_so_in_time() {
    let store = MemoryStore::new();
    let faults = Faults::new();
    faults.always(Op::Enqueue, Fault::LoseReply);
    let connector = FaultyConnector::new(store.clone(), faults.clone());
    let system = AsynqSystem::builder(connector).env(env()).spawn().await.unwrap();
    let started = tokio::time::Instant::now();
    let error = system
        .client()
        .enqueue(Task::new("t", b"").unwrap().with_task_id("a"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Enqueue(EnqueueError::Unknown { id }) if *id == "a"),
        "{error}"
    );
    assert!(started.elapsed() <= Duration::from_secs(11), "{:?}", started.elapsed());
    // It was executed once, and tried again under the same token without harm.
    assert!(faults.calls(Op::Enqueue) > 3);
    let storage = store.connect(env()).await.unwrap();
    let page = storage
        .list_tasks(
            &asynq_core::QueueName::default(),
            &asynq_core::inspect::ListFilter::State(TaskState::Pending),
            Default::default(),
        )
        .await
        .unwrap();
    assert_eq!(page.tasks.len(), 1);
    faults.clear();
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn memory_that_is_full_is_told_at_once() {
    let store = MemoryStore::new();
    let faults = Faults::new();
    faults.always(Op::Enqueue, Fault::Fail(|| BrokerError::OutOfMemory));
    let system = AsynqSystem::builder(FaultyConnector::new(store, faults))
        .env(env())
        .spawn()
        .await
        .unwrap();
    let error = system.client().enqueue(Task::new("t", b"").unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Broker(BrokerError::OutOfMemory)), "{error}");
    system.shutdown().await;
}
