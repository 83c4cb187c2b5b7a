//! Periodic tasks from a provider, which is asked at intervals and whose answer changes.
//!
//! ```text
//! cargo run --example periodic_manager                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example periodic_manager    # the same on Redis
//! ```
//!
//! Expected: a mail for alice is sent every second. After two of them the table changes, and mails for bob are sent
//! instead. It ends by itself, with status 0, after two of those.

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use asynq::{
    AsynqSystem, Error, Result, SchedulerConfig, ServerConfig, Task,
    error::BoxError,
    scheduler::{PeriodicTaskConfig, PeriodicTaskConfigProvider},
};
use tokio::sync::mpsc;

/// A queue of its own: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-periodic-manager";

/// Users and the cron specs of their mails, as a database or a file would hold them.
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
    let storage = common::storage()?;

    let table = Table::default();
    table.set([("alice", "@every 1s"), ("carol", "0 9 * * mon")]);
    let (ran, mut mails) = mpsc::unbounded_channel();
    // A `PeriodicTaskManager` does the same in a process of its own.
    let system = AsynqSystem::builder(storage)
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
            came += u32::from(common::next(&mut mails).await? == user);
        }
        println!("{times} mails for {user} were sent; the table changes");
        table.set([("bob", "@every 1s"), ("carol", "0 9 * * mon")]);
    }
    system.shutdown().await;
    println!("the system has ended");
    Ok(())
}
