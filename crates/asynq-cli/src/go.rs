//! Texts as Go's program writes them: dates, durations, payloads.

use std::{sync::LazyLock, time::Duration};

use asynq::{
    cron::Tz,
    go::{parse_duration, printable_text, write_duration},
};
use chrono::{DateTime, Local, Utc};

/// A payload or a result as Go's program shows it.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    printable_text(bytes).unwrap_or("non-printable bytes").to_owned()
}

/// A date as Go's program shows it (`time.UnixDate`), in the time zone of this machine.
pub(crate) fn date(at: DateTime<Utc>) -> String {
    const UNIX_DATE: &str = "%a %b %e %H:%M:%S %Z %Y";
    static ZONE: LazyLock<Option<Tz>> = LazyLock::new(zone);
    match &*ZONE {
        Some(zone) => at.with_timezone(zone).format(UNIX_DATE).to_string(),
        // A zone without a name has no abbreviation either: the offset stands in its place.
        None => at.with_timezone(&Local).format(UNIX_DATE).to_string(),
    }
}

/// The zone that `TZ` names, or else that of the machine.
fn zone() -> Option<Tz> {
    match std::env::var("TZ") {
        Ok(name) if name.is_empty() => Some(Tz::UTC),
        Ok(name) => name.trim_start_matches(':').parse().ok(),
        Err(_) => iana_time_zone::get_timezone().ok()?.parse().ok(),
    }
}

/// A date that may be unknown; then the text is empty.
pub(crate) fn date_or_empty(at: Option<DateTime<Utc>>) -> String {
    at.map(date).unwrap_or_default()
}

/// The duration from one time to another as Go's program shows it, in whole seconds; 0 if it is negative.
pub(crate) fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let seconds = (to - from).as_seconds_f64().round().max(0.0);
    write_duration(Duration::from_secs_f64(seconds))
}

/// Reads a duration on the command line, in Go's syntax: `1h30m`, `300ms`.
pub(crate) fn duration_argument(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|fault| format!("{fault}; a duration is like 300ms, 1h30m or 2s"))
}

/// Reads a time on the command line, in RFC 3339.
pub(crate) fn time_argument(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.with_timezone(&Utc))
        .map_err(|error| format!("{error}; a time is like 2026-05-14T03:04:05Z"))
}
