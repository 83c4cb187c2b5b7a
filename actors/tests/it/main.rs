//! Integration tests of the runtime, on the embedded broker.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod adoption;
mod aggregation;
mod blocking;
mod client;
mod crash;
mod deadline;
mod deploys;
mod ends;
mod faults;
mod handler_actors;
mod isolation;
mod load;
mod maintenance;
mod parents;
mod pauses;
mod scheduler;
mod spans;
mod stalls;
mod stubborn;
mod supervisor;
mod system;

use asynq_core::{Clock, Entropy, broker::Env};

/// Virtual time, and the same randomness in every run.
fn env() -> Env {
    Env {
        clock: Clock::tokio(),
        entropy: Entropy::seeded(11),
    }
}
