//! One trace, whatever way a task takes to its handler.

use std::sync::Arc;

use asynq::{
    AsynqSystem, Client, Result, ServeMux, ServerConfig, Task, TaskOptions, client::TaskContextExt as _,
    memory::MemoryStore, testing::TestKit,
};
use opentelemetry::{
    Context,
    context::FutureExt as _,
    trace::{SpanKind, TraceContextExt as _},
};
use tokio::sync::Notify;

use crate::{PATIENCE, ended, named, request, system, trace_of};

fn task(queue: &str, task_type: &str) -> Task {
    Task::new(task_type, b"{}").unwrap().with_queue(queue)
}

/// `first` enqueues `second` into the same queue.
async fn relay(task: Task) -> Result<()> {
    let run = task.context().unwrap();
    if task.get_type() == "first" {
        let next = Task::new("second", b"")?.with_queue(run.queue().as_str());
        run.client().enqueue(next).await?;
    }
    Ok(())
}

#[tokio::test]
async fn from_an_enqueue_to_a_handler_and_on_is_one_trace() {
    let system = system("relay", ServerConfig::new(), relay).await;
    let app = request("app");
    let info = system
        .client()
        .enqueue(task("relay", "first"))
        .with_context(app.clone())
        .await
        .unwrap();
    let (sent, run) = (ended("send relay", 2).await, ended("process relay", 2).await);
    system.shutdown().await;

    assert!(sent[0].is_child_of(app.span().span_context()));
    assert!(run[0].is_child_of(&sent[0].0.span_context));
    assert!(sent[1].is_child_of(&run[0].0.span_context));
    assert!(run[1].is_child_of(&sent[1].0.span_context));
    assert_eq!(
        (run[0].links(), run[1].links()),
        (vec![sent[0].id()], vec![sent[1].id()])
    );
    assert_eq!(
        (&sent[0].0.span_kind, &run[0].0.span_kind),
        (&SpanKind::Producer, &SpanKind::Consumer)
    );
    let texts = |span: &crate::Seen| {
        [
            "messaging.system",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.destination.name",
            "messaging.message.id",
            "messaging.message.body.size",
            "asynq.task.type",
        ]
        .map(|key| span.text(key))
    };
    let id = info.id.as_str();
    assert_eq!(texts(&sent[0]), ["asynq", "send", "send", "relay", id, "2", "first"]);
    assert_eq!(
        texts(&run[0]),
        ["asynq", "process", "process", "relay", id, "2", "first"]
    );
    let of_run = ["asynq.retried", "asynq.max_retry", "asynq.outcome"].map(|key| run[0].text(key));
    assert_eq!(of_run, ["0", "25", "done"]);
}

#[tokio::test]
async fn many_tasks_have_a_span_each() {
    let system = system("many", ServerConfig::new(), relay).await;
    let app = request("app");
    let tasks = (0..5).map(|_| task("many", "other"));
    let answers = system.client().enqueue_many(tasks).with_context(app.clone()).await;
    assert!(answers.iter().all(Result::is_ok));
    let (sent, runs) = (ended("send many", 5).await, ended("process many", 5).await);
    system.shutdown().await;
    assert!(sent.iter().all(|span| span.is_child_of(app.span().span_context())));
    for run in runs {
        let own = sent.iter().find(|sent| run.is_child_of(&sent.0.span_context)).unwrap();
        assert_eq!(own.text("messaging.message.id"), run.text("messaging.message.id"));
    }
}

#[tokio::test]
async fn a_handler_that_blocks_and_middleware_are_in_the_trace() {
    let mut mux = ServeMux::new();
    mux.wrap(|task: Task, next: asynq::serve_mux::Next| async move {
        let here = Context::current().span().span_context().clone();
        let state = task.with_header("seen", format!("{}", here.span_id()));
        next.run(state).await
    });
    mux.handle_func("blocks", |task: Task| {
        let here = Context::current().span().span_context().clone();
        assert_eq!(task.headers()["seen"], here.span_id().to_string());
        let run = task.context().unwrap();
        let next = Task::new("other", b"")?.with_queue("blocking");
        tokio::runtime::Handle::current().block_on(run.client().enqueue(next))?;
        Ok(())
    });
    mux.handle_async_func("other", |_: Task| async { Ok(()) });
    let system = system("blocking", ServerConfig::new(), mux).await;
    system.client().enqueue(task("blocking", "blocks")).await.unwrap();
    let (sent, runs) = (ended("send blocking", 2).await, ended("process blocking", 2).await);
    system.shutdown().await;
    assert_eq!(runs[0].text("asynq.outcome"), "done", "{runs:#?}");
    assert!(sent[1].is_child_of(&runs[0].0.span_context));
    assert!(runs[1].is_child_of(&sent[1].0.span_context));
}

#[tokio::test]
async fn a_run_can_begin_a_trace_of_its_own() {
    let system = system("apart", ServerConfig::new().trace_per_run(true), relay).await;
    system.client().enqueue(task("apart", "first")).await.unwrap();
    let (sent, runs) = (ended("send apart", 2).await, ended("process apart", 2).await);
    system.shutdown().await;
    assert!(runs.iter().all(crate::Seen::is_root));
    assert_eq!(
        (runs[0].links(), runs[1].links()),
        (vec![sent[0].id()], vec![sent[1].id()])
    );
    assert!(sent[1].is_child_of(&runs[0].0.span_context));
    assert_ne!(runs[0].trace(), runs[1].trace());
}

#[tokio::test]
async fn a_task_that_is_enqueued_again_has_headers_of_its_new_enqueue() {
    let again = |task: Task| async move {
        if task.headers().contains_key("again") {
            return Ok(());
        }
        let run = task.context().unwrap();
        let (client, queue) = (run.client(), run.queue().to_string());
        client
            .enqueue(task.clone().with_header("again", "1").with_queue(queue))
            .await?;
        Ok(())
    };
    let system = system("again", ServerConfig::new(), again).await;
    system.client().enqueue(task("again", "t")).await.unwrap();
    let (sent, runs) = (ended("send again", 2).await, ended("process again", 2).await);
    system.shutdown().await;
    assert!(sent[1].is_child_of(&runs[0].0.span_context));
    assert!(runs[1].is_child_of(&sent[1].0.span_context));
}

#[tokio::test]
async fn a_unique_lock_does_not_depend_on_the_trace() {
    let client = Client::new(MemoryStore::new()).await.unwrap();
    let options = TaskOptions::new().unique_ttl(PATIENCE);
    let (one, other) = (request("one"), request("other"));
    assert_ne!(trace_of(&one), trace_of(&other));
    let enqueue = || client.enqueue_with(task("unique", "t"), &options);
    enqueue().with_context(one).await.unwrap();
    let refused = enqueue().with_context(other).await.unwrap_err();
    assert_eq!(refused.to_string(), "task already exists");
    let sent = ended("send unique", 2).await;
    assert!(!sent[0].has_failed() && sent[1].has_failed());
    assert_eq!(sent[1].text("error.type"), "duplicate_task");
}

#[tokio::test]
async fn the_test_kit_makes_the_spans_of_a_server() {
    crate::exporter();
    let kit = TestKit::new().await;
    kit.client().enqueue(task("kit", "first")).await.unwrap();
    kit.run_one(&relay).await.unwrap();
    let (sent, run) = (ended("send kit", 2).await, ended("process kit", 1).await);
    assert!(run[0].is_child_of(&sent[0].0.span_context));
    assert!(sent[1].is_child_of(&run[0].0.span_context));
}

#[tokio::test]
async fn an_aborted_run_ends_its_span() {
    let began = Arc::new(Notify::new());
    let begins = Arc::clone(&began);
    let config = ServerConfig::new().shutdown_timeout(std::time::Duration::ZERO);
    let hangs = move |_: Task| {
        begins.notify_one();
        std::future::pending::<Result<()>>()
    };
    let system: AsynqSystem = system("aborted", config, hangs).await;
    system.client().enqueue(task("aborted", "t")).await.unwrap();
    began.notified().await;
    assert!(named("process aborted").is_empty());
    system.shutdown().await;
    let runs = ended("process aborted", 1).await;
    assert_eq!(
        (runs[0].text("asynq.outcome").as_str(), runs[0].has_failed()),
        ("given_back", false)
    );
}
