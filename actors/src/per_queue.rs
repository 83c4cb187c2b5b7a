//! Calls for several queues, made so that a queue in trouble delays no other.

pub(crate) mod health;
pub(crate) mod passes;
pub(crate) mod watches;
