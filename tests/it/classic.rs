//! The classic API on Redis: what its calls leave there, and what servers do with it.

use std::time::Duration;

use asynq::{
    Client, Error, GroupAggregatorFunc, Inspector, ServeMux, Server, ServerBuilder, ServerConfig, Task, TaskOptions,
    TaskState,
    config::ClientConfig,
    error::{BrokerError, EnqueueError},
    redis::RedisConnectionType,
};
use asynq_testing::RedisServer;
use tokio::sync::mpsc;

struct Bench {
    redis: RedisServer,
    client: Client,
    inspector: Inspector,
}

impl Bench {
    async fn new() -> Self {
        let redis = RedisServer::start().await;
        let connection = || RedisConnectionType::single(redis.url()).unwrap();
        let client = Client::new(connection()).await.unwrap();
        let inspector = Inspector::connect(connection()).await.unwrap();
        Self {
            redis,
            client,
            inspector,
        }
    }

    fn connection(&self) -> RedisConnectionType {
        RedisConnectionType::single(self.redis.url()).unwrap()
    }
}

fn task(task_type: &str) -> Task {
    Task::new(task_type, b"payload").unwrap()
}

/// Returns how many connections the server has, this look included.
async fn connections(redis: &RedisServer) -> usize {
    let mut client = redis.client().await;
    client.cmd(&["CLIENT", "LIST"]).await.text().lines().count()
}

#[tokio::test]
async fn an_inspector_has_connections_of_its_own() {
    let redis = RedisServer::start().await;
    let connection = || RedisConnectionType::single(redis.url()).unwrap();
    let before = connections(&redis).await;
    let inspector = Inspector::connect(connection()).await.unwrap();
    let clone = inspector.clone();
    assert!(connections(&redis).await > before);
    drop(inspector);
    assert!(clone.queues().await.unwrap().is_empty());
    drop(clone);
    let closed = async {
        while connections(&redis).await > before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), closed).await.unwrap();

    redis.kill();
    let error = Inspector::connect(connection()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Broker(BrokerError::Unavailable { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn each_call_puts_the_task_where_it_says() {
    let bench = Bench::new().await;
    let Bench { client, inspector, .. } = &bench;
    let now = client.enqueue(task("now")).await.unwrap();
    assert_eq!((now.state, now.queue.as_str()), (TaskState::Pending, "default"));
    let later = client
        .enqueue_in(task("later"), Duration::from_secs(300))
        .await
        .unwrap();
    let at = later.next_process_at.unwrap() + chrono::TimeDelta::seconds(60);
    let exact = client.enqueue_at(task("exact"), at).await.unwrap();
    assert_eq!(exact.next_process_at.unwrap().timestamp(), at.timestamp());
    let hour = Duration::from_secs(3600);
    client.enqueue_unique(task("unique"), hour).await.unwrap();
    let twice = client.enqueue_unique(task("unique"), hour).await.unwrap_err();
    assert!(matches!(twice, Error::Enqueue(EnqueueError::DuplicateTask)), "{twice}");
    client.add_to_group(task("grouped"), "daily").await.unwrap();

    let stats = inspector.get_queue_stats("default").await.unwrap();
    assert_eq!((stats.pending, stats.scheduled, stats.aggregating), (2, 2, 1));
    let group = inspector.list_group("default", "daily", 1, 10).await.unwrap();
    assert_eq!(group[0].task_type, "grouped");
    let scheduled = inspector
        .list_tasks("default", TaskState::Scheduled, 1, 10)
        .await
        .unwrap();
    let types: Vec<_> = scheduled.iter().map(|info| info.task_type.as_str()).collect();
    assert_eq!(types, ["later", "exact"]);
    client.close().await;
    let closed = client.enqueue(task("late")).await.unwrap_err();
    assert!(matches!(closed, Error::Enqueue(EnqueueError::Closed)), "{closed}");
}

#[tokio::test]
async fn the_options_of_the_call_go_before_those_of_the_task() {
    let bench = Bench::new().await;
    let own = task("t")
        .with_queue("image_processing")
        .with_max_retry(5)
        .with_timeout(Duration::from_secs(300))
        .with_retention(Duration::from_secs(60));
    let call = TaskOptions::new().queue("critical").max_retry(1);
    let info = bench.client.enqueue_with(own, call).await.unwrap();
    let stored = bench
        .inspector
        .get_task_info("critical", info.id.as_str())
        .await
        .unwrap();
    assert_eq!((stored.max_retry, stored.timeout), (1, Some(Duration::from_secs(300))));
    assert_eq!(stored.retention, Duration::from_secs(60));
    assert!(bench.inspector.get_queue_stats("image_processing").await.is_err());
}

#[tokio::test]
async fn many_tasks_of_any_kind_get_an_answer_each() {
    let bench = Bench::new().await;
    let hour = Duration::from_secs(3600);
    let tasks = [
        task("plain"),
        task("delayed").with_process_in(hour),
        task("unique").with_unique_ttl(hour),
        task("unique").with_unique_ttl(hour),
        task("grouped").with_group("g"),
        task("bad").with_queue(" "),
    ];
    let answers = bench.client.enqueue_many(tasks).await;
    let states: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().ok().map(|info| info.state))
        .collect();
    let (pending, scheduled) = (Some(TaskState::Pending), Some(TaskState::Scheduled));
    assert_eq!(
        states,
        [pending, scheduled, pending, None, Some(TaskState::Aggregating), None]
    );
    assert!(matches!(answers[3], Err(Error::Enqueue(EnqueueError::DuplicateTask))));
    assert!(matches!(answers[5], Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_full_client_says_so() {
    let bench = Bench::new().await;
    bench.redis.pause();
    let config = ClientConfig::new().max_waiting(1);
    let client = Client::with_config(bench.connection(), config).await.unwrap();
    let mut waits = std::pin::pin!(client.enqueue(task("waits")));
    assert!(futures::poll!(&mut waits).is_pending());
    let full = client.try_enqueue(task("full")).await.unwrap_err();
    assert!(matches!(full, Error::Enqueue(EnqueueError::Overloaded)), "{full}");
    bench.redis.resume();
    waits.await.unwrap();
    client.try_enqueue(task("fits")).await.unwrap();
}

#[tokio::test]
async fn a_server_runs_a_mux_and_aggregates_and_its_life_is_that_of_gos() {
    let bench = Bench::new().await;
    let (ran, mut runs) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new();
    let sync = ran.clone();
    mux.handle_func("email:", move |task| {
        sync.send(task.get_type().to_owned()).map_err(Error::other)
    });
    mux.handle_async_func("batch:", move |task: Task| {
        let ran = ran.clone();
        async move {
            let payload = String::from_utf8_lossy(task.get_payload()).into_owned();
            ran.send(format!("{} {payload}", task.get_type())).map_err(Error::other)
        }
    });
    let config = ServerConfig::new()
        .concurrency(4)
        .queues([("default".to_owned(), 3)])
        // However long it takes to add them: three are a full group.
        .group_grace_period(Duration::from_secs(3600))
        .unwrap()
        .group_max_size(3);
    let mut server = ServerBuilder::new()
        .storage(bench.connection())
        .server_config(config)
        .build()
        .await
        .unwrap();
    server.set_group_aggregator(GroupAggregatorFunc::new(|group, tasks| {
        let combined = tasks.iter().map(Task::get_payload).collect::<Vec<_>>().join(&b"+"[..]);
        Task::new(format!("batch:{group}"), &combined)
    }));
    server.ping().await.unwrap();
    server.stop();
    server.start(mux.clone()).await.unwrap();
    let running = server.start(mux.clone()).await.unwrap_err();
    assert_eq!(running.to_string(), "asynq: the server is already running");

    bench.client.enqueue(task("email:send")).await.unwrap();
    assert_eq!(runs.recv().await.unwrap(), "email:send");
    for _ in 0..3 {
        bench.client.add_to_group(task("item"), "daily").await.unwrap();
    }
    assert_eq!(runs.recv().await.unwrap(), "batch:daily payload+payload+payload");
    bench.client.enqueue(task("video").with_max_retry(0)).await.unwrap();
    let archived = async {
        loop {
            let list = bench.inspector.list_tasks("default", TaskState::Archived, 1, 10).await;
            if let Some(info) = list.ok().and_then(|mut list| list.pop()) {
                return info;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let archived = tokio::time::timeout(Duration::from_secs(60), archived).await.unwrap();
    assert_eq!(archived.last_error, "handler not found for task \"video\"");

    let inspector = &bench.inspector;
    inspector
        .requeue_archived_task("default", archived.id.as_str())
        .await
        .unwrap();
    let servers = inspector.servers().await.unwrap();
    assert_eq!((servers.len(), servers[0].concurrency), (1, 4));
    assert_eq!(servers[0].queues["default"], 3, "the weight");
    server.stop();
    let stopped = server.start(mux.clone()).await.unwrap_err();
    assert_eq!(
        stopped.to_string(),
        "asynq: the server is in the stopped state. Waiting for shutdown."
    );
    server.shutdown().await;
    server.shutdown().await;
    server.ping().await.unwrap();
    let closed = server.start(mux).await.unwrap_err();
    assert_eq!(closed.to_string(), "asynq: Server closed");
    assert!(bench.inspector.servers().await.unwrap().is_empty());
}

#[tokio::test]
async fn all_faults_of_a_configuration_are_told_at_once() {
    let error = ServerBuilder::new()
        .server_config(ServerConfig::new().concurrency(0).queues([(" ", 1)]))
        .build()
        .await
        .unwrap_err();
    let Error::Config(error) = error else { panic!("{error}") };
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["concurrency", "queues", "storage"]);

    let mut mux = ServeMux::new();
    mux.handle_func("", |_| Ok(()))
        .handle_func("a", |_| Ok(()))
        .handle_func("a", |_| Ok(()));
    let mut server = Server::new(asynq::memory::MemoryStore::new(), ServerConfig::new())
        .await
        .unwrap();
    let Error::Config(error) = server.start(mux).await.unwrap_err() else {
        panic!("not a fault of the configuration")
    };
    assert_eq!(error.faults.len(), 2, "{error}");
}

#[tokio::test]
async fn only_archived_tasks_are_requeued_others_that_wait_are_run() {
    let bench = Bench::new().await;
    let later = bench
        .client
        .enqueue_in(task("t"), Duration::from_secs(300))
        .await
        .unwrap();
    let id = later.id.as_str();
    let error = bench.inspector.requeue_archived_task("default", id).await.unwrap_err();
    assert!(
        matches!(&error, Error::Broker(BrokerError::WrongState { state, .. }) if *state == TaskState::Scheduled),
        "{error}"
    );
    bench.inspector.run_task("default", id).await.unwrap();
    let info = bench.inspector.get_task_info("default", id).await.unwrap();
    assert_eq!(info.state, TaskState::Pending);
}

#[tokio::test]
async fn a_queue_that_cannot_be_served_keeps_no_other_from_being_served() {
    let bench = Bench::new().await;
    bench
        .redis
        .client()
        .await
        .ok(&["SET", "asynq:{critical}:pending", "x"])
        .await;
    let (ran, mut runs) = mpsc::unbounded_channel();
    let config = ServerConfig::new()
        .concurrency(2)
        .queues([("critical", 9), ("low", 1)])
        .strict_priority(true)
        .task_check_interval(Duration::from_millis(50));
    let mut server = Server::new(bench.connection(), config).await.unwrap();
    let handler = move |task: Task| {
        let _ = ran.send(task.get_type().to_owned());
        std::future::ready(Ok(()))
    };
    server.start(handler).await.unwrap();
    for n in 0..20 {
        let task = task(&format!("t{n}")).with_queue("low");
        bench.client.enqueue(task).await.unwrap();
    }
    for _ in 0..20 {
        tokio::time::timeout(Duration::from_secs(60), runs.recv())
            .await
            .unwrap()
            .unwrap();
    }
    server.shutdown().await;
}

#[tokio::test]
async fn pause_and_unpause_may_be_said_twice() {
    let bench = Bench::new().await;
    bench.client.enqueue(task("t")).await.unwrap();
    for paused in [true, false] {
        for _ in 0..2 {
            if paused {
                bench.inspector.pause_queue("default").await.unwrap();
            } else {
                bench.inspector.unpause_queue("default").await.unwrap();
            }
        }
        assert_eq!(bench.inspector.get_queue_stats("default").await.unwrap().paused, paused);
    }
}
