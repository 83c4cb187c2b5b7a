//! The Redis broker of Asynq for Rust, on the same keys and bytes as Go asynq.
//!
//! [`RedisConnectionType`] says which Redis and how to reach it; [`RedisBroker`] is what it leads to: a
//! [`Broker`](asynq_core::Broker) and an [`Inspect`](asynq_core::Inspect). Redis 6.2 or later.
//!
//! # How it is made
//!
//! - `lua/*.lua` has one script for each operation, with its contract on top; `scripts` puts them
//!   together with the parts they share. A script looks first and writes then, so that it never leaves
//!   half of a transition behind; what it finds damaged harms only itself.
//! - `ops` has one file for each topic: it renders the arguments of a script and reads its answer. A
//!   batch becomes one call for each queue, and all calls go out in one write.
//! - `links` is what they talk to: one server (`link`), found through sentinels if need be (feature `sentinel`),
//!   or the nodes of a cluster (`cluster`, feature `cluster`). A script keeps to one queue and so to one node.
//! - `link` is the connection below: nothing is sent twice behind the caller's back, and an answer that
//!   was lost is [`BrokerError::Ambiguous`](asynq_core::BrokerError::Ambiguous).

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
