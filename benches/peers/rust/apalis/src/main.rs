//! The published crate `apalis-redis` as a contestant.

use std::time::Duration;

use anyhow::{Result, anyhow};
use apalis::prelude::*;
use apalis_redis::{Config, ConnectionManager, RedisStorage};
use contest::{Handler, Params, Queue};
use futures::stream;

#[derive(Clone)]
struct Apalis(RedisStorage<String, ConnectionManager>);

/// The queue, which is the start of all keys.
const QUEUE: &str = "default";

/// Pause after which a worker that found nothing looks again. Nothing else wakes it before its next heartbeat, half a minute
/// later; there is no default.
const PAUSE: Duration = Duration::from_millis(10);

async fn storage(params: &Params) -> Result<RedisStorage<String, ConnectionManager>> {
    let config = Config::default()
        .queue(QUEUE)
        // As many as may run; no fewer than its default.
        .batch_size(params.concurrency.clamp(10, 1000))
        // As its documentation has it for tasks that last shorter than a heartbeat.
        .lock_tasks(false)
        .emit_events(false);
    Ok(RedisStorage::new(apalis_redis::connect(params.url()).await?).with_config(config))
}

impl Queue for Apalis {
    const BULK: bool = true;

    async fn connect(params: &Params) -> Result<Self> {
        Ok(Self(storage(params).await?))
    }

    async fn enqueue(&self, payload: String) -> Result<()> {
        self.0.clone().push(payload).await.map_err(|error| anyhow!("{error:?}"))
    }

    async fn enqueue_bulk(&self, payloads: Vec<String>) -> Result<()> {
        let mut payloads = stream::iter(payloads);
        let mut storage = self.0.clone();
        storage
            .push_stream(&mut payloads)
            .await
            .map_err(|error| anyhow!("{error:?}"))
    }

    async fn work(params: Params, handler: Handler) -> Result<()> {
        let worker = WorkerBuilder::new("bench")
            .backend(storage(&params).await?.poll_with_interval(PAUSE))
            .concurrency(params.concurrency)
            .build(move |payload: String| {
                handler(payload.as_bytes());
                std::future::ready(Ok::<(), BoxDynError>(()))
            });
        worker.run().await.map_err(|error| anyhow!("{error:?}"))
    }
}

fn main() -> Result<()> {
    contest::run::<Apalis>()
}
