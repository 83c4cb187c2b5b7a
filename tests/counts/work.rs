//! Enqueues and drains through a whole system, one at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use asynq::{AsynqSystem, ServerConfig, names::QueueName, redis::RedisConnectionType, task::Task};
use asynq_testing::RedisServer;
use tokio::sync::{Mutex, MutexGuard};

/// Held by each test: allocations are counted for the whole program.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());
/// Time that a drain may take on a machine that is very busy.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Bench {
    pub(crate) server: RedisServer,
    connection: RedisConnectionType,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let alone = ALONE.lock().await;
        let server = RedisServer::start().await;
        Self {
            connection: RedisConnectionType::single(server.url()).unwrap(),
            server,
            _alone: alone,
        }
    }

    /// A system that enqueues, with its connections made and its scripts known.
    pub(crate) async fn producer(&self) -> AsynqSystem {
        let system = AsynqSystem::builder(Arc::new(self.connection.clone()))
            .spawn()
            .await
            .unwrap();
        system.ping().await.unwrap();
        system.client().enqueue(task()).await.unwrap();
        system
    }

    /// Fills the queue with `count` tasks.
    pub(crate) async fn fill(&self, count: usize) {
        let system = self.producer().await;
        for answer in system.client().enqueue_many((1..count).map(|_| task())).await {
            answer.unwrap();
        }
        system.shutdown().await;
    }

    /// Ends when all of `count` pending tasks have run and their outcomes are written. `before` is called
    /// when the first task starts.
    pub(crate) async fn drain(&self, count: usize, concurrency: usize, before: impl Fn() + Send + Sync + 'static) {
        let started = Arc::new(AtomicUsize::new(0));
        let system = AsynqSystem::builder(Arc::new(self.connection.clone()))
            .config(ServerConfig::new().concurrency(concurrency))
            .handler(move |_task: Task| {
                if started.fetch_add(1, Ordering::Relaxed) == 0 {
                    before();
                }
                async { Ok(()) }
            })
            .spawn()
            .await
            .unwrap();
        let storage = system.storage().await.unwrap();
        let drained = async {
            loop {
                let info = storage.queue_info(&QueueName::default()).await.unwrap();
                if info.pending + info.active == 0 {
                    assert_eq!(usize::try_from(info.processed).unwrap(), count);
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, drained).await.unwrap();
        system.shutdown().await;
    }
}

/// A task that does nothing, with a payload of 100 bytes.
pub(crate) fn task() -> Task {
    Task::new("noop", &[b'x'; 100]).unwrap()
}
