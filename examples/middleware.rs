//! Middleware: what is done around every handler of a mux.
//!
//! ```text
//! cargo run --example middleware                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example middleware    # the same on Redis
//! ```
//!
//! Expected: a line before and after each run, with its time; two images at most are drawn at once; a
//! task without the header that names its tenant is archived and never reaches its handler. A real
//! server would run until a signal; this one ends by itself, with status 0, when its tasks are done.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use asynq::{
    Connector,
    client::Client,
    config::ServerConfig,
    error::{Error, Result},
    memory::MemoryStore,
    serve_mux::{Middleware, Next, ServeMux},
    server::Server,
    task::Task,
};
use tokio::sync::{Semaphore, mpsc};

/// Its own queue: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-middleware";

/// A function is a middleware.
async fn timed(task: Task, next: Next) -> Result<()> {
    let name = format!("{} {}", task.get_type(), String::from_utf8_lossy(task.get_payload()));
    println!("> {name}");
    let begin = Instant::now();
    let result = next.run(task).await;
    let outcome = result.as_ref().map_or_else(ToString::to_string, |()| "done".to_owned());
    println!("< {name}: {outcome} after {:.0?}", begin.elapsed());
    result
}

/// One that decides: it may return without calling what comes next.
async fn with_tenant(task: Task, next: Next) -> Result<()> {
    if !task.headers().contains_key("tenant") {
        return Err(Error::skip_retry("no tenant is named"));
    }
    next.run(task).await
}

/// One with state: at most so many runs at once of what it is around.
struct Limit(Semaphore);

#[async_trait]
impl Middleware for Limit {
    async fn process_task(&self, task: Task, next: Next) -> Result<()> {
        let _permit = self.0.acquire().await.map_err(Error::other)?;
        next.run(task).await
    }
}

/// Tells the program of each end.
struct Tell(mpsc::UnboundedSender<()>);

#[async_trait]
impl Middleware for Tell {
    async fn process_task(&self, task: Task, next: Next) -> Result<()> {
        let result = next.run(task).await;
        let _ = self.0.send(());
        result
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let connector = connector()?;
    println!("broker: {}", connector.describe());

    // Around the images only.
    let mut images = ServeMux::new();
    images.wrap(Limit(Semaphore::new(2)));
    images.handle_async_func("image:draw", |_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    });

    // Around everything, and around "handler not found": the first is the outermost.
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new();
    mux.wrap(Tell(ended)).wrap(timed).wrap(with_tenant);
    mux.handle("image:", images);
    mux.handle_func("email:", |_| Ok(()));

    let config = ServerConfig::new().concurrency(6).queues([(QUEUE, 1)]);
    let mut server = Server::new(Arc::clone(&connector), config).await?;
    server.start(mux).await?;

    let client = Client::new(connector).await?;
    let mut tasks = vec![Task::new("email:send", b"without tenant")?];
    tasks.push(Task::new("email:send", b"with tenant")?.with_header("tenant", "blue"));
    for image in ["a", "b", "c", "d"] {
        tasks.push(Task::new("image:draw", image.as_bytes())?.with_header("tenant", "blue"));
    }
    let tasks = tasks.into_iter().map(|task| task.with_queue(QUEUE));
    let answers = client.enqueue_many(tasks).await;
    let enqueued = answers.into_iter().collect::<Result<Vec<_>>>()?;
    for _ in enqueued {
        ends.recv()
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
