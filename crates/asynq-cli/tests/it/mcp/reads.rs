//! Tools that read.

use std::{collections::BTreeSet, time::Duration};

use asynq::{AsynqSystem, ServerConfig, Task, redis::RedisConnectionType};
use serde_json::{Value, json};

use super::Client;
use crate::support::{Fixture, ODD_QUEUE, eventually};

#[tokio::test]
async fn each_tool_that_reads_answers() {
    let fixture = Fixture::filled().await;
    let mut client = Client::start(&fixture, &[]).await;

    let queues = client.ok("list_queues", json!({})).await;
    let listed: Vec<&Value> = queues["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| &queue["queue"])
        .collect();
    assert_eq!(listed, [ODD_QUEUE, "default", "low"]);
    let part = client.ok("list_queues", json!({"limit": 1, "after": ODD_QUEUE})).await;
    assert_eq!(
        (&part["queues"][0]["queue"], &part["more"]),
        (&"default".into(), &1.into())
    );
    let stats = client.ok("queue_stats", json!({"queue": "low"})).await;
    assert_eq!((&stats["paused"], &stats["pending"]), (&true.into(), &5.into()));
    let history = client.ok("queue_history", json!({"queue": "default", "days": 2})).await;
    assert_eq!(history["days"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&history["days"][0]["processed"], &history["days"][0]["failed"]),
        (&3.into(), &2.into())
    );

    let tasks = client
        .ok("list_tasks", json!({"queue": "default", "state": "retry"}))
        .await;
    assert_eq!(
        (&tasks["tasks"][0]["id"], &tasks["tasks"][0]["last_error"]),
        (&"retry".into(), &"boom".into())
    );
    let tasks = client
        .ok(
            "list_tasks",
            json!({"queue": "default", "state": "aggregating", "group": "g"}),
        )
        .await;
    assert_eq!(tasks["tasks"][0]["id"], "aggregating");
    let tasks = client
        .ok(
            "list_tasks",
            json!({"queue": "low", "state": "pending", "page": 2, "limit": 2}),
        )
        .await;
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 2);
    let task = client
        .ok("get_task", json!({"queue": "default", "id": "completed"}))
        .await;
    assert_eq!(
        (&task["state"], &task["result"]["value"]["ok"]),
        (&"completed".into(), &true.into())
    );
    let task = client.ok("get_task", json!({"queue": "low", "id": "json"})).await;
    let text = task["payload"]["value"].as_str().unwrap();
    assert!(text.contains("12345678901234567890123"), "no digit is lost: {task}");
    let task = client
        .ok("get_task", json!({"queue": ODD_QUEUE, "id": "id/with blank ü"}))
        .await;
    assert_eq!(task["payload"], json!({"encoding": "text", "value": "odd"}));

    let found = client
        .ok("search_tasks", json!({"query": "state=retry,archived error~boom"}))
        .await;
    assert_eq!(found["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&found["is_complete"], &found["next_cursor"]),
        (&true.into(), &Value::Null)
    );
    let count = client.ok("count_tasks", json!({"query": "queue=default"})).await;
    assert_eq!((&count["tasks"], &count["is_complete"]), (&8.into(), &true.into()));
    let groups = client.ok("list_groups", json!({"queue": "default"})).await;
    let listed: BTreeSet<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["group"].as_str().unwrap())
        .collect();
    assert_eq!(listed, ["g", "g{2}:x"].into());

    assert_eq!(client.ok("list_servers", json!({})).await, json!({"servers": []}));
    assert_eq!(
        client.ok("list_workers", json!({})).await,
        json!({"workers": [], "more": 0})
    );
    assert_eq!(client.ok("supervision_trees", json!({})).await, json!({"trees": []}));
    assert_eq!(client.ok("scheduler_entries", json!({})).await, json!({"entries": []}));
    assert_eq!(
        client.ok("scheduler_events", json!({"entry": "none"})).await["events"],
        json!([])
    );

    let findings = client.ok("findings", json!({"severity": "critical"})).await;
    assert_eq!(findings["queues"], 3);
    let errors = client.ok("error_signatures", json!({"queue": "default"})).await;
    assert_eq!(
        (&errors["top"][0]["signature"], &errors["top"][0]["count"]),
        (&"boom".into(), &2.into())
    );
    let check = client.ok("doctor_check", json!({})).await;
    assert_eq!(
        (&check["is_complete"], &check["queues"]),
        (&true.into(), &3.into()),
        "{check}"
    );
    let trail = client.ok("audit_trail", json!({"queue": "low"})).await;
    assert_eq!(trail["acts"][0]["act"], "pause_queue");
    assert_eq!(
        client.ok("audit_trail", json!({"actor": "nobody"})).await["acts"],
        json!([])
    );
    let info = client.ok("redis_info", json!({})).await;
    assert!(info["nodes"][0]["info"]["redis_version"].is_string(), "{info}");
    let all = client.ok("redis_info", json!({"all": true})).await;
    let size = |info: &Value| info["nodes"][0]["info"].as_object().unwrap().len();
    assert!(size(&all) > size(&info));
    let runs = client
        .ok(
            "next_cron_runs",
            json!({"spec": "0 9 * * mon", "count": 3, "time_zone": "Asia/Tokyo"}),
        )
        .await;
    assert_eq!(runs["times"].as_array().unwrap().len(), 3);
    assert!(
        runs["times"][0].as_str().unwrap().ends_with("T09:00:00+09:00"),
        "{runs}"
    );
    assert_eq!(client.end().await, (Some(0), String::new()));
}

#[tokio::test]
async fn a_search_tells_how_far_it_looked_and_goes_on() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("many", "t", 1000).await;
    let mut client = Client::start(&fixture, &[]).await;
    let (mut found, mut cursor, mut calls) = (BTreeSet::new(), Value::Null, 0);
    loop {
        let arguments = json!({"query": "id$=7", "limit": 30, "look_at": 400, "cursor": cursor});
        let part = client.ok("search_tasks", arguments).await;
        assert!(part["looked_at"].as_u64().unwrap() <= 400, "{part}");
        found.extend(
            part["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["id"].to_string()),
        );
        calls += 1;
        cursor = part["next_cursor"].clone();
        assert_eq!(part["is_complete"], cursor.is_null());
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(found.len(), 100);
    assert!(calls >= 3, "{calls}");
    let count = client
        .ok("count_tasks", json!({"query": "id$=7", "look_at": 400}))
        .await;
    assert_eq!(count["is_complete"], false, "{count}");
}

#[tokio::test]
async fn wrong_arguments_are_told_to_the_model() {
    let fixture = Fixture::filled().await;
    let mut client = Client::start(&fixture, &[]).await;
    for (tool, arguments, expected) in [
        ("queue_stats", json!({}), "missing field `queue`"),
        (
            "queue_stats",
            json!({"queue": "default", "more": 1}),
            "unknown field `more`",
        ),
        (
            "queue_stats",
            json!({"queue": "nowhere"}),
            "queue \"nowhere\" does not exist\n`list_queues` lists",
        ),
        ("queue_stats", json!({"queue": " "}), "queue must contain"),
        (
            "get_task",
            json!({"queue": "default", "id": "none"}),
            "cannot find task",
        ),
        (
            "list_tasks",
            json!({"queue": "default", "state": "lost"}),
            "unknown variant `lost`",
        ),
        (
            "list_tasks",
            json!({"queue": "default", "state": "retry", "limit": 101}),
            "`limit` is 101, must be 1 to 100",
        ),
        (
            "list_tasks",
            json!({"queue": "default", "state": "aggregating"}),
            "group",
        ),
        (
            "search_tasks",
            json!({"query": "state=retry age>soon"}),
            "                  ^",
        ),
        ("search_tasks", json!({"query": ""}), "wrong query"),
        (
            "search_tasks",
            json!({"query": "state=retry", "cursor": "made up"}),
            "cursor",
        ),
        (
            "list_tasks",
            json!({"queue": "default", "state": "retry", "group": "g"}),
            "`group` goes with the state `aggregating` only",
        ),
        (
            "doctor_check",
            json!({"place": "x", "queue": "default"}),
            "`queue` and `place` exclude each other",
        ),
        ("doctor_check", json!({"place": "made up"}), "`place` is none"),
        ("next_cron_runs", json!({"spec": "every monday"}), "every monday"),
        (
            "doctor_check",
            json!({"queue": "nowhere"}),
            "queue \"nowhere\" does not exist",
        ),
        (
            "next_cron_runs",
            json!({"spec": "@daily", "time_zone": "Mars"}),
            "\"Mars\"",
        ),
        (
            "queue_history",
            json!({"queue": "default", "days": 0}),
            "must be 1 to 90",
        ),
        (
            "queue_history",
            json!({"queue": "default", "days": -1}),
            "invalid value",
        ),
    ] {
        let error = client.fails(tool, arguments.clone()).await;
        assert!(error.contains(expected), "{tool} {arguments}: {error}");
    }
    // What is no tool is an error of the protocol, and what is no message does not end the server.
    let answer = client
        .call("tools/call", json!({"name": "drop_everything", "arguments": {}}))
        .await;
    assert!(answer["error"]["message"].is_string(), "{answer}");
    let answer = client.call("no/such/method", json!({})).await;
    assert!(answer["error"].is_object(), "{answer}");
    client.ok("queue_stats", json!({"queue": "default"})).await;
}

/// Running tasks are shown with their server, and their payloads are hidden where that is configured.
#[tokio::test]
async fn running_servers_are_shown() {
    let fixture = Fixture::start().await;
    let config = ServerConfig::new()
        .queues([("q", 3)])
        .shutdown_timeout(Duration::ZERO)
        .heartbeat_interval(Duration::from_millis(100));
    let system = AsynqSystem::builder(RedisConnectionType::single(fixture.redis.url()).unwrap())
        .config(config)
        .handler(async |_: Task| std::future::pending().await)
        .spawn()
        .await
        .unwrap();
    for (id, task_type) in [("a", "mail"), ("b", "card")] {
        let task = Task::new(task_type, b"4242").unwrap().with_queue("q").with_task_id(id);
        system.client().enqueue(task).await.unwrap();
    }
    let inspector = fixture.inspector();
    eventually("both tasks show", async || {
        inspector.workers().await.unwrap().len() == 2
    })
    .await;

    let mut client = Client::start(&fixture, &["--redact", "card"]).await;
    let servers = client.ok("list_servers", json!({})).await["servers"].clone();
    assert_eq!(
        (&servers[0]["queues"], &servers[0]["state"]),
        (&json!({"q": 3}), &"active".into()),
        "{servers}"
    );
    let workers = client.ok("list_workers", json!({"queue": "q"})).await["workers"].clone();
    for worker in workers.as_array().unwrap() {
        assert_eq!(
            worker["payload"]["encoding"] == "redacted",
            worker["type"] == "card",
            "{worker}"
        );
        let server = worker["server"].as_str().unwrap();
        assert!(server.ends_with(servers[0]["id"].as_str().unwrap()), "{worker}");
    }
    let some = client.ok("list_workers", json!({"limit": 1})).await;
    assert_eq!(
        (some["workers"].as_array().unwrap().len(), &some["more"]),
        (1, &1.into())
    );
    assert_eq!(
        client.ok("list_workers", json!({"queue": "other"})).await["workers"],
        json!([])
    );
    let trees = client.ok("supervision_trees", json!({})).await["trees"].clone();
    assert_eq!(
        (&trees[0]["server_id"], &trees[0]["tree"]["name"]),
        (&servers[0]["id"], &"system".into())
    );
    system.shutdown().await;
}
