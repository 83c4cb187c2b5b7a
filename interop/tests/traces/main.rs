//! Traces across both languages: the context travels in the headers of tasks. The tracer provider is that of the process,
//! so these tests are a program of their own.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use asynq::{AsynqSystem, Client, ServerConfig, Task, redis::RedisConnectionType};
use asynq_interop::{GoClient, GoTask, ServerProcess};
use asynq_testing::RedisServer;
use opentelemetry::{global, trace::SpanKind};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

const PATIENCE: Duration = Duration::from_secs(60);

async fn ended(spans: &InMemorySpanExporter, kind: SpanKind) -> SpanData {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = spans.get_finished_spans().unwrap();
        if let Some(span) = found.into_iter().find(|span| span.span_kind == kind) {
            return span;
        }
        assert!(tokio::time::Instant::now() < deadline, "no span {kind:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_trace_goes_on_from_go_to_us_and_from_us_to_go() {
    let spans = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
    global::set_tracer_provider(provider);
    let redis = RedisServer::start().await;
    let connector = || RedisConnectionType::single(redis.url()).unwrap();

    // A Go program that has OpenTelemetry writes this header.
    let mut go = GoClient::start(&redis.url()).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    go.enqueue(&GoTask::new("t").queue("ours").header("traceparent", parent))
        .await;
    let system = AsynqSystem::builder(connector())
        .config(ServerConfig::new().queues([("ours", 1)]))
        .handler(|_: Task| async { Ok(()) })
        .spawn()
        .await
        .unwrap();
    let run = ended(&spans, SpanKind::Consumer).await;
    system.shutdown().await;
    assert_eq!(run.name, "process ours");
    let ids = (run.span_context.trace_id().to_string(), run.parent_span_id.to_string());
    assert_eq!(
        ids,
        (
            "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            "00f067aa0ba902b7".to_owned()
        )
    );

    let mut server = ServerProcess::go(&redis.url()).start().await;
    let client = Client::new(connector()).await.unwrap();
    let info = client
        .enqueue(Task::new("t", br#"{"do":"ok"}"#).unwrap())
        .await
        .unwrap();
    let sent = ended(&spans, SpanKind::Producer).await;
    let headers = server.ended(info.id.as_str()).await.headers;
    let (trace, span) = (sent.span_context.trace_id(), sent.span_context.span_id());
    assert_eq!(headers["traceparent"], format!("00-{trace}-{span}-01"));
    client.close().await;
    server.shutdown().await;
}
