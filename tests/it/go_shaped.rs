//! Programs in the style of Go asynq: their paths and names are kept, so that they compile as they are.
//!
//! They are not run, as each would wait for a Redis at its usual port.

use std::{collections::HashMap, error::Error, sync::Arc};

use asynq::{
    broker::redis_broker::RedisBroker, client::Client, config::ServerConfig, memory::MemoryStore, server::Server,
    server::ServerBuilder, task::Task,
};

type Main = fn() -> Result<(), Box<dyn Error>>;

mod producer {
    use asynq::{client::Client, redis::RedisConnectionType, task::Task};
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct EmailPayload {
        to: String,
        subject: String,
        body: String,
    }

    #[tokio::main]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        let redis_config = RedisConnectionType::single("redis://127.0.0.1:6379")?;
        let client = Client::new(redis_config).await?;
        let payload = EmailPayload {
            to: "user@example.com".to_string(),
            subject: "Welcome!".to_string(),
            body: "Welcome to our service!".to_string(),
        };

        let task = Task::new_with_json("email:send", &payload)?;
        let task_info = client.enqueue(task).await?;
        println!("Task enqueued with ID: {}", task_info.id);

        Ok(())
    }

    pub(super) const MAIN: super::Main = main;
}

mod consumer {
    use async_trait::async_trait;
    use asynq::{config::ServerConfig, redis::RedisConnectionType, server::Handler, server::Server, task::Task};
    use serde::{Deserialize, Serialize};
    use std::collections::HashMap;

    #[derive(Serialize, Deserialize)]
    struct EmailPayload {
        to: String,
        subject: String,
        body: String,
    }

    struct EmailProcessor;

    #[async_trait]
    impl Handler for EmailProcessor {
        async fn process_task(&self, task: Task) -> asynq::error::Result<()> {
            match task.get_type() {
                "email:send" => {
                    let payload: EmailPayload = task.get_payload_with_json()?;
                    println!("Sending email to: {}", payload.to);
                    Ok(())
                }
                _ => Err(asynq::error::Error::other("Unknown task type")),
            }
        }
    }

    #[tokio::main]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        let redis_config = RedisConnectionType::single("redis://127.0.0.1:6379")?;
        let mut queues = HashMap::new();
        queues.insert("critical".to_string(), 6);
        queues.insert("default".to_string(), 3);
        queues.insert("low".to_string(), 1);
        let config = ServerConfig::new().concurrency(4).queues(queues);
        let mut server = Server::new(redis_config, config).await?;
        server.run(EmailProcessor).await?;

        Ok(())
    }

    pub(super) const MAIN: super::Main = main;
}

mod mux {
    use asynq::{
        config::ServerConfig, redis::RedisConnectionType, serve_mux::ServeMux, server::ServerBuilder, task::Task,
    };
    use std::collections::HashMap;

    #[tokio::main]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        let redis_config = RedisConnectionType::single("redis://127.0.0.1:6379")?;
        let mut mux = ServeMux::new();
        mux.handle_func("email:send", |task: Task| {
            println!("Processing email:send {:?}", task);
            Ok(())
        });
        mux.handle_async_func("image:resize", |task: Task| async move {
            println!("Processing image:resize {:?}", task);
            Ok(())
        });

        mux.handle_func("payment:process", |task: Task| {
            println!("Processing payment {:?}", task);
            Ok(())
        });
        let mut queues = HashMap::new();
        queues.insert("default".to_string(), 3);
        let config = ServerConfig::new().concurrency(4).queues(queues);
        let mut server = ServerBuilder::new()
            .redis_config(redis_config)
            .server_config(config)
            .build()
            .await?;
        server.run(mux).await?;

        Ok(())
    }

    pub(super) const MAIN: super::Main = main;
}

#[expect(unused_variables, reason = "these handlers ignore their task")]
mod macros {
    use asynq::{
        config::ServerConfig, redis::RedisConnectionType, register_async_handlers, register_handlers,
        serve_mux::ServeMux, server::ServerBuilder, task::Task, task_handler, task_handler_async,
    };
    use std::collections::HashMap;
    #[task_handler("email:send")]
    fn handle_email(task: Task) -> asynq::error::Result<()> {
        println!("Processing email:send");
        Ok(())
    }

    #[task_handler_async("image:resize")]
    async fn handle_image(task: Task) -> asynq::error::Result<()> {
        println!("Processing image:resize");
        Ok(())
    }

    #[tokio::main]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        let redis_config = RedisConnectionType::single("redis://127.0.0.1:6379")?;
        let mut mux = ServeMux::new();
        register_handlers!(mux, handle_email);
        register_async_handlers!(mux, handle_image);
        let mut queues = HashMap::new();
        queues.insert("default".to_string(), 3);
        let config = ServerConfig::new().concurrency(4).queues(queues);

        let mut server = ServerBuilder::new()
            .redis_config(redis_config)
            .server_config(config)
            .build()
            .await?;

        server.run(mux).await?;
        Ok(())
    }

    pub(super) const MAIN: super::Main = main;
}

/// Calls that programs make between the lines of the above.
async fn calls(
    client: Client,
    mut server: Server,
    task: Task,
    payload: String,
    broker: Arc<RedisBroker>,
) -> Result<(), Box<dyn Error>> {
    use asynq::{
        base::keys::TaskState, components::aggregator::GroupAggregatorFunc, inspector::Inspector,
        redis::RedisConnectionType,
    };
    use std::time::Duration;

    client.enqueue_in(task, Duration::from_secs(300)).await?;

    let unique_task = Task::new_with_json("report:daily", &payload)?;
    client.enqueue_unique(unique_task, Duration::from_secs(3600)).await?;

    for i in 1..=10 {
        let item_task = Task::new_with_json("batch:process", &serde_json::json!({"item": i}))?;
        client.add_to_group(item_task, "daily_batch").await?;
    }

    let task = Task::new_with_json("image:resize", &payload)?
        .with_queue("image_processing")
        .with_max_retry(5)
        .with_timeout(Duration::from_secs(300))
        .with_unique_ttl(Duration::from_secs(3600));
    client.enqueue(task).await?;

    let mut queues = HashMap::new();
    queues.insert("critical".to_string(), 6);
    queues.insert("default".to_string(), 3);
    queues.insert("low".to_string(), 1);

    let config = ServerConfig::new().queues(queues).strict_priority(true);

    let aggregator = GroupAggregatorFunc::new(|_group, tasks| {
        let combined = tasks
            .iter()
            .map(|t| t.get_payload())
            .collect::<Vec<_>>()
            .join(&b"\n"[..]);
        Task::new("batch:process", &combined)
    });
    server.set_group_aggregator(aggregator);
    server = Server::new(RedisConnectionType::single("redis://127.0.0.1:6379")?, config).await?;

    let config = ServerConfig::new()
        .concurrency(8)
        .task_check_interval(Duration::from_secs(1))
        .delayed_task_check_interval(Duration::from_secs(5))
        .shutdown_timeout(Duration::from_secs(10))
        .health_check_interval(Duration::from_secs(15))
        .group_grace_period(Duration::from_secs(60))?
        .group_max_delay(Duration::from_secs(300))
        .group_max_size(100)
        .janitor_interval(Duration::from_secs(8))
        .janitor_batch_size(50);
    let nodes = vec![
        "redis://127.0.0.1:6379/",
        "redis://127.0.0.1:6378/",
        "redis://127.0.0.1:6377/",
    ];
    let redis_config = RedisConnectionType::cluster(nodes)?;
    drop((server, Server::new(redis_config, config).await?));

    let inspector = Inspector::new(broker);
    let stats = inspector.get_queue_stats("default").await?;
    println!("Pending: {}, Active: {}", stats.pending, stats.active);
    let tasks = inspector.list_tasks("default", TaskState::Pending, 1, 10).await?;
    println!("{}", tasks.len());
    inspector.requeue_archived_task("default", "task-id").await?;
    inspector.pause_queue("default").await?;

    Ok(())
}

#[test]
fn go_shaped_programs_compile_as_they_are() {
    let programs = [producer::MAIN, consumer::MAIN, mux::MAIN, macros::MAIN];
    assert_eq!(programs.len(), 4);
    let _ = calls;
}

#[tokio::test]
async fn redis_config_sets_the_storage() {
    let server = ServerBuilder::new()
        .redis_config(MemoryStore::new())
        .server_config(ServerConfig::new())
        .build()
        .await
        .unwrap();
    server.ping().await.unwrap();
}
