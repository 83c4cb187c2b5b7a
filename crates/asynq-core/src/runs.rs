//! The record of a task's runs, which servers of this library keep in a field of our own in the task hash.
//!
//! The field has a line for each run, the oldest first: a letter for the outcome, and a JSON array. The letter comes
//! first because the script that writes the outcome may change it, if the run was asked to end.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    broker::{EndedRun, Outcome},
    clock::from_unix_secs,
    error::Error,
    message::TaskMessage,
    tree::ServerIdentity,
};

/// Largest number of runs that the record of a task has; older ones are dropped.
pub const MAX_RUNS: usize = 10;
/// Largest part of an error that the record of a run has, in bytes of its JSON text. A longer text is cut and ends with
/// `…`. The last error of a task is kept in full; see [`TaskInfo::last_error`](crate::TaskInfo::last_error).
pub const MAX_RUN_ERROR: usize = 256;
/// Largest size of the record of one run in the storage, in bytes.
pub const MAX_RUN_BYTES: usize = 512;
/// Largest size of the record of all runs of a task in the storage, in bytes. A field that is longer was not written by
/// this library; it is ignored, and replaced by the next run.
pub const MAX_RUNS_BYTES: usize = MAX_RUNS * (MAX_RUN_BYTES + 1);
/// Largest part of a host name or of the id of a server, in bytes of its JSON text.
const MAX_NAME: usize = 64;
/// Number in front of each record. Records with another number are not read.
const VERSION: u64 = 1;

/// The end of a run, which decided the next state of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunOutcome {
    /// The run succeeded, and the task is kept for its retention.
    Done,
    /// The run failed and used up a retry.
    Retried,
    /// The task was delayed without using up a retry: it was snoozed, or its error does not count as a failure.
    Deferred,
    /// The task was archived: no retry was left, the error ruled out retries, or an operator cancelled the run and
    /// chose this end.
    Archived,
    /// The task was given back to its queue, for example because its server was shut down. A [lost](Run::is_lost) run
    /// with this outcome may never have started.
    GivenBack,
}

/// A run of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// Number of retries that the task had used when the run began.
    pub retried: u32,
    /// Least number of runs between the recorded run before this one, or the enqueue, and this one that have no
    /// record; see [gaps](Runs#gaps).
    pub missing_before: u32,
    /// Time of the start, to the millisecond. For a lost run, the time at which its server took the task, to the
    /// second. `None` for a lost run of a server that is not of this library.
    pub started: Option<DateTime<Utc>>,
    /// Time of the end, to the millisecond. `None` if the run was [lost](Self::is_lost).
    pub ended: Option<DateTime<Utc>>,
    /// Time at which the outcome was written, to the second. For a lost run, the time of the recovery. An outcome is
    /// written late if the storage could not be reached.
    pub written: DateTime<Utc>,
    /// The server that ran the task. Long host names are cut. `None` for a lost run, and in the test kit.
    pub server: Option<ServerIdentity>,
    /// Outcome of the run.
    pub outcome: RunOutcome,
    /// Text of the error, at most [`MAX_RUN_ERROR`] bytes; empty if there is none.
    pub error: String,
    /// `true` if the run used up a retry.
    is_counted: bool,
}

impl Run {
    /// Returns whether the server of the run died or lost its lease, so that another server recovered the task.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.ended.is_none()
    }

    /// The number of retries used once the run had ended.
    fn retried_after(&self) -> u32 {
        self.retried.saturating_add(u32::from(self.is_counted))
    }

    /// Reads a line of the record; `None` if it is something else.
    fn decode(line: &[u8]) -> Option<Self> {
        let (letter, json) = line.split_first()?;
        let fields: Vec<Value> = serde_json::from_slice(json).ok()?;
        let at = |place: usize| fields.get(place);
        let number = |place: usize| at(place)?.as_i64();
        let text = |place: usize| at(place)?.as_str();
        if at(0)?.as_u64()? != VERSION {
            return None;
        }
        let is_counted = number(2)? == 1;
        let outcome = match letter {
            b'c' => RunOutcome::Done,
            b'r' if is_counted => RunOutcome::Retried,
            b'r' => RunOutcome::Deferred,
            b'a' => RunOutcome::Archived,
            b'q' => RunOutcome::GivenBack,
            _ => return None,
        };
        let millis = |place: usize| match at(place)? {
            Value::Null => Some(None),
            time => DateTime::from_timestamp_millis(time.as_i64()?).map(Some),
        };
        let server = match (text(6), text(8)) {
            (Some(host), Some(server_id)) => Some(ServerIdentity {
                host: host.to_owned(),
                pid: i32::try_from(number(7)?).ok()?,
                server_id: server_id.to_owned(),
            }),
            _ => None,
        };
        let mut error = text(9)?.to_owned();
        if error.is_empty() && outcome == RunOutcome::Archived {
            // A run that was given back and asked to end is archived with this error.
            error = Error::Canceled.to_string();
        }
        Some(Self {
            retried: u32::try_from(number(1)?).ok()?,
            missing_before: 0,
            started: millis(4)?,
            ended: millis(5)?,
            written: DateTime::from_timestamp(number(3)?, 0)?,
            server,
            outcome,
            error,
            is_counted,
        })
    }
}

/// The runs of a task, as far as they are recorded.
///
/// Servers of this library record a run when they write its outcome, at no further command. The record belongs to the
/// task: it stays when an operator runs, archives, reschedules or changes the task, and ends with the task. A copy of
/// the task begins without one, and so does an aggregated task. A task that succeeds and has no retention leaves no
/// record. A run in progress has none yet.
///
/// The record has the last [`MAX_RUNS`] runs and at most [`MAX_RUNS_BYTES`] bytes.
///
/// # Gaps
/// Some runs have no record: those by servers of Go asynq, those whose lease ended and that a Go server recovered, and
/// those before the last [`MAX_RUNS`]. The task itself counts the retries that it has used, and this shows that runs are
/// missing, and where. The numbers are lower bounds, because a run that used up no retry leaves no trace if its
/// server recorded nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Runs {
    /// The recorded runs, the oldest first; at most [`MAX_RUNS`].
    pub recorded: Vec<Run>,
    /// Least number of runs after the last recorded one that have no record.
    pub missing_after: u32,
}

impl Runs {
    /// Returns the least number of ended runs that have no record.
    #[must_use]
    pub fn missing(&self) -> u32 {
        let before = self.recorded.iter().map(|run| run.missing_before);
        before.fold(self.missing_after, u32::saturating_add)
    }

    /// Reads the stored record of a task that has this message. What cannot be read is left out, as if it had not been
    /// recorded.
    #[must_use]
    pub fn decode(field: Option<&[u8]>, message: &TaskMessage) -> Self {
        let mut recorded: Vec<Run> = lines(field).filter_map(Run::decode).collect();
        recorded.drain(..recorded.len().saturating_sub(MAX_RUNS));
        let (mut retried, mut written, mut is_done) = (0, 0, false);
        for run in &mut recorded {
            run.missing_before = run.retried.saturating_sub(retried);
            retried = run.retried_after();
            written = written.max(run.written.timestamp());
            is_done = run.outcome == RunOutcome::Done;
        }
        let counted = u32::try_from(message.retried).unwrap_or(0).saturating_sub(retried);
        // Each failure writes its time into the message.
        let failed = counted.max(u32::from(message.last_failed_at > written));
        let done = u32::from(!is_done && from_unix_secs(message.completed_at).is_some());
        Self {
            recorded,
            missing_after: failed.saturating_add(done),
        }
    }
}

impl EndedRun {
    /// Returns the JSON that is stored behind the letter of the outcome, for a task as it was taken.
    #[must_use]
    pub fn encode(&self, message: &TaskMessage, outcome: &Outcome, written_secs: i64) -> String {
        let (error, counts) = match outcome {
            Outcome::Retry { error, is_failure, .. } => (error.as_str(), *is_failure),
            Outcome::Archive { error } => (error.as_str(), false),
            Outcome::Done { .. } | Outcome::Requeue => ("", false),
        };
        let millis = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_millis());
        let server = self.server.as_deref();
        let retried = u32::try_from(message.retried).unwrap_or(0);
        let fields = (
            VERSION,
            retried,
            u8::from(counts),
            written_secs,
            millis(self.started),
            millis(self.ended),
            server.map(|server| cut(&server.host, MAX_NAME)),
            server.map(|server| server.pid),
            server.map(|server| cut(&server.server_id, MAX_NAME)),
            cut(error, MAX_RUN_ERROR),
        );
        // Numbers and texts only: nothing that JSON cannot hold.
        serde_json::to_string(&fields).unwrap_or_default()
    }
}

/// Returns the letter of an outcome that keeps the task; `None` if the task is deleted and has no record.
#[must_use]
pub fn letter_of(message: &TaskMessage, outcome: &Outcome) -> Option<char> {
    match outcome {
        Outcome::Done { .. } => outcome.keeps(message).then_some('c'),
        Outcome::Retry { .. } => Some('r'),
        Outcome::Archive { .. } => Some('a'),
        Outcome::Requeue => Some('q'),
    }
}

/// Returns the stored record with one more run, as the scripts write it.
#[must_use]
pub fn with_run(field: Option<&[u8]>, letter: char, run: &str) -> Bytes {
    let line = format!("{letter}{run}");
    let mut all: Vec<&[u8]> = lines(field).collect();
    all.push(line.as_bytes());
    all[all.len().saturating_sub(MAX_RUNS)..].join(&b'\n').into()
}

/// The lines of a stored record that are not too long; none if all of it is.
fn lines(field: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    let field = field.filter(|field| field.len() <= MAX_RUNS_BYTES).unwrap_or_default();
    let lines = field.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty() && line.len() <= MAX_RUN_BYTES)
}

/// Cuts a text whose JSON would be longer than this.
fn cut(text: &str, most: usize) -> String {
    const MARK: char = '…';
    let mut bytes = 0;
    // The last place at which the mark still fits behind.
    let mut end = 0;
    for (place, c) in text.char_indices() {
        if bytes + MARK.len_utf8() <= most {
            end = place;
        }
        bytes += match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            '\0'..='\u{1f}' => 6,
            _ => c.len_utf8(),
        };
        if bytes > most {
            return format!("{}{MARK}", &text[..end]);
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000 + millis).unwrap()
    }

    fn message(retried: i32) -> TaskMessage {
        TaskMessage {
            retried,
            ..TaskMessage::default()
        }
    }

    fn failed(error: &str, is_failure: bool) -> Outcome {
        Outcome::Retry {
            at: at(0),
            error: error.to_owned(),
            is_failure,
        }
    }

    fn ended() -> EndedRun {
        let server = ServerIdentity {
            host: "web-1".to_owned(),
            pid: 7,
            server_id: "0b0e2f9a-5d0c-4b63-9a6f-0d9a4d4c7a11".to_owned(),
        };
        EndedRun {
            server: Some(Arc::new(server)),
            started: Some(at(250)),
            ended: Some(at(1750)),
        }
    }

    /// Adds a run of a task that had used so many retries.
    fn add(field: &mut Option<Bytes>, retried: i32, outcome: &Outcome, run: &EndedRun, written: i64) {
        let (message, letter) = (
            message(retried),
            match outcome {
                Outcome::Done { .. } => 'c',
                other => letter_of(&TaskMessage::default(), other).unwrap(),
            },
        );
        let run = run.encode(&message, outcome, at(1000 * written).timestamp());
        *field = Some(with_run(field.as_deref(), letter, &run));
    }

    #[test]
    fn a_run_is_read_as_it_was_written() {
        let mut field = None;
        add(&mut field, 0, &failed("bank\n\"away\"", true), &ended(), 2);
        add(
            &mut field,
            1,
            &failed("busy", false),
            &EndedRun {
                started: None,
                ..ended()
            },
            3,
        );
        add(&mut field, 1, &Outcome::Requeue, &ended(), 4);
        let lost = EndedRun {
            server: None,
            ended: None,
            ..ended()
        };
        add(&mut field, 1, &failed("lease expired", true), &lost, 5);
        add(&mut field, 2, &Outcome::Done { retain: true }, &ended(), 6);
        let first = String::from_utf8(field.clone().unwrap().to_vec()).unwrap();
        assert_eq!(
            first.lines().next(),
            Some(
                r#"r[1,0,1,1700000002,1700000000250,1700000001750,"web-1",7,"0b0e2f9a-5d0c-4b63-9a6f-0d9a4d4c7a11","bank\n\"away\""]"#
            )
        );
        let completed = TaskMessage {
            completed_at: at(6000).timestamp(),
            ..message(2)
        };
        let runs = Runs::decode(field.as_deref(), &completed);
        assert_eq!(runs.missing(), 0);
        let outcomes: Vec<_> = runs.recorded.iter().map(|run| run.outcome).collect();
        use RunOutcome::{Deferred, Done, GivenBack, Retried};
        assert_eq!(outcomes, [Retried, Deferred, GivenBack, Retried, Done]);
        let [first, second, .., lost, _] = &runs.recorded[..] else {
            panic!("{runs:?}")
        };
        assert_eq!((first.started, first.ended), (Some(at(250)), Some(at(1750))));
        assert_eq!((first.written, first.retried), (at(2000), 0));
        assert_eq!(first.error, "bank\n\"away\"");
        assert_eq!(first.server.as_ref(), ended().server.as_deref());
        assert_eq!(second.started, None);
        assert!(lost.is_lost() && !first.is_lost());
        assert_eq!((&lost.server, lost.started), (&None, Some(at(250))));
    }

    #[test]
    fn the_last_ten_runs_are_kept_within_the_bound() {
        let longest = EndedRun {
            server: Some(Arc::new(ServerIdentity {
                host: "\u{1}".repeat(300),
                pid: i32::MIN,
                server_id: "\"".repeat(300),
            })),
            started: Some(DateTime::<Utc>::MIN_UTC),
            ended: Some(DateTime::<Utc>::MAX_UTC),
        };
        for text in ["\u{1}", "\"", "x", "€", "\n", "𝄞"] {
            let mut field = None;
            for retried in 0..25 {
                let run = longest.encode(&message(i32::MAX), &failed(&text.repeat(1 << 20), true), i64::MIN);
                assert!(run.len() < MAX_RUN_BYTES, "{}", run.len());
                add(&mut field, retried, &failed(&text.repeat(1 << 20), true), &longest, 0);
                assert!(field.as_ref().unwrap().len() <= MAX_RUNS_BYTES);
            }
            let runs = Runs::decode(field.as_deref(), &message(25));
            let kept: Vec<_> = runs.recorded.iter().map(|run| run.retried).collect();
            assert_eq!(kept, (15..25).collect::<Vec<_>>());
            assert_eq!((runs.missing(), runs.recorded[0].missing_before), (15, 15));
            let error = &runs.recorded[0].error;
            assert!(error.starts_with(text) && error.ends_with('…'), "{error}");
            assert!(error.len() <= MAX_RUN_ERROR, "{}", error.len());
        }
        assert_eq!(cut(&"x".repeat(256), MAX_RUN_ERROR), "x".repeat(256));
        assert_eq!(cut(&"x".repeat(257), MAX_RUN_ERROR), format!("{}…", "x".repeat(253)));
    }

    #[test]
    fn runs_without_a_record_show_as_gaps() {
        let never = Runs::decode(None, &message(0));
        assert_eq!((never.recorded.len(), never.missing()), (0, 0));
        // Go's retries only.
        assert_eq!(Runs::decode(None, &message(3)).missing_after, 3);
        let mut field = None;
        add(&mut field, 1, &failed("a", true), &ended(), 2);
        add(&mut field, 4, &failed("b", true), &ended(), 4);
        let runs = Runs::decode(field.as_deref(), &message(6));
        let before: Vec<_> = runs.recorded.iter().map(|run| run.missing_before).collect();
        assert_eq!((before, runs.missing_after, runs.missing()), (vec![1, 2], 1, 4));

        // A failure that used up no retry, as the one that archives a task, shows by its time.
        let failed_at = |second: i64| TaskMessage {
            last_failed_at: at(1000 * second).timestamp(),
            ..message(5)
        };
        assert_eq!(Runs::decode(field.as_deref(), &failed_at(4)).missing_after, 0);
        assert_eq!(Runs::decode(field.as_deref(), &failed_at(5)).missing_after, 1);
        // A success shows by its time too.
        let completed = TaskMessage {
            completed_at: at(9000).timestamp(),
            ..failed_at(4)
        };
        assert_eq!(Runs::decode(field.as_deref(), &completed).missing_after, 1);
        assert_eq!(Runs::decode(None, &completed).missing_after, 6);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_left_out() {
        let mut field = None;
        add(&mut field, 0, &failed("a", true), &ended(), 2);
        let good = field.clone().unwrap();
        let second = |bad: &[u8]| Bytes::from([&good[..], b"\n", bad].concat());
        let bad: [&[u8]; 12] = [
            b"",
            b"r",
            b"\xff\xff",
            b"{}",
            b"r{}",
            b"r[]",
            b"r[1]",
            b"r[2,0,1,1700000002,null,null,null,null,null,\"a\"]",
            b"z[1,0,1,1700000002,null,null,null,null,null,\"a\"]",
            b"r[1,-1,1,1700000002,null,null,null,null,null,\"a\"]",
            b"r[1,0,1,9223372036854775807,null,null,null,null,null,\"a\"]",
            b"r[1,0,1,1700000002,9223372036854775807,null,null,null,null,\"a\"]",
        ];
        for bad in bad {
            let runs = Runs::decode(Some(&second(bad)), &message(2));
            assert_eq!((runs.recorded.len(), runs.missing_after), (1, 1), "{bad:?}");
        }
        let more = second(b"r[1,1,1,1700000003,null,null,null,null,null,\"a\",\"of a later version\"]");
        assert_eq!(Runs::decode(Some(&more), &message(2)).recorded.len(), 2);
        let deep = second(&b"[".repeat(500));
        assert_eq!(Runs::decode(Some(&deep), &message(2)).recorded.len(), 1);

        // One that is too long is replaced by the next run.
        let foreign = Bytes::from(vec![b'x'; MAX_RUNS_BYTES + 1]);
        assert!(Runs::decode(Some(&foreign), &message(0)).recorded.is_empty());
        let mut field = Some(foreign);
        add(&mut field, 0, &failed("a", true), &ended(), 2);
        assert_eq!(field, Some(good));
    }

    #[test]
    fn a_run_that_was_archived_on_request_has_the_error_of_a_cancelled_run() {
        let run = ended().encode(&message(0), &Outcome::Requeue, 0);
        let field = with_run(None, 'a', &run);
        let cancelled = message::decode(message::cancelled(&Bytes::new(), 0)).unwrap();
        let runs = Runs::decode(Some(&field), &cancelled);
        assert_eq!(runs.recorded[0].error, cancelled.error_msg);
        assert_eq!(runs.recorded[0].outcome, RunOutcome::Archived);
    }
}
