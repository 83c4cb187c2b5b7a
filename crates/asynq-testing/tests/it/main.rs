//! Tests of the test kit itself.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod faulty;
mod launcher;
#[path = "../../../asynq-memory/tests/it/backend.rs"]
mod memory_backend;
mod proxy;
