//! The five fields: read with Go's grammar, then held by the `cron` crate.

use std::{fmt::Write as _, str::FromStr as _};

use chrono::{Datelike as _, NaiveDate};
use cron::{Schedule, TimeUnitSpec as _};

use super::{CronError, CronField, FieldFault};

/// The times of the day, and the days, at which a spec is due.
pub(super) struct Fields {
    /// The fields in the grammar of the `cron` crate. An empty field, which that grammar cannot express, is a star.
    schedule: Schedule,
    days: DayRule,
}

/// The combination of the two fields for days.
#[derive(Clone, Copy)]
pub(super) enum DayRule {
    /// One of them has an unrestricted star.
    Both,
    Either,
    /// The other is empty.
    OfMonth,
    /// The other is empty.
    OfWeek,
    /// A field is empty, and so matches nothing.
    Never,
}

impl Fields {
    /// Reads the five fields.
    pub(super) fn parse([minute, hour, day_of_month, month, day_of_week]: [&str; 5]) -> Result<Self, CronError> {
        let minute = Field::parse(CronField::Minute, minute)?;
        let hour = Field::parse(CronField::Hour, hour)?;
        let day_of_month = Field::parse(CronField::DayOfMonth, day_of_month)?;
        let month = Field::parse(CronField::Month, month)?;
        let day_of_week = Field::parse(CronField::DayOfWeek, day_of_week)?;

        let days = if [&minute, &hour, &month].iter().any(|field| field.is_empty()) {
            DayRule::Never
        } else {
            DayRule::of(&day_of_month, &day_of_week)
        };
        let expression = format!(
            "0 {} {} {} {} {}",
            minute.translated(),
            hour.translated(),
            day_of_month.translated(),
            month.translated(),
            day_of_week.translated()
        );
        #[expect(
            clippy::expect_used,
            reason = "lists of ranges within the bounds, in that crate's grammar"
        )]
        let schedule = Schedule::from_str(&expression).expect("a valid expression");
        Ok(Self { schedule, days })
    }

    /// Returns whether nothing matches at all.
    pub(super) const fn never(&self) -> bool {
        matches!(self.days, DayRule::Never)
    }

    pub(super) fn minute(&self, minute: u32) -> bool {
        self.schedule.minutes().includes(minute)
    }

    pub(super) fn hour(&self, hour: u32) -> bool {
        self.schedule.hours().includes(hour)
    }

    pub(super) fn month(&self, month: u32) -> bool {
        self.schedule.months().includes(month)
    }

    /// Returns whether the field for days of the month has a day. An empty field has all.
    pub(super) fn day_of_month(&self, day: u32) -> bool {
        self.schedule.days_of_month().includes(day)
    }

    /// Returns whether the field for days of the week has a day, from Sunday, which is 0. An empty field has all.
    pub(super) fn day_of_week(&self, day: u32) -> bool {
        self.schedule.days_of_week().includes(day + 1)
    }

    pub(super) fn rule(&self) -> DayRule {
        self.days
    }

    pub(super) fn day(&self, date: NaiveDate) -> bool {
        let of_month = || self.schedule.days_of_month().includes(date.day());
        let of_week = || {
            self.schedule
                .days_of_week()
                .includes(date.weekday().number_from_sunday())
        };
        match self.days {
            DayRule::Both => of_month() && of_week(),
            DayRule::Either => of_month() || of_week(),
            DayRule::OfMonth => of_month(),
            DayRule::OfWeek => of_week(),
            DayRule::Never => false,
        }
    }
}

impl DayRule {
    fn of(day_of_month: &Field, day_of_week: &Field) -> Self {
        let star = day_of_month.star || day_of_week.star;
        match (day_of_month.is_empty(), day_of_week.is_empty()) {
            (false, false) if star => Self::Both,
            (false, false) => Self::Either,
            (false, true) if !star => Self::OfMonth,
            (true, false) if !star => Self::OfWeek,
            _ => Self::Never,
        }
    }
}

/// A field in the grammar of the `cron` crate.
struct Field {
    /// Empty if the field is.
    terms: String,
    /// `true` if it has a star that no step above one restricts.
    star: bool,
}

impl Field {
    fn parse(field: CronField, text: &str) -> Result<Self, CronError> {
        let mut read = Self {
            terms: String::new(),
            star: false,
        };
        for term in text.split(',').filter(|term| !term.is_empty()) {
            let parsed = Term::parse(field, term).map_err(|fault| CronError::Field {
                field,
                term: term.to_owned(),
                fault,
            })?;
            if !read.is_empty() {
                read.terms.push(',');
            }
            parsed.translate(field, &mut read.terms);
            read.star |= parsed.star;
        }
        Ok(read)
    }

    fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    fn translated(&self) -> &str {
        if self.is_empty() { "*" } else { &self.terms }
    }
}

/// A part of a field's list.
struct Term {
    first: u32,
    last: u32,
    step: u64,
    star: bool,
}

impl Term {
    fn parse(field: CronField, text: &str) -> Result<Self, FieldFault> {
        let mut slashes = text.split('/');
        let range = slashes.next().unwrap_or_default();
        let (step, too_many_slashes) = (slashes.next(), slashes.next().is_some());

        let mut hyphens = range.split('-');
        let low = hyphens.next().unwrap_or_default();
        let (high, too_many_hyphens) = (hyphens.next(), hyphens.next().is_some());

        let (minimum, maximum) = field.range().into_inner();
        let star = matches!(low, "*" | "?");
        let (first, mut last) = if star {
            // Go does not look at what follows a hyphen here.
            (minimum.into(), maximum.into())
        } else {
            let first = number_or_name(field, low)?;
            match high {
                _ if too_many_hyphens => return Err(FieldFault::TooManyHyphens),
                Some(high) => (first, number_or_name(field, high)?),
                None => (first, first),
            }
        };
        if too_many_slashes {
            return Err(FieldFault::TooManySlashes);
        }
        let step = match step {
            None => 1,
            Some(step) => {
                if high.is_none() {
                    last = maximum.into();
                }
                number(step)?
            }
        };

        let below = || FieldFault::BelowMinimum { number: first, minimum };
        let above = || FieldFault::AboveMaximum { number: last, maximum };
        if first < u64::from(minimum) {
            return Err(below());
        }
        if last > u64::from(maximum) {
            return Err(above());
        }
        if first > last {
            return Err(FieldFault::Reversed { first, last });
        }
        if step == 0 {
            return Err(FieldFault::ZeroStep);
        }
        Ok(Self {
            // Both lie within the bounds.
            first: u32::try_from(first).map_err(|_| below())?,
            last: u32::try_from(last).map_err(|_| above())?,
            step,
            star: star && step == 1,
        })
    }

    /// Appends the term: days of the week count from 1 there, and a step must not lead out of the bounds.
    fn translate(&self, field: CronField, into: &mut String) {
        let shift = u32::from(field == CronField::DayOfWeek);
        let (first, last) = (self.first + shift, self.last + shift);
        // Writing to a string cannot fail.
        let _ = match self.step {
            1 if self.star => into.write_str("*"),
            step if step > u64::from(last - first) => write!(into, "{first}"),
            1 => write!(into, "{first}-{last}"),
            step => write!(into, "{first}-{last}/{step}"),
        };
    }
}

fn number_or_name(field: CronField, text: &str) -> Result<u64, FieldFault> {
    // Go's lower case of this one letter is ASCII, and no other's that is in a name.
    let name = text.replace('\u{130}', "i");
    (u64::from(*field.range().start())..)
        .zip(field.names())
        .find_map(|(number, known)| name.eq_ignore_ascii_case(known).then_some(number))
        .map_or_else(|| number(text), Ok)
}

fn number(text: &str) -> Result<u64, FieldFault> {
    let number: i64 = text
        .parse()
        .map_err(|_| FieldFault::NotANumber { text: text.to_owned() })?;
    u64::try_from(number).map_err(|_| FieldFault::Negative { number })
}
