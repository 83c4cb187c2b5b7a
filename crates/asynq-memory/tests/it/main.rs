//! The embedded broker, from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backend;
mod conformance;
mod connections;
mod damage;
mod kit;
mod raw;
mod speed;
mod wakeups;
