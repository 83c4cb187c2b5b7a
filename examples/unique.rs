//! Tasks that are in the queue once.
//!
//! ```text
//! cargo run --example unique                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example unique    # the same on Redis
//! ```
//!
//! Expected: a second report for the same month is refused while the first is waiting, one for another
//! month is not, and one more is taken once the first has run. A task with an id of its own is refused
//! while that id is known. A real server would run until a signal; this one ends by itself, with status
//! 0, when its tasks are done.

use std::{sync::Arc, time::Duration};

use asynq::{
    Connector,
    client::Client,
    config::ServerConfig,
    error::{EnqueueError, Error, Result},
    memory::MemoryStore,
    server::Server,
    task::{Task, TaskInfo},
};
use tokio::sync::mpsc;

/// Its own queue: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-unique";
/// The lock ends with the task, and at the latest after this time.
const TTL: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let connector = connector()?;
    println!("broker: {}", connector.describe());
    let client = Client::new(Arc::clone(&connector)).await?;

    // The lock is on queue, type and payload together.
    tell("may", client.enqueue_unique(report("may")?, TTL).await)?;
    tell("may, again", client.enqueue_unique(report("may")?, TTL).await)?;
    tell("june", client.enqueue_unique(report("june")?, TTL).await)?;

    // With an id of its own a task is refused as long as the task of that id exists, in any state.
    let invoice = Task::new("invoice:send", b"7")?
        .with_queue(QUEUE)
        .with_task_id("invoice-7");
    tell("invoice 7", client.enqueue(invoice.clone()).await)?;
    tell("invoice 7, again", client.enqueue(invoice).await)?;

    let (ran, mut runs) = mpsc::unbounded_channel();
    let mut server = Server::new(connector, ServerConfig::new().queues([(QUEUE, 1)])).await?;
    server
        .start(move |task: Task| {
            let ran = ran.clone();
            async move {
                println!(
                    "running {} {}",
                    task.get_type(),
                    String::from_utf8_lossy(task.get_payload())
                );
                ran.send(()).map_err(Error::other)
            }
        })
        .await?;
    for _ in 0..3 {
        runs.recv()
            .await
            .ok_or(Error::other("the server ended before its tasks"))?;
    }
    let system = server.system().ok_or(Error::other("the server has ended"))?;
    // Until the outcomes are written, and the locks are given up with them.
    system.drain().await;
    system.resume_fetching();

    tell("may, once more", client.enqueue_unique(report("may")?, TTL).await)?;
    runs.recv()
        .await
        .ok_or(Error::other("the server ended before its tasks"))?;
    server.shutdown().await;
    client.close().await;
    Ok(())
}

fn report(month: &str) -> Result<Task> {
    Ok(Task::new("report:build", month.as_bytes())?.with_queue(QUEUE))
}

fn tell(what: &str, answer: Result<TaskInfo>) -> Result<()> {
    match answer {
        Ok(info) => println!("{what}: enqueued as {}", info.id),
        Err(Error::Enqueue(refused @ (EnqueueError::DuplicateTask | EnqueueError::TaskIdConflict))) => {
            println!("{what}: refused, {refused}");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn connector() -> Result<Arc<dyn Connector>> {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("REDIS_URL") {
        return Ok(Arc::new(asynq::redis::RedisConnectionType::single(url)?));
    }
    Ok(Arc::new(MemoryStore::new()))
}
