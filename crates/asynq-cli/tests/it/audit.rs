//! `asynq audit`.

use asynq::{Task, inspector::Actor};

use crate::support::Fixture;

#[tokio::test]
async fn acts_are_listed_newest_first() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.asynq(["audit"]).ok().await, "no acts\n");
    assert_eq!(fixture.asynq(["audit"]).json().await, serde_json::json!([]));

    let client = fixture.client().await;
    for id in ["a", "b"] {
        let task = Task::new("mail", b"1").unwrap().with_queue("q").with_task_id(id);
        client.enqueue(task).await.unwrap();
    }
    let inspector = fixture.inspector();
    let ann = inspector
        .acting_as(Actor::new("ann").with_reason("ticket\u{1b}[2J 7"))
        .unwrap();
    ann.archive_task("q", "a").await.unwrap();
    ann.pause_queue("other").await.unwrap();
    let bob = inspector.acting_as(Actor::new("bob")).unwrap();
    bob.delete_all_archived_tasks("q").await.unwrap();

    let text = fixture.asynq(["audit"]).ok().await;
    let lines: Vec<&str> = text.lines().collect();
    for column in ["When", "Who", "Act", "Target", "Changed", "Reason or failure"] {
        assert!(lines[0].contains(column), "{text}");
    }
    assert_eq!(lines.len(), 5, "{text}");
    assert!(
        lines[2].contains("bob@") && lines[2].contains("delete_all") && lines[2].contains(" 1"),
        "{text}"
    );
    assert!(lines[3].contains("pause_queue") && lines[3].contains("other"), "{text}");
    assert!(lines[4].contains("archive_task") && lines[4].contains("q: a"), "{text}");
    // Whatever somebody wrote there, it does not reach the terminal as a command.
    assert!(lines[4].ends_with("ticket\\u{1b}[2J 7"), "{text}");

    let json = fixture.asynq(["audit", "--limit", "2"]).json().await;
    let acts: Vec<_> = json.as_array().unwrap().iter().map(|entry| &entry["act"]).collect();
    assert_eq!(acts, ["delete_all_tasks", "pause_queue"]);
    assert_eq!(json[1]["actor"]["reason"], "ticket\u{1b}[2J 7");
    let json = fixture.asynq(["audit", "--by", "ann", "--queue", "q"]).json().await;
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["act"], "archive_task");
    let text = fixture.asynq(["audit", "--by", "eve"]).ok().await;
    assert_eq!(text, "no such act among the last 10000\n");
}

/// The trail is read in parts, so a limit above one part holds too.
#[tokio::test]
async fn a_long_trail_is_listed_to_its_end() {
    let fixture = Fixture::start().await;
    let inspector = fixture.inspector();
    for turn in 0..300 {
        let queue = format!("q{turn}");
        inspector.pause_queue(&queue).await.unwrap();
        inspector.unpause_queue(&queue).await.unwrap();
    }
    for (limit, expected) in [("0", 600), ("550", 550), ("30", 30)] {
        let entries = fixture.asynq(["audit", "--limit", limit]).ndjson().await;
        assert_eq!(entries.len(), expected);
        assert_eq!(
            (&entries[0]["act"], &entries[0]["queue"]),
            (&"unpause_queue".into(), &"q299".into())
        );
    }
}
