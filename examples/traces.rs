//! Traces: one trace from a request over two tasks, printed to the standard output.
//!
//! ```text
//! cargo run --example traces --features otel                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example traces --features otel    # the same on Redis
//! ```
//!
//! Expected: a request enqueues an order. Its handler fails once, is run again, and enqueues a mail. Six spans are printed
//! that have one trace id: the request, two enqueues, two runs of the order and one of the mail. It ends by itself with
//! status 0.

mod common;

use std::time::Duration;

use asynq::{AsynqSystem, Client, Error, Result, RetryDelay, ServeMux, ServerConfig, Task};
use opentelemetry::{
    Context,
    context::FutureExt as _,
    global,
    trace::{TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tokio::sync::mpsc;

async fn order(task: Task, client: Client) -> Result<()> {
    if task.context().is_some_and(|run| run.retried() == 0) {
        return Err(Error::other("the stock is locked"));
    }
    // This is below the span of the run, since the handler has its context.
    client.enqueue(Task::new("mail", task.get_payload())?).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    // An application sends its spans to a collector (crate opentelemetry-otlp) instead.
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(opentelemetry_stdout::SpanExporter::default())
        .build();
    global::set_tracer_provider(provider.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());

    let (sent, mut mails) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new();
    mux.route_on("order", order);
    mux.handle_async_func("mail", move |_: Task| {
        let sent = sent.clone();
        async move { sent.send(()).map_err(Error::other) }
    });
    let system = AsynqSystem::builder(common::storage()?)
        .config(
            ServerConfig::new()
                .retry_delay(RetryDelay::new(|_, _, _| Duration::from_millis(100)))
                .delayed_task_check_interval(Duration::from_millis(100)),
        )
        .handler(mux)
        .spawn()
        .await?;

    let request = Context::new().with_span(global::tracer("shop").start("POST /orders"));
    let client = system.client();
    let enqueue = client.enqueue(Task::new("order", b"1002")?);
    enqueue.with_context(request.clone()).await?;
    request.span().end();

    common::next(&mut mails).await?;
    system.shutdown().await;
    provider.shutdown().map_err(Error::other)
}
