//! `asynq top`.

use std::time::Duration;

use asynq::{AsynqSystem, Error, ServerConfig, Task, redis::RedisConnectionType};
use tokio::sync::Notify;

use crate::support::{EVIL_TYPE, Fixture, eventually};

/// Four tasks of `mail` that succeed and are kept, one of `fax` that fails, one of `export` that runs on, and one of
/// `forgotten` that succeeds and leaves nothing.
async fn work(fixture: &Fixture) -> AsynqSystem {
    let system = AsynqSystem::builder(RedisConnectionType::single(fixture.redis.url()).unwrap())
        .handler(async |task: Task| match task.get_type() {
            "export" => std::future::pending().await,
            "fax" => Err(Error::other("no paper")),
            _ => Ok(()),
        })
        .config(
            ServerConfig::new()
                .shutdown_timeout(Duration::ZERO)
                .heartbeat_interval(Duration::from_millis(100)),
        )
        .spawn()
        .await
        .unwrap();
    for (task_type, count) in [("mail", 4), ("fax", 1), ("export", 1), ("forgotten", 1)] {
        for _ in 0..count {
            let task = Task::new(task_type, b"1").unwrap();
            let kept = if task_type == "mail" { 3600 } else { 0 };
            system
                .client()
                .enqueue(task.with_retention(Duration::from_secs(kept)))
                .await
                .unwrap();
        }
    }
    let inspector = fixture.inspector();
    eventually("all have run", async || {
        let stats = inspector.get_queue_stats("default").await.unwrap();
        (stats.completed, stats.retry, stats.active, stats.processed) == (4, 1, 1, 6)
    })
    .await;
    eventually("the worker is published", async || {
        !inspector.workers().await.unwrap().is_empty()
    })
    .await;
    system
}

#[tokio::test]
async fn types_are_told_as_far_as_they_are_known() {
    let fixture = Fixture::start().await;
    assert!(fixture.asynq(["top", "--for", "0s"]).ok().await.contains("no queues"));
    let system = work(&fixture).await;
    let json = fixture.asynq(["top", "--for", "100ms"]).json().await;
    assert_eq!((&json["tasks_looked_at"], &json["tasks"]), (&5.into(), &5.into()));
    assert!(json["window_seconds"].as_f64().unwrap() >= 0.1);
    assert_eq!(json["queues"][0]["queue"], "default");
    assert_eq!(json["queues"][0]["processed_per_second"], 0.0);
    let one = |name: &str| {
        let types = json["types"].as_array().unwrap();
        types
            .iter()
            .find(|one| one["type"] == name)
            .unwrap_or_else(|| panic!("{name}: {json}"))
            .clone()
    };
    let mail = one("mail");
    assert_eq!(
        (&mail["runs"], &mail["done"], &mail["failed"], &mail["running"]),
        (&4.into(), &4.into(), &0.into(), &0.into())
    );
    assert!(mail["median_seconds"].as_f64().unwrap() <= mail["p95_seconds"].as_f64().unwrap());
    let fax = one("fax");
    assert_eq!((&fax["runs"], &fax["failed"]), (&1.into(), &1.into()));
    let export = one("export");
    assert_eq!((&export["running"], &export["runs"]), (&1.into(), &0.into()));
    assert!(export["oldest_run_seconds"].as_f64().is_some() && export["median_seconds"].is_null());
    // What left no record is not told, and is not made up.
    assert_eq!(json["types"].as_array().unwrap().len(), 3, "{json}");

    let json = fixture.asynq(["top", "--for", "0s", "--tasks", "3"]).json().await;
    assert_eq!((&json["tasks_looked_at"], &json["tasks"]), (&3.into(), &5.into()));

    let text = fixture.asynq(["top", "default", "--for", "0s"]).ok().await;
    assert!(text.contains("the runs of 5 of 5 tasks that have run"), "{text}");
    let row = |name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    // No time between the looks: no rates.
    assert_eq!(row("default ")[..6], ["default", "run", "-", "-", "0", "1"]);
    assert_eq!(row("fax ")[..6], ["fax", "-", "0", "-", "1", "1"]);
    assert_eq!(row("export ")[4..], ["-", "-", "-", "-"]);
    system.shutdown().await;
}

/// Servers write them every 10 s, and at their end.
#[tokio::test]
async fn statistics_tell_of_all_runs() {
    let fixture = Fixture::start().await;
    let system = work(&fixture).await;
    system.shutdown().await;
    let json = fixture.asynq(["top", "--for", "0s"]).json().await;
    let types = json["statistics"]["types"].as_array().unwrap();
    let one = |name: &str| types.iter().find(|one| one["type"] == name).unwrap();
    // Even those that leave no record.
    assert_eq!(one("forgotten")["runs"]["done"], 1);
    assert_eq!(
        (&one("mail")["runs"]["total"], &one("fax")["runs"]["failed"]),
        (&4.into(), &1.into())
    );
    assert_eq!(one("export")["runs"]["given_back"], 1);
    assert!(one("mail")["run_seconds"]["p95"].as_f64().is_some(), "{json}");
    assert!(one("mail")["runs_per_second"].as_f64().unwrap() > 0.0, "{json}");
    assert_eq!(one("mail")["queues"][0], "default");
    let text = fixture.asynq(["top", "--for", "0s"]).ok().await;
    let table = text.split_once("Statistics of the last 10 minutes").unwrap().1;
    let row = table.lines().find(|line| line.starts_with("fax ")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>()[2..4], ["1", "1"], "{text}");
}

/// Servers of Go keep none.
#[tokio::test]
async fn without_statistics_none_are_shown() {
    let fixture = Fixture::filled().await;
    let json = fixture.asynq(["top", "--for", "0s"]).json().await;
    assert!(json["statistics"].is_null(), "{json}");
    let text = fixture.asynq(["top", "--for", "0s"]).ok().await;
    assert!(!text.contains("Statistics"), "{text}");
}

#[tokio::test]
async fn rates_come_from_two_looks() {
    let fixture = Fixture::start().await;
    let begun = std::sync::Arc::new(Notify::new());
    let system = AsynqSystem::builder(RedisConnectionType::single(fixture.redis.url()).unwrap())
        .handler(async |_: Task| Ok(()))
        .spawn()
        .await
        .unwrap();
    let client = system.client().clone();
    let stop = std::sync::Arc::clone(&begun);
    let load = async move {
        loop {
            let task = Task::new("mail", b"1").unwrap().with_retention(Duration::from_secs(60));
            client.enqueue(task).await.unwrap();
            tokio::select! {
                () = stop.notified() => break,
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    };
    let look = async {
        let inspector = fixture.inspector();
        eventually("a task is done", async || {
            inspector
                .get_queue_stats("default")
                .await
                .is_ok_and(|stats| stats.completed > 0)
        })
        .await;
        let json = fixture.asynq(["top", "--for", "1s"]).json().await;
        begun.notify_one();
        json
    };
    let ((), json) = tokio::join!(load, look);
    assert!(
        json["queues"][0]["processed_per_second"].as_f64().unwrap() > 0.0,
        "{json}"
    );
    assert!(json["types"][0]["least_per_second"].as_f64().unwrap() > 0.0, "{json}");
    system.shutdown().await;
}

#[tokio::test]
async fn the_sample_is_bounded_and_says_so() {
    let fixture = Fixture::filled().await;
    let json = fixture.asynq(["top", "--for", "0s", "--tasks", "2"]).json().await;
    assert_eq!((&json["tasks_looked_at"], &json["tasks"]), (&2.into(), &3.into()));
    let json = fixture.asynq(["top", "--for", "0s", "--tasks", "0"]).json().await;
    assert_eq!(json["tasks_looked_at"], 0);
    fixture.asynq(["top", "nowhere", "--for", "0s"]).fails(3).await;
    fixture.asynq(["top", "--for", "2h"]).fails(2).await;
    // A type that would turn the terminal red does not.
    let text = fixture.asynq(["top", "--for", "0s"]).ok().await;
    assert!(!text.contains('\u{1b}') && !text.contains(EVIL_TYPE), "{text}");
}

/// Those that ran last, from several pages of a list.
#[tokio::test]
async fn the_sample_is_of_the_last_tasks() {
    let fixture = Fixture::start().await;
    let system = AsynqSystem::builder(RedisConnectionType::single(fixture.redis.url()).unwrap())
        .config(ServerConfig::new().concurrency(1))
        .handler(async |_: Task| Ok(()))
        .spawn()
        .await
        .unwrap();
    let inspector = fixture.inspector();
    let mut done = 0;
    for (task_type, count) in [("first", 5), ("last", 35)] {
        for number in 0..count {
            let task = Task::new(task_type, b"1")
                .unwrap()
                .with_retention(Duration::from_secs(3600));
            let task = task.with_task_id(format!("{task_type}{number}"));
            system.client().enqueue(task).await.unwrap();
        }
        done += count;
        eventually("they are done", async || {
            let stats = inspector.get_queue_stats("default").await.unwrap();
            stats.completed == done
        })
        .await;
    }
    for (tasks, runs) in [
        ("20", &[("last", 20)][..]),
        ("32", &[("last", 32)]),
        ("37", &[("first", 2), ("last", 35)]),
        ("100", &[("first", 5), ("last", 35)]),
    ] {
        let json = fixture.asynq(["top", "--for", "0s", "--tasks", tasks]).json().await;
        let types = json["types"].as_array().unwrap();
        let mut found: Vec<(&str, u64)> = types
            .iter()
            .map(|one| (one["type"].as_str().unwrap(), one["runs"].as_u64().unwrap()))
            .collect();
        found.sort_unstable();
        assert_eq!(found, runs, "{json}");
    }
    system.shutdown().await;
}
