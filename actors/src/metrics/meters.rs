//! The handles of metrics, by queue and task type. They are made once, so that a run formats no labels.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use asynq_core::{
    BrokerError, EnqueueError,
    statistics::{MAX_TYPES, RunEnd, kept_type},
};
use metrics::{Counter, Gauge, Histogram};

use super::names::{
    self, ACTOR_RESTARTS, ENQUEUE_BATCH_TASKS, ENQUEUE_RESULTS, ENQUEUES, EXCHANGE_TASKS, IN_FLIGHT, MAX_QUEUES, OTHER,
    RUN_DURATION, RUNS, RUNS_STARTED, STORAGE_ERRORS, UNSETTLED, WAIT_DURATION, WAKEUPS,
};

/// The metrics of one system. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters(Arc<Named<OfQueue>>);

/// Values by name, of which there are at most so many; all others are [`OTHER`].
#[derive(Debug)]
struct Named<T>(RwLock<HashMap<String, Arc<T>>>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> Named<T> {
    fn get(&self, name: &str, most: usize, make: impl FnOnce(&str) -> T) -> Arc<T> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let name = if all.len() < most || all.contains_key(name) {
            name
        } else {
            OTHER
        };
        Arc::clone(all.entry(name.to_owned()).or_insert_with(|| Arc::new(make(name))))
    }
}

#[derive(Debug)]
struct OfQueue {
    name: String,
    types: Named<OfType>,
    work: OnceLock<Work>,
    client: OnceLock<OfClient>,
}

/// The metrics of a queue whose tasks are run.
#[derive(Debug)]
struct Work {
    in_flight: Gauge,
    settled: Histogram,
    taken: Histogram,
}

/// The metrics of a queue that tasks are enqueued to.
#[derive(Debug)]
struct OfClient {
    batch: Histogram,
    results: [Counter; ENQUEUE_RESULTS.len()],
}

#[derive(Debug)]
struct OfType {
    started: Counter,
    ends: [Counter; RunEnd::ALL.len()],
    ran: Histogram,
    waited: Histogram,
}

impl OfQueue {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            types: Named::default(),
            work: OnceLock::new(),
            client: OnceLock::new(),
        }
    }

    fn work(&self) -> &Work {
        let queue = || self.name.clone();
        self.work.get_or_init(|| Work {
            in_flight: metrics::gauge!(IN_FLIGHT, "queue" => queue()),
            settled: metrics::histogram!(EXCHANGE_TASKS, "queue" => queue(), "direction" => names::DIRECTIONS[0]),
            taken: metrics::histogram!(EXCHANGE_TASKS, "queue" => queue(), "direction" => names::DIRECTIONS[1]),
        })
    }

    fn client(&self) -> &OfClient {
        let queue = || self.name.clone();
        self.client.get_or_init(|| OfClient {
            batch: metrics::histogram!(ENQUEUE_BATCH_TASKS, "queue" => queue()),
            results: ENQUEUE_RESULTS.map(|result| metrics::counter!(ENQUEUES, "queue" => queue(), "result" => result)),
        })
    }

    fn of_type(&self, task_type: &str) -> Arc<OfType> {
        self.types.get(&kept_type(task_type), MAX_TYPES, |task_type| {
            let labels = [("queue", self.name.clone()), ("type", task_type.to_owned())];
            let ends = RunEnd::ALL.map(|end| {
                let labels = [&labels[..], &[("outcome", end.as_str().to_owned())]].concat();
                metrics::counter!(RUNS, &labels)
            });
            OfType {
                started: metrics::counter!(RUNS_STARTED, &labels),
                ends,
                ran: metrics::histogram!(RUN_DURATION, &labels),
                waited: metrics::histogram!(WAIT_DURATION, &labels),
            }
        })
    }
}

impl Meters {
    /// `true` if metrics are emitted.
    pub(crate) const ENABLED: bool = true;

    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn of(&self, queue: &str) -> Arc<OfQueue> {
        self.0.get(queue, MAX_QUEUES, OfQueue::new)
    }

    /// Counts a run that has started.
    pub(crate) fn started(&self, queue: &str, task_type: &str, waited: Option<Duration>) {
        let queue = self.of(queue);
        queue.work().in_flight.increment(1.0);
        let of_type = queue.of_type(task_type);
        of_type.started.increment(1);
        if let Some(waited) = waited {
            of_type.waited.record(waited);
        }
    }

    /// Counts a run that has ended.
    pub(crate) fn ended(&self, queue: &str, task_type: &str, end: RunEnd, took: Duration) {
        let queue = self.of(queue);
        queue.work().in_flight.decrement(1.0);
        let of_type = queue.of_type(task_type);
        of_type.ends[end as usize].increment(1);
        of_type.ran.record(took);
    }

    /// Counts an answered call that wrote and took so many tasks.
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    pub(crate) fn exchanged(&self, queue: &str, settled: usize, taken: usize) {
        let queue = self.of(queue);
        let work = queue.work();
        for (histogram, tasks) in [(&work.settled, settled), (&work.taken, taken)] {
            if tasks > 0 {
                histogram.record(tasks as f64);
            }
        }
    }

    /// Counts a call that enqueues so many tasks.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    pub(crate) fn batch(&self, queue: &str, tasks: usize) {
        self.of(queue).client().batch.record(tasks as f64);
    }

    /// Counts the answer to an enqueue.
    pub(crate) fn enqueued<T>(&self, queue: &str, answer: &Result<T, EnqueueError>) {
        let result = match answer {
            Ok(_) => 0,
            Err(EnqueueError::DuplicateTask) => 1,
            Err(EnqueueError::TaskIdConflict) => 2,
            Err(EnqueueError::Unknown { .. }) => 3,
            Err(_) => 4,
        };
        self.of(queue).client().results[result].increment(1);
    }
}

/// Counts a wake-up of a server: by a push, or because the time to look again had come.
pub(crate) fn woken(by_push: bool) {
    let kind = names::WAKEUP_KINDS[usize::from(!by_push)];
    metrics::counter!(WAKEUPS, "kind" => kind).increment(1);
}

/// Counts the restart of an actor.
pub(crate) fn restarted(path: &str) {
    metrics::counter!(ACTOR_RESTARTS, "actor" => path.to_owned()).increment(1);
}

/// Tells how many outcomes an actor has still to write.
#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
pub(crate) fn unsettled(actor: &'static str, tasks: usize) {
    metrics::gauge!(UNSETTLED, "actor" => actor).set(tasks as f64);
}

/// Counts a failed call of the storage.
pub(crate) fn storage_failed(error: &BrokerError) {
    let kind = match error {
        BrokerError::Unavailable { .. } => 0,
        BrokerError::Ambiguous { .. } => 1,
        BrokerError::OutOfMemory => 2,
        BrokerError::ReadOnly => 3,
        BrokerError::Busy { .. } => 4,
        BrokerError::Refused { .. } => 5,
        BrokerError::WrongType { .. } => 6,
        // The end of the system is no fault of the storage.
        BrokerError::Closed => return,
        _ => 7,
    };
    metrics::counter!(STORAGE_ERRORS, "kind" => names::ERROR_KINDS[kind]).increment(1);
}
