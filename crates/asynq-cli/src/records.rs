//! The values that the program shows, as JSON: stable names, times in RFC 3339, durations in seconds.

mod json;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use asynq::{
    TaskInfo,
    findings::Finding,
    info::{QueueInfo, SchedulerEntry, ServerInfo, WorkerInfo},
    inspector::{Diagnosis, ErrorSignatures, Repair, SignatureCount},
    task::{Progress, Run, RunOutcome},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::{Value, value::RawValue};

/// Task types whose payloads and results are not shown, and the length to which others are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redaction {
    types: Vec<String>,
    longest: Option<usize>,
}

impl Redaction {
    /// Hides the data of these types; one that ends in `*` means all that begin alike.
    pub(crate) fn of(types: &[String]) -> Self {
        Self {
            types: types.to_vec(),
            longest: None,
        }
    }

    /// Shows only the beginning of data that have more bytes, and no value that a usual reader of JSON cannot hold.
    pub(crate) fn up_to(&self, longest: usize) -> Self {
        Self {
            types: self.types.clone(),
            longest: Some(longest),
        }
    }

    /// Returns a payload or a result as it is shown.
    fn data(&self, task_type: &str, bytes: &[u8]) -> Shown {
        let is_hidden = self.hides(task_type);
        match self.longest {
            Some(longest) if bytes.len() > longest && !is_hidden => Shown::beginning(bytes, longest),
            Some(_) => Shown::Whole(Data::of(bytes, is_hidden).with_usual_values()),
            None => Shown::Whole(Data::of(bytes, is_hidden)),
        }
    }

    /// Returns whether the data of tasks of this type are hidden.
    pub(crate) fn hides(&self, task_type: &str) -> bool {
        self.types.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => task_type.starts_with(start),
            None => task_type == pattern,
        })
    }

    /// Returns a payload or a result for people, as Go's program shows it.
    pub(crate) fn text(&self, task_type: &str, bytes: &[u8]) -> String {
        match self.hides(task_type) {
            true => "(redacted)".to_owned(),
            false => crate::go::bytes(bytes),
        }
    }
}

/// Bytes of an application: their value, and how it is to be read.
#[derive(Debug)]
pub(crate) enum Data {
    /// JSON, as it is: numbers keep all their digits.
    Json(Box<RawValue>),
    /// MessagePack, as JSON.
    Msgpack(Value),
    /// Any other text.
    Text(String),
    /// Any other bytes.
    Base64(String),
    /// Hidden by the configuration.
    Redacted,
}

/// JSON is written as text, where its value would be another one in YAML.
static FOR_YAML: AtomicBool = AtomicBool::new(false);

/// Lets JSON whose value YAML cannot hold be written as text from now on: large numbers, names that stand twice.
pub(crate) fn for_yaml() {
    FOR_YAML.store(true, Ordering::Relaxed);
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut data = serializer.serialize_struct("Data", 2)?;
        data.serialize_field("encoding", self.encoding())?;
        match self {
            Self::Json(raw) if FOR_YAML.load(Ordering::Relaxed) && !json::is_exact_in_yaml(raw.get()) => {
                data.serialize_field("value", raw.get())?;
            }
            Self::Json(raw) => data.serialize_field("value", raw)?,
            Self::Msgpack(value) => data.serialize_field("value", value)?,
            Self::Text(text) | Self::Base64(text) => data.serialize_field("value", text)?,
            Self::Redacted => {}
        }
        data.end()
    }
}

impl Data {
    /// The way in which the value is to be read.
    pub(crate) fn encoding(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Msgpack(_) => "msgpack",
            Self::Text(_) => "text",
            Self::Base64(_) => "base64",
            Self::Redacted => "redacted",
        }
    }

    pub(crate) fn of(bytes: &[u8], hidden: bool) -> Self {
        if hidden {
            return Self::Redacted;
        }
        if let Ok(text) = str::from_utf8(bytes) {
            return match serde_json::from_str::<Box<RawValue>>(text) {
                // In NDJSON it has one line. A text in JSON holds no line break as it is, so these stand between values.
                Ok(raw) if raw.get().contains(['\n', '\r']) => {
                    match RawValue::from_string(raw.get().replace(['\n', '\r'], " ")) {
                        Ok(raw) => Self::Json(raw),
                        Err(_) => Self::Text(text.to_owned()),
                    }
                }
                Ok(raw) => Self::Json(raw),
                Err(_) => Self::Text(text.to_owned()),
            };
        }
        match msgpack(bytes) {
            Some(value) => Self::Msgpack(value),
            None => Self::Base64(BASE64_STANDARD.encode(bytes)),
        }
    }

    /// Returns a value that usual readers cannot hold as a text: numbers would lose digits or are too large, or it is nested
    /// too deeply.
    fn with_usual_values(self) -> Self {
        // A reader that bounds the depth, as most do, also finds it in an answer.
        let is_usual = |json: &str| {
            let nested = format!("{}{json}{}", "[".repeat(json::AROUND), "]".repeat(json::AROUND));
            serde_json::from_str::<Value>(&nested).is_ok()
        };
        match self {
            Self::Json(raw) if !json::has_usual_numbers(raw.get()) || !is_usual(raw.get()) => {
                Self::Text(raw.get().to_owned())
            }
            other => other,
        }
    }

    /// Returns the data for people, laid out on several lines; `None` if they are hidden or no text.
    pub(crate) fn pretty(&self) -> Option<String> {
        match self {
            Self::Json(raw) => Some(json::indented(raw.get())),
            Self::Msgpack(value) => serde_json::to_string_pretty(value).ok(),
            Self::Text(text) => Some(text.clone()),
            Self::Base64(_) | Self::Redacted => None,
        }
    }
}

/// Data of an application in an answer.
#[derive(Debug)]
pub(crate) enum Shown {
    Whole(Data),
    /// The beginning of data that are too long. They are not parsed.
    Beginning {
        encoding: &'static str,
        text: String,
        /// Number of bytes that the text stands for.
        cut: usize,
        /// Number of all bytes.
        size: usize,
    },
}

impl Shown {
    fn beginning(bytes: &[u8], longest: usize) -> Self {
        let start = bytes.get(..longest).unwrap_or(bytes);
        let text = match str::from_utf8(start) {
            Ok(text) => Some(text),
            // A character is cut.
            Err(error) if error.error_len().is_none() => str::from_utf8(&start[..error.valid_up_to()]).ok(),
            Err(_) => None,
        };
        let (encoding, text, cut) = match text {
            Some(text) => ("text", text.to_owned(), text.len()),
            None => {
                let start = &start[..longest / 4 * 3];
                ("base64", BASE64_STANDARD.encode(start), start.len())
            }
        };
        let size = bytes.len();
        Self::Beginning {
            encoding,
            text,
            cut,
            size,
        }
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(data) => data.serialize(serializer),
            Self::Beginning {
                encoding,
                text,
                cut,
                size,
            } => {
                let beginning = serde_json::json!({"cut": format!("the first {cut} of {size} bytes"), "text": text});
                let mut data = serializer.serialize_struct("Shown", 2)?;
                data.serialize_field("encoding", encoding)?;
                data.serialize_field("beginning", &beginning)?;
                data.end()
            }
        }
    }
}

/// Reads a whole MessagePack map or array. Any single byte is a value too, so other values do not count.
fn msgpack(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, 64).ok()?;
    (rest.is_empty() && (value.is_map() || value.is_array())).then(|| as_json(&value))
}

fn as_json(value: &rmpv::Value) -> Value {
    use rmpv::Value as M;
    match value {
        M::Nil => Value::Null,
        M::Boolean(flag) => Value::Bool(*flag),
        M::Integer(number) => number
            .as_u64()
            .map(Value::from)
            .or_else(|| number.as_i64().map(Value::from))
            .unwrap_or_else(|| Value::String(number.to_string())),
        M::F32(number) => Value::from(*number),
        M::F64(number) => Value::from(*number),
        M::String(text) => Value::String(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        M::Binary(bytes) => Value::String(BASE64_STANDARD.encode(bytes)),
        M::Array(values) => values.iter().map(as_json).collect(),
        M::Map(entries) => {
            let name = |key: &M| match key {
                M::String(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
                other => as_json(other).to_string(),
            };
            entries.iter().map(|(key, value)| (name(key), as_json(value))).collect()
        }
        M::Ext(kind, bytes) => serde_json::json!({"ext": kind, "base64": BASE64_STANDARD.encode(bytes)}),
    }
}

/// A task.
#[derive(Debug, Serialize)]
pub(crate) struct TaskRecord {
    pub(crate) id: String,
    pub(crate) queue: String,
    #[serde(rename = "type")]
    pub(crate) task_type: String,
    pub(crate) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state_since: Option<DateTime<Utc>>,
    pub(crate) payload: Shown,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) retried: u32,
    pub(crate) max_retry: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) last_error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_failed_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_process_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// The lease of an active task has ended: its server died.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_orphaned: bool,
    pub(crate) retention_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) completed_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runs: Option<Vec<RunRecord>>,
    /// Number of runs without a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runs_missing: Option<u32>,
    /// The task cannot be read, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) damage: Option<String>,
}

impl TaskRecord {
    pub(crate) fn of(task: &TaskInfo, redaction: &Redaction) -> Self {
        Self {
            id: task.id.to_string(),
            queue: task.queue.to_string(),
            task_type: task.task_type.clone(),
            state: task.state.as_str(),
            state_since: task.state_since,
            payload: redaction.data(&task.task_type, &task.payload),
            headers: task.headers.clone(),
            retried: task.retried,
            max_retry: task.max_retry,
            last_error: task.last_error.clone(),
            last_failed_at: task.last_failed_at,
            next_process_at: task.next_process_at,
            timeout_seconds: task.timeout.as_ref().map(Duration::as_secs_f64),
            deadline: task.deadline,
            group: task.group.as_ref().map(ToString::to_string),
            is_orphaned: task.is_orphaned,
            retention_seconds: task.retention.as_secs_f64(),
            completed_at: task.completed_at,
            result: task
                .result
                .as_ref()
                .map(|result| redaction.data(&task.task_type, result)),
            progress: task.progress.clone(),
            runs: task
                .runs
                .as_ref()
                .map(|runs| runs.recorded.iter().map(RunRecord::of).collect()),
            runs_missing: task
                .runs
                .as_ref()
                .map(|runs| runs.missing())
                .filter(|missing| *missing > 0),
            damage: task.damage.as_ref().map(ToString::to_string),
        }
    }
}

/// A run of a task.
#[derive(Debug, Serialize)]
pub(crate) struct RunRecord {
    pub(crate) outcome: &'static str,
    pub(crate) retried: u32,
    pub(crate) started: Option<DateTime<Utc>>,
    pub(crate) ended: Option<DateTime<Utc>>,
    /// The server died, or lost its lease.
    pub(crate) is_lost: bool,
    /// `host:pid:id`.
    pub(crate) server: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) error: String,
    /// Runs before this one that have no record.
    pub(crate) missing_before: u32,
}

impl RunRecord {
    pub(crate) fn of(run: &Run) -> Self {
        Self {
            outcome: outcome(run.outcome),
            retried: run.retried,
            started: run.started,
            ended: run.ended,
            is_lost: run.is_lost(),
            server: run
                .server
                .as_ref()
                .map(|server| format!("{}:{}:{}", server.host, server.pid, server.server_id)),
            error: run.error.clone(),
            missing_before: run.missing_before,
        }
    }
}

/// The end of a run in a word.
pub(crate) fn outcome(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Done => "done",
        RunOutcome::Retried => "retried",
        RunOutcome::Deferred => "deferred",
        RunOutcome::Archived => "archived",
        RunOutcome::GivenBack => "given_back",
        _ => "other",
    }
}

/// The numbers of a queue.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct QueueRecord {
    pub(crate) queue: String,
    pub(crate) paused: bool,
    pub(crate) size: u64,
    pub(crate) groups: u64,
    pub(crate) active: u64,
    pub(crate) pending: u64,
    pub(crate) aggregating: u64,
    pub(crate) scheduled: u64,
    pub(crate) retry: u64,
    pub(crate) archived: u64,
    pub(crate) completed: u64,
    /// Today (UTC), failures included.
    pub(crate) processed: u64,
    pub(crate) failed: u64,
    pub(crate) processed_total: u64,
    pub(crate) failed_total: u64,
    pub(crate) latency_seconds: f64,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) timestamp: DateTime<Utc>,
}

impl QueueRecord {
    pub(crate) fn of(queue: &QueueInfo) -> Self {
        Self {
            queue: queue.queue.to_string(),
            paused: queue.paused,
            size: queue.size(),
            groups: queue.groups,
            active: queue.active,
            pending: queue.pending,
            aggregating: queue.aggregating,
            scheduled: queue.scheduled,
            retry: queue.retry,
            archived: queue.archived,
            completed: queue.completed,
            processed: queue.processed,
            failed: queue.failed,
            processed_total: queue.processed_total,
            failed_total: queue.failed_total,
            latency_seconds: queue.latency.as_secs_f64(),
            memory_bytes: queue.memory_usage,
            timestamp: queue.timestamp,
        }
    }
}

/// A running server with its workers.
#[derive(Debug, Serialize)]
pub(crate) struct ServerRecord {
    pub(crate) id: String,
    pub(crate) host: String,
    pub(crate) pid: i32,
    pub(crate) state: &'static str,
    pub(crate) started: DateTime<Utc>,
    pub(crate) concurrency: i32,
    pub(crate) active_workers: i32,
    /// The priorities of the queues.
    pub(crate) queues: BTreeMap<String, i32>,
    pub(crate) strict_priority: bool,
    pub(crate) workers: Vec<WorkerRecord>,
}

impl ServerRecord {
    /// A server, with those of the workers that are its own.
    pub(crate) fn of(server: &ServerInfo, workers: &[WorkerInfo], redaction: &Redaction) -> Self {
        let own = |worker: &&WorkerInfo| {
            worker.server_id == server.server_id && worker.host == server.host && worker.pid == server.pid
        };
        Self {
            id: server.server_id.clone(),
            host: server.host.clone(),
            pid: server.pid,
            state: server.status.as_str(),
            started: server.start_time,
            concurrency: server.concurrency,
            active_workers: server.active_worker_count,
            queues: server.queues.clone(),
            strict_priority: server.strict_priority,
            workers: workers
                .iter()
                .filter(own)
                .map(|worker| WorkerRecord::of(worker, redaction))
                .collect(),
        }
    }
}

/// A task that runs.
#[derive(Debug, Serialize)]
pub(crate) struct WorkerRecord {
    pub(crate) task: String,
    #[serde(rename = "type")]
    pub(crate) task_type: String,
    pub(crate) queue: String,
    pub(crate) payload: Shown,
    pub(crate) started: DateTime<Utc>,
    pub(crate) deadline: DateTime<Utc>,
}

impl WorkerRecord {
    pub(crate) fn of(worker: &WorkerInfo, redaction: &Redaction) -> Self {
        Self {
            task: worker.task_id.to_string(),
            task_type: worker.task_type.clone(),
            queue: worker.queue.to_string(),
            payload: redaction.data(&worker.task_type, &worker.payload),
            started: worker.start_time,
            deadline: worker.deadline,
        }
    }
}

/// An entry of a scheduler.
#[derive(Debug, Serialize)]
pub(crate) struct EntryRecord {
    pub(crate) id: String,
    pub(crate) spec: String,
    #[serde(rename = "type")]
    pub(crate) task_type: String,
    pub(crate) payload: Shown,
    pub(crate) options: Vec<String>,
    pub(crate) next: Option<DateTime<Utc>>,
    pub(crate) prev: Option<DateTime<Utc>>,
}

impl EntryRecord {
    pub(crate) fn of(entry: &SchedulerEntry, redaction: &Redaction) -> Self {
        Self {
            id: entry.id.clone(),
            spec: entry.spec.clone(),
            task_type: entry.task_type.clone(),
            payload: redaction.data(&entry.task_type, &entry.payload),
            options: entry.options.clone(),
            next: entry.next,
            prev: entry.prev,
        }
    }
}

/// A finding: something that needs attention.
#[derive(Debug, Serialize)]
pub(crate) struct FindingRecord {
    pub(crate) severity: asynq::findings::Severity,
    pub(crate) queue: Option<String>,
    /// The kind, with its evidence.
    #[serde(flatten)]
    pub(crate) evidence: asynq::findings::FindingKind,
    pub(crate) text: String,
    /// The suggested command.
    pub(crate) command: String,
}

impl FindingRecord {
    pub(crate) fn of(finding: &Finding) -> Self {
        Self {
            severity: finding.severity,
            queue: finding.queue.as_ref().map(ToString::to_string),
            evidence: finding.kind.clone(),
            text: finding.to_string(),
            command: finding.command.clone(),
        }
    }
}

/// The errors of the tasks of a queue, grouped.
#[derive(Debug, Serialize)]
pub(crate) struct SignaturesRecord {
    pub(crate) queue: String,
    /// The most frequent ones, the most frequent one first.
    pub(crate) top: Vec<SignatureCount>,
    /// Number of different ones.
    pub(crate) different: u64,
    /// Number of tasks that were looked at.
    pub(crate) looked_at: u64,
    pub(crate) without_error: u64,
    pub(crate) unreadable: u64,
    /// Number of tasks there are.
    pub(crate) total: u64,
}

impl SignaturesRecord {
    pub(crate) fn of(queue: &str, errors: ErrorSignatures) -> Self {
        Self {
            queue: queue.to_owned(),
            top: errors.top,
            different: errors.different,
            looked_at: errors.looked_at,
            without_error: errors.without_error,
            unreadable: errors.unreadable,
            total: errors.total,
        }
    }
}

/// A broken invariant, as the doctor found it.
#[derive(Debug, Serialize)]
pub(crate) struct DiagnosisRecord {
    pub(crate) queue: String,
    pub(crate) breach: String,
    pub(crate) effect: &'static str,
    pub(crate) cause: &'static str,
    pub(crate) repair: &'static str,
    /// `repaired`, `can_be_repaired`, `left` or `gone`.
    pub(crate) result: &'static str,
    /// The repair that was made or can be made, or why there is none.
    pub(crate) detail: Option<String>,
}

impl DiagnosisRecord {
    pub(crate) fn of(diagnosis: &Diagnosis) -> Self {
        let explanation = diagnosis.breach.explain();
        let (result, detail) = match &diagnosis.result {
            Repair::Done(remedy) if diagnosis.fixed => ("repaired", Some(remedy.to_string())),
            Repair::Done(remedy) => ("can_be_repaired", Some(remedy.to_string())),
            Repair::Left(obstacle) => ("left", Some(obstacle.to_string())),
            _ => ("gone", None),
        };
        Self {
            queue: diagnosis.queue.to_string(),
            breach: diagnosis.breach.to_string(),
            effect: explanation.effect,
            cause: explanation.cause,
            repair: explanation.repair,
            result,
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(bytes: &[u8]) -> String {
        serde_json::to_string(&Data::of(bytes, false)).unwrap()
    }

    #[test]
    fn data_are_shown_by_what_they_are() {
        let number = br#"{"id":12345678901234567890123,"b":1.10}"#;
        assert_eq!(
            json(number),
            r#"{"encoding":"json","value":{"id":12345678901234567890123,"b":1.10}}"#
        );
        assert_eq!(json(b"hello"), r#"{"encoding":"text","value":"hello"}"#);
        assert_eq!(json(b""), r#"{"encoding":"text","value":""}"#);
        assert_eq!(
            json(b"\x81\xa2id\xcd\x03\xea"),
            r#"{"encoding":"msgpack","value":{"id":1002}}"#
        );
        assert_eq!(json(b"\xff\x00"), r#"{"encoding":"base64","value":"/wA="}"#);
        let hidden = serde_json::to_string(&Data::of(b"secret", true)).unwrap();
        assert_eq!(hidden, r#"{"encoding":"redacted"}"#);
    }

    #[test]
    fn long_data_are_cut_and_odd_values_are_text() {
        let shown = |bytes: &[u8]| serde_json::to_value(Redaction::default().up_to(8).data("t", bytes)).unwrap();
        let beginning = |encoding: &str, cut: &str, text: &str| serde_json::json!({"encoding": encoding, "beginning": {"cut": cut, "text": text}});
        assert_eq!(
            shown(br#"{"a":12}"#),
            serde_json::json!({"encoding": "json", "value": {"a": 12}})
        );
        assert_eq!(
            shown("{\"a\":\"éé\"}".as_bytes()),
            beginning("text", "the first 8 of 12 bytes", "{\"a\":\"é")
        );
        assert_eq!(
            shown("aéééé".as_bytes()),
            beginning("text", "the first 7 of 9 bytes", "aééé")
        );
        assert_eq!(
            shown(&[255; 9]),
            beginning("base64", "the first 6 of 9 bytes", "////////")
        );
        let shown = |text: String| {
            let redaction = Redaction::default().up_to(1000);
            serde_json::to_value(redaction.data("t", text.as_bytes())).unwrap()["encoding"].clone()
        };
        for (text, encoding) in [
            ("1e300".to_owned(), "json"),
            ("{\"a\":1e400}".to_owned(), "text"),
            ("12345678901234567890123".to_owned(), "text"),
            ("[".repeat(60) + &"]".repeat(60), "json"),
            ("[".repeat(120) + &"]".repeat(120), "text"),
            ("[".repeat(300) + &"]".repeat(300), "text"),
        ] {
            assert_eq!(shown(text.clone()), encoding, "{text}");
        }
    }

    #[test]
    fn json_on_several_lines_becomes_one_line() {
        assert_eq!(json(b"{\n\"a\": 1\n}"), r#"{"encoding":"json","value":{ "a": 1 }}"#);
    }

    #[test]
    fn large_numbers_keep_their_digits_for_people_too() {
        let large = Data::of(br#"{"id":12345678901234567890123}"#, false);
        assert_eq!(
            large.pretty().as_deref(),
            Some("{\n  \"id\": 12345678901234567890123\n}")
        );
        let exact = json::has_usual_numbers;
        for json in [
            "[18446744073709551615,-9223372036854775808,1.10,1e5]",
            r#"{"a\\\"12345678901234567890123":"12345678901234567890123"}"#,
        ] {
            assert!(exact(json), "{json}");
        }
        for json in [
            "18446744073709551616",
            "[0.12345678901234567]",
            r#"{"\\":12345678901234567890123}"#,
        ] {
            assert!(!exact(json), "{json}");
        }
        let blank = Data::of(br#"{"a":"b c"}"#, false);
        assert_eq!(blank.pretty().as_deref(), Some("{\n  \"a\": \"b c\"\n}"));
        let small = Data::of(br#"{"id":1}"#, false);
        assert_eq!(small.pretty().as_deref(), Some("{\n  \"id\": 1\n}"));
        let ordered = Data::of(br#"{"to":"a","n":[1,{}]}"#, false);
        let text = "{\n  \"to\": \"a\",\n  \"n\": [\n    1,\n    {}\n  ]\n}";
        assert_eq!(ordered.pretty().as_deref(), Some(text));
    }

    #[test]
    fn types_are_hidden_by_name_or_beginning() {
        let redaction = Redaction::of(&["card:*".to_owned(), "mail".to_owned()]);
        for (task_type, hidden) in [
            ("card:charge", true),
            ("mail", true),
            ("mail:send", false),
            ("car", false),
        ] {
            assert_eq!(redaction.hides(task_type), hidden, "{task_type}");
        }
    }
}
