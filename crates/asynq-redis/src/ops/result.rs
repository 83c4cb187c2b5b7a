//! Results and progress, which handlers write.

use asynq_core::{
    broker::LeaseRef,
    error::{BrokerError, SettleError},
    keys::{self, field, own},
    progress::Progress,
};
use bytes::Bytes;

use super::lease::refusal;
use crate::{args::Args, broker::core::Core, reply::codes, scripts};

const OPERATION: &str = "write_result";

pub(crate) async fn write(core: &Core, lease: &LeaseRef, result: Bytes) -> Result<usize, SettleError> {
    let length = result.len();
    write_field(core, lease, field::RESULT, result).await.map(|()| length)
}

pub(crate) async fn write_progress(core: &Core, lease: &LeaseRef, progress: &Progress) -> Result<(), SettleError> {
    progress
        .check()
        .map_err(|error| BrokerError::Refused { source: error.into() })?;
    write_field(core, lease, own::PROGRESS, progress.encode()).await
}

async fn write_field(core: &Core, lease: &LeaseRef, field: &str, value: Bytes) -> Result<(), SettleError> {
    let mut args = Args::with_capacity(5)
        .text(lease.id.as_str())
        .text(lease.token.as_str())
        .int(lease.until.0)
        .text(field);
    args.push(value);
    let keys = Args::from_iter([
        keys::task(&lease.queue, &lease.id),
        keys::of_queue(&lease.queue, "lease"),
    ]);
    let value = core.link.eval_apart(&scripts::WRITE_RESULT, keys, args).await?;
    match codes(OPERATION, value, 1)?.first() {
        Some(b'1') => Ok(()),
        code => Err(refusal(OPERATION, code.copied().unwrap_or_default())),
    }
}
