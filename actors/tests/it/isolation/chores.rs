//! Chores that look after every queue reach the others in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynq_actors::AsynqSystem;
use asynq_core::{BrokerError, Connector, Error, GroupAggregator, Result, Task, TaskState, broker::Want};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op, QueueFaults};

use super::kit::{Bench, SECOND, SICK, WELL, config, queue, task};
use crate::env;

const LASTS: Duration = Duration::from_millis(10);

fn faults() -> [Fault; 3] {
    [
        Fault::Hang,
        Fault::LoseReply,
        Fault::Fail(|| BrokerError::WrongType { key: "k".into() }),
    ]
}

/// Due tasks of the other queue start within their second, as without trouble.
#[tokio::test(start_paused = true)]
async fn due_tasks_are_forwarded() {
    for fault in faults() {
        for op in [Op::Forward, Op::Watch] {
            let bench = Bench::new(config(), LASTS).await;
            bench.sick.always(op, fault);
            let soon = task(SICK, "s").with_process_in(SECOND);
            bench.system.client().enqueue(soon).await.unwrap();
            tokio::time::sleep(20 * SECOND).await;
            for number in 0..10 {
                let due = task(WELL, format!("w{number}")).with_process_in(2 * SECOND);
                bench.system.client().enqueue(due).await.unwrap();
                tokio::time::sleep(3 * SECOND + SECOND / 2).await;
                assert_eq!(bench.runs.began(WELL), number + 1, "{op:?}: {fault:?}");
            }
            assert!(bench.sick.hanging(op) <= 3, "{}", bench.sick.hanging(op));
            bench.mend();
            bench.balance(1, 10).await;
        }
    }
}

/// A task of a dead server is recovered 60 s after its lease was written, plus one interval of the recoverer until the
/// first look that sees it, plus the 10 s until the second look.
#[tokio::test(start_paused = true)]
async fn tasks_of_dead_servers_are_recovered() {
    for fault in faults() {
        for op in [Op::Expired, Op::Recover, Op::Heal, Op::ReclaimAggregationSets] {
            let config = config().recoverer_interval(10 * SECOND);
            let bench = Bench::new(config, LASTS).await;
            bench.sick.always(op, fault);
            tokio::time::sleep(30 * SECOND).await;
            bench.system.stop_fetching();
            for (name, id) in [(SICK, "s"), (WELL, "w")] {
                bench.system.client().enqueue(task(name, id)).await.unwrap();
                let want = Want {
                    queue: queue(name),
                    max: 1,
                };
                let taken = bench.storage.exchange(&bench.storage.begin(), &[], &[want]).await;
                assert_eq!(taken.leased.len(), 1);
            }
            tokio::time::sleep(60 * SECOND + 10 * SECOND + 10 * SECOND + 2 * SECOND).await;
            assert_eq!(
                bench.state(WELL, "w").await,
                // It was never started, so it goes back as it was.
                Some(TaskState::Pending),
                "{op:?}: {fault:?}"
            );
            assert!(bench.sick.hanging(op) <= 1, "{}", bench.sick.hanging(op));
            bench.mend();
            bench.system.shutdown().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn completed_tasks_are_deleted() {
    for fault in faults() {
        let bench = Bench::new(config(), LASTS).await;
        bench.sick.always(Op::DeleteExpired, fault);
        for name in [SICK, WELL] {
            let kept = task(name, "t").with_retention(5 * SECOND);
            bench.system.client().enqueue(kept).await.unwrap();
        }
        tokio::time::sleep(3 * SECOND).await;
        assert_eq!(bench.state(WELL, "t").await, Some(TaskState::Completed));
        // One pass of the janitor hangs when it is due.
        tokio::time::sleep(25 * SECOND).await;
        assert_eq!(bench.state(WELL, "t").await, None, "{fault:?}");
        bench.mend();
        tokio::time::sleep(40 * SECOND).await;
        assert_eq!(bench.state(SICK, "t").await, None, "{fault:?}");
        bench.system.shutdown().await;
    }
}

/// Fails for the groups of the sick queue while its flag is set.
struct Sum(Arc<AtomicBool>);

#[async_trait]
impl GroupAggregator for Sum {
    async fn aggregate(&self, group: &str, _tasks: &[Task]) -> Result<Task> {
        if group != "g" && self.0.load(Ordering::SeqCst) {
            return Err(Error::other("no"));
        }
        Task::new("sum", group.as_bytes())
    }
}

/// A system that aggregates, with `sick_groups` groups in the sick queue, where one operation has a fault.
struct Groups {
    store: MemoryStore,
    faults: Faults,
    sick: QueueFaults,
    failing: Arc<AtomicBool>,
    system: AsynqSystem,
    sick_groups: u64,
    fault: String,
}

impl Groups {
    async fn new(op: Op, fault: Fault, sick_groups: u64, fails: bool) -> Self {
        let (store, faults) = (MemoryStore::new(), Faults::new());
        let failing = Arc::new(AtomicBool::new(fails));
        let config = config()
            .group_grace_period(SECOND)
            .unwrap()
            .group_check_interval(SECOND);
        let system = AsynqSystem::builder(FaultyConnector::new(store.clone(), faults.clone()))
            .env(env())
            .config(config)
            .aggregator(Sum(Arc::clone(&failing)))
            .spawn()
            .await
            .unwrap();
        system.ping().await.unwrap();
        let sick = faults.for_queue(&queue(SICK));
        sick.always(op, fault);
        for number in 0..sick_groups {
            let member = task(SICK, format!("s{number}")).with_group(format!("g{number}"));
            system.client().enqueue(member).await.unwrap();
        }
        tokio::time::sleep(10 * SECOND).await;
        Self {
            store,
            faults,
            sick,
            failing,
            system,
            sick_groups,
            fault: format!("{op:?}: {fault:?}"),
        }
    }

    /// The pending tasks of a queue, and those that are being aggregated.
    async fn tasks_of(&self, name: &str) -> (u64, u64) {
        let storage = self.store.connect(env()).await.unwrap();
        let info = storage.queue_info(&queue(name)).await.unwrap();
        (info.pending, info.aggregating)
    }

    /// The `number`th group of the other queue is aggregated in time.
    async fn well_group_is_aggregated(&self, number: u64) {
        let member = task(WELL, format!("w{number}")).with_group("g");
        self.system.client().enqueue(member).await.unwrap();
        tokio::time::sleep(8 * SECOND).await;
        assert_eq!(self.tasks_of(WELL).await, (number + 1, 0), "{}", self.fault);
    }

    /// Without the fault all groups of the sick queue are aggregated, once the time of sets whose run was given up
    /// is over.
    async fn mend(self) {
        self.failing.store(false, Ordering::SeqCst);
        self.faults.clear();
        self.sick.clear();
        self.faults.release();
        tokio::time::sleep(400 * SECOND).await;
        assert_eq!(self.tasks_of(SICK).await, (self.sick_groups, 0), "{}", self.fault);
        self.system.shutdown().await;
    }
}

/// Sets of the sick queue that cannot be given up or handed back keep no other queue waiting, and come back.
#[tokio::test(start_paused = true)]
async fn failed_sets_are_given_up() {
    for fault in faults() {
        for op in [Op::ReleaseAggregation, Op::ReclaimAggregationSets] {
            let groups = Groups::new(op, fault, 10, true).await;
            for number in 0..5 {
                groups.well_group_is_aggregated(number).await;
                assert_eq!(groups.tasks_of(SICK).await, (0, 10), "{}", groups.fault);
            }
            groups.mend().await;
        }
    }
}

/// With more groups in the sick queue than there are places for runs.
#[tokio::test(start_paused = true)]
async fn groups_are_aggregated() {
    for fault in faults() {
        for op in [Op::ListGroups, Op::CollectGroup, Op::FinishAggregation] {
            let groups = Groups::new(op, fault, 30, false).await;
            for number in 0..5 {
                groups.well_group_is_aggregated(number).await;
            }
            let hanging = groups.sick.hanging(op);
            assert!(hanging <= 30, "{hanging}");
            groups.mend().await;
        }
    }
}
