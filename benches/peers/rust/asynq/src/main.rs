//! The published crate `asynq`, which has the layout of Go asynq, as a contestant.

use std::sync::Arc;

use anyhow::Result;
use contest::{Handler, Params, Queue};
use published_asynq::{
    backend::RedisConnectionType,
    client::Client,
    config::ServerConfig,
    server::{HandlerFunc, Server},
    task::Task,
};

#[derive(Clone)]
struct Asynq(Arc<Client>);

impl Queue for Asynq {
    async fn connect(params: &Params) -> Result<Self> {
        let client = Client::new(RedisConnectionType::single(params.url())?).await?;
        client.ping().await?;
        Ok(Self(Arc::new(client)))
    }

    async fn enqueue(&self, payload: String) -> Result<()> {
        self.0.enqueue(Task::new("bench:noop", payload.as_bytes())?).await?;
        Ok(())
    }

    async fn work(params: Params, handler: Handler) -> Result<()> {
        let redis = RedisConnectionType::single(params.url())?;
        let config = ServerConfig::new().concurrency(params.concurrency);
        let mut server = Server::new(redis, config).await?;
        server
            .run(HandlerFunc::new(move |task: Task| {
                handler(task.get_payload());
                Ok(())
            }))
            .await?;
        Ok(())
    }
}

fn main() -> Result<()> {
    contest::run::<Asynq>()
}
