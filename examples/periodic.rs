//! Periodic tasks: a scheduler enqueues them at the times of cron specs, a server runs them.
//!
//! ```text
//! cargo run --example periodic                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example periodic    # the same on Redis
//! ```
//!
//! Expected: a heartbeat each second, three times; then it is unregistered. The report of every
//! working day is only registered: its next time is told. With several of this program on one Redis each
//! tick is enqueued once all the same. What fell between two runs is skipped; only the report, which has the
//! policy `Once`, is made up for, if an earlier run enqueued it. It ends by itself with status 0.

use std::sync::Arc;

use asynq::{
    Connector,
    config::ServerConfig,
    error::{Error, Result},
    memory::MemoryStore,
    scheduler::{MissedTicks, PeriodicTaskConfig, Scheduler, SchedulerConfig, Tz},
    server::Server,
    task::{Task, TaskOptions},
};
use tokio::sync::mpsc;

/// Its own queue: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-periodic";

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let connector = connector()?;
    println!("broker: {}", connector.describe());

    let (ran, mut runs) = mpsc::unbounded_channel();
    let mut server = Server::new(Arc::clone(&connector), ServerConfig::new().queues([(QUEUE, 1)])).await?;
    server
        .start(move |task: Task| {
            println!("ran {}", task.get_type());
            std::future::ready(ran.send(()).map_err(Error::other))
        })
        .await?;

    let config = SchedulerConfig::new()
        .name("example")
        .post_enqueue(|answer| match answer {
            Ok(info) => println!("enqueued {} as {}", info.task_type, info.id),
            Err(error) => println!("not enqueued: {error}"),
        })
        .error_handler(|task, _options, error| println!("{}: {error}", task.get_type()));
    let mut scheduler = Scheduler::new(connector, config).await?;
    let options = TaskOptions::new().queue(QUEUE).max_retry(3);
    let heartbeat = scheduler.register_with("@every 1s", Task::new("heartbeat", b"")?, &options)?;
    let report = PeriodicTaskConfig::new("30 7 * * mon-fri", Task::new("report:daily", b"{}")?)
        .options(options)
        .timezone(Tz::Europe__Berlin)
        .missed(MissedTicks::Once);
    scheduler.add(&report)?;
    scheduler.start().await?;

    for entry in scheduler.handle().entries() {
        if let Some(next) = entry.next {
            println!("{} ({}) is next due at {next}", entry.task_type, entry.spec);
        }
    }
    for _ in 0..3 {
        runs.recv()
            .await
            .ok_or(Error::other("the server ended before its tasks"))?;
    }
    scheduler.unregister(&heartbeat)?;
    scheduler.shutdown().await;
    server.shutdown().await;
    Ok(())
}

fn connector() -> Result<Arc<dyn Connector>> {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("REDIS_URL") {
        return Ok(Arc::new(asynq::redis::RedisConnectionType::single(url)?));
    }
    Ok(Arc::new(MemoryStore::new()))
}
