//! The search for the next time, on the calendar of a zone.
//!
//! The search takes the same steps as Go's: month by month, then day by day, hour by hour and minute by minute. It
//! starts again at the months whenever a unit overflows. The steps visit the same instants as Go's, because around a
//! change of the clocks they decide which times are found and which are missed.

use chrono::{
    DateTime, Datelike as _, Days, FixedOffset, Months, NaiveDateTime, NaiveTime, Offset as _, TimeZone, Timelike as _,
};

use super::fields::Fields;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Number of years that a search covers after the year of its start.
const YEARS: i32 = 5;

/// Returns the first time after `after` (Unix seconds) at which the fields match in the zone.
///
/// `None` if there is no such time until the end of the fifth year after this one, or until the end of chrono's
/// calendar.
pub(super) fn next<Z: TimeZone>(fields: &Fields, zone: &Z, mut after: i64) -> Option<i64> {
    if fields.never() {
        return None;
    }
    loop {
        let mut walk = Walk {
            fields,
            zone,
            at: Moment::of_unix(zone, after.checked_add(1)?)?,
            snapped: false,
        };
        let start = walk.at;
        let found = walk.first_match()?;
        if found > after {
            return Some(found);
        }
        // In repeated hours the search went back into the first pass, and to a match in it. Go accepts this match,
        // although its time is over.
        walk.at = start;
        if walk.by_minutes(DAY)? {
            return Some(walk.at.unix);
        }
        after = walk.at.unix;
    }
}

/// An instant, and the reading of the zone's clocks at it.
#[derive(Clone, Copy)]
struct Moment {
    unix: i64,
    local: NaiveDateTime,
}

impl Moment {
    fn of_unix<Z: TimeZone>(zone: &Z, unix: i64) -> Option<Self> {
        let utc = DateTime::from_timestamp(unix, 0)?.naive_utc();
        let local = utc.checked_add_offset(offset(zone, &utc))?;
        Some(Self { unix, local })
    }

    /// Returns the result of Go's `time.Date` for a reading of the clocks. A skipped reading becomes a time before or
    /// after the gap, and a repeated one the first or the second pass. Mostly the sign of the offset decides.
    fn of_local<Z: TimeZone>(zone: &Z, local: NaiveDateTime) -> Option<Self> {
        let guess = local.checked_sub_offset(offset(zone, &local))?;
        let utc = local.checked_sub_offset(offset(zone, &guess))?;
        Self::of_unix(zone, utc.and_utc().timestamp())
    }
}

fn offset<Z: TimeZone>(zone: &Z, utc: &NaiveDateTime) -> FixedOffset {
    zone.offset_from_utc_datetime(utc).fix()
}

struct Walk<'a, Z> {
    fields: &'a Fields,
    zone: &'a Z,
    at: Moment,
    /// `true` once the search has left its start, so that all smaller units are at their beginning.
    snapped: bool,
}

impl<Z: TimeZone> Walk<'_, Z> {
    /// The time that Go finds.
    fn first_match(&mut self) -> Option<i64> {
        let last_year = self.at.local.year() + YEARS;
        while self.at.local.year() <= last_year {
            if self.month()? && self.day()? && self.hour()? && self.minute()? && self.second()? {
                return Some(self.at.unix);
            }
        }
        None
    }

    /// Moves to the first match, and checks each minute of this number of seconds. `Some(false)` if none matches.
    fn by_minutes(&mut self, seconds: i64) -> Option<bool> {
        let end = self.at.unix.checked_add(seconds)?;
        while self.at.unix < end {
            let Moment { local, .. } = self.at;
            let date = self.fields.month(local.month()) && self.fields.day(local.date());
            let time = self.fields.hour(local.hour()) && self.fields.minute(local.minute()) && local.second() == 0;
            if date && time {
                return Some(true);
            }
            self.skip(MINUTE - i64::from(local.second()))?;
        }
        Some(false)
    }
}

/// Each method moves to the next match of its unit. `Some(false)` means that the unit overflowed, so larger units
/// must be checked again. `None` means the end of the calendar.
impl<Z: TimeZone> Walk<'_, Z> {
    fn month(&mut self) -> Option<bool> {
        while !self.fields.month(self.at.local.month()) {
            self.snap(|local| local.date().with_day(1)?.and_hms_opt(0, 0, 0))?;
            // A day that does not exist in the next month is counted on into the month after it. It is not the first
            // of a month if midnight of the first was skipped.
            let (date, time) = (self.at.local.date(), self.at.local.time());
            let first = date.with_day(1)?.checked_add_months(Months::new(1))?;
            let date = first.checked_add_days(Days::new(date.day0().into()))?;
            self.at = Moment::of_local(self.zone, date.and_time(time))?;
            if self.at.local.month() == 1 {
                return Some(false);
            }
        }
        Some(true)
    }

    fn day(&mut self) -> Option<bool> {
        while !self.fields.day(self.at.local.date()) {
            self.snap(|local| Some(local.date().and_time(NaiveTime::MIN)))?;
            self.next_day()?;
            if self.at.local.day() == 1 {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Returns the same time of the next day, moved by whole hours to hour 0 if it has another hour. East of
    /// Greenwich, a skipped midnight leads to a late hour of the day before, so that Go misses this day.
    fn next_day(&mut self) -> Option<()> {
        let before = self.at;
        for days in 1.. {
            let local = before.local.checked_add_days(Days::new(days))?;
            self.at = Moment::of_local(self.zone, local)?;
            let hour = i64::from(self.at.local.hour());
            if hour != 0 {
                self.skip(if hour > 12 { 24 - hour } else { -hour } * HOUR)?;
            }
            if self.at.unix > before.unix {
                break;
            }
            // A whole day was skipped, and the step leads nowhere (in Go without end). The result is the day after
            // the skipped one.
        }
        Some(())
    }

    fn hour(&mut self) -> Option<bool> {
        while !self.fields.hour(self.at.local.hour()) {
            self.snap(|local| local.date().and_hms_opt(local.hour(), 0, 0))?;
            self.skip(HOUR)?;
            if self.at.local.hour() == 0 {
                return Some(false);
            }
        }
        Some(true)
    }

    fn minute(&mut self) -> Option<bool> {
        while !self.fields.minute(self.at.local.minute()) {
            if !self.snapped {
                self.snapped = true;
                // The seconds of the UTC minute, not of the zone's minute. They differ if an offset has seconds.
                self.skip(-self.at.unix.rem_euclid(MINUTE))?;
            }
            self.skip(MINUTE)?;
            if self.at.local.minute() == 0 {
                return Some(false);
            }
        }
        Some(true)
    }

    fn second(&mut self) -> Option<bool> {
        let over = self.at.local.second() != 0;
        while self.at.local.second() != 0 {
            self.snapped = true;
            self.skip(1)?;
        }
        Some(!over)
    }

    /// Goes back to the beginning of a unit, once in a search.
    fn snap(&mut self, beginning: impl FnOnce(NaiveDateTime) -> Option<NaiveDateTime>) -> Option<()> {
        if !self.snapped {
            self.snapped = true;
            self.at = Moment::of_local(self.zone, beginning(self.at.local)?)?;
        }
        Some(())
    }

    /// Moves forward or back by this number of seconds.
    fn skip(&mut self, seconds: i64) -> Option<()> {
        self.at = Moment::of_unix(self.zone, self.at.unix.checked_add(seconds)?)?;
        Some(())
    }
}
