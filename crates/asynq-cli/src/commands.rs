//! The commands, each in a file of its own.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod complete;
pub(crate) mod context;
pub(crate) mod cron;
pub(crate) mod dash;
pub(crate) mod doctor;
mod each;
pub(crate) mod findings;
pub(crate) mod group;
pub(crate) mod mcp;
pub(crate) mod pages;
pub(crate) mod queue;
pub(crate) mod server;
pub(crate) mod stats;
pub(crate) mod task;
pub(crate) mod top;
pub(crate) mod tree;
pub(crate) mod web;
