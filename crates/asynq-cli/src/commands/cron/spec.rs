//! `asynq cron next`, and cron specs on the command line.

use std::{iter, ops::Range};

use asynq::cron::{CronError, CronField, CronSpec, Tz};
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde::Serialize;

use crate::{
    error::{CliError, Result},
    go::{self, time_argument},
    output::{Output, one_line},
};

#[derive(Debug, Args)]
#[command(
    after_help = "A spec has five fields: minute, hour, day of month, month, day of week. Instead of the fields it can be \
@yearly, @monthly, @weekly, @daily, @hourly or `@every 1h30m`. `CRON_TZ=ZONE ` before it names its time zone."
)]
pub(crate) struct Next {
    /// The cron spec, in quotes.
    #[arg(value_name = "SPEC")]
    spec: String,
    /// Number of times to show, 1 to 1000.
    // The global flag `--db` has the short form `-n` too. A flag of the same id and type takes its place here, since clap
    // hands a global flag only to commands that have none of its id. This command opens no database.
    #[arg(id = "db", short = 'n', long = "count", value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Time zone of the spec, such as `Europe/Berlin`, unless it names one itself.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone_argument)]
    tz: Tz,
    /// Time after which to begin, in RFC 3339. Default: now.
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    from: Option<DateTime<Utc>>,
}

/// A time of a spec.
#[derive(Debug, Serialize)]
struct TimeRecord {
    /// In the zone of the spec.
    time: String,
    zone: String,
    in_seconds: i64,
}

impl Next {
    pub(crate) fn run(&self, out: Output) -> Result<()> {
        let spec = parse(&self.spec)?;
        let from = self.from.unwrap_or_else(Utc::now);
        let zone = spec.timezone().unwrap_or(self.tz);
        let mut listing = out.listing(&["Time", "UTC", "In"]);
        for time in times(&spec, self.tz, from).take(self.count as usize) {
            let local = time.with_timezone(&zone);
            let record = TimeRecord {
                time: local.to_rfc3339_opts(SecondsFormat::Secs, true),
                zone: zone.name().to_owned(),
                in_seconds: (time - from).num_seconds(),
            };
            let cells = vec![
                local.format("%a %Y-%m-%d %H:%M:%S %Z").to_string(),
                time.to_rfc3339_opts(SecondsFormat::Secs, true),
                go::between(from, time),
            ];
            listing.push(cells, &record)?;
        }
        listing.end(|| "the spec never fits".to_owned()).map(drop)
    }
}

/// Reads a time zone on the command line.
pub(super) fn zone_argument(text: &str) -> Result<Tz, String> {
    text.parse()
        .map_err(|_| "no such zone; one is like Europe/Berlin or UTC".to_owned())
}

/// The times of a spec after `from`, in a zone unless the spec names one.
pub(super) fn times(spec: &CronSpec, zone: Tz, from: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    let first = spec.next_after(&from.with_timezone(&zone));
    iter::successors(first, |last| spec.next_after(last)).map(|time| time.with_timezone(&Utc))
}

/// Reads a cron spec.
///
/// # Errors
/// [`Status::Usage`](crate::error::Status::Usage), with carets under the part that is wrong.
pub(super) fn parse(text: &str) -> Result<CronSpec> {
    CronSpec::parse(text).map_err(|error| {
        let mut message = format!("wrong cron spec: {error}");
        if let Some(range) = place(text, &error) {
            // What is shown in place of a character may be longer than one.
            let width = |part: &str| one_line(part).chars().count();
            let before = " ".repeat(width(&text[..range.start]));
            let carets = "^".repeat(width(&text[range]).max(1));
            message += &format!("\n  {}\n  {before}{carets}", one_line(text));
        }
        CliError::usage(message)
    })
}

/// Finds the part of a spec that an error means, in bytes.
fn place(text: &str, error: &CronError) -> Option<Range<usize>> {
    let (inside, part) = match error {
        CronError::Field { field, term, .. } => (field_of(text, *field)?, term.as_str()),
        CronError::UnknownZone { name } => (0..text.len(), name.as_str()),
        CronError::Descriptor { descriptor } => (0..text.len(), descriptor.as_str()),
        CronError::Every { duration, .. } => ("@every".len()..text.len(), duration.as_str()),
        _ => return None,
    };
    let start = inside.start + text.get(inside)?.find(part)?;
    Some(start..start + part.len())
}

/// The place of a field in a spec.
fn field_of(text: &str, field: CronField) -> Option<Range<usize>> {
    let has_zone = text.starts_with("CRON_TZ=") || text.starts_with("TZ=");
    let number = match field {
        CronField::Minute => 0,
        CronField::Hour => 1,
        CronField::DayOfMonth => 2,
        CronField::Month => 3,
        CronField::DayOfWeek => 4,
    };
    let word = text.split_whitespace().nth(number + usize::from(has_zone))?;
    // A part of the text, so its place is the distance from the beginning.
    let start = word.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    Some(start..start + word.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_under_the_wrong_part() {
        for (spec, carets) in [
            ("* 9-25 * * *", "  ^^^^"),
            ("5 5 5 5 1,2,9", "            ^"),
            ("CRON_TZ=Nowhere/Land * * * * *", "        ^^^^^^^^^^^^"),
            ("TZ=UTC * 24 * * *", "         ^^"),
            ("@dayly", "^^^^^^"),
            ("@every soon", "       ^^^^"),
        ] {
            let error = parse(spec).unwrap_err();
            let lines: Vec<&str> = error.message.lines().skip(1).collect();
            assert_eq!(lines, [format!("  {spec}"), format!("  {carets}")], "{error}");
        }
        assert!(parse("* * * *").unwrap_err().message.contains("4 fields instead of 5"));
    }

    #[test]
    fn times_follow_each_other_in_their_zone() {
        let spec = parse("30 9 * * mon").unwrap();
        let from = "2024-03-25T12:00:00Z".parse().unwrap();
        let times: Vec<String> = times(&spec, Tz::Europe__Berlin, from)
            .take(2)
            .map(|time| time.to_rfc3339())
            .collect();
        assert_eq!(times, ["2024-04-01T07:30:00+00:00", "2024-04-08T07:30:00+00:00"]);
    }
}
