//! Questions before acts, and what is refused without them.

use asynq::TaskState;

use crate::{support::Fixture, terminal::Terminal};

/// A configuration with one context for the Redis of the fixture.
fn context(fixture: &Fixture, rules: &str) {
    let url = fixture.redis.url();
    fixture.write_home(
        ".asynq.yaml",
        &format!("context: prod\ncontexts:\n  prod:\n    uri: {url}\n{rules}"),
    );
}

async fn is_paused(fixture: &Fixture) -> bool {
    fixture.inspector().get_queue_stats("default").await.unwrap().paused
}

#[tokio::test]
async fn a_question_names_the_target_and_only_yes_confirms() {
    let fixture = Fixture::filled().await;
    for (answer, status, paused) in [
        ("n\n", 4, false),
        ("\n", 4, false),
        ("yess\n", 4, false),
        ("y\n", 0, true),
    ] {
        let mut terminal = Terminal::open(&fixture, &["queue", "pause", "default"], 200, 24);
        let question = format!("Pause queue \"default\" at {}/0? [y/N]", fixture.redis.url());
        terminal.wait_for(&question);
        terminal.press(answer);
        assert_eq!(terminal.end(), status, "{answer:?}: {}", terminal.text());
        assert_eq!(is_paused(&fixture).await, paused, "{answer:?}");
    }
}

#[tokio::test]
async fn a_queue_is_deleted_by_its_name() {
    let fixture = Fixture::filled().await;
    for (answer, status) in [("y\n", 4), ("lo\n", 4), ("low\n", 0)] {
        let mut terminal = Terminal::open(&fixture, &["queue", "remove", "low", "--force"], 200, 24);
        let question = terminal.wait_for("Type low to confirm");
        assert!(
            question.contains("Delete queue \"low\" with its 5 tasks at redis://"),
            "{question}"
        );
        terminal.press(answer);
        assert_eq!(terminal.end(), status, "{answer:?}: {}", terminal.text());
    }
    let left = fixture.inspector().queues().await.unwrap();
    assert!(!left.iter().any(|queue| queue.as_str() == "low"));
}

#[tokio::test]
async fn more_than_a_thousand_tasks_are_confirmed_by_typing() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("bulk", "t", 1_001).await;
    let all = ["task", "deleteall", "-q", "bulk", "-s", "pending"];
    let mut terminal = Terminal::open(&fixture, &all, 200, 24);
    terminal.wait_for("(1001 now)");
    terminal.wait_for("Type bulk to confirm");
    terminal.press("y\n");
    assert_eq!(terminal.end(), 4);

    let query = ["task", "archive", "--query", "queue=bulk"];
    let mut terminal = Terminal::open(&fixture, &query, 200, 24);
    terminal.wait_for("Type archive 1001 to confirm");
    terminal.press("archive 1001\n");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    assert_eq!(
        fixture.inspector().get_queue_stats("bulk").await.unwrap().archived,
        1_001
    );
}

#[tokio::test]
async fn without_a_terminal_an_act_needs_yes() {
    let fixture = Fixture::filled().await;
    let pause = ["queue", "pause", "default"];
    let refused = fixture.asynq(pause).stdin(*b"y\n").run().await;
    assert_eq!((refused.status, refused.stdout.as_str()), (4, ""));
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    assert!(!is_paused(&fixture).await);
    let done = fixture.asynq(pause).env("ASYNQ_YES", "1").run().await;
    assert_eq!(
        (done.status, done.stdout.as_str()),
        (0, "Successfully paused queue \"default\"\n")
    );
}

/// Every command that changes something, on tasks and queues that exist.
pub(crate) const ACTS: &[&[&str]] = &[
    &["queue", "pause", "default"],
    &["queue", "resume", "low"],
    &["queue", "remove", "low", "--force"],
    &["task", "run", "-q", "default", "-i", "retry"],
    &["task", "archive", "-q", "default", "-i", "retry"],
    &["task", "delete", "-q", "default", "-i", "retry"],
    &["task", "delete", "--query", "queue=default"],
    &["task", "cancel", "active"],
    &["task", "edit", "-q", "default", "-i", "retry", "--payload", "x"],
    &["task", "copy", "-q", "default", "-i", "retry"],
    &["task", "enqueue", "-t", "x", "-l", "x"],
    &["task", "runall", "-q", "default", "-s", "retry"],
    &["task", "archiveall", "-q", "default", "-s", "retry"],
    &["task", "deleteall", "-q", "default", "-s", "retry"],
    &["doctor", "--fix"],
    &["cron", "run", "entry"],
    &[
        "cron",
        "backfill",
        "entry",
        "--from",
        "2026-01-01T00:00:00Z",
        "--to",
        "2026-01-02T00:00:00Z",
    ],
    &["bench"],
];

#[tokio::test]
async fn a_protected_context_a_read_only_one_and_a_missing_reason_refuse_every_act() {
    let fixture = Fixture::filled().await;
    for (rules, flags, says) in [
        ("    protected: true\n", &["--yes"][..], "is protected"),
        ("    read_only: true\n", &["--yes", "--context", "prod"], "read-only"),
        (
            "    require_reason: true\n",
            &["--yes", "--context", "prod"],
            "a reason is required",
        ),
        ("", &["--yes", "--read-only"], "read-only"),
    ] {
        context(&fixture, rules);
        for act in ACTS {
            let refused = fixture.bare([flags, act].concat()).run().await;
            assert_eq!(
                refused.status, 4,
                "{act:?} {rules}: {}{}",
                refused.stdout, refused.stderr
            );
            assert!(refused.stderr.contains(says), "{act:?}: {}", refused.stderr);
        }
        // The address of a protected context is protected, too, whatever it is called.
        for address in [fixture.redis.url(), format!("localhost:{}", fixture.redis.port())] {
            let by_address = fixture
                .bare(["--uri", address.as_str(), "--yes"])
                .args(ACTS[0])
                .run()
                .await;
            let is_refused = !rules.is_empty();
            assert_eq!(
                by_address.status,
                if is_refused { 4 } else { 0 },
                "{rules}: {}",
                by_address.stderr
            );
            let _ = fixture.inspector().unpause_queue("default").await;
        }
    }
    let stats = fixture.inspector().get_queue_stats("default").await.unwrap();
    assert_eq!((stats.retry, stats.paused), (1, false), "nothing was changed");
    assert_eq!(
        fixture
            .inspector()
            .get_task_info("default", "retry")
            .await
            .unwrap()
            .state,
        TaskState::Retry
    );
}

#[tokio::test]
async fn a_protected_context_that_is_named_is_open() {
    let fixture = Fixture::filled().await;
    context(&fixture, "    protected: true\n");
    let done = fixture
        .bare(["--context", "prod", "--yes", "queue", "pause", "default"])
        .run()
        .await;
    assert_eq!(done.status, 0, "{}", done.stderr);
    assert!(
        done.stderr.starts_with("at prod (redis://"),
        "the answer names the context: {}",
        done.stderr
    );
}

#[tokio::test]
async fn contexts_are_listed_without_their_secrets() {
    let fixture = Fixture::start().await;
    fixture.write_home(
        ".asynq.yaml",
        "context: prod\ncontexts:\n  prod:\n    uri: redis://:s3cret@10.0.0.1:6379\n    protected: true\n  dev:\n    uri: localhost:1\n    password: hidden\n",
    );
    let table = fixture.bare(["context", "ls"]).ok().await;
    assert!(
        table.contains("*") && table.contains("protected") && table.contains("10.0.0.1"),
        "{table}"
    );
    let json = fixture.bare(["context", "ls", "-o", "json"]).ok().await;
    for text in [table, json] {
        assert!(!text.contains("s3cret") && !text.contains("hidden"), "{text}");
    }
    let unknown = fixture.bare(["--context", "staging", "queue", "ls"]).fails(3).await;
    assert!(
        unknown.contains("staging") && unknown.contains("dev, prod"),
        "{unknown}"
    );
}
