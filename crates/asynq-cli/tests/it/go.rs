//! Go's answers beside ours, on a Redis that programs of both filled: the same listings, to the byte.
//!
//! Go's are those of `asynq-interop listing` (see `interop/go/README.md`), which formats with Go what Go's library reads, as
//! its command line program is documented to. If [`GO_CLI_ENV`] names that program, it answers instead.

mod acts;
mod flags;

use std::time::Duration;

use asynq::{
    Client, Task, TaskState,
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, ServerStatus, WorkerInfo},
    redis::RedisConnectionType,
};
use asynq_interop::{GoClient, GoScheduler, GoTask, ServerProcess, program};
use asynq_testing::{
    RedisCluster, RedisServer,
    request::{id, queue, request},
};
use serde_json::Value;
use tokio::process::Command;

use crate::support::{Ended, Fixture, PATIENCE, eventually, in_secs, run_to_end};

/// The environment variable that names a command line program of Go.
const GO_CLI_ENV: &str = "ASYNQ_GO_CLI";

/// A difference that is ours on purpose: the commands that have it, by their beginning, the change that makes both outputs
/// alike, and the reason.
type Difference = (&'static str, fn(&str) -> String, &'static str);

/// All of them.
const KNOWN: [Difference; 6] = [
    (
        "",
        without_blanks_at_ends,
        "Go fills the last column of a table with blanks, which wrap on a narrow terminal",
    ),
    (
        "queue ls",
        sorted,
        "Go's order is that of a set in Redis, so it changes; ours is by name",
    ),
    ("group ls", sorted, "as for queues"),
    ("stats", queues_sorted, "as for queues"),
    (
        "stats",
        without_numbers_of_redis,
        "the numbers of Redis count each program's own connections and memory",
    ),
    (
        "task inspect",
        without_further_parts,
        "ours goes on with the data and the runs of the task after what Go shows",
    ),
];

/// Go's answer, on the database of a fixture.
pub(crate) async fn go(fixture: &Fixture, words: &[&str]) -> Ended {
    let mut command = match std::env::var_os(GO_CLI_ENV).filter(|path| !path.is_empty()) {
        Some(path) => Command::new(path),
        None => {
            let mut command = Command::new(program().await);
            command.arg("listing");
            command
        }
    };
    command
        .env_clear()
        .env("HOME", fixture.home.path())
        .env("TZ", "UTC")
        .args(["--uri", &fixture.redis.address()])
        .args(words);
    run_to_end(command, Vec::new()).await
}

fn alike(command: &str, output: &str) -> String {
    let command = command.replace(" list", " ls");
    let known = KNOWN.iter().filter(|(beginning, ..)| command.starts_with(beginning));
    known.fold(output.to_owned(), |output, (_, change, _)| change(&output))
}

/// Runs both programs until they agree: they show times in seconds, which may pass between the two.
async fn assert_same(fixture: &Fixture, words: &[&str]) {
    let command = words.join(" ");
    let mut last = None;
    // Its build takes longer than any comparison.
    program().await;
    let compared = async {
        loop {
            let (ours, gos) = tokio::join!(fixture.asynq(words).run(), go(fixture, words));
            let (ours, gos) = (
                (ours.status, alike(&command, &ours.stdout)),
                (gos.status, alike(&command, &gos.stdout)),
            );
            if ours == gos {
                return;
            }
            // What differs a second time does not differ by the time.
            let differs_again = last.replace((ours.clone(), gos.clone())).is_some();
            if differs_again {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    if tokio::time::timeout(PATIENCE / 4, compared).await.is_err() {
        let (ours, gos) = last.unwrap();
        panic!(
            "{command}: ours ({}):\n{}\nGo's ({}):\n{}",
            ours.0, ours.1, gos.0, gos.1
        );
    }
}

fn without_blanks_at_ends(text: &str) -> String {
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn cells(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}

/// Sorts the columns of the table below `Task Count by Queue`.
fn queues_sorted(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let Some(title) = lines.iter().position(|line| line == "Task Count by Queue") else {
        return text.to_owned();
    };
    let mut columns: Vec<_> = cells(&lines[title + 1])
        .into_iter()
        .zip(cells(&lines[title + 2]))
        .zip(cells(&lines[title + 3]))
        .collect();
    columns.sort_unstable();
    lines[title + 1] = format!("{columns:?}");
    lines.drain(title + 2..title + 4);
    lines.join("\n")
}

/// Leaves of the last line of the table `Redis Info` the version and the days.
fn without_numbers_of_redis(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some(row) = lines
        .iter()
        .position(|line| line.starts_with("version  "))
        .map(|title| title + 2)
    {
        lines[row] = cells(&lines[row])[..2].join(" ");
    }
    lines.join("\n")
}

/// Leaves what Go's program shows of a task.
fn without_further_parts(text: &str) -> String {
    let end = text.find("\n\nDetails\n").map_or(text.len(), |end| end + 1);
    text[..end].to_owned()
}

/// Both sides on one Redis. They live as long as this value.
#[derive(Debug)]
struct Both {
    fixture: Fixture,
    _server: ServerProcess,
    _scheduler: GoScheduler,
    /// An entry of a Go scheduler that was killed, with a history.
    killed: String,
}

/// Tasks of both sides in all states, servers and schedulers of both.
///
/// * queue `default`: those of [`Fixture::fill`];
/// * queue `gofer`: a Go server has run tasks there. It runs one still;
/// * queue `many`: 45 pending tasks.
async fn both() -> Both {
    let fixture = Fixture::start().await;
    fixture.fill_default().await;
    fixture.enqueue_many("many", "task-", 45).await;
    fixture.enqueue(request("paused", "p1")).await;
    fixture.inspector().pause_queue("paused").await.unwrap();
    let address = fixture.redis.address();
    let hour = Duration::from_secs(3600);
    let builder = ServerProcess::go(&address)
        .queues([("gofer", 6), ("a", 3), ("b", 3)])
        .retry_delay(hour);
    let mut server = builder.concurrency(7).start().await;
    let mut client = GoClient::start(&address).await;
    let mut task = async |id: &str, payload: &str| {
        let task = GoTask {
            retention_ms: Some(3_600_000),
            ..GoTask::new("go:task")
        };
        client.enqueue(&task.queue("gofer").id(id).payload(payload)).await;
    };
    task("ok", r#"{"do":"ok"}"#).await;
    task("result", r#"{"do":"result","data":"{\"sum\":3}"}"#).await;
    task("fail", r#"{"do":"fail","error":"no route to host"}"#).await;
    task("skip", r#"{"do":"skip_retry","error":"bad card"}"#).await;
    for id in ["ok", "result", "fail", "skip"] {
        server.ended(id).await;
    }
    task("running", r#"{"do":"wait_cancel"}"#).await;
    server.started("running").await;
    let later = GoTask {
        process_in_ms: Some(7_200_000),
        ..GoTask::new("go:later")
    };
    client
        .enqueue(&later.queue("gofer").id("later").payload(b"\xff\x00"))
        .await;
    let grouped = GoTask {
        group: Some("g:1".to_owned()),
        ..GoTask::new("go:part")
    };
    client
        .enqueue(&grouped.queue("other").id("part").payload("two\nlines"))
        .await;

    let inspector = fixture.inspector();
    let ours = ServerInfo {
        host: "another-host".to_owned(),
        pid: 4242,
        server_id: "0c2a".to_owned(),
        concurrency: 20,
        queues: [("default".to_owned(), 1)].into(),
        strict_priority: true,
        status: ServerStatus::Stopped,
        start_time: in_secs(-90_000),
        active_worker_count: 3,
    };
    let workers = ["w1", "w2", "w3"].map(|task| WorkerInfo {
        host: ours.host.clone(),
        pid: ours.pid,
        server_id: ours.server_id.clone(),
        task_id: id(task),
        queue: queue("default"),
        task_type: "t".to_owned(),
        payload: "{}".into(),
        start_time: in_secs(-60),
        deadline: in_secs(60),
    });
    fixture.storage.write_server_state(&ours, &workers, hour).await.unwrap();
    eventually("the Go server shows its task", async || {
        inspector
            .servers()
            .await
            .unwrap()
            .iter()
            .any(|server| server.active_worker_count == 1)
    })
    .await;

    let heartbeat = Duration::from_millis(200);
    let mut scheduler = GoScheduler::start(&address, heartbeat).await;
    let options = GoTask {
        max_retry: Some(3),
        ..GoTask::new("go:report").queue("low")
    };
    scheduler
        .register("@every 1h", &options.payload(r#"{"daily":true}"#))
        .await;
    scheduler
        .register("CRON_TZ=Europe/Berlin 0 3 1 1 *", &GoTask::new("go:new-year"))
        .await;
    let mut brief = GoScheduler::start(&address, heartbeat).await;
    let killed = brief
        .register("@every 1s", &GoTask::new("go:tick").queue("ticks"))
        .await;
    eventually("it has a history", async || {
        !inspector
            .list_scheduler_enqueue_events(&killed, 1, 10)
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    drop(brief);
    for (number, enqueued_at) in [(1, in_secs(-120)), (2, in_secs(-60)), (3, in_secs(-1))] {
        let event = SchedulerEnqueueEvent {
            task_id: id(&format!("tick-{number}")),
            enqueued_at,
        };
        fixture.storage.record_enqueue_event("ours", &event).await.unwrap();
    }
    eventually(
        "there are two entries, and those of the killed one are gone",
        async || inspector.list_scheduler_entries().await.unwrap().len() == 2,
    )
    .await;
    Both {
        fixture,
        _server: server,
        _scheduler: scheduler,
        killed,
    }
}

#[tokio::test]
async fn all_listings_are_gos() {
    let Both { fixture, killed, .. } = &both().await;
    let states = [
        TaskState::Active,
        TaskState::Pending,
        TaskState::Scheduled,
        TaskState::Retry,
        TaskState::Archived,
        TaskState::Completed,
    ];
    for queue in ["default", "gofer", "many", "paused"] {
        for state in states {
            assert_same(fixture, &["task", "ls", "--queue", queue, "--state", state.as_str()]).await;
        }
        assert_same(fixture, &["group", "ls", "-q", queue]).await;
        assert_same(fixture, &["queue", "inspect", queue]).await;
        assert_same(fixture, &["queue", "history", queue, "-x", "3"]).await;
    }
    for page in ["1", "2", "3"] {
        let paged = [
            "task", "list", "-q", "many", "-s", "pending", "--size", "20", "--page", page,
        ];
        assert_same(fixture, &paged).await;
    }
    for (queue, group) in [
        ("default", "g"),
        ("default", "g{2}:x"),
        ("other", "g:1"),
        ("other", "none"),
    ] {
        assert_same(fixture, &["task", "ls", "-q", queue, "-s", "aggregating", "-g", group]).await;
    }
    for (queue, ids) in [
        (
            "default",
            ["pending", "scheduled", "retry", "archived", "completed", "active"].as_slice(),
        ),
        ("gofer", &["ok", "result", "fail", "skip", "running", "later"]),
        ("other", &["part"]),
    ] {
        for id in ids {
            assert_same(fixture, &["task", "inspect", "-q", queue, "-i", id]).await;
        }
    }
    for words in [
        ["queue", "ls"].as_slice(),
        &["queue", "list"],
        &["queue", "inspect", "default", "gofer", "paused"],
        &["queue", "history", "gofer", "default"],
        &["server", "ls"],
        &["cron", "ls"],
        &["cron", "list"],
        &["cron", "history", "ours"],
        &["cron", "history", killed, "ours", "none"],
        &["cron", "history", "ours", "--size", "2", "--page", "2"],
        &["group", "list", "--queue", "nowhere"],
        &["stats"],
    ] {
        assert_same(fixture, words).await;
    }
}

#[tokio::test]
async fn a_redis_without_anything_looks_the_same() {
    let fixture = Fixture::start().await;
    for words in [
        ["queue", "ls"].as_slice(),
        &["server", "ls"],
        &["cron", "ls"],
        &["group", "ls", "-q", "x"],
    ] {
        assert_same(&fixture, words).await;
    }
}

#[tokio::test]
async fn a_cluster_has_gos_stats() {
    let cluster = RedisCluster::start().await;
    let nodes = cluster
        .nodes()
        .iter()
        .map(RedisServer::address)
        .collect::<Vec<_>>()
        .join(",");
    let connector = RedisConnectionType::cluster(cluster.urls()).unwrap();
    let client = Client::new(connector).await.unwrap();
    for queue in ["one", "two", "three"] {
        client
            .enqueue(Task::new("t", b"").unwrap().with_queue(queue))
            .await
            .unwrap();
    }
    // Only its home directory and its Redis, which nobody uses, are taken.
    let fixture = Fixture::start().await;
    let words = ["--cluster", "--cluster_addrs", &nodes, "stats"];
    let ours = fixture.bare(words).ok().await;
    let gos = go(&fixture, &words).await.ok();
    assert_eq!(alike("stats", &ours), alike("stats", &gos));
    assert!(
        ours.contains("Redis Cluster Info\nState  Known Nodes  Cluster Size\n"),
        "{ours}"
    );
    let list = fixture
        .bare(["--cluster", "--cluster_addrs", &nodes, "queue", "ls"])
        .ok()
        .await;
    assert!(list.starts_with("Queue  Cluster KeySlot  Cluster Nodes\n"), "{list}");
    assert_eq!(list.lines().count(), 5, "{list}");
}

/// Counters of errors, which Redis has only once it has answered with such an error: they come and go.
fn comes_and_goes(name: &str) -> bool {
    name.starts_with("errorstat_")
}

/// Names in JSON that are always there, in their order.
fn names(json: &str) -> Vec<&str> {
    let texts: Vec<&str> = json.split('"').collect();
    texts
        .windows(2)
        .filter(|pair| pair[1].starts_with(':'))
        .map(|pair| pair[0])
        .filter(|name| !comes_and_goes(name))
        .collect()
}

#[tokio::test]
async fn stats_as_json_are_gos() {
    let fixture = Fixture::start().await;
    fixture.fill_default().await;
    fixture.inspector().pause_queue("default").await.unwrap();
    let words = ["stats", "--json"];
    let (ours, gos) = tokio::join!(fixture.asynq(words).ok(), go(&fixture, &words));
    let gos = gos.ok();
    assert_eq!(names(&ours), names(&gos), "the same names in the same order");
    let read = |text: &str| {
        let mut json: Value = serde_json::from_str(text).unwrap();
        // What moves with the time, or counts the program's own connections and memory.
        for time in ["/aggregate/timestamp", "/queues/0/Timestamp"] {
            let time = json.pointer_mut(time).unwrap().take();
            chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
        }
        assert!(json.pointer_mut("/queues/0/Latency").unwrap().take().as_u64().unwrap() > 0);
        let redis = json["redis"].as_object_mut().unwrap();
        redis.retain(|name, _| !comes_and_goes(name));
        for (name, value) in redis {
            let fixed = [
                "version",
                "mode",
                "id",
                "port",
                "role",
                "bits",
                "os",
                "policy",
                "enabled",
                "maxmemory",
            ];
            if !fixed.iter().any(|end| name.ends_with(end)) {
                *value = Value::Null;
            }
        }
        json
    };
    assert_eq!(read(&ours), read(&gos));
}

#[tokio::test]
async fn a_spec_that_never_fits_is_due_now_with_go_alone() {
    let fixture = Fixture::start().await;
    let entry = SchedulerEntry {
        id: "never".to_owned(),
        spec: "0 0 30 2 *".to_owned(),
        task_type: "日本".to_owned(),
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
    let words = ["cron", "ls"];
    let (ours, gos) = tokio::join!(fixture.asynq(words).ok(), go(&fixture, &words));
    let row = |text: &str| text.lines().last().unwrap().trim_end().to_owned();
    // Go counts characters, and a terminal shows these two in four columns.
    assert_eq!(row(&ours), "never    0 0 30 2 *  日本  {}       []       Never  N/A");
    assert_eq!(
        row(&gos.ok()),
        "never    0 0 30 2 *  日本    {}       []       Now   N/A"
    );
}

#[tokio::test]
async fn errors_go_to_stderr_with_a_status_and_to_stdout_with_go() {
    let fixture = Fixture::start().await;
    for (words, status, gos_status) in [
        (["queue", "inspect", "nowhere"].as_slice(), 3, 0),
        (&["queue", "history", "nowhere"], 3, 0),
        (&["task", "inspect", "-q", "nowhere", "-i", "x"], 3, 1),
        (&["task", "ls", "-q", "nowhere", "-s", "pending"], 3, 1),
        (&["task", "ls", "-q", "default", "-s", "nonsense"], 2, 1),
    ] {
        let (ours, gos) = tokio::join!(fixture.asynq(words).run(), go(&fixture, words));
        assert_eq!(
            (ours.status, gos.status),
            (status, gos_status),
            "{words:?}: {ours:?}\n{gos:?}"
        );
        assert!(
            !ours.stderr.is_empty() && !gos.stdout.is_empty(),
            "{words:?}: {ours:?}\n{gos:?}"
        );
    }
}

#[tokio::test]
async fn what_a_stranger_wrote_reaches_the_terminal_with_go_alone() {
    let fixture = Fixture::filled().await;
    let words = ["task", "ls", "-q", "low", "-s", "pending"];
    let (ours, gos) = tokio::join!(fixture.asynq(words).ok(), go(&fixture, &words));
    assert!(gos.stdout.contains('\u{1b}') && !ours.contains('\u{1b}'), "{ours}");
    let rows = |text: &str| {
        text.lines()
            .skip(2)
            .map(|line| cells(line).join("|"))
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&ours), rows(&gos.stdout.replace('\u{1b}', "\\u{1b}")));
}
