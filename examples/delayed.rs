//! Delayed tasks, which run after a delay or at a time.
//!
//! ```text
//! cargo run --example delayed                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example delayed    # the same on Redis
//! ```
//!
//! Expected: one task runs at once, one after a second, one at a time two seconds from now, one after three
//! seconds. A real server would run until a signal; this one ends by itself, with status 0, when its tasks are
//! done.

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use asynq::{Client, Error, Inspector, Result, Server, ServerConfig, Task, TaskState};
use tokio::sync::mpsc;

/// A queue of its own: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-delayed";

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;

    let begin = Instant::now();
    let (ran, mut runs) = mpsc::unbounded_channel();
    let mut server = Server::new(Arc::clone(&storage), ServerConfig::new().queues([(QUEUE, 1)])).await?;
    server
        .start(move |task: Task| {
            let ran = ran.clone();
            async move {
                println!("after {:.1?}: {}", begin.elapsed(), task.get_type());
                ran.send(()).map_err(Error::other)
            }
        })
        .await?;

    let client = Client::new(Arc::clone(&storage)).await?;
    let task = |task_type: &str| Task::new(task_type, b"").map(|task| task.with_queue(QUEUE));
    client.enqueue(task("now")?).await?;
    client.enqueue_in(task("in a second")?, Duration::from_secs(1)).await?;
    let time = chrono::Utc::now() + chrono::TimeDelta::seconds(2);
    client.enqueue_at(task("at a time")?, time).await?;
    // The same as an option of the task.
    let later = task("in three seconds")?.with_process_in(Duration::from_secs(3));
    client.enqueue(later).await?;

    let inspector = Inspector::connect(storage).await?;
    for info in inspector.list_tasks(QUEUE, TaskState::Scheduled, 1, 10).await? {
        if let Some(time) = info.next_process_at {
            println!("{} is scheduled for {}", info.task_type, time.format("%T UTC"));
        }
    }
    common::skip(&mut runs, 4).await?;
    server.shutdown().await;
    client.close().await;
    Ok(())
}
