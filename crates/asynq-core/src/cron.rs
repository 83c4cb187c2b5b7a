//! Cron specs with the meaning of Go's robfig/cron v3, standard parser.

pub(crate) mod duration;
mod error;
mod fields;
mod search;
#[cfg(test)]
mod tests;
mod words;

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, TimeZone};
pub use chrono_tz::Tz;
pub use error::MAX_SPEC;

pub use self::error::{CronError, CronField, DurationFault, FieldFault};
use self::fields::Fields;

/// A cron spec: the times at which a periodic task is due. Grammar and meaning are those of robfig/cron v3 (standard
/// parser), which Go asynq uses.
///
/// ```
/// use asynq::cron::{CronSpec, Tz};
/// use chrono::{DateTime, TimeZone as _, Utc};
///
/// // Half past eight from Monday to Friday.
/// let spec = CronSpec::parse("30 8 * * mon-fri")?;
/// let saturday = Utc.with_ymd_and_hms(2024, 6, 1, 12, 0, 0).unwrap();
/// assert_eq!(spec.next_after(&saturday).unwrap().to_rfc3339(), "2024-06-03T08:30:00+00:00");
///
/// // The zone is that of the time asked about, unless the spec has one.
/// let in_berlin = saturday.with_timezone(&Tz::Europe__Berlin);
/// assert_eq!(spec.next_after(&in_berlin).unwrap().to_rfc3339(), "2024-06-03T08:30:00+02:00");
/// let spec = CronSpec::parse("CRON_TZ=Asia/Tokyo 0 6 * * *")?;
/// assert_eq!(spec.next_after(&saturday).unwrap().to_rfc3339(), "2024-06-01T21:00:00+00:00");
/// # Ok::<(), asynq::cron::CronError>(())
/// ```
///
/// # Grammar
///
/// A spec has five fields, separated by white space: minute 0-59, hour 0-23, day of month 1-31, month 1-12 or
/// `jan`-`dec`, day of week 0-6 from Sunday or `sun`-`sat`. Names can be in upper or lower case. A field is a list,
/// separated by commas, of `*` (or `?`, which is the same), `n` and `a-b`. Each can have a step: `*/15`, `10-30/5`.
/// `n/5` is from `n` to the maximum. An empty list (`,`) matches nothing.
///
/// If the day of month or the day of week has a star (without a step above one), a day must match both fields. If
/// neither has a star, a match of one field is enough: `0 0 13 * fri` is each 13th and each Friday.
///
/// Instead of the fields, a spec can be `@yearly` or `@annually`, `@monthly`, `@weekly` (Sunday), `@daily` or
/// `@midnight`, or `@hourly`. It can also be `@every` with a Go duration such as `90s` or `1h30m`, without fractions
/// of a second and at least one second.
///
/// A spec can begin with `CRON_TZ=` or `TZ=`, the name of a time zone in the IANA database, and a blank. An empty
/// name means UTC. `Local` has the same effect as no prefix.
///
/// # When the clocks change
///
/// When the clocks change, a skipped time is left out on that day, and a repeated time occurs twice. A spec that is
/// due every hour is due once in each real hour. If the skipped hour begins at midnight, or the change is not of a
/// whole hour, Go misses some times, and so does `CronSpec`.
///
/// The rules of the zones are those of the `chrono-tz` crate, and change with its version. From 2100 on they have no
/// clock changes.
///
/// # Differences from Go
///
/// - An `@every` with a duration below zero is an error; Go takes it as one second. A duration from zero to one
///   second is one second in both.
/// - A spec of more than [`MAX_SPEC`] bytes is an error.
/// - A zone prefix without a blank after it, on which Go panics, is an error.
/// - If a zone skipped a whole day (Samoa's 30 December 2011), Go's search for a day may never end. This search
///   continues after the day.
/// - If the clocks went back a minute after midnight (in Newfoundland until 2011), midnight occurred twice, and Go
///   may return the first midnight after it has passed. This search returns the second.
/// - Go's zones change their clocks without end, see above.
///
/// Two specs are equal if their texts are equal.
#[derive(Clone)]
pub struct CronSpec {
    text: String,
    timezone: Option<Tz>,
    plan: Plan,
}

/// Cheap to clone.
#[derive(Clone)]
enum Plan {
    Fields(Arc<Fields>),
    /// Whole seconds, at least one.
    Every(Duration),
}

impl CronSpec {
    /// Parses a spec in the grammar above.
    ///
    /// # Errors
    /// [`CronError`] with the field and the text at fault, for the specs that Go refuses or panics on, and for the
    /// exceptions above.
    ///
    /// ```
    /// use asynq::cron::CronSpec;
    ///
    /// let error = CronSpec::parse("0 9-25 * * *").unwrap_err();
    /// assert_eq!(error.to_string(), "hour `9-25`: 25 is above 23 (allowed: 0-23)");
    /// ```
    pub fn parse(spec: &str) -> Result<Self, CronError> {
        if spec.is_empty() {
            return Err(CronError::Empty);
        }
        if spec.len() > MAX_SPEC {
            return Err(CronError::TooLong { length: spec.len() });
        }
        let (timezone, rest) = match ["CRON_TZ=", "TZ="].iter().find_map(|prefix| spec.strip_prefix(prefix)) {
            None => (None, spec),
            Some(prefixed) => {
                let (name, rest) = prefixed
                    .split_once(' ')
                    .ok_or_else(|| CronError::ZoneAlone { spec: spec.to_owned() })?;
                (zone(name)?, rest.trim())
            }
        };
        Ok(Self {
            text: spec.to_owned(),
            timezone,
            plan: Plan::parse(rest)?,
        })
    }

    /// The text that was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the zone of the `CRON_TZ=` or `TZ=` prefix. `None` without a prefix and for `Local`: the fields are
    /// then read in the zone of the time that is passed to [`next_after`](Self::next_after).
    #[must_use]
    pub fn timezone(&self) -> Option<Tz> {
        self.timezone
    }

    /// Returns the period of an `@every`: whole seconds, at least one, at most about 292 years.
    #[must_use]
    pub fn every(&self) -> Option<Duration> {
        match self.plan {
            Plan::Every(period) => Some(period),
            Plan::Fields(_) => None,
        }
    }

    /// Returns the spec in words, for people. The words may change with a version.
    ///
    /// ```
    /// use asynq::cron::CronSpec;
    ///
    /// let spec = CronSpec::parse("CRON_TZ=Europe/Berlin 30 8 * * mon-fri")?;
    /// assert_eq!(spec.in_words(), "at 08:30 from Monday to Friday, in the time zone Europe/Berlin");
    /// # Ok::<(), asynq::cron::CronError>(())
    /// ```
    #[must_use]
    pub fn in_words(&self) -> String {
        match (&self.plan, self.timezone) {
            (Plan::Every(period), _) => words::period(*period),
            (Plan::Fields(fields), None) => words::fields(fields),
            (Plan::Fields(fields), Some(zone)) => format!("{}, in the time zone {zone}", words::fields(fields)),
        }
    }

    /// Returns the first time after `from`, which is always later than `from` and a whole second. For an `@every` it
    /// is `from` plus the period, rounded down to the second.
    ///
    /// `None` if there is no such time until the end of the fifth year after that of `from` (30 February never
    /// occurs), or if chrono cannot express the time.
    ///
    /// Fast also if there is no such time: the search checks some thousand instants.
    ///
    /// ```
    /// use asynq::cron::{CronSpec, Tz};
    /// use chrono::TimeZone as _;
    ///
    /// // On 10 March 2024 New York's clocks went from 2:00 to 3:00.
    /// let from = Tz::America__New_York.with_ymd_and_hms(2024, 3, 9, 12, 0, 0).unwrap();
    /// let next = CronSpec::parse("30 2 * * *")?.next_after(&from).unwrap();
    /// assert_eq!(next.to_rfc3339(), "2024-03-11T02:30:00-04:00");
    /// # Ok::<(), asynq::cron::CronError>(())
    /// ```
    #[must_use]
    pub fn next_after<Z: TimeZone>(&self, from: &DateTime<Z>) -> Option<DateTime<Z>> {
        let after = from.timestamp();
        let next = match &self.plan {
            Plan::Every(period) => after.checked_add(i64::try_from(period.as_secs()).ok()?)?,
            Plan::Fields(fields) => match &self.timezone {
                Some(zone) => search::next(fields, zone, after)?,
                None => search::next(fields, &from.timezone(), after)?,
            },
        };
        let next = DateTime::from_timestamp(next, 0)?;
        Some(next.with_timezone(&from.timezone()))
    }
}

/// `None` for Go's `Local`, which here means the zone of the time that is passed in.
fn zone(name: &str) -> Result<Option<Tz>, CronError> {
    match name {
        // The second name is in the database, but not in chrono-tz.
        "" | "Factory" => Ok(Some(Tz::UTC)),
        "Local" => Ok(None),
        name => name
            .parse()
            .map(Some)
            .map_err(|_| CronError::UnknownZone { name: name.to_owned() }),
    }
}

impl Plan {
    fn parse(spec: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = if spec.starts_with('@') {
            if let Some(duration) = spec.strip_prefix("@every ") {
                return period(duration).map(Self::Every);
            }
            match spec {
                "@yearly" | "@annually" => ["0", "0", "1", "1", "*"],
                "@monthly" => ["0", "0", "1", "*", "*"],
                "@weekly" => ["0", "0", "*", "*", "0"],
                "@daily" | "@midnight" => ["0", "0", "*", "*", "*"],
                "@hourly" => ["0", "*", "*", "*", "*"],
                descriptor => {
                    return Err(CronError::Descriptor {
                        descriptor: descriptor.to_owned(),
                    });
                }
            }
            .to_vec()
        } else {
            spec.split_whitespace().collect()
        };
        let fields = <[&str; 5]>::try_from(fields).map_err(|fields| CronError::FieldCount {
            spec: spec.to_owned(),
            found: fields.len(),
        })?;
        Fields::parse(fields).map(|fields| Self::Fields(Arc::new(fields)))
    }
}

fn period(duration: &str) -> Result<Duration, CronError> {
    let nanos = duration::parse(duration).map_err(|fault| CronError::Every {
        duration: duration.to_owned(),
        fault,
    })?;
    if nanos < 0 {
        return Err(CronError::Every {
            duration: duration.to_owned(),
            fault: DurationFault::Negative,
        });
    }
    let seconds = TimeDelta::nanoseconds(nanos).num_seconds();
    Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1)))
}

impl FromStr for CronSpec {
    type Err = CronError;

    fn from_str(spec: &str) -> Result<Self, CronError> {
        Self::parse(spec)
    }
}

impl fmt::Display for CronSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for CronSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CronSpec").field(&self.text).finish()
    }
}

impl PartialEq for CronSpec {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for CronSpec {}

impl Hash for CronSpec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
