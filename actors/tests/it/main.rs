//! Integration tests of the runtime, on the embedded broker.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod adoption;
mod aggregation;
mod blocking;
mod cancels;
mod client;
mod crash;
mod deadline;
mod deploys;
mod ends;
mod exact;
mod faults;
mod handler_actors;
mod held;
mod isolation;
mod load;
mod maintenance;
mod metrics;
mod parents;
mod pauses;
mod prefetch;
mod results;
mod scheduler;
mod spans;
mod stalls;
mod statistics;
mod stubborn;
mod supervisor;
mod system;
mod unreachable;
mod wait;

use asynq_core::{Clock, Entropy, broker::Env};

/// The text of an error without the place of its panic.
fn placeless(text: &str) -> String {
    match (text.find(" ["), text.find("]: ")) {
        (Some(from), Some(to)) => format!("{}{}", &text[..from], &text[to + 1..]),
        _ => text.to_owned(),
    }
}

/// Virtual time, and the same randomness in every run.
fn env() -> Env {
    Env {
        clock: Clock::tokio(),
        entropy: Entropy::seeded(11),
    }
}
