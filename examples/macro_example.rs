//! Handlers that name their pattern, and payloads that name their task type.
//!
//! ```text
//! cargo run --example macro_example                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example macro_example    # the same on Redis
//! ```
//!
//! Expected: a mail, an image and a report, each run by the function that names its type. The options of
//! the mail come from its payload's type. A real server would run until a signal; this one ends by
//! itself, with status 0, when its tasks are done.

use std::sync::Arc;

use asynq::{
    Connector, TaskPayload,
    client::Client,
    config::ServerConfig,
    error::{Error, Result},
    extract::{Json, State},
    memory::MemoryStore,
    register_async_handlers, register_handlers,
    serve_mux::{Next, ServeMux},
    server::Server,
    task::{Task, TaskContext},
    task_handler, task_handler_async,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Its own queue: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-macros";

/// The payload of one task type, with the options of every such task. Mistakes are compile errors.
#[derive(Serialize, Deserialize, TaskPayload)]
#[task(type = "email:send", queue = "example-macros", max_retry = 5, timeout = "30s")]
struct Mail {
    to: String,
}

/// What handlers share.
struct Sender {
    address: &'static str,
}

/// The arguments are made from the task. One that cannot be is a compile error here.
#[task_handler_async("email:send")]
async fn send_mail(mail: Mail, sender: State<Sender>, run: TaskContext) -> Result<()> {
    println!(
        "mail from {} to {}, {} retries left",
        sender.address,
        mail.to,
        run.max_retry() - run.retried()
    );
    Ok(())
}

#[task_handler_async("image:resize")]
async fn resize(Json(width): Json<u32>) {
    println!("image of {width} pixels");
}

/// Not async: it runs on a thread where it may block.
#[task_handler("report:")]
fn build_report(task: Task) -> Result<()> {
    println!("report {}", task.get_type());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let connector = connector()?;
    println!("broker: {}", connector.describe());

    let mut mux = ServeMux::new().with_state(Sender {
        address: "shop@example.com",
    });
    register_async_handlers!(mux, send_mail, resize);
    register_handlers!(mux, build_report);
    println!("patterns: {:?}", mux.patterns().collect::<Vec<_>>());

    // Around all handlers: this program wants to know when it is done.
    let (ended, mut ends) = mpsc::unbounded_channel();
    mux.wrap(move |task: Task, next: Next| {
        let ended = ended.clone();
        async move {
            let result = next.run(task).await;
            let _ = ended.send(());
            result
        }
    });
    let mut server = Server::new(Arc::clone(&connector), ServerConfig::new().queues([(QUEUE, 1)])).await?;
    server.start(mux).await?;

    let client = Client::new(connector).await?;
    let mail = Mail {
        to: "ann@example.com".to_owned(),
    };
    let info = client.enqueue(mail).await?;
    println!("enqueued {} to {}", info.task_type, info.queue);
    for task in [
        Task::new_with_json("image:resize", &320)?,
        Task::new("report:may", b"")?,
    ] {
        let info = client.enqueue(task.with_queue(QUEUE)).await?;
        println!("enqueued {} to {}", info.task_type, info.queue);
    }
    for _ in 0..3 {
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
