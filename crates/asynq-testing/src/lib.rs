//! The test kit of Asynq for Rust.
//!
//! * [`redis`]: private redis-servers, clusters and sentinels, and [`resp`], a raw client for them.
//! * [`proxy`]: a proxy that loses requests and replies on demand.
//! * [`conformance`](mod@conformance): the suite that every storage passes.
//! * [`faulty`]: a storage that fails on demand.
//! * [`model`]: the same random operations on several storages.
//! * [`tls`]: certificates for servers that speak TLS.
//! * [`cron`](mod@cron): cron specs beside Go's.
//! * [`request`](mod@request): requests in a line; [`view`] and [`invariants`]: looks at raw keys.
//!
//! It knows `asynq-core` alone: neither a broker nor actors nor a Redis library.

pub mod conformance;
pub mod cron;
pub mod faulty;
pub mod invariants;
pub mod model;
pub mod proxy;
pub mod redis;
pub mod request;
pub mod resp;
pub mod tls;
pub mod view;

pub use faulty::{Fault, Faults, FaultyBroker, FaultyConnector};
pub use proxy::Proxy;
pub use redis::{RedisCluster, RedisSentinel, RedisServer};
pub use request::request;
pub use resp::{Resp, RespValue};
