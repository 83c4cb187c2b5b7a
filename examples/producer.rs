//! A client, which enqueues tasks. The server that runs them is `consumer`.
//!
//! ```text
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example consumer    # in one terminal
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example producer    # in another, at any time
//! cargo run --example producer                                      # alone: embedded broker, no server
//! ```
//!
//! Expected: three mails, a receipt, and a digest that is due two seconds later are enqueued, each to its queue.
//! On Redis they wait for a server, written in Rust or Go. Without `REDIS_URL` no other program sees the storage,
//! so this one runs the tasks itself. It ends by itself with status 0.

mod common;

use std::{sync::Arc, time::Duration};

use asynq::{Client, Connector, Error, Result, Server, ServerConfig, Task, TaskInfo};
use serde::Serialize;
use tokio::sync::mpsc;

/// The payload of `email:send`. The consumer has a type of its own: both sides agree on the JSON alone.
#[derive(Serialize)]
struct Mail {
    to: String,
    subject: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;

    // Connects in the background; `ping` fails where no storage answers.
    let client = Client::new(Arc::clone(&storage)).await?;
    client.ping().await?;

    let mut enqueued = Vec::new();
    for user in ["ann", "bob", "cid"] {
        let mail = Mail {
            to: format!("{user}@example.com"),
            subject: "Welcome".to_owned(),
        };
        enqueued.push(client.enqueue(Task::new_with_json("email:send", &mail)?).await?);
    }
    let receipt = Task::new_with_json("receipt:print", &4711)?
        .with_queue("critical")
        .with_max_retry(5)
        .with_timeout(Duration::from_secs(30));
    enqueued.push(client.enqueue(receipt).await?);
    let digest = Task::new("digest:build", b"weekly")?.with_queue("low");
    enqueued.push(client.enqueue_in(digest, Duration::from_secs(2)).await?);

    for TaskInfo {
        id,
        queue,
        task_type,
        state,
        ..
    } in &enqueued
    {
        println!("enqueued {task_type:13} to {:8} ({state}) as {id}", queue.as_str());
    }
    // Sends the enqueues that still wait. Dropping the client does so in the background.
    client.close().await;

    if std::env::var_os("REDIS_URL").is_none() {
        println!("REDIS_URL is not set: no other program sees this storage, so the tasks are run here");
        consume(storage, enqueued.len()).await?;
    }
    Ok(())
}

/// Runs the tasks as `consumer` does, in short.
async fn consume(storage: Arc<dyn Connector>, tasks: usize) -> Result<()> {
    let (ran, mut runs) = mpsc::unbounded_channel();
    let config = ServerConfig::new().queues([("critical", 6), ("default", 3), ("low", 1)]);
    let mut server = Server::new(storage, config).await?;
    server
        .start(move |task: Task| {
            let ran = ran.clone();
            async move {
                let payload = String::from_utf8_lossy(task.get_payload());
                println!("running  {} {payload}", task.get_type());
                ran.send(()).map_err(Error::other)
            }
        })
        .await?;
    common::skip(&mut runs, tasks).await?;
    server.shutdown().await;
    Ok(())
}
