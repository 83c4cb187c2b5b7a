//! Values: numbers, durations, sizes and times, from their texts.

use std::{cmp::Ordering, time::Duration};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

/// A moment: fixed, or some time before or behind the moment of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    At(DateTime<Utc>),
    Now(TimeDelta),
}

impl Moment {
    /// Reads `2026-11-29`, a time as RFC 3339 has it, `now`, `now-1h` or `now+2d`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("now") {
            let (backwards, rest) = match rest.split_at_checked(1) {
                None => return Some(Self::Now(TimeDelta::zero())),
                Some(("-", rest)) => (true, rest),
                Some(("+", rest)) => (false, rest),
                Some(_) => return None,
            };
            let delta = TimeDelta::from_std(duration(rest)?).ok()?;
            return Some(Self::Now(if backwards { -delta } else { delta }));
        }
        if let Ok(date) = text.parse::<NaiveDate>() {
            return Some(Self::At(date.and_time(NaiveTime::MIN).and_utc()));
        }
        let time = DateTime::parse_from_rfc3339(text).ok()?;
        Some(Self::At(time.to_utc()))
    }

    /// The moment, for a search now. Beyond the calendar: its end.
    pub(crate) fn at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(time) => time,
            Self::Now(delta) => now
                .checked_add_signed(delta)
                .unwrap_or(match delta < TimeDelta::zero() {
                    true => DateTime::<Utc>::MIN_UTC,
                    false => DateTime::<Utc>::MAX_UTC,
                }),
        }
    }
}

/// Reads a duration with its units, such as `90s`, `1h30m` or `2d`; also `0`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// Reads a number of bytes, such as `1000`, `10kB` or `1MiB`.
pub(crate) fn size(text: &str) -> Option<u64> {
    text.parse().ok().map(|bytes: bytesize::ByteSize| bytes.as_u64())
}

/// Compares two numbers as their texts: whole ones of any size exactly, others as floating-point numbers. `None` if one of
/// them is no number.
pub(crate) fn compare_numbers(left: &str, right: &str) -> Option<Ordering> {
    match (Whole::parse(left), Whole::parse(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => {
            let (left, right) = (float(left)?, float(right)?);
            left.partial_cmp(&right)
        }
    }
}

/// Returns whether it is a number of JSON.
pub(crate) fn is_number(text: &str) -> bool {
    Whole::parse(text).is_some() || float(text).is_some()
}

/// `inf` and `nan`, which Rust reads, are no numbers.
fn float(text: &str) -> Option<f64> {
    let is_numeric = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    text.parse().ok().filter(|_| text.chars().all(is_numeric))
}

/// A whole number of any size.
#[derive(PartialEq, Eq)]
struct Whole<'t> {
    negative: bool,
    /// Without leading zeros; none for zero.
    digits: &'t str,
}

impl<'t> Whole<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let digits = digits.trim_start_matches('0');
        Some(Self {
            negative: negative && !digits.is_empty(),
            digits,
        })
    }
}

impl Ord for Whole<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |whole: &Self| whole.digits.len();
        let magnitude = size(self).cmp(&size(other)).then_with(|| self.digits.cmp(other.digits));
        match (self.negative, other.negative) {
            (false, false) => magnitude,
            (true, true) => magnitude.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Whole<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_exactly_however_large() {
        let huge = "90071992547409921234567890";
        let cases = [
            ("1002", "1002", Some(Ordering::Equal)),
            ("-0", "0", Some(Ordering::Equal)),
            ("007", "+7", Some(Ordering::Equal)),
            (huge, "90071992547409921234567891", Some(Ordering::Less)),
            ("-20", "-3", Some(Ordering::Less)),
            ("-1", "1", Some(Ordering::Less)),
            ("2.5", "2", Some(Ordering::Greater)),
            ("1e3", "1000", Some(Ordering::Equal)),
            ("abc", "1", None),
            ("inf", "1", None),
            ("NaN", "NaN", None),
            ("", "1", None),
        ];
        for (left, right, expected) in cases {
            assert_eq!(compare_numbers(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn moments_are_fixed_or_relative() {
        let now: DateTime<Utc> = "2026-11-29T12:00:00Z".parse().unwrap();
        let cases = [
            ("2026-11-29", Some("2026-11-29T00:00:00Z")),
            ("2026-11-29T10:30:00+02:00", Some("2026-11-29T08:30:00Z")),
            ("now", Some("2026-11-29T12:00:00Z")),
            ("now-1h30m", Some("2026-11-29T10:30:00Z")),
            ("now+2d", Some("2026-12-01T12:00:00Z")),
            ("nowhere", None),
            ("now-", None),
            ("yesterday", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|time| time.parse::<DateTime<Utc>>().unwrap());
            assert_eq!(Moment::parse(text).map(|moment| moment.at(now)), expected, "{text}");
        }
        let ever = Moment::parse("now-9000000y").unwrap();
        assert_eq!(ever.at(now), DateTime::<Utc>::MIN_UTC);
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("2d"), Some(Duration::from_secs(172_800)));
        assert_eq!(duration("0s"), Some(Duration::ZERO));
        assert_eq!(duration("5"), None);
        assert_eq!(duration("-5s"), None);
        assert_eq!(size("1000"), Some(1000));
        assert_eq!(size("10kB"), Some(10_000));
        assert_eq!(size("1MiB"), Some(1_048_576));
        assert_eq!(size("-1"), None);
    }
}
