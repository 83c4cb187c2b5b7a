//! Statistics that servers of this library add up and keep in the storage, so that tools can show them without a
//! monitoring system: by queue, task type and minute, the outcomes of runs, and histograms of the time that runs took
//! and that tasks waited.
//!
//! Each server adds up its own runs in memory, and writes what is new every [`INTERVAL`]: the [`Bucket`] of each minute
//! and of each hour, as a field of its own in a hash of the queue (`docs/wire-format/ours.md#statistics`). A write has the
//! whole bucket, so it can be repeated, and several servers write into the same minute without a word to each other. A
//! reader adds up the fields of all servers. What a server that is killed had not written is lost, at most the last
//! [`INTERVAL`].
//!
//! Minutes are kept for [`MINUTES_KEPT`], hours for [`HOURS_KEPT`], and go by themselves. Servers of Go asynq write no
//! statistics; their runs are missing here.

mod bucket;
mod counts;
mod histogram;
mod range;
mod stored;

use std::time::Duration;

pub use self::{
    bucket::{Bucket, TypeStatistics, kept_type},
    counts::{RunCounts, RunEnd},
    histogram::Histogram,
    range::{Adding, MAX_POINTS, Point, QueueStatistics, RangeError, Span, StatisticsPart, Step, TimeRange},
    stored::MAX_BUCKET_BYTES,
};

/// Time between two writes of a server.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Time for which the bucket of a minute is kept, from the end of its hour.
pub const MINUTES_KEPT: Duration = Duration::from_secs(48 * 3600);
/// Time for which the bucket of an hour is kept, from the end of its day (UTC).
pub const HOURS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Largest number of task types that a bucket tells apart. All others are counted together under [`OTHER`].
pub const MAX_TYPES: usize = 500;
/// Largest number of bytes of a task type that a bucket keeps. A longer one is cut and ends with `…`; types that are
/// equal then are counted together.
pub const MAX_TYPE_BYTES: usize = 128;
/// The name under which a bucket counts the types beyond [`MAX_TYPES`]. A task type of this name is counted with them.
pub const OTHER: &str = "other";
/// Largest number of task types, of all points together, that an answer tells apart. Those beyond it are counted under [`OTHER`] of
/// their point.
pub const MAX_READ_TYPES: usize = 100_000;
/// Largest number of buckets of all servers that the storage keeps for an hour by minute, or for a day by hour, of a
/// queue. Buckets beyond that are not kept.
pub const MAX_BUCKETS: usize = 10_000;
