//! One tick of a periodic task, as the storage decides it.

use crate::{
    info::TaskInfo,
    names::QueueName,
    options::{MAX_DURATION, MIN_DURATION},
    periodic::{EntryKey, OnConflict, TickMark, TickOutcome},
};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;

/// Number of enqueue events that are kept for a scheduler entry.
pub const MAX_SCHEDULER_EVENTS: u32 = 1000;
/// Time for which a scheduler that lost the answer to a tick can still learn the decision.
pub const TICK_RECEIPT: Duration = Duration::from_secs(3600);

/// One time at which a periodic task is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The periodic task.
    pub entry: EntryKey,
    /// Due time; floored to seconds.
    pub at: DateTime<Utc>,
    /// Shortest distance from the last tick, rounded up to whole seconds, and at least one second. Zero for a cron
    /// spec. For `@every` it is the period, so that schedulers that started in different seconds agree on one tick in
    /// each period.
    pub gap: Duration,
    /// Time for which the tick is recorded: 1 s to 100 years. Usually 7 days or three periods, whichever is longer.
    pub keep: Duration,
    /// The name of the scheduler that makes the request, different for each scheduler. The last tick of the entry
    /// that this scheduler decided is recorded for [`TICK_RECEIPT`]. The scheduler can thus learn the decision if the
    /// answer was lost, whatever happened to the task and to later ticks.
    pub by: Arc<str>,
    /// Policy for a task id that is taken.
    pub on_conflict: OnConflict,
    /// `true` if the call may decide the tick. `false` if it only returns whether this request decided the tick
    /// before; nothing is then written.
    pub decide: bool,
}

/// Start of the period of an entry that had no tick yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickStart {
    /// Its queue.
    pub queue: QueueName,
    /// The periodic task.
    pub entry: EntryKey,
    /// Time from which its period counts; floored to seconds.
    pub at: DateTime<Utc>,
    /// Time for which the start is remembered, as [`Tick::keep`].
    pub keep: Duration,
}

impl TickStart {
    /// Returns what is remembered.
    #[must_use]
    pub fn mark(&self) -> TickMark {
        TickMark {
            at: self.at.timestamp(),
            token: 0,
            outcome: TickOutcome::Started,
        }
    }

    /// [`keep`](Self::keep) as storages take it: milliseconds, within its limits.
    #[must_use]
    pub fn keep_millis(&self) -> i64 {
        millis(self.keep)
    }
}

impl Tick {
    /// [`gap`](Self::gap) as storages take it: whole seconds, at least one.
    #[must_use]
    pub fn gap_secs(&self) -> i64 {
        let whole = self.gap.min(MAX_DURATION);
        let secs = whole.as_secs() + u64::from(whole.subsec_nanos() > 0);
        i64::try_from(secs.max(1)).unwrap_or(i64::MAX)
    }

    /// [`keep`](Self::keep) as storages take it: milliseconds, within its limits.
    #[must_use]
    pub fn keep_millis(&self) -> i64 {
        millis(self.keep)
    }
}

/// The answer to [`Broker::enqueue_tick`](super::Broker::enqueue_tick).
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one is made for each tick, and it is usually the large one"
)]
pub enum Ticked {
    /// The tick is this request's, and its task was enqueued.
    Enqueued(TaskInfo),
    /// The tick was not accepted, and nothing was written. This tick or a later one was decided before, or the
    /// distance from the last tick or the start of the period is too short. Also the answer to a request that [only
    /// asks](Tick::decide) and did not decide the tick.
    Taken {
        /// The last tick that was decided, or the start of the period. If no mark exists, the tick of the request.
        last: DateTime<Utc>,
    },
}

fn millis(keep: Duration) -> i64 {
    i64::try_from(keep.clamp(MIN_DURATION, MAX_DURATION).as_millis()).unwrap_or(i64::MAX)
}
