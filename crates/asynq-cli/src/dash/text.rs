//! Times, durations and numbers in few words, and texts in the width that there is.

use std::time::Duration;

use chrono::{Local, TimeDelta};

use ratatui::text::Span;

use super::model::Time;
use crate::output::one_line;

/// Returns a duration in its two largest units: `3d4h`, `5m12s`, `1.2s`, `340ms`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, unit: &str, small: u64, below: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{below}"),
    };
    match seconds {
        0 if duration.is_zero() => "0s".to_owned(),
        0 => format!("{}ms", duration.as_millis().max(1)),
        1..10 => match duration.subsec_millis() / 100 {
            0 => format!("{seconds}s"),
            tenths => format!("{seconds}.{tenths}s"),
        },
        10..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// Returns the time from `from` to `to` in whole seconds; none if `to` is earlier.
pub(crate) fn between(from: Time, to: Time) -> String {
    duration(Duration::from_secs(seconds(to - from)))
}

fn seconds(delta: TimeDelta) -> u64 {
    u64::try_from(delta.num_seconds()).unwrap_or(0)
}

/// Returns a time as seen from now: `in 3m`, `12s ago`, `now`.
pub(crate) fn relative(at: Time, now: Time) -> String {
    match (at - now).num_seconds() {
        0 => "now".to_owned(),
        later @ 1.. => format!("in {}", duration(Duration::from_secs(later.unsigned_abs()))),
        earlier => format!("{} ago", duration(Duration::from_secs(earlier.unsigned_abs()))),
    }
}

/// Returns the time of the day in the time zone of this machine.
pub(crate) fn clock(at: Time) -> String {
    at.with_timezone(&Local).format("%H:%M:%S").to_string()
}

/// Returns date and time in the time zone of this machine.
pub(crate) fn stamp(at: Time) -> String {
    at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns the part of the tasks that failed: `1.50%`; `-` if there were none.
pub(crate) fn share(failed: u64, processed: u64) -> String {
    match processed {
        0 => "-".to_owned(),
        processed => format!("{:.2}%", failed as f64 / processed as f64 * 100.0),
    }
}

/// Returns a number of bytes in decimal units, as Go's program does.
pub(crate) fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().si().to_string()
}

/// Returns a number with its noun: `1 task`, `2 tasks`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

/// Returns bars for the last `width` of some numbers, the highest as a full one.
pub(crate) fn bars(numbers: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &numbers[numbers.len().saturating_sub(width)..];
    let highest = shown.iter().copied().fold(0.0, f64::max);
    let bar = |number: &f64| match *number > 0.0 {
        true => BARS[((number / highest * 8.0).ceil() as usize).clamp(1, 8) - 1],
        false => '_',
    };
    shown.iter().map(bar).collect()
}

/// Cuts a text to a width, and says so by `…`.
pub(crate) fn fit(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for char in text.chars() {
        let wide = char_width(char);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        cut.push(char);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// Returns the beginning of a text, of at most so many bytes.
pub(crate) fn excerpt(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

fn char_width(char: char) -> usize {
    Span::raw(char.encode_utf8(&mut [0; 4]) as &str).width()
}

/// Breaks a text into lines of a width, at its line breaks and wherever a line is full. Characters that control a terminal
/// are escaped.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = one_line(&line.replace('\t', "    "));
        let (mut part, mut used) = (String::new(), 0);
        for char in line.chars() {
            let wide = char_width(char);
            if used + wide > width.max(1) && !part.is_empty() {
                lines.push(std::mem::take(&mut part));
                used = 0;
            }
            part.push(char);
            used += wide;
        }
        lines.push(part);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (millis, text) in [
            (0, "0s"),
            (340, "340ms"),
            (1_200, "1.2s"),
            (9_040, "9s"),
            (12_900, "12s"),
            (60_000, "1m"),
            (312_000, "5m12s"),
            (3_660_000, "1h1m"),
            (273_600_000, "3d4h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn times_are_seen_from_now() {
        let now = Time::from_timestamp(1_700_000_000, 0).unwrap();
        assert_eq!(relative(now + TimeDelta::seconds(180), now), "in 3m");
        assert_eq!(relative(now - TimeDelta::seconds(12), now), "12s ago");
        assert_eq!(relative(now, now), "now");
        assert_eq!(between(now, now - TimeDelta::seconds(5)), "0s");
    }

    #[test]
    fn bars_show_the_last_numbers() {
        assert_eq!(bars(&[9.0, 0.0, 1.0, 4.0, 8.0], 4), "_▁▄█");
        assert_eq!(bars(&[], 4), "");
        assert_eq!(bars(&[0.0], 4), "_");
    }

    #[test]
    fn texts_fit_their_width() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("ab", 1), "…");
        assert_eq!(fit("ab", 0), "");
    }

    #[test]
    fn an_excerpt_ends_at_a_character() {
        assert_eq!(excerpt("añb", 2), "a");
        assert_eq!(excerpt("añb", 3), "añ");
        assert_eq!(excerpt("añb", 9), "añb");
    }

    #[test]
    fn long_lines_are_broken() {
        assert_eq!(wrap("abcde\n\n日本\u{1b}", 4), ["abcd", "e", "", "日本", "\\u{1", "b}"]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
    }
}
