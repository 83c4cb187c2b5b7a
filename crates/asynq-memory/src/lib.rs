//! The embedded broker of Asynq for Rust: a whole task storage inside the process, no server.
//!
//! A [`MemoryStore`] is the data; [`MemoryBroker`] is one connection to it. The store is a
//! [`Connector`](asynq_core::Connector): give it to a system wherever a Redis connection is taken.
//! Several systems may share one store; each connection has its own clock, tokens and watches, and
//! closing one leaves the others alone. Nothing is kept beyond the life of the process.
//!
//! ```
//! use asynq_core::{Broker as _, Env, Inspect as _};
//! use asynq_memory::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), asynq_core::BrokerError> {
//! let store = MemoryStore::new();
//! let broker = store.open(Env::default());
//! broker.ping().await?;
//! assert!(broker.queues().await?.is_empty());
//! # Ok(()) }
//! ```
//!
//! # The executable model
//!
//! The crate is also what the Redis broker is compared with, to the byte, so it says each
//! transition once and plainly: `model` holds what Redis would hold, with types; `ops` has one
//! file for each family of operations; [`MemoryStore::raw_state`] shows the keys and values that
//! Redis would show. All time comes from the connection's clock, lock and counter lifetimes
//! included, so virtual time drives everything.
//!
//! One mutex guards a store. It is never held across an await, and no operation waits.

mod broker;
mod inspect;
mod model;
mod ops;
mod store;

pub use broker::MemoryBroker;
pub use store::MemoryStore;
