//! A system with a sick queue and a well one, and the books that must balance at the end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{AsynqSystem, Exit};
use asynq_core::{Connector, QueueName, ServerConfig, Storage, Task, TaskState};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Faults, FaultyConnector, QueueFaults};

use crate::env;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const WELL: &str = "well";
/// Before the other in every order.
pub(super) const SICK: &str = "sick";

pub(super) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(super) fn task(queue: &str, id: impl Into<String>) -> Task {
    Task::new("t", b"").unwrap().with_queue(queue).with_task_id(id)
}

pub(super) fn config() -> ServerConfig {
    ServerConfig::new().concurrency(10).queues([(SICK, 1), (WELL, 1)])
}

/// Number of times that each task began to run and came to its end, by queue and id.
type Counts = HashMap<(String, String), [u32; 2]>;

#[derive(Clone, Default)]
pub(super) struct Runs(Arc<Mutex<Counts>>);

impl Runs {
    pub(super) async fn run(self, task: Task, lasts: Duration) -> asynq_core::Result<()> {
        let context = task.context().unwrap();
        let key = (context.queue().to_string(), context.id().to_string());
        let count = |what: usize| self.0.lock().unwrap().entry(key.clone()).or_default()[what] += 1;
        count(0);
        tokio::time::sleep(lasts).await;
        count(1);
        Ok(())
    }

    fn sum(&self, queue: &str, what: usize) -> usize {
        let runs = self.0.lock().unwrap();
        let of_queue = runs.iter().filter(|((of, _), _)| of == queue);
        of_queue.map(|(_, counts)| counts[what] as usize).sum()
    }

    pub(super) fn began(&self, queue: &str) -> usize {
        self.sum(queue, 0)
    }

    pub(super) fn ended(&self, queue: &str) -> usize {
        self.sum(queue, 1)
    }

    /// Every task that is known here began once and ended once.
    pub(super) fn assert_once(&self) {
        let runs = self.0.lock().unwrap();
        let odd: Vec<_> = runs.iter().filter(|(_, counts)| **counts != [1, 1]).collect();
        assert!(odd.is_empty(), "{odd:?}");
    }
}

pub(super) struct Bench {
    pub(super) faults: Faults,
    pub(super) sick: QueueFaults,
    pub(super) runs: Runs,
    pub(super) system: AsynqSystem,
    /// A storage without faults.
    pub(super) storage: Arc<dyn Storage>,
}

impl Bench {
    /// Tasks run as long as is said.
    pub(super) async fn new(config: ServerConfig, lasts: Duration) -> Self {
        let (store, faults, runs) = (MemoryStore::new(), Faults::new(), Runs::default());
        let counted = runs.clone();
        let system = AsynqSystem::builder(FaultyConnector::new(store.clone(), faults.clone()))
            .env(env())
            .config(config)
            .handler(move |task: Task| counted.clone().run(task, lasts))
            .spawn()
            .await
            .unwrap();
        system.ping().await.unwrap();
        let storage = store.connect(env()).await.unwrap();
        let sick = faults.for_queue(&queue(SICK));
        Self {
            faults,
            sick,
            runs,
            system,
            storage,
        }
    }

    pub(super) async fn fill(&self, queue: &str, count: usize) {
        let tasks = (0..count).map(|number| task(queue, format!("{queue}{number}")));
        for answer in self.system.client().enqueue_many(tasks).await {
            answer.unwrap();
        }
    }

    /// Returns how many tasks of the well queue end in so long.
    pub(super) async fn well_in(&self, time: Duration) -> usize {
        let before = self.runs.ended(WELL);
        tokio::time::sleep(time).await;
        self.runs.ended(WELL) - before
    }

    pub(super) fn mend(&self) {
        self.sick.clear();
        self.faults.clear();
        self.faults.release();
    }

    /// Waits until both queues are empty, and looks whether anything was lost or doubled.
    pub(super) async fn balance(self, sick: usize, well: usize) {
        let limit = tokio::time::Instant::now() + 300 * SECOND;
        while (self.runs.ended(SICK), self.runs.ended(WELL)) != (sick, well) {
            let seen = (self.runs.ended(SICK), self.runs.ended(WELL));
            assert!(tokio::time::Instant::now() < limit, "{seen:?} of {:?}", (sick, well));
            tokio::time::sleep(SECOND).await;
        }
        // Those that a lost call takes late are looked for 30 s long.
        tokio::time::sleep(70 * SECOND).await;
        self.runs.assert_once();
        for name in [SICK, WELL] {
            if !self.storage.queues().await.unwrap().contains(&queue(name)) {
                continue;
            }
            let audit = self.storage.audit(&queue(name), Default::default()).await.unwrap();
            assert_eq!(audit.items, []);
            let info = self.storage.queue_info(&queue(name)).await.unwrap();
            assert_eq!(
                (info.pending, info.active, info.retry, info.archived),
                (0, 0, 0, 0),
                "{info:?}"
            );
        }
        assert_eq!(self.system.shutdown().await, Exit::Stopped);
    }

    pub(super) async fn state(&self, queue_name: &str, id: &str) -> Option<TaskState> {
        let id = asynq_core::TaskId::new(id).unwrap();
        let info = self.storage.task_info(&queue(queue_name), &id).await;
        info.ok().map(|info| info.state)
    }
}
