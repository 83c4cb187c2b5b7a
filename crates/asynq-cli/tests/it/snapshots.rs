//! Outputs of the program as files: the listings in all forms, and the help of each command.
//!
//! `INSTA_UPDATE=always cargo test -p asynq-cli --test it snapshots` writes them anew.

use std::{collections::VecDeque, time::Duration};

use asynq::{
    TaskState,
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, ServerStatus, WorkerInfo},
};
use asynq_testing::request::{id, queue};

use crate::support::{Fixture, in_secs};

/// Everything that depends on the time, the machine or the Redis, and what stands in its place.
const FILTERS: [(&str, &str); 16] = [
    (
        r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00| \+0000 UTC)",
        "[time]",
    ),
    (
        r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d UTC \d{4}",
        "[date]",
    ),
    (r"Daily Stats \d{4}-\d\d-\d\d UTC", "Daily Stats [day] UTC"),
    (r"(?m)^\d{4}-\d\d-\d\d  ", "[day]       "),
    (r#"(date"?: ?'?"?)\d{4}-\d\d-\d\d"#, "$1[day]"),
    (r"\(in (\d+h)?(\d+m)?\d+s\)", "(in [span])"),
    (r"\b([Ii]n) (\d+h)?(\d+m)?\d+s *", "$1 [span]  "),
    (r"\b(\d+h)?(\d+m)?\d+s ago\b", "[span] ago"),
    (r"127\.0\.0\.1:\d{5}", "127.0.0.1:[port]"),
    (r#"((?:latency|wait|run)_seconds"?: ?)[\d.e-]+"#, "$1[number]"),
    (r#"(memory_bytes"?: ?)\d+"#, "$1[number]"),
    (r"(?m)^\d+\.\d+\.\d+ +\d+ days .*$", "[numbers of Redis]"),
    (r#"(?s)("redis": ?)\{.*?\}"#, "$1{[numbers of Redis]}"),
    (r"(?s)\nredis:\n.*?\n\n", "\nredis: [numbers of Redis]\n\n"),
    (r#"("(?:aggregate|Latency|MemoryUsage)":)\d+"#, "$1[number]"),
    (r"(?m) +$", ""),
];

fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (found, shown) in FILTERS {
        settings.add_filter(found, shown);
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}

async fn fixture() -> Fixture {
    let fixture = Fixture::filled().await;
    let hour = Duration::from_secs(3600);
    let server = ServerInfo {
        host: "host-1".to_owned(),
        pid: 4242,
        server_id: "8c5d4d7e-0000-4000-8000-000000000001".to_owned(),
        concurrency: 10,
        queues: [("default".to_owned(), 6), ("low".to_owned(), 1)].into(),
        strict_priority: false,
        status: ServerStatus::Active,
        start_time: in_secs(-86_400),
        active_worker_count: 1,
    };
    let worker = WorkerInfo {
        host: server.host.clone(),
        pid: server.pid,
        server_id: server.server_id.clone(),
        task_id: id("active"),
        queue: queue("default"),
        task_type: "email:send".to_owned(),
        payload: r#"{"to":"active@example.com","n":1002}"#.into(),
        start_time: in_secs(-2),
        deadline: in_secs(1798),
    };
    fixture
        .storage
        .write_server_state(&server, &[worker], hour)
        .await
        .unwrap();
    let entry = |id: &str, spec: &str, options: &[&str]| SchedulerEntry {
        id: id.to_owned(),
        spec: spec.to_owned(),
        task_type: "report:build".to_owned(),
        payload: r#"{"daily":true}"#.into(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        // Its text has the same length for almost a minute.
        next: Some(in_secs(5399)),
        prev: None,
    };
    let entries = [
        entry(
            "7837f142-6337-4217-9276-8f27281b67d1",
            "0 4 * * *",
            &[r#"Queue("low")"#, "MaxRetry(3)"],
        ),
        entry(
            "bf6a8594-cd03-4968-b36a-8572c5e160dd",
            "CRON_TZ=Europe/Berlin 30 4 * * mon",
            &[],
        ),
    ];
    fixture
        .storage
        .write_scheduler_entries("host-1:4242:a", &entries, hour)
        .await
        .unwrap();
    let event = SchedulerEnqueueEvent {
        task_id: id("report-1"),
        enqueued_at: in_secs(-60),
    };
    fixture
        .storage
        .record_enqueue_event(&entries[0].id, &event)
        .await
        .unwrap();
    fixture
}

#[tokio::test]
async fn listings_in_all_forms() {
    let fixture = fixture().await;
    let mut listings: Vec<(String, Vec<&str>)> = vec![
        ("queue list".to_owned(), vec![]),
        ("queue inspect".to_owned(), vec!["default", "low"]),
        ("queue history".to_owned(), vec!["default", "--days", "2"]),
        ("server list".to_owned(), vec![]),
        ("group list".to_owned(), vec!["--queue", "default"]),
        ("cron list".to_owned(), vec![]),
        (
            "cron history".to_owned(),
            vec!["7837f142-6337-4217-9276-8f27281b67d1", "unknown"],
        ),
        (
            "cron next".to_owned(),
            vec!["0 4 1 1 *", "-n", "2", "--from", "2026-05-14T03:04:05Z"],
        ),
        ("stats".to_owned(), vec![]),
        ("task inspect".to_owned(), vec!["--queue", "default", "--id", "retry"]),
        ("task search".to_owned(), vec!["state=retry,archived type=email:send"]),
    ];
    for state in [
        TaskState::Active,
        TaskState::Aggregating,
        TaskState::Scheduled,
        TaskState::Retry,
        TaskState::Archived,
        TaskState::Completed,
    ] {
        let mut words = vec!["--queue", "default", "--state", state.as_str()];
        if state == TaskState::Aggregating {
            words.extend(["--group", "g"]);
        }
        listings.push(("task list".to_owned(), words));
    }
    listings.push(("task list".to_owned(), vec!["--queue", "low", "--state", "pending"]));
    for (command, words) in &listings {
        let mut text = String::new();
        for form in ["table", "json", "ndjson", "yaml"] {
            let quoted = |word: &&str| {
                if word.contains(' ') {
                    format!("'{word}'")
                } else {
                    (*word).to_owned()
                }
            };
            let shown: String = words.iter().map(|word| quoted(word) + " ").collect();
            text += &format!("$ asynq {command} {shown}--output {form}\n");
            let run = fixture.asynq(command.split(' ')).args(words).args(["--output", form]);
            let ended = run.run().await;
            assert_eq!(ended.status, 0, "{ended:?}");
            text += &(ended.stdout + "\n");
        }
        let of_state = words.iter().skip_while(|&&word| word != "--state").nth(1);
        let name = [
            command.replace(' ', "_"),
            of_state.map(|state| format!("_{state}")).unwrap_or_default(),
        ]
        .concat();
        assert_snapshot(&name, &text);
    }
}

#[tokio::test]
async fn the_help_of_each_command() {
    let fixture = Fixture::start().await;
    let mut open = VecDeque::from([Vec::<String>::new()]);
    let mut helps: Vec<(String, String)> = Vec::new();
    while let Some(command) = open.pop_front() {
        let help = fixture.bare(&command).args(["--help"]).ok().await;
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in listed.take_while(|line| !line.is_empty()) {
            // A continued description stands further to the right.
            if let Some(name) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
                let name = name.split_whitespace().next().unwrap();
                if name != "help" {
                    open.push_back([command.as_slice(), &[name.to_owned()]].concat());
                }
            }
        }
        let help = if command.is_empty() { help } else { own_part(&help) };
        let text = format!(
            "$ asynq {}\n{help}\n",
            [command.as_slice(), &["--help".to_owned()]].concat().join(" ")
        );
        let top = command.first().map_or("asynq", String::as_str).to_owned();
        match helps.iter_mut().find(|(name, _)| *name == top) {
            Some((_, helps)) => helps.push_str(&text),
            None => helps.push((top, text)),
        }
    }
    assert!(helps.len() > 15, "{helps:?}");
    for (name, text) in helps {
        assert_snapshot(&format!("help_{name}"), &text);
    }
}

/// The help of a command without the flags that all commands have, which that of the program shows.
fn own_part(help: &str) -> String {
    let mut is_global = false;
    let own = help.lines().filter(|line| {
        if !line.is_empty() && !line.starts_with(' ') {
            is_global = ["Connection:", "Acts:", "Output:"].contains(line);
        }
        !is_global
    });
    own.map(|line| line.to_owned() + "\n").collect()
}
