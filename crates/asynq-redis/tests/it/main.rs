//! The Redis broker against private redis-servers.

mod bounds;
mod conformance;
mod counters;
mod damage;
mod fence;
mod golden;
mod oom;
mod support;
