//! Periodic tasks that change while the program runs: a provider is asked for them again and again.
//!
//! ```text
//! cargo run --example periodic_manager                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example periodic_manager    # the same on Redis
//! ```
//!
//! Expected: alice's mail comes each second. When it came twice, the table changes: soon bob's comes
//! in its place, twice. It ends by itself with status 0.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use asynq::{
    AsynqSystem, Connector, SchedulerConfig, ServerConfig,
    error::{BoxError, Error, Result},
    memory::MemoryStore,
    scheduler::{PeriodicTaskConfig, PeriodicTaskConfigProvider},
    task::Task,
};
use tokio::sync::mpsc;

/// Its own queue: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-periodic-manager";

/// Who wants a mail and when, as a database or a file would hold it.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<BTreeMap<&'static str, &'static str>>>);

impl Table {
    fn set(&self, rows: impl IntoIterator<Item = (&'static str, &'static str)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rows.into_iter().collect();
    }
}

#[async_trait]
impl PeriodicTaskConfigProvider for Table {
    async fn get_configs(&self) -> Result<Vec<PeriodicTaskConfig>, BoxError> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let configs = rows.iter().map(|(user, spec)| {
            let mail = Task::new("mail", user.as_bytes())?.with_queue(QUEUE);
            Ok(PeriodicTaskConfig::new(*spec, mail))
        });
        configs.collect()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let connector = connector()?;
    println!("broker: {}", connector.describe());

    let table = Table::default();
    table.set([("alice", "@every 1s"), ("carol", "0 9 * * mon")]);
    let (ran, mut mails) = mpsc::unbounded_channel();
    // A `PeriodicTaskManager` does the same in a process of its own.
    let system = AsynqSystem::builder(connector)
        .config(ServerConfig::new().queues([(QUEUE, 1)]))
        .handler(move |mail: Task| {
            let user = String::from_utf8_lossy(mail.get_payload()).into_owned();
            println!("a mail for {user}");
            std::future::ready(ran.send(user).map_err(Error::other))
        })
        .scheduler(SchedulerConfig::new().name("example-manager"))
        .periodic_tasks(table.clone(), Duration::from_secs(1))
        .spawn()
        .await?;

    for (user, times) in [("alice", 2), ("bob", 2)] {
        let mut came = 0;
        while came < times {
            let mail = mails.recv().await;
            came += u32::from(mail.ok_or(Error::other("the system ended before its tasks"))? == user);
        }
        println!("{user}'s came {times} times, the table changes");
        table.set([("bob", "@every 1s"), ("carol", "0 9 * * mon")]);
    }
    println!("ended: {:?}", system.shutdown().await);
    Ok(())
}

fn connector() -> Result<Arc<dyn Connector>> {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("REDIS_URL") {
        return Ok(Arc::new(asynq::redis::RedisConnectionType::single(url)?));
    }
    Ok(Arc::new(MemoryStore::new()))
}
