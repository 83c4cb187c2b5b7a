//! What is enqueued, and where it goes.

use crate::{message::TaskMessage, names::GroupKey};
use chrono::{DateTime, Utc};
use prost::Message as _;
use std::time::Duration;

/// How many bytes of messages one call carries at most, the first item excepted.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// From so many bytes on, a message or a result may travel apart from smaller ones, so that these do not wait for
/// its bytes; it may then be carried out after what was sent later.
pub const LARGE_BYTES: usize = 256 << 10;

/// Where a new task goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// To the end of its queue.
    Pending,
    /// To wait until then, to the millisecond; the score is floored to seconds.
    Scheduled(DateTime<Utc>),
    /// Into a group.
    Group(GroupKey),
}

/// One task to enqueue, composed and checked.
#[derive(Clone, Debug)]
pub struct EnqueueRequest {
    /// The task. Its `unique_key` is set exactly if `unique_ttl` is.
    pub message: TaskMessage,
    /// Where it goes.
    pub placement: Placement,
    /// How long the lock lives, counted from the moment the task is due.
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
