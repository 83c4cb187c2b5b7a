//! Cases that the comparison with Go in `tests/cron.rs` does not cover.

use std::{collections::HashSet, ops::RangeInclusive};

use chrono::{DateTime, Datelike as _, Days, FixedOffset, Local, SecondsFormat, TimeZone as _, Timelike as _, Utc};
use proptest::prelude::*;

use super::*;

fn spec(text: &str) -> CronSpec {
    CronSpec::parse(text).unwrap()
}

fn refusal(text: &str) -> String {
    CronSpec::parse(text).unwrap_err().to_string()
}

/// The next time after one given in RFC 3339, both in the zone.
fn next(text: &str, zone: Tz, from: &str) -> Option<String> {
    let from = DateTime::parse_from_rfc3339(from).unwrap().with_timezone(&zone);
    let next = spec(text).next_after(&from)?;
    assert!(next > from, "{next}");
    Some(next.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

#[test]
fn the_text_is_kept_and_is_what_a_spec_is_known_by() {
    let text = "CRON_TZ=Europe/Berlin  0 0 * * * ";
    let parsed = spec(text);
    assert_eq!(parsed.as_str(), text);
    assert_eq!(parsed.to_string(), text);
    assert_eq!(format!("{parsed:?}"), format!("CronSpec({text:?})"));
    assert_eq!(text.parse(), Ok(parsed.clone()));
    assert_ne!(parsed, spec(text.trim_end()));
    assert_eq!(HashSet::from([parsed.clone(), parsed]).len(), 1);
}

#[test]
fn a_prefix_names_the_zone() {
    assert_eq!(spec("0 0 * * *").timezone(), None);
    assert_eq!(spec("TZ=Asia/Tokyo 0 0 * * *").timezone(), Some(Tz::Asia__Tokyo));
    assert_eq!(spec("CRON_TZ=UTC @daily").timezone(), Some(Tz::UTC));
    assert_eq!(spec("CRON_TZ= @daily").timezone(), Some(Tz::UTC));
    assert_eq!(spec("CRON_TZ=Local @daily").timezone(), None);
}

#[test]
fn every_has_a_period_of_whole_seconds() {
    for (text, seconds) in [
        ("1h30m", 5400),
        ("90s", 90),
        ("1999ms", 1),
        ("1ns", 1),
        ("0", 1),
        ("-0", 1),
        ("0.5s", 1),
        ("2562047h47m16.854775807s", 9_223_372_036),
    ] {
        let parsed = spec(&format!("@every {text}"));
        assert_eq!(parsed.every(), Some(Duration::from_secs(seconds)), "{text}");
    }
    assert_eq!(spec("@hourly").every(), None);
}

#[test]
fn errors_name_the_field_the_text_and_what_is_allowed() {
    for (text, error) in [
        ("", "the cron spec is empty"),
        ("TZ=UTC", "cron spec `TZ=UTC`: no blank after the time zone"),
        ("TZ=Mars/Base @daily", "unknown time zone `Mars/Base`"),
        ("TZ=europe/berlin @daily", "unknown time zone `europe/berlin`"),
        (
            "0 0 *",
            "cron spec `0 0 *`: 3 fields instead of 5 (minute, hour, day of month, month, day of week)",
        ),
        ("5-61 * * * *", "minute `5-61`: 61 is above 59 (allowed: 0-59)"),
        ("* 1,24 * * *", "hour `24`: 24 is above 23 (allowed: 0-23)"),
        ("* * 0 * *", "day of month `0`: 0 is below 1 (allowed: 1-31)"),
        (
            "* * * dez *",
            "month `dez`: `dez` is not a number (allowed: 1-12 or jan-dec)",
        ),
        (
            "* * * * fri-mon",
            "day of week `fri-mon`: 5 is beyond 1 (allowed: 0-6 or sun-sat)",
        ),
        ("*/0 * * * *", "minute `*/0`: the step is zero (allowed: 0-59)"),
        ("*/-2 * * * *", "minute `*/-2`: -2 is negative (allowed: 0-59)"),
        ("1-2-3 * * * *", "minute `1-2-3`: more than one hyphen (allowed: 0-59)"),
        ("1/2/3 * * * *", "minute `1/2/3`: more than one slash (allowed: 0-59)"),
        (
            "@reboot",
            "unknown descriptor `@reboot` (allowed: @yearly, @annually, @monthly, @weekly, @daily, @midnight, \
             @hourly, @every <duration>)",
        ),
        (
            "@every 1d",
            "@every `1d`: unknown unit `d` (allowed: as 90s, 1h30m or 1.5h; units ns, us, ms, s, m, h)",
        ),
        (
            "@every 5",
            "@every `5`: a number without a unit (allowed: as 90s, 1h30m or 1.5h; units ns, us, ms, s, m, h)",
        ),
        (
            "@every soon",
            "@every `soon`: not a duration, or above 2^63 - 1 ns (allowed: as 90s, 1h30m or 1.5h; units ns, us, \
             ms, s, m, h)",
        ),
        (
            "@every -5s",
            "@every `-5s`: negative, the limit is 1s (allowed: as 90s, 1h30m or 1.5h; units ns, us, ms, s, \
             m, h)",
        ),
    ] {
        assert_eq!(refusal(text), error);
    }
}

#[test]
fn a_duration_below_zero_is_refused() {
    for text in ["-1ns", "-5s", "-5m", "-9223372036854775808ns"] {
        let error = CronSpec::parse(&format!("CRON_TZ=UTC @every {text}")).unwrap_err();
        let negative = matches!(
            &error,
            CronError::Every {
                fault: DurationFault::Negative,
                ..
            }
        );
        assert!(negative, "{error}");
    }
}

#[test]
fn a_spec_has_a_length_and_its_errors_are_short() {
    let minutes: Vec<_> = (0..60).map(|n| n.to_string()).collect();
    let (all, days) = (minutes.join(","), minutes[1..32].join(","));
    let (hours, months) = (minutes[..24].join(","), minutes[1..13].join(","));
    spec(&format!(
        "CRON_TZ=America/Argentina/ComodRivadavia {all} {hours} {days} {months} 0,1,2,3,4,5,6"
    ));

    assert_eq!(
        refusal(&"*".repeat(10_000)),
        "cron spec of 10000 bytes is above the limit of 1024"
    );
    let long = "x".repeat(900);
    for text in [
        format!("TZ={long}"),
        format!("TZ={long} @daily"),
        long.clone(),
        format!("{long} * * * *"),
        format!("{long}/{long} * * * *"),
        format!("@{long}"),
        format!("@every {long}"),
        format!("@every 1{long}"),
    ] {
        let shown = refusal(&text);
        assert!(shown.len() < 450, "{} bytes: {shown}", shown.len());
    }
}

/// Samoa went from 29 to 31 December 2011; Go's search over days hangs there.
#[test]
fn the_search_goes_on_after_a_day_that_a_zone_skipped() {
    let zone = Tz::Pacific__Apia;
    let from = "2011-12-28T12:00:00-10:00";
    assert_eq!(next("0 9 31 12 *", zone, from).unwrap(), "2011-12-31T09:00:00+14:00");
    assert_eq!(next("0 9 30 12 *", zone, from).unwrap(), "2012-12-30T09:00:00+14:00");
    assert_eq!(next("0 9 1 1 *", zone, from).unwrap(), "2012-01-01T09:00:00+14:00");
    assert_eq!(next("0 9 30 2 *", zone, from), None);
    // Kiritimati skipped the last day of 1994, and the month is over after it.
    let from = "1994-12-29T12:00:00-10:00";
    assert_eq!(
        next("0 9 2 * *", Tz::Pacific__Kiritimati, from).unwrap(),
        "1995-01-02T09:00:00+14:00"
    );
}

/// Newfoundland's summer time ended at a minute after midnight until 2011. In the hour before that midnight
/// that came twice, Go goes back to its first beginning, and answers the first midnight, which is over.
#[test]
fn a_time_that_is_over_is_not_answered() {
    let zone = Tz::America__St_Johns;
    let midnight = "2008-11-02T00:00:00-03:30";
    assert_eq!(
        next("0 0 * * *", zone, "2008-11-01T23:30:00-02:30").unwrap(),
        "2008-11-02T00:00:00-02:30"
    );
    for from in [
        "2008-11-02T00:00:59-02:30",
        "2008-11-01T23:01:00-03:30",
        "2008-11-01T23:59:59-03:30",
    ] {
        assert_eq!(next("0 0 * * *", zone, from).unwrap(), midnight);
        assert_eq!(next("* */2 * * *", zone, from).unwrap(), midnight);
    }
    assert_eq!(next("0 0 * * *", zone, midnight).unwrap(), "2008-11-03T00:00:00-03:30");
    // The hour came back on the first of the month, but as one of the last of the month before.
    assert_eq!(
        next("0 0 1 11 *", zone, "2009-10-31T23:30:00-03:30").unwrap(),
        "2009-11-01T00:00:00-03:30"
    );
    // Two hours at once in 1988.
    assert_eq!(
        next("0 0 * * *", zone, "1988-10-29T23:30:00-03:30").unwrap(),
        "1988-10-30T00:00:00-03:30"
    );
}

#[test]
fn a_leap_second_is_not_answered_twice() {
    // 23:59:60.5, as chrono writes it.
    let from = DateTime::from_timestamp(1_483_228_799, 1_500_000_000).unwrap();
    for text in ["* * * * *", "@every 1s"] {
        let next = spec(text).next_after(&from).unwrap();
        assert_eq!(next.to_rfc3339(), "2017-01-01T00:00:00+00:00", "{text}");
    }
}

fn next_in<Z: TimeZone>(zone: &Z, spec: &CronSpec, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
    spec.next_after(&from.with_timezone(zone)).map(|next| next.to_utc())
}

#[test]
fn the_ends_of_the_calendar_are_no_time() {
    let specs = [
        "* * * * *",
        "0 0 1 1 *",
        "0 0 30 2 *",
        "59 23 31 12 *",
        "0 0 29 2 1",
        ", * * * *",
        "@every 1s",
        "@every 2562047h",
        "TZ=Asia/Tokyo * * * * *",
        "TZ=America/New_York 0 12 * * 0",
    ];
    for text in specs {
        let parsed = spec(text);
        for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            for days in [0, 1, 300, 4000] {
                let from = if at.year() > 0 {
                    at - Days::new(days)
                } else {
                    at + Days::new(days)
                };
                let east = FixedOffset::east_opt(86_399).unwrap();
                let west = FixedOffset::west_opt(86_399).unwrap();
                let found = [
                    parsed.next_after(&from),
                    next_in(&east, &parsed, from),
                    next_in(&west, &parsed, from),
                    next_in(&Tz::Europe__Berlin, &parsed, from),
                    next_in(&Local, &parsed, from),
                ];
                for next in found.into_iter().flatten() {
                    assert!(next > from, "{text}: {from} -> {next}");
                }
            }
        }
        assert_eq!(parsed.next_after(&DateTime::<Utc>::MAX_UTC), None, "{text}");
    }
    // Before the year 1, 1 January is a Saturday in the year -5.
    let from = Utc.with_ymd_and_hms(-6, 6, 1, 0, 0, 0).unwrap();
    let next = spec("0 0 1 1 *").next_after(&from).unwrap();
    assert_eq!((next.year(), next.ordinal()), (-5, 1));
}

#[test]
fn the_zone_of_the_system_will_do() {
    let from = Local.with_ymd_and_hms(2024, 7, 1, 0, 0, 30).unwrap();
    let next = spec("CRON_TZ=Local 15 14 * * *").next_after(&from).unwrap();
    assert_eq!((next.day(), next.hour(), next.minute()), (1, 14, 15));
}

/// A list of up to three terms, and the numbers in it by a reading of its own.
fn field(range: RangeInclusive<u32>) -> impl Strategy<Value = (String, Vec<u32>)> {
    let (low, high) = range.into_inner();
    let term = (0..4_u8, low..=high, low..=high, 1..=high + 3).prop_map(move |(kind, a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        let step_by = step as usize;
        match kind {
            0 => (format!("*/{step}"), (low..=high).step_by(step_by).collect()),
            1 => (format!("{a}"), vec![a]),
            2 => (format!("{a}/{step}"), (a..=high).step_by(step_by).collect()),
            _ => (format!("{a}-{b}/{step}"), (a..=b).step_by(step_by).collect::<Vec<_>>()),
        }
    });
    prop::collection::vec(term, 1..4).prop_map(|terms| {
        let (texts, numbers): (Vec<_>, Vec<_>) = terms.into_iter().unzip();
        (texts.join(","), numbers.concat())
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = CronSpec::parse(&text);
    }

    #[test]
    fn anything_like_a_spec_is_read_or_refused(
        text in "((CRON_)?TZ=(UTC|Local|Asia/Tokyo|x)? ?)?(@(every|daily|x)? ?)?([-0-9*?/,+a-z\u{130}]{0,9}[ \t\u{a0}]){0,6}",
        from in any::<i32>(),
    ) {
        if let Ok(spec) = CronSpec::parse(&text) {
            prop_assert_eq!(spec.to_string().parse(), Ok(spec.clone()));
            let from = DateTime::from_timestamp(from.into(), 0).unwrap();
            prop_assert!(spec.next_after(&from).is_none_or(|next| next > from));
        }
    }

    /// In a zone whose clocks never change: the time found matches every field, and no minute before it does.
    #[test]
    fn the_first_time_that_matches_is_found(
        minute in field(0..=59),
        hour in field(0..=23),
        day in field(1..=31),
        month in field(1..=12),
        weekday in field(0..=6),
        from in 0..4_000_000_000_i64,
        nanos in 0..1_000_000_000_u32,
        offset in -86_399..86_400_i32,
    ) {
        let text = [&minute.0, &hour.0, &day.0, &month.0, &weekday.0].map(String::as_str).join(" ");
        let star = [&day.0, &weekday.0].iter().any(|field| field.split(',').any(|term| term == "*/1"));
        let matches = |time: &DateTime<FixedOffset>| {
            let of_month = day.1.contains(&time.day());
            let of_week = weekday.1.contains(&time.weekday().num_days_from_sunday());
            month.1.contains(&time.month())
                && hour.1.contains(&time.hour())
                && minute.1.contains(&time.minute())
                && if star { of_month && of_week } else { of_month || of_week }
        };
        // Go's minutes begin with the world's.
        let zone = FixedOffset::east_opt(offset - offset % 60).unwrap();
        let from = zone.timestamp_opt(from, nanos).unwrap();
        let parsed = spec(&text);
        prop_assert_eq!(parsed.as_str(), &text);
        let found = parsed.next_after(&from);
        if let Some(next) = &found {
            prop_assert!(next > &from, "{text}: {from} -> {next}");
            prop_assert!(matches(next) && next.second() == 0 && next.nanosecond() == 0, "{text}: {from} -> {next}");
        }
        let minutes = (1..).map(|minutes| from.timestamp().div_euclid(60) + minutes);
        let mut before = minutes.map(|minute| zone.timestamp_opt(minute * 60, 0).unwrap()).take(3_000);
        let first = before.find(matches);
        prop_assert!(first.is_none_or(|first| found == Some(first)), "{text}: {from} -> {found:?}, not {first:?}");
    }
}
