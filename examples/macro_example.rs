//! Handlers that name their pattern, and payloads that name their task type.
//!
//! ```text
//! cargo run --example macro_example                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example macro_example    # the same on Redis
//! ```
//!
//! Expected: a mail, an image and a report are each handled by the function that names their type. The type of
//! the mail's payload sets the options of the mail. A real server would run until a signal; this one ends by
//! itself, with status 0, when its tasks are done.

mod common;

use std::sync::Arc;

use asynq::{
    Client, Result, ServeMux, Server, ServerConfig, Task, TaskContext, TaskPayload,
    extract::{Json, State},
    register_async_handlers, register_handlers,
    serve_mux::Next,
    task_handler, task_handler_async,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// A queue of its own: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-macros";

/// The payload of one task type, and the options of its tasks. An option that is not valid is a compile error.
#[derive(Serialize, Deserialize, TaskPayload)]
#[task(type = "email:send", queue = "example-macros", max_retry = 5, timeout = "30s")]
struct Mail {
    to: String,
}

/// State that handlers share.
struct Sender {
    address: &'static str,
}

/// Its arguments are made from the task. A type that cannot be made from a task is a compile error here.
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

/// Not async, so it runs on a thread where it may block.
#[task_handler("report:")]
fn build_report(task: Task) -> Result<()> {
    println!("report {}", task.get_type());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;

    let mut mux = ServeMux::new().with_state(Sender {
        address: "shop@example.com",
    });
    register_async_handlers!(mux, send_mail, resize);
    register_handlers!(mux, build_report);
    println!("patterns: {}", mux.patterns().collect::<Vec<_>>().join(", "));

    // Around all handlers: tells the program of each end, so that it knows when it is done.
    let (ended, mut ends) = mpsc::unbounded_channel();
    mux.wrap(move |task: Task, next: Next| {
        let ended = ended.clone();
        async move {
            let result = next.run(task).await;
            let _ = ended.send(());
            result
        }
    });
    let mut server = Server::new(Arc::clone(&storage), ServerConfig::new().queues([(QUEUE, 1)])).await?;
    server.start(mux).await?;

    let client = Client::new(storage).await?;
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
    common::skip(&mut ends, 3).await?;
    server.shutdown().await;
    client.close().await;
    Ok(())
}
