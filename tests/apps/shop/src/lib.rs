//! A shop's orders: an axum service that enqueues tasks, and the system that runs them.
//!
//! An app as a user of the library writes it, with nothing but what README, guides and rustdoc show.

pub mod http;
pub mod tasks;
pub mod work;
