//! The span of an aggregation, between the spans of the tasks of the group and of the aggregated task.

use std::{collections::HashSet, time::Duration};

use asynq::{AsynqSystem, Client, Error, ServerConfig, Task, memory::MemoryStore};

use crate::{ended, exporter};

fn config(queue: &str) -> ServerConfig {
    ServerConfig::new()
        .queues([(queue, 1)])
        .group_grace_period(Duration::from_secs(1))
        .unwrap()
        .group_check_interval(Duration::from_millis(20))
}

#[tokio::test]
async fn an_aggregation_links_to_its_tasks_and_carries_its_context_on() {
    const MEMBERS: usize = 150;
    exporter();
    let storage = MemoryStore::new();
    let client = Client::new(storage.clone()).await.unwrap();
    let member = || Task::new("member", b"m").unwrap().with_queue("group").with_group("g");
    let answers = client.enqueue_many((0..MEMBERS).map(|_| member())).await;
    assert!(answers.iter().all(Result::is_ok));
    let sent = ended("send group", MEMBERS).await;
    let system = AsynqSystem::builder(storage)
        .config(config("group"))
        // A copy of a member has its headers, which must not go on.
        .aggregator(|_: String, tasks: Vec<Task>| async move { Ok(tasks[0].clone()) })
        .handler(|_: Task| async { Ok(()) })
        .spawn()
        .await
        .unwrap();
    let spans = ended("process group", 2).await;
    system.shutdown().await;
    let (set, run) = (&spans[0], &spans[1]);
    assert!(set.is_root());
    assert_eq!(set.text("asynq.group"), "g");
    assert_eq!(set.text("messaging.batch.message_count"), MEMBERS.to_string());
    let (links, sent): (HashSet<_>, HashSet<_>) = (
        set.links().into_iter().collect(),
        sent.iter().map(crate::Seen::id).collect(),
    );
    assert_eq!(links.len(), 128);
    assert!(links.is_subset(&sent));
    assert!(run.is_child_of(&set.0.span_context));
    assert_eq!(run.text("asynq.outcome"), "done");
}

#[tokio::test]
async fn a_failed_aggregation_has_an_error() {
    exporter();
    let storage = MemoryStore::new();
    let client = Client::new(storage.clone()).await.unwrap();
    let member = Task::new("member", b"m")
        .unwrap()
        .with_queue("group-fails")
        .with_group("g");
    client.enqueue(member).await.unwrap();
    let system = AsynqSystem::builder(storage)
        .config(config("group-fails"))
        .aggregator(|_: String, _: Vec<Task>| async move { Err(Error::other("no")) })
        .handler(|_: Task| async { Ok(()) })
        .spawn()
        .await
        .unwrap();
    let set = ended("process group-fails", 1).await.remove(0);
    system.shutdown().await;
    assert!(set.has_failed());
    assert_eq!(
        (set.text("error.type").as_str(), set.text("asynq.outcome").as_str()),
        ("aggregator", "given_back")
    );
}
