//! Servers of both sides on the same queues at the same time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use asynq::{AsynqSystem, ServerConfig, Task, TaskState, error::BrokerError, names::TaskId};
use asynq_core::raw::{RawState, RawValue};
use asynq_interop::{GoErrorKind, GoEvent, GoTask, ServerProcess};
use tokio::sync::mpsc;

use crate::{
    pair::{Pair, connector, queue_name},
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
        // Below the rare look that a system takes even with a watch: 15 s after the one before.
        assert!(
            began.elapsed() < Duration::from_secs(14),
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

/// An operator with our tools runs tasks at once, as one with Go's does: twins in each state, one run by
/// each, are the same in storage but for what only we write and clear, and a Go server then runs them all.
#[tokio::test]
async fn our_tools_run_tasks_as_gos_do() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    let address = pair.redis.address();
    let an_hour = Duration::from_secs(3600);
    let queue = queue_name("default");
    let fails_once = |id: &str| GoTask::new("t").payload(r#"{"do":"fail_times","n":1}"#).id(id);
    let states = ["retry", "archived", "scheduled", "aggregating"];
    let twins = |state: &str| ["ours", "gos"].map(|whose| (format!("{state} {whose}"), whose == "ours"));
    for (id, _) in twins("retry").iter().chain(&twins("archived")) {
        client.enqueue(&fails_once(id)).await;
    }
    let mut gos = ServerProcess::go(&address).retry_delay(an_hour).start().await;
    for (id, _) in twins("retry").iter().chain(&twins("archived")) {
        gos.ended(id).await;
        pair.until("default", id, TaskState::Retry).await;
    }
    gos.shutdown().await;
    for (id, ours) in states.iter().flat_map(|state| twins(state)) {
        let unique = GoTask::new("t").payload(&id).id(&id).unique_ms(3_600_000);
        match id.split(' ').next().unwrap() {
            "archived" => pair.go.archive("default", &id).await.unwrap(),
            "scheduled" => drop(client.enqueue(&unique.process_in_ms(3_600_000)).await),
            "aggregating" => drop(client.enqueue(&unique.group("g")).await),
            _ => {}
        }
        assert!(id.starts_with(&pair.look("default", &id).await.unwrap().state), "{id}");
        let before = pair.raw().await;
        if ours {
            pair.storage.run_task(&queue, &task_id(&id)).await.unwrap();
        } else {
            pair.go.run("default", &id).await.unwrap();
        }
        assert_eq!(pair.look("default", &id).await.unwrap().state, "pending");
        let after = pair.raw().await;
        assert_eq!(locks(&before), locks(&after), "{id}");
    }
    let raw = pair.raw().await;
    let hash = |id: &str| match &raw[&format!("asynq:{{default}}:t:{id}")] {
        RawValue::Hash(fields) => fields.clone(),
        other => panic!("{id}: {other:?}"),
    };
    for state in states {
        let [(ours, _), (gos, _)] = twins(state);
        let (mut ours, mut gos) = (hash(&ours), hash(&gos));
        // Go leaves the latency unknown (differences.md#pending-since), and the task bound to its group
        // (differences.md#the-group-field).
        assert!(
            ours.remove("pending_since").is_some() && !gos.contains_key("pending_since"),
            "{state}"
        );
        assert_eq!(gos.remove("group").is_some(), state == "aggregating");
        for fields in [&mut ours, &mut gos] {
            // They name the task.
            fields.retain(|field, _| field != "msg" && field != "unique_key");
        }
        assert_eq!(ours, gos, "{state}");
    }
    let order: Vec<_> = states.iter().flat_map(|state| twins(state)).map(|(id, _)| id).collect();
    let pending = pair.list("default", TaskState::Pending).await;
    assert_eq!(pending.iter().map(|task| task.id.clone()).collect::<Vec<_>>(), order);
    assert_eq!(pair.groups("default").await, []);

    // Both refuse the same.
    pair.go.pause("default").await.unwrap();
    for id in [&order[0], &"nobody".to_owned()] {
        let gos = pair.go.run("default", id).await.unwrap_err();
        match pair.storage.run_task(&queue, &task_id(id)).await.unwrap_err() {
            BrokerError::WrongState { state, .. } => {
                assert_eq!(state, TaskState::Pending);
                assert!(gos.text.ends_with("task is already in pending state"), "{gos}");
            }
            error => {
                assert!(matches!(error, BrokerError::TaskNotFound { .. }), "{error}");
                assert_eq!(gos.kind, GoErrorKind::TaskNotFound);
            }
        }
    }
    pair.go.unpause("default").await.unwrap();
    let mut gos = ServerProcess::go(&address).start().await;
    for id in &order {
        gos.ended(id).await;
        pair.until_gone("default", id).await;
    }
    gos.shutdown().await;
    assert_eq!(locks(&pair.raw().await), Vec::<String>::new());
    assert_eq!(pair.breaches().await, []);
}

fn task_id(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

/// The unique locks that are held.
fn locks(raw: &RawState) -> Vec<String> {
    raw.keys().filter(|key| key.contains(":unique:")).cloned().collect()
}
