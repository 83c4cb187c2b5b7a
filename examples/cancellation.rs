//! Cancelled runs, and runs that exceed their timeout.
//!
//! ```text
//! cargo run --example cancellation                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example cancellation    # the same on Redis
//! ```
//!
//! Expected: three handlers that would never return are ended. An async one is dropped where it awaits, a blocking
//! one checks whether it is cancelled, and the third exceeds its timeout. The tasks have no retries, so each is
//! archived with the reason. A real server would run until a signal; this one ends by itself, with status 0, when
//! its tasks are done.

mod common;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq::{
    Client, Error, ErrorHandler, Inspector, Result, ServeMux, Server, ServerConfig, Task, TaskContext, TaskState,
};
use tokio::sync::mpsc;

/// A queue of its own: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-cancellation";

/// A resource of a handler. It is released by its `Drop`, which is called however the run ends.
struct Desk(&'static str);

impl Drop for Desk {
    fn drop(&mut self) {
        println!("{}: the desk is cleared", self.0);
    }
}

/// Called after every failed run.
struct Reporter(mpsc::UnboundedSender<()>);

#[async_trait]
impl ErrorHandler for Reporter {
    async fn handle_error(&self, task: &Task, error: &Error) {
        println!("{} failed: {error}", task.get_type());
        let _ = self.0.send(());
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;

    let (started, mut starts) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new();
    let sender = started.clone();
    mux.route_on("async", move |run: TaskContext| {
        let started = sender.clone();
        async move {
            let _desk = Desk("async");
            drop(started.send(run.id().clone()));
            std::future::pending::<Result<()>>().await
        }
    });
    mux.handle_func("blocking", move |task| {
        let _desk = Desk("blocking");
        let run = task.context().ok_or(Error::other("not in a run"))?;
        drop(started.send(run.id().clone()));
        while !run.is_cancelled() {
            // One step of the work.
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Err(Error::other("the work was given up"))
    });
    mux.handle_async_func("slow", |_| async {
        let _desk = Desk("slow");
        std::future::pending().await
    });

    let (failed, mut failures) = mpsc::unbounded_channel();
    let config = ServerConfig::new()
        .concurrency(3)
        .queues([(QUEUE, 1)])
        .error_handler(Reporter(failed));
    let mut server = Server::new(Arc::clone(&storage), config).await?;
    server.start(mux).await?;
    let system = server.system().ok_or(Error::other("the server has ended"))?;

    let client = Client::new(Arc::clone(&storage)).await?;
    let inspector = Inspector::connect(storage).await?;
    let slow = Task::new("slow", b"")?.with_timeout(Duration::from_secs(1));
    let mut tasks = Vec::new();
    for task in [Task::new("async", b"")?, Task::new("blocking", b"")?, slow] {
        tasks.push(client.enqueue(task.with_queue(QUEUE).with_max_retry(0)).await?);
    }
    for _ in 0..2 {
        let id = starts.recv().await.ok_or(Error::other("the server has ended"))?;
        println!("cancelling {id}");
        // Every server is asked, as by the tools of Go asynq; the one that runs the task cancels it.
        inspector.cancel_processing(id.as_str()).await?;
    }
    for _ in &tasks {
        failures.recv().await.ok_or(Error::other("the server has ended"))?;
    }
    system.drain().await;

    for task in tasks {
        let info = inspector.get_task_info(QUEUE, task.id.as_str()).await?;
        assert_eq!(info.state, TaskState::Archived);
        println!("{} is archived: {}", info.task_type, info.last_error);
    }
    server.shutdown().await;
    client.close().await;
    Ok(())
}
