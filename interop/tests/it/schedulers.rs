//! Scheduler entries, what they enqueued, and the texts of their options, as each side sees the other's.

use std::time::Duration;

use asynq::{
    info::{SchedulerEnqueueEvent, SchedulerEntry},
    inspect::PageRequest,
    inspector::Inspector,
    names::TaskId,
};
use asynq_core::{Entropy, TaskOptions};
use asynq_interop::{GoEnqueueEvent, GoErrorKind, GoOptionValues, GoOptions, GoScheduler, GoSchedulerEntry, GoTask};
use bytes::Bytes;
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use crate::{
    pair::{Pair, eventually},
    translate::nanos,
};

const SCHEDULER: &str = "host:7:5c1e7a6c-0000-4000-8000-000000000000";
/// Longer than any test here takes.
const TTL: Duration = Duration::from_secs(3600);

/// Texts that are hard to quote.
const TEXTS: &[&str] = &[
    "",
    "low",
    "a\"b'c`d\\e",
    "a(b)c",
    "\0\x01\x07\x08\t\n\x0b\x0c\r\x1b\x1f\x7f",
    "\u{80}\u{85}\u{a0}\u{ad}",
    "größe 日本 \u{301}",
    "😀👩\u{200d}🚀\u{1f1e9}\u{1f1ea}",
    "\u{200b}\u{2028}\u{2029}\u{202e}\u{feff}\u{fffd}",
    "\u{e000}\u{ffff}\u{10000}\u{e0001}\u{10ffff}",
    "<script>&amp;</script>",
    "%d%s \\x41 \\u0041",
];

const NANOS: &[i64] = &[
    0,
    1,
    999,
    1_000,
    1_001,
    1_500_000,
    999_999_999,
    1_000_000_000,
    1_000_000_001,
    59_999_999_999,
    60_000_000_000,
    90_500_000_000,
    3_600_000_000_000,
    3_600_000_000_001,
    7_203_005_000_000,
    86_400_000_000_000,
    3_153_600_000_000_000_000,
    i64::MAX,
];

const SECONDS: &[i64] = &[
    1,
    951_782_400,
    1_778_036_645,
    1_778_727_845,
    4_102_444_799,
    253_402_300_799,
    253_402_300_800,
    -1,
    -62_135_596_801,
    -62_167_219_201,
];

fn ours(values: &GoOptionValues) -> TaskOptions {
    let GoOptionValues {
        max_retry,
        queue,
        task_id,
        timeout_nanos,
        deadline_unix,
        unique_nanos,
        process_at_unix,
        process_in_nanos,
        retention_nanos,
        group,
        headers,
    } = values.clone();
    let span = |nanos: i64| Duration::from_nanos(nanos.unsigned_abs());
    let at = |secs| DateTime::from_timestamp(secs, 0).unwrap();
    let mut options = TaskOptions::new();
    if let Some(retries) = max_retry {
        options = options.max_retry(retries);
    }
    if let Some(queue) = queue {
        options = options.queue(queue);
    }
    if let Some(id) = task_id {
        options = options.task_id(id);
    }
    if let Some(timeout) = timeout_nanos {
        options = options.timeout(span(timeout));
    }
    if let Some(deadline) = deadline_unix {
        options = options.deadline(at(deadline));
    }
    if let Some(ttl) = unique_nanos {
        options = options.unique_ttl(span(ttl));
    }
    if let Some(time) = process_at_unix {
        options = options.process_at(at(time));
    }
    if let Some(delay) = process_in_nanos {
        options = options.process_in(span(delay));
    }
    if let Some(retention) = retention_nanos {
        options = options.retention(span(retention));
    }
    if let Some(group) = group {
        options = options.group(group);
    }
    for (name, value) in headers {
        options = options.header(name, value);
    }
    options
}

/// A text of characters of all kinds.
fn text(entropy: &Entropy) -> String {
    let length = entropy.below(12);
    let kinds: [(u32, u64); 5] = [
        (0, 0x100),
        (0x100, 0x700),
        (0x2000, 0x1000),
        (0xe000, 0x2000),
        (0x1_0000, 0x10_0000),
    ];
    let one = |_| {
        let (first, count) = kinds[usize::try_from(entropy.below(5)).unwrap()];
        let code = first + u32::try_from(entropy.below(count.max(0x100))).unwrap();
        char::from_u32(code).unwrap_or('?')
    };
    (0..length).map(one).collect()
}

fn values() -> Vec<GoOptionValues> {
    let default = GoOptionValues::default;
    let mut all = vec![default()];
    let texts = TEXTS.iter().map(|text| GoOptionValues {
        queue: Some((*text).to_owned()),
        task_id: Some((*text).to_owned()),
        group: Some((*text).to_owned()),
        headers: vec![((*text).to_owned(), (*text).to_owned())],
        ..default()
    });
    all.extend(texts);
    all.extend(NANOS.iter().map(|nanos| GoOptionValues {
        timeout_nanos: Some(*nanos),
        unique_nanos: Some(*nanos),
        process_in_nanos: Some(*nanos),
        retention_nanos: Some(*nanos),
        ..default()
    }));
    all.extend(SECONDS.iter().map(|secs| GoOptionValues {
        deadline_unix: Some(*secs),
        process_at_unix: Some(*secs),
        ..default()
    }));
    all.extend([0, 3, u32::MAX].map(|retries| GoOptionValues {
        max_retry: Some(retries),
        ..default()
    }));
    let entropy = Entropy::seeded(5);
    for _ in 0..300 {
        // Each order of magnitude as often as any other.
        let nanos = || i64::try_from(entropy.bits() >> (1 + entropy.below(62))).unwrap();
        let secs = || i64::try_from(entropy.below(253_402_300_800)).unwrap();
        all.push(GoOptionValues {
            max_retry: Some(u32::try_from(entropy.below(1 << 31)).unwrap()),
            queue: Some(text(&entropy)),
            task_id: Some(text(&entropy)),
            timeout_nanos: Some(nanos()),
            deadline_unix: Some(secs()),
            unique_nanos: Some(nanos()),
            process_at_unix: None,
            process_in_nanos: Some(nanos()),
            retention_nanos: Some(nanos()),
            group: Some(text(&entropy)),
            headers: vec![(text(&entropy), text(&entropy))],
        });
    }
    all
}

#[tokio::test]
async fn options_are_written_as_go_writes_them() {
    let mut go = GoOptions::start().await;
    for values in values() {
        assert_eq!(ours(&values).to_go_strings(), go.texts(&values).await, "{values:?}");
    }
}

/// Go's table of printable characters is ours.
#[tokio::test]
async fn every_character_is_quoted_as_go_quotes_it() {
    let mut go = GoOptions::start().await;
    let all: Vec<char> = (0..=0x10_ffff).filter_map(char::from_u32).collect();
    for part in all.chunks(1 << 15) {
        let values = GoOptionValues {
            queue: Some(part.iter().collect()),
            ..GoOptionValues::default()
        };
        let (ours, gos) = (ours(&values).to_go_strings(), go.texts(&values).await);
        assert!(ours == gos, "between {:?} and {:?}", part.first(), part.last());
    }
}

fn entry(id: &str, options: Vec<String>) -> SchedulerEntry {
    SchedulerEntry {
        id: id.into(),
        spec: "@every 30s".into(),
        task_type: "größe".into(),
        payload: Bytes::from_static(b"\0\xff"),
        options,
        next: Some(Utc::now() + TimeDelta::seconds(30)),
        prev: None,
    }
}

/// Our entry in Go's shape, with the options as they are given.
fn in_gos_shape(entry: SchedulerEntry) -> GoSchedulerEntry {
    GoSchedulerEntry {
        id: entry.id,
        spec: entry.spec,
        task_type: entry.task_type,
        task_payload: Some(entry.payload.to_vec()).filter(|bytes| !bytes.is_empty()),
        options: entry.options,
        next_unix_nanos: entry.next.map_or(0, nanos),
        prev_unix_nanos: entry.prev.map_or(0, nanos),
    }
}

fn event_in_gos_shape(event: &SchedulerEnqueueEvent) -> GoEnqueueEvent {
    GoEnqueueEvent {
        task_id: event.task_id.to_string(),
        enqueued_at_unix_nanos: nanos(event.enqueued_at),
    }
}

/// Option strings that Go can read are read alike here, if our options can hold them.
#[tokio::test]
async fn options_are_read_as_go_reads_them() {
    let mut pair = Pair::start().await;
    let mut texts: Vec<String> = values()
        .iter()
        .take(60)
        .flat_map(|values| ours(values).to_go_strings())
        .collect();
    let more = [
        "Queue()",
        "Queue(low)",
        "Queue(`a\\n`)",
        "Queue('a')",
        "Queue('ab')",
        "Queue(\"\\101\\x41\\u0041\")",
        "Queue(\"\\400\")",
        "Queue(\"\\ud800\")",
        "Queue(\"\\'\")",
        "Queue(\"a\nb\")",
        "Queue(\"a\")tail",
        "Queue(\"a",
        ")Queue(\"a\")",
        "queue(\"a\")",
        "MaxRetry(+3)",
        "MaxRetry(-3)",
        "MaxRetry(007)",
        "MaxRetry(1_0)",
        "MaxRetry(x)",
        "MaxRetry()",
        "Timeout(90s)",
        "Timeout(1h)",
        "Timeout(1.5h)",
        "Timeout(.5s)",
        "Timeout(1.s)",
        "Timeout(5)",
        "Timeout(0)",
        "Timeout(1us)",
        "Timeout(1\u{b5}s)",
        "Timeout(1\u{3bc}s)",
        "Timeout(1d)",
        "Timeout(999999999h)",
        "Deadline(Wed May  6 03:04:05 UTC 2026)",
        "Deadline(Wed May 6 03:04:05 UTC 2026)",
        "Deadline(sun   MAY  06   3:04:05   UTC   2026)",
        "Deadline(Wed May 06 03:04:05.75 UTC 2026)",
        "Deadline(Wed May 06 03:04:05. UTC 2026)",
        "Deadline(Wed May 32 03:04:05 UTC 2026)",
        "Deadline(Wed Feb 29 03:04:05 UTC 2028)",
        "Deadline(Wed Feb 29 03:04:05 UTC 2026)",
        "Deadline(Wed May 6 24:04:05 UTC 2026)",
        "Deadline(Wed May 6 3:4:5 UTC 2026)",
        "Deadline(Wed May 6 03:04:05 UTC 26)",
        "Deadline(2026-05-06T03:04:05Z)",
        "ProcessAt(Wed May  6 03:04:05 UTC 2026)",
        "ProcessIn(10m)",
        "Unique(1h)",
        "Retention(2h)",
        "Retention(2h)(3h)",
        "Unknown(1)",
        "(",
        "()",
        "Queue(",
    ];
    texts.extend(more.map(str::to_owned));
    // What only we read: Go leaves these out (0.26).
    texts.retain(|text| {
        !["TaskID(", "Group(", "Header("]
            .iter()
            .any(|name| text.starts_with(name))
    });
    let entries: Vec<_> = texts.iter().map(|text| entry(text, vec![text.clone()])).collect();
    pair.storage
        .write_scheduler_entries(SCHEDULER, &entries, TTL)
        .await
        .unwrap();
    let read = pair.go.scheduler_entries().await.unwrap();
    assert_eq!(read.len(), texts.len());
    for gos in read {
        let ours = TaskOptions::from_go_strings([&gos.id]).to_go_strings();
        assert_eq!(ours, gos.options, "{:?}", gos.id);
    }
}

/// layout.md#option-texts: Go ends at a string without a parenthesis, and a scheduler of ours never writes one.
#[tokio::test]
async fn a_string_that_ends_gos_inspector_is_read_by_ours() {
    let mut pair = Pair::start().await;
    let entries = [entry("e", vec!["NoOption".into(), "MaxRetry(3)".into()])];
    pair.storage
        .write_scheduler_entries(SCHEDULER, &entries, TTL)
        .await
        .unwrap();
    assert_eq!(pair.go.scheduler_entries().await.unwrap_err().kind, GoErrorKind::Panic);
    let read = pair.storage.scheduler_entries().await.unwrap();
    assert_eq!(read[0].task_options(), TaskOptions::new().max_retry(3));
    for values in values() {
        assert!(ours(&values).to_go_strings().iter().all(|text| text.contains('(')));
    }
}

#[tokio::test]
async fn gos_inspector_lists_our_entries_and_their_history() {
    let mut pair = Pair::start().await;
    let options = TaskOptions::new()
        .queue("low")
        .max_retry(3)
        .timeout(Duration::from_secs(90))
        .deadline(Utc::now().trunc_subsecs(0))
        .retention(Duration::from_secs(7200));
    let fired = SchedulerEntry {
        prev: Some(Utc::now()),
        next: None,
        payload: Bytes::new(),
        ..entry("e2", Vec::new())
    };
    let entries = [entry("e1", options.to_go_strings()), fired];
    pair.storage
        .write_scheduler_entries(SCHEDULER, &entries, TTL)
        .await
        .unwrap();
    let expected: Vec<_> = entries.iter().rev().cloned().map(in_gos_shape).collect();
    assert_eq!(pair.go.scheduler_entries().await.unwrap(), expected);
    let ours = pair.storage.scheduler_entries().await.unwrap();
    assert_eq!(ours.into_iter().map(in_gos_shape).collect::<Vec<_>>(), expected);

    for n in 0..35 {
        let event = SchedulerEnqueueEvent {
            task_id: TaskId::new(format!("id{n}")).unwrap(),
            enqueued_at: Utc::now() + TimeDelta::seconds(n),
        };
        pair.storage.record_enqueue_event("e1", &event).await.unwrap();
    }
    for (page, request) in [
        (None, PageRequest::default()),
        (Some((2, 30)), PageRequest::new(2, 30)),
        (Some((5, 8)), PageRequest::new(5, 8)),
        (Some((9, 8)), PageRequest::new(9, 8)),
    ] {
        let ours = pair.storage.enqueue_events("e1", request).await.unwrap();
        let ours: Vec<_> = ours.iter().map(event_in_gos_shape).collect();
        assert_eq!(ours, pair.go.enqueue_events("e1", page).await.unwrap(), "{page:?}");
    }
    let newest = pair.go.enqueue_events("e1", None).await.unwrap();
    assert_eq!((newest.len(), newest[0].task_id.as_str()), (30, "id34"));

    pair.storage.clear_scheduler_entries(SCHEDULER).await.unwrap();
    pair.storage.clear_scheduler_history("e1").await.unwrap();
    assert_eq!(pair.go.scheduler_entries().await.unwrap(), []);
    assert_eq!(pair.go.enqueue_events("e1", None).await.unwrap(), []);
}

#[tokio::test]
async fn our_inspector_lists_the_entries_of_a_go_scheduler_and_their_history() {
    let pair = Pair::start().await;
    let inspector = Inspector::new(pair.storage.clone());
    let mut scheduler = GoScheduler::start(&pair.redis.address(), Duration::from_secs(1)).await;
    let often = GoTask::new("often").payload(b"\0\xff").queue("größe").max_retry(3);
    let often_id = scheduler.register("@every 1s", &often.timeout_ms(90_500)).await;
    let rare_id = scheduler
        .register("CRON_TZ=Europe/Berlin 0 7 1 1 *", &GoTask::new("rare"))
        .await;

    let first = scheduler.enqueued().await.unwrap();
    let second = scheduler.enqueued().await.unwrap();
    // It tells of a task before it has written that it did.
    let both = async || {
        let events = inspector.list_scheduler_enqueue_events(&often_id, 1, 30).await.unwrap();
        let ids: Vec<_> = events.iter().map(|event| event.task_id.to_string()).collect();
        let known = ids.contains(&first.id) && ids.contains(&second.id);
        if known { Ok(events) } else { Err(ids) }
    };
    let events = eventually("both are in the history", both).await;
    assert!(
        events.is_sorted_by(|newer, older| newer.enqueued_at >= older.enqueued_at),
        "{events:?}"
    );
    assert_eq!(
        inspector.list_scheduler_enqueue_events(&rare_id, 1, 30).await.unwrap(),
        []
    );

    // Next and last time move on while both look; a heartbeat between them shows it.
    let look = async || {
        let entries = inspector.list_scheduler_entries().await.unwrap();
        let fired = entries.iter().any(|entry| entry.id == often_id && entry.prev.is_some());
        if fired && entries.len() == 2 {
            Ok(entries)
        } else {
            Err(entries)
        }
    };
    let mut entries = eventually("both entries are written, one with its last time", look).await;
    entries.sort_by_key(|entry| entry.task_type.clone());
    let [often, rare] = <[SchedulerEntry; 2]>::try_from(entries).unwrap();
    assert_eq!(
        (often.id.as_str(), often.spec.as_str()),
        (often_id.as_str(), "@every 1s")
    );
    assert_eq!(
        (often.task_type.as_str(), &often.payload[..]),
        ("often", &b"\0\xff"[..])
    );
    assert_eq!(often.options, ["Queue(\"größe\")", "MaxRetry(3)", "Timeout(1m30.5s)"]);
    let expected = TaskOptions::new()
        .queue("größe")
        .max_retry(3)
        .timeout(Duration::from_millis(90_500));
    assert_eq!(often.task_options(), expected);
    assert!(often.next > often.prev, "{often:?}");
    assert_eq!(
        (rare.id.as_str(), rare.spec.as_str()),
        (rare_id.as_str(), "CRON_TZ=Europe/Berlin 0 7 1 1 *")
    );
    assert_eq!((rare.options.len(), rare.prev), (0, None));
    // Entries live for two heartbeats; a machine under load may be late with one.
    let (rare, go) = (in_gos_shape(rare), tokio::sync::Mutex::new(pair.go));
    let same = async || {
        let gos = go.lock().await.scheduler_entries().await.unwrap();
        if gos.contains(&rare) { Ok(()) } else { Err(gos) }
    };
    eventually("Go shows the same of an entry that does not fire", same).await;

    scheduler.shutdown().await;
    assert!(inspector.list_scheduler_entries().await.unwrap().is_empty());
    assert!(
        inspector
            .list_scheduler_enqueue_events(&often_id, 1, 30)
            .await
            .unwrap()
            .is_empty()
    );
}
