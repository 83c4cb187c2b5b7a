//! The speed of Go asynq, measured by itself.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};

use crate::process::{PATIENCE, Process, parse};

/// The measurements of [`bench_enqueue`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct GoFill {
    /// Tasks enqueued.
    pub n: u64,
    /// Goroutines that enqueued, one task at a time each.
    pub callers: u64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Tasks in a second.
    pub per_second: f64,
}

/// The measurements of [`bench_drain`]. The last three count from the start of the server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct GoDrain {
    /// Tasks run.
    pub n: u64,
    /// Tasks at once.
    pub concurrency: u64,
    /// From the first run of the handler until the last task was gone from Redis.
    pub seconds: f64,
    /// Tasks in a second.
    pub per_second: f64,
    /// First run of the handler.
    pub first_task_seconds: f64,
    /// Last run of the handler.
    pub handled_seconds: f64,
    /// Last task gone from Redis.
    pub total_seconds: f64,
}

/// Time that enqueueing may take.
const FILL_LIMIT: Duration = Duration::from_secs(600);

/// Enqueues `n` tasks of the type `bench:noop` to the queue `default`.
///
/// # Panics
/// If the program fails, or takes longer than ten minutes.
pub async fn bench_enqueue(address: &str, n: u64, callers: u64, payload_bytes: u64) -> GoFill {
    let args = [
        format!("--n={n}"),
        format!("--callers={callers}"),
        format!("--payload-bytes={payload_bytes}"),
    ];
    measured("bench-enqueue", address, &args, FILL_LIMIT).await
}

/// Runs `n` tasks of the queue `default` with a handler that does nothing.
///
/// # Panics
/// If the program fails, or takes longer than `within`.
pub async fn bench_drain(address: &str, n: u64, concurrency: u64, within: Duration) -> GoDrain {
    let args = [
        format!("--n={n}"),
        format!("--concurrency={concurrency}"),
        format!("--timeout={}", within.as_millis()),
    ];
    measured("bench-drain", address, &args, within).await
}

async fn measured<T: DeserializeOwned>(subcommand: &str, address: &str, args: &[String], within: Duration) -> T {
    let process = Process::start(subcommand, address, args).await;
    let lines = process.output(within + PATIENCE).await;
    match lines.as_slice() {
        [line] => parse(line),
        other => panic!("expected one line, got {other:?}"),
    }
}
