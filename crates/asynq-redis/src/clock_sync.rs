//! The wall clock against that of Redis (SAFETY rule 22).

use std::time::Duration;

use asynq_core::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use redis::Value;
use tokio::time::{Instant, sleep};

/// Who tells the time of the server.
pub(crate) trait Timekeeper: Sync {
    /// What TIME answers; `None` if it does not.
    fn time(&self) -> impl Future<Output = Option<Value>> + Send;
}

/// How often the offset is measured.
const EVERY: Duration = Duration::from_secs(60);
/// An answer that took longer says too little.
const LONGEST_TRIP: Duration = Duration::from_secs(1);
/// From here on the clock is corrected.
fn threshold() -> TimeDelta {
    TimeDelta::seconds(1)
}

/// Measures the offset and corrects a system clock. Other clocks are left alone, and so is the
/// correction in force when the server does not tell its time.
pub(crate) async fn sync(clock: &Clock, server: &impl Timekeeper) {
    if !clock.is_system() {
        return;
    }
    if let Some(measured) = measure(clock, server).await {
        apply(clock, measured);
    }
}

/// [`sync`] each minute, for ever.
pub(crate) async fn keep_in_sync(clock: &Clock, server: &impl Timekeeper) {
    loop {
        sleep(EVERY).await;
        sync(clock, server).await;
    }
}

/// How far the server's clock is ahead of the uncorrected one.
async fn measure(clock: &Clock, server: &impl Timekeeper) -> Option<TimeDelta> {
    let asked_at = clock.now() - clock.offset();
    let asked = Instant::now();
    let answer = server.time().await?;
    let trip = asked.elapsed();
    if trip > LONGEST_TRIP {
        return None;
    }
    let half = TimeDelta::from_std(trip / 2).ok()?;
    Some(server_time(&answer)? - (asked_at + half))
}

fn server_time(answer: &Value) -> Option<DateTime<Utc>> {
    let (secs, micros): (i64, u32) = redis::from_redis_value_ref(answer).ok()?;
    DateTime::from_timestamp(secs, micros.checked_mul(1000)?)
}

fn apply(clock: &Clock, measured: TimeDelta) {
    let correction = if measured.abs() >= threshold() {
        measured
    } else {
        TimeDelta::zero()
    };
    let step = correction - clock.offset();
    if correction != TimeDelta::zero() && step.abs() >= threshold() {
        tracing::warn!(
            offset_ms = measured.num_milliseconds(),
            "the clock of this host differs from that of Redis; leases follow Redis",
        );
    }
    clock.set_offset(correction);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_from_one_second_on() {
        let clock = Clock::system();
        apply(&clock, TimeDelta::milliseconds(-999));
        assert_eq!(clock.offset(), TimeDelta::zero());
        apply(&clock, TimeDelta::milliseconds(-1000));
        assert_eq!(clock.offset(), TimeDelta::seconds(-1));
        apply(&clock, TimeDelta::milliseconds(300));
        assert_eq!(clock.offset(), TimeDelta::zero());
    }

    #[test]
    fn time_has_seconds_and_microseconds() {
        let part = |text: &str| Value::BulkString(text.into());
        let time = server_time(&Value::Array(vec![part("1700000000"), part("250000")])).unwrap();
        assert_eq!(time.timestamp_millis(), 1_700_000_000_250);
        assert_eq!(server_time(&Value::Array(vec![part("x"), part("250000")])), None);
    }
}
