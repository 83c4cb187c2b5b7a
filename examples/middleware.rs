//! Middleware, which runs around the handlers of a mux.
//!
//! ```text
//! cargo run --example middleware                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example middleware    # the same on Redis
//! ```
//!
//! Expected: a line before and after each run, with its duration. At most two images are drawn at once. A task
//! without the header `tenant` is archived and does not reach its handler. A real server would run until a signal;
//! this one ends by itself, with status 0, when its tasks are done.

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use asynq::{
    Client, Error, Result, ServeMux, Server, ServerConfig, Task,
    serve_mux::{Middleware, Next},
};
use tokio::sync::{Semaphore, mpsc};

/// A queue of its own: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-middleware";

/// A middleware that measures: an async function is one.
async fn timed(task: Task, next: Next) -> Result<()> {
    let name = format!("{} {}", task.get_type(), String::from_utf8_lossy(task.get_payload()));
    println!("> {name}");
    let begin = Instant::now();
    let result = next.run(task).await;
    let outcome = result.as_ref().map_or_else(ToString::to_string, |()| "done".to_owned());
    println!("< {name}: {outcome} after {:.0?}", begin.elapsed());
    result
}

/// A middleware that guards: it returns an error instead of calling the next one.
async fn with_tenant(task: Task, next: Next) -> Result<()> {
    if !task.headers().contains_key("tenant") {
        return Err(Error::skip_retry("no tenant is named"));
    }
    next.run(task).await
}

/// A middleware with state, which limits how many of its handlers run at once.
struct Limit(Semaphore);

#[async_trait]
impl Middleware for Limit {
    async fn process_task(&self, task: Task, next: Next) -> Result<()> {
        let _permit = self.0.acquire().await.map_err(Error::other)?;
        next.run(task).await
    }
}

/// A middleware that tells the program of each end.
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
    let storage = common::storage()?;

    // Around the handlers of images only.
    let mut images = ServeMux::new();
    images.wrap(Limit(Semaphore::new(2)));
    images.handle_async_func("image:draw", |_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    });

    // Around all handlers, and around "handler not found". The first one is the outermost.
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new();
    mux.wrap(Tell(ended)).wrap(timed).wrap(with_tenant);
    mux.handle("image:", images);
    mux.handle_func("email:", |_| Ok(()));

    let config = ServerConfig::new().concurrency(6).queues([(QUEUE, 1)]);
    let mut server = Server::new(Arc::clone(&storage), config).await?;
    server.start(mux).await?;

    let client = Client::new(storage).await?;
    let mut tasks = vec![Task::new("email:send", b"without tenant")?];
    tasks.push(Task::new("email:send", b"with tenant")?.with_header("tenant", "blue"));
    for image in ["a", "b", "c", "d"] {
        tasks.push(Task::new("image:draw", image.as_bytes())?.with_header("tenant", "blue"));
    }
    let tasks = tasks.into_iter().map(|task| task.with_queue(QUEUE));
    let answers = client.enqueue_many(tasks).await;
    let enqueued = answers.into_iter().collect::<Result<Vec<_>>>()?;
    common::skip(&mut ends, enqueued.len()).await?;
    server.shutdown().await;
    client.close().await;
    Ok(())
}
