//! Values as asynqmon shows them: payloads, results, times.

use asynq::go;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::{app::App, guard::Caller};

/// Year 1, Go's time that is none.
pub(super) const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Shows data to a caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'r> {
    pub(super) app: &'r App,
    pub(super) caller: &'r Caller,
}

impl Shown<'_> {
    /// The payload of a task.
    pub(super) fn payload(&self, queue: &str, task_type: &str, payload: &[u8]) -> String {
        self.data(queue, task_type, payload, self.app.payload_length)
    }

    /// The result of a task.
    pub(super) fn result(&self, queue: &str, task_type: &str, result: Option<&[u8]>) -> String {
        self.data(queue, task_type, result.unwrap_or_default(), self.app.result_length)
    }

    fn data(&self, queue: &str, task_type: &str, data: &[u8], most: usize) -> String {
        match self.caller.hides(queue, task_type) {
            true => "(redacted)".to_owned(),
            false => shortened(go::printable_text(data).unwrap_or("non-printable bytes"), most),
        }
    }
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A time in whole seconds.
pub(super) fn seconds(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A time in whole seconds, empty if there is none.
pub(super) fn maybe_seconds(time: Option<DateTime<Utc>>) -> String {
    time.map(seconds).unwrap_or_default()
}

/// A time with as many digits as it needs.
pub(super) fn exact(time: DateTime<Utc>) -> String {
    let nanos = time.timestamp_subsec_nanos() % 1_000_000_000;
    let fraction = match nanos {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    format!("{}{fraction}Z", time.format("%Y-%m-%dT%H:%M:%S"))
}

/// [`exact`], year 1 if there is none.
pub(super) fn exact_or_year_one(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| NO_TIME.to_owned(), exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöü", 2), "äö…");
        assert_eq!(shortened("äöü", 0), "…");
        assert_eq!(shortened("", 0), "");
    }

    #[test]
    fn times_have_the_digits_that_they_need() {
        for text in [
            "2026-11-29T20:00:00Z",
            "2026-11-29T20:00:00.5Z",
            "2026-11-29T20:00:00.000000001Z",
        ] {
            assert_eq!(exact(text.parse().unwrap()), text);
        }
    }
}
