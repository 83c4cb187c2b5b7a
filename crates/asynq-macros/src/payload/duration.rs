//! Durations as people write them: `500ms`, `30s`, `5m`, `1h`, `7d`.

use std::time::Duration;

/// The shortest timeout, retention and unique time: the wire carries whole seconds.
const MIN: Duration = Duration::from_secs(1);
/// The longest: 100 years of 365 days.
const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The value of an option.
///
/// # Errors
/// What is wrong with it, as the second half of a sentence that begins with the option's name.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let malformed = || {
        format!(
            "is a whole number and one unit, `ms`, `s`, `m`, `h` or `d`, as in \"30s\" or \"24h\", and not {text:?}"
        )
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis_of_unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err(malformed()),
    };
    if number.is_empty() {
        return Err(malformed());
    }
    // Only digits are left: what cannot be read is too long.
    let duration = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis_of_unit))
        .map_or(Duration::MAX, Duration::from_millis);
    if duration.is_zero() {
        return Err(format!(
            "is at least 1s, and not {text:?}: leave it out for the default"
        ));
    }
    if duration < MIN {
        return Err(format!("is at least 1s, and not {text:?}"));
    }
    if duration > MAX {
        return Err(format!("is at most 36500d (100 years), and not {text:?}"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_has_its_length() {
        for (text, secs) in [("30s", 30), ("5m", 300), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        assert_eq!(parse("1500ms"), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn the_limits_are_part_of_the_range() {
        for (text, limit) in [("1s", MIN), ("1000ms", MIN), ("36500d", MAX), ("876000h", MAX)] {
            assert_eq!(parse(text), Ok(limit), "{text}");
        }
        for text in ["0s", "0d", "1ms", "999ms"] {
            assert!(
                parse(text).is_err_and(|why| why.starts_with("is at least 1s")),
                "{text}"
            );
        }
        let overflowing = format!("{}d", u64::MAX);
        let unreadable = format!("{}0ms", u64::MAX);
        for text in ["36501d", "876001h", &overflowing, &unreadable] {
            assert!(
                parse(text).is_err_and(|why| why.starts_with("is at most 36500d")),
                "{text}"
            );
        }
    }

    #[test]
    fn everything_else_is_no_duration() {
        for text in [
            "", "s", "30", "30 s", " 30s", "-5s", "+5s", "1.5h", "1h30m", "5min", "5S", "٣s", "soon",
        ] {
            assert!(
                parse(text).is_err_and(|why| why.starts_with("is a whole number")),
                "{text}"
            );
        }
    }
}
