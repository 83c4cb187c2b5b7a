//! Servers of both sides on the same queues at the same time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use asynq::{AsynqSystem, ServerConfig, Task, TaskState};
use asynq_interop::{GoEvent, GoTask, ServerProcess};
use tokio::sync::mpsc;

use crate::{
    pair::{Pair, connector},
    rust_server::RustServer,
    sides::{Producer, Settings, Side},
};

/// Each task fails once, and whoever comes first tries it again: nothing is lost and nothing runs twice.
#[tokio::test]
async fn both_sides_share_the_work() {
    const TASKS: usize = 300;
    let mut pair = Pair::start().await;
    let settings = Settings {
        concurrency: 4,
        retry_delay: Duration::ZERO,
        ..Settings::default()
    };
    let mut gos = ServerProcess::go(&pair.redis.address())
        .concurrency(settings.concurrency)
        .task_check_interval(Duration::from_millis(20))
        .delayed_task_check_interval(settings.forward_every)
        .retry_delay(settings.retry_delay)
        .start()
        .await;
    let mut ours = RustServer::start(&pair.redis, &settings).await;
    let mut clients = [
        Producer::start(Side::Go, &pair.redis).await,
        Producer::start(Side::Rust, &pair.redis).await,
    ];
    // Unique, so that a task that somebody deletes twice would show.
    for n in 0..TASKS {
        let orders = format!(r#"{{"do":"fail_times","n":1,"ms":{n}}}"#);
        let task = GoTask::new("t")
            .payload(orders)
            .id(&format!("{n:03}"))
            .unique_ms(3_600_000);
        clients[n % 2].enqueue(&task.retention_ms(3_600_000)).await;
    }
    pair.until_queue("default", "all done", |info| info.completed == TASKS as u64)
        .await;
    let counted = pair.counted("default").await;
    assert_eq!(counted, (2 * TASKS as u64, TASKS as u64));

    let by_go: Vec<_> = gos
        .unexpected()
        .iter()
        .filter_map(GoEvent::start)
        .map(|run| run.id.clone())
        .collect();
    let by_us = ours.unexpected();
    assert!(
        !by_go.is_empty() && !by_us.is_empty(),
        "{} and {}",
        by_go.len(),
        by_us.len()
    );
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for id in by_go.into_iter().chain(by_us) {
        *runs.entry(id).or_default() += 1;
    }
    assert_eq!(runs.len(), TASKS);
    assert!(runs.values().all(|runs| *runs == 2), "{runs:?}");
    for task in pair.list("default", TaskState::Completed).await {
        assert_eq!((task.retried, task.last_err.as_str()), (1, "failed"), "{task:?}");
    }
    gos.shutdown().await;
    ours.system.shutdown().await;
    let raw = pair.raw().await;
    assert!(!raw.keys().any(|key| key.contains(":unique:")));
    assert_eq!(pair.breaches().await, []);
    asynq_testing::invariants::assert_hold(&raw);
}

/// An idle system is woken by what Go writes: it does not have to look.
#[tokio::test]
async fn gos_writes_wake_our_idle_system() {
    let mut pair = Pair::start().await;
    let (told, mut runs) = mpsc::unbounded_channel();
    let an_hour = Duration::from_secs(3600);
    let system = AsynqSystem::builder(connector(&pair.redis))
        .config(
            ServerConfig::new()
                .task_check_interval(an_hour)
                .delayed_task_check_interval(an_hour),
        )
        .handler(move |task: Task| {
            let _ = told.send(task.get_type().to_owned());
            std::future::ready(Ok(()))
        })
        .spawn()
        .await
        .unwrap();
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    let mut next = async |what: &str| {
        let began = Instant::now();
        assert_eq!(
            tokio::time::timeout(Duration::from_secs(60), runs.recv())
                .await
                .unwrap()
                .unwrap(),
            what
        );
        // Far below the rare look that a system takes even with a watch.
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "{what} took {:?}",
            began.elapsed()
        );
    };
    client.enqueue(&GoTask::new("first")).await;
    next("first").await;
    for n in 0..5 {
        let name = format!("enqueued {n}");
        client.enqueue(&GoTask::new(&name)).await;
        next(&name).await;
    }
    let delayed = client
        .enqueue(&GoTask::new("run by hand").process_in_ms(3_600_000))
        .await;
    pair.go.run("default", &delayed.id).await.unwrap();
    next("run by hand").await;
    pair.go.pause("default").await.unwrap();
    client.enqueue(&GoTask::new("paused")).await;
    pair.go.unpause("default").await.unwrap();
    next("paused").await;
    system.shutdown().await;
}

/// An operator with Go's tools works on tasks that we wrote.
#[tokio::test]
async fn gos_tools_change_our_tasks() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Rust, &pair.redis).await;
    let task = |id: &str| GoTask::new("t").payload(id).id(id).unique_ms(3_600_000);
    let tasks = [
        task("pending"),
        task("scheduled").process_in_ms(3_600_000),
        task("grouped").group("g"),
    ];
    for task in &tasks {
        client.enqueue(task).await;
    }
    for id in ["pending", "scheduled", "grouped"] {
        pair.go.archive("default", id).await.unwrap();
        assert_eq!(pair.look("default", id).await.unwrap().state, "archived");
    }
    assert_eq!(pair.list("default", TaskState::Archived).await.len(), 3);
    assert_eq!(pair.groups("default").await, []);
    for id in ["pending", "scheduled", "grouped"] {
        pair.go.run("default", id).await.unwrap();
        assert_eq!(pair.look("default", id).await.unwrap().state, "pending");
    }
    pair.go.delete("default", "scheduled").await.unwrap();
    assert_eq!(pair.look("default", "scheduled").await, None);
    // Its lock went with it.
    client.enqueue(&tasks[1]).await;

    let mut server = RustServer::start(&pair.redis, &Settings::default()).await;
    for id in ["pending", "grouped"] {
        server.ended(id).await;
        pair.until_gone("default", id).await;
    }
    server.system.shutdown().await;
    assert_eq!(pair.breaches().await, []);
}
