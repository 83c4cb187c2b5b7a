//! The half that enqueues. The half that runs the tasks is `consumer`.
//!
//! ```text
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example consumer    # in one terminal
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example producer    # in another, at any time
//! cargo run --example producer                                      # alone: embedded broker, no server
//! ```
//!
//! Expected: three mails, a receipt and a digest for two seconds later are enqueued, each to its queue. With
//! `REDIS_URL` they wait there for a server, ours or Go's. Without it the store lives in this program
//! alone, which therefore runs the tasks itself. It ends by itself with status 0.

use std::{sync::Arc, time::Duration};

use asynq::{
    Connector,
    client::Client,
    config::ServerConfig,
    error::{Error, Result},
    memory::MemoryStore,
    server::Server,
    task::{Task, TaskInfo},
};
use serde::Serialize;
use tokio::sync::mpsc;

/// What the consumer reads: both sides agree on the JSON, not on the Rust type.
#[derive(Serialize)]
struct Mail {
    to: String,
    subject: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let connector = connector()?;
    println!("broker: {}", connector.describe());

    // Connects in the background. `ping` says early whether anybody is there.
    let client = Client::new(Arc::clone(&connector)).await?;
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
    // Sends what still waits. Dropping the client does so as well, without waiting for it.
    client.close().await;

    if std::env::var_os("REDIS_URL").is_none() {
        println!("no REDIS_URL: the embedded store ends with this program, so the tasks are run here");
        consume(connector, enqueued.len()).await?;
    }
    Ok(())
}

/// The other half, in short. See `consumer`.
async fn consume(connector: Arc<dyn Connector>, tasks: usize) -> Result<()> {
    let (ran, mut runs) = mpsc::unbounded_channel();
    let config = ServerConfig::new().queues([("critical", 6), ("default", 3), ("low", 1)]);
    let mut server = Server::new(connector, config).await?;
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
    for _ in 0..tasks {
        runs.recv()
            .await
            .ok_or(Error::other("the server ended before its tasks"))?;
    }
    server.shutdown().await;
    Ok(())
}

fn connector() -> Result<Arc<dyn Connector>> {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("REDIS_URL") {
        return Ok(Arc::new(asynq::redis::RedisConnectionType::single(url)?));
    }
    Ok(Arc::new(MemoryStore::new()))
}
