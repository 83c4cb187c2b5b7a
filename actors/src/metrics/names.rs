//! The names of the metrics, and their descriptions.

use metrics::Unit;

/// Runs that have started, by `queue` and `type`.
pub const RUNS_STARTED: &str = "asynq_runs_started_total";
/// Runs that have ended, by `queue`, `type` and `outcome`.
pub const RUNS: &str = "asynq_runs_total";
/// Time from the start of a run to its end, by `queue` and `type`.
pub const RUN_DURATION: &str = "asynq_run_duration_seconds";
/// Time for which a task was pending before its run, by `queue` and `type`.
pub const WAIT_DURATION: &str = "asynq_wait_duration_seconds";
/// Number of tasks in one call that writes outcomes and takes tasks, by `queue` and `direction`.
pub const EXCHANGE_TASKS: &str = "asynq_exchange_tasks";
/// Number of tasks in one call that enqueues, by `queue`.
pub const ENQUEUE_BATCH_TASKS: &str = "asynq_enqueue_batch_tasks";
/// Answers to enqueued tasks, by `queue` and `result`.
pub const ENQUEUES: &str = "asynq_enqueues_total";
/// Wake-ups of servers that found no tasks, by `kind`.
pub const WAKEUPS: &str = "asynq_wakeups_total";
/// Restarts of supervised actors, by `actor`.
pub const ACTOR_RESTARTS: &str = "asynq_actor_restarts_total";
/// Runs in progress, by `queue`.
pub const IN_FLIGHT: &str = "asynq_in_flight_tasks";
/// Outcomes that are not written yet, by `actor`.
pub const UNSETTLED: &str = "asynq_unsettled_tasks";
/// Failed calls of the storage, by `kind`.
pub const STORAGE_ERRORS: &str = "asynq_storage_errors_total";

/// Value of the label `type` for the types of a queue beyond the first
/// [`MAX_TYPES`](asynq_core::statistics::MAX_TYPES), and of `queue` for the queues beyond the first [`MAX_QUEUES`].
pub const OTHER: &str = "other";
/// Number of values that the label `queue` has at most, besides [`OTHER`].
pub const MAX_QUEUES: usize = 500;

/// Values of the label `outcome` of [`RUNS`].
pub const OUTCOMES: [&str; 6] = ["done", "retried", "deferred", "archived", "given_back", "lost"];
/// Values of the label `direction` of [`EXCHANGE_TASKS`]: outcomes that are written, tasks that are taken.
pub const DIRECTIONS: [&str; 2] = ["settle", "take"];
/// Values of the label `result` of [`ENQUEUES`].
pub const ENQUEUE_RESULTS: [&str; 5] = ["enqueued", "duplicate", "id_conflict", "unknown", "failed"];
/// Values of the label `kind` of [`WAKEUPS`]: the storage said that tasks came, or the time to look again had come.
pub const WAKEUP_KINDS: [&str; 2] = ["push", "poll"];
/// Values of the label `kind` of [`STORAGE_ERRORS`].
pub const ERROR_KINDS: [&str; 8] = [
    "unavailable",
    "ambiguous",
    "out_of_memory",
    "read_only",
    "busy",
    "refused",
    "wrong_type",
    "other",
];

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A number that only grows.
    Counter,
    /// A number that grows and shrinks.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// A metric that this library emits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its unit.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Its description.
    pub description: &'static str,
}

const fn metric(
    name: &'static str,
    kind: MetricKind,
    unit: Unit,
    labels: &'static [&'static str],
    description: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        labels,
        description,
    }
}

/// All metrics.
pub const ALL: &[Metric] = &[
    metric(
        RUNS_STARTED,
        MetricKind::Counter,
        Unit::Count,
        &["queue", "type"],
        "Runs of tasks that have started",
    ),
    metric(
        RUNS,
        MetricKind::Counter,
        Unit::Count,
        &["queue", "type", "outcome"],
        "Runs of tasks that have ended, by their outcome",
    ),
    metric(
        RUN_DURATION,
        MetricKind::Histogram,
        Unit::Seconds,
        &["queue", "type"],
        "Time from the start of a run to its end",
    ),
    metric(
        WAIT_DURATION,
        MetricKind::Histogram,
        Unit::Seconds,
        &["queue", "type"],
        "Time for which a task was pending before its run",
    ),
    metric(
        EXCHANGE_TASKS,
        MetricKind::Histogram,
        Unit::Count,
        &["queue", "direction"],
        "Number of tasks whose outcome one call writes, or that it takes",
    ),
    metric(
        ENQUEUE_BATCH_TASKS,
        MetricKind::Histogram,
        Unit::Count,
        &["queue"],
        "Number of tasks that one call enqueues",
    ),
    metric(
        ENQUEUES,
        MetricKind::Counter,
        Unit::Count,
        &["queue", "result"],
        "Answers to enqueued tasks",
    ),
    metric(
        WAKEUPS,
        MetricKind::Counter,
        Unit::Count,
        &["kind"],
        "Wake-ups of servers that found no tasks",
    ),
    metric(
        ACTOR_RESTARTS,
        MetricKind::Counter,
        Unit::Count,
        &["actor"],
        "Restarts of supervised actors, by their path in the tree",
    ),
    metric(
        IN_FLIGHT,
        MetricKind::Gauge,
        Unit::Count,
        &["queue"],
        "Runs in progress",
    ),
    metric(
        UNSETTLED,
        MetricKind::Gauge,
        Unit::Count,
        &["actor"],
        "Outcomes that are not written yet: those of the first attempt (processor), and those whose write failed (syncer)",
    ),
    metric(
        STORAGE_ERRORS,
        MetricKind::Counter,
        Unit::Count,
        &["kind"],
        "Calls of the storage that failed",
    ),
];

/// Gives the recorder of this program the unit and the description of each metric. Call it once, after the recorder is
/// installed. Exporters show metrics without it too, but not described.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.description),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.description),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.description),
        }
    }
}
