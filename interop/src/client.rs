//! A Go client.

use serde::Deserialize;

use crate::{
    process::{GoError, Process, Refusal},
    task::{GoTask, GoTaskInfo},
};

/// `asynq.Client` in a process of its own.
#[derive(Debug)]
pub struct GoClient(Process);

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    info: Option<GoTaskInfo>,
    #[serde(flatten)]
    refusal: Refusal,
}

impl GoClient {
    /// Connects to the Redis at `host:port`, or at a URL.
    ///
    /// # Panics
    /// If the program cannot be built or started.
    pub async fn start(address: &str) -> Self {
        Self(Process::start("enqueue", address, &[]).await)
    }

    /// Enqueues a task.
    ///
    /// # Errors
    /// What the library refused.
    ///
    /// # Panics
    /// If the program fails.
    pub async fn try_enqueue(&mut self, task: &GoTask) -> Result<GoTaskInfo, GoError> {
        let answer: Answer = self.0.ask(task).await;
        match answer.info {
            Some(info) if answer.ok => Ok(info),
            _ => Err(answer.refusal.into()),
        }
    }

    /// Enqueues a task that must be accepted.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn enqueue(&mut self, task: &GoTask) -> GoTaskInfo {
        let enqueued = self.try_enqueue(task).await;
        enqueued.unwrap_or_else(|error| panic!("Go does not enqueue {task:?}: {error}"))
    }
}
