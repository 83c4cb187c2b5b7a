//! Cron specs in words.

use std::{fmt::Write as _, time::Duration};

use super::fields::{DayRule, Fields};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// The days of a week that begins on Monday.
const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
/// Largest number of times of the day that are listed.
const TIMES: usize = 6;

/// Returns a period, such as `every 1 hour 30 minutes`.
pub(super) fn period(period: Duration) -> String {
    let seconds = period.as_secs();
    let units = [
        (86_400, "day", u64::MAX),
        (3_600, "hour", 24),
        (60, "minute", 60),
        (1, "second", 60),
    ];
    let counts = units.map(|(unit, name, most)| (seconds / unit % most, name));
    let parts: Vec<_> = counts.into_iter().filter(|(count, _)| *count > 0).collect();
    if let [(1, name)] = parts.as_slice() {
        return format!("every {name}");
    }
    let mut text = String::from("every");
    for (count, name) in parts {
        // Writing to a string cannot fail.
        let _ = write!(text, " {count} {name}{}", if count == 1 { "" } else { "s" });
    }
    text
}

/// Returns the times at which the fields match, such as `at 08:30 from Monday to Friday`.
pub(super) fn fields(fields: &Fields) -> String {
    if fields.never() {
        return "never".to_owned();
    }
    let minutes = values(0, 59, |minute| fields.minute(minute));
    let hours = values(0, 23, |hour| fields.hour(hour));
    let months = values(1, 12, |month| fields.month(month));
    let (time, is_at_times) = time(&minutes, &hours);
    let (days, are_months_told) = days(fields, &months);
    let months = match are_months_told || months.len() == 12 {
        true => String::new(),
        false => match is_run(&months) && months.len() > 2 {
            true => format!("from {} to {}", month(months[0]), month(months[months.len() - 1])),
            false => format!("in {}", list(months.into_iter().map(month))),
        },
    };
    let days = match days.is_empty() && is_at_times {
        true => "every day".to_owned(),
        false => days,
    };
    let parts = [time, days, months].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" ")
}

fn values(first: u32, last: u32, matches: impl Fn(u32) -> bool) -> Vec<u32> {
    (first..=last).filter(|value| matches(*value)).collect()
}

/// Returns whether each number follows the one before.
fn is_run(values: &[u32]) -> bool {
    values.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

/// Returns the step between three numbers or more that go on to the end of their field.
fn step(values: &[u32], last: u32) -> Option<u32> {
    let [first, second, _, ..] = *values else { return None };
    let step = second - first;
    let is_even = values.windows(2).all(|pair| pair[1] - pair[0] == step);
    let is_whole = values[values.len() - 1] + step > last;
    (step > 1 && is_even && is_whole).then_some(step)
}

/// Returns words with commas, and `and` before the last.
fn list<T: ToString>(words: impl IntoIterator<Item = T>) -> String {
    let mut words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    match words.pop() {
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} and {last}", words.join(", ")),
        None => String::new(),
    }
}

/// Returns numbers with their runs as `9 to 12`.
fn runs(values: &[u32]) -> String {
    let runs = values.chunk_by(|a, b| *b == a + 1);
    let texts = runs.flat_map(|run| match run {
        [first, _, .., last] => vec![format!("{first} to {last}")],
        few => few.iter().map(u32::to_string).collect(),
    });
    list(texts)
}

fn clock(hour: u32, minute: u32) -> String {
    format!("{hour:02}:{minute:02}")
}

/// Returns the times of the day, and whether they are single times.
fn time(minutes: &[u32], hours: &[u32]) -> (String, bool) {
    let all_hours = hours.len() == 24;
    let within = |text: String| match hours {
        _ if all_hours => text,
        [first, .., last] if is_run(hours) => format!("{text} from {first:02}:00 to {last:02}:59"),
        [hour] => format!("{text} from {hour:02}:00 to {hour:02}:59"),
        _ => format!("{text} in the hours {}", runs(hours)),
    };
    if minutes.len() == 60 {
        return (within("every minute".to_owned()), false);
    }
    if let Some(step) = step(minutes, 59) {
        let first = minutes[0];
        return match (first, 60 % step) {
            (0, 0) => (within(format!("every {step} minutes")), false),
            _ => (
                within(format!("every {step} minutes from minute {first} of each hour on")),
                false,
            ),
        };
    }
    if let [minute] = *minutes {
        match (hours, step(hours, 23)) {
            _ if all_hours && minute == 0 => return ("every hour".to_owned(), false),
            _ if all_hours => return (format!("every hour at minute {minute}"), false),
            ([first, ..], Some(step)) => {
                let text = match (minute, first, 24 % step) {
                    (0, 0, 0) => format!("every {step} hours"),
                    _ => format!("every {step} hours from {} on each day", clock(*first, minute)),
                };
                return (text, false);
            }
            ([first, _, .., last], None) if is_run(hours) => {
                return (
                    format!("every hour from {} to {}", clock(*first, minute), clock(*last, minute)),
                    false,
                );
            }
            _ => {}
        }
    }
    if minutes.len() * hours.len() <= TIMES {
        let times = hours
            .iter()
            .flat_map(|hour| minutes.iter().map(|minute| clock(*hour, *minute)));
        return (format!("at {}", list(times)), true);
    }
    let at = match minutes {
        [minute] => format!("at minute {minute}"),
        minutes => format!("at the minutes {}", runs(minutes)),
    };
    match all_hours {
        true => (format!("{at} of every hour"), false),
        false => (format!("{at} of the hours {}", runs(hours)), false),
    }
}

/// Returns the days, and whether they tell the months too. Nothing if it is every day.
fn days(fields: &Fields, months: &[u32]) -> (String, bool) {
    let of_month = values(1, 31, |day| fields.day_of_month(day));
    let of_week = values(0, 6, |day| fields.day_of_week((day + 1) % 7));
    let is_any = |rule: &DayRule| match rule {
        DayRule::Both => (of_month.len() == 31, of_week.len() == 7),
        DayRule::OfMonth => (of_month.len() == 31, true),
        DayRule::OfWeek => (true, of_week.len() == 7),
        // Each of the two fields is told.
        DayRule::Either | DayRule::Never => (false, false),
    };
    match is_any(&fields.rule()) {
        (true, true) => (String::new(), false),
        (true, false) => (days_of_week(&of_week), false),
        (false, true) => match (of_month.as_slice(), months) {
            (days @ ([_] | [_, _]), [one]) => (format!("on {} {}", list(days), month(*one)), true),
            (days, _) => (days_of_month(days), false),
        },
        (false, false) if matches!(fields.rule(), DayRule::Either) => (
            format!("{}, and also {}", days_of_month(&of_month), days_of_week(&of_week)),
            false,
        ),
        (false, false) => (
            format!("{}, but only {}", days_of_month(&of_month), days_of_week(&of_week)),
            false,
        ),
    }
}

fn month(number: u32) -> &'static str {
    MONTHS.get(number as usize - 1).copied().unwrap_or_default()
}

fn days_of_week(days: &[u32]) -> String {
    let name = |day: &u32| DAYS.get(*day as usize).copied().unwrap_or_default();
    match days {
        [first, _, .., last] if is_run(days) => format!("from {} to {}", name(first), name(last)),
        days => format!("every {}", list(days.iter().map(name))),
    }
}

fn days_of_month(days: &[u32]) -> String {
    match days {
        [first, _, .., last] if is_run(days) => format!("from the {} to the {} of the month", nth(*first), nth(*last)),
        [first, ..] if let Some(step) = step(days, 31) => {
            format!("every {step} days from the {} of the month on", nth(*first))
        }
        days => format!("on the {} of the month", list(days.iter().map(|day| nth(*day)))),
    }
}

/// Returns an ordinal number, such as `1st`.
fn nth(number: u32) -> String {
    let end = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

#[cfg(test)]
mod tests {
    use crate::cron::CronSpec;

    #[test]
    fn specs_are_told_in_words() {
        for (spec, words) in [
            ("* * * * *", "every minute"),
            ("*/15 * * * *", "every 15 minutes"),
            ("0,15,30,45 * * * *", "every 15 minutes"),
            ("*/7 * * * *", "every 7 minutes from minute 0 of each hour on"),
            ("5/20 * * * *", "every 20 minutes from minute 5 of each hour on"),
            ("0 * * * *", "every hour"),
            ("20 * * * *", "every hour at minute 20"),
            ("0 */6 * * *", "every 6 hours"),
            ("15 */6 * * *", "every 6 hours from 00:15 on each day"),
            ("0 */5 * * *", "every 5 hours from 00:00 on each day"),
            ("30 8 * * *", "at 08:30 every day"),
            ("30 8,17 * * *", "at 08:30 and 17:30 every day"),
            ("0,30 8 * * 1", "at 08:00 and 08:30 every Monday"),
            ("30 8 * * mon-fri", "at 08:30 from Monday to Friday"),
            ("0 0 * * 6,0", "at 00:00 every Saturday and Sunday"),
            (
                "*/10 9-17 * * 1-5",
                "every 10 minutes from 09:00 to 17:59 from Monday to Friday",
            ),
            ("* 3 * * *", "every minute from 03:00 to 03:59"),
            ("0 9-17 * * *", "every hour from 09:00 to 17:00"),
            ("* 1,3-6 * * *", "every minute in the hours 1 and 3 to 6"),
            (
                "1-3,9 0-11,20 * * *",
                "at the minutes 1 to 3 and 9 of the hours 0 to 11 and 20",
            ),
            ("1,2 * * * *", "at the minutes 1 and 2 of every hour"),
            ("0 0 1 * *", "at 00:00 on the 1st of the month"),
            ("0 0 1,15,22 * *", "at 00:00 on the 1st, 15th and 22nd of the month"),
            ("0 0 1-7 * *", "at 00:00 from the 1st to the 7th of the month"),
            ("0 0 */2 * *", "at 00:00 every 2 days from the 1st of the month on"),
            (
                "0 0 13 * fri",
                "at 00:00 on the 13th of the month, and also every Friday",
            ),
            ("0 0 30 2 *", "at 00:00 on 30 February"),
            ("0 12 1 1,7 *", "at 12:00 on the 1st of the month in January and July"),
            ("0 12 * 6-8 *", "at 12:00 every day from June to August"),
            ("0 12 * 6,7 1", "at 12:00 every Monday in June and July"),
            ("* * * 2 *", "every minute in February"),
            ("@yearly", "at 00:00 on 1 January"),
            ("@monthly", "at 00:00 on the 1st of the month"),
            ("@weekly", "at 00:00 every Sunday"),
            ("@daily", "at 00:00 every day"),
            ("@hourly", "every hour"),
            (", * * * *", "never"),
            ("0 0 , * 1", "at 00:00 every Monday"),
            ("0 0 3 * ,", "at 00:00 on the 3rd of the month"),
            ("@every 1h", "every hour"),
            ("@every 90s", "every 1 minute 30 seconds"),
            ("@every 36h", "every 1 day 12 hours"),
            ("@every 1ms", "every second"),
            ("@every 2h", "every 2 hours"),
            (
                "CRON_TZ=Asia/Tokyo 0 6 * * *",
                "at 06:00 every day, in the time zone Asia/Tokyo",
            ),
            ("TZ=Europe/Berlin @hourly", "every hour, in the time zone Europe/Berlin"),
            ("CRON_TZ= @daily", "at 00:00 every day, in the time zone UTC"),
            ("TZ=Asia/Tokyo @every 5m", "every 5 minutes"),
        ] {
            assert_eq!(CronSpec::parse(spec).unwrap().in_words(), words, "{spec}");
        }
    }
}
