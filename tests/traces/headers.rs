//! Headers that others have written.

use std::sync::{Arc, Mutex};

use asynq::{
    Client, Inspector, Result, ServerConfig, Task, TaskOptions, client::TaskContextExt as _, memory::MemoryStore,
};
use opentelemetry::{
    Context, KeyValue, baggage::BaggageExt as _, context::FutureExt as _, trace::TraceContextExt as _,
};

use crate::{ended, exporter, named, request, system};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_trace_that_was_begun_elsewhere_reaches_the_handler() {
    let seen: Arc<Mutex<Option<Context>>> = Arc::default();
    let sees = Arc::clone(&seen);
    let handler = move |_: Task| {
        *sees.lock().unwrap() = Some(Context::current());
        std::future::ready(Ok(()))
    };
    let system = system("foreign", ServerConfig::new(), handler).await;
    // As the clients of other languages send it.
    let task = Task::new("t", b"").unwrap().with_queue("foreign");
    let task = task
        .with_header("traceparent", TRACEPARENT)
        .with_header("tracestate", "vendor=1");
    let info = system.client().enqueue(task).await.unwrap();
    assert_eq!(
        info.headers["traceparent"], TRACEPARENT,
        "the application's header stays"
    );
    let run = ended("process foreign", 1).await.remove(0);
    system.shutdown().await;
    assert_eq!(run.trace().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(run.0.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert!(run.0.parent_span_is_remote);
    assert_eq!(run.0.span_context.trace_state().header(), "vendor=1");
    assert!(named("send foreign").is_empty(), "no span beside the application's");
    let seen = seen.lock().unwrap().take().unwrap();
    assert_eq!(seen.span().span_context().span_id(), run.id());
}

#[tokio::test]
async fn damaged_headers_harm_nothing() {
    let system = system("damaged", ServerConfig::new(), |_: Task| async { Ok(()) }).await;
    let huge = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01,".repeat(1 << 14);
    let long = "k=v,".repeat(1 << 18);
    let rows: Vec<(&str, &str, &str)> = vec![
        ("traceparent", "", ""),
        ("traceparent", "00", ""),
        (
            "traceparent",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "",
        ),
        (
            "traceparent",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "",
        ),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y",
            "",
        ),
        ("traceparent", "\u{0}\u{202e}<script>", ""),
        ("traceparent", &huge, ""),
        ("traceparent", TRACEPARENT, &long),
        ("traceparent", TRACEPARENT, "=,=,="),
        ("TRACEPARENT", "00-x-y-z", ""),
        ("tracestate", &long, ""),
        ("baggage", &long, ""),
    ];
    for (name, value, state) in &rows {
        let task = Task::new("t", b"")
            .unwrap()
            .with_queue("damaged")
            .with_header(*name, *value);
        let task = if state.is_empty() {
            task
        } else {
            task.with_header("tracestate", *state)
        };
        system.client().enqueue(task).await.unwrap();
    }
    let runs = ended("process damaged", rows.len()).await;
    system.shutdown().await;
    for run in runs {
        assert_eq!(run.text("asynq.outcome"), "done");
        assert!(run.0.span_context.trace_state().header().len() <= 512);
    }
}

#[tokio::test]
async fn a_message_near_its_limit_goes_without_the_trace() {
    exporter();
    let config = asynq::config::ClientConfig::new().max_message_bytes(2048);
    let client = Client::with_config(MemoryStore::new(), config).await.unwrap();
    let enqueue = |payload: usize| {
        let task = Task::new("t", &vec![0; payload]).unwrap();
        let client = client.clone();
        async move { client.enqueue(task.with_queue("limit")).await.unwrap().headers }
    };
    assert!(enqueue(1000).await.contains_key("traceparent"));
    assert!(enqueue(1960).await.is_empty());
    ended("send limit", 2).await;
}

#[tokio::test]
async fn a_copy_keeps_the_trace_of_its_original() {
    exporter();
    let storage = MemoryStore::new();
    let client = Client::new(storage.clone()).await.unwrap();
    let inspector = Inspector::connect(storage).await.unwrap();
    let task = Task::new("t", b"").unwrap().with_queue("copied");
    let original = client
        .enqueue_with(task, TaskOptions::new().header("own", "1"))
        .await
        .unwrap();
    let copy = inspector
        .enqueue_copy("copied", original.id.as_str(), Ok)
        .await
        .unwrap();
    assert_eq!(copy.headers, original.headers);
    assert_eq!(copy.headers.len(), 2);
    let other = Task::new("t", b"").unwrap().with_queue("copied");
    let other = inspector.enqueue(other).await.unwrap();
    assert!(other.headers["traceparent"] != original.headers["traceparent"]);
    ended("send copied", 2).await;
}

/// A header that the application has set stays, whatever else travels.
#[tokio::test]
async fn a_header_of_the_application_is_not_overwritten() {
    let client = Client::new(MemoryStore::new()).await.unwrap();
    let context = request("app").with_baggage([KeyValue::new("user", "7")]);
    for (name, value) in [("baggage", "own=1"), ("Baggage", "own=1"), ("tracestate", "own=1")] {
        let task = Task::new("t", b"")
            .unwrap()
            .with_queue("own-header")
            .with_header(name, value);
        let headers = client
            .enqueue(task)
            .with_context(context.clone())
            .await
            .unwrap()
            .headers;
        assert_eq!(headers[name], value);
        let same = headers.keys().filter(|key| key.eq_ignore_ascii_case(name));
        assert_eq!(same.count(), 1, "{headers:?}");
        assert!(headers.contains_key("traceparent"), "{headers:?}");
    }
    ended("send own-header", 3).await;
}

/// Runs a task that enqueues itself again, once, after `change`; returns the headers of both.
async fn again(queue: &str, change: fn(Task) -> Task, first: Task, context: Context) -> [Task; 2] {
    let (ran, mut runs) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |task: Task| {
        ran.send(task.clone()).unwrap();
        async move {
            let run = task.context().unwrap();
            if task.headers().contains_key("again") {
                return Ok(());
            }
            let copy = task.clone().with_header("again", "1").with_queue(run.queue().as_str());
            run.client().enqueue(change(copy)).await?;
            Result::Ok(())
        }
    };
    let system = system(queue, ServerConfig::new(), handler).await;
    let client = system.client();
    client
        .enqueue(first.with_queue(queue))
        .with_context(context)
        .await
        .unwrap();
    let mut next = async || {
        tokio::time::timeout(crate::PATIENCE, runs.recv())
            .await
            .unwrap()
            .unwrap()
    };
    let both = [next().await, next().await];
    ended(&format!("process {queue}"), 2).await;
    system.shutdown().await;
    both
}

#[tokio::test]
async fn a_handler_replaces_the_headers_of_its_own_enqueue_only() {
    let task = || Task::new("t", b"").unwrap();
    let context = request("app").with_baggage([KeyValue::new("user", "7")]);
    let [one, two] = again("inherit", |task| task, task(), context.clone()).await;
    assert_ne!(one.headers()["traceparent"], two.headers()["traceparent"]);
    assert_eq!(one.headers()["baggage"], "user=7");
    assert_eq!(two.headers()["baggage"], "user=7");

    // Changed by the handler, it is the application's.
    let change = |task: Task| task.with_header("baggage", "own=1").with_header("tracestate", "own=1");
    let [one, two] = again("inherit-baggage", change, task(), context.clone()).await;
    assert_ne!(one.headers()["traceparent"], two.headers()["traceparent"]);
    assert_eq!(
        (two.headers()["baggage"].as_str(), two.headers()["tracestate"].as_str()),
        ("own=1", "own=1")
    );

    let change = |task: Task| task.with_header("traceparent", TRACEPARENT);
    let [_, two] = again("inherit-parent", change, task(), context).await;
    assert_eq!(two.headers()["traceparent"], TRACEPARENT);
    assert_eq!(named("send inherit-parent").len(), 1);
}
