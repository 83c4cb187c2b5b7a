//! Periodic tasks: a scheduler enqueues them at the times of cron specs, a server runs them.
//!
//! ```text
//! cargo run --example periodic                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example periodic    # the same on Redis
//! ```
//!
//! Expected: a heartbeat runs every second, three times, and is unregistered. The report of every working day is
//! registered, and the time of its next tick is printed. Where several of these programs run on one Redis, each
//! tick is still enqueued once. It ends by itself with status 0.

mod common;

use std::sync::Arc;

use asynq::{
    Error, Result, Scheduler, SchedulerConfig, Server, ServerConfig, Task, TaskOptions,
    scheduler::{MissedTicks, PeriodicTaskConfig, Tz},
};
use tokio::sync::mpsc;

/// A queue of its own: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-periodic";

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;

    let (ran, mut runs) = mpsc::unbounded_channel();
    let mut server = Server::new(Arc::clone(&storage), ServerConfig::new().queues([(QUEUE, 1)])).await?;
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
    let mut scheduler = Scheduler::new(storage, config).await?;
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
            println!(
                "{} ({}) is next due on {}",
                entry.task_type,
                entry.spec,
                next.format("%F at %T UTC")
            );
        }
    }
    common::skip(&mut runs, 3).await?;
    scheduler.unregister(&heartbeat)?;
    scheduler.shutdown().await;
    server.shutdown().await;
    Ok(())
}
