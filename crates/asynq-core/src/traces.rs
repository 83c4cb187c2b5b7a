//! Spans of OpenTelemetry around enqueues and runs, and their contexts in the headers of tasks. Without the feature
//! `otel` all of this is empty, and costs nothing.

#[cfg(feature = "otel")]
mod headers;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod running;
#[cfg(feature = "otel")]
mod sending;
#[cfg(feature = "otel")]
mod span;

#[cfg(not(feature = "otel"))]
pub use self::off::{Ended, Running, Sending};
#[cfg(feature = "otel")]
pub use self::{
    running::{Ended, Running},
    sending::Sending,
};
