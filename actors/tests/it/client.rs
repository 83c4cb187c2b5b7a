//! The client actor: what waits for what.

use std::time::Duration;

use asynq_actors::{AsynqSystem, EnqueueMsg};
use asynq_core::{
    BrokerError, ClientConfig, Connector as _, EnqueueError, Error, QueueName, Task, TaskError, TaskOptions, TaskState,
    inspect::{ListFilter, PageRequest},
};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use tokio::time::Instant;

use crate::env;

const SOON: Duration = Duration::from_millis(100);

fn task(queue: &str, id: &str) -> Task {
    Task::new("t", b"").unwrap().with_queue(queue).with_task_id(id)
}

struct Bench {
    store: MemoryStore,
    faults: Faults,
    system: AsynqSystem,
}

impl Bench {
    /// Nothing gets into the queue `sick`.
    async fn new(config: ClientConfig) -> Self {
        let (store, faults) = (MemoryStore::new(), Faults::new());
        faults.refuse("sick", || BrokerError::Unavailable { source: None });
        let connector = FaultyConnector::new(store.clone(), faults.clone());
        let builder = AsynqSystem::builder(connector).env(env()).client_config(config);
        let system = builder.spawn().await.unwrap();
        Self { store, faults, system }
    }

    async fn pending(&self, queue: &str) -> Vec<String> {
        let storage = self.store.connect(env()).await.unwrap();
        let (queue, filter) = (QueueName::new(queue).unwrap(), ListFilter::State(TaskState::Pending));
        let page = storage.list_tasks(&queue, &filter, PageRequest::new(1, 1000)).await;
        page.unwrap().tasks.iter().map(|info| info.id.to_string()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_fails_keeps_no_other_waiting_and_its_own_order() {
    const SICK: usize = 500;
    let bench = Bench::new(ClientConfig::new()).await;
    let client = bench.system.client();
    let names: Vec<_> = (0..SICK + 3).map(|number| format!("{number:03}")).collect();
    // One after the other to the actor.
    let actor = bench.system.enqueue_ref().unwrap();
    let answers: Vec<_> = names[..SICK]
        .iter()
        .map(|name| {
            let (reply, answer) = ractor::concurrency::oneshot();
            let message = EnqueueMsg::call(task("sick", name), reply.into());
            actor.send_message(message).unwrap();
            answer
        })
        .collect();
    let sick = async {
        for answer in answers {
            answer.await.unwrap().unwrap();
        }
    };
    let well = async {
        // Every first attempt has failed, and some are tried again.
        bench.faults.called(Op::Enqueue, 8).await;
        for name in &names {
            let began = Instant::now();
            client.enqueue(task("well", name)).await.unwrap();
            assert!(began.elapsed() < SOON, "{name}");
        }
        bench.faults.clear();
        // These would get in at once, and go behind the others.
        for name in &names[SICK..] {
            client.enqueue(task("sick", name)).await.unwrap();
        }
    };
    tokio::join!(sick, well);
    assert_eq!(bench.pending("sick").await, names);
    assert_eq!(bench.pending("well").await, names);
    // The queue is well again.
    let began = Instant::now();
    client.enqueue(task("sick", "last")).await.unwrap();
    assert!(began.elapsed() < SOON);
    bench.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_tried_again_counts_among_what_waits_until_its_time_is_over() {
    let bench = Bench::new(ClientConfig::new().max_waiting(3)).await;
    let client = bench.system.client();
    let sick = async {
        let began = Instant::now();
        for answer in client.enqueue_many(["a", "b", "c"].map(|id| task("sick", id))).await {
            let error = answer.unwrap_err();
            let expected = matches!(error, Error::Broker(BrokerError::Unavailable { .. }));
            assert!(expected, "{error}");
        }
        assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
    };
    let well = async {
        bench.faults.called(Op::Enqueue, 8).await;
        let error = client.try_enqueue(task("well", "a")).await.unwrap_err();
        assert!(matches!(error, Error::Enqueue(EnqueueError::Overloaded)), "{error}");
    };
    tokio::join!(sick, well);
    client.try_enqueue(task("well", "a")).await.unwrap();
    bench.system.shutdown().await;
}

/// Retries are given their time when the system is stopped.
#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_tried_again() {
    let bench = Bench::new(ClientConfig::new()).await;
    let client = bench.system.client();
    let names = ["a", "b", "c"];
    let sick = client.enqueue_many(names.map(|id| task("sick", id)));
    let stop = async {
        bench.faults.called(Op::Enqueue, 5).await;
        bench.system.stop();
        let tried = bench.faults.calls(Op::Enqueue);
        bench.faults.called(Op::Enqueue, tried + 3).await;
        bench.faults.clear();
    };
    let (answers, ()) = tokio::join!(sick, stop);
    for answer in answers {
        answer.unwrap();
    }
    bench.system.wait().await;
    assert_eq!(bench.pending("sick").await, names);
}

/// A large item needs a while on a slow way; small ones do not wait for it.
#[tokio::test(start_paused = true)]
async fn a_large_task_under_way_keeps_no_small_one_waiting() {
    let bench = Bench::new(ClientConfig::new()).await;
    let client = bench.system.client();
    bench.faults.next(Op::Enqueue, Fault::Hang);
    let large = Task::new("t", &vec![b'x'; 1 << 20]).unwrap();
    let mut large = Box::pin(client.enqueue(large.with_queue("well")));
    assert!(futures::poll!(&mut large).is_pending());
    bench.faults.called(Op::Enqueue, 1).await;
    assert_eq!(bench.faults.hanging(Op::Enqueue), 1);
    for number in 0..10 {
        tokio::select! {
            biased;
            answer = client.enqueue(task("well", &number.to_string())) => drop(answer.unwrap()),
            _ = &mut large => panic!("the large one came first"),
        }
    }
    bench.faults.release();
    large.await.unwrap();
    bench.system.shutdown().await;
}

/// Each door that takes a task refuses one that is too large, and says how large it may be.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_is_refused_at_every_door() {
    let bench = Bench::new(ClientConfig::new().max_message_bytes(2000)).await;
    let client = bench.system.client();
    let large = || Task::new("t", &vec![b'x'; 2000]).unwrap();
    let check = |answer: Result<asynq_core::TaskInfo, Error>| {
        let error = answer.unwrap_err();
        let text = error.to_string();
        let Error::Invalid(TaskError::TooLarge { field, limit, got }) = error else {
            panic!("{text}")
        };
        assert_eq!((field, limit), ("message size", 2000));
        assert!(got > 2000);
        assert!(text.contains("message size") && text.contains("2000"), "{text}");
    };
    check(client.enqueue(large()).await);
    check(client.try_enqueue(large()).await);
    check(client.enqueue_many([large()]).await.remove(0));
    let header = TaskOptions::new().header("k", "x".repeat(2000));
    check(client.enqueue_with(task("well", "a"), &header).await);
    let (reply, answer) = ractor::concurrency::oneshot();
    let message = EnqueueMsg::call(large(), reply.into());
    bench.system.enqueue_ref().unwrap().send_message(message).unwrap();
    check(answer.await.unwrap().map_err(Error::from));
    client.enqueue(task("well", "a")).await.unwrap();
    bench.system.shutdown().await;
}
