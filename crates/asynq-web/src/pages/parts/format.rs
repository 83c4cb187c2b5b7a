//! Numbers, sizes and times in words.

use chrono::{DateTime, TimeDelta, Utc};

/// Returns a number with its digits in groups of three, such as `1,234,567`.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number in at most five characters, such as `12.3k`, for labels of charts.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn short_number(number: u64) -> String {
    let scaled = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    match scaled.into_iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => format!("{}{name}", three_digits(number as f64 / unit as f64)),
        None => number.to_string(),
    }
}

/// Returns a number of bytes, such as `1.5 MiB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(bytes: u64) -> String {
    let scaled = [
        (1_u64 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    match scaled.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{} {name}", three_digits(bytes as f64 / unit as f64)),
        None => format!("{bytes} B"),
    }
}

/// Returns a rate or a share with at most three digits.
pub(crate) fn three_digits(value: f64) -> String {
    let text = match value.abs() {
        value if value >= 99.95 => return format!("{:.0}", value.round()),
        value if value >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Returns a duration in its one or two largest units, such as `3h 20m`, `1.25s`, `40ms`.
pub(crate) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    if seconds == 0.0 {
        return "0s".to_owned();
    }
    if seconds < 0.000_999_5 {
        return format!("{}µs", three_digits(seconds * 1e6));
    }
    if seconds < 0.999_5 {
        return format!("{}ms", three_digits(seconds * 1e3));
    }
    if seconds < 59.95 {
        return format!("{}s", three_digits(seconds));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is finite, not negative, and saturates"
    )]
    let whole = seconds.round() as u64;
    let units = [(365 * 86_400, "y"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units
        .iter()
        .position(|(unit, _)| whole >= *unit)
        .unwrap_or(units.len() - 1);
    let (unit, name) = units[first];
    let (count, rest) = (whole / unit, whole % unit);
    match units.get(first + 1) {
        Some((next, next_name)) if rest >= *next => format!("{}{name} {}{next_name}", number(count), rest / next),
        _ => format!("{}{name}", number(count)),
    }
}

/// Returns the distance of a time from now, such as `3m 20s ago` or `in 2h`.
pub(crate) fn relative(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let distance = (now - at).abs();
    if distance < TimeDelta::seconds(1) {
        return "now".to_owned();
    }
    // Parts of a second are noise here.
    #[expect(clippy::cast_precision_loss, reason = "two units are shown")]
    let text = seconds(distance.num_seconds() as f64);
    match at <= now {
        true => format!("{text} ago"),
        false => format!("in {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_scaled() {
        for (value, whole, short) in [
            (0, "0", "0"),
            (999, "999", "999"),
            (1000, "1,000", "1k"),
            (1_234_567, "1,234,567", "1.23M"),
            (u64::MAX, "18,446,744,073,709,551,615", "18446744T"),
        ] {
            assert_eq!(number(value), whole);
            assert_eq!(short_number(value), short);
        }
        for (value, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1 << 20, "1 MiB"),
            (1_600_000, "1.53 MiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn durations_have_their_largest_units() {
        for (value, text) in [
            (0.0, "0s"),
            (0.000_004, "4µs"),
            (0.04, "40ms"),
            (0.25, "250ms"),
            (1.25, "1.25s"),
            (59.9, "59.9s"),
            (60.0, "1m"),
            (200.0, "3m 20s"),
            (12_000.0, "3h 20m"),
            (90_000.0, "1d 1h"),
            (1e9, "31y 259d"),
            (-1.0, "–"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(seconds(value), text, "{value}");
        }
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        assert_eq!(relative(now, now), "now");
        assert_eq!(relative(now - TimeDelta::milliseconds(3_700), now), "3s ago");
        assert_eq!(relative(now + TimeDelta::hours(2), now), "in 2h");
        assert!(relative(DateTime::<Utc>::MIN_UTC, now).ends_with(" ago"));
    }
}
