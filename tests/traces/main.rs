//! Spans of OpenTelemetry, from enqueues to handlers. The tracer provider is that of the process, so each test looks at
//! the spans of queues of its own.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod actors;
mod ends;
mod groups;
mod headers;
mod layer;
mod panics;
mod sampled;
mod telemetry;
mod ticks;
mod ways;

use std::{sync::OnceLock, time::Duration};

use asynq::{AsynqSystem, Handler, RetryDelay, ServerConfig, memory::MemoryStore};
use opentelemetry::{
    Context, Value, global,
    trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceId, Tracer as _},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

/// Time within which what a test waits for must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Installs the provider of the process, once.
fn exporter() -> &'static InMemorySpanExporter {
    static EXPORTER: OnceLock<InMemorySpanExporter> = OnceLock::new();
    EXPORTER.get_or_init(|| {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(telemetry::Choosy)
            .with_span_processor(telemetry::Fragile)
            .with_simple_exporter(exporter.clone())
            .build();
        global::set_tracer_provider(provider);
        global::set_text_map_propagator(telemetry::propagator());
        exporter
    })
}

/// A span of the application, as the current one.
fn request(name: &'static str) -> Context {
    exporter();
    Context::new().with_span(global::tracer("app").start(name))
}

fn trace_of(context: &Context) -> TraceId {
    context.span().span_context().trace_id()
}

/// A system that retries at once.
async fn system(queue: &str, config: ServerConfig, handler: impl Handler) -> AsynqSystem {
    exporter();
    let often = Duration::from_millis(10);
    let config = config
        .concurrency(4)
        .queues([(queue, 1)])
        .task_check_interval(often)
        .delayed_task_check_interval(often)
        .retry_delay(RetryDelay::new(|_, _, _| Duration::ZERO));
    AsynqSystem::builder(MemoryStore::new())
        .config(config)
        .handler(handler)
        .spawn()
        .await
        .unwrap()
}

/// One finished span, and what tests ask it.
#[derive(Clone, Debug)]
struct Seen(SpanData);

impl Seen {
    fn attribute(&self, key: &str) -> Option<&Value> {
        let found = self.0.attributes.iter().rev().find(|one| one.key.as_str() == key);
        found.map(|one| &one.value)
    }

    fn text(&self, key: &str) -> String {
        self.attribute(key).map_or_else(String::new, ToString::to_string)
    }

    fn id(&self) -> SpanId {
        self.0.span_context.span_id()
    }

    fn trace(&self) -> TraceId {
        self.0.span_context.trace_id()
    }

    fn is_child_of(&self, parent: &SpanContext) -> bool {
        self.trace() == parent.trace_id() && self.0.parent_span_id == parent.span_id()
    }

    fn is_root(&self) -> bool {
        self.0.parent_span_id == SpanId::INVALID
    }

    fn links(&self) -> Vec<SpanId> {
        self.0.links.iter().map(|link| link.span_context.span_id()).collect()
    }

    fn has_failed(&self) -> bool {
        matches!(self.0.status, Status::Error { .. })
    }
}

/// The finished spans of this name, in the order of their starts.
fn named(name: &str) -> Vec<Seen> {
    let all = exporter().get_finished_spans().unwrap();
    let mut spans: Vec<_> = all.into_iter().filter(|span| span.name == name).map(Seen).collect();
    spans.sort_by_key(|span| span.0.start_time);
    spans
}

/// Waits until so many spans of this name have ended.
async fn ended(name: &str, number: usize) -> Vec<Seen> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let spans = named(name);
        if spans.len() >= number {
            assert_eq!(spans.len(), number, "{spans:#?}");
            return spans;
        }
        assert!(tokio::time::Instant::now() < deadline, "{name}: {spans:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
