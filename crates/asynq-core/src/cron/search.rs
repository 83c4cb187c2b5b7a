//! The search for the next time, on the calendar of a zone.
//!
//! It walks as Go's does: month by month, then day by day, hour by hour, minute by minute, and from the top
//! again whenever a unit has run over. The steps look at the same instants as Go's, since around a change of
//! the clocks it is these that decide what is found, and what is missed.

use chrono::{
    DateTime, Datelike as _, Days, FixedOffset, Months, NaiveDateTime, NaiveTime, Offset as _, TimeZone, Timelike as _,
};

use super::fields::Fields;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Number of years that a search covers after the year of its start.
const YEARS: i32 = 5;

/// The first time after `after` (Unix seconds) that the fields match in the zone.
///
/// `None` if there is none up to the end of the fifth year after this one, or before the end of the
/// calendar that chrono has.
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
        // In repeated hours the way led back into the first pass, and to a match there. Go takes it, although it
        // is over.
        walk.at = start;
        if walk.by_minutes(DAY)? {
            return Some(walk.at.unix);
        }
        after = walk.at.unix;
    }
}

/// An instant, and what the clocks of the zone show.
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

    /// Returns what Go's `time.Date` makes of a reading of the clocks. Skipped readings come out before or after
    /// the gap, repeated ones as the first or the second pass: mostly by the sign of the offset.
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
    /// `true` once the search has left its start, so that all smaller units stand at their beginning.
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

    /// Moves on to the first match, by looking at each minute of so many seconds. `Some(false)`: there is none.
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

/// Each method goes on to where its unit matches. `Some(false)`: it ran over, larger units are to be looked
/// at again; `None`: the calendar is at its end.
impl<Z: TimeZone> Walk<'_, Z> {
    fn month(&mut self) -> Option<bool> {
        while !self.fields.month(self.at.local.month()) {
            self.snap(|local| local.date().with_day(1)?.and_hms_opt(0, 0, 0))?;
            // A day that the next month has not is counted on into the month after it. It is not the first if
            // midnight of the first was skipped.
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

    /// The same time of the next day, moved by whole hours to an hour of 0 unless it is one. Where midnight is
    /// skipped, that leads east of Greenwich to late the day before, so that Go misses this day.
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
            // A whole day was skipped and the step leads nowhere, for ever in Go: it is the day after that.
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
                // Of the world's minute, not the zone's: they differ where an offset has seconds.
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

    /// Back to the beginning of a unit, once in a search.
    fn snap(&mut self, beginning: impl FnOnce(NaiveDateTime) -> Option<NaiveDateTime>) -> Option<()> {
        if !self.snapped {
            self.snapped = true;
            self.at = Moment::of_local(self.zone, beginning(self.at.local)?)?;
        }
        Some(())
    }

    /// Moves on, or back, by so many seconds.
    fn skip(&mut self, seconds: i64) -> Option<()> {
        self.at = Moment::of_unix(self.zone, self.at.unix.checked_add(seconds)?)?;
        Some(())
    }
}
