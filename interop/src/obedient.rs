//! The handler of our servers: it does what the payload says, as that of the Go program does, and tells the
//! same.

use asynq::{Error, IsFailure, Result, Task, TaskContext, error::BoxError};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::time::{Duration, sleep};

use crate::{
    base64_bytes,
    events::{GoEvent, GoRun},
};

/// A payload that the handler understands; see `interop/go/README.md`. Anything else: succeed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Orders {
    r#do: String,
    error: String,
    n: u32,
    ms: u64,
    data: String,
    #[serde(with = "base64_bytes")]
    data_base64: Option<Vec<u8>>,
}

impl Orders {
    fn error(&self, fallback: &str) -> BoxError {
        if self.error.is_empty() {
            fallback.into()
        } else {
            self.error.as_str().into()
        }
    }
}

/// An error that does not count as a failure.
#[derive(Debug, thiserror::Error)]
#[error("not a failure")]
struct NotAFailure;

/// The rule that belongs to the handler: `not_failure` is none.
#[must_use]
pub fn is_failure() -> IsFailure {
    IsFailure::new(|error| !matches!(error, Error::Handler(cause) if cause.is::<NotAFailure>()))
}

/// Obeys a task of a running server, and tells of the start and the end of its run. A run that is cancelled
/// has no end: its handler is dropped.
///
/// # Errors
/// What the payload asks for; a task that no server runs.
///
/// # Panics
/// If the payload asks for it.
pub async fn obey<F: Future<Output = ()>>(task: &Task, tell: impl Fn(GoEvent) -> F) -> Result<()> {
    let Some(context) = task.context() else {
        return Err(Error::other("the task does not run in a server"));
    };
    let mut run = GoRun {
        r#type: task.get_type().to_owned(),
        id: context.id().to_string(),
        queue: context.queue().to_string(),
        payload: Some(task.get_payload().to_vec()),
        headers: task.headers().clone(),
        retried: context.retried().into(),
        max_retry: context.max_retry().into(),
        deadline_unix_nanos: nanos(context.deadline()),
        outcome: String::new(),
        error: String::new(),
        at_unix_nanos: nanos(Utc::now()),
    };
    tell(GoEvent::Start(run.clone())).await;

    let orders: Orders = serde_json::from_slice(task.get_payload()).unwrap_or_default();
    let (outcome, result) = carry_out(context, &orders).await;
    run.at_unix_nanos = nanos(Utc::now());
    outcome.clone_into(&mut run.outcome);
    run.error = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
    tell(GoEvent::End(run)).await;
    match result {
        Err(error) if outcome == "panic" => panic!("{error}"),
        result => result,
    }
}

async fn carry_out(context: &TaskContext, orders: &Orders) -> (&'static str, Result<()>) {
    let failed = || ("error", Err(Error::other(orders.error("failed"))));
    match orders.r#do.as_str() {
        "fail" => failed(),
        "fail_times" if context.retried() < orders.n => failed(),
        "not_failure" => ("not_failure", Err(Error::other(NotAFailure))),
        "skip_retry" => (
            "skip_retry",
            Err(Error::skip_retry(orders.error("skip retry for the task"))),
        ),
        "revoke" => ("revoke", Err(Error::revoke("revoke task"))),
        "panic" => ("panic", Err(Error::other(orders.error("panicked")))),
        "sleep" if orders.n == 0 || context.retried() < orders.n => {
            sleep(Duration::from_millis(orders.ms)).await;
            ("ok", Ok(()))
        }
        "wait_cancel" => {
            context.cancelled().await;
            // Deaf to the shutdown, as the handler of a program that is cut off: the runtime has to end it.
            std::future::pending().await
        }
        "result" => {
            let text = || orders.data.clone().into_bytes();
            let written = context
                .write_result(orders.data_base64.clone().unwrap_or_else(text))
                .await;
            match written {
                Err(error) => ("error", Err(error)),
                Ok(_) if !orders.error.is_empty() => failed(),
                Ok(_) => ("ok", Ok(())),
            }
        }
        _ => ("ok", Ok(())),
    }
}

/// As the Go program does with a time that is too late.
fn nanos(at: DateTime<Utc>) -> i64 {
    at.timestamp_nanos_opt().unwrap_or(i64::MAX)
}
