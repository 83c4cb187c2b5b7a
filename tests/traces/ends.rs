//! Ends of runs, as their spans tell them.

use std::time::Duration;

use asynq::{AsynqSystem, Env, Error, Result, ServerConfig, Task, client::TaskContextExt as _, memory::MemoryStore};
use asynq_core::{Clock, Entropy};
use chrono::{TimeDelta, Utc};
use opentelemetry::trace::Status;

use crate::{ended, exporter, system};

#[tokio::test]
async fn each_retry_is_a_span_in_the_same_trace() {
    let third = |task: Task| async move {
        match task.context().unwrap().retried() {
            2 => Ok(()),
            n => Err(Error::other(format!("failure {n}"))),
        }
    };
    let system = system("retried", ServerConfig::new(), third).await;
    let task = Task::new("t", b"").unwrap().with_queue("retried");
    system.client().enqueue(task).await.unwrap();
    let (sent, runs) = (ended("send retried", 1).await, ended("process retried", 3).await);
    system.shutdown().await;
    for (n, run) in runs.iter().enumerate() {
        assert!(run.is_child_of(&sent[0].0.span_context));
        assert_eq!(run.text("asynq.retried"), n.to_string());
    }
    let ends = runs.iter().map(|run| (run.text("asynq.outcome"), run.0.status.clone()));
    let failed = |n| ("retried".to_owned(), Status::error(format!("failure {n}")));
    assert_eq!(
        ends.collect::<Vec<_>>(),
        [failed(0), failed(1), ("done".into(), Status::Unset)]
    );
    assert_eq!(runs[0].text("error.type"), "handler");
}

#[tokio::test]
async fn every_end_has_its_words() {
    let ends = |task: Task| async move {
        match task.get_type() {
            "panic" => panic!("words of the panic"),
            "timeout" => std::future::pending().await,
            "skip" => Err(Error::skip_retry("no such user")),
            "revoke" => Err(Error::revoke("not wanted")),
            "snooze" => Err(Error::snooze(Duration::from_secs(3600))),
            "long" => Err(Error::other("ä".repeat(1 << 16))),
            _ => Err(Error::HandlerNotFound { task_type: "t".into() }),
        }
    };
    // Type, outcome, error type; an empty one is no error.
    let rows = [
        ("panic", "archived", "panic"),
        ("timeout", "archived", "timeout"),
        ("skip", "archived", "skip_retry"),
        ("revoke", "revoked", ""),
        ("snooze", "deferred", ""),
        ("long", "archived", "handler"),
        ("unknown", "archived", "handler_not_found"),
    ];
    for (task_type, outcome, error) in rows {
        let queue = format!("end-{task_type}");
        let system = system(&queue, ServerConfig::new(), ends).await;
        let task = Task::new(task_type, b"").unwrap().with_queue(&queue).with_max_retry(0);
        let task = task.with_timeout(Duration::from_secs(if task_type == "timeout" { 1 } else { 600 }));
        system.client().enqueue(task).await.unwrap();
        let run = ended(&format!("process {queue}"), 1).await.remove(0);
        system.shutdown().await;
        assert_eq!(
            (run.text("asynq.outcome").as_str(), run.text("error.type").as_str()),
            (outcome, error)
        );
        assert_eq!(run.has_failed(), !error.is_empty(), "{run:#?}");
        let Status::Error { description } = &run.0.status else {
            continue;
        };
        assert!(description.len() <= 1024, "{}", description.len());
        match task_type {
            "panic" => assert!(description.contains("words of the panic"), "{description}"),
            "timeout" => assert_eq!(description, "context deadline exceeded"),
            "skip" => assert_eq!(description, "no such user"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_cancelled_run_says_so() {
    let hangs = |task: Task| async move {
        let run = task.context().unwrap();
        let next = Task::new("began", b"")?.with_queue("cancel-began");
        run.client().enqueue(next).await?;
        std::future::pending::<Result<()>>().await
    };
    let system = system("cancel", ServerConfig::new(), hangs).await;
    let task = Task::new("t", b"").unwrap().with_queue("cancel").with_max_retry(0);
    let info = system.client().enqueue(task).await.unwrap();
    ended("send cancel-began", 1).await;
    assert_eq!(system.cancel_task(&info.id), 1);
    let run = ended("process cancel", 1).await.remove(0);
    system.shutdown().await;
    assert_eq!((run.text("error.type").as_str(), run.has_failed()), ("cancelled", true));
}

/// The handler that hears of it and returns an error does not hide it.
#[tokio::test]
async fn a_run_that_lost_its_lease_says_so() {
    const OFTEN: Duration = Duration::from_millis(50);
    exporter();
    let storage = MemoryStore::new();
    let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let config = || {
        ServerConfig::new()
            .queues([("lost", 1)])
            .heartbeat_interval(OFTEN)
            .recoverer_interval(OFTEN)
    };
    let owner = AsynqSystem::builder(storage.clone())
        .config(config())
        .handler(move |task: Task| {
            began.send(()).unwrap();
            async move {
                task.context().unwrap().cancelled().await;
                Err(Error::other("stopped half way"))
            }
        })
        .spawn()
        .await
        .unwrap();
    let task = Task::new("t", b"").unwrap().with_queue("lost").with_max_retry(0);
    owner.client().enqueue(task).await.unwrap();
    tokio::time::timeout(crate::PATIENCE, begins.recv()).await.unwrap();
    // For another host, whose clock is ahead, the lease has ended.
    let ahead = Env {
        clock: Clock::with_wall(|| Utc::now() + TimeDelta::hours(1)),
        entropy: Entropy::from_os(),
    };
    let other = AsynqSystem::builder(storage)
        .env(ahead)
        .config(config())
        .handler(|_: Task| async { Ok(()) })
        .spawn()
        .await
        .unwrap();
    let run = ended("process lost", 1).await.remove(0);
    owner.shutdown().await;
    other.shutdown().await;
    assert_eq!(
        (run.text("asynq.outcome").as_str(), run.text("error.type").as_str()),
        ("lost", "lease_lost")
    );
    assert!(run.has_failed());
}
