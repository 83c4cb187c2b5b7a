//! `asynq findings`.

use asynq::{AsynqSystem, Error, Task, redis::RedisConnectionType};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{Fixture, PATIENCE, eventually};

async fn set_eviction(fixture: &Fixture, policy: &str) {
    fixture
        .redis
        .client()
        .await
        .ok(&["CONFIG", "SET", "maxmemory-policy", policy])
        .await;
}

/// A queue with a task that is late by a day, and another one with a task that has just come.
async fn neglected() -> Fixture {
    let fixture = Fixture::start().await;
    let client = fixture.client().await;
    for (queue, id) in [("late", "a"), ("fresh", "b")] {
        let task = Task::new("mail\u{1b}[31m", b"1").unwrap();
        client.enqueue(task.with_task_id(id).with_queue(queue)).await.unwrap();
    }
    let mut raw = fixture.redis.client().await;
    raw.ok(&["HSET", "asynq:{late}:t:a", "pending_since", "1000000000"])
        .await;
    set_eviction(&fixture, "noeviction").await;
    fixture
}

#[tokio::test]
async fn a_finding_has_its_command_below_it() {
    let fixture = neglected().await;
    let text = fixture.asynq(["findings"]).ok().await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("critical: queue \"late\": no running server takes from it; 1 task pending"),
        "{text}"
    );
    assert_eq!(lines[1], "    asynq server list");
    assert_eq!(lines.last(), Some(&"1 finding in 2 queues"));

    let json = fixture.asynq(["findings"]).json().await;
    assert_eq!(json[0]["severity"], "critical");
    assert_eq!(json[0]["queue"], "late");
    assert_eq!(json[0]["pending"], 1, "{json}");
    assert_eq!(json[0]["command"], "asynq server list");
    assert_eq!(fixture.asynq(["findings"]).ndjson().await, [json[0].clone()]);
}

#[tokio::test]
async fn the_exit_status_tells_whether_there_is_a_severe_finding() {
    let fixture = neglected().await;
    set_eviction(&fixture, "allkeys-lru").await;
    let ended = fixture.asynq(["findings", "--fail-on", "critical"]).run().await;
    assert_eq!(ended.status, 1);
    assert!(ended.stdout.ends_with("2 findings in 2 queues\n"), "{ended:?}");
    assert!(
        ended.stderr.contains("2 findings of severity critical or above"),
        "{ended:?}"
    );
    // What is not shown counts too, and what is about other queues does not.
    set_eviction(&fixture, "noeviction").await;
    let hidden = ["findings", "late", "--severity", "critical", "--fail-on", "notice"];
    assert_eq!(fixture.asynq(hidden).run().await.status, 1);
    let text = fixture.asynq(["findings", "fresh", "--fail-on", "notice"]).ok().await;
    assert_eq!(text, "0 findings in 1 queue\n");
    let error = fixture.asynq(["findings", "nowhere"]).fails(3).await;
    assert!(error.contains("queue \"nowhere\" does not exist"), "{error}");
}

#[tokio::test]
async fn errors_are_grouped_by_what_they_have_in_common() {
    let fixture = Fixture::start().await;
    let system = AsynqSystem::builder(RedisConnectionType::single(fixture.redis.url()).unwrap())
        .handler(|task: Task| async move {
            Err(Error::other(format!(
                "user {} not found",
                String::from_utf8_lossy(task.get_payload())
            )))
        })
        .spawn()
        .await
        .unwrap();
    for user in 1..=3 {
        let task = Task::new("mail", user.to_string().as_bytes()).unwrap();
        system.client().enqueue(task).await.unwrap();
    }
    let inspector = fixture.inspector();
    eventually("three failures", async || {
        inspector.get_queue_stats("default").await.unwrap().retry == 3
    })
    .await;
    system.shutdown().await;

    let text = fixture.asynq(["findings", "--errors"]).ok().await;
    assert!(text.starts_with("default: all 3 tasks looked at\n"), "{text}");
    assert!(text.contains("3      "), "{text}");
    assert!(text.contains("user <n> not found"), "{text}");
    let text = fixture
        .asynq(["findings", "--errors", "default", "--tasks", "2"])
        .ok()
        .await;
    assert!(
        text.starts_with("default: the first 2 tasks looked at, of 3\n"),
        "{text}"
    );

    let json = fixture.asynq(["findings", "--errors"]).json().await;
    assert_eq!(json[0]["queue"], "default");
    assert_eq!(json[0]["top"][0]["count"], 3);
    assert_eq!((&json[0]["looked_at"], &json[0]["total"]), (&3.into(), &3.into()));
    fixture.asynq(["findings", "--errors", "nowhere"]).fails(3).await;
}

#[tokio::test]
async fn nothing_is_found_where_nothing_is_wrong() {
    let fixture = Fixture::start().await;
    set_eviction(&fixture, "noeviction").await;
    assert_eq!(
        fixture.asynq(["findings", "--fail-on", "notice"]).ok().await,
        "0 findings in 0 queues\n"
    );
    assert_eq!(fixture.asynq(["findings"]).json().await, serde_json::json!([]));
    assert_eq!(fixture.asynq(["findings", "--errors"]).ok().await, "no queues\n");
    // Watched, it looks again.
    let mut watched = fixture.asynq(["findings", "--watch", "100ms"]).spawn();
    let mut lines = BufReader::new(watched.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(line.as_deref(), Some("0 findings in 0 queues"));
    }
}
