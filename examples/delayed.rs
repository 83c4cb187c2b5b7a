//! Tasks for later.
//!
//! ```text
//! cargo run --example delayed                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example delayed    # the same on Redis
//! ```
//!
//! Expected: one task runs at once, one after a delay of a second, one at a time two seconds from now,
//! one after three. Times are whole seconds on the wire, with fractions cut, so a task may start up to a
//! second before the exact time. A real server would run until a signal; this one ends by itself, with
//! status 0, when its tasks are done.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use asynq::{
    Connector,
    client::Client,
    config::ServerConfig,
    error::{Error, Result},
    inspector::Inspector,
    memory::MemoryStore,
    server::Server,
    task::{Task, TaskState},
};
use tokio::sync::mpsc;

/// Its own queue: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-delayed";

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let connector = connector()?;
    println!("broker: {}", connector.describe());

    let begin = Instant::now();
    let (ran, mut runs) = mpsc::unbounded_channel();
    let mut server = Server::new(Arc::clone(&connector), ServerConfig::new().queues([(QUEUE, 1)])).await?;
    server
        .start(move |task: Task| {
            let ran = ran.clone();
            async move {
                println!("after {:.1?}: {}", begin.elapsed(), task.get_type());
                ran.send(()).map_err(Error::other)
            }
        })
        .await?;

    let client = Client::new(connector).await?;
    let task = |task_type: &str| Task::new(task_type, b"").map(|task| task.with_queue(QUEUE));
    client.enqueue(task("now")?).await?;
    client.enqueue_in(task("in a second")?, Duration::from_secs(1)).await?;
    let time = chrono::Utc::now() + chrono::TimeDelta::seconds(2);
    client.enqueue_at(task("at a time")?, time).await?;
    // The same as an option of the task.
    let later = task("in three seconds")?.with_process_in(Duration::from_secs(3));
    client.enqueue(later).await?;

    let system = server.system().ok_or(Error::other("the server has ended"))?;
    let inspector = Inspector::new(system.storage().await?);
    for info in inspector.list_tasks(QUEUE, TaskState::Scheduled, 1, 10).await? {
        if let Some(time) = info.next_process_at {
            println!("{} is scheduled for {}", info.task_type, time.format("%T UTC"));
        }
    }
    for _ in 0..4 {
        runs.recv()
            .await
            .ok_or(Error::other("the server ended before its tasks"))?;
    }
    server.shutdown().await;
    client.close().await;
    Ok(())
}

fn connector() -> Result<Arc<dyn Connector>> {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("REDIS_URL") {
        return Ok(Arc::new(asynq::redis::RedisConnectionType::single(url)?));
    }
    Ok(Arc::new(MemoryStore::new()))
}
