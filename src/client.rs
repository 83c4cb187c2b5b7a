//! [`Client`]: enqueues tasks, and waits for their ends.

pub use asynq_actors::{Client, TaskContextExt, Waited};
