//! A server, which runs tasks. The client that enqueues them is `producer`.
//!
//! ```text
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example consumer    # in one terminal
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example producer    # in another, at any time
//! cargo run --example consumer                                      # alone: embedded broker, no server
//! ```
//!
//! Expected: the tasks of the producer are run. Of those that wait in several queues, one of the queue with the
//! highest weight is the most likely to be next. Without `REDIS_URL` no other program can enqueue, so this one
//! enqueues a few tasks itself. A real server would run until TERM or INT (Ctrl-C), and this one ends on
//! them too. It also ends by itself, with status 0, after 30 s without a task (3 s without `REDIS_URL`).

mod common;

use std::{sync::Arc, time::Duration};

use asynq::{Client, Connector, Error, Result, Server, ServerConfig, Task};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
    subject: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;
    let patience = match std::env::var_os("REDIS_URL") {
        Some(_) => Duration::from_secs(30),
        None => {
            println!("REDIS_URL is not set: no other program sees this storage, so the tasks are enqueued here");
            produce(Arc::clone(&storage)).await?;
            Duration::from_secs(3)
        }
    };

    // Of ten tasks taken while all queues have some, about six are critical, three default, one low.
    let config = ServerConfig::new()
        .concurrency(4)
        .queues([("critical", 6), ("default", 3), ("low", 1)]);
    let mut server = Server::new(storage, config).await?;
    let (ran, mut runs) = mpsc::unbounded_channel();
    // `ran` outlives the server, so the channel stays open and only a quiet time ends the loop below.
    let sender = ran.clone();
    let handler = move |task: Task| {
        let ran = sender.clone();
        async move {
            process(&task)?;
            ran.send(()).map_err(Error::other)
        }
    };
    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(patience, runs.recv()).await {} };

    // A real server needs no more than `server.run(handler).await?`.
    tokio::select! {
        ended = server.run(handler) => ended?,
        () = quiet => println!("no task came for {patience:?}"),
    }
    server.shutdown().await;
    println!("the server has ended");
    Ok(())
}

fn process(task: &Task) -> Result<()> {
    match task.get_type() {
        "email:send" => {
            let mail: Mail = task.get_payload_with_json()?;
            println!("sending \"{}\" to {}", mail.subject, mail.to);
        }
        "receipt:print" => println!("printing receipt {}", task.get_payload_with_json::<u32>()?),
        "digest:build" => println!("building the {} digest", String::from_utf8_lossy(task.get_payload())),
        other => return Err(Error::skip_retry(format!("no handler for {other}"))),
    }
    Ok(())
}

/// Enqueues as `producer` does, in short.
async fn produce(storage: Arc<dyn Connector>) -> Result<()> {
    let client = Client::new(storage).await?;
    let mail = Mail {
        to: "ann@example.com".to_owned(),
        subject: "Welcome".to_owned(),
    };
    client.enqueue(Task::new_with_json("email:send", &mail)?).await?;
    let receipt = Task::new_with_json("receipt:print", &4711)?.with_queue("critical");
    client.enqueue(receipt).await?;
    let digest = Task::new("digest:build", b"weekly")?.with_queue("low");
    client.enqueue_in(digest, Duration::from_secs(2)).await?;
    client.close().await;
    Ok(())
}
