//! A cancel request of one side ends the run in a server of the other.

use std::time::Duration;

use asynq::{
    TaskState,
    inspector::{Cancelled, Then},
    names::{QueueName, TaskId},
};
use asynq_interop::GoTask;

use crate::{
    pair::Pair,
    sides::{Producer, Side, process},
};

#[tokio::test]
async fn gos_cancel_request_reaches_our_server() {
    cancelled_in(Side::Rust).await;
}

#[tokio::test]
async fn our_cancel_request_reaches_a_go_server() {
    cancelled_in(Side::Go).await;
}

/// The server of this side is asked by the other to cancel one of two tasks.
async fn cancelled_in(side: Side) {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(side.other(), &pair.redis).await;
    let server = process(side, &pair.redis).concurrency(2);
    let server = server.retry_delay(Duration::from_secs(3600));
    let server = server.task_check_interval(Duration::from_millis(50));
    let mut server = server.shutdown_timeout(Duration::from_millis(100)).start().await;
    for id in ["cancelled", "left alone"] {
        client
            .enqueue(&GoTask::new("t").payload(r#"{"do":"wait_cancel"}"#).id(id))
            .await;
        server.started(id).await;
    }
    // The first names nobody's task.
    for id in ["unknown", "cancelled"] {
        match side.other() {
            Side::Go => pair.go.cancel(id).await.unwrap(),
            Side::Rust => {
                let id = TaskId::new(id).unwrap();
                pair.storage.publish_cancellation(&id).await.unwrap();
            }
        }
    }
    let cancelled = pair.until("default", "cancelled", TaskState::Retry).await;
    assert_eq!(
        (cancelled.last_err.as_str(), cancelled.retried),
        ("context canceled", 1)
    );
    if side == Side::Go {
        assert_eq!(server.ended("cancelled").await.outcome, "canceled");
    }
    // Its slot is free again.
    client.enqueue(&GoTask::new("t").id("next")).await;
    server.ended("next").await;
    pair.until_gone("default", "next").await;
    assert_eq!(pair.look("default", "left alone").await.unwrap().state, "active");
    assert_eq!(pair.counted("default").await, (2, 1));

    // A shutdown is no cancel request: the task is given back as it was.
    server.shutdown().await;
    let back = pair.look("default", "left alone").await.unwrap();
    assert_eq!(
        (back.state.as_str(), back.last_err.as_str(), back.retried),
        ("pending", "", 0)
    );
    if side == Side::Rust {
        // Go does not tell since when a task is pending that was given back.
        assert_eq!(pair.breaches().await, []);
    }
}

/// A Go server hears of a request that says what becomes of the task, and handles it as any other.
#[tokio::test]
async fn a_go_server_retries_whatever_was_asked_for() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Rust, &pair.redis).await;
    let server = process(Side::Go, &pair.redis).concurrency(2);
    let server = server.retry_delay(Duration::from_secs(3600));
    let mut server = server.task_check_interval(Duration::from_millis(50)).start().await;
    let queue = QueueName::default();
    for then in Then::ALL {
        let id = then.as_str();
        client
            .enqueue(&GoTask::new("t").payload(r#"{"do":"wait_cancel"}"#).id(id))
            .await;
        server.started(id).await;
        let told = pair.storage.cancel_task(&queue, &TaskId::new(id).unwrap(), then).await;
        assert_eq!(told.unwrap(), Cancelled::Told);
        let cancelled = pair.until("default", id, TaskState::Retry).await;
        assert_eq!(
            (cancelled.last_err.as_str(), cancelled.retried),
            ("context canceled", 1)
        );
        assert_eq!(server.ended(id).await.outcome, "canceled");
    }
    server.shutdown().await;
    assert_eq!(pair.breaches().await, []);
}
