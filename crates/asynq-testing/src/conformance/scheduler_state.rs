//! Records that schedulers publish about themselves (transitions.md#publish-a-scheduler).

use asynq_core::{
    broker::MAX_SCHEDULER_EVENTS,
    info::{SchedulerEnqueueEvent, SchedulerEntry},
    inspect::PageRequest,
    keys, published,
};

use super::kit::*;

const ID: &str = "host:7:5c1e";
const ENTRIES: &str = "asynq:schedulers:{host:7:5c1e}";
const HISTORY: &str = "asynq:scheduler_history:e1";

fn entry(fx: &Fixture, entry_id: &str) -> SchedulerEntry {
    SchedulerEntry {
        id: entry_id.into(),
        spec: "@every 30s".into(),
        task_type: "t".into(),
        payload: bytes("p"),
        options: vec!["Queue(\"q\")".into(), "MaxRetry(3)".into()],
        next: Some(fx.after(30)),
        prev: None,
    }
}

fn event(fx: &Fixture, n: i64) -> SchedulerEnqueueEvent {
    SchedulerEnqueueEvent {
        task_id: id(&format!("id{n}")),
        enqueued_at: fx.after(n),
    }
}

/// transitions.md#publish-a-scheduler, layout.md#processes: a list with a TTL, in reverse order of writing, and
/// its name in the index.
pub(super) async fn entries_are_stored_as_go_stores_them(fx: &Fixture) {
    let entries = ["e1", "e2", "e3"].map(|entry_id| entry(fx, entry_id));
    fx.storage
        .write_scheduler_entries(ID, &entries, Duration::from_secs(20))
        .await
        .unwrap();
    let raw = fx.raw().await.state;
    assert_eq!(raw.keys().collect::<Vec<_>>(), ["asynq:schedulers", ENTRIES]);
    assert_eq!(raw["asynq:schedulers"], zset(&[(ENTRIES, fx.secs() + 20)]));
    assert_eq!(
        raw[ENTRIES],
        RawValue::List(entries.iter().rev().map(published::encode_scheduler_entry).collect())
    );
    let ttl = fx.ttl_of(ENTRIES).await.unwrap_or_default();
    assert!((15..=20).contains(&ttl), "{ttl}");
}

/// transitions.md#publish-a-scheduler: each beat writes the list anew; without entries only the name in the
/// index stays.
pub(super) async fn each_beat_writes_the_entries_anew(fx: &Fixture) {
    let ttl = Duration::from_secs(20);
    fx.storage
        .write_scheduler_entries(ID, &[entry(fx, "e1"), entry(fx, "e2")], ttl)
        .await
        .unwrap();
    fx.storage
        .write_scheduler_entries(ID, &[entry(fx, "e3")], ttl)
        .await
        .unwrap();
    let raw = fx.raw().await.state;
    assert_eq!(
        raw[ENTRIES],
        RawValue::List(vec![published::encode_scheduler_entry(&entry(fx, "e3"))])
    );
    fx.storage.write_scheduler_entries(ID, &[], ttl).await.unwrap();
    assert_eq!(fx.raw().await.state.keys().collect::<Vec<_>>(), ["asynq:schedulers"]);
}

/// transitions.md#publish-a-scheduler: nothing of a scheduler's entries is left.
pub(super) async fn cleared_entries_leave_nothing(fx: &Fixture) {
    fx.storage
        .write_scheduler_entries(ID, &[entry(fx, "e1")], Duration::from_secs(20))
        .await
        .unwrap();
    fx.storage.clear_scheduler_entries(ID).await.unwrap();
    assert!(fx.raw().await.state.is_empty());
    fx.storage.clear_scheduler_entries(ID).await.unwrap();
}

/// Pitfalls 1.4: a TTL is a whole number of seconds, at least one.
pub(super) async fn a_ttl_is_at_least_one_second(fx: &Fixture) {
    fx.storage
        .write_scheduler_entries(ID, &[entry(fx, "e1")], Duration::from_millis(10))
        .await
        .unwrap();
    assert_eq!(
        fx.raw().await.state["asynq:schedulers"],
        zset(&[(ENTRIES, fx.secs() + 1)])
    );
}

/// transitions.md#publish-a-scheduler: an event is a member, its second the score; the history has no TTL.
pub(super) async fn events_are_kept_by_time(fx: &Fixture) {
    for n in [3, 1, 2] {
        fx.storage.record_enqueue_event("e1", &event(fx, n)).await.unwrap();
    }
    let raw = fx.raw().await.state;
    let expected = [1, 2, 3].map(|n| (published::encode_enqueue_event(&event(fx, n)), fx.secs() + n));
    assert_eq!(raw[HISTORY], RawValue::ZSet(expected.to_vec()));
    assert_eq!(fx.ttl_of(HISTORY).await, None);
}

/// layout.md#limits: at most 1000 events, the newest.
pub(super) async fn the_oldest_events_go(fx: &Fixture) {
    let most = i64::from(MAX_SCHEDULER_EVENTS);
    fx.edit(|state| {
        let events = (0..most).map(|n| (published::encode_enqueue_event(&event(fx, n)), fx.secs() + n));
        state.insert(HISTORY.into(), RawValue::ZSet(events.collect()));
    })
    .await;
    for n in most..most + 3 {
        fx.storage.record_enqueue_event("e1", &event(fx, n)).await.unwrap();
    }
    let RawValue::ZSet(events) = fx.raw().await.state.remove(HISTORY).unwrap() else {
        panic!("a sorted set")
    };
    assert_eq!(events.len(), 1000);
    assert_eq!((events[0].1, events[999].1), (fx.secs() + 3, fx.secs() + most + 2));
}

/// transitions.md#publish-a-scheduler: the history of one entry goes, that of others stays.
pub(super) async fn a_cleared_history_leaves_nothing(fx: &Fixture) {
    for entry_id in ["e1", "e2"] {
        fx.storage.record_enqueue_event(entry_id, &event(fx, 1)).await.unwrap();
    }
    fx.storage.clear_scheduler_history("e1").await.unwrap();
    assert_eq!(
        fx.raw().await.state.keys().collect::<Vec<_>>(),
        ["asynq:scheduler_history:e2"]
    );
}

async fn entries(fx: &Fixture) -> Vec<String> {
    let entries = fx.storage.scheduler_entries().await.unwrap();
    entries.into_iter().map(|entry| entry.id).collect()
}

async fn events(fx: &Fixture, entry_id: &str, page: PageRequest) -> Vec<String> {
    let events = fx.storage.enqueue_events(entry_id, page).await.unwrap();
    events.into_iter().map(|event| event.task_id.to_string()).collect()
}

/// transitions.md#scheduler-entries: the entries of all living schedulers, each as it was written; of one
/// scheduler last written first.
pub(super) async fn entries_are_read_as_written(fx: &Fixture) {
    assert!(entries(fx).await.is_empty());
    let ttl = Duration::from_secs(600);
    let fired = SchedulerEntry {
        next: None,
        prev: Some(fx.after(-30)),
        options: Vec::new(),
        ..entry(fx, "e2")
    };
    let written = [entry(fx, "e1"), fired.clone()];
    fx.storage.write_scheduler_entries(ID, &written, ttl).await.unwrap();
    let read = fx.storage.scheduler_entries().await.unwrap();
    assert_eq!(read, [fired, entry(fx, "e1")]);
    let options = read[1].task_options();
    assert_eq!(options, asynq_core::TaskOptions::new().queue("q").max_retry(3));
    fx.storage
        .write_scheduler_entries("other:8:77aa", &[entry(fx, "e3")], ttl)
        .await
        .unwrap();
    let mut all = entries(fx).await;
    all.sort();
    assert_eq!(all, ["e1", "e2", "e3"]);
    fx.storage.clear_scheduler_entries(ID).await.unwrap();
    assert_eq!(entries(fx).await, ["e3"]);
}

/// transitions.md#scheduler-entries: a scheduler whose time is over is not shown, and its name leaves the index
/// with the next beat of any.
pub(super) async fn a_scheduler_that_does_not_beat_is_not_shown(fx: &Fixture) {
    let ttl = Duration::from_secs(600);
    fx.storage
        .write_scheduler_entries(ID, &[entry(fx, "e1")], ttl)
        .await
        .unwrap();
    fx.advance(601);
    assert!(entries(fx).await.is_empty());
    fx.storage
        .write_scheduler_entries("other:8:77aa", &[entry(fx, "e2")], ttl)
        .await
        .unwrap();
    assert_eq!(entries(fx).await, ["e2"]);
    let index = fx.raw().await.state["asynq:schedulers"].clone();
    assert_eq!(index, zset(&[("asynq:schedulers:{other:8:77aa}", fx.secs() + 600)]));
}

/// transitions.md#scheduler-entries: what cannot be read hides nothing else.
pub(super) async fn an_unreadable_entry_is_left_out(fx: &Fixture) {
    fx.leaves_damage();
    let ttl = Duration::from_secs(600);
    fx.storage
        .write_scheduler_entries(ID, &[entry(fx, "e1")], ttl)
        .await
        .unwrap();
    for other in ["b:1:1", "c:1:1"] {
        fx.storage
            .write_scheduler_entries(other, &[entry(fx, "e2")], ttl)
            .await
            .unwrap();
    }
    let readable = published::encode_scheduler_entry(&entry(fx, "e1"));
    fx.edit(|state| {
        let damaged = RawValue::List(vec![Bytes::from_static(b"\xff"), readable]);
        state.insert(ENTRIES.into(), damaged);
        state.insert(keys::scheduler_entries("b:1:1"), string("x"));
        state.remove(&keys::scheduler_entries("c:1:1"));
    })
    .await;
    assert_eq!(entries(fx).await, ["e1"]);
}

/// transitions.md#enqueue-events: newest first, page by page; an unknown entry has none.
pub(super) async fn events_are_listed_newest_first(fx: &Fixture) {
    for n in 1..=35 {
        fx.storage.record_enqueue_event("e1", &event(fx, n)).await.unwrap();
    }
    let read = fx.storage.enqueue_events("e1", PageRequest::new(1, 2)).await.unwrap();
    assert_eq!(read, [event(fx, 35), event(fx, 34)]);
    let default = events(fx, "e1", PageRequest::default()).await;
    assert_eq!((default.len(), default[29].as_str()), (30, "id6"));
    assert_eq!(events(fx, "e1", PageRequest::new(2, 30)).await.len(), 5);
    assert_eq!(events(fx, "e1", PageRequest::new(12, 3)).await, ["id2", "id1"]);
    for none in [PageRequest::new(13, 3), PageRequest::new(u32::MAX, u32::MAX)] {
        assert!(events(fx, "e1", none).await.is_empty());
    }
    assert!(events(fx, "e2", PageRequest::default()).await.is_empty());
}

/// Ours: an event that cannot be read hides none of the others, as it does in Go
/// (transitions.md#enqueue-events). A history of another type is told.
pub(super) async fn an_unreadable_event_is_left_out(fx: &Fixture) {
    fx.leaves_damage();
    for n in [1, 2] {
        fx.storage.record_enqueue_event("e1", &event(fx, n)).await.unwrap();
    }
    fx.edit(|state| {
        if let Some(RawValue::ZSet(events)) = state.get_mut(HISTORY) {
            events.push((Bytes::from_static(b"\xff"), fx.secs() + 3));
        }
    })
    .await;
    assert_eq!(events(fx, "e1", PageRequest::default()).await, ["id2", "id1"]);
    fx.edit(|state| drop(state.insert(HISTORY.into(), string("x")))).await;
    let answer = fx.storage.enqueue_events("e1", PageRequest::default()).await;
    assert!(
        matches!(&answer, Err(BrokerError::WrongType { key }) if key == HISTORY),
        "{answer:?}"
    );
}
