//! Errors of cron specs.

use std::{fmt, ops::RangeInclusive};

use crate::excerpt::Excerpt;

/// Largest length of a cron spec, in bytes. One that names each minute, hour, day and month has some 500.
pub const MAX_SPEC: usize = 1024;

/// A reason why a cron spec is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// There is nothing.
    #[error("the cron spec is empty")]
    Empty,
    /// The spec is longer than any that is useful; Go has no limit.
    #[error("cron spec of {length} bytes is above the limit of {MAX_SPEC}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A `CRON_TZ=` or `TZ=` prefix without a blank after the name of the zone, on which Go's parser
    /// panics.
    #[error("cron spec `{}`: no blank after the time zone", Excerpt(.spec))]
    ZoneAlone {
        /// The whole spec.
        spec: String,
    },
    /// The IANA database has no zone of this name. Upper and lower case count.
    #[error("unknown time zone `{}`", Excerpt(.name))]
    UnknownZone {
        /// The name.
        name: String,
    },
    /// The number of fields is not five.
    #[error(
        "cron spec `{}`: {found} fields instead of 5 (minute, hour, day of month, month, day of week)",
        Excerpt(.spec)
    )]
    FieldCount {
        /// The spec without its time zone.
        spec: String,
        /// The number of fields found.
        found: usize,
    },
    /// A field that cannot be read, or is out of range.
    #[error("{field} `{}`: {fault} (allowed: {})", Excerpt(.term), field.allowed())]
    Field {
        /// The field.
        field: CronField,
        /// The part of its list at fault.
        term: String,
        /// The fault of the field.
        fault: FieldFault,
    },
    /// A word after `@` that has no meaning.
    #[error(
        "unknown descriptor `{}` (allowed: @yearly, @annually, @monthly, @weekly, @daily, @midnight, \
         @hourly, @every <duration>)",
        Excerpt(.descriptor)
    )]
    Descriptor {
        /// The word, with what follows.
        descriptor: String,
    },
    /// The duration of an `@every`.
    #[error("@every `{}`: {fault} (allowed: as 90s, 1h30m or 1.5h; units ns, us, ms, s, m, h)", Excerpt(.duration))]
    Every {
        /// The text in place of a duration.
        duration: String,
        /// The fault of the duration.
        fault: DurationFault,
    },
}

/// A field of a cron spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CronField {
    /// The first, 0-59.
    Minute,
    /// The second, 0-23.
    Hour,
    /// The third, 1-31.
    DayOfMonth,
    /// The fourth, 1-12 or jan-dec.
    Month,
    /// The fifth, 0-6 from Sunday, or sun-sat.
    DayOfWeek,
}

impl CronField {
    /// The numbers that it takes.
    #[must_use]
    pub const fn range(self) -> RangeInclusive<u32> {
        match self {
            Self::Minute => 0..=59,
            Self::Hour => 0..=23,
            Self::DayOfMonth => 1..=31,
            Self::Month => 1..=12,
            Self::DayOfWeek => 0..=6,
        }
    }

    /// The names for its numbers, from the lowest on; empty for most. Case does not matter.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Minute | Self::Hour | Self::DayOfMonth => &[],
            Self::Month => &[
                "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
            ],
            Self::DayOfWeek => &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        }
    }

    fn allowed(self) -> String {
        let numbers = format!("{}-{}", self.range().start(), self.range().end());
        match self.names() {
            [first, .., last] => format!("{numbers} or {first}-{last}"),
            _ => numbers,
        }
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
        })
    }
}

/// A fault of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldFault {
    /// Neither a number nor a name that the field knows, or too large for a 64-bit integer.
    #[error("`{}` is not a number", Excerpt(.text))]
    NotANumber {
        /// The text.
        text: String,
    },
    /// A step below zero.
    #[error("{number} is negative")]
    Negative {
        /// The number.
        number: i64,
    },
    /// More than two ends of a range.
    #[error("more than one hyphen")]
    TooManyHyphens,
    /// More than one step.
    #[error("more than one slash")]
    TooManySlashes,
    /// A value is too small.
    #[error("{number} is below {minimum}")]
    BelowMinimum {
        /// The first value of the range.
        number: u64,
        /// The lowest of the field.
        minimum: u32,
    },
    /// A value is too large.
    #[error("{number} is above {maximum}")]
    AboveMaximum {
        /// The last value of the range.
        number: u64,
        /// The highest of the field.
        maximum: u32,
    },
    /// A range ends before it begins.
    #[error("{first} is beyond {last}")]
    Reversed {
        /// The first value of the range.
        first: u64,
        /// The last value of the range.
        last: u64,
    },
    /// A step of zero.
    #[error("the step is zero")]
    ZeroStep,
}

/// A fault in a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationFault {
    /// No number where one is expected, or more than 2^63 - 1 ns in all.
    #[error("not a duration, or above 2^63 - 1 ns")]
    Invalid,
    /// Below zero; Go takes an `@every` like that as one second.
    #[error("negative, the limit is 1s")]
    Negative,
    /// A number without a unit.
    #[error("a number without a unit")]
    MissingUnit,
    /// An unknown unit.
    #[error("unknown unit `{}`", Excerpt(.unit))]
    UnknownUnit {
        /// The unit.
        unit: String,
    },
}
