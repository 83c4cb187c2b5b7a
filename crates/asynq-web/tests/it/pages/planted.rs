//! Servers, trees and entries, written as programs publish them.

use std::sync::Arc;

use asynq::{
    ActorState, Connector as _, TreeNode,
    broker::{ServerIdentity, Storage},
    info::{SchedulerEntry, ServerInfo, ServerStatus, WorkerInfo},
    names::{QueueName, TaskId},
};
use axum::http::{Method, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{support::Site, v1::HOUR};

/// A name that would be code if a page did not escape it.
pub(super) const SCRIPT: &str = "<script>alert('x')</script>\"&";

/// Largest size of a page, in bytes.
pub(super) const LARGEST: usize = 200_000;

pub(super) async fn storage(site: &Site) -> Arc<dyn Storage> {
    site.storage.connect(site.storage.env()).await.unwrap()
}

/// Asks for a page, which must be there, small enough, and without code of others.
pub(super) async fn page(site: &Site, token: &str, path: &str) -> String {
    let answer = site.ask(token, Method::GET, path, None).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    assert!(answer.text.len() < LARGEST, "{path} has {} bytes", answer.text.len());
    assert!(!answer.text.contains("<script>alert"), "{path}: {}", answer.text);
    answer.text
}

pub(super) fn ago(seconds: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::seconds(seconds)
}

pub(super) fn identity(host: &str) -> ServerIdentity {
    ServerIdentity {
        host: host.to_owned(),
        pid: 7,
        server_id: format!("id-{host}"),
    }
}

/// A task that runs since so many seconds, and has to end in as many.
pub(super) fn worker(host: &str, queue: &str, id: &str, task_type: &str, seconds: i64) -> WorkerInfo {
    let server = identity(host);
    WorkerInfo {
        host: server.host,
        pid: server.pid,
        server_id: server.server_id,
        task_id: TaskId::new(id).unwrap(),
        task_type: task_type.to_owned(),
        payload: "secret".into(),
        queue: QueueName::new(queue).unwrap(),
        start_time: ago(seconds),
        deadline: ago(-seconds),
    }
}

/// Publishes a server of these queues, with the tasks that it runs.
pub(super) async fn serve(storage: &dyn Storage, host: &str, queues: &[&str], workers: &[WorkerInfo]) {
    let server = identity(host);
    let info = ServerInfo {
        host: server.host,
        pid: server.pid,
        server_id: server.server_id,
        concurrency: 100,
        queues: queues.iter().map(|queue| ((*queue).to_owned(), 3)).collect(),
        strict_priority: false,
        status: ServerStatus::Active,
        start_time: ago(90),
        active_worker_count: i32::try_from(workers.len()).unwrap(),
    };
    storage.write_server_state(&info, workers, HOUR).await.unwrap();
}

/// A tree: a root with a supervisor, its processor, and an actor that has restarted so many seconds ago.
pub(super) fn tree(restarted: i64, failure: &str) -> TreeNode {
    let node = |name: &str| TreeNode::new(name, ActorState::Running, ago(5000));
    let mut forwarder = TreeNode::new("forwarder", ActorState::Running, ago(restarted));
    forwarder.restarts = 3;
    forwarder.backlog = Some(4321);
    forwarder.last_failure = Some(failure.to_owned());
    let mut work = node("work");
    work.children = vec![node("processor"), forwarder];
    let mut root = node("system");
    root.children = vec![work];
    root
}

pub(super) fn entry(id: &str, spec: &str, task_type: &str, queue: &str) -> SchedulerEntry {
    SchedulerEntry {
        id: id.to_owned(),
        spec: spec.to_owned(),
        task_type: task_type.to_owned(),
        payload: "{\"a\":1}".into(),
        options: vec![format!("Queue({queue:?})")],
        next: Some(ago(-600)),
        prev: None,
    }
}
