//! What handlers call their result.

use asynq_core::{broker::LeaseRef, error::SettleError, keys};
use bytes::Bytes;

use super::lease::refusal;
use crate::{args::Args, broker::Core, reply::codes, scripts};

const OPERATION: &str = "write_result";

pub(crate) async fn write(core: &Core, lease: &LeaseRef, result: Bytes) -> Result<usize, SettleError> {
    let length = result.len();
    let mut args = Args::with_capacity(4)
        .text(lease.id.as_str())
        .text(lease.token.as_str())
        .int(lease.until.0);
    args.push_owned(result.into());
    let keys = vec![
        keys::task(&lease.queue, &lease.id).into_bytes(),
        keys::of_queue(&lease.queue, "lease").into_bytes(),
    ];
    let value = core.link.eval(&scripts::WRITE_RESULT, keys, args.done()).await?;
    match codes(OPERATION, value, 1)?.first() {
        Some(b'1') => Ok(length),
        code => Err(refusal(OPERATION, code.copied().unwrap_or_default())),
    }
}
