//! Metrics of the runtime, through the facade of the crate [`metrics`](https://docs.rs/metrics): an application installs
//! the exporter that it likes, and finds them there beside its own.
//!
//! [`ALL`] lists them. The names begin with `asynq_`, and none of them is that of a metric of Go's `x/metrics`, which tells
//! the sizes of queues.
//!
//! Install the recorder before the first client, server or system is made. The handles of metrics are made when a queue or
//! a task type is first seen, and a recorder that comes later does not see these. The label `type` has at most
//! [`MAX_TYPES`](asynq_core::statistics::MAX_TYPES) values for each queue of a system, and the label `queue` at most
//! [`MAX_QUEUES`]; all others are [`OTHER`].

#[cfg(feature = "metrics")]
mod meters;
#[cfg(feature = "metrics")]
mod names;
#[cfg(not(feature = "metrics"))]
mod off;

#[cfg(feature = "metrics")]
pub(crate) use meters::{Meters, restarted, storage_failed, unsettled, woken};
#[cfg(feature = "metrics")]
pub use names::{
    ACTOR_RESTARTS, ALL, DIRECTIONS, ENQUEUE_BATCH_TASKS, ENQUEUE_RESULTS, ENQUEUES, ERROR_KINDS, EXCHANGE_TASKS,
    IN_FLIGHT, MAX_QUEUES, Metric, MetricKind, OTHER, OUTCOMES, RUN_DURATION, RUNS, RUNS_STARTED, STORAGE_ERRORS,
    UNSETTLED, WAIT_DURATION, WAKEUP_KINDS, WAKEUPS, describe,
};
#[cfg(not(feature = "metrics"))]
pub(crate) use off::{Meters, restarted, storage_failed, unsettled, woken};
