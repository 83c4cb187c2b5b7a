//! The cost of the hot path, in counts that do not depend on the load of the machine: commands of Redis, allocations of the
//! process, instructions of Redis. It is a program of its own, because its allocator counts for the whole program.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod allocations;
mod commands;
mod instructions;
mod work;
