//! Spans of the tracer provider of the process. Sampler, processor, exporter and propagator are code of the application,
//! which may panic: it is called through [`guarded`] alone.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry::{
    Context, InstrumentationScope, KeyValue,
    global::{self, BoxedTracer},
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        Tracer as _,
    },
};
use prost::Message as _;

use super::headers::{find, inject};
use crate::{
    broker::EnqueueRequest,
    message::TaskMessage,
    panics::{drop_quietly, panic_text},
};

/// Longest text of an error in a span, in bytes.
const LONGEST_TEXT: usize = 1024;
/// Bytes that a header takes in the message beside its texts, at most.
const HEADER: usize = 24;

static SCOPE: LazyLock<InstrumentationScope> = LazyLock::new(|| {
    InstrumentationScope::builder("asynq")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
});

/// `true` once a tracer provider was found.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// The parent of the span that looks for a provider. No provider makes a span below it.
static NOBODY: LazyLock<Context> = LazyLock::new(|| {
    let (trace, span) = (TraceId::from(1), SpanId::from(1));
    let span = SpanContext::new(trace, span, TraceFlags::NOT_SAMPLED, true, TraceState::default());
    Context::new()
        .with_remote_span_context(span)
        .with_telemetry_suppressed()
});

/// Calls code of the application; `None` if it panics. The first panic of the process is logged.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(panic) => {
            if !TOLD.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    panic = panic_text(&*panic),
                    "a sampler, processor, exporter or propagator of OpenTelemetry panicked; spans may be missing"
                );
            }
            drop_quietly(panic);
            None
        }
    }
}

/// Returns the tracer, or `None` if no provider is installed. What a span costs is then saved.
pub(super) fn tracer() -> Option<BoxedTracer> {
    let tracer = global::tracer_with_scope(SCOPE.clone());
    if !INSTALLED.load(Ordering::Relaxed) {
        let span = tracer.build_with_context(SpanBuilder::from_name("asynq"), &NOBODY);
        // Without a provider, the span is the one around.
        if span.span_context() == NOBODY.span().span_context() {
            return None;
        }
        INSTALLED.store(true, Ordering::Relaxed);
    }
    Some(tracer)
}

/// Starts a span below the parent, and returns the context that it is the span of. What `more` returns is set only on a
/// span that is recorded.
pub(super) fn start(
    tracer: &BoxedTracer,
    builder: SpanBuilder,
    parent: &Context,
    more: impl FnOnce() -> Vec<KeyValue>,
) -> Option<Context> {
    let mut span = tracer.build_with_context(builder, parent);
    let (ours, around) = (span.span_context(), parent.span());
    // The provider has been shut down, or replaced by one that makes no spans.
    if !ours.is_valid() || ours.span_id() == around.span_context().span_id() {
        return passed_on(parent);
    }
    if span.is_recording() {
        span.set_attributes(more());
    }
    Some(parent.with_span(span))
}

/// Returns a context for what goes on with the trace of this one, and has no span of ours: nothing that is done to it
/// reaches the span of the application. `None` if there is no trace.
pub(super) fn passed_on(context: &Context) -> Option<Context> {
    let span = context.span();
    let span = span.span_context();
    let goes_on = span.is_valid() && !context.is_telemetry_suppressed();
    goes_on.then(|| context.with_remote_span_context(span.clone()))
}

/// Returns the attributes that a sampler is told, those of all spans of a queue. There is room for the others.
pub(super) fn common(operation: &'static str, queue: &str) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(12);
    attributes.extend([
        KeyValue::new("messaging.system", "asynq"),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", operation),
        KeyValue::new("messaging.destination.name", queue.to_owned()),
    ]);
    attributes
}

/// Returns the attributes that a sampler is told of a span of one task.
pub(super) fn of_type(operation: &'static str, queue: &str, message: &TaskMessage) -> Vec<KeyValue> {
    let mut attributes = common(operation, queue);
    attributes.push(KeyValue::new("asynq.task.type", message.r#type.clone()));
    attributes
}

/// Returns the other attributes of a span of one task.
pub(super) fn of_task(id: &str, message: &TaskMessage) -> [KeyValue; 2] {
    let size = i64::try_from(message.payload.len()).unwrap_or(i64::MAX);
    [
        KeyValue::new("messaging.message.id", id.to_owned()),
        KeyValue::new("messaging.message.body.size", size),
    ]
}

/// Records a failure, if anything is recorded.
pub(super) fn fault(context: &Context, kind: &'static str, text: impl FnOnce() -> String) {
    let span = context.span();
    if !span.is_recording() {
        return;
    }
    let mut text = text();
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    span.set_attribute(KeyValue::new("error.type", kind));
    span.set_status(Status::error(text));
}

/// Puts the context into the headers of a message, in place of those of this name that are `inherited`. What the
/// application has set stays. If the message would become too large, it goes without the context.
pub(super) fn carry(context: &Context, request: &mut EnqueueRequest, inherited: &[String], max_message_bytes: usize) {
    let Some(mut new) = guarded(|| inject(context)) else {
        return;
    };
    let headers = &mut request.message.headers;
    headers.retain(|name, _| !inherited.contains(name));
    new.retain(|(name, _)| find(headers, name).is_none());
    let added: usize = new.iter().map(|(name, value)| name.len() + value.len() + HEADER).sum();
    if request.message.encoded_len() + added <= max_message_bytes {
        request.message.headers.extend(new);
    }
}
