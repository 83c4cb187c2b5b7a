//! The span of one run of a task, or of one run of the aggregator.

use std::mem::take;

use opentelemetry::{
    Context, KeyValue,
    baggage::{BaggageExt as _, KeyValueMetadata},
    trace::{Link, SpanBuilder, SpanKind, TraceContextExt as _},
};

use super::{
    headers::{extract, find, inherited},
    span::{carry, common, fault, guarded, of_task, of_type, passed_on, start, tracer},
};
use crate::{
    broker::{AggregationSet, EnqueueRequest, Outcome},
    error::{Error, text::shown},
    message::TaskMessage,
    names::{QueueName, TaskId},
    trace_context::TraceContext,
};

/// Largest number of links of one span.
const LINKS: usize = 128;

/// The end of a run, in the word that its span has for it.
#[derive(Clone, Copy, Debug)]
pub struct Ended(&'static str);

impl From<Option<&Outcome>> for Ended {
    /// Without an outcome, the task is another's.
    fn from(outcome: Option<&Outcome>) -> Self {
        Self(match outcome {
            Some(Outcome::Done { retain: true }) => "done",
            Some(Outcome::Done { retain: false }) => "revoked",
            Some(Outcome::Retry { is_failure: true, .. }) => "retried",
            Some(Outcome::Retry { is_failure: false, .. }) => "deferred",
            Some(Outcome::Archive { .. }) => "archived",
            Some(Outcome::Requeue) => "given_back",
            None => "lost",
        })
    }
}

/// The span of one run of a task, or of one run of the aggregator. Dropped before its end, it ends as that of a run
/// that was aborted.
#[derive(Debug, Default)]
pub struct Running(Option<Context>);

impl Running {
    /// Begins the span of a run: below the span that enqueued the task, and linked to it. If `apart`, it begins a trace
    /// of its own instead, with the link alone. The queue and the id are those that the task was found under. Without a
    /// tracer provider, the trace of the enqueue goes on.
    #[must_use]
    pub fn begin(message: &TaskMessage, queue: &QueueName, id: &TaskId, apart: bool) -> Self {
        // A propagator of the application reads what anybody may have written.
        let sent = guarded(|| extract(&message.headers)).unwrap_or_default();
        let begun = guarded(|| {
            let tracer = tracer()?;
            let producer = sent.span().span_context().clone();
            let link = Some(producer).filter(|producer| producer.is_valid());
            let builder = SpanBuilder::from_name(format!("process {queue}"))
                .with_kind(SpanKind::Consumer)
                .with_attributes(of_type("process", queue.as_str(), message))
                .with_links(link.map(Link::with_context).into_iter().collect());
            let own = apart.then(|| baggage_of(&sent));
            start(&tracer, builder, own.as_ref().unwrap_or(&sent), || {
                let mut attributes = Vec::from(of_task(id.as_str(), message));
                attributes.extend([
                    KeyValue::new("asynq.retried", i64::from(message.retried)),
                    KeyValue::new("asynq.max_retry", i64::from(message.retry)),
                ]);
                attributes
            })
        });
        Self(begun.flatten().or_else(|| passed_on(&sent)))
    }

    /// Begins the span of an aggregation, in a trace of its own, with links to the spans that enqueued its tasks.
    #[must_use]
    pub fn of_set(set: &AggregationSet) -> Self {
        let begun = guarded(|| {
            let tracer = tracer()?;
            let producers = set.tasks.iter().filter_map(|task| {
                let sent = guarded(|| extract(&task.headers))?;
                let producer = sent.span().span_context().clone();
                producer.is_valid().then(|| Link::with_context(producer))
            });
            let mut attributes = common("process", set.queue.as_str());
            attributes.push(KeyValue::new("asynq.group", set.group.as_str().to_owned()));
            let builder = SpanBuilder::from_name(format!("process {}", set.queue))
                .with_kind(SpanKind::Consumer)
                .with_attributes(attributes)
                .with_links(producers.take(LINKS).collect());
            start(&tracer, builder, &Context::new(), || {
                let tasks = i64::try_from(set.tasks.len()).unwrap_or(i64::MAX);
                vec![KeyValue::new("messaging.batch.message_count", tasks)]
            })
        });
        Self(begun.flatten())
    }

    /// Returns the context of the span.
    #[must_use]
    pub fn context(&self) -> TraceContext {
        self.0.clone().map(TraceContext::from).unwrap_or_default()
    }

    /// Puts the context of the span of an aggregation into the headers of its task. Replaces the headers of a task of the
    /// set, which the aggregator has copied, and none that it has set itself.
    pub fn carry(&self, set: &AggregationSet, request: &mut EnqueueRequest, max_message_bytes: usize) {
        let Some(context) = &self.0 else { return };
        let is_given = |name: &str, value: &str| {
            let mut given = set.tasks.iter().map(|task| find(&task.headers, name));
            given.any(|given| given == Some(value))
        };
        if let Some(Some(inherited)) = guarded(|| inherited(&request.message.headers, is_given)) {
            carry(context, request, &inherited, max_message_bytes);
        }
    }

    /// Records the error that a run ended with, where it is one: a task that is put off or dropped at its own wish has
    /// not failed.
    pub fn failed(&self, error: &Error, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Done { .. } | Outcome::Retry { is_failure: false, .. }) {
            self.tell(|context| fault(context, of_run(error), || shown(error)));
        }
    }

    /// Records an end that is no error of the application.
    pub fn broken(&self, kind: &'static str, text: &str) {
        self.tell(|context| fault(context, kind, || text.to_owned()));
    }

    fn tell(&self, tell: impl FnOnce(&Context)) {
        if let Some(context) = &self.0 {
            guarded(|| tell(context));
        }
    }

    /// Ends the span.
    pub fn end(mut self, ended: Ended) {
        self.finish(ended);
    }

    fn finish(&mut self, Ended(outcome): Ended) {
        if let Some(context) = take(&mut self.0) {
            guarded(|| {
                context.span().set_attribute(KeyValue::new("asynq.outcome", outcome));
                context.span().end();
                drop(context);
            });
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.finish(Ended::from(Some(&Outcome::Requeue)));
    }
}

/// Returns a context with the baggage of another, and nothing else of it.
fn baggage_of(context: &Context) -> Context {
    let baggage = context
        .baggage()
        .iter()
        .map(|(key, (value, metadata))| KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone()));
    Context::new().with_baggage(baggage.collect::<Vec<_>>())
}

fn of_run(error: &Error) -> &'static str {
    match error {
        Error::Panic(_) => "panic",
        Error::DeadlineExceeded => "timeout",
        Error::Canceled => "cancelled",
        Error::LeaseExpired => "lease_expired",
        Error::HandlerNotFound { .. } => "handler_not_found",
        Error::SkipRetry(_) => "skip_retry",
        Error::Json(_) => "payload",
        Error::Handler(_) => "handler",
        Error::Enqueue(_) => "enqueue",
        Error::Broker(_) | Error::Settle(_) => "broker",
        _ => "_OTHER",
    }
}
