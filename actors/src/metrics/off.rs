//! No metrics: what stands in for them without the feature `metrics`.

use std::time::Duration;

use asynq_core::{BrokerError, EnqueueError, statistics::RunEnd};

#[derive(Clone, Debug)]
pub(crate) struct Meters;

impl Meters {
    pub(crate) const ENABLED: bool = false;

    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn started(&self, _queue: &str, _task_type: &str, _waited: Option<Duration>) {}

    pub(crate) fn ended(&self, _queue: &str, _task_type: &str, _end: RunEnd, _took: Duration) {}

    pub(crate) fn exchanged(&self, _queue: &str, _settled: usize, _taken: usize) {}

    pub(crate) fn batch(&self, _queue: &str, _tasks: usize) {}

    pub(crate) fn enqueued<T>(&self, _queue: &str, _answer: &Result<T, EnqueueError>) {}
}

pub(crate) fn woken(_by_push: bool) {}

pub(crate) fn restarted(_path: &str) {}

pub(crate) fn unsettled(_actor: &'static str, _tasks: usize) {}

pub(crate) fn storage_failed(_error: &BrokerError) {}
