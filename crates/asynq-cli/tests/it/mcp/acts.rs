//! Tools that change something.

use asynq::{TaskState, inspect::Cursor, inspector::TrailEntry};
use serde_json::{Value, json};

use super::{Client, WRITE};
use crate::support::{Fixture, eventually};

#[tokio::test]
async fn nothing_is_changed_without_permission() {
    let fixture = Fixture::filled().await;
    let before = fixture.redis.client().await.raw_state().await;
    let mut client = Client::start(&fixture, &[]).await;
    for name in WRITE {
        let arguments =
            json!({"queue": "default", "id": "retry", "query": "state=retry", "act": "delete", "reason": "x"});
        let answer = client
            .call("tools/call", json!({"name": name, "arguments": arguments}))
            .await;
        assert!(answer["error"].is_object(), "{name}: {answer}");
    }
    assert_eq!(client.end().await, (Some(0), String::new()));
    assert_eq!(fixture.redis.client().await.raw_state().await, before);

    let refused = fixture.asynq(["mcp", "--allow-writes", "--read-only"]).fails(4).await;
    assert!(refused.contains("read-only"), "{refused}");
    let uri = fixture.redis.url();
    fixture.write_home(
        ".asynq.yaml",
        &format!("context: prod\ncontexts:\n  prod:\n    uri: {uri}\n    protected: true\n    require_reason: true\n"),
    );
    let refused = fixture.bare(["mcp", "--allow-writes"]).fails(4).await;
    assert!(refused.contains("\"prod\" is protected"), "{refused}");
    // Named, it is allowed.
    let ended = fixture.bare(["mcp", "--allow-writes", "--context", "prod"]).run().await;
    assert_eq!((ended.status, ended.stdout.as_str()), (0, ""));
}

#[tokio::test]
async fn acts_have_a_reason_and_are_in_the_audit_trail() {
    let fixture = Fixture::filled().await;
    let mut client = Client::start(&fixture, &["--allow-writes"]).await;
    let inspector = fixture.inspector();
    let state = async |id: &str| inspector.get_task_info("default", id).await.map(|task| task.state).ok();

    for reason in ["", "  "] {
        let error = client
            .fails("run_task", json!({"queue": "default", "id": "retry", "reason": reason}))
            .await;
        assert!(error.contains("`reason` is blank, nothing was changed"), "{error}");
    }
    let error = client
        .fails("run_task", json!({"queue": "default", "id": "retry"}))
        .await;
    assert!(error.contains("missing field `reason`"), "{error}");
    let error = client
        .fails(
            "run_task",
            json!({"queue": "default", "id": "retry", "reason": "x".repeat(2000)}),
        )
        .await;
    assert!(error.contains("reason"), "{error}");
    assert_eq!(state("retry").await, Some(TaskState::Retry));

    let on = |id: &str| json!({"queue": "default", "id": id, "reason": "ticket 7"});
    client.ok("run_task", on("retry")).await;
    assert_eq!(state("retry").await, Some(TaskState::Pending));
    client.ok("archive_task", on("scheduled")).await;
    assert_eq!(state("scheduled").await, Some(TaskState::Archived));
    client.ok("delete_task", on("completed")).await;
    assert_eq!(state("completed").await, None);
    let error = client.fails("delete_task", on("completed")).await;
    assert!(error.contains("cannot find task"), "{error}");
    let error = client.fails("delete_task", on("active")).await;
    assert!(error.contains("active"), "{error}");
    client
        .ok(
            "cancel_task",
            json!({"queue": "default", "id": "active", "then": "archive", "reason": "stuck"}),
        )
        .await;
    client
        .ok("pause_queue", json!({"queue": "default", "reason": "calm"}))
        .await;
    assert!(inspector.get_queue_stats("default").await.unwrap().paused);
    client
        .ok("unpause_queue", json!({"queue": "default", "reason": "calm again"}))
        .await;
    assert!(!inspector.get_queue_stats("default").await.unwrap().paused);
    // A queue that does not exist is not made by a pause.
    client
        .fails("pause_queue", json!({"queue": "nowhere", "reason": "calm"}))
        .await;

    let act =
        |dry_run: Value| json!({"query": "state=archived", "act": "run", "dry_run": dry_run, "reason": "it is back"});
    let mut without = act(Value::Null);
    without.as_object_mut().unwrap().remove("dry_run");
    let dry = client.ok("act_by_query", without).await;
    assert_eq!(
        (&dry["dry_run"], &dry["would_change"]),
        (&true.into(), &2.into()),
        "{dry}"
    );
    assert_eq!(state("archived").await, Some(TaskState::Archived));
    let done = client.ok("act_by_query", act(false.into())).await;
    assert_eq!(
        (&done["done"], &done["ended"]),
        (&2.into(), &"complete".into()),
        "{done}"
    );
    assert_eq!(state("archived").await, Some(TaskState::Pending));

    let task = json!({"type": "mail", "queue": "new", "payload": {"to": "é"}, "id": "n", "process_in_seconds": 60,
        "max_retry": 3, "timeout_seconds": 5, "retention_seconds": 9, "reason": "by hand"});
    let enqueued = client.ok("enqueue_task", task.clone()).await;
    assert_eq!(enqueued["task"]["state"], "scheduled", "{enqueued}");
    let info = inspector.get_task_info("new", "n").await.unwrap();
    assert_eq!(
        (info.payload.as_ref(), info.max_retry, info.task_type.as_str()),
        ("{\"to\":\"é\"}".as_bytes(), 3, "mail")
    );
    let error = client.fails("enqueue_task", task).await;
    assert!(error.contains("exists") || error.contains("conflict"), "{error}");
    let both = json!({"type": "mail", "payload": 1, "payload_text": "1", "reason": "x"});
    assert!(client.fails("enqueue_task", both).await.contains("exclude each other"));
    for (name, value, expected) in [
        ("max_retry", json!(1001), "`max_retry` is 1001, must be 0 to 1000"),
        ("max_retry", json!(5_000_000_000_u64), "must be 0 to 1000"),
        (
            "timeout_seconds",
            json!(0),
            "`timeout_seconds` is 0, must be at least 1",
        ),
        (
            "reason",
            json!("é".repeat(600)),
            "`reason` has 1200 bytes, must have at most 1024",
        ),
    ] {
        let mut task = json!({"type": "mail", "queue": "unused", "reason": "x"});
        task[name] = value;
        let error = client.fails("enqueue_task", task).await;
        assert!(error.contains(expected), "{error}");
    }
    assert!(inspector.get_queue_stats("unused").await.is_err());

    let trail = client.ok("audit_trail", json!({"actor": "model", "limit": 100})).await;
    let acts: Vec<(&str, &str)> = trail["acts"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|act| (act["act"].as_str().unwrap(), act["actor"]["reason"].as_str().unwrap()))
        .collect();
    let expected = [
        ("run_task", "ticket 7"),
        ("archive_task", "ticket 7"),
        ("delete_task", "ticket 7"),
        ("cancel_task", "stuck"),
        ("pause_queue", "calm"),
        ("unpause_queue", "calm again"),
        ("run_by_query", "it is back"),
        ("run_by_query", "it is back"),
        ("enqueue_task", "by hand"),
    ];
    assert_eq!(acts, expected);
}

#[tokio::test]
async fn an_act_by_query_keeps_to_its_limit() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("many", "t", 500).await;
    let mut client = Client::start(&fixture, &["--allow-writes"]).await;
    let arguments = json!({"query": "queue=many", "act": "delete", "dry_run": false, "limit": 70, "reason": "x"});
    let done = client.ok("act_by_query", arguments).await;
    assert_eq!((&done["done"], &done["ended"]), (&70.into(), &"limit".into()), "{done}");
    assert_eq!(fixture.inspector().get_queue_stats("many").await.unwrap().pending, 430);
}

#[tokio::test]
async fn a_dry_run_looks_at_all_tasks() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("many", "t", 12_000).await;
    fixture.enqueue_many("many", "last", 1).await;
    let mut client = Client::start(&fixture, &["--allow-writes"]).await;
    for (query, found, would_change) in [("id^=last", 1, 1), ("id^=t", 12_000, 100)] {
        let arguments = json!({"query": query, "act": "delete", "reason": "x"});
        let dry = client.ok("act_by_query", arguments).await;
        assert_eq!(
            (&dry["tasks_found"], &dry["would_change"], &dry["is_complete"]),
            (&found.into(), &would_change.into(), &true.into()),
            "{dry}"
        );
    }
}

/// The ends of acts in the audit trail: how, and how many tasks were changed.
async fn ends(fixture: &Fixture) -> Vec<(String, u64)> {
    let trail = fixture.inspector().audit_trail(Cursor::default(), 100).await.unwrap();
    let end = |entry: TrailEntry| Some((entry.detail?, entry.changed?));
    trail.items.into_iter().filter_map(end).collect()
}

#[tokio::test]
async fn an_act_is_stopped_by_its_client_or_the_end_of_the_input() {
    let fixture = Fixture::start().await;
    let total = 10_000;
    for end_input in [false, true] {
        fixture.enqueue_many("many", &format!("t{end_input}"), total).await;
        let inspector = fixture.inspector();
        let size = async || inspector.get_queue_stats("many").await.unwrap().size();
        let before = size().await;
        let ended_before = ends(&fixture).await.len();
        let mut client = Client::start(&fixture, &["--allow-writes"]).await;
        let arguments =
            json!({"query": "queue=many", "act": "delete", "dry_run": false, "limit": total, "reason": "x"});
        let params = json!({"name": "act_by_query", "arguments": arguments});
        client
            .send(&json!({"jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": params}))
            .await;
        // It takes 10 seconds.
        eventually("it has begun", async || size().await < before).await;
        if end_input {
            assert_eq!(client.end().await.0, Some(0));
        } else {
            let cancelled = json!({"requestId": 77, "reason": "enough"});
            client
                .send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}))
                .await;
            eventually("the act has ended", async || ends(&fixture).await.len() > ended_before).await;
            // Nobody waits for its answer, and the next call has its own.
            client.ok("queue_stats", json!({"queue": "many"})).await;
        }
        let ends = ends(&fixture).await;
        assert_eq!(ends.len(), ended_before + 1, "{ends:?}");
        let (how, changed) = &ends[0];
        assert!(how.starts_with("stopped"), "{ends:?}");
        assert_eq!(before - changed, size().await, "{ends:?}");
    }
}
