//! The line protocol between the program that measures and a contestant, which is a process of its own.
//!
//! A contestant is called as `PROGRAM WORK JSON`; [`Params`] has the fields of the JSON object. It connects, prints
//! `ready` and waits for a line on its standard input. It prints `first` when the first task starts and `handled` when
//! the last one has been handled, or enqueued; `result` and a JSON object for what it measures itself. It goes on, so
//! that what is on its way gets to Redis, until its input ends. All lines are written at once.

use std::io::{self, BufRead as _, Write as _};

use serde::{Deserialize, Serialize};

/// The parameters of a piece of work. A contestant uses those that its work needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Params {
    /// Address of Redis as `host:port`.
    pub(crate) redis: String,
    /// Number of tasks.
    pub(crate) n: u64,
    /// Callers that enqueue at once.
    pub(crate) callers: usize,
    /// Tasks that a caller hands over together; 0 for one by one.
    pub(crate) bulk: usize,
    /// Tasks that run at once.
    pub(crate) concurrency: usize,
    /// Tasks that are taken ahead of the slots; for ours.
    pub(crate) prefetch: usize,
    /// Bytes of each payload.
    pub(crate) payload: usize,
    /// Queues and their weights.
    pub(crate) queues: Vec<(String, i32)>,
    /// The work of a handler.
    pub(crate) handler: HandlerKind,
    /// Probes in a second.
    pub(crate) rate: u64,
    /// Seconds for which probes are sent.
    pub(crate) seconds: f64,
    /// Other tasks in a second, while probes are sent.
    pub(crate) load: u64,
    /// Keep as many tasks waiting as there were, by enqueueing in bulk what was handled.
    pub(crate) refill: bool,
    /// The thing that an inspector looks at.
    pub(crate) look: String,
    /// Worker threads of the runtime.
    pub(crate) workers: usize,
    /// Tasks in a call; for bare scripts.
    pub(crate) batch: usize,
    /// Calls under way at once; for bare scripts.
    pub(crate) in_flight: usize,
}

/// The work of a handler with a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HandlerKind {
    /// Nothing.
    #[default]
    Noop,
    /// Of 20 tasks one is retried and one archived; the producer marked one more to be kept.
    Mixed,
    /// Nine tenths of the slots are held at any time, and a random task ends when another one starts.
    Hold,
}

/// Prints a line at once.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    // A reader that is gone ends this process through its input.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Says that all is ready, and waits until it may begin. Blocks its thread.
pub(crate) fn ready() {
    say("ready");
    let _ = io::stdin().lock().read_line(&mut String::new());
}

/// Waits until the input ends. Blocks its thread.
pub(crate) fn until_stopped() {
    for line in io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
    }
}

/// The quantiles of durations in microseconds, as a line for [`say`].
pub(crate) fn quantiles(mut micros: Vec<i64>) -> String {
    micros.sort_unstable();
    let at = |per_mille: usize| {
        let place = (micros.len() * per_mille).div_ceil(1000).max(1) - 1;
        micros.get(place).copied().unwrap_or(0)
    };
    let values = serde_json::json!({
        "count": micros.len(), "min_us": at(0), "p50_us": at(500), "p99_us": at(990), "max_us": at(1000),
    });
    format!("result {values}")
}
