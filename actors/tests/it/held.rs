//! Enqueues that are sent in the task of their caller: nothing hangs on how often the caller polls.

use std::{collections::HashSet, time::Duration};

use asynq_actors::{AsynqSystem, Client};
use asynq_core::{
    ClientConfig, Connector as _, EnqueueError, Error, QueueName, Task, TaskState,
    inspect::{ListFilter, PageRequest},
};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use futures::{FutureExt as _, poll};
use tokio::time::{Instant, timeout};

use crate::env;

const SECOND: Duration = Duration::from_secs(1);
/// Time after which a call that is not polled has been taken over.
const TAKEN_OVER: Duration = Duration::from_millis(300);

fn task(queue: &str, id: &str) -> Task {
    Task::new("t", b"").unwrap().with_queue(queue).with_task_id(id)
}

struct Bench {
    store: MemoryStore,
    faults: Faults,
    system: AsynqSystem,
    client: Client,
}

impl Bench {
    async fn new(config: ClientConfig) -> Self {
        let (store, faults) = (MemoryStore::new(), Faults::new());
        let connector = FaultyConnector::new(store.clone(), faults.clone());
        let builder = AsynqSystem::builder(connector).env(env()).client_config(config);
        let system = builder.spawn().await.unwrap();
        system.ping().await.unwrap();
        let client = system.client();
        client.enqueue(task("first", "first")).await.unwrap();
        Self {
            store,
            faults,
            system,
            client,
        }
    }

    async fn pending(&self, queue: &str) -> Vec<String> {
        let storage = self.store.connect(env()).await.unwrap();
        let (queue, filter) = (QueueName::new(queue).unwrap(), ListFilter::State(TaskState::Pending));
        match storage.list_tasks(&queue, &filter, PageRequest::new(1, 10_000)).await {
            Ok(page) => page.tasks.iter().map(|info| info.id.to_string()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Every place is free, and the queue takes a task at once.
    async fn is_idle_again(&self, queue: &str) {
        let began = Instant::now();
        self.client.enqueue(task(queue, "again")).await.unwrap();
        assert!(began.elapsed() < SECOND / 10, "{:?}", began.elapsed());
        let backlog = self.system.tree().unwrap().find(&["client"]).unwrap().backlog;
        assert_eq!(backlog, Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_finds_its_queue_idle_needs_no_other_task() {
    let bench = Bench::new(ClientConfig::new()).await;
    for id in ["a", "b"] {
        let answer = bench.client.enqueue(task("q", id)).now_or_never();
        assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
    }
    assert_eq!(bench.pending("q").await, ["a", "b"]);
    bench.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_is_alone_sends_again_without_another_task() {
    let bench = Bench::new(ClientConfig::new()).await;
    // One that comes with others is sent by a task of the actor's.
    for answer in bench.client.enqueue_many([task("q", "a")]).await {
        answer.unwrap();
    }
    let sent = bench.client.enqueue(task("q", "b")).now_or_never();
    sent.expect("it waits for another task").unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_goes_on_when_its_caller_is_dropped() {
    for fault in [Fault::Hang, Fault::HoldReply, Fault::unavailable(), Fault::LoseReply] {
        let bench = Bench::new(ClientConfig::new()).await;
        bench.faults.next(Op::Enqueue, fault);
        let mut enqueue = Box::pin(bench.client.enqueue(task("q", "a")));
        assert!(poll!(&mut enqueue).is_pending(), "{fault:?}");
        drop(enqueue);
        bench.faults.release();
        tokio::time::sleep(TAKEN_OVER).await;
        assert_eq!(bench.pending("q").await, ["a"], "{fault:?}");
        bench.is_idle_again("q").await;
        bench.system.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_nobody_polls_keeps_no_other_waiting() {
    let bench = Bench::new(ClientConfig::new()).await;
    bench.faults.next(Op::Enqueue, Fault::Hang);
    let mut lazy = Box::pin(bench.client.enqueue(task("q", "lazy")));
    assert!(poll!(&mut lazy).is_pending());
    bench.faults.release();
    let began = Instant::now();
    bench.client.enqueue(task("q", "b")).await.unwrap();
    assert!(began.elapsed() < SECOND / 100, "{:?}", began.elapsed());
    assert_eq!(bench.pending("q").await, ["lazy", "b"]);
    lazy.await.unwrap();
    bench.is_idle_again("q").await;
    bench.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_nobody_polls_is_carried_on() {
    let bench = Bench::new(ClientConfig::new()).await;
    bench.faults.next(Op::Enqueue, Fault::Hang);
    let mut lazy = Box::pin(bench.client.enqueue(task("q", "lazy")));
    assert!(poll!(&mut lazy).is_pending());
    bench.faults.release();
    tokio::time::sleep(TAKEN_OVER).await;
    assert_eq!(bench.pending("q").await, ["lazy"]);
    // The answer has waited for its caller.
    assert!(matches!(lazy.now_or_never(), Some(Ok(_))));
    bench.is_idle_again("q").await;
    bench.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_the_client_actor_loses_and_doubles_no_enqueue_under_way() {
    for fault in [Fault::Hang, Fault::HoldReply] {
        for polled in [true, false] {
            let bench = Bench::new(ClientConfig::new()).await;
            bench.faults.next(Op::Enqueue, fault);
            let mut enqueue = Box::pin(bench.client.enqueue(task("q", "a")));
            assert!(poll!(&mut enqueue).is_pending());
            let mut behind = Box::pin(bench.client.enqueue(task("q", "b")));
            if polled {
                assert!(poll!(&mut behind).is_pending());
            }
            let restarts = || bench.system.tree().unwrap().find(&["client"]).unwrap().restarts;
            assert!(bench.system.kill_actor("client"));
            while restarts() == 0 {
                tokio::time::sleep(SECOND / 100).await;
            }
            let (first, second) = timeout(SECOND, async { tokio::join!(enqueue, behind) }).await.unwrap();
            first.unwrap();
            second.unwrap();
            bench.faults.release();
            tokio::time::sleep(TAKEN_OVER).await;
            let stored = bench.pending("q").await;
            assert_eq!(stored, ["a", "b"], "{fault:?} {polled}");
            bench.is_idle_again("q").await;
            bench.system.shutdown().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_an_enqueue_that_nobody_polls() {
    for (fault, dropped) in [(Fault::Hang, false), (Fault::HoldReply, false), (Fault::Hang, true)] {
        let bench = Bench::new(ClientConfig::new()).await;
        bench.faults.next(Op::Enqueue, fault);
        let mut lazy = Some(Box::pin(bench.client.enqueue(task("q", "lazy"))));
        assert!(poll!(lazy.as_mut().unwrap()).is_pending());
        if dropped {
            lazy = None;
        }
        bench.system.stop();
        let mut end = Box::pin(bench.system.wait());
        assert!(timeout(SECOND, &mut end).await.is_err(), "it did not wait: {fault:?}");
        bench.faults.release();
        timeout(SECOND, end).await.expect("it still waits");
        assert_eq!(bench.pending("q").await, ["lazy"]);
        if let Some(lazy) = lazy {
            assert!(matches!(lazy.now_or_never(), Some(Ok(_))));
        }
        let late = bench.client.enqueue(task("q", "late")).await.unwrap_err();
        assert!(matches!(late, Error::Enqueue(EnqueueError::Closed)), "{late}");
    }
}

/// A storage that stays silent holds the end up for its time at most; nobody knows what became of the task.
#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_a_silent_enqueue_up_in_the_end() {
    let config = ClientConfig::new().enqueue_timeout(Duration::from_secs(3600));
    let bench = Bench::new(config).await;
    bench.faults.next(Op::Enqueue, Fault::Hang);
    let mut lazy = Box::pin(bench.client.enqueue(task("q", "lazy")));
    assert!(poll!(&mut lazy).is_pending());
    timeout(60 * SECOND, bench.system.shutdown())
        .await
        .expect("it waits for ever");
    let error = timeout(SECOND, lazy).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Enqueue(EnqueueError::Unknown { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_begins_during_an_enqueue_keeps_the_order() {
    let bench = Bench::new(ClientConfig::new()).await;
    for fault in [Fault::LoseRequest, Fault::unavailable(), Fault::LoseReply] {
        bench.faults.next(Op::Enqueue, fault);
    }
    let mut held = Box::pin(bench.client.enqueue(task("q", "0")));
    assert!(poll!(&mut held).is_pending());
    // The queue is being retried: what comes now waits behind.
    let names = ["1", "2", "3"];
    let mut more = Box::pin(bench.client.enqueue_many(names.map(|id| task("q", id))));
    assert!(poll!(&mut more).is_pending());
    drop(held);
    for answer in more.await {
        answer.unwrap();
    }
    assert_eq!(bench.pending("q").await, ["0", "1", "2", "3"]);
    bench.is_idle_again("q").await;
    bench.system.shutdown().await;
}

/// A silent queue keeps no more than its share, also where the first of its enqueues is not polled.
#[tokio::test(start_paused = true)]
async fn a_silent_enqueue_tells_that_its_queue_is_in_trouble() {
    for polled in [true, false] {
        let bench = Bench::new(ClientConfig::new().max_waiting(8)).await;
        bench.faults.next(Op::Enqueue, Fault::Hang);
        let mut silent = Box::pin(bench.client.enqueue(task("sick", "0")));
        assert!(poll!(&mut silent).is_pending());
        if polled {
            assert!(timeout(SECOND, &mut silent).await.is_err());
        } else {
            tokio::time::sleep(SECOND).await;
        }
        let mut waiting = Vec::new();
        for number in 0..8 {
            let mut one = Box::pin(bench.client.try_enqueue(task("sick", &format!("w{number}"))));
            let refused = match poll!(&mut one) {
                std::task::Poll::Ready(answer) => {
                    let error = answer.unwrap_err();
                    assert!(matches!(error, Error::Enqueue(EnqueueError::Overloaded)), "{error}");
                    true
                }
                std::task::Poll::Pending => false,
            };
            assert_eq!(refused, number >= 4, "{number}");
            waiting.push(one);
        }
        bench.client.enqueue(task("well", "a")).await.unwrap();
        bench.faults.release();
        silent.await.unwrap();
        for one in waiting.drain(..4) {
            one.await.unwrap();
        }
        drop(waiting);
        bench.is_idle_again("sick").await;
        bench.system.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_caller_sends_keeps_its_order() {
    const CALLERS: usize = 20;
    const EACH: usize = 60;
    let bench = Bench::new(ClientConfig::new()).await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let client = bench.client.clone();
        callers.spawn(async move {
            for number in 0..EACH {
                if number % 10 == 9 {
                    let batch = ["a", "b", "c"].map(|part| task("q", &format!("{caller}-{number:03}{part}")));
                    for answer in client.enqueue_many(batch).await {
                        answer.unwrap();
                    }
                } else {
                    client
                        .enqueue(task("q", &format!("{caller}-{number:03}")))
                        .await
                        .unwrap();
                }
                if number % 7 == caller % 7 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let stored = bench.pending("q").await;
    let all: HashSet<_> = stored.iter().collect();
    assert_eq!(
        (stored.len(), all.len()),
        (CALLERS * EACH * 12 / 10, CALLERS * EACH * 12 / 10)
    );
    for caller in 0..CALLERS {
        let prefix = format!("{caller}-");
        let own: Vec<_> = stored.iter().filter(|id| id.starts_with(&prefix)).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
    bench.system.shutdown().await;
}
