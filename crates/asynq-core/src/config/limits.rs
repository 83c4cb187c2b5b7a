//! Limits of settings.

use std::time::Duration;

use crate::options::MAX_MESSAGE_BYTES;

/// Largest number of tasks that one server runs at once. Our limit.
pub const MAX_CONCURRENCY: usize = 1_000_000;
/// Largest number of tasks that one server takes ahead of its slots. Our limit.
pub const MAX_PREFETCH: usize = 10_000;
/// The highest priority of a queue. Our limit.
pub const MAX_PRIORITY: i32 = 1_000_000;
/// The smallest limit for messages that can be set.
const MIN_MESSAGE_LIMIT: usize = 1 << 10;

/// Returns what is wrong with a limit for messages or results.
#[must_use]
pub fn message_limit_problem(bytes: usize) -> Option<String> {
    let (least, most) = (MIN_MESSAGE_LIMIT, MAX_MESSAGE_BYTES);
    (!(least..=most).contains(&bytes)).then(|| format!("must be {least} to {most}, not {bytes}"))
}

/// Returns what errors say of a time outside of its limits.
pub(super) fn outside(least: Duration, most: Duration, value: Duration) -> String {
    format!("must be {least:?} to {most:?}, not {value:?}")
}
