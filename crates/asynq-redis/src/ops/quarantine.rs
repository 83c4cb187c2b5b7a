//! Quarantine: entries that cannot be decoded are put aside, where neither this library nor Go looks at them again.

use asynq_core::{
    broker::{CallToken, LeaseUntil},
    error::PoisonKind,
    keys,
    names::QueueName,
};

use crate::{args::Args, broker::core::Core, scripts};

/// Evidence that the task is still as it was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fence<'f> {
    /// Active and taken by this call.
    Take(&'f CallToken),
    /// Its lease is this one.
    Lease(LeaseUntil),
    /// The task is in the set of this key.
    Member(&'f str),
}

/// Puts a task aside, and says whether it is out of the way now. If not, it is found again.
pub(crate) async fn put_aside(core: &Core, queue: &QueueName, id: &[u8], kind: PoisonKind, fence: Fence<'_>) -> bool {
    let lease = keys::of_queue(queue, "lease");
    let container = match fence {
        Fence::Take(_) | Fence::Lease(_) => keys::of_queue(queue, "active"),
        Fence::Member(set) => set.to_owned(),
    };
    let (name, value) = match fence {
        Fence::Take(token) => ("take", token.as_str().to_owned()),
        Fence::Lease(until) => ("lease", until.0.to_string()),
        Fence::Member(_) => ("member", String::new()),
    };
    let mut args = Args::default().text(&keys::queue_prefix(queue));
    args.push(id);
    let args = args.int(core.now().timestamp()).text(&value).text(name);
    let keys = Args::from_iter([container, lease]);
    let id = String::from_utf8_lossy(id);
    match core.link.eval(&scripts::QUARANTINE, keys, args).await {
        Ok(_) => {
            tracing::warn!(%queue, %id, %kind, "a task cannot be used and was put aside");
            true
        }
        Err(error) => {
            tracing::warn!(%queue, %id, %kind, %error, "a task can neither be used nor put aside");
            false
        }
    }
}
