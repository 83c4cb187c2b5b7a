//! Groups of tasks, and the sets that are made of them.

use super::take::LeaseUntil;
use crate::{
    message::TaskMessage,
    names::{GroupKey, QueueName},
};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;

/// Time for which an aggregation set belongs to the server that made it.
pub const AGGREGATION_SET_LIFETIME: Duration = Duration::from_secs(120);
/// Largest number of tasks in an aggregation set, also if no size is set. Further tasks stay in their group, for the
/// next set.
pub const MAX_AGGREGATION_SET: u32 = 10_000;

/// Limits at which a group is aggregated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Quiet time after the newest task; truncated to seconds.
    pub grace: Duration,
    /// Longest wait of the oldest task; `None`: no limit.
    pub max_delay: Option<Duration>,
    /// Largest number of tasks in one set, at most [`MAX_AGGREGATION_SET`]. `None` means [`MAX_AGGREGATION_SET`].
    pub max_size: Option<u32>,
}

impl GroupLimits {
    /// Returns the number of tasks that makes a group full, which is also the limit of one set.
    #[must_use]
    pub fn most(&self) -> u32 {
        let asked = self.max_size.filter(|size| *size > 0);
        asked.unwrap_or(MAX_AGGREGATION_SET).min(MAX_AGGREGATION_SET)
    }
}

/// Tasks of one group, taken together to be made into one.
#[derive(Clone, Debug)]
pub struct AggregationSet {
    /// The queue.
    pub queue: QueueName,
    /// The group.
    pub group: GroupKey,
    /// The id of the set, a UUID v4.
    pub id: String,
    /// The tasks, oldest first.
    pub tasks: Vec<Arc<TaskMessage>>,
    /// Time at which the set is handed back to its group unless it is extended.
    pub until: LeaseUntil,
}

impl LeaseUntil {
    /// Returns the end of an aggregation set that is [given up](super::Broker::release_aggregation): `now` if `wait`
    /// is zero, else the first whole second that is not before `now` + `wait`. The end is at most one
    /// [lifetime](AGGREGATION_SET_LIFETIME) from now.
    #[must_use]
    pub fn of_release(now: DateTime<Utc>, wait: Duration) -> Self {
        let over = now + wait.min(AGGREGATION_SET_LIFETIME);
        let part = !wait.is_zero() && over.timestamp_subsec_nanos() > 0;
        Self(over.timestamp() + i64::from(part))
    }
}
