//! What a crash may cost (DESIGN section 3): each actor is killed under load, again and again; every
//! task is settled, no attempt runs twice, and the tree shows the restarts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{
    AsynqSystem, Exit,
    supervisor::{Backoff, Intensity},
};
use asynq_core::{Clock, Entropy, Error, Inspect, RetryDelay, ServerConfig, Task, broker::Env, names::QueueName};
use asynq_memory::MemoryStore;

const TASKS: usize = 1000;
const KILLS: u64 = 6;

type Attempts = Arc<Mutex<HashMap<(String, u32), u32>>>;

fn env() -> Env {
    Env {
        clock: Clock::tokio(),
        entropy: Entropy::seeded(11),
    }
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

async fn survives_kills_of(path: &str) {
    let store = MemoryStore::new();
    let attempts = Attempts::default();
    let seen = Arc::clone(&attempts);
    let system = AsynqSystem::builder(store.clone())
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
    let mut enqueueing = tokio::task::JoinSet::new();
    enqueueing.spawn(async move {
        for chunk in 0..TASKS / 50 {
            let tasks = (0..50).map(|i| {
                let number = chunk * 50 + i;
                let queue = if number % 3 == 0 { "low" } else { "default" };
                Task::new("t", number.to_string().as_bytes())
                    .unwrap()
                    .with_queue(queue)
                    .with_retention(Duration::from_secs(3600))
            });
            for answer in client.enqueue_many(tasks).await {
                answer.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(150 + 37 * kill)).await;
        assert!(system.kill_actor(path), "no actor at {path}");
    }
    enqueueing.join_next().await.unwrap().unwrap();

    let storage = store.open(env());
    let settled = async {
        loop {
            let (mut completed, mut archived, mut open) = (0, 0, 0);
            for queue in ["default", "low"] {
                let info = storage.queue_info(&QueueName::new(queue).unwrap()).await.unwrap();
                completed += info.completed;
                archived += info.archived;
                open += info.size() - info.completed - info.archived;
            }
            if open == 0 {
                return (completed as usize, archived as usize);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (completed, archived) = tokio::time::timeout(Duration::from_secs(600), settled)
        .await
        .expect("tasks are stuck");
    assert_eq!(
        (completed, archived),
        (TASKS * 8 / 10, TASKS / 10),
        "and a tenth was revoked"
    );
    let attempts = attempts.lock().unwrap().clone();
    assert_eq!(
        attempts.len(),
        TASKS + TASKS * 2 / 10,
        "every task ran, two tenths of them twice"
    );
    let twice: Vec<_> = attempts.iter().filter(|(_, runs)| **runs != 1).collect();
    assert!(twice.is_empty(), "attempts that ran more than once: {twice:?}");
    let tree = system.tree().unwrap();
    let path: Vec<_> = path.split('/').collect();
    assert!(tree.find(&path).unwrap().restarts >= 1, "{tree}");
    for queue in ["default", "low"] {
        let queue = QueueName::new(queue).unwrap();
        assert_eq!(storage.audit(&queue, Default::default()).await.unwrap().items, []);
    }
    assert_eq!(system.shutdown().await, Exit::Stopped);
}

macro_rules! survives {
    ($($name:ident: $path:literal),+ $(,)?) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                survives_kills_of($path).await;
            }
        )+
    };
}

survives! {
    broker: "broker",
    client: "client",
    maintenance: "maintenance",
    forwarder: "maintenance/forwarder",
    recoverer: "maintenance/recoverer",
    janitor: "maintenance/janitor",
    work: "work",
    heartbeater: "work/heartbeater",
    syncer: "work/syncer",
    processor: "work/processor",
}
