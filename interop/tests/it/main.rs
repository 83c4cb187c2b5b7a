//! Go asynq and Asynq for Rust on one Redis.
//!
//! Every look at a task or a queue is taken by both inspectors, which must agree; every test has a server of
//! its own. What another process does is waited for by looking again until it is there, since it cannot tell.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod acts;
mod aggregation;
mod asynqmon;
mod cancel;
mod connections;
mod cron;
mod doctor;
mod driver;
mod findings;
mod fleet;
mod go_enqueues;
mod idle;
mod kinds;
mod locks;
mod outcomes;
mod pair;
mod pause;
mod periodic;
mod recovery;
mod requeue;
mod retention;
mod runs;
mod rust_enqueues;
mod rust_server;
mod same;
mod schedulers;
mod search;
mod servers;
mod sides;
mod speed;
mod together;
mod translate;
mod vectors;
mod waiting;
