//! The embedded broker, from outside.

mod conformance;
mod connections;
mod damage;
mod kit;
mod raw;
mod speed;
mod wakeups;
