//! Options as Go writes them.

use serde::{Deserialize, Serialize};

use crate::process::Process;

/// Options whose texts are asked for, in the order of the texts. What is `None` is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GoOptionValues {
    /// `asynq.MaxRetry`.
    pub max_retry: Option<u32>,
    /// `asynq.Queue`.
    pub queue: Option<String>,
    /// `asynq.TaskID`.
    pub task_id: Option<String>,
    /// `asynq.Timeout`.
    pub timeout_nanos: Option<i64>,
    /// `asynq.Deadline`, in Unix seconds.
    pub deadline_unix: Option<i64>,
    /// `asynq.Unique`.
    pub unique_nanos: Option<i64>,
    /// `asynq.ProcessAt`, in Unix seconds.
    pub process_at_unix: Option<i64>,
    /// `asynq.ProcessIn`.
    pub process_in_nanos: Option<i64>,
    /// `asynq.Retention`.
    pub retention_nanos: Option<i64>,
    /// `asynq.Group`.
    pub group: Option<String>,
    /// `asynq.Header` of the releases after 0.26: names and values.
    pub headers: Vec<(String, String)>,
}

/// The `String` methods of Go's options, in a process of their own.
#[derive(Debug)]
pub struct GoOptions(Process);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    options: Option<Vec<String>>,
    #[serde(default)]
    error: String,
}

impl GoOptions {
    /// Starts the program, which asks nothing of Redis.
    ///
    /// # Panics
    /// If the program cannot be built or started.
    pub async fn start() -> Self {
        Self(Process::start("options", "127.0.0.1:0", &[]).await)
    }

    /// The texts of the options.
    ///
    /// # Panics
    /// If the program does not understand them.
    pub async fn texts(&mut self, options: &GoOptionValues) -> Vec<String> {
        let Answer { options: texts, error } = self.0.ask(options).await;
        texts.unwrap_or_else(|| panic!("Go does not take {options:?}: {error}"))
    }
}
