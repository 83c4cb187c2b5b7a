//! Aggregation of groups: whatever happens, each member ends in exactly one aggregated task or still
//! waits in its group. All time is virtual.

mod actor;
mod crashes;
mod failures;
mod kit;
mod limits;
