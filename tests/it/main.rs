//! Tests of the whole: storages beside each other, and the system on top of them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod aggregation;
mod cancel;
mod classic;
mod clocks;
mod crash;
mod doctor;
mod dropped;
mod findings;
mod go_shaped;
mod inputs;
#[path = "../../actors/tests/it/load.rs"]
mod load;
mod macros;
#[path = "../../crates/asynq-memory/tests/it/backend.rs"]
mod memory_backend;
mod one_client;
mod outages;
mod parents;
mod prefetch;
mod property;
mod readme;
mod runs;
mod scheduler;
mod search;
mod sizes;
mod states;
mod testing;
mod topologies;
mod tower;
mod trail;
#[cfg(feature = "otel")]
mod untraced;
mod wrapped;
