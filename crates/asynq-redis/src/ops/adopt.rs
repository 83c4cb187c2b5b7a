//! Adoption of the tasks that a call without answer took.

use std::sync::{Arc, atomic::Ordering};

use asynq_core::{
    broker::{CallRecord, LeaseRef, LeaseUntil, LeasedTask, MAX_BATCH_BYTES},
    clock::from_exact_millis,
    error::BrokerError,
    keys,
    names::QueueName,
};

use super::{
    exchange::decode,
    quarantine::{self, Fence},
};
use crate::{
    args::{Args, bound, keys_of},
    broker::core::Core,
    reply::Reply,
    scripts,
};

const OPERATION: &str = "adopt";
/// Number of entries of `active` that one call looks at: about a millisecond of Redis.
const ENTRIES: i64 = 500;
/// Number of times that the walk may lose its place before it is given up; the caller begins another one.
const RESTARTS: u32 = 20;

/// A task as it was found: its id, its message, its lease, and its deadline in ms where that is no whole second.
type Found = (Vec<u8>, Vec<u8>, LeaseUntil, Option<i64>);

pub(crate) async fn adopt(core: &Core, queue: &QueueName, lost: &CallRecord) -> Result<Vec<LeasedTask>, BrokerError> {
    let key = keys::of_queue(queue, "active");
    match core.link.kill(lost.connection, key.as_bytes()).await {
        Ok(()) => {}
        Err(BrokerError::Unsupported { what }) => {
            // An adoption is tried again and again: told once, and not at all in a cluster, where it
            // cannot be otherwise.
            if core.may_kill.swap(false, Ordering::Relaxed) {
                tracing::warn!(%queue, what, "cannot make sure that a lost call is over; it may still take tasks");
            } else {
                tracing::debug!(%queue, what, "the lost call may still take tasks");
            }
        }
        Err(error) => return Err(error),
    }
    core.refresh_clock().await;
    let until = LeaseUntil::from_now(core.now());
    let mut found: Vec<Found> = Vec::new();
    let (mut position, mut before, mut restarts) = (0, Vec::new(), 0);
    loop {
        let mut args = Args::with_capacity(9)
            .text(&keys::queue_prefix(queue))
            .text(lost.token.as_str())
            .int(lost.lease_until.0)
            .int(until.0)
            .int(position);
        args.push(&before);
        let args = args
            .int(ENTRIES)
            .int(bound(MAX_BATCH_BYTES))
            .int(core.now().timestamp());
        let value = core
            .link
            .eval(&scripts::ADOPT, keys_of(queue, &["active", "lease"]), args)
            .await?;
        let mut reply = Reply::of_script(OPERATION, value)?;
        position = reply.int()?;
        before = reply.bytes()?;
        let mut tasks = reply.list()?;
        let fruitless = tasks.is_empty();
        while !tasks.is_empty() {
            let (id, msg, until) = (tasks.bytes()?, tasks.bytes()?, LeaseUntil(tasks.int()?));
            let deadline = tasks.millis()?;
            // A walk that began anew meets some again.
            if !found.iter().any(|(known, ..)| *known == id) {
                found.push((id, msg, until, deadline));
            }
        }
        for (id, kind) in reply.list()?.damaged()? {
            tracing::warn!(%queue, %id, %kind, "a task cannot be used and was put aside");
        }
        match position {
            -2 if restarts == RESTARTS => {
                return Err(BrokerError::unavailable(
                    "the list of active tasks changes too fast to be searched",
                ));
            }
            -2 => {
                restarts += 1;
                (position, before) = (0, Vec::new());
            }
            // One take leaves its ids side by side.
            _ if position < 0 || (fruitless && !found.is_empty()) => break,
            _ => {}
        }
    }

    let mut adopted = Vec::with_capacity(found.len());
    // The list shows the last one taken first.
    for (raw_id, msg, until, deadline) in found.into_iter().rev() {
        match decode(queue, &raw_id, msg) {
            Ok((id, message)) => {
                let lease = LeaseRef {
                    queue: queue.clone(),
                    id,
                    token: lost.token.clone(),
                    until,
                };
                adopted.push(LeasedTask {
                    deadline: deadline.and_then(|millis| from_exact_millis(message.deadline, millis)),
                    pending_since: None,
                    message: Arc::new(message),
                    lease,
                });
            }
            Err((_, kind)) => {
                quarantine::put_aside(core, queue, &raw_id, kind, Fence::Take(&lost.token)).await;
            }
        }
    }
    Ok(adopted)
}
