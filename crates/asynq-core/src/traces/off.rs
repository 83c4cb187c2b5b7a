//! The same items without the feature `otel`.

use std::collections::BTreeMap;

use crate::{
    broker::{AggregationSet, EnqueueRequest, Outcome},
    error::{EnqueueError, Error},
    message::TaskMessage,
    names::{QueueName, TaskId},
    trace_context::TraceContext,
};

/// The span of one enqueue.
#[derive(Debug, Default)]
pub struct Sending(());

impl Sending {
    /// Begins the span.
    #[must_use]
    pub fn begin(_: Option<&BTreeMap<String, String>>, _: &mut EnqueueRequest, _: usize, _: &TraceContext) -> Self {
        Self(())
    }

    /// Ends the span with the answer of the storage.
    pub fn end<T>(&self, _: Result<&T, &EnqueueError>) {}

    /// Ends the span of a tick that another scheduler decided.
    pub fn taken(&self) {}
}

/// The end of a run, in the word that its span has for it.
#[derive(Clone, Copy, Debug)]
pub struct Ended(());

impl From<Option<&Outcome>> for Ended {
    /// Without an outcome, the task is another's.
    fn from(_: Option<&Outcome>) -> Self {
        Self(())
    }
}

/// The span of one run of a task, or of one run of the aggregator.
#[derive(Debug, Default)]
pub struct Running(());

impl Running {
    /// Begins the span of a run.
    #[must_use]
    pub fn begin(_: &TaskMessage, _: &QueueName, _: &TaskId, _: bool) -> Self {
        Self(())
    }

    /// Begins the span of an aggregation.
    #[must_use]
    pub fn of_set(_: &AggregationSet) -> Self {
        Self(())
    }

    /// Returns the context of the span.
    #[must_use]
    pub fn context(&self) -> TraceContext {
        TraceContext::default()
    }

    /// Puts the context of the span of an aggregation into the headers of its task.
    pub fn carry(&self, _: &AggregationSet, _: &mut EnqueueRequest, _: usize) {}

    /// Records the error that a run ended with.
    pub fn failed(&self, _: &Error, _: &Outcome) {}

    /// Records an end that is no error of the application.
    pub fn broken(&self, _: &'static str, _: &str) {}

    /// Ends the span.
    pub fn end(self, _: Ended) {}
}
