//! Storages that hang or refuse, and user code that misbehaves: others never pay for it.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::channel,
    },
    time::Duration,
};

use async_trait::async_trait;
use asynq_actors::{AsynqSystem, Exit};
use asynq_core::{
    BrokerError, Connector, EnqueueError, Error, RetryDelay, ServerConfig, Storage, Task, broker::Env,
    handler::ErrorHandler,
};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};

use crate::env;

const MINUTE: Duration = Duration::from_secs(60);

fn config() -> ServerConfig {
    ServerConfig::new()
        .concurrency(8)
        .retry_delay(RetryDelay::new(|_, _, _| Duration::from_secs(10)))
}

fn task(id: &str) -> Task {
    Task::new("t", b"").unwrap().with_task_id(id)
}

/// Paused time stands still while something spins: then only a watch outside sees it.
fn in_real_time<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, ends) = channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(test());
        done.send(()).unwrap();
    });
    ends.recv_timeout(Duration::from_secs(20))
        .expect("it spins without a pause, or failed");
    thread.join().unwrap();
}

/// Spawns a system whose handler counts its runs, and then does what `work` returns.
async fn counting<F>(
    connector: impl Connector,
    config: ServerConfig,
    work: impl Fn() -> F + Send + Sync + 'static,
) -> (AsynqSystem, Arc<AtomicU32>)
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let runs = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&runs);
    let system = AsynqSystem::builder(connector)
        .env(env())
        .config(config)
        .handler(move |_: Task| {
            seen.fetch_add(1, Ordering::Relaxed);
            work()
        })
        .spawn()
        .await
        .unwrap();
    (system, runs)
}

/// `work` gives up after six crashes of the heartbeater, which stops its processor in order.
#[tokio::test(start_paused = true)]
async fn tasks_are_taken_again_after_a_restart_of_work() {
    let (system, runs) = counting(MemoryStore::new(), config(), || async { Ok(()) }).await;
    for _ in 0..6 {
        assert!(system.kill_actor("work/heartbeater"));
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    tokio::time::sleep(MINUTE).await;
    let tree = system.tree().unwrap();
    assert_eq!(tree.find(&["work"]).unwrap().restarts, 1, "{tree}");
    system.client().enqueue(task("a")).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    assert_eq!(system.shutdown().await, Exit::Stopped);
}

#[derive(Debug)]
struct Unspeakable;
impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("not to be shown")
    }
}
impl std::error::Error for Unspeakable {}

/// Not given back, uncounted, again and again.
#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_is_a_failure_like_any_other() {
    let (system, runs) = counting(MemoryStore::new(), config(), || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(Error::other(Unspeakable))
    })
    .await;
    system.client().enqueue(task("a")).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    let runs = runs.load(Ordering::Relaxed);
    assert!(runs <= 7, "ran {runs} times in a minute, with 10 s between retries");
    system.shutdown().await;
}

struct BadEnd;
impl Drop for BadEnd {
    fn drop(&mut self) {
        panic!("not to be dropped")
    }
}

/// A value that the handler holds panics when it is dropped at the deadline.
#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_when_it_is_dropped_is_a_failure_like_any_other() {
    let (system, runs) = counting(MemoryStore::new(), config(), || async {
        let _bad = BadEnd;
        std::future::pending().await
    })
    .await;
    system
        .client()
        .enqueue(task("a").with_timeout(Duration::from_secs(1)))
        .await
        .unwrap();
    tokio::time::sleep(MINUTE).await;
    let runs = runs.load(Ordering::Relaxed);
    assert!(runs <= 7, "ran {runs} times in a minute, with 10 s between retries");
    system.shutdown().await;
}

struct Endless;
#[async_trait]
impl ErrorHandler for Endless {
    async fn handle_error(&self, _: &Task, _: &Error) {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_handler_that_hangs_does_not_keep_the_slot() {
    let config = config().concurrency(1).error_handler(Endless);
    let (system, runs) = counting(MemoryStore::new(), config, || async { Err(Error::other("no")) }).await;
    for id in ["a", "b"] {
        let task = task(id).with_timeout(Duration::from_secs(5));
        system.client().enqueue(task).await.unwrap();
    }
    tokio::time::sleep(60 * MINUTE).await;
    assert!(runs.load(Ordering::Relaxed) >= 2);
    system.shutdown().await;
}

/// The ends of calls come as messages, whichever of them ends first.
#[tokio::test(start_paused = true)]
async fn the_client_never_waits_for_a_call_in_its_handler() {
    let faults = Faults::new();
    let store = MemoryStore::new();
    let system = AsynqSystem::builder(FaultyConnector::new(store, faults.clone()))
        .env(env())
        .spawn()
        .await
        .unwrap();
    let client = system.client();
    client.enqueue(task("first")).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    let mut enqueue = |from: usize, to: usize| {
        for i in from..to {
            let client = client.clone();
            callers.spawn(async move { client.enqueue(task(&format!("t{i}"))).await });
        }
    };
    faults.always(Op::Enqueue, Fault::Hang);
    enqueue(0, 1);
    faults.hung(Op::Enqueue, 1).await;
    enqueue(1, 80);
    faults.hung(Op::Enqueue, 2).await;
    // Waits for the end of one of the two.
    enqueue(80, 90);
    tokio::time::sleep(Duration::from_millis(10)).await;
    faults.release();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(faults.hanging(Op::Enqueue), 1, "the third call");
    // Enough for a second call beside it.
    enqueue(90, 200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        faults.hanging(Op::Enqueue),
        2,
        "the fourth call did not go out: the actor waits in its handler"
    );
    faults.clear();
    faults.release();
    while let Some(end) = callers.join_next().await {
        end.unwrap().unwrap();
    }
    system.shutdown().await;
}

/// rules.md#ambiguous-is-a-state.
#[tokio::test(start_paused = true)]
async fn an_enqueue_whose_call_hangs_is_unknown_by_its_deadline() {
    let faults = Faults::new();
    faults.always(Op::Enqueue, Fault::Hang);
    let connector = FaultyConnector::new(MemoryStore::new(), faults.clone());
    let system = AsynqSystem::builder(connector).env(env()).spawn().await.unwrap();
    let answer = tokio::time::timeout(MINUTE, system.client().enqueue(task("a"))).await;
    let error = answer.expect("an answer by the deadline").unwrap_err();
    assert!(matches!(error, Error::Enqueue(EnqueueError::Unknown { .. })), "{error}");
}

/// A settle that is refused at once is not offered again at once.
#[test]
fn a_shutdown_does_not_hammer_a_storage_that_refuses() {
    in_real_time(|| async {
        let faults = Faults::new();
        let connector = FaultyConnector::new(MemoryStore::new(), faults.clone());
        let system = AsynqSystem::builder(connector)
            .env(env())
            .config(config())
            .handler(|_: Task| async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok(())
            })
            .spawn()
            .await
            .unwrap();
        system.client().enqueue(task("a")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(system.running(), 1);
        faults.always(Op::Exchange, Fault::Fail(|| BrokerError::ReadOnly));
        let before = faults.calls(Op::Exchange);
        system.shutdown().await;
        let calls = faults.calls(Op::Exchange) - before;
        assert!(calls < 1000, "{calls} calls");
    });
}

/// More outcomes wait than go into one call.
#[test]
fn the_syncer_does_not_hammer_a_storage_that_refuses() {
    in_real_time(|| async {
        let faults = Faults::new();
        let connector = FaultyConnector::new(MemoryStore::new(), faults.clone());
        let system = AsynqSystem::builder(connector)
            .env(env())
            .config(config().concurrency(300))
            .handler(|_: Task| async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok(())
            })
            .spawn()
            .await
            .unwrap();
        for answer in system
            .client()
            .enqueue_many((0..300).map(|i| task(&format!("t{i}"))))
            .await
        {
            answer.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(system.running(), 300);
        faults.always(Op::Exchange, Fault::Fail(|| BrokerError::ReadOnly));
        let before = faults.calls(Op::Exchange);
        tokio::time::sleep(MINUTE).await;
        let calls = faults.calls(Op::Exchange) - before;
        assert!(calls < 1000, "{calls} calls in a minute");
        faults.clear();
        tokio::time::sleep(MINUTE).await;
        system.shutdown().await;
    });
}

/// In a cluster the server's state lies on a shard of its own.
#[tokio::test(start_paused = true)]
async fn leases_are_extended_while_the_server_state_cannot_be_written() {
    let faults = Faults::new();
    let connector = FaultyConnector::new(MemoryStore::new(), faults.clone());
    let (system, runs) = counting(connector, config(), || async {
        tokio::time::sleep(3 * MINUTE).await;
        Ok(())
    })
    .await;
    faults.always(Op::WriteServerState, Fault::Hang);
    system.client().enqueue(task("a")).await.unwrap();
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    faults.clear();
    faults.release();
    system.shutdown().await;
}

#[derive(Debug)]
struct Fragile(MemoryStore, AtomicU32);

#[async_trait]
impl Connector for Fragile {
    async fn connect(&self, env: Env) -> Result<Arc<dyn Storage>, BrokerError> {
        assert!(self.1.fetch_add(1, Ordering::Relaxed) > 0, "not at first");
        self.0.connect(env).await
    }

    fn describe(&self) -> String {
        "fragile".into()
    }
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_is_tried_again() {
    let connector = Fragile(MemoryStore::new(), AtomicU32::new(0));
    let system = AsynqSystem::builder(connector).env(env()).spawn().await.unwrap();
    tokio::time::sleep(MINUTE).await;
    system.ping().await.unwrap();
    system.shutdown().await;
}

/// An enqueue while the system ends is answered at once, not after ten seconds.
#[tokio::test(start_paused = true)]
async fn an_enqueue_after_the_client_has_ended_is_closed_at_once() {
    let faults = Faults::new();
    let connector = FaultyConnector::new(MemoryStore::new(), faults.clone());
    let system = AsynqSystem::builder(connector).env(env()).spawn().await.unwrap();
    system.ping().await.unwrap();
    let client = system.client();
    let mut ending = tokio::task::JoinSet::new();
    ending.spawn(async move { system.shutdown().await });
    let began = tokio::time::Instant::now();
    // Between the end of the client and that of the root.
    let mut last = None;
    for i in 0..200 {
        match tokio::time::timeout(Duration::from_secs(60), client.enqueue(task(&format!("t{i}"))))
            .await
            .unwrap()
        {
            Ok(_) => {}
            Err(error) => {
                last = Some(error);
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(matches!(last, Some(Error::Enqueue(EnqueueError::Closed))), "{last:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    ending.join_next().await;
    let late = client.try_enqueue(task("late")).await;
    assert!(matches!(late, Err(Error::Enqueue(EnqueueError::Closed))), "{late:?}");
}
