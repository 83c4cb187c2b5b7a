//! The Redis broker of Asynq for Rust, on the same keys and bytes as Go asynq.
//!
//! A [`RedisConnectionType`] names a Redis, 6.2 or later, and opens a [`RedisBroker`], which is a
//! [`Broker`](asynq_core::Broker) and an [`Inspect`](asynq_core::Inspect).
//!
//! # Structure
//!
//! - `lua/*.lua` has one script for each operation, with its contract on top; `scripts` puts them together with the
//!   parts they share. A script checks first and writes then, so that it never leaves half of a transition behind.
//!   A damaged entry affects only itself.
//! - `ops` has one file for each topic: it renders the arguments of a script and reads its answer. A batch becomes
//!   one call for each queue, and all calls go out in one write.
//! - `links` is the way to the servers: one server (`link`), perhaps found through sentinels (feature `sentinel`),
//!   or the nodes of a cluster (`cluster`, feature `cluster`). A script keeps to one queue and so to one node.
//! - `link` is the connection: nothing is sent twice behind the caller's back, and a lost answer is
//!   [`BrokerError::Ambiguous`](asynq_core::BrokerError::Ambiguous).

mod args;
mod broker;
mod clock_sync;
#[cfg(feature = "cluster")]
mod cluster;
mod connection_type;
mod failure;
mod link;
mod links;
mod ops;
mod pubsub;
mod reply;
mod scripts;
mod uri;
mod watcher;

pub use broker::RedisBroker;
pub use connection_type::RedisConnectionType;
