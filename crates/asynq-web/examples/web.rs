//! The web server on the embedded broker, beside a system that runs tasks: everything in one process, no Redis.
//!
//! ```text
//! cargo run --example web                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example web     # the same on Redis
//! # then open http://127.0.0.1:8080
//! ```
//!
//! `WEB_ADDR` sets another address, `WEB_SECONDS` the time after which the example ends; without it it runs until Ctrl-C. Some tasks fail, some are slow, a periodic one comes
//! every ten seconds.

use std::{env, time::Duration};

use anyhow::Result;
use asynq::{
    AsynqSystem, Client, Connector, Error, ServerConfig, Task, memory::MemoryStore, redis::RedisConnectionType,
};
use asynq_web::{
    Web,
    serve::{Listen, WebServer},
};
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};

#[tokio::main]
async fn main() -> Result<()> {
    match env::var("REDIS_URL") {
        Ok(url) => {
            let redis = RedisConnectionType::single(url)?;
            let web = Web::connect_redis(redis.clone()).await?;
            run(redis, web).await
        }
        Err(_) => {
            let storage = MemoryStore::new();
            let web = Web::connect(storage.clone()).await?;
            run(storage, web).await
        }
    }
}

async fn run(storage: impl Connector, web: Web) -> Result<()> {
    let system = AsynqSystem::builder(storage)
        .config(
            ServerConfig::new()
                .concurrency(8)
                .queues([("critical", 6), ("default", 3), ("low", 1)]),
        )
        .handler(work)
        .spawn()
        .await?;
    let mut producer = JoinSet::new();
    producer.spawn(produce(system.client()));

    let address = env::var("WEB_ADDR").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let server = WebServer::bind(web, Listen::on(address.parse()?)).await?;
    println!(
        "the pages are at {0}, the API at {0}/api/v1/queues, the metrics at {0}/metrics",
        server.url()
    );
    server.run(end()).await?;
    producer.abort_all();
    system.shutdown().await;
    Ok(())
}

/// Waits for Ctrl-C, or for the time that `WEB_SECONDS` sets.
async fn end() {
    let seconds = env::var("WEB_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    match seconds {
        Some(seconds) => sleep(Duration::from_secs(seconds)).await,
        None => tokio::signal::ctrl_c().await.unwrap_or_default(),
    }
}

/// Enqueues a few tasks each second.
async fn produce(client: Client) -> asynq::Result<()> {
    let mut ticks = interval(Duration::from_secs(1));
    for number in 0_u32.. {
        ticks.tick().await;
        client
            .enqueue(Task::new_with_json("email:send", &number)?.with_queue("critical"))
            .await?;
        client.enqueue(Task::new_with_json("report:build", &number)?).await?;
        if number % 5 == 0 {
            let payment = Task::new_with_json("payment:charge", &number)?.with_max_retry(3);
            client.enqueue(payment).await?;
        }
        if number % 10 == 0 {
            let digest = Task::new_with_json("email:digest", &number)?.with_queue("low");
            client.enqueue(digest.with_process_in(Duration::from_secs(60))).await?;
        }
    }
    Ok(())
}

/// Runs a task: reports are slow, and payments fail.
async fn work(task: Task) -> asynq::Result<()> {
    match task.get_type() {
        "report:build" => sleep(Duration::from_millis(1500)).await,
        "payment:charge" => return Err(Error::other("card declined: issuer did not answer")),
        _ => sleep(Duration::from_millis(40)).await,
    }
    Ok(())
}
