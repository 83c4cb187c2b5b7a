//! The ticks of one entry: its spec in its zone, forward and backward.

use asynq_core::cron::CronSpec;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

type Time = DateTime<Utc>;

/// The times of an entry's ticks. For `@every` one known tick determines the phase of all others.
#[derive(Clone, Debug)]
pub(super) struct Timetable {
    spec: CronSpec,
    zone: Tz,
    /// Period of an `@every`.
    period: Option<TimeDelta>,
}

impl Timetable {
    pub(super) fn new(spec: CronSpec, zone: Tz) -> Self {
        let period = spec.every().and_then(|period| TimeDelta::from_std(period).ok());
        Self { spec, zone, period }
    }

    /// The zone that counts.
    pub(super) fn zone(&self) -> Tz {
        self.spec.timezone().unwrap_or(self.zone)
    }

    /// The time between two ticks, of `@every` only.
    pub(super) fn period(&self) -> Option<TimeDelta> {
        self.period
    }

    /// Returns the first tick after a tick or after any time, which is then the start of `@every`.
    pub(super) fn after(&self, at: Time) -> Option<Time> {
        let next = self.spec.next_after(&at.with_timezone(&self.zone))?;
        Some(next.with_timezone(&Utc))
    }

    /// Returns the first tick, from a known one on, that is not before a time.
    pub(super) fn not_before(&self, tick: Time, from: Time) -> Option<Time> {
        if tick >= from {
            return Some(tick);
        }
        match self.period {
            Some(period) => {
                let newest = self.newest(tick, from);
                Some(if newest == from { newest } else { newest + period })
            }
            None => self.after(from - TimeDelta::nanoseconds(1)),
        }
    }

    /// Returns the last tick, from a known one on, that is not after a time; the known one, if there is none.
    pub(super) fn newest(&self, tick: Time, up_to: Time) -> Time {
        if tick >= up_to {
            return tick;
        }
        if let Some(period) = self.period {
            let since = (up_to - tick).num_seconds();
            return tick + TimeDelta::seconds(since - since % period.num_seconds().max(1));
        }
        self.last_where(tick, up_to, |next| next.is_some_and(|next| next <= up_to))
    }

    /// Returns the first of the last `most` ticks from a known one up to a time.
    pub(super) fn newest_of(&self, tick: Time, up_to: Time, most: usize) -> Time {
        if let Some(period) = self.period {
            let back = period * i32::try_from(most.saturating_sub(1)).unwrap_or(i32::MAX);
            let first = self.newest(tick, up_to).checked_sub_signed(back);
            return first.map_or(tick, |first| first.max(tick));
        }
        if !self.more_than(most.saturating_sub(1), tick, up_to) {
            return tick;
        }
        let left_out = self.last_where(tick, up_to, |next| {
            next.is_some_and(|next| next <= up_to && self.more_than(most.saturating_sub(1), next, up_to))
        });
        self.after(left_out).unwrap_or(left_out)
    }

    /// Returns whether there are more than this number of ticks after a tick, up to a time.
    fn more_than(&self, most: usize, tick: Time, up_to: Time) -> bool {
        std::iter::successors(self.after(tick), |tick| self.after(*tick))
            .take_while(|tick| *tick <= up_to)
            .nth(most)
            .is_some()
    }

    /// Returns the last tick for which `fits` is true, as it must be for all earlier ones; the known one, if there is
    /// none.
    fn last_where(&self, tick: Time, up_to: Time, fits: impl Fn(Option<Time>) -> bool) -> Time {
        // By halves: after(low) fits, after(high) does not.
        let (mut low, mut high) = (tick.timestamp() - 1, up_to.timestamp());
        let next = |secs| DateTime::from_timestamp(secs, 0).and_then(|at| self.after(at));
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(next(middle)) {
                low = middle;
            } else {
                high = middle;
            }
        }
        next(low).unwrap_or(tick).max(tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timetable(spec: &str) -> Timetable {
        Timetable::new(CronSpec::parse(spec).unwrap(), Tz::UTC)
    }

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    #[test]
    fn ticks_are_found_backwards() {
        for (spec, tick, up_to, expected) in [
            (
                "0 * * * *",
                "2024-01-01T00:00:00Z",
                "2024-06-01T12:59:59Z",
                "2024-06-01T12:00:00Z",
            ),
            (
                "0 * * * *",
                "2024-01-01T00:00:00Z",
                "2024-06-01T12:00:00Z",
                "2024-06-01T12:00:00Z",
            ),
            (
                "* * * 1 *",
                "2024-01-01T00:00:00Z",
                "2024-12-01T00:00:00Z",
                "2024-01-31T23:59:00Z",
            ),
            (
                "0 0 29 2 *",
                "2024-02-29T00:00:00Z",
                "2027-01-01T00:00:00Z",
                "2024-02-29T00:00:00Z",
            ),
            (
                "0 0 1 1 *",
                "2024-01-01T00:00:00Z",
                "2024-01-01T00:00:00Z",
                "2024-01-01T00:00:00Z",
            ),
            (
                "@every 90m",
                "2024-01-01T00:00:07Z",
                "2024-01-01T03:00:06Z",
                "2024-01-01T01:30:07Z",
            ),
            (
                "@every 90m",
                "2024-01-01T00:00:07Z",
                "2024-01-01T03:00:07Z",
                "2024-01-01T03:00:07Z",
            ),
        ] {
            assert_eq!(
                timetable(spec).newest(at(tick), at(up_to)),
                at(expected),
                "{spec} up to {up_to}"
            );
        }
    }

    #[test]
    fn the_newest_of_many_are_counted() {
        let hour = "2024-01-01T00:00:00Z";
        for (spec, up_to, most, expected) in [
            ("*/15 * * * *", "2024-01-02T00:00:00Z", 1000, hour),
            ("*/15 * * * *", "2024-01-02T00:00:00Z", 97, hour),
            ("*/15 * * * *", "2024-01-02T00:00:00Z", 96, "2024-01-01T00:15:00Z"),
            ("*/15 * * * *", "2024-01-02T00:00:00Z", 1, "2024-01-02T00:00:00Z"),
            ("@every 15m", "2024-01-02T00:00:00Z", 97, hour),
            ("@every 15m", "2024-01-02T00:00:00Z", 1000, hour),
            ("@every 15m", "2024-01-02T00:00:00Z", 96, "2024-01-01T00:15:00Z"),
        ] {
            let found = timetable(spec).newest_of(at(hour), at(up_to), most);
            assert_eq!(found, at(expected), "{most} of {spec}");
        }
    }

    #[test]
    fn the_longest_period_is_counted_back_within_the_calendar() {
        let (first, now) = (at("1700-01-01T00:00:00Z"), at("2024-01-01T00:00:00Z"));
        let longest = timetable("@every 2562047h");
        assert_eq!(longest.newest_of(first, now, 1000), first);
        assert_eq!(longest.newest(first, now), first + longest.period().unwrap());
    }

    #[test]
    fn a_time_is_rounded_up_to_a_tick() {
        for (spec, from, expected) in [
            ("0 * * * *", "2024-01-01T05:00:00Z", "2024-01-01T05:00:00Z"),
            ("0 * * * *", "2024-01-01T05:00:00.5Z", "2024-01-01T06:00:00Z"),
            ("0 * * * *", "2023-01-01T05:00:00Z", "2024-01-01T00:00:00Z"),
            ("@every 7s", "2024-01-01T00:00:21Z", "2024-01-01T00:00:21Z"),
            ("@every 7s", "2024-01-01T00:00:22Z", "2024-01-01T00:00:28Z"),
        ] {
            let found = timetable(spec).not_before(at("2024-01-01T00:00:00Z"), at(from));
            assert_eq!(found, Some(at(expected)), "{spec} from {from}");
        }
    }
}
