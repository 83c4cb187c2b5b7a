//! What the hot path costs, in counts that no load of the machine changes: commands of Redis, allocations of the process,
//! instructions of Redis. A test of its own, since its allocator counts for the whole program.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod allocations;
mod commands;
mod instructions;
mod work;
