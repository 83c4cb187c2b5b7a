//! The waits between attempts to connect.

use std::time::Duration;

use asynq_core::broker::Env;

/// The first wait between two attempts to connect; it doubles.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest wait.
const BACKOFF_MOST: Duration = Duration::from_secs(2);
/// A connection that stood so long was a good one: waits begin anew.
pub(crate) const STOOD_WELL: Duration = Duration::from_secs(10);
/// Interval at which a lasting outage is reported.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Half of it fixed, half by chance, so that many clients do not come at once.
pub(crate) fn backoff(env: &Env, attempt: u32) -> Duration {
    let most = BACKOFF_FIRST.saturating_mul(1 << attempt.min(10)).min(BACKOFF_MOST);
    // The first attempt after a loss comes almost at once.
    let fixed = if attempt == 0 { Duration::ZERO } else { most / 2 };
    fixed + env.entropy.up_to(most / 2)
}
