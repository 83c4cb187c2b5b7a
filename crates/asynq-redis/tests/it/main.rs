//! The Redis broker against private redis-servers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, in its helpers too")]

mod backlog;
mod bounds;
mod bytes;
mod clock;
#[cfg(feature = "cluster")]
mod cluster;
mod conformance;
mod connection;
mod counters;
mod damage;
mod doctor;
mod fence;
mod findings;
mod golden;
mod oom;
mod pieces;
#[cfg(feature = "sentinel")]
mod sentinel;
mod slow;
mod statistics;
mod support;
mod uri;
