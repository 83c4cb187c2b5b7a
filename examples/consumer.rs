//! The half that runs tasks. The half that enqueues them is `producer`.
//!
//! ```text
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example consumer    # in one terminal
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example producer    # in another, at any time
//! cargo run --example consumer                                      # alone: embedded broker, no server
//! ```
//!
//! Expected: the tasks of the producer are run; where several queues have some, those of the queue with
//! the highest weight are the most likely to come next. A real consumer would run until TERM or INT
//! (Ctrl-C), and this one ends on them too. As an example it also ends by itself, with status 0, when no
//! task has come for 30 s. Without `REDIS_URL` no other program can enqueue, so it enqueues a few tasks
//! itself, and waits for 3 s.

use std::{sync::Arc, time::Duration};

use asynq::{
    Connector,
    client::Client,
    config::ServerConfig,
    error::{Error, Result},
    memory::MemoryStore,
    server::Server,
    task::Task,
};
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
    let connector = connector()?;
    println!("broker: {}", connector.describe());
    let patience = match std::env::var_os("REDIS_URL") {
        Some(_) => Duration::from_secs(30),
        None => {
            println!("no REDIS_URL: nobody else sees the embedded store, so the tasks are enqueued here");
            produce(Arc::clone(&connector)).await?;
            Duration::from_secs(3)
        }
    };

    // Of ten tasks taken while all queues have some, about six are critical, three default, one low.
    let config = ServerConfig::new()
        .concurrency(4)
        .queues([("critical", 6), ("default", 3), ("low", 1)]);
    let mut server = Server::new(connector, config).await?;
    let (ran, mut runs) = mpsc::unbounded_channel();
    // The sender here outlives the server: only silence counts as quiet, not the server's end.
    let sender = ran.clone();
    let handler = move |task: Task| {
        let ran = sender.clone();
        async move {
            process(&task)?;
            ran.send(()).map_err(Error::other)
        }
    };
    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(patience, runs.recv()).await {} };

    // A real consumer is `server.run(handler).await?` and nothing else.
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
            println!("sending {:?} to {}", mail.subject, mail.to);
        }
        "receipt:print" => println!("printing receipt {}", task.get_payload_with_json::<u32>()?),
        "digest:build" => println!("building the {} digest", String::from_utf8_lossy(task.get_payload())),
        other => return Err(Error::skip_retry(format!("{other} is unknown here"))),
    }
    Ok(())
}

/// The other half, in short. See `producer`.
async fn produce(connector: Arc<dyn Connector>) -> Result<()> {
    let client = Client::new(connector).await?;
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

fn connector() -> Result<Arc<dyn Connector>> {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("REDIS_URL") {
        return Ok(Arc::new(asynq::redis::RedisConnectionType::single(url)?));
    }
    Ok(Arc::new(MemoryStore::new()))
}
