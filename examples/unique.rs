//! Unique tasks, which a queue holds once, and tasks with ids chosen by the application.
//!
//! ```text
//! cargo run --example unique                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example unique    # the same on Redis
//! ```
//!
//! Expected: a second report for May is refused while the first one waits, and accepted once that has run. A
//! report for June is accepted at once. A task with a chosen id is refused while a task of that id exists. A real
//! server would run until a signal; this one ends by itself, with status 0, when its tasks are done.

mod common;

use std::{sync::Arc, time::Duration};

use asynq::{Client, Error, Result, Server, ServerConfig, Task, TaskInfo, error::EnqueueError};
use tokio::sync::mpsc;

/// A queue of its own: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-unique";
/// The longest time that a lock is held; it is released earlier when its task ends.
const TTL: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;
    let client = Client::new(Arc::clone(&storage)).await?;

    // The lock is on queue, type and payload together.
    tell("may", client.enqueue_unique(report("may")?, TTL).await)?;
    tell("may, again", client.enqueue_unique(report("may")?, TTL).await)?;
    tell("june", client.enqueue_unique(report("june")?, TTL).await)?;

    // A task with a chosen id is refused while a task of that id exists, whatever its state.
    let invoice = Task::new("invoice:send", b"7")?
        .with_queue(QUEUE)
        .with_task_id("invoice-7");
    tell("invoice 7", client.enqueue(invoice.clone()).await)?;
    tell("invoice 7, again", client.enqueue(invoice).await)?;

    let (ran, mut runs) = mpsc::unbounded_channel();
    let mut server = Server::new(storage, ServerConfig::new().queues([(QUEUE, 1)])).await?;
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
    common::skip(&mut runs, 3).await?;
    let system = server.system().ok_or(Error::other("the server has ended"))?;
    // Returns when the outcomes are written, which releases the locks.
    system.drain().await;
    system.resume_fetching();

    tell("may, once more", client.enqueue_unique(report("may")?, TTL).await)?;
    common::next(&mut runs).await?;
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
