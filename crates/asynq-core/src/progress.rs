//! Progress of a run, as its handler reports it.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::TaskError;

/// The longest note, in bytes: it is shown in lists.
pub const MAX_PROGRESS_NOTE: usize = 1024;

/// The progress of a run. It is stored with the task in a field of our own, which Go asynq ignores, and deleted with
/// the task. A later run starts without progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Progress in per cent, 0 to 100.
    pub percent: u8,
    /// Progress in words, at most [`MAX_PROGRESS_NOTE`] bytes; may be empty.
    pub note: String,
    /// Time of the report.
    pub at: DateTime<Utc>,
}

impl Progress {
    /// Returns whether it keeps to the limits.
    ///
    /// # Errors
    /// [`TaskError::TooLarge`] for more than 100 per cent or too long a note.
    pub fn check(&self) -> Result<(), TaskError> {
        check(self.percent, &self.note)
    }

    /// The JSON that is stored.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // Text, a number and a time only: nothing that JSON cannot hold.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads what was stored; `None` if it is something else.
    #[must_use]
    pub fn decode(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json)
            .ok()
            .filter(|progress: &Self| progress.check().is_ok())
    }
}

pub(crate) fn check(percent: u8, note: &str) -> Result<(), TaskError> {
    let within = |field, limit: u64, got: u64| match got <= limit {
        true => Ok(()),
        false => Err(TaskError::TooLarge { field, limit, got }),
    };
    within("progress percent", 100, percent.into())?;
    within("progress note", MAX_PROGRESS_NOTE as u64, note.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(percent: u8, note: impl Into<String>) -> Progress {
        Progress {
            percent,
            note: note.into(),
            at: DateTime::from_timestamp(1_700_000_000, 250_000_000).unwrap(),
        }
    }

    #[test]
    fn it_is_read_as_written_and_nothing_else_is() {
        for written in [progress(0, ""), progress(100, "é".repeat(512))] {
            assert_eq!(Progress::decode(&written.encode()), Some(written));
        }
        let foreign = [
            &b""[..],
            b"50",
            b"{}",
            b"\xff",
            br#"{"percent":300,"note":"","at":"2026-05-14T10:00:00Z"}"#,
        ];
        for other in foreign {
            assert_eq!(Progress::decode(other), None);
        }
        assert_eq!(Progress::decode(&progress(101, "").encode()), None);
    }

    #[test]
    fn the_limits_are_named() {
        let refused = progress(101, "").check().unwrap_err().to_string();
        assert_eq!(refused, "progress percent of 101 is above the limit of 100");
        let refused = progress(1, "x".repeat(1025)).check().unwrap_err().to_string();
        assert_eq!(refused, "progress note of 1025 is above the limit of 1024");
    }
}
