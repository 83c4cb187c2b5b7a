//! The feature `otel` in a program without a tracer provider.

use std::time::Duration;

use asynq::{
    AsynqSystem, Client, ServerConfig, Task, TaskInfo,
    client::{TaskContextExt as _, Waited},
    memory::MemoryStore,
};
use opentelemetry::{
    Context,
    context::FutureExt as _,
    trace::{TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn messages_are_the_same_without_a_tracer_provider() {
    let client = Client::new(MemoryStore::new()).await.unwrap();
    let task = Task::new("t", b"p").unwrap();
    let one = client.enqueue(task.clone()).await.unwrap();
    let many = client.enqueue_many([task.clone(), task]).await;
    for info in many.into_iter().map(Result::unwrap).chain([one]) {
        assert!(info.headers.is_empty(), "{:?}", info.headers);
    }
}

const KEPT: Duration = Duration::from_secs(60);

/// Runs `first`, whose handler enqueues itself again as `second`; returns the second.
async fn passed_on(config: ServerConfig, first: Task) -> TaskInfo {
    let relay = |task: Task| async move {
        let run = task.context().unwrap();
        if run.id() == "first" {
            let again = task.clone().with_task_id("second").with_retention(KEPT);
            run.client().enqueue(again).await?;
        }
        Ok(())
    };
    let system = AsynqSystem::builder(MemoryStore::new())
        .config(config.concurrency(2))
        .handler(relay)
        .spawn()
        .await
        .unwrap();
    let client = system.client();
    let first = first.with_retention(KEPT).with_task_id("first");
    client.enqueue(first).await.unwrap();
    client.wait_for("default", "first", KEPT).await.unwrap();
    let second = client.wait_for("default", "second", KEPT).await.unwrap();
    system.shutdown().await;
    match second {
        Waited::Completed(second) => *second,
        other => panic!("{other:?}"),
    }
}

/// A trace that comes in goes out again.
#[tokio::test]
async fn a_trace_is_passed_on_without_a_tracer_provider() {
    for apart in [false, true] {
        let config = ServerConfig::new().trace_per_run(apart);
        let first = Task::new("t", b"").unwrap().with_header("traceparent", TRACEPARENT);
        let second = passed_on(config, first.with_header("baggage", "user=7")).await;
        assert_eq!(second.headers["traceparent"], TRACEPARENT, "{apart}");
        // Nobody else writes it.
        assert_eq!(second.headers["baggage"], "user=7", "{apart}");
    }
}

/// A task of its own that a handler enqueues is in the trace too.
#[tokio::test]
async fn a_trace_is_passed_on_to_other_tasks() {
    for apart in [false, true] {
        let relay = |task: Task| async move {
            let run = task.context().unwrap();
            if task.get_type() == "first" {
                let next = Task::new("second", b"")?.with_retention(KEPT);
                run.client().enqueue(next.with_task_id("second")).await?;
            }
            Ok(())
        };
        let system = AsynqSystem::builder(MemoryStore::new())
            .config(ServerConfig::new().concurrency(2).trace_per_run(apart))
            .handler(relay)
            .spawn()
            .await
            .unwrap();
        let client = system.client();
        let first = Task::new("first", b"").unwrap().with_header("traceparent", TRACEPARENT);
        let first = client.enqueue(first.with_retention(KEPT)).await.unwrap();
        client.wait(&first, KEPT).await.unwrap();
        let Waited::Completed(second) = client.wait_for("default", "second", KEPT).await.unwrap() else {
            panic!("the second was not run");
        };
        system.shutdown().await;
        assert_eq!(second.headers["traceparent"], TRACEPARENT, "{apart}");
    }
}

/// The provider of another library in the process, which is not the global one.
#[tokio::test]
async fn a_span_of_the_application_is_left_alone() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let context = Context::new().with_span(provider.tracer("app").start("request"));
    let client = Client::new(MemoryStore::new()).await.unwrap();
    let task = || Task::new("t", b"").unwrap().with_task_id("one");
    let info = client.enqueue(task()).with_context(context.clone()).await.unwrap();
    let refused = client.enqueue(task()).with_context(context.clone()).await;
    assert!(refused.is_err());
    assert!(exporter.get_finished_spans().unwrap().is_empty());
    assert!(context.span().is_recording());
    let (trace, span) = (
        context.span().span_context().trace_id(),
        context.span().span_context().span_id(),
    );
    assert_eq!(info.headers["traceparent"], format!("00-{trace}-{span}-01"));
    context.span().end();
    let spans = exporter.get_finished_spans().unwrap();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].status, opentelemetry::trace::Status::Unset);
    assert!(spans[0].attributes.is_empty(), "{:?}", spans[0].attributes);
}
