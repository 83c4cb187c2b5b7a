//! The trouble of one queue leaves the others their throughput, their leases and their enqueues.

mod chores;
mod enqueues;
mod kit;
mod leases;
mod throughput;
