//! Tests of the program `asynq`, run as a user runs it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod advice;
mod audit;
mod bad_input;
mod bench;
mod connection;
mod cron;
mod dash;
mod doctor;
mod findings;
mod fixture;
mod go;
mod hands;
mod listings;
mod mcp;
mod shell;
mod snapshots;
mod support;
mod tasks;
mod terminal;
mod top;
mod tree;
mod web;
