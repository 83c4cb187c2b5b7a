//! Adoption: the tasks of a lost call are found once, whenever they are found (rules.md#calls-outlive-actors).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use asynq_actors::{AsynqSystem, Exit};
use asynq_core::{BrokerError, QueueName, ServerConfig, Task, TaskId, TaskState, Then};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};

use crate::env;

/// Counts runs, and how many there were at once.
#[derive(Clone, Default)]
struct Runs(Arc<[AtomicUsize; 3]>);

impl Runs {
    fn all(&self) -> usize {
        self.0[0].load(Ordering::Relaxed)
    }

    fn most_at_once(&self) -> usize {
        self.0[2].load(Ordering::Relaxed)
    }

    async fn run(self, lasts: Duration) -> asynq_core::Result<()> {
        let [all, now, most] = &*self.0;
        all.fetch_add(1, Ordering::Relaxed);
        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        tokio::time::sleep(lasts).await;
        now.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Bench {
    store: MemoryStore,
    faults: Faults,
    runs: Runs,
    system: AsynqSystem,
}

impl Bench {
    async fn new(concurrency: usize, lasts: Duration) -> Self {
        let (store, faults, runs) = (MemoryStore::new(), Faults::new(), Runs::default());
        let counted = runs.clone();
        let system = AsynqSystem::builder(FaultyConnector::new(store.clone(), faults.clone()))
            .env(env())
            .config(ServerConfig::new().concurrency(concurrency))
            .handler(move |_: Task| counted.clone().run(lasts))
            .spawn()
            .await
            .unwrap();
        // Until it has looked and found nothing.
        faults.called(Op::Exchange, 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Self {
            store,
            faults,
            runs,
            system,
        }
    }

    async fn enqueue(&self, id: &str) {
        let task = Task::new("t", b"").unwrap().with_task_id(id);
        self.system.client().enqueue(task).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_adoption_brings_nothing_back_that_has_ended() {
    let bench = Bench::new(4, Duration::from_secs(6)).await;
    bench.faults.without_barrier();
    // An extended lease would tell the second look that the task is no longer this call's.
    bench.faults.always(Op::ExtendLeases, Fault::unavailable());
    bench.faults.next(Op::Exchange, Fault::LoseReply);
    bench.enqueue("a").await;
    // It runs, found by the first adoption; the second looks while it runs and tells when it has
    // been settled.
    bench.faults.called(Op::Adopt, 1).await;
    bench.faults.next(Op::Adopt, Fault::HoldReply);
    bench.faults.hung(Op::Adopt, 1).await;
    assert_eq!(bench.system.running(), 1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.system.running(), 0);
    bench.faults.release();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(bench.runs.all(), 1);
    assert_eq!(bench.system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_late_take_waits_for_a_slot() {
    let bench = Bench::new(1, Duration::from_secs(20)).await;
    bench.faults.without_barrier();
    bench.faults.next(Op::Exchange, Fault::Late);
    bench.enqueue("a").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.system.running(), 1, "taken by the next call");
    bench.enqueue("b").await;
    bench.faults.run_late().await;
    bench.faults.called(Op::Adopt, 3).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((bench.runs.all(), bench.runs.most_at_once()), (2, 1));
    assert_eq!(bench.system.shutdown().await, Exit::Stopped);
}

/// It is cancelled on request while it waits: it is not started at all.
#[tokio::test(start_paused = true)]
async fn a_late_take_that_is_cancelled_is_not_started() {
    let bench = Bench::new(1, Duration::from_secs(20)).await;
    bench.faults.without_barrier();
    bench.faults.next(Op::Exchange, Fault::Late);
    bench.enqueue("a").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.enqueue("b").await;
    bench.faults.run_late().await;
    bench.faults.called(Op::Adopt, 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let storage = asynq_core::Connector::connect(&bench.store, env()).await.unwrap();
    let (queue, b) = (QueueName::default(), TaskId::new("b").unwrap());
    storage.cancel_task(&queue, &b, Then::Archive).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let b = storage.task_info(&queue, &b).await.unwrap();
    assert_eq!(
        (b.state, b.last_error.as_str()),
        (TaskState::Archived, "context canceled")
    );
    assert_eq!((bench.runs.all(), bench.system.running()), (1, 0));
    assert_eq!(bench.system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_late_take_that_is_found_at_the_end_of_service_goes_back() {
    let bench = Bench::new(1, Duration::from_secs(9)).await;
    bench.faults.without_barrier();
    bench.faults.next(Op::Exchange, Fault::Late);
    bench.enqueue("a").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.enqueue("b").await;
    bench.faults.run_late().await;
    assert_eq!(bench.system.shutdown().await, Exit::Stopped);
    assert_eq!(bench.faults.calls(Op::Adopt), 2);
    let storage = asynq_core::Connector::connect(&bench.store, env()).await.unwrap();
    let queue = QueueName::default();
    let b = storage.task_info(&queue, &TaskId::new("b").unwrap()).await.unwrap();
    assert_eq!((b.state, b.retried), (TaskState::Pending, 0));
    assert_eq!(bench.runs.all(), 1);
}

/// Nobody may take it for drained while a lost call may still take tasks.
#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_a_lost_call_takes_late() {
    let bench = Bench::new(2, Duration::from_secs(1)).await;
    bench.faults.without_barrier();
    bench.faults.next(Op::Exchange, Fault::Late);
    bench.enqueue("a").await;
    // The lost call was looked after once, and "a" was taken by the next.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((bench.runs.all(), bench.system.running()), (1, 0));
    bench.system.stop_fetching();
    bench.enqueue("b").await;
    bench.faults.run_late().await;
    bench.system.drain().await;
    assert_eq!((bench.runs.all(), bench.system.running()), (2, 0));
    assert_eq!(bench.system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn an_adoption_that_is_always_refused_is_given_up_when_others_recover() {
    let bench = Bench::new(2, Duration::from_secs(1)).await;
    bench
        .faults
        .always(Op::Adopt, Fault::Fail(|| BrokerError::Refused { source: "no".into() }));
    bench.faults.next(Op::Exchange, Fault::LoseRequest);
    bench.enqueue("a").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(bench.runs.all(), 0, "its slots are in the lost call");
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(bench.runs.all(), 1);
    assert_eq!(bench.system.shutdown().await, Exit::Stopped);
}
