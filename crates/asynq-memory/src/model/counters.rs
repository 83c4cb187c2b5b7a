//! The counters of a queue: `processed`, `failed` and both of them by day.

use std::collections::BTreeMap;

use asynq_core::{broker::STATS_TTL, keys};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};

/// Counters by the suffix of their key. One whose time is over is absent.
#[derive(Debug, Default)]
pub(crate) struct Counters(BTreeMap<String, Counter>);

/// One counter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counter {
    /// Its value.
    pub value: i64,
    /// End of its lifetime; `None` for totals.
    pub expires: Option<DateTime<Utc>>,
}

impl Counter {
    fn stands(&self, now: DateTime<Utc>) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

impl Counters {
    /// Counts a task that was processed, or that failed, which counts as processed too. A counter
    /// in `damaged` is left as it is.
    pub(crate) fn count(&mut self, failed: bool, now: DateTime<Utc>, damaged: impl Fn(&str) -> bool) {
        let kinds: &[&str] = if failed {
            &["processed", "failed"]
        } else {
            &["processed"]
        };
        // Go restarts both totals when the total of processed tasks is at the limit, and compares
        // as doubles.
        #[allow(clippy::cast_precision_loss, reason = "the comparison is Go's: as doubles")]
        let full = self
            .get("processed", now)
            .is_some_and(|value| value as f64 == i64::MAX as f64);
        let day = keys::day(now);
        for kind in kinds {
            let daily = format!("{kind}:{day}");
            if !damaged(&daily) {
                self.increment(daily, now, true);
            }
            if damaged(kind) {
                continue;
            }
            if full {
                self.put((*kind).to_owned(), 1, None);
            } else {
                self.increment((*kind).to_owned(), now, false);
            }
        }
    }

    /// INCR; a value at the limit stays, as INCR refuses it.
    fn increment(&mut self, suffix: String, now: DateTime<Utc>, daily: bool) {
        match self.0.get_mut(&suffix).filter(|counter| counter.stands(now)) {
            Some(counter) => {
                counter.value = counter.value.saturating_add(1);
                if daily && counter.value == 1 {
                    counter.expires = end_of_stats(now);
                }
            }
            None => self.put(suffix, 1, if daily { end_of_stats(now) } else { None }),
        }
    }

    /// SET.
    pub(crate) fn put(&mut self, suffix: String, value: i64, expires: Option<DateTime<Utc>>) {
        self.0.insert(suffix, Counter { value, expires });
    }

    /// Returns when the counter ends.
    pub(crate) fn expiry(&self, suffix: &str) -> Option<DateTime<Utc>> {
        self.0.get(suffix)?.expires
    }

    /// DEL.
    pub(crate) fn remove(&mut self, suffix: &str) {
        self.0.remove(suffix);
    }

    /// GET.
    pub(crate) fn get(&self, suffix: &str, now: DateTime<Utc>) -> Option<i64> {
        self.0
            .get(suffix)
            .filter(|counter| counter.stands(now))
            .map(|counter| counter.value)
    }

    /// The counters that stand.
    pub(crate) fn iter(&self, now: DateTime<Utc>) -> impl Iterator<Item = (&String, &Counter)> {
        self.0.iter().filter(move |(_, counter)| counter.stands(now))
    }

    /// Gives the memory of expired counters back.
    pub(crate) fn sweep(&mut self, now: DateTime<Utc>) {
        self.0.retain(|_, counter| counter.stands(now));
    }
}

/// Returns whether a key of this suffix is a counter.
pub(crate) fn is_counter(suffix: &str) -> bool {
    matches!(suffix.split(':').next(), Some("processed" | "failed"))
}

/// Returns when a counter that begins now ends: a whole second, as EXPIREAT takes it.
fn end_of_stats(now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (now + STATS_TTL).duration_trunc(TimeDelta::seconds(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(secs, 500_000_000).unwrap()
    }

    #[test]
    fn a_failure_counts_twice_and_days_end_after_ninety() {
        let mut counters = Counters::default();
        let now = at(1_700_000_000);
        counters.count(false, now, |_| false);
        counters.count(true, now, |_| false);
        assert_eq!(counters.get("processed", now), Some(2));
        assert_eq!(counters.get("failed:2023-11-14", now), Some(1));
        let ninety = 90 * 24 * 3600;
        assert_eq!(
            counters.get("processed:2023-11-14", at(1_700_000_000 + ninety - 1)),
            Some(2)
        );
        assert_eq!(counters.get("processed:2023-11-14", at(1_700_000_000 + ninety)), None);
        assert_eq!(counters.get("processed", at(1_700_000_000 + ninety)), Some(2));
        counters.sweep(at(1_700_000_000 + ninety));
        assert_eq!(counters.0.len(), 2);
    }

    #[test]
    fn a_total_at_the_limit_of_doubles_restarts_both() {
        let (mut counters, now) = (Counters::default(), at(1_700_000_000));
        counters.put("processed".into(), i64::MAX - 500, None);
        counters.put("failed".into(), 77, None);
        counters.count(true, now, |_| false);
        assert_eq!(
            (counters.get("processed", now), counters.get("failed", now)),
            (Some(1), Some(1))
        );
        counters.put("processed".into(), i64::MAX - 2000, None);
        counters.count(false, now, |_| false);
        assert_eq!(counters.get("processed", now), Some(i64::MAX - 1999));
    }

    #[test]
    fn a_damaged_counter_harms_only_itself() {
        let (mut counters, now) = (Counters::default(), at(1_700_000_000));
        counters.count(true, now, |suffix| suffix == "processed");
        assert_eq!(
            (counters.get("processed", now), counters.get("failed", now)),
            (None, Some(1))
        );
    }
}
