//! A histogram of durations with fixed bounds.

use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

/// Upper bounds of the first four classes, in nanoseconds: a millisecond, and its products with the powers of the fourth
/// root of two. Those of later classes are the same, doubled again and again.
const FIRST: [u64; 4] = [1_000_000, 1_189_207, 1_414_214, 1_681_793];
/// Number of times that the first bounds are doubled.
const DOUBLINGS: usize = 30;
/// The last class with an upper bound: 12.4 days.
const LAST: usize = FIRST.len() * DOUBLINGS;
/// Number of classes. The last one has no upper bound.
pub(super) const CLASSES: usize = LAST + 2;

/// The upper bound of a class, in nanoseconds.
fn bound(class: usize) -> u64 {
    let class = class.min(LAST);
    FIRST[class % FIRST.len()] << (class / FIRST.len())
}

/// The class of a duration.
fn class_of(nanos: u64) -> usize {
    if nanos <= FIRST[0] {
        return 0;
    }
    let doubling = ((nanos - 1) / FIRST[0]).ilog2() as usize;
    if doubling >= DOUBLINGS {
        return LAST + 1;
    }
    let first = FIRST.len() * doubling + 1;
    (first..first + FIRST.len())
        .find(|class| nanos <= bound(*class))
        .unwrap_or(LAST + 1)
}

/// A distribution of durations: their number in each of 122 fixed classes, and their sum. Four classes span a doubling,
/// from 1 ms to 12.4 days. The first class has all shorter durations, the last one all longer ones.
///
/// Histograms can be added to each other, since their bounds are fixed. As JSON a histogram has `count`, `sum`, and, if
/// it is not empty, `mean`, `p50`, `p95` and `p99`, all but the first in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Classes that are not empty, ascending.
    counts: Vec<(u8, u64)>,
    /// Above `u64`: that is 584 years, which the waiting times of a long backlog reach together.
    sum_nanos: u128,
}

impl Histogram {
    /// Adds a duration.
    pub fn record(&mut self, value: Duration) {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        self.add(class_of(nanos), 1);
        self.sum_nanos = self.sum_nanos.saturating_add(u128::from(nanos));
    }

    fn add(&mut self, class: usize, count: u64) {
        // Fits: there are fewer classes.
        let class = class as u8;
        match self.counts.binary_search_by_key(&class, |(class, _)| *class) {
            Ok(place) => {
                let known = &mut self.counts[place].1;
                *known = known.saturating_add(count);
            }
            Err(place) => self.counts.insert(place, (class, count)),
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (class, count) in &other.counts {
            self.add(usize::from(*class), *count);
        }
        self.sum_nanos = self.sum_nanos.saturating_add(other.sum_nanos);
    }

    /// Returns whether it has no durations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Returns the number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Returns the sum of the durations, which is exact.
    #[must_use]
    pub fn sum(&self) -> Duration {
        duration(self.sum_nanos)
    }

    /// Returns the mean of the durations, which is exact; `None` if there are none.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum_nanos.checked_div(u128::from(self.count())).map(duration)
    }

    /// Returns the duration that a part of all durations does not exceed, for example 0.95 of them; `None` if there are
    /// none. A part outside of 0 to 1 counts as the nearer end.
    ///
    /// The result is the middle of a class. From 1 ms to 12.4 days it differs from the true value by 9.1 % at most. It is
    /// 1 ms if the true value is less, and 12.4 days if it is more.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the rank is positive, and an error of a part of 2^53 does not show"
    )]
    pub fn percentile(&self, part: f64) -> Option<Duration> {
        let rank = ((self.count() as f64 * part.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut below = 0_u64;
        let of_rank = self.counts.iter().find(|(_, count)| {
            below = below.saturating_add(*count);
            below >= rank
        });
        let (class, _) = of_rank.or(self.counts.last())?;
        Some(middle(usize::from(*class)))
    }

    /// Returns the classes that are not empty, ascending: the upper bound of each, and the number of its durations. The
    /// bound of the last class, which has none, is `None`.
    pub fn classes(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        self.counts.iter().map(|(class, count)| {
            let class = usize::from(*class);
            let upper = (class <= LAST).then(|| Duration::from_nanos(bound(class)));
            (upper, *count)
        })
    }

    /// The numbers of the classes, their counts, and the sum in nanoseconds.
    pub(super) fn parts(&self) -> (&[(u8, u64)], u128) {
        (&self.counts, self.sum_nanos)
    }

    /// The histogram of these parts; `None` if there is no such class.
    pub(super) fn from_parts(counts: impl Iterator<Item = (u32, u64)>, sum_nanos: u128) -> Option<Self> {
        let mut histogram = Self {
            counts: Vec::new(),
            sum_nanos,
        };
        for (class, count) in counts {
            let class = usize::try_from(class).ok().filter(|class| *class < CLASSES)?;
            if count > 0 {
                histogram.add(class, count);
            }
        }
        Some(histogram)
    }
}

/// The duration of nanoseconds, or the longest one.
fn duration(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    // Fits: it is less than a second.
    let below = (nanos % SECOND) as u32;
    u64::try_from(nanos / SECOND).map_or(Duration::MAX, |seconds| Duration::new(seconds, below))
}

/// The middle of a class: the geometric mean of its bounds.
fn middle(class: usize) -> Duration {
    if class == 0 || class > LAST {
        return Duration::from_nanos(bound(class));
    }
    let lower = Duration::from_nanos(bound(class - 1));
    lower.mul_f64(2_f64.powf(0.125))
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Histogram", 6)?;
        out.serialize_field("count", &self.count())?;
        out.serialize_field("sum", &self.sum().as_secs_f64())?;
        let values = [
            ("mean", self.mean()),
            ("p50", self.percentile(0.5)),
            ("p95", self.percentile(0.95)),
            ("p99", self.percentile(0.99)),
        ];
        for (name, value) in values {
            match value {
                Some(value) => out.serialize_field(name, &value.as_secs_f64())?,
                None => out.skip_field(name)?,
            }
        }
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_ascend_from_a_millisecond_to_twelve_days() {
        assert_eq!(bound(0), 1_000_000);
        assert_eq!(bound(4), 2_000_000);
        assert_eq!(bound(LAST), 1_000_000 << 30);
        for class in 1..=LAST {
            assert!(bound(class) > bound(class - 1), "{class}");
            assert_eq!(class_of(bound(class)), class);
            assert_eq!(class_of(bound(class - 1) + 1), class);
        }
        assert_eq!((class_of(0), class_of(bound(LAST) + 1)), (0, LAST + 1));
        assert_eq!(class_of(u64::MAX), LAST + 1);
    }

    #[test]
    fn an_empty_histogram_has_no_percentile() {
        let empty = Histogram::default();
        assert_eq!((empty.percentile(0.5), empty.mean()), (None, None));
        assert_eq!(serde_json::to_string(&empty).unwrap(), r#"{"count":0,"sum":0.0}"#);
    }

    #[test]
    fn the_sum_of_a_long_backlog_is_exact() {
        let day = Duration::from_secs(24 * 3600);
        let mut histogram = Histogram::default();
        histogram.record(day);
        for _ in 0..20 {
            histogram.merge(&histogram.clone());
        }
        // A million tasks that waited a day: 2,871 years.
        assert_eq!(histogram.sum(), day * (1 << 20));
        assert_eq!(histogram.mean(), Some(day));
        assert_eq!(duration(u128::MAX), Duration::MAX);
    }

    #[test]
    fn shortest_and_longest_durations_have_the_bound() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_micros(3));
        assert_eq!(histogram.percentile(0.99), Some(Duration::from_millis(1)));
        histogram.record(Duration::MAX);
        assert_eq!(histogram.percentile(0.99), Some(Duration::from_millis(1 << 30)));
        assert_eq!(histogram.classes().last(), Some((None, 1)));
    }

    proptest! {
        /// The documented bound of the error, against the sorted durations.
        #[test]
        fn percentiles_differ_by_at_most_nine_percent(
            millis in prop::collection::vec(1.0_f64..1e9, 1..200),
            part in 0.0_f64..=1.0,
        ) {
            let mut values: Vec<_> = millis.iter().map(|ms| Duration::from_secs_f64(ms / 1e3)).collect();
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.record(*value));
            values.sort();
            let rank = ((values.len() as f64 * part).ceil() as usize).max(1);
            let (exact, found) = (values[rank - 1].as_secs_f64(), histogram.percentile(part).unwrap().as_secs_f64());
            prop_assert!((found / exact - 1.0).abs() <= 0.091, "{} for {}", found, exact);
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.sum(), values.iter().sum::<Duration>());
        }

        /// Durations may be recorded in one histogram, or in several that are added up.
        #[test]
        fn a_sum_of_histograms_is_the_histogram_of_all(
            nanos in prop::collection::vec(0_u64..1 << 60, 0..100),
            split in 0_usize..100,
        ) {
            let split = split.min(nanos.len());
            let of = |values: &[u64]| {
                let mut histogram = Histogram::default();
                values.iter().for_each(|value| histogram.record(Duration::from_nanos(*value)));
                histogram
            };
            let mut sum = of(&nanos[..split]);
            sum.merge(&of(&nanos[split..]));
            prop_assert_eq!(sum, of(&nanos));
        }
    }
}
