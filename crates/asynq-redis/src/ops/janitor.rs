//! Completed tasks whose retention is over.

use asynq_core::{broker::MAX_BATCH, error::BrokerError, keys, names::QueueName};

use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::{int, scalar},
    scripts,
};

const OPERATION: &str = "delete_expired";

pub(crate) async fn delete_expired(core: &Core, queue: &QueueName, limit: u32) -> Result<u32, BrokerError> {
    core.refresh_clock().await;
    let mut deleted = 0;
    while deleted < limit {
        let most = (limit - deleted).min(MAX_BATCH);
        let args = Args::with_capacity(3)
            .text(&keys::queue_prefix(queue))
            .int(core.now().timestamp())
            .int(i64::from(most));
        let value = core
            .link
            .eval(&scripts::DELETE_EXPIRED, keys_of(queue, &["completed"]), args)
            .await?;
        let count = int(OPERATION, scalar(OPERATION, value)?)?;
        let count = u32::try_from(count).unwrap_or(0).min(most);
        deleted += count;
        if count < most {
            break;
        }
    }
    Ok(deleted)
}
