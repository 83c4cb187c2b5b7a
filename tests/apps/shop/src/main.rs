//! `cargo run -p shop`: the service on the embedded broker, or on the Redis at `REDIS_URL`, until TERM or INT.

use std::sync::Arc;

use asynq::{Connector, Exit, memory::MemoryStore, redis::RedisConnectionType};
use shop::{http, work};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt::init();
    let connector: Arc<dyn Connector> = match std::env::var("REDIS_URL") {
        Ok(url) => Arc::new(RedisConnectionType::single(url)?),
        Err(_) => Arc::new(MemoryStore::new()),
    };
    let system = work::start(connector, work::World::default()).await?;

    let routes = http::router(system.client(), system.storage().await?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    // Ends the system at a signal: what runs may end, the rest goes back to its queues. It tells how it ended, so that
    // a system that failed ends the program with an error.
    let end = tokio::spawn({
        let system = system.clone();
        async move { system.run_until_signal().await }
    });
    let stopped = system.clone();
    axum::serve(listener, routes)
        .with_graceful_shutdown(async move {
            stopped.wait().await;
        })
        .await?;
    match end.await?? {
        Exit::Stopped => Ok(()),
        exit => anyhow::bail!("the system ended: {exit:?}"),
    }
}
