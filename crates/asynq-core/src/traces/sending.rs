//! The span of one enqueue.

use std::mem::take;

use opentelemetry::{
    Context, KeyValue,
    trace::{SpanBuilder, SpanKind, TraceContextExt as _},
};

use super::{
    headers::{Headers, find, inherited},
    span::{carry, fault, guarded, of_task, of_type, passed_on, start, tracer},
};
use crate::{broker::EnqueueRequest, error::EnqueueError, trace_context::TraceContext};

/// The span of one enqueue. Dropped before its end, it ends without a word about the answer.
#[derive(Debug, Default)]
pub struct Sending(Option<Context>);

impl Sending {
    /// Begins the span, below the parent, and puts its context into the headers of the message. Does neither if the
    /// application has set these headers. Without a tracer provider, the trace of the parent goes on, if there is one.
    ///
    /// `given` are the headers of a task that a handler was given. They are those of its own enqueue, and are replaced.
    #[must_use]
    pub fn begin(
        given: Option<&Headers>,
        request: &mut EnqueueRequest,
        max_message_bytes: usize,
        parent: &TraceContext,
    ) -> Self {
        let is_given = |name: &str, value: &str| given.and_then(|given| find(given, name)) == Some(value);
        let inherited = guarded(|| inherited(&request.message.headers, is_given));
        let Some(inherited) = inherited.unwrap_or_else(|| Some(Vec::new())) else {
            return Self(None);
        };
        let root = Context::new();
        let parent = parent.get().unwrap_or(&root);
        let message = &request.message;
        let begun = guarded(|| {
            let Some(tracer) = tracer() else {
                return passed_on(parent);
            };
            let builder = SpanBuilder::from_name(format!("send {}", message.queue))
                .with_kind(SpanKind::Producer)
                .with_attributes(of_type("send", &message.queue, message));
            start(&tracer, builder, parent, || of_task(&message.id, message).into())
        });
        let context = begun.unwrap_or_else(|| passed_on(parent));
        if let Some(context) = &context {
            carry(context, request, &inherited, max_message_bytes);
        }
        Self(context)
    }

    /// Ends the span with the answer of the storage.
    pub fn end<T>(&self, answer: Result<&T, &EnqueueError>) {
        self.end_as(|context| {
            if let Err(error) = answer {
                fault(context, of_enqueue(error), || error.to_string());
            }
        });
    }

    /// Ends the span of a tick that another scheduler decided: nothing was enqueued.
    pub fn taken(&self) {
        self.end_as(|context| context.span().set_attribute(KeyValue::new("asynq.tick.taken", true)));
    }

    fn end_as(&self, tell: impl FnOnce(&Context)) {
        if let Some(context) = &self.0 {
            guarded(|| {
                tell(context);
                context.span().end();
            });
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.end_as(|_| ());
        if let Some(context) = take(&mut self.0) {
            guarded(|| drop(context));
        }
    }
}

fn of_enqueue(error: &EnqueueError) -> &'static str {
    match error {
        EnqueueError::Invalid(_) => "invalid",
        EnqueueError::DuplicateTask => "duplicate_task",
        EnqueueError::TaskIdConflict => "task_id_conflict",
        EnqueueError::Overloaded => "overloaded",
        EnqueueError::Closed => "closed",
        EnqueueError::Unknown { .. } => "unknown",
        EnqueueError::Broker(_) => "broker",
        #[allow(unreachable_patterns, reason = "further kinds may come")]
        _ => "_OTHER",
    }
}
