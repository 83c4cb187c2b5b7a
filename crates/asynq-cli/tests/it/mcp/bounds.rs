//! Payloads that are hidden, and answers that are cut.

use asynq::info::SchedulerEntry;
use asynq_testing::request::request;
use serde_json::json;

use super::Client;
use crate::support::Fixture;

#[tokio::test]
async fn payloads_are_hidden_as_configured() {
    let fixture = Fixture::start().await;
    for (id, task_type, payload) in [
        ("a", "card:charge", r#"{"number":4242}"#),
        ("b", "card", r#"{"number":4343}"#),
        ("c", "mail", r#"{"number":4444}"#),
        ("d", "login", r#"{"number":4545}"#),
    ] {
        fixture
            .enqueue(request("q", id).task_type(task_type).payload(payload))
            .await;
    }
    let uri = fixture.redis.url();
    fixture.write_home(
        ".asynq.yaml",
        &format!("context: dev\ncontexts:\n  dev:\n    uri: {uri}\n    redact: ['card:*']\n"),
    );
    let mut client = Client::start(&fixture, &["--redact", "login"]).await;
    let hidden = json!({"encoding": "redacted"});
    for (id, is_hidden) in [("a", true), ("b", false), ("c", false), ("d", true)] {
        let task = client.ok("get_task", json!({"queue": "q", "id": id})).await;
        assert_eq!(task["payload"] == hidden, is_hidden, "{task}");
    }
    let tasks = client
        .ok("list_tasks", json!({"queue": "q", "state": "pending"}))
        .await
        .to_string();
    assert!(
        !tasks.contains("4242") && !tasks.contains("4545") && tasks.contains("4444"),
        "{tasks}"
    );
    // A query cannot find out what they hold, nor can a count.
    for query in [
        "payload.number>4000",
        "payload~42 or payload~45",
        "not payload~nothing",
        "type^=card payload~4",
    ] {
        let found = client.ok("search_tasks", json!({"query": query})).await;
        let ids: Vec<&str> = found["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["id"].as_str().unwrap())
            .collect();
        assert!(!ids.contains(&"a") && !ids.contains(&"d"), "{query}: {ids:?}");
    }
    let count = client
        .ok(
            "count_tasks",
            json!({"query": "payload.number=4242 or payload.number=4545"}),
        )
        .await;
    assert_eq!(count["tasks"], 0);
    let entry = |task_type: &str| SchedulerEntry {
        id: task_type.to_owned(),
        spec: "@daily".to_owned(),
        task_type: task_type.to_owned(),
        payload: "4242".into(),
        options: Vec::new(),
        next: None,
        prev: None,
    };
    let entries = [entry("card:daily"), entry("mail")];
    let hour = std::time::Duration::from_secs(3600);
    fixture
        .storage
        .write_scheduler_entries("host:1:a", &entries, hour)
        .await
        .unwrap();
    let listed = client.ok("scheduler_entries", json!({})).await["entries"].clone();
    let payload = |of: &str| {
        listed
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["id"] == of)
            .unwrap()["payload"]
            .clone()
    };
    assert_eq!(payload("card:daily"), hidden);
    assert_eq!(payload("mail")["value"], 4242);
    let count = client.ok("count_tasks", json!({"query": "type=login"})).await;
    assert_eq!(count["tasks"], 1);
}

#[tokio::test]
async fn answers_are_bounded() {
    let fixture = Fixture::start().await;
    for number in 0..100 {
        let payload = format!("{{\"text\":\"{}\"}}", "long \\\" ".repeat(20_000));
        fixture
            .enqueue(request("q", &format!("t{number}")).payload(payload))
            .await;
    }
    let mut client = Client::start(&fixture, &[]).await;
    let answer = client
        .call(
            "tools/call",
            json!({"name": "list_tasks", "arguments": {"queue": "q", "state": "pending", "limit": 100}}),
        )
        .await;
    assert!(answer.to_string().len() < 256 * 1024);
    let tasks = answer["result"]["structuredContent"]["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 100);
    assert!(
        tasks[0]["payload"]["beginning"]["cut"]
            .as_str()
            .unwrap()
            .contains("bytes"),
        "{}",
        tasks[0]
    );
    let one = client.ok("get_task", json!({"queue": "q", "id": "t0"})).await;
    assert_eq!(one["payload"]["beginning"]["cut"], "the first 32768 of 160011 bytes");
}

/// Values that JSON can write and its usual readers cannot hold do not spoil a list.
#[tokio::test]
async fn odd_payloads_are_shown_as_text() {
    let fixture = Fixture::start().await;
    let deep = "[".repeat(300) + &"]".repeat(300);
    for (id, payload) in [("large", "{\"a\":1e400}"), ("deep", &deep), ("plain", "{\"a\":1}")] {
        fixture.enqueue(request("q", id).payload(payload.to_owned())).await;
    }
    let mut client = Client::start(&fixture, &[]).await;
    let listed = client.ok("list_tasks", json!({"queue": "q", "state": "pending"})).await;
    for task in listed["tasks"].as_array().unwrap() {
        let is_plain = task["id"] == "plain";
        assert_eq!(
            task["payload"]["encoding"],
            if is_plain { "json" } else { "text" },
            "{task}"
        );
    }
    let task = client.ok("get_task", json!({"queue": "q", "id": "deep"})).await;
    assert_eq!(task["payload"]["value"], deep);
}
