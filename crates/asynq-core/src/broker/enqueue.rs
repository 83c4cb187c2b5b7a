//! Requests to enqueue a task, and the place that it goes to.

use crate::{message::TaskMessage, names::GroupKey};
use chrono::{DateTime, Utc};
use prost::Message as _;
use std::time::Duration;

/// Largest number of bytes of messages in one call. The first item is accepted at any size.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// Size from which a message or a result may travel separately from smaller ones, so that these do not wait for its
/// bytes. A large one may then take effect after later requests.
pub const LARGE_BYTES: usize = 256 << 10;

/// The place of a new task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The end of its queue.
    Pending,
    /// The set of tasks that wait for this time. The time is kept to the millisecond, and its score is rounded down
    /// to seconds.
    Scheduled(DateTime<Utc>),
    /// Into a group.
    Group(GroupKey),
}

/// One task to enqueue, composed and checked.
#[derive(Clone, Debug)]
pub struct EnqueueRequest {
    /// The task. Its `unique_key` is set if and only if `unique_ttl` is set.
    pub message: TaskMessage,
    /// The place of the task.
    pub placement: Placement,
    /// Lifetime of the unique lock, counted from the moment the task is due.
    pub unique_ttl: Option<Duration>,
    /// The deadline to the millisecond, if it has a fraction of a second. The message has the deadline rounded down
    /// to seconds.
    pub deadline: Option<DateTime<Utc>>,
    /// The token that distinguishes an earlier attempt of the same request from another task with the same id
    /// (rules.md#ambiguous-is-a-state). The same request may be sent any number of times.
    pub token: u64,
}

impl EnqueueRequest {
    /// Returns the approximate size of the request in bytes, in memory and on its way to the storage: the encoded
    /// message, the texts of the request, and the memory of each header beyond its text.
    #[must_use]
    pub fn size(&self) -> usize {
        const FIXED: usize = 256;
        const HEADER: usize = 96;
        let group = match &self.placement {
            Placement::Group(group) => group.as_str().len(),
            Placement::Pending | Placement::Scheduled(_) => 0,
        };
        self.message.encoded_len() + group + HEADER * self.message.headers.len() + FIXED
    }
}
