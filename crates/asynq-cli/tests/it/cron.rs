//! `asynq cron`: the entries of schedulers, their history, and what is enqueued by hand.

use std::time::Duration;

use asynq::info::{SchedulerEnqueueEvent, SchedulerEntry};
use asynq_testing::request::id;
use chrono::{DateTime, Utc};

use crate::support::{Fixture, in_secs};

const HOURLY: &str = "7837f142-6337-4217-9276-8f27281b67d1";
const EVERY: &str = "bf6a8594-cd03-4968-b36a-8572c5e160dd";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn entry(id: &str, spec: &str) -> SchedulerEntry {
    SchedulerEntry {
        id: id.to_owned(),
        spec: spec.to_owned(),
        task_type: "report:build".to_owned(),
        payload: "{\"n\":1}".into(),
        options: vec![r#"Queue("low")"#.to_owned(), "MaxRetry(3)".to_owned()],
        next: Some(at("2030-01-01T00:00:00Z")),
        prev: None,
    }
}

async fn publish(fixture: &Fixture, entries: &[SchedulerEntry]) {
    let hour = Duration::from_secs(3600);
    fixture
        .storage
        .write_scheduler_entries("host:1:a", entries, hour)
        .await
        .unwrap();
}

async fn event(fixture: &Fixture, entry: &str, task: &str, enqueued_at: DateTime<Utc>) {
    let event = SchedulerEnqueueEvent {
        task_id: id(task),
        enqueued_at,
    };
    fixture.storage.record_enqueue_event(entry, &event).await.unwrap();
}

#[tokio::test]
async fn entries_are_listed_by_their_specs() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.asynq(["cron", "ls"]).ok().await, "No scheduler entries\n");
    let mut every = entry(EVERY, "@every 1h");
    (every.next, every.prev) = (Some(in_secs(3600)), Some(in_secs(-7200)));
    let mut over = entry(HOURLY, "0 * * * *");
    (over.next, over.options, over.payload) = (Some(in_secs(-60)), Vec::new(), "\u{1b}[31m".into());
    publish(&fixture, &[every, over]).await;
    let text = fixture.asynq(["cron", "list"]).ok().await;
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        lines[0],
        ["EntryID", "Spec", "Type", "Payload", "Options", "Next", "Prev"]
    );
    assert_eq!(
        lines[2],
        [
            HOURLY,
            "0 * * * *",
            "report:build",
            "non-printable bytes",
            "[]",
            "Now",
            "N/A"
        ]
    );
    let every = &lines[3];
    assert_eq!(
        every[..5],
        [
            EVERY,
            "@every 1h",
            "report:build",
            "{\"n\":1}",
            "[Queue(\"low\") MaxRetry(3)]"
        ]
    );
    assert!(every[5].starts_with("In 59m") || every[5] == "In 1h0m0s", "{text}");
    assert!(every[6].starts_with("2h0m") && every[6].ends_with(" ago"), "{text}");
    let json = fixture.asynq(["cron", "list"]).json().await;
    assert_eq!(json[1]["id"], EVERY);
    assert_eq!(json[1]["payload"]["value"]["n"], 1);
    assert_eq!(json[0]["next"].as_str().map(|text| text.ends_with('Z')), Some(true));
}

#[tokio::test]
async fn a_history_has_pages() {
    let fixture = Fixture::start().await;
    event(&fixture, HOURLY, "first", at("2026-05-14T03:00:00.5Z")).await;
    event(&fixture, HOURLY, "second", at("2026-05-14T04:00:00Z")).await;
    let text = fixture.asynq(["cron", "history", HOURLY, "none"]).ok().await;
    assert_eq!(
        text,
        format!(
            "\nEntry: {HOURLY}\n\nTaskID  EnqueuedAt\n------  ----------\n\
             second  2026-05-14 04:00:00 +0000 UTC\nfirst   2026-05-14 03:00:00.5 +0000 UTC\n\
             \n=================================================\n\
             \nEntry: none\n\nNo scheduler enqueue events found for entry: none\n"
        )
    );
    let page = fixture
        .asynq(["cron", "history", HOURLY, "--page", "2", "--size", "1", "-o", "ndjson"])
        .ok()
        .await;
    assert_eq!(
        page.trim(),
        format!(r#"{{"entry":"{HOURLY}","task":"first","enqueued":"2026-05-14T03:00:00.500Z"}}"#)
    );
    for words in [["--page", "0"], ["--page", "x"], ["--size", "0"], ["--size", "10001"]] {
        let error = fixture.asynq(["cron", "history", HOURLY]).args(words).fails(2).await;
        assert!(error.contains(words[0]) && error.contains(words[1]), "{error}");
    }
}

#[tokio::test]
async fn the_next_times_need_no_redis() {
    let fixture = Fixture::start().await;
    let next = |words: &[&str]| fixture.bare(["--uri", "127.0.0.1:1", "cron", "next"]).args(words);
    let from = ["--from", "2026-03-28T12:00:00Z"];
    let text = next(&["30 9 * * *", "-n", "2", "--tz", "Europe/Berlin"])
        .args(from)
        .ok()
        .await;
    assert_eq!(
        text,
        "Time                          UTC                   In\n\
         ----                          ---                   --\n\
         Sun 2026-03-29 09:30:00 CEST  2026-03-29T07:30:00Z  19h30m0s\n\
         Mon 2026-03-30 09:30:00 CEST  2026-03-30T07:30:00Z  43h30m0s\n"
    );
    let json = next(&["CRON_TZ=Asia/Tokyo @daily", "--count", "3"])
        .args(from)
        .json()
        .await;
    assert_eq!(json.as_array().map(Vec::len), Some(3));
    assert_eq!(
        (&json[0]["time"], &json[0]["zone"]),
        (&"2026-03-29T00:00:00+09:00".into(), &"Asia/Tokyo".into())
    );
    assert_eq!(next(&["@hourly"]).ok().await.lines().count(), 12, "ten are usual");
    assert_eq!(next(&["0 0 30 2 *"]).ok().await, "the spec never fits\n");
    let error = next(&["* 9-25 * * *"]).fails(2).await;
    assert_eq!(
        error,
        "error: wrong cron spec: hour `9-25`: 25 is above 23 (allowed: 0-23)\n  * 9-25 * * *\n    ^^^^\n"
    );
    assert!(
        next(&["@daily", "--tz", "Europe/Nowhere"])
            .fails(2)
            .await
            .contains("no such zone")
    );
    assert!(next(&["@daily", "-n", "0"]).fails(2).await.contains("1..=1000"));
}

#[tokio::test]
async fn an_entry_runs_now_and_the_trail_shows_it() {
    let fixture = Fixture::start().await;
    publish(&fixture, &[entry(HOURLY, "0 * * * *"), entry(EVERY, "@every 1h")]).await;
    let error = fixture.asynq(["cron", "run", HOURLY]).fails(4).await;
    assert!(
        error.contains(HOURLY) && error.contains(&fixture.redis.address()),
        "{error}"
    );
    let error = fixture.asynq(["cron", "run", "0000", "--yes"]).fails(3).await;
    assert!(error.contains("there is no scheduler entry \"0000\""), "{error}");
    assert!(fixture.inspector().queues().await.unwrap().is_empty());

    // The beginning of its id will do.
    let ended = fixture
        .asynq(["cron", "run", "7837", "--yes", "--reason", "late"])
        .run()
        .await;
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let task = ended
        .stdout
        .strip_prefix("Enqueued task ")
        .unwrap()
        .strip_suffix(" to queue low\n")
        .unwrap();
    let info = fixture.inspector().get_task_info("low", task).await.unwrap();
    assert_eq!(
        (info.task_type.as_str(), info.payload.as_ref(), info.max_retry),
        ("report:build", b"{\"n\":1}".as_slice(), 3)
    );
    let trail = fixture.asynq(["audit"]).json().await;
    assert_eq!(
        (&trail[0]["act"], &trail[0]["task"]),
        (&"run_entry".into(), &task.into()),
        "{trail}"
    );
    assert_eq!(trail[0]["actor"]["reason"], "late", "{trail}");
    let error = fixture
        .asynq(["cron", "run", HOURLY, "--yes", "--read-only"])
        .fails(4)
        .await;
    assert!(error.contains("read-only"), "{error}");
}

const SPAN: [&str; 4] = ["--from", "2026-05-14T03:00:00Z", "--to", "2026-05-14T07:30:00Z"];

#[tokio::test]
async fn missed_ticks_are_enqueued_once() {
    let fixture = Fixture::start().await;
    publish(&fixture, &[entry(HOURLY, "0 * * * *")]).await;
    // The scheduler was there for the tick at four.
    event(&fixture, HOURLY, "at-four", at("2026-05-14T04:00:00.1Z")).await;
    let careful = |words: &[&str]| fixture.asynq(["cron", "backfill", HOURLY]).args(SPAN).args(words);
    // Nobody knows about the tick at three: a history that began before it may have been cut or deleted.
    assert_eq!(
        careful(&["--dry-run"]).ok().await,
        "would enqueue 3 ticks; 1 tick by the scheduler left out; 1 tick older than the history left out: their tasks may have \
         run (`--also-unknown`)\n  2026-05-14T05:00:00Z\n  2026-05-14T06:00:00Z\n  2026-05-14T07:00:00Z\n"
    );
    let backfill = |words: &[&str]| careful(words).args(["--also-unknown"]);
    assert_eq!(
        backfill(&["--dry-run"]).ok().await,
        "would enqueue 4 ticks; 1 tick by the scheduler left out; 1 tick older than the history: their tasks may have run\n  \
         2026-05-14T03:00:00Z\n  2026-05-14T05:00:00Z\n  2026-05-14T06:00:00Z\n  2026-05-14T07:00:00Z\n"
    );
    assert!(fixture.inspector().queues().await.unwrap().is_empty());
    let question = backfill(&[]).fails(4).await;
    assert!(
        question.contains("4 past ticks") && question.contains("1 of them may have run"),
        "{question}"
    );
    let ended = backfill(&["--yes"]).run().await;
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (
            0,
            "enqueued 4 ticks; 1 tick by the scheduler left out; 1 tick older than the history: their tasks may have run\n"
        ),
        "{}",
        ended.stderr
    );
    // A task that has ended is not enqueued again either.
    let task = fixture.take("low").await;
    assert!(task.message.id.starts_with("backfill:") && task.message.id.ends_with(":2026-05-14T03:00:00Z"));
    fixture
        .settle(&task, asynq::broker::Outcome::Done { retain: false })
        .await;
    let again = backfill(&["--yes"]).json().await;
    assert_eq!(
        (&again["enqueued"], &again["decided_before"]),
        (&0.into(), &4.into()),
        "{again}"
    );
    assert_eq!(fixture.inspector().get_queue_stats("low").await.unwrap().pending, 3);
    let trail = fixture.asynq(["audit"]).json().await;
    let acts: Vec<_> = trail
        .as_array()
        .unwrap()
        .iter()
        .map(|act| (&act["act"], &act["changed"]))
        .collect();
    assert_eq!(
        acts,
        [
            (&"backfill_entry".into(), &0.into()),
            (&"backfill_entry".into(), &4.into())
        ]
    );
}

#[tokio::test]
async fn the_ticks_of_a_period_are_where_its_scheduler_has_them() {
    let fixture = Fixture::start().await;
    let mut every = entry(EVERY, "@every 1h");
    every.next = Some(at("2030-01-01T00:12:34Z"));
    publish(&fixture, &[every]).await;
    let text = fixture
        .asynq(["cron", "backfill", EVERY, "--dry-run", "--also-unknown"])
        .args(SPAN)
        .ok()
        .await;
    assert_eq!(text.lines().nth(1), Some("  2026-05-14T03:12:34Z"));
    assert_eq!(text.lines().last(), Some("  2026-05-14T07:12:34Z"));
}

#[tokio::test]
async fn a_fixed_id_is_refused_after_the_first_tick() {
    let fixture = Fixture::start().await;
    let mut fixed = entry(HOURLY, "0 * * * *");
    fixed.options.push("TaskID(\"report\")".to_owned());
    publish(&fixture, &[fixed]).await;
    let done = fixture
        .asynq(["cron", "backfill", HOURLY, "--yes", "--also-unknown"])
        .args(SPAN)
        .json()
        .await;
    assert_eq!((&done["enqueued"], &done["refused"]), (&1.into(), &4.into()), "{done}");
    fixture.inspector().get_task_info("low", "report").await.unwrap();
}

#[tokio::test]
async fn spans_that_make_no_sense_are_refused() {
    let fixture = Fixture::start().await;
    let mut elsewhere = entry(EVERY, "30 9 * * *");
    elsewhere.next = Some(at("2030-01-01T08:30:00Z"));
    publish(&fixture, &[entry(HOURLY, "* * * * *"), elsewhere]).await;
    let backfill = |entry: &str, from: &str, to: &str| {
        fixture.asynq(["cron", "backfill", entry, "--yes", "--from", from, "--to", to])
    };
    let error = backfill(HOURLY, "2026-05-14T03:00:00Z", "2026-05-13T03:00:00Z")
        .fails(2)
        .await;
    assert!(error.contains("ends before it begins"), "{error}");
    let error = backfill(HOURLY, "2026-05-01T00:00:00Z", "2026-05-14T00:00:00Z")
        .fails(2)
        .await;
    assert!(
        error.contains("more than 1000 ticks") && error.contains("end at 2026-05-01T16:39:00Z"),
        "{error}"
    );
    let error = backfill(HOURLY, "yesterday", "2026-05-14T00:00:00Z").fails(2).await;
    assert!(error.contains("a time is like"), "{error}");
    // Its scheduler lives in another zone.
    let error = backfill(EVERY, "2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z")
        .fails(2)
        .await;
    assert!(error.contains("--tz"), "{error}");
    let text = backfill(EVERY, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z").args([
        "--tz",
        "Europe/Berlin",
        "--dry-run",
        "--also-unknown",
    ]);
    assert_eq!(
        text.ok().await,
        "would enqueue 1 tick; 1 tick older than the history: their tasks may have run\n  2026-01-01T08:30:00Z\n"
    );
    assert!(fixture.inspector().queues().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_context_hides_payloads_and_protects_its_entries() {
    let fixture = Fixture::start().await;
    publish(
        &fixture,
        &[entry(HOURLY, "0 * * * *"), entry("7837f142-other", "5 * * * *")],
    )
    .await;
    let url = fixture.redis.url();
    let text =
        format!("contexts:\n  prod:\n    uri: {url}\n    redact: ['report:*']\n    protected: true\ncontext: prod\n");
    fixture.write_home(".asynq.yaml", &text);
    let shown = fixture.bare(["cron", "ls"]).ok().await;
    assert!(shown.contains("(redacted)") && !shown.contains("\"n\""), "{shown}");
    for form in ["json", "ndjson", "yaml"] {
        let shown = fixture.bare(["cron", "ls", "-o", form]).ok().await;
        assert!(
            shown.contains("redacted") && !shown.contains("\"n\"") && !shown.contains("n: 1"),
            "{shown}"
        );
    }
    for act in [
        ["run"].as_slice(),
        &[
            "backfill",
            "--from",
            "2026-05-14T03:00:00Z",
            "--to",
            "2026-05-14T04:00:00Z",
        ],
    ] {
        let error = fixture.bare(["cron"]).args(act).args([HOURLY, "--yes"]).fails(4).await;
        assert!(
            error.contains("context \"prod\" is protected, nothing was changed"),
            "{error}"
        );
    }
    assert!(fixture.inspector().queues().await.unwrap().is_empty());
    // Two entries begin alike.
    let error = fixture
        .bare(["--context", "prod", "cron", "run", "7837", "--yes"])
        .fails(2)
        .await;
    assert!(error.contains("several entries begin with \"7837\""), "{error}");
    let run = fixture
        .bare(["--context", "prod", "cron", "run", HOURLY, "--yes", "-o", "json"])
        .run()
        .await;
    assert!(
        run.status == 0 && run.stdout.contains("redacted") && !run.stdout.contains("\"n\""),
        "{run:?}"
    );
}
