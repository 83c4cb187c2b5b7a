//! Every kind of task: enqueued by one side, read by both inspectors, run by the other side.

use std::{collections::BTreeMap, time::Duration};

use asynq::TaskState;
use asynq_core::raw::RawValue;
use asynq_interop::{GoGroup, GoRun, GoTask, GoTaskInfo};
use chrono::Utc;

use crate::{
    pair::{Pair, about},
    sides::{Producer, Runner, Settings, Side},
};

/// Sorted. One is a pattern that another one fits.
const QUEUES: [&str; 5] = ["*", "default", "l?w", "low", "schlange-é"];
const HOUR_MS: i64 = 3_600_000;

/// One task of each kind that both sides can express, all different in type.
fn kinds(now: i64) -> Vec<GoTask> {
    let task = |name: &str| GoTask::new(name).payload("p");
    vec![
        // First those that must be enqueued before their time comes.
        task("delayed:at").process_at_unix(now + 4),
        task("everything")
            .queue("low")
            .id("id1")
            .header("k", "v")
            .max_retry(3)
            .timeout_ms(60_000)
            .deadline_unix(now + 3600)
            .unique_ms(HOUR_MS)
            .process_at_unix(now + 4)
            .retention_ms(HOUR_MS),
        task("email:send").payload(r#"{"user_id":42}"#),
        GoTask::new("payload:nil"),
        task("payload:empty").payload(""),
        task("payload:binary").payload([0, 255, 128, 195, 40, 10, 13, 0]),
        task("payload:large").payload(vec![b'x'; 1 << 20]),
        task("delayed:in").process_in_ms(1500),
        task("delayed:past").process_at_unix(now - 3600),
        task("unique").unique_ms(HOUR_MS),
        GoTask::new("unique:nil").unique_ms(HOUR_MS),
        task("unique:empty").payload("").unique_ms(HOUR_MS),
        task("unique:delayed").unique_ms(HOUR_MS).process_in_ms(1200),
        task("with:id").id("my id"),
        task("group").group("g"),
        task("group:unique").group("g").unique_ms(HOUR_MS),
        task("group:options")
            .group("gruppe ü")
            .queue("low")
            .retention_ms(HOUR_MS)
            .max_retry(1)
            .header("k", "v"),
        task("group:key").group("user:42").queue("l?w"),
        task("group:pattern").group("*").queue("l?w"),
        task("retention").retention_ms(HOUR_MS + 999),
        task("headers:one").header("trace", "00-4bf92f"),
        task("headers:many")
            .header("a", "1")
            .header("b", "")
            .header("", "c")
            .header("ключ", "值"),
        task("timeout").timeout_ms(90_999),
        task("timeout:zero").timeout_ms(0),
        task("deadline").deadline_unix(now + 3600),
        task("timeout:first").timeout_ms(60_000).deadline_unix(now + 3600),
        task("deadline:first").timeout_ms(HOUR_MS).deadline_unix(now + 600),
        task("retries:none").max_retry(0),
        task("retries:most").max_retry(i32::MAX.into()),
        task("queue:low").queue("low"),
        task("queue:pattern").queue("l?w").retention_ms(HOUR_MS),
        task("queue:any").queue("*").retention_ms(HOUR_MS),
        task("id:pattern").id("[a-z]*\\?"),
        task("id:key").id("x:{default}:t:y\n"),
        task("größe:😀")
            .payload("😀")
            .queue("schlange-é")
            .id("id {x}: ☃")
            .header("ключ", "值"),
    ]
}

/// Returns what an inspector shows of a task that was just enqueued. The time of one that was delayed by a duration
/// is left out.
fn expected(task: &GoTask, id: &str, now: i64) -> GoTaskInfo {
    let process_at = task.process_at_unix.filter(|at| *at > now);
    let delayed = process_at.is_some() || task.process_in_ms.is_some();
    let no_limit = task.timeout_ms.unwrap_or(0) == 0 && task.deadline_unix.is_none();
    GoTaskInfo {
        id: id.to_owned(),
        queue: queue_of(task).to_owned(),
        r#type: task.r#type.clone(),
        payload: task.payload.clone().filter(|bytes| !bytes.is_empty()),
        headers: task.headers.clone().unwrap_or_default(),
        state: match (delayed, &task.group) {
            (true, _) => "scheduled",
            (false, Some(_)) => "aggregating",
            (false, None) => "pending",
        }
        .to_owned(),
        max_retry: task.max_retry.unwrap_or(25),
        timeout_ms: if no_limit {
            1_800_000
        } else {
            task.timeout_ms.unwrap_or(0) / 1000 * 1000
        },
        deadline_unix: task.deadline_unix.unwrap_or(0),
        group: task.group.clone().unwrap_or_default(),
        next_process_at_unix: process_at.unwrap_or(0),
        retention_ms: task.retention_ms.unwrap_or(0) / 1000 * 1000,
        ..GoTaskInfo::default()
    }
}

fn queue_of(task: &GoTask) -> &str {
    task.queue.as_deref().unwrap_or("default")
}

#[track_caller]
fn assert_as_expected(mut seen: GoTaskInfo, task: &GoTask, now: i64) {
    let expected = expected(task, &seen.id, now);
    if let Some(id) = &task.task_id {
        assert_eq!(seen.id, *id);
    }
    if let Some(delay) = task.process_in_ms {
        let earliest = now + delay / 1000;
        assert!(
            (earliest..=earliest + 30).contains(&seen.next_process_at_unix),
            "{seen:?} at {now}"
        );
        seen.next_process_at_unix = 0;
    }
    assert_eq!(seen, expected);
}

/// Asserts that a handler saw the task as it was enqueued.
#[track_caller]
fn assert_run(run: &GoRun, task: &GoTask, id: &str) {
    let seen = (
        &run.r#type,
        run.payload.as_deref().unwrap_or_default(),
        &run.headers,
        run.id.as_str(),
    );
    let headers = task.headers.clone().unwrap_or_default();
    assert_eq!(
        seen,
        (&task.r#type, task.payload.as_deref().unwrap_or_default(), &headers, id)
    );
    let seen = (run.queue.as_str(), run.retried, run.max_retry);
    assert_eq!(seen, (queue_of(task), 0, task.max_retry.unwrap_or(25)));

    const SECOND: i64 = 1_000_000_000;
    let timeout = match (task.timeout_ms.unwrap_or(0) / 1000, task.deadline_unix) {
        (0, None) => Some(1800),
        (0, Some(_)) => None,
        (seconds, _) => Some(seconds),
    };
    let by_timeout = timeout.map_or(i64::MAX, |seconds| run.at_unix_nanos + seconds * SECOND);
    let by_deadline = task.deadline_unix.map_or(i64::MAX, |at| at * SECOND);
    if by_deadline < by_timeout {
        assert_eq!(run.deadline_unix_nanos, by_deadline, "{run:?}");
    } else {
        about(run.deadline_unix_nanos, by_timeout, Duration::from_secs(30));
    }
}

/// The whole way of every kind.
pub(crate) async fn every_kind(producer: Side) {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(producer, &pair.redis).await;
    // Now it is up, and what is enqueued below is enqueued within a second.
    client.try_enqueue(&GoTask::new(" ")).await.unwrap_err();
    let now = Utc::now().timestamp();
    let mut tasks = Vec::new();
    for task in kinds(now) {
        let info = client.enqueue(&task).await;
        tasks.push((task, info));
    }
    for (task, info) in &tasks {
        assert_as_expected(info.clone(), task, now);
        assert_as_expected(pair.look(&info.queue, &info.id).await.unwrap(), task, now);
    }
    inspect_all(&mut pair, &tasks).await;

    let mut runner = Runner::start(producer.other(), &pair, &Settings::queues(&QUEUES)).await;
    let mut run_in: BTreeMap<&str, u64> = BTreeMap::new();
    for (task, info) in tasks.iter().filter(|(task, _)| task.group.is_none()) {
        let run = runner.started(&info.id).await;
        assert_run(&run, task, &info.id);
        assert_eq!(runner.ended(&info.id).await.outcome, "ok", "{task:?}");
        *run_in.entry(queue_of(task)).or_default() += 1;
    }
    for (task, info) in &tasks {
        let left = match (&task.group, task.retention_ms) {
            (Some(_), _) => Some(pair.look(&info.queue, &info.id).await.unwrap()),
            (None, Some(_)) => Some(pair.until(&info.queue, &info.id, TaskState::Completed).await),
            (None, None) => {
                pair.until_gone(&info.queue, &info.id).await;
                None
            }
        };
        if let Some(left) = left.filter(|left| left.state == "completed") {
            assert!((now..now + 600).contains(&left.completed_at_unix), "{left:?}");
            assert_eq!(
                (left.retried, left.last_err.as_str(), &left.headers),
                (0, "", &info.headers)
            );
        }
    }
    for queue in QUEUES {
        assert_eq!(pair.counted(queue).await, (run_in[queue], 0), "{queue}");
    }
    assert_eq!(runner.unexpected(), [""; 0]);
    runner.shutdown().await;

    let raw = pair.raw().await;
    let locks: Vec<_> = raw.keys().filter(|key| key.contains(":unique:")).collect();
    assert_eq!(
        locks,
        ["asynq:{default}:unique:group:unique:83878c91171338902e0fe0fb97a8c47a"]
    );
    assert_eq!(raw.get("asynq:{low}:pending"), None);
    assert!(matches!(raw.get("asynq:queues"), Some(RawValue::Set(names)) if names.len() == QUEUES.len()));
    assert_eq!(pair.breaches().await, []);
    asynq_testing::invariants::assert_hold(&raw);
}

/// Lists, groups and numbers, before anything is run.
async fn inspect_all(pair: &mut Pair, tasks: &[(GoTask, GoTaskInfo)]) {
    assert_eq!(pair.queues().await, QUEUES);
    for queue in QUEUES {
        let of_queue = |state: &str| {
            let tasks = tasks
                .iter()
                .filter(|(_, info)| info.queue == queue && info.state == state);
            tasks.map(|(_, info)| info.id.clone()).collect::<Vec<_>>()
        };
        let info = pair.queue(queue).await;
        let size = tasks.iter().filter(|(_, info)| info.queue == queue).count();
        assert_eq!(
            (info.size, info.active, info.paused),
            (size as u64, 0, false),
            "{info:?}"
        );
        for (state, count) in [
            (TaskState::Pending, info.pending),
            (TaskState::Scheduled, info.scheduled),
        ] {
            let listed: Vec<_> = pair.list(queue, state).await.into_iter().map(|task| task.id).collect();
            let mut enqueued = of_queue(state.as_str());
            if state == TaskState::Pending {
                assert_eq!(listed, enqueued, "the first enqueued runs first");
            } else {
                let mut sorted = listed.clone();
                sorted.sort();
                enqueued.sort();
                assert_eq!(sorted, enqueued);
            }
            assert_eq!(count, listed.len() as u64);
        }
        assert_eq!(info.aggregating, of_queue("aggregating").len() as u64);
    }
    let group = |group: &str, size| GoGroup {
        group: group.to_owned(),
        size,
    };
    assert_eq!(pair.groups("default").await, [group("g", 2)]);
    assert_eq!(pair.groups("low").await, [group("gruppe ü", 1)]);
    assert_eq!(pair.groups("l?w").await, [group("*", 1), group("user:42", 1)]);
    assert_eq!(pair.list_group("l?w", "*").await[0].r#type, "group:pattern");
    assert_eq!(pair.groups("schlange-é").await, []);
    assert_eq!(pair.list_group("default", "g").await.len(), 2);
    assert_eq!(pair.list_group("low", "gruppe ü").await[0].r#type, "group:options");
}
