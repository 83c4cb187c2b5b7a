//! `cargo run -p shop`: the service on the embedded broker, on the Redis at `REDIS_URL`, or on the cluster with
//! `REDIS_NODES`, until TERM or INT. It listens at `ADDRESS`, has its labels printed at `PRINTER`, and at its end lets
//! tasks run on for `GRACE_SECONDS`.

use std::{env, sync::Arc, time::Duration};

use asynq::{Connector, Exit, memory::MemoryStore, redis::RedisConnectionType};
use shop::{http, work};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt::init();
    let connector: Arc<dyn Connector> = match (env::var("REDIS_URL"), env::var("REDIS_NODES")) {
        (Ok(url), _) => Arc::new(RedisConnectionType::single(url)?),
        (_, Ok(nodes)) => Arc::new(RedisConnectionType::cluster(nodes.split(','))?),
        _ => Arc::new(MemoryStore::new()),
    };
    let world = match env::var("PRINTER") {
        Ok(address) => work::World::with_printer(address),
        Err(_) => work::World::default(),
    };
    let grace = env::var("GRACE_SECONDS").map_or(Ok(8), |seconds| seconds.parse())?;
    let system = work::start(connector, world, Duration::from_secs(grace)).await?;

    let routes = http::router(system.client(), system.storage().await?);
    let address = env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
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
