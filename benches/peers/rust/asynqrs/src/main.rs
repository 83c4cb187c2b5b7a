//! The published crate `asynqrs`, which has the layout of Go asynq, as a contestant.

use std::future::pending;

use anyhow::{Result, anyhow};
use asynqrs::{Config, EnqueueOptions, LogLevel, RedisBackedClient, RedisBackedServerBuilder, Task};
use contest::{Handler, Params, Queue};

#[derive(Clone)]
struct Asynqrs(RedisBackedClient);

impl Queue for Asynqrs {
    async fn connect(params: &Params) -> Result<Self> {
        let redis = redis::Client::open(params.url())?;
        Ok(Self(RedisBackedClient::from_redis_client(redis).await?))
    }

    async fn enqueue(&self, payload: String) -> Result<()> {
        let task = Task::new("bench:noop", payload);
        // The client is taken by `&mut`, and its clones share a connection.
        self.0.clone().enqueue_with_async(&task, EnqueueOptions::new()).await?;
        Ok(())
    }

    async fn work(params: Params, handler: Handler) -> Result<()> {
        let config = Config::builder()
            .concurrency(params.concurrency)
            .log_level(LogLevel::Fatal)
            .try_build()?;
        let redis = redis::Client::open(params.url())?;
        let work = move |task: &Task| {
            handler(task.payload());
            Ok(())
        };
        let server = RedisBackedServerBuilder::from_redis_client(redis, config);
        let _server = server.start(work).await.map_err(|error| anyhow!("{error:?}"))?;
        pending().await
    }
}

fn main() -> Result<()> {
    contest::run::<Asynqrs>()
}
