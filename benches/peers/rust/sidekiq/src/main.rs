//! The published crate `rusty-sidekiq`, which has the layout of Sidekiq, as a contestant.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use bb8::Pool;
use contest::{Handler, Params, Queue};
use sidekiq::{Processor, ProcessorConfig, RedisConnectionManager, RedisPool, Worker};

/// Connections of a pool that is not said to be larger.
const POOL: usize = 10;
/// Largest number of connections that callers share.
const CALLERS: usize = 50;
/// Connections of a worker beside those on which its slots wait.
const MORE: usize = 5;

#[derive(Clone)]
struct Sidekiq(RedisPool);

#[derive(Clone)]
struct Noop(Option<Handler>);

#[async_trait]
impl Worker<(String,)> for Noop {
    async fn perform(&self, (payload,): (String,)) -> sidekiq::Result<()> {
        if let Some(handler) = &self.0 {
            handler(payload.as_bytes());
        }
        Ok(())
    }

    /// The arguments are a tuple of one, and are not to be taken out of it.
    fn disable_argument_coercion(&self) -> bool {
        true
    }
}

async fn pool(params: &Params, connections: usize) -> Result<RedisPool> {
    let manager = RedisConnectionManager::new(params.url())?;
    Ok(Pool::builder()
        .max_size(u32::try_from(connections)?)
        .build(manager)
        .await?)
}

impl Queue for Sidekiq {
    async fn connect(params: &Params) -> Result<Self> {
        let callers = params.callers.max(1) * params.bulk.max(1);
        Ok(Self(pool(params, callers.clamp(POOL, CALLERS)).await?))
    }

    async fn enqueue(&self, payload: String) -> Result<()> {
        Ok(Noop::perform_async(&self.0, (payload,)).await?)
    }

    async fn work(params: Params, handler: Handler) -> Result<()> {
        // A pool of its own, with a connection for each slot, as its documentation advises.
        let redis = pool(&params, params.concurrency + MORE).await?;
        let config = ProcessorConfig::default().num_workers(params.concurrency);
        let mut processor = Processor::new(redis, vec!["default".to_owned()]).with_config(config);
        processor.register(Noop(Some(Arc::clone(&handler))));
        processor.run().await;
        Ok(())
    }
}

fn main() -> Result<()> {
    contest::run::<Sidekiq>()
}
