//! Tests of the web server, through its router.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bad_input;
mod changes;
mod commands;
mod metrics;
mod mon;
mod pages;
mod serve;
mod sign_in;
mod support;
mod v1;
mod webhook;
