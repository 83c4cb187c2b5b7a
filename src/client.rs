//! [`Client`]: enqueues tasks.

pub use asynq_actors::{Client, TaskContextExt};
