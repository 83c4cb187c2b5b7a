//! Bad input: what the program says, where, and with which exit status.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, time::Duration};

use asynq::info::SchedulerEntry;
use asynq_testing::RedisServer;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
};

use crate::support::{Fixture, PATIENCE, eventually, in_secs, read_all};

#[tokio::test]
async fn an_unknown_queue_is_not_found() {
    let fixture = Fixture::filled().await;
    for words in [
        ["queue", "inspect", "nowhere"].as_slice(),
        &["queue", "history", "nowhere"],
        &["queue", "remove", "nowhere", "--yes"],
        &["task", "ls", "--queue", "nowhere", "--state", "pending"],
        &["task", "inspect", "-q", "nowhere", "-i", "pending"],
        &["task", "run", "-q", "nowhere", "-i", "pending", "--yes"],
        &["task", "deleteall", "-q", "nowhere", "-s", "pending", "--yes"],
    ] {
        let ended = fixture.asynq(words).run().await;
        assert_eq!(ended.status, 3, "{words:?}: {ended:?}");
        assert!(
            ended.stderr.starts_with("error: ") && ended.stderr.contains("\"nowhere\""),
            "{words:?}: {ended:?}"
        );
        assert!(
            ended.stderr.contains("`asynq queue list` shows the queues."),
            "{words:?}: {ended:?}"
        );
    }
    // Others are shown all the same.
    let ended = fixture.asynq(["queue", "inspect", "nowhere", "low"]).run().await;
    assert_eq!(ended.status, 3, "{ended:?}");
    assert!(ended.stdout.contains("Name:   low\n"), "{ended:?}");
}

#[tokio::test]
async fn an_unknown_task_is_not_found() {
    let fixture = Fixture::filled().await;
    for words in [
        ["task", "inspect"].as_slice(),
        &["task", "run", "--yes"],
        &["task", "archive", "--yes"],
        &["task", "delete", "--yes"],
        &["task", "copy", "--yes"],
    ] {
        let error = fixture
            .asynq(words)
            .args(["-q", "default", "-i", "nobody"])
            .fails(3)
            .await;
        assert!(error.contains("nobody"), "{words:?}: {error}");
    }
}

#[tokio::test]
async fn a_malformed_query_has_a_caret_under_the_place() {
    let fixture = Fixture::filled().await;
    for words in [
        ["task", "search"].as_slice(),
        &["task", "count"],
        &["task", "delete", "--yes", "--query"],
        &["task", "retry", "--dry-run", "--query"],
    ] {
        let error = fixture.asynq(words).args(["state=retry age>soon"]).fails(2).await;
        let lines: Vec<&str> = error.lines().collect();
        assert!(
            lines[0].starts_with("error: wrong query: here stands \"soon\", expected "),
            "{error}"
        );
        assert_eq!(
            lines[1..3],
            ["  state=retry age>soon", "                  ^"],
            "{words:?}"
        );
    }
    // The place is right behind what a terminal does not show as it is.
    let error = fixture.asynq(["task", "count", "type=\u{1b} age>"]).fails(2).await;
    assert!(
        error.contains("\n  type=\\u{1b} age>\n") && !error.contains('\u{1b}'),
        "{error}"
    );
}

#[tokio::test]
async fn an_unreachable_redis_is_named_with_the_time_that_was_spent() {
    let fixture = Fixture::start().await;
    // Nobody listens on the port of a server that has ended.
    let gone = RedisServer::start().await;
    let address = gone.address();
    gone.kill();
    let error = fixture.bare(["--uri", &address, "stats"]).fails(5).await;
    assert!(
        error.contains(&format!("cannot connect to Redis at redis://{address}/0, tried for ")),
        "{error}"
    );
    assert!(error.contains("Check `--uri`"), "{error}");

    // One listens and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let words = ["--uri", &address, "--connect-timeout", "300ms", "queue", "ls"];
    let error = fixture.bare(words).fails(5).await;
    assert!(
        error.contains(&format!("Redis at redis://{address}/0")) && error.contains("300ms"),
        "{error}"
    );

    let error = fixture.bare(["--uri", "::1:6379", "stats"]).fails(2).await;
    assert!(error.contains("must be in brackets"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_told_and_never_shown() {
    let fixture = Fixture::on(RedisServer::builder().password("open sesame").start().await).await;
    let address = fixture.redis.address();
    let stats = |password: &str| {
        fixture
            .bare(["--uri", &address, "stats"])
            .env("ASYNQ_PASSWORD", password)
    };
    for password in ["", "hunter2"] {
        let error = stats(password).fails(5).await;
        assert!(
            error.contains(&address) && error.contains("Check `--username` and `--password`."),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = fixture
        .bare(["--uri", &format!("redis://:hunter2@{address}"), "stats"])
        .fails(5)
        .await;
    assert!(!error.contains("hunter2"), "{error}");
    stats("open sesame").ok().await;
    // The password that comes with another address stays with it.
    let error = stats("open sesame").env("ASYNQ_URI", "127.0.0.1:1").fails(5).await;
    assert!(error.contains(&address), "{error}");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_shown_as_such() {
    let fixture = Fixture::filled().await;
    let text = fixture.asynq(["task", "ls", "-q", "low", "-s", "pending"]).ok().await;
    let row = text.lines().find(|line| line.starts_with("binary")).unwrap();
    assert!(row.ends_with("evil\\u{1b}[31m  non-printable bytes"), "{text}");
    let tasks = fixture.asynq(["task", "ls", "-q", "low", "-s", "pending"]).json().await;
    let payload = |id: &str| tasks.as_array().unwrap().iter().find(|task| task["id"] == id).unwrap()["payload"].clone();
    assert_eq!(
        payload("binary"),
        serde_json::json!({"encoding": "base64", "value": "//4AAQ=="})
    );
    assert_eq!(
        payload("msgpack")["value"],
        serde_json::json!({"id": 1002, "name": "abc"})
    );
    fixture
        .asynq(["task", "inspect", "-q", "low", "-i", "binary"])
        .ok()
        .await;
    // An argument that is no text is refused.
    let words = ["task", "enqueue", "-t", "t", "--payload"].map(OsStr::new);
    let error = fixture.asynq(words).args([OsStr::from_bytes(b"\xff")]).fails(2).await;
    assert!(error.contains("invalid UTF-8"), "{error}");
}

#[tokio::test]
async fn a_reader_that_goes_early_ends_the_program_quietly() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("many", "task-", 100_000).await;
    for form in ["table", "json", "ndjson", "yaml"] {
        let words = ["task", "ls", "--all", "-q", "many", "-s", "pending", "--output", form];
        let mut child = fixture.asynq(words).spawn();
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).await.unwrap();
        assert!(!first.is_empty(), "{form}");
        drop(stdout);
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let error = read_all(child.stderr.as_mut().unwrap()).await;
        assert_eq!(
            (ended.unwrap().unwrap().code(), error.as_str()),
            (Some(0), ""),
            "{form}"
        );
    }
}

#[tokio::test]
async fn ctrl_c_ends_a_backfill_and_says_what_was_done() {
    let fixture = Fixture::start().await;
    let entry = SchedulerEntry {
        id: "every-minute".to_owned(),
        spec: "* * * * *".to_owned(),
        task_type: "t".to_owned(),
        payload: "{}".into(),
        options: Vec::new(),
        next: None,
        prev: None,
    };
    let hour = Duration::from_secs(3600);
    fixture
        .storage
        .write_scheduler_entries("host:1:a", &[entry], hour)
        .await
        .unwrap();
    let mut client = fixture.redis.client().await;
    client.ok(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
    let from = in_secs(-30 * 60).to_rfc3339();
    let mut child = fixture
        .asynq([
            "cron",
            "backfill",
            "every-minute",
            "--yes",
            "--also-unknown",
            "--from",
            &from,
        ])
        .spawn();
    eventually("the first tick is sent", async || {
        let list = client.cmd(&["CLIENT", "LIST"]).await.text();
        let mut ours = list.lines().filter(|line| line.contains("name=asynq-cli"));
        ours.any(|line| line.contains(" flags=b"))
    })
    .await;
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::INT,
    )
    .unwrap();
    // It has the signal before the answer, as both go through its own socket.
    eventually("it has taken the signal", async || pending_signals(pid) == 0).await;
    client.ok(&["CLIENT", "UNPAUSE"]).await;
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    let (output, error) = (
        read_all(child.stdout.as_mut().unwrap()).await,
        read_all(child.stderr.as_mut().unwrap()).await,
    );
    assert_eq!(ended.code(), Some(1), "{output}{error}");
    assert!(error.contains("stopped by Ctrl-C; the same command goes on"), "{error}");
    let enqueued = fixture.inspector().get_queue_stats("default").await.unwrap().pending;
    assert!(enqueued < 30, "{enqueued}");
    let ticks = if enqueued == 1 { "tick" } else { "ticks" };
    assert!(output.starts_with(&format!("enqueued {enqueued} {ticks};")), "{output}");
    // And it does.
    let rest = fixture
        .asynq([
            "cron",
            "backfill",
            "every-minute",
            "--yes",
            "--also-unknown",
            "--from",
            &from,
        ])
        .json()
        .await;
    assert_eq!(rest["decided_before"], enqueued, "{rest}");
    assert!(rest["enqueued"].as_u64().unwrap() >= 29 - enqueued, "{rest}");
}

/// Signals that a process has not taken yet, as a set of bits.
fn pending_signals(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[tokio::test]
async fn wrong_usage_is_refused_before_anything_is_opened() {
    let fixture = Fixture::start().await;
    fixture.redis.kill();
    for (words, text) in [
        (["nonsense"].as_slice(), "unrecognized subcommand 'nonsense'"),
        (&["queue", "nonsense"], "unrecognized subcommand 'nonsense'"),
        (&["stats", "--nonsense"], "unexpected argument '--nonsense'"),
        (&["queue", "inspect"], "<QUEUE>"),
        (&["task", "ls", "--queue", "q"], "--state"),
        (
            &["task", "ls", "-q", "q", "-s", "nonsense"],
            "state=\"nonsense\" is not supported",
        ),
        (
            &["task", "ls", "-q", "q", "-s", "aggregating"],
            "flag --group is required for listing aggregating tasks",
        ),
        (
            &["task", "archiveall", "-q", "q", "-s", "archived"],
            "unsupported state \"archived\"",
        ),
        (
            &["task", "runall", "-q", "q", "-s", "pending"],
            "unsupported state \"pending\"",
        ),
        (
            &["task", "deleteall", "-q", "q", "-s", "active"],
            "unsupported state \"active\"",
        ),
        (
            &["task", "ls", "-q", "q", "-s", "retry", "--page", "0"],
            "'0' for '--page",
        ),
        (&["task", "ls", "-q", "q", "-s", "retry", "--page", "-1"], "-1"),
        (
            &["task", "ls", "-q", "q", "-s", "retry", "--size", "10001"],
            "1..=10000",
        ),
        (&["queue", "history", "q", "--days", "0"], "1..=366"),
        (&["stats", "--watch", "1ms"], "at least 100ms"),
        (&["stats", "--watch", "often"], "a duration is like"),
        (&["stats", "--output", "xml"], "table, json, ndjson, yaml"),
        (&["stats", "--db", "first"], "'first' for '--db"),
        (&["task", "enqueue", "-t", "t"], "--payload"),
        (
            &["task", "enqueue", "-t", "t", "-l", "{}", "--process_in", "1 day"],
            "a duration is like",
        ),
        (
            &["task", "enqueue", "-t", "t", "-l", "{}", "--deadline", "noon"],
            "a time is like",
        ),
        (
            &["task", "enqueue", "-t", " ", "-l", "{}"],
            "must contain one or more characters",
        ),
        (
            &["queue", "pause", "q", "--watch", "2s"],
            "`--watch` is for commands that show something",
        ),
    ] {
        let error = fixture.asynq(words).fails(2).await;
        assert!(error.contains(text), "{words:?}: {error}");
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_named() {
    let fixture = Fixture::start().await;
    for (name, text) in [
        (".asynq.yaml", "uri: ["),
        (".asynq.yaml", "contexts:\n  prod:\n    protectd: true\n"),
        (".asynq.yml", "db: first\n"),
        (".asynq.json", "{\"uri\": "),
        (".asynq.toml", "uri = \n"),
    ] {
        fixture.write_home(name, text);
        let error = fixture.bare(["stats"]).fails(2).await;
        assert!(error.contains(name), "{name}: {error}");
        std::fs::remove_file(fixture.home.path().join(name)).unwrap();
    }
    let error = fixture.bare(["--config", "nowhere.yaml", "stats"]).fails(2).await;
    assert!(error.contains("nowhere.yaml"), "{error}");
    fixture.write_home("mine.yaml", "contexts: {staging: {uri: '127.0.0.1:1'}, prod: {}}\n");
    let error = fixture
        .bare(["--config", "mine.yaml", "-c", "prd", "stats"])
        .fails(3)
        .await;
    assert!(
        error.contains("no context \"prd\"") && error.contains("staging"),
        "{error}"
    );
    let error = fixture.bare(["stats"]).env("ASYNQ_DB", "first").fails(2).await;
    assert!(error.contains("ASYNQ_DB"), "{error}");
}
