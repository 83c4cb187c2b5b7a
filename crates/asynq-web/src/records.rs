//! The values that the web API and the program `asynq` show, as JSON: stable names, times in RFC 3339, durations in seconds.

mod data;
mod finding;
pub mod json;
mod queue;
mod redaction;
mod server;
mod task;

pub(crate) use self::{data::DataSchema, server::queue_of};
pub use self::{
    data::{Data, Shown},
    finding::{DiagnosisRecord, FindingRecord},
    queue::{QueueRecord, SignatureRecord, SignaturesRecord, UnreadableQueue},
    redaction::Redaction,
    server::{EntryRecord, ServerRecord, WorkerRecord},
    task::{ProgressRecord, RunRecord, TaskRecord, outcome},
};
