//! Options as the texts in which Go schedulers publish them (layout.md#option-texts).

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};

use super::{ProcessAt, TaskOptions};
use crate::go::{is_printable, parse_duration, write_duration};

impl TaskOptions {
    /// Returns the options that are set, in the form that Go writes into a
    /// [`SchedulerEntry`](crate::info::SchedulerEntry), byte for byte: `Queue("low")`, `MaxRetry(3)`,
    /// `Timeout(1m30s)`, `Deadline(Thu May 14 03:04:05 UTC 2026)` … Times are in UTC. Each header has a text of its
    /// own.
    ///
    /// The order is that of Go's sources: `MaxRetry`, `Queue`, `TaskID`, `Timeout`, `Deadline`, `Unique`, `ProcessAt`
    /// or `ProcessIn`, `Retention`, `Group`, `Header`. Go itself keeps the order in which the options were given.
    ///
    /// ```
    /// use asynq::TaskOptions;
    /// use std::time::Duration;
    ///
    /// let options = TaskOptions::new().queue("low").timeout(Duration::from_secs(90));
    /// assert_eq!(options.to_go_strings(), ["Queue(\"low\")", "Timeout(1m30s)"]);
    /// ```
    #[must_use]
    pub fn to_go_strings(&self) -> Vec<String> {
        let Self {
            queue,
            task_id,
            max_retry,
            timeout,
            deadline,
            unique_ttl,
            process,
            retention,
            group,
            headers,
        } = self;
        let (at, after) = match process {
            Some(ProcessAt::At(at)) => (Some(at), None),
            Some(ProcessAt::In(delay)) => (None, Some(delay)),
            None => (None, None),
        };
        let options = [
            ("MaxRetry", max_retry.map(|retries| retries.to_string())),
            ("Queue", queue.as_deref().map(quote)),
            ("TaskID", task_id.as_deref().map(quote)),
            ("Timeout", timeout.map(write_duration)),
            ("Deadline", deadline.as_ref().map(write_time)),
            ("Unique", unique_ttl.map(write_duration)),
            ("ProcessAt", at.map(write_time)),
            ("ProcessIn", after.copied().map(write_duration)),
            ("Retention", retention.map(write_duration)),
            ("Group", group.as_deref().map(quote)),
        ];
        let set = options
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}({})", value?)));
        let headers = headers.iter().map(|(name, value)| write_header(name, value));
        set.chain(headers).collect()
    }

    /// Parses the texts of [`to_go_strings`](Self::to_go_strings) or of a Go scheduler by Go's rules: the name ends
    /// at the first `(`, and the argument at the first `)`. An option that cannot be read is left out: an argument
    /// that contains a `)`, an unknown name, a negative duration, more than 2^32 - 1 retries, a name that is not
    /// UTF-8, a time in a zone other than UTC and GMT. If an option occurs twice, the last one counts.
    ///
    /// `TaskID`, `Group` and `Header` are read too, which Go leaves out (0.26).
    ///
    /// ```
    /// use asynq::TaskOptions;
    ///
    /// let options = TaskOptions::from_go_strings(["Queue(\"low\")", "MaxRetry(3)", "NoOption"]);
    /// assert_eq!(options, TaskOptions::new().queue("low").max_retry(3));
    /// ```
    #[must_use]
    pub fn from_go_strings<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Self {
        texts.into_iter().fold(Self::new(), |options, text| {
            read_option(options.clone(), text.as_ref()).unwrap_or(options)
        })
    }
}

fn read_option(options: TaskOptions, text: &str) -> Option<TaskOptions> {
    let (name, rest) = text.split_once('(')?;
    if name.contains(')') {
        return None;
    }
    let (argument, _) = rest.split_once(')')?;
    Some(match name {
        "MaxRetry" => {
            let retries: i64 = argument.parse().ok()?;
            // Go: a negative number means none.
            options.max_retry(u32::try_from(retries.max(0)).ok()?)
        }
        "Queue" => options.queue(unquote(argument)?),
        "TaskID" => options.task_id(unquote(argument)?),
        "Timeout" => options.timeout(parse_duration(argument).ok()?),
        "Deadline" => options.deadline(read_time(argument)?),
        "Unique" => options.unique_ttl(parse_duration(argument).ok()?),
        "ProcessAt" => options.process_at(read_time(argument)?),
        "ProcessIn" => options.process_in(parse_duration(argument).ok()?),
        "Retention" => options.retention(parse_duration(argument).ok()?),
        "Group" => options.group(unquote(argument)?),
        "Header" => {
            let (name, value): (String, String) = serde_json::from_str(argument).ok()?;
            options.header(name, value)
        }
        _ => return None,
    })
}

/// Go: `strconv.Quote`.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        // Writing to a String cannot fail.
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            c if is_printable(c) => write!(quoted, "{c}"),
            '\x07' => write!(quoted, "\\a"),
            '\x08' => write!(quoted, "\\b"),
            '\x0c' => write!(quoted, "\\f"),
            '\n' => write!(quoted, "\\n"),
            '\r' => write!(quoted, "\\r"),
            '\t' => write!(quoted, "\\t"),
            '\x0b' => write!(quoted, "\\v"),
            c if c.is_ascii() => write!(quoted, "\\x{:02x}", u32::from(c)),
            c if u32::from(c) < 0x1_0000 => write!(quoted, "\\u{:04x}", u32::from(c)),
            c => write!(quoted, "\\U{:08x}", u32::from(c)),
        };
    }
    quoted.push('"');
    quoted
}

/// Go: `strconv.Unquote`. Also `None` if the bytes are not UTF-8, which Go accepts.
fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let inner = text[1..].strip_suffix(quote)?;
    if quote == '`' {
        return (!inner.contains('`')).then(|| inner.replace('\r', ""));
    }
    if inner.contains('\n') {
        return None;
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let (mut rest, mut count) = (inner, 0_usize);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        count += 1;
        match c {
            '\\' => rest = unescape(rest, quote, &mut bytes)?,
            c if c == quote => return None,
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if quote == '\'' && count != 1 {
        return None;
    }
    String::from_utf8(bytes).ok()
}

/// Returns what stands behind a backslash; what follows it.
fn unescape<'t>(text: &'t str, quote: char, bytes: &mut Vec<u8>) -> Option<&'t str> {
    let c = text.chars().next()?;
    let rest = &text[c.len_utf8()..];
    let simple = match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        c if c == quote => u8::try_from(c).ok()?,
        'x' => {
            let (value, rest) = number(rest, 2, 16)?;
            bytes.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        'u' | 'U' => {
            let (value, rest) = number(rest, if c == 'u' { 4 } else { 8 }, 16)?;
            let c = char::from_u32(value)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        '0'..='7' => {
            let (value, rest) = number(text, 3, 8)?;
            bytes.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        _ => return None,
    };
    bytes.push(simple);
    Some(rest)
}

/// A number of exactly so many digits, and what follows it.
fn number(text: &str, digits: usize, radix: u32) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let valid = number.chars().all(|c| c.is_digit(radix));
    valid.then(|| Some((u32::from_str_radix(number, radix).ok()?, rest)))?
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Go: the layout `time.UnixDate`, in UTC.
fn write_time(at: &DateTime<Utc>) -> String {
    let day = DAYS[at.weekday().num_days_from_monday() as usize];
    let month = MONTHS[at.month0() as usize];
    let sign = if at.year() < 0 { "-" } else { "" };
    format!(
        "{day} {month} {:2} {} UTC {sign}{:04}",
        at.day(),
        at.format("%H:%M:%S"),
        at.year().unsigned_abs(),
    )
}

/// Go: `time.Parse` with the layout `time.UnixDate`. The name of the day is parsed and ignored.
fn read_time(text: &str) -> Option<DateTime<Utc>> {
    let (_, rest) = name(text, &DAYS)?;
    let (month, rest) = name(spaces(rest)?, &MONTHS)?;
    let (day, rest) = digits(spaces(rest)?, 1)?;
    let (hour, rest) = digits(spaces(rest)?, 1)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let (second, rest) = digits(rest.strip_prefix(':')?, 2)?;
    // Go takes a fraction that the layout does not have.
    let (nanos, rest) = fraction(rest)?;
    let rest = spaces(rest)?;
    let rest = rest.strip_prefix("UTC").or_else(|| rest.strip_prefix("GMT"))?;
    let year = spaces(rest)?;
    let is_year = year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit());
    let year: i32 = is_year.then(|| year.parse().ok())??;
    let date = NaiveDate::from_ymd_opt(year, u32::try_from(month).ok()? + 1, day)?;
    Some(date.and_hms_nano_opt(hour, minute, second, nanos)?.and_utc())
}

/// The place of a name in a list, whatever its case, and what follows it.
fn name<'t>(text: &'t str, names: &[&str]) -> Option<(usize, &'t str)> {
    let (name, rest) = text.split_at_checked(3)?;
    let index = names.iter().position(|of| of.eq_ignore_ascii_case(name))?;
    Some((index, rest))
}

/// Returns what follows one space or more.
fn spaces(text: &str) -> Option<&str> {
    text.starts_with(' ').then(|| text.trim_start_matches(' '))
}

/// A number of `least` to two digits, and what follows it.
fn digits(text: &str, least: usize) -> Option<(u32, &str)> {
    let found = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
    if found < least {
        return None;
    }
    let (number, rest) = text.split_at(found);
    Some((number.parse().ok()?, rest))
}

/// The nanoseconds of a fraction, if there is one, and what follows it.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(rest) = text.strip_prefix(['.', ',']) else {
        return Some((0, text));
    };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (decimals, rest) = rest.split_at(end);
    if decimals.is_empty() {
        return None;
    }
    let nanos = format!("{decimals:0<9}");
    Some((nanos.get(..9)?.parse().ok()?, rest))
}

/// Go (after 0.26): the name and the value as a JSON array, escaped so that it can stand in HTML.
fn write_header(name: &str, value: &str) -> String {
    // Two texts can always be written as JSON.
    let json = serde_json::to_string(&[name, value]).unwrap_or_default();
    let mut text = String::with_capacity(json.len() + 8);
    text.push_str("Header(");
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests;
