//! Inputs of users are checked wherever they come in, and shown in errors up to a length.

use std::sync::Arc;

use asynq::{
    Client, Error, Inspector, Scheduler, SchedulerConfig, ServerConfig, Task, TaskOptions, TaskState, cron::CronSpec,
    error::BrokerError, memory::MemoryStore, scheduler::PeriodicTaskConfig,
};
use asynq_core::{GroupKey, QueueName, TaskId};

fn task() -> Task {
    Task::new("t", b"").unwrap()
}

fn text(answer: Result<impl Sized, impl Into<Error>>) -> String {
    match answer {
        Ok(_) => "nothing was said".to_owned(),
        Err(error) => error.into().to_string(),
    }
}

/// Such a name would spread the keys of one queue over the nodes of a cluster.
#[tokio::test]
async fn a_queue_that_makes_the_hash_tag_empty_is_refused_at_every_door() {
    let store = MemoryStore::new();
    let client = Client::new(store.clone()).await.unwrap();
    let inspector = Inspector::new(Arc::new(store.open(Default::default())));
    let scheduler = Scheduler::new(store, SchedulerConfig::new()).await.unwrap();
    for name in ["}", "}x"] {
        let options = TaskOptions::new().queue(name);
        let periodic = PeriodicTaskConfig::new("@daily", task()).options(options.clone());
        for answer in [
            text(client.enqueue(task().with_queue(name)).await),
            text(client.enqueue_with(task(), options.clone()).await),
            text(ServerConfig::new().queues([(name, 1)]).validate()),
            text(inspector.get_queue_stats(name).await),
            text(inspector.list_tasks(name, TaskState::Pending, 1, 10).await),
            text(inspector.list_group(name, "g", 1, 10).await),
            text(inspector.get_task_info(name, "a").await),
            text(inspector.history(name, 1).await),
            text(inspector.run_task(name, "a").await),
            text(inspector.archive_task(name, "a").await),
            text(inspector.delete_task(name, "a").await),
            text(inspector.delete_queue(name, true).await),
            text(inspector.update_task_payload(name, "a", b"x").await),
            text(inspector.reschedule_task(name, "a", chrono::Utc::now()).await),
            text(inspector.enqueue_copy(name, "a", Ok).await),
            text(inspector.clear_counters(name).await),
            text(inspector.cluster_key_slot(name).await),
            text(inspector.cluster_nodes(name).await),
            text(inspector.run_all_scheduled_tasks(name).await),
            text(inspector.archive_all_aggregating_tasks(name, "g").await),
            text(inspector.delete_all_pending_tasks(name).await),
            text(inspector.requeue_archived_task(name, "a").await),
            text(inspector.pause_queue(name).await),
            text(inspector.unpause_queue(name).await),
            text(scheduler.register_with("@daily", task(), &options)),
            text(scheduler.handle().add(&periodic)),
        ] {
            assert!(
                answer.contains("queue must not begin with '}', which makes the hash tag of its keys empty"),
                "{answer}"
            );
        }
    }
    assert!(inspector.queues().await.unwrap().is_empty());
}

#[tokio::test]
async fn errors_show_no_more_than_the_beginning_of_a_long_text() {
    let store = MemoryStore::new();
    let inspector = Inspector::new(Arc::new(store.open(Default::default())));
    let scheduler = Scheduler::new(store, SchedulerConfig::new()).await.unwrap();
    let long = "x".repeat(10_000);
    let (queue, id) = (QueueName::new(&long).unwrap(), TaskId::new(&long).unwrap());
    let group = GroupKey::new(&long).unwrap();
    for answer in [
        text(CronSpec::parse(&long).map_err(Error::other)),
        text(CronSpec::parse(&long[..1000]).map_err(Error::other)),
        text(scheduler.register(&long, task())),
        text(scheduler.register(&long[..1000], task())),
        text(ServerConfig::new().queues([(long.as_str(), 0)]).validate()),
        text(ServerConfig::new().queues([(long.as_str(), 1); 2]).validate()),
        text(long.parse::<TaskState>().map_err(Error::other)),
        text(inspector.get_queue_stats(&long).await),
        text(inspector.get_task_info(&long, &long).await),
        Error::HandlerNotFound {
            task_type: long.clone(),
        }
        .to_string(),
        BrokerError::WrongType { key: long.clone() }.to_string(),
        BrokerError::TaskNotFound {
            queue: queue.clone(),
            id: id.clone(),
        }
        .to_string(),
        BrokerError::AggregationSetGone { queue, group }.to_string(),
        asynq::error::EnqueueError::Unknown { id }.to_string(),
    ] {
        assert!(answer.len() < 500, "{} bytes: {answer}", answer.len());
        assert_ne!(answer, "nothing was said");
    }
}
