//! Supervision, with children that fail on command. All time is virtual.

mod failing;
mod kit;
mod property;
mod starting;
mod stopping;
mod strategies;
mod unlimited;
