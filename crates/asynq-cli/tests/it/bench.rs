//! `asynq bench`.

use asynq::{AsynqSystem, ServerConfig, Task, info::QueueInfo, redis::RedisConnectionType};
use asynq_testing::request::request;

use rustix::process::Signal;

use crate::support::{Fixture, eventually, interrupt, read_all, signal};

const SMALL: [&str; 4] = ["bench", "--tasks", "300", "--yes"];

#[tokio::test]
async fn a_load_is_measured_and_leaves_nothing() {
    let fixture = Fixture::filled().await;
    let own = |key: &String| key.starts_with("asynq:x:");
    let tasks = async || {
        let mut state = fixture.redis.client().await.raw_state().await;
        state.retain(|key, _| !own(key));
        state
    };
    let before = tasks().await;
    let text = fixture.asynq(SMALL).ok().await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("300 tasks of 100 bytes in queue asynq-cli-bench at redis://127.0.0.1:"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("Enqueued ") && lines[2].starts_with("Processed "),
        "{text}"
    );
    assert!(lines[3].ends_with("200 tasks one at a time"), "{text}");
    assert_eq!(lines[4], "The queue is removed.");
    assert_eq!(tasks().await, before);

    let json = fixture
        .asynq(SMALL)
        .args(["--payload-bytes", "0", "--concurrency", "2"])
        .json()
        .await;
    assert_eq!(
        (&json["tasks"], &json["payload_bytes"], &json["removed"]),
        (&300.into(), &0.into(), &true.into())
    );
    for rate in [
        "enqueued_per_second",
        "processed_per_second",
        "latency_p50_seconds",
        "latency_p99_seconds",
    ] {
        assert!(json[rate].as_f64().unwrap() > 0.0, "{rate}: {json}");
    }
    assert!(json["latency_p50_seconds"].as_f64() <= json["latency_p99_seconds"].as_f64());
}

#[tokio::test]
async fn a_queue_in_use_is_refused() {
    let fixture = Fixture::filled().await;
    let before = fixture.redis.client().await.raw_state().await;
    let error = fixture.asynq(SMALL).args(["--queue", "default"]).fails(4).await;
    assert!(
        error.contains("queue \"default\" exists, with 8 tasks, nothing was changed"),
        "{error}"
    );
    let error = fixture.asynq(["bench"]).fails(4).await;
    assert!(
        error.contains("Load queue asynq-cli-bench at redis://127.0.0.1:") && error.contains("not confirmed"),
        "{error}"
    );
    fixture.asynq(SMALL).args(["--read-only"]).fails(4).await;
    fixture.asynq(SMALL).args(["--queue", " "]).fails(2).await;
    fixture.asynq(["bench", "--tasks", "0"]).fails(2).await;
    assert_eq!(fixture.redis.client().await.raw_state().await, before);

    let system = AsynqSystem::builder(RedisConnectionType::single(fixture.redis.url()).unwrap())
        .config(ServerConfig::new().queues([("served", 1)]))
        .handler(async |_: Task| Ok(()))
        .spawn()
        .await
        .unwrap();
    let inspector = fixture.inspector();
    eventually("the server shows", async || {
        !inspector.servers().await.unwrap().is_empty()
    })
    .await;
    let error = fixture.asynq(SMALL).args(["--queue", "served"]).fails(4).await;
    assert!(error.contains("takes from queue \"served\""), "{error}");
    system.shutdown().await;
}

#[tokio::test]
async fn a_queue_is_kept_if_that_is_asked_for() {
    let fixture = Fixture::start().await;
    let text = fixture.asynq(SMALL).args(["--keep"]).ok().await;
    assert!(text.ends_with("The queue is kept.\n"), "{text}");
    let stats = fixture.inspector().get_queue_stats("asynq-cli-bench").await.unwrap();
    assert_eq!((stats.size(), stats.processed), (0, 500));
    // Only the default queue may exist.
    let error = fixture
        .asynq(SMALL)
        .args(["--queue", "kept"])
        .args(["--keep"])
        .ok()
        .await;
    assert!(error.ends_with("The queue is kept.\n"), "{error}");
    let error = fixture.asynq(SMALL).args(["--queue", "kept"]).fails(4).await;
    assert!(
        error.contains("queue \"kept\" exists, with 0 tasks, nothing was changed"),
        "{error}"
    );
    fixture.inspector().delete_queue("kept", false).await.unwrap();
    // Empty, it can be used again, and then it is removed.
    fixture.asynq(SMALL).ok().await;
    assert!(fixture.inspector().queues().await.unwrap().is_empty());
}

/// While it enqueues, and while it drains.
#[tokio::test]
async fn signals_remove_the_queue() {
    let fixture = Fixture::start().await;
    let enqueues = (|stats| stats.pending > 100) as fn(QueueInfo) -> bool;
    for (sent, tasks, has_begun) in [
        (Signal::INT, "1000000", enqueues),
        (Signal::TERM, "1000000", enqueues),
        (Signal::HUP, "50000", |stats| stats.processed > 10),
    ] {
        let mut child = fixture
            .asynq(["bench", "--tasks", tasks, "--concurrency", "1", "--yes"])
            .spawn();
        let inspector = fixture.inspector();
        eventually("it has begun", async || {
            inspector.get_queue_stats("asynq-cli-bench").await.is_ok_and(has_begun)
        })
        .await;
        signal(&child, sent);
        let errors = read_all(child.stderr.as_mut().unwrap()).await;
        assert_eq!(child.wait().await.unwrap().code(), Some(1), "{errors}");
        assert!(
            errors.contains("stopped before the end\nQueue asynq-cli-bench is removed."),
            "{errors}"
        );
        let keys = fixture.redis.client().await.keys().await;
        assert!(keys.iter().all(|key| !key.starts_with(b"asynq:{")), "{keys:?}");
        assert!(inspector.queues().await.unwrap().is_empty());
    }
}

/// Tasks that somebody else puts into the queue meanwhile stay.
#[tokio::test]
async fn foreign_tasks_are_not_removed() {
    let fixture = Fixture::start().await;
    let mut child = fixture.asynq(["bench", "--tasks", "1000000", "--yes"]).spawn();
    let inspector = fixture.inspector();
    eventually("the load has begun", async || {
        inspector
            .get_queue_stats("asynq-cli-bench")
            .await
            .is_ok_and(|stats| stats.pending > 100)
    })
    .await;
    fixture
        .enqueue(request("asynq-cli-bench", "mine").at(crate::support::in_secs(3600)))
        .await;
    interrupt(&child);
    let errors = read_all(child.stderr.as_mut().unwrap()).await;
    assert_eq!(child.wait().await.unwrap().code(), Some(1), "{errors}");
    assert!(errors.contains("could not be removed"), "{errors}");
    let stats = inspector.get_queue_stats("asynq-cli-bench").await.unwrap();
    assert_eq!((stats.size(), stats.scheduled), (1, 1));
}

/// A task that somebody else puts into the queue during the drain is neither run nor counted.
#[tokio::test]
async fn foreign_tasks_are_not_run() {
    let fixture = Fixture::start().await;
    let arguments = ["bench", "--tasks", "20000", "--concurrency", "1", "--yes"];
    let mut child = fixture.asynq(arguments).spawn();
    let inspector = fixture.inspector();
    eventually("it drains", async || {
        let stats = inspector.get_queue_stats("asynq-cli-bench").await;
        stats.is_ok_and(|stats| stats.processed > 10)
    })
    .await;
    fixture.enqueue(request("asynq-cli-bench", "mine")).await;
    let errors = read_all(child.stderr.as_mut().unwrap()).await;
    assert_eq!(child.wait().await.unwrap().code(), Some(1), "{errors}");
    assert!(errors.contains("somebody else has put a task of type"), "{errors}");
    assert!(errors.contains("could not be removed"), "{errors}");
    let stats = inspector.get_queue_stats("asynq-cli-bench").await.unwrap();
    assert_eq!((stats.size(), stats.pending), (1, 1));
    inspector.get_task_info("asynq-cli-bench", "mine").await.unwrap();
    // The queue is not taken again.
    let error = fixture.asynq(SMALL).fails(4).await;
    assert!(error.contains("has 1 tasks that are not of an earlier load"), "{error}");
    assert_eq!(inspector.get_queue_stats("asynq-cli-bench").await.unwrap().size(), 1);
}

/// Tasks of a load that was killed are removed by the next one.
#[tokio::test]
async fn a_load_that_was_killed_is_removed_by_the_next() {
    let fixture = Fixture::start().await;
    let mut child = fixture.asynq(["bench", "--tasks", "1000000", "--yes"]).spawn();
    let inspector = fixture.inspector();
    eventually("the load has begun", async || {
        let stats = inspector.get_queue_stats("asynq-cli-bench").await;
        stats.is_ok_and(|stats| stats.pending > 100)
    })
    .await;
    child.kill().await.unwrap();
    let ended = fixture.asynq(SMALL).run().await;
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("that an earlier load has left"),
        "{}",
        ended.stderr
    );
    assert!(inspector.queues().await.unwrap().is_empty());
    // But not tasks that count as running.
    let own = request("asynq-cli-bench", "run").task_type("asynq-cli:bench");
    fixture.put(own, asynq::TaskState::Active).await;
    let error = fixture.asynq(SMALL).fails(4).await;
    assert!(error.contains("has 1 tasks that run, nothing was changed"), "{error}");
}
