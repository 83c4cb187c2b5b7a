//! A load of tasks with mixed outcomes, and the books that must balance at its end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{
    AsynqSystem, Exit,
    supervisor::{Backoff, Intensity},
};
use asynq_core::{
    Clock, Connector, Entropy, Error, Inspect, RetryDelay, ServerConfig, Task, broker::Env, names::QueueName,
};
use asynq_memory::MemoryStore;
use tokio::task::JoinSet;

pub(crate) const TASKS: usize = 1000;
const QUEUES: [&str; 2] = ["default", "low"];

type Attempts = Arc<Mutex<HashMap<(String, u32), u32>>>;

pub(crate) fn env() -> Env {
    Env {
        clock: Clock::tokio(),
        entropy: Entropy::seeded(11),
    }
}

/// A system under load.
pub(crate) struct Load {
    pub(crate) system: AsynqSystem,
    store: MemoryStore,
    attempts: Attempts,
    enqueueing: JoinSet<()>,
}

/// Ends well, fails at first, panics at first, or takes its time; says which attempts ran.
async fn run_one(task: Task, attempts: Attempts) -> asynq_core::Result<()> {
    let context = task.context().expect("inside a handler");
    let (id, retried) = (context.id().to_string(), context.retried());
    *attempts.lock().unwrap().entry((id, retried)).or_default() += 1;
    let number: u64 = String::from_utf8_lossy(task.get_payload()).parse().unwrap();
    tokio::time::sleep(Duration::from_millis(number % 97)).await;
    match number % 10 {
        1 if retried == 0 => Err(Error::other("at first")),
        2 if retried == 0 => panic!("at first"),
        3 => Err(Error::skip_retry("never")),
        4 => Err(Error::revoke("no need")),
        _ => Ok(()),
    }
}

impl Load {
    /// Spawns a system on the connector, which must lead to the store, and begins to enqueue.
    pub(crate) async fn start(store: MemoryStore, connector: impl Connector) -> Self {
        let attempts = Attempts::default();
        let seen = Arc::clone(&attempts);
        let system = AsynqSystem::builder(connector)
            .env(env())
            .config(
                ServerConfig::new()
                    .concurrency(20)
                    .queues([("default", 3), ("low", 1)])
                    .retry_delay(RetryDelay::new(|_, _, _| Duration::from_secs(1))),
            )
            .intensity(Intensity {
                restarts: 1000,
                within: Duration::from_secs(60),
            })
            .backoff(Backoff {
                first: Duration::from_millis(5),
                most: Duration::from_millis(50),
            })
            .handler(move |task: Task| run_one(task, Arc::clone(&seen)))
            .spawn()
            .await
            .unwrap();
        let client = system.client();
        let mut enqueueing = JoinSet::new();
        enqueueing.spawn(async move {
            for chunk in 0..TASKS / 50 {
                let tasks = (0..50).map(|i| {
                    let number = chunk * 50 + i;
                    let task = Task::new("t", number.to_string().as_bytes()).unwrap();
                    task.with_queue(QUEUES[usize::from(number % 3 == 0)])
                        .with_retention(Duration::from_secs(24 * 3600))
                });
                for answer in client.enqueue_many(tasks).await {
                    answer.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self {
            system,
            store,
            attempts,
            enqueueing,
        }
    }

    /// Waits until every task is settled, and checks that each came to its own end, no attempt ran
    /// twice, and nothing in the store contradicts itself.
    pub(crate) async fn balance(mut self) {
        self.enqueueing.join_next().await.unwrap().unwrap();
        let storage = self.store.open(env());
        let settled = async {
            loop {
                let (mut completed, mut archived, mut open) = (0, 0, 0);
                for queue in QUEUES {
                    let info = storage.queue_info(&QueueName::new(queue).unwrap()).await.unwrap();
                    completed += info.completed;
                    archived += info.archived;
                    open += info.size() - info.completed - info.archived;
                }
                if open == 0 {
                    return (completed, archived);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let tasks = TASKS as u64;
        let ends = tokio::time::timeout(Duration::from_secs(1800), settled)
            .await
            .expect("tasks are stuck");
        assert_eq!(ends, (tasks * 8 / 10, tasks / 10), "and a tenth was revoked");
        let attempts = self.attempts.lock().unwrap().clone();
        let twice: Vec<_> = attempts.iter().filter(|(_, runs)| **runs != 1).collect();
        assert!(twice.is_empty(), "attempts that ran more than once: {twice:?}");
        assert_eq!(
            attempts.len(),
            TASKS + TASKS * 2 / 10,
            "every task ran, two tenths of them twice"
        );
        for queue in QUEUES {
            let queue = QueueName::new(queue).unwrap();
            assert_eq!(storage.audit(&queue, Default::default()).await.unwrap().items, []);
        }
        assert_eq!(self.system.shutdown().await, Exit::Stopped);
    }
}
