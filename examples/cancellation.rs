//! Runs that are told to end.
//!
//! ```text
//! cargo run --example cancellation                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example cancellation    # the same on Redis
//! ```
//!
//! Expected: three tasks that would never end do. An async handler is dropped at the point where it
//! waits; a blocking one has to look whether it is to end; a timeout ends the third. None may be retried,
//! so each is archived with the reason. A real server would run until a signal; this one ends by itself,
//! with status 0, when its tasks are done.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq::{
    Connector, ErrorHandler,
    client::Client,
    config::ServerConfig,
    error::{Error, Result},
    inspector::Inspector,
    memory::MemoryStore,
    serve_mux::ServeMux,
    server::Server,
    task::{Task, TaskContext, TaskState},
};
use tokio::sync::mpsc;

/// Its own queue: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-cancellation";

/// Says so when the run that holds it is over, however it ends: what a handler must give back goes
/// into a `Drop` like this one.
struct Desk(&'static str);

impl Drop for Desk {
    fn drop(&mut self) {
        println!("{}: the desk is cleared", self.0);
    }
}

/// Hears of each run that failed.
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
    let connector = connector()?;
    println!("broker: {}", connector.describe());

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
            // A step of the work.
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
    let mut server = Server::new(Arc::clone(&connector), config).await?;
    server.start(mux).await?;
    let system = server.system().ok_or(Error::other("the server has ended"))?;
    let storage = system.storage().await?;

    let client = Client::new(connector).await?;
    let slow = Task::new("slow", b"")?.with_timeout(Duration::from_secs(1));
    let mut tasks = Vec::new();
    for task in [Task::new("async", b"")?, Task::new("blocking", b"")?, slow] {
        tasks.push(client.enqueue(task.with_queue(QUEUE).with_max_retry(0)).await?);
    }
    for _ in 0..2 {
        let id = starts.recv().await.ok_or(Error::other("the server has ended"))?;
        println!("cancelling {id}");
        // As the tools of Go asynq do it: every server hears of it. For a task that is known to run in
        // this process there is `AsynqSystem::cancel_task`.
        storage.publish_cancellation(&id).await?;
    }
    for _ in &tasks {
        failures.recv().await.ok_or(Error::other("the server has ended"))?;
    }
    system.drain().await;

    let inspector = Inspector::new(storage);
    for task in tasks {
        let info = inspector.get_task_info(QUEUE, task.id.as_str()).await?;
        assert_eq!(info.state, TaskState::Archived);
        println!("{} is archived: {}", info.task_type, info.last_error);
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
