//! Parts that the examples share: the storage, and the wait for the last task.
#![allow(dead_code, reason = "each example uses a part of this")]

use std::sync::Arc;

use asynq::{Connector, Error, Result, memory::MemoryStore};
use tokio::sync::mpsc::UnboundedReceiver;

/// Returns the Redis at `REDIS_URL` if that is set, else the embedded broker, which needs no server.
pub(crate) fn storage() -> Result<Arc<dyn Connector>> {
    let storage = choose()?;
    println!("storage: {}", storage.describe());
    Ok(storage)
}

fn choose() -> Result<Arc<dyn Connector>> {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("REDIS_URL") {
        return Ok(Arc::new(asynq::redis::RedisConnectionType::single(url)?));
    }
    Ok(Arc::new(MemoryStore::new()))
}

/// Waits for the next message of a handler.
pub(crate) async fn next<T>(messages: &mut UnboundedReceiver<T>) -> Result<T> {
    let message = messages.recv().await;
    message.ok_or(Error::other("the server ended before its tasks"))
}

/// Waits for as many messages of handlers, and drops them.
pub(crate) async fn skip<T>(messages: &mut UnboundedReceiver<T>, count: usize) -> Result<()> {
    for _ in 0..count {
        next(messages).await?;
    }
    Ok(())
}
