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
    let stopped = system.clone();
    let serve = axum::serve(listener, routes).with_graceful_shutdown(async move {
        stopped.wait().await;
    });
    // At a signal the system ends: what runs may end, the rest goes back to its queues. Then the service does. A
    // system that failed ends the program with an error.
    let (served, end) = tokio::join!(serve.into_future(), system.run_until_signal());
    served?;
    match end? {
        Exit::Stopped => Ok(()),
        exit => anyhow::bail!("the system ended: {exit:?}"),
    }
}
