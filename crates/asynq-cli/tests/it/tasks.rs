//! `asynq task`, beyond what Go's program has.

use asynq::{Error, TaskState, error::BrokerError, inspect::Cursor};
use asynq_testing::request::request;

use crate::support::{Fixture, ODD_QUEUE, eventually, interrupt};

async fn state(fixture: &Fixture, queue: &str, id: &str) -> Option<TaskState> {
    match fixture.inspector().get_task_info(queue, id).await {
        Ok(task) => Some(task.state),
        Err(Error::Broker(BrokerError::TaskNotFound { .. })) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The acts of the audit trail, newest first, with their operators and reasons.
async fn trail(fixture: &Fixture) -> Vec<(String, String, String)> {
    let page = fixture.inspector().audit_trail(Cursor::default(), 100).await.unwrap();
    let entry = |entry: asynq::inspector::TrailEntry| {
        let actor = entry.actor.unwrap_or_default();
        (entry.act, actor.name, actor.reason)
    };
    page.items.into_iter().map(entry).collect()
}

#[tokio::test]
async fn acts_on_single_tasks_take_effect_and_are_recorded() {
    let fixture = Fixture::filled().await;
    let act = ["--actor", "ann", "--reason", "ticket 7", "--yes", "task"];
    let words = |words: &[&'static str]| [&act[..], words].concat();
    for (act, id, out, after) in [
        ("run", "scheduled", "task is now pending\n", Some(TaskState::Pending)),
        ("archive", "retry", "task archived\n", Some(TaskState::Archived)),
        ("delete", "archived", "task deleted\n", None),
        ("rm", "completed", "task deleted\n", None),
    ] {
        let ended = fixture.asynq(words(&[act, "-q", "default", "-i", id])).run().await;
        assert_eq!((ended.status, ended.stdout.as_str()), (0, out), "{}", ended.stderr);
        assert_eq!(
            ended.stderr,
            format!("at {}/0\n", fixture.redis.url()),
            "the answer names the place"
        );
        assert_eq!(state(&fixture, "default", id).await, after, "{act}");
    }
    let trail = trail(&fixture).await;
    let acts: Vec<&str> = trail.iter().map(|(act, ..)| act.as_str()).take(4).collect();
    assert_eq!(acts, ["delete_task", "delete_task", "archive_task", "run_task"]);
    assert!(
        trail[..4]
            .iter()
            .all(|(_, name, reason)| name == "ann" && reason == "ticket 7")
    );
}

#[tokio::test]
async fn several_ids_are_all_tried() {
    let fixture = Fixture::filled().await;
    let words = [
        "-y", "task", "delete", "-q", "low", "-i", "json", "-i", "nobody", "-i", "empty",
    ];
    let ended = fixture.asynq(words).run().await;
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (3, "task deleted\ntask deleted\n")
    );
    assert!(
        ended.stderr.contains("cannot find task with id=nobody"),
        "{}",
        ended.stderr
    );
    assert_eq!(state(&fixture, "low", "empty").await, None);
}

#[tokio::test]
async fn a_query_chooses_tasks_for_an_act() {
    let fixture = Fixture::filled().await;
    let query = "queue=default state=retry,archived error~boom";

    let dry = ["task", "delete", "--query", query, "--dry-run"];
    let shown = fixture.asynq(dry).ok().await;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "would delete: 2 tasks");
    assert!(lines.iter().any(|line| line.starts_with("retry ")), "{shown}");
    assert_eq!(
        state(&fixture, "default", "retry").await,
        Some(TaskState::Retry),
        "nothing was changed"
    );

    let retry = ["task", "retry", "--query", query, "--yes", "--rate", "50/s"];
    let ended = fixture.asynq(retry).run().await;
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (0, "2 tasks are now pending\n"),
        "{}",
        ended.stderr
    );
    assert_eq!(state(&fixture, "default", "archived").await, Some(TaskState::Pending));

    let one = [
        "task",
        "delete",
        "--query",
        "queue=low",
        "--yes",
        "--limit",
        "1",
        "-o",
        "json",
    ];
    let ended = fixture.asynq(one).run().await;
    let answer: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (answer["act"].as_str(), answer["done"].as_u64()),
        (Some("delete"), Some(1))
    );
    assert_eq!(fixture.inspector().get_queue_stats("low").await.unwrap().pending, 4);
}

#[tokio::test]
async fn a_search_tells_how_far_it_looked_and_goes_on() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("bulk", "t", 500).await;
    let first = fixture
        .asynq(["task", "search", "queue=bulk", "--limit", "10"])
        .run()
        .await;
    assert_eq!(first.stdout.lines().count(), 12, "{}", first.stdout);
    let place = first.stderr.split("--from=").nth(1).expect("a place to go on").trim();
    let place = place.trim_matches('\'');
    let next = fixture
        .asynq(["task", "search", "queue=bulk", "--limit", "10", "--from", place])
        .run()
        .await;
    assert!(
        next.stdout.contains("t000010") && !next.stdout.contains("t000009"),
        "{}",
        next.stdout
    );

    let all = fixture.asynq(["task", "search", "queue=bulk", "--all"]).ndjson().await;
    assert_eq!(all.len(), 500);
    assert_eq!(fixture.asynq(["task", "count", "queue=bulk"]).ok().await, "500 tasks\n");
}

#[tokio::test]
async fn a_whole_listing_is_read_without_pages() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("bulk", "t", 1_200).await;
    let table = fixture
        .asynq(["task", "ls", "-q", "bulk", "-s", "pending", "--all"])
        .ok()
        .await;
    // A long table comes in parts, with one head.
    assert_eq!(table.lines().count(), 1_202);
    assert_eq!(table.matches("Payload").count(), 1);
    let json = fixture
        .asynq(["task", "ls", "-q", "bulk", "-s", "pending", "--all"])
        .json()
        .await;
    assert_eq!(json.as_array().unwrap().len(), 1_200);
}

#[tokio::test]
async fn payloads_are_shown_by_what_they_are() {
    let fixture = Fixture::filled().await;
    let task = async |id: &str| fixture.asynq(["task", "inspect", "-q", "low", "-i", id]).json().await;
    let text = fixture
        .asynq(["task", "inspect", "-q", "low", "-i", "json", "-o", "ndjson"])
        .ok()
        .await;
    assert!(
        text.contains(r#""value":{"user_id":12345678901234567890123,"#),
        "all digits: {text}"
    );
    assert_eq!(task("msgpack").await["payload"]["value"]["id"], 1002);
    assert_eq!(task("binary").await["payload"]["encoding"], "base64");
    assert_eq!(task("lines").await["payload"]["value"], "first\nsecond\tü");
    let shown = fixture
        .asynq(["task", "inspect", "-q", "low", "-i", "binary"])
        .ok()
        .await;
    assert!(
        !shown.contains('\u{1b}') && shown.contains("evil\\u{1b}[31m"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_task_is_changed_and_copied() {
    let fixture = Fixture::filled().await;
    let edit = [
        "-y",
        "task",
        "edit",
        "-q",
        "default",
        "-i",
        "scheduled",
        "--payload",
        "new",
        "--at",
        "2040-01-02T03:04:05Z",
    ];
    let ended = fixture.asynq(edit).run().await;
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (0, "task changed\n"),
        "{}",
        ended.stderr
    );
    let task = fixture.inspector().get_task_info("default", "scheduled").await.unwrap();
    assert_eq!(task.payload.as_ref(), b"new");
    assert_eq!(task.next_process_at.unwrap().to_rfc3339(), "2040-01-02T03:04:05+00:00");

    let copy = [
        "-y",
        "task",
        "copy",
        "-q",
        "default",
        "-i",
        "archived",
        "--to",
        ODD_QUEUE,
        "--new-id",
        "second",
        "--payload-file",
        "-",
    ];
    let ended = fixture.asynq(copy).stdin(*b"\xff\x00").run().await;
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (0, "Enqueued task second to queue a:b{c}/ü\n"),
        "{}",
        ended.stderr
    );
    let task = fixture.inspector().get_task_info(ODD_QUEUE, "second").await.unwrap();
    assert_eq!(
        (task.task_type.as_str(), task.payload.as_ref()),
        ("email:send", b"\xff\x00".as_slice())
    );

    let nothing = fixture
        .asynq(["-y", "task", "edit", "-q", "default", "-i", "scheduled"])
        .fails(2)
        .await;
    assert!(nothing.contains("nothing to change is given"), "{nothing}");
}

#[tokio::test]
async fn an_enqueue_takes_every_option() {
    let fixture = Fixture::start().await;
    let words = [
        "task",
        "enqueue",
        "--type_name",
        "export",
        "--payload",
        "{}",
        "--queue",
        "q",
        "--id",
        "one",
        "--retry",
        "3",
        "--timeout",
        "1m30s",
        "--deadline",
        "2040-01-02T03:04:05Z",
        "--retention",
        "24h",
        "--process_in",
        "1h",
        "--header",
        "trace=1",
    ];
    let ended = fixture.asynq(words).run().await;
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (0, "Enqueued task one to queue q\n"),
        "{}",
        ended.stderr
    );
    let task = fixture.inspector().get_task_info("q", "one").await.unwrap();
    assert_eq!(
        (task.state, task.max_retry, task.timeout.unwrap().as_secs()),
        (TaskState::Scheduled, 3, 90)
    );
    assert_eq!(task.deadline.unwrap().to_rfc3339(), "2040-01-02T03:04:05+00:00");
    assert_eq!(
        (task.retention.as_secs(), task.headers["trace"].as_str()),
        (86_400, "1")
    );

    let again = fixture.asynq(words).run().await;
    assert_eq!(again.status, 1, "{}", again.stderr);
    assert!(
        again
            .stderr
            .contains("could not enqueue task: task ID conflicts with another task"),
        "{}",
        again.stderr
    );
}

#[tokio::test]
async fn a_task_is_followed_to_its_end() {
    let fixture = Fixture::filled().await;
    let follow = |id: &'static str| fixture.asynq(["task", "follow", "-q", "default", "-i", id, "--interval", "50ms"]);
    let done = follow("completed").run().await;
    assert_eq!(done.status, 0, "{}", done.stderr);
    assert!(done.stdout.ends_with("completed\n"), "{}", done.stdout);
    let failed = follow("archived").run().await;
    assert_eq!(failed.status, 1);
    assert!(
        failed.stderr.contains("the task is archived: boom"),
        "{}",
        failed.stderr
    );
    let never = fixture
        .asynq(["task", "follow", "-q", "default", "-i", "nobody"])
        .run()
        .await;
    assert_eq!(never.status, 3);

    // One that changes while it is followed.
    let child = fixture
        .asynq([
            "-o",
            "ndjson",
            "task",
            "follow",
            "-q",
            "default",
            "-i",
            "pending",
            "--interval",
            "50ms",
        ])
        .spawn();
    let mut child = child;
    let mut lines = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line)
        .await
        .unwrap();
    assert!(line.contains(r#""state":"pending""#), "{line}");
    fixture.inspector().delete_task("default", "pending").await.unwrap();
    let status = tokio::time::timeout(crate::support::PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(3), "it is gone");
}

#[tokio::test]
async fn a_cancel_with_its_queue_is_kept_until_the_run_ends() {
    let fixture = Fixture::filled().await;
    let cancel = ["-y", "task", "cancel", "active", "-q", "default", "--then", "archive"];
    let ended = fixture.asynq(cancel).run().await;
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (0, "Sent cancelation signal for task active\n"),
        "{}",
        ended.stderr
    );
    let wrong = fixture
        .asynq(["-y", "task", "cancel", "pending", "-q", "default"])
        .fails(1)
        .await;
    assert!(wrong.contains("is in pending state"), "{wrong}");
    let unknown = fixture
        .asynq(["-y", "task", "cancel", "active", "-q", "default", "--then", "forget"])
        .fails(2)
        .await;
    assert!(unknown.contains("retried, archived or deleted"), "{unknown}");
}

#[tokio::test]
async fn ctrl_c_stops_an_act_by_query_and_says_what_was_done() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("bulk", "t", 3_000).await;
    let act = ["-y", "task", "archive", "--query", "queue=bulk", "--rate", "200/s"];
    let mut child = fixture.asynq(act).spawn();
    let inspector = fixture.inspector();
    eventually("some are archived", async || {
        inspector.get_queue_stats("bulk").await.unwrap().archived > 0
    })
    .await;
    interrupt(&child);
    let mut stdout = child.stdout.take().unwrap();
    let said = crate::support::read_all(&mut stdout).await;
    assert_eq!(child.wait().await.unwrap().code(), Some(1));
    let archived = inspector.get_queue_stats("bulk").await.unwrap().archived;
    assert!(archived < 3_000, "it was stopped");
    assert!(said.starts_with(&format!("{archived} tasks archived")), "{said}");
    let ends = inspector.audit_trail(Cursor::default(), 1).await.unwrap();
    assert_eq!(ends.items[0].changed, Some(archived));
}

#[tokio::test]
async fn redacted_types_are_never_shown() {
    let fixture = Fixture::start().await;
    fixture
        .enqueue(request("pay", "card").task_type("card:charge").payload("4111"))
        .await;
    fixture
        .enqueue(request("pay", "mail").task_type("mail").payload("open"))
        .await;
    let url = fixture.redis.url();
    fixture.write_home(
        ".asynq.yaml",
        &format!("context: prod\ncontexts:\n  prod:\n    uri: {url}\n    redact: ['card:*']\n"),
    );
    for words in [
        &["task", "ls", "-q", "pay", "-s", "pending"][..],
        &["task", "ls", "-q", "pay", "-s", "pending", "-o", "json"],
        &["task", "inspect", "-q", "pay", "-i", "card"],
        &["task", "search", "queue=pay", "-o", "ndjson"],
    ] {
        let shown = fixture.bare(words).run().await.stdout;
        assert!(
            shown.contains("redacted") && !shown.contains("4111"),
            "{words:?}: {shown}"
        );
    }
    let mail = fixture.bare(["task", "inspect", "-q", "pay", "-i", "mail"]).ok().await;
    assert!(mail.contains("open"), "{mail}");
}

#[tokio::test]
async fn a_queue_beside_a_query_is_refused() {
    let fixture = Fixture::filled().await;
    for act in ["run", "archive", "delete"] {
        let words = ["-y", "task", act, "-q", "low", "--query", "state=pending"];
        let refused = fixture.asynq(words).fails(2).await;
        assert!(refused.contains("cannot be used with"), "{refused}");
    }
    let nothing = fixture.asynq(["-y", "task", "delete"]).fails(2).await;
    assert!(nothing.contains("--query"), "{nothing}");
}

#[tokio::test]
async fn an_act_goes_on_though_nobody_reads_its_answer() {
    let fixture = Fixture::start().await;
    let queues = ["a", "b", "c", "d"];
    for queue in queues {
        fixture.enqueue(request(queue, "t")).await;
    }
    let mut child = fixture.asynq([&["-y", "queue", "pause"][..], &queues].concat()).spawn();
    drop(child.stdout.take());
    let status = tokio::time::timeout(crate::support::PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    for queue in queues {
        assert!(
            fixture.inspector().get_queue_stats(queue).await.unwrap().paused,
            "{queue}"
        );
    }
}

#[tokio::test]
async fn ctrl_c_stops_an_act_on_all_tasks_and_it_is_recorded() {
    let fixture = Fixture::start().await;
    let inspector = fixture.inspector();
    let pending = async || inspector.get_queue_stats("bulk").await.unwrap().pending;
    let act = ["-y", "task", "deleteall", "-q", "bulk", "-s", "pending"];
    // An act may end before the signal is there, but not each time.
    for attempt in 0..20 {
        fixture.enqueue_many("bulk", &format!("{attempt}-"), 30_000).await;
        let mut child = fixture.asynq(act).spawn();
        eventually("some are deleted", async || pending().await < 30_000).await;
        interrupt(&child);
        let mut stdout = child.stdout.take().unwrap();
        let said = crate::support::read_all(&mut stdout).await;
        let status = child.wait().await.unwrap();
        let deleted = 30_000 - pending().await;
        assert_eq!(said, format!("{deleted} tasks deleted\n"));
        let trail = inspector.audit_trail(Cursor::default(), 1).await.unwrap();
        assert_eq!(trail.items[0].changed, Some(deleted));
        if deleted < 30_000 {
            assert_eq!(status.code(), Some(1), "{said}");
            return;
        }
    }
    panic!("Ctrl-C never stopped it");
}

#[tokio::test]
async fn an_enqueue_is_recorded_with_its_reason() {
    let fixture = Fixture::start().await;
    let words = [
        "--reason",
        "lost mail",
        "--actor",
        "ann",
        "task",
        "enqueue",
        "-t",
        "mail",
        "-l",
        "-5",
        "-i",
        "-x",
    ];
    let ended = fixture.asynq(words).run().await;
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let entry = ("enqueue_task".to_owned(), "ann".to_owned(), "lost mail".to_owned());
    assert_eq!(trail(&fixture).await, [entry]);
    let task = fixture.inspector().get_task_info("default", "-x").await.unwrap();
    assert_eq!(task.payload.as_ref(), b"-5");
}

#[tokio::test]
async fn an_id_forges_no_line_of_an_error() {
    let fixture = Fixture::filled().await;
    let said = fixture
        .asynq(["task", "inspect", "-q", "default", "-i", "x\nerror: forged"])
        .fails(3)
        .await;
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn an_archive_that_is_full_is_told_of_before() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("bulk", "t", 9_999).await;
    let query = ["task", "archive", "--query", "queue=bulk"];
    let refused = fixture.asynq(query).fails(4).await;
    assert!(!refused.contains("9999 tasks;"), "there is room: {refused}");
    fixture.inspector().archive_all_pending_tasks("bulk").await.unwrap();
    fixture.enqueue_many("bulk", "u", 3).await;
    for (words, says) in [
        (
            &["task", "archiveall", "-q", "bulk", "-s", "pending"][..],
            "so the 3 oldest are deleted",
        ),
        (
            &["task", "archive", "-q", "bulk", "-i", "u000001"],
            "so the 1 oldest are deleted",
        ),
        (
            &query,
            "An archive keeps 9999 tasks; beyond that its oldest are deleted",
        ),
    ] {
        let refused = fixture.asynq(words).fails(4).await;
        assert!(refused.contains(says), "{refused}");
    }
}

#[tokio::test]
async fn yaml_shows_any_payload() {
    let fixture = Fixture::start().await;
    for (id, payload) in [
        ("a", r#"{"a":1,"a":2}"#),
        ("b", "1e999"),
        ("c", "123456789012345678901"),
        ("d", r#"{"n":1}"#),
    ] {
        fixture.enqueue(request("q", id).payload(payload)).await;
    }
    let shown = fixture
        .asynq(["task", "ls", "-q", "q", "-s", "pending", "-o", "yaml"])
        .ok()
        .await;
    for text in [r#"value: '{"a":1,"a":2}'"#, "1e999", "123456789012345678901", "n: 1"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
}
