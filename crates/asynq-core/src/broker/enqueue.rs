//! Requests to enqueue a task, and the place that it goes to.

use crate::{message::TaskMessage, names::GroupKey};
use chrono::{DateTime, Utc};
use prost::Message as _;
use std::time::Duration;

/// Largest number of bytes of messages in one call, the first item excepted.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// Size from which a message or a result may travel apart from smaller ones, so that these do not wait for its
/// bytes; it may then be carried out after later requests.
pub const LARGE_BYTES: usize = 256 << 10;

/// The place of a new task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The end of its queue.
    Pending,
    /// The set of tasks that wait for this time, kept to the millisecond; the score is floored to seconds.
    Scheduled(DateTime<Utc>),
    /// Into a group.
    Group(GroupKey),
}

/// One task to enqueue, composed and checked.
#[derive(Clone, Debug)]
pub struct EnqueueRequest {
    /// The task. Its `unique_key` is set exactly if `unique_ttl` is.
    pub message: TaskMessage,
    /// The place of the task.
    pub placement: Placement,
    /// Lifetime of the unique lock, counted from the moment the task is due.
    pub unique_ttl: Option<Duration>,
    /// The deadline, where it has a fraction of a second: that of the message is floored. Kept to the
    /// millisecond.
    pub deadline: Option<DateTime<Utc>>,
    /// Tells our own earlier attempt from a stranger's task (rules.md#ambiguous-is-a-state). The same request may
    /// be sent again and again.
    pub token: u64,
}

impl EnqueueRequest {
    /// About how many bytes the request takes, in memory and on its way to the storage: the encoded
    /// message, the texts beside it, and what each header costs beyond its text.
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
