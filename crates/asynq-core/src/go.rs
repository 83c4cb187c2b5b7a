//! Texts as Go writes and reads them: durations, and what of a text a terminal shows.

mod printable;

use std::{str, time::Duration};

use crate::cron::{DurationFault, duration};

/// Returns whether a character is shown as it is by Go (`unicode.IsPrint`, Unicode 15.0). A line break is not.
///
/// ```
/// use asynq::go::is_printable;
///
/// assert!(is_printable('é') && !is_printable('\n') && !is_printable('\u{202e}'));
/// ```
#[must_use]
pub fn is_printable(char: char) -> bool {
    printable::is_print(char)
}

/// Returns bytes as the text that Go's programs show for a payload or a result, or `None` if those say
/// `non-printable bytes` (Go: `tools/asynq/cmd/task.go`, `sprintBytes`): the bytes are UTF-8, each character is
/// [printable](is_printable), and one is not a blank.
///
/// ```
/// use asynq::go::printable_text;
///
/// assert_eq!(printable_text(b"{\"id\":1}"), Some("{\"id\":1}"));
/// assert_eq!(printable_text(b"two\nlines"), None);
/// assert_eq!(printable_text(b""), None);
/// ```
#[must_use]
pub fn printable_text(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    (text.chars().all(is_printable) && !text.chars().all(char::is_whitespace)).then_some(text)
}

/// Returns a duration as Go writes it (`time.Duration.String`), cut at 2^63 - 1 ns.
///
/// ```
/// use asynq::go::write_duration;
/// use std::time::Duration;
///
/// assert_eq!(write_duration(Duration::from_millis(90_500)), "1m30.5s");
/// ```
#[must_use]
pub fn write_duration(span: Duration) -> String {
    let nanos = span.as_nanos().min(i64::MAX.unsigned_abs().into());
    let decimal = |value: u128, unit: u128, name: &str| {
        let (whole, fraction) = (value / unit, value % unit);
        if fraction == 0 {
            return format!("{whole}{name}");
        }
        let digits = unit.ilog10() as usize;
        let fraction = format!("{fraction:0digits$}");
        format!("{whole}.{}{name}", fraction.trim_end_matches('0'))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => decimal(nanos, 1_000_000, "ms"),
        _ => {
            let minute = 60_000_000_000;
            let (minutes, seconds) = (nanos / minute, decimal(nanos % minute, 1_000_000_000, "s"));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Reads a duration as Go does (`time.ParseDuration`): `1h30m`, `1.5s`, `300ms`. Go reads negative ones too; here they are
/// a fault.
///
/// ```
/// use asynq::go::parse_duration;
/// use std::time::Duration;
///
/// assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
/// assert!(parse_duration("90").is_err());
/// ```
///
/// # Errors
/// [`DurationFault`] says what is wrong.
pub fn parse_duration(text: &str) -> Result<Duration, DurationFault> {
    let nanos = duration::parse(text)?;
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| DurationFault::Negative)
}
