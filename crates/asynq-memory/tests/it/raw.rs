//! The keys that Redis would hold, in and out.

use asynq_testing::request::batch_of;
use std::time::Duration;

use asynq_core::{
    Broker as _, Inspect as _,
    broker::{GroupLimits, Outcome},
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, ServerStatus, WorkerInfo},
    names::GroupKey,
    raw::{RawState, RawValue},
};
use asynq_memory::MemoryStore;
use asynq_testing::request;
use bytes::Bytes;
use chrono::TimeDelta;

use crate::kit::{Kit, START, id, queue};

/// A store with every kind of key.
async fn full() -> Kit {
    let kit = Kit::new();
    let later = kit.clock.now() + TimeDelta::seconds(60);
    kit.enqueue(
        request("q", "unique")
            .payload("p")
            .unique(Duration::from_secs(600))
            .build(),
    )
    .await;
    kit.enqueue(request("q", "kept").retention(60).build()).await;
    for name in ["failed", "bad", "running", "pending"] {
        kit.enqueue(request("q", name).build()).await;
    }
    kit.enqueue(request("q", "late").at(later).build()).await;
    for name in ["g1", "g2", "g3"] {
        kit.enqueue(request("q", name).group("G:1").build()).await;
    }
    let taken = kit.take(5).await.leased;
    kit.broker
        .write_result(&taken[1].lease, Bytes::from_static(b"done"))
        .await
        .unwrap();
    kit.settle(&taken[1], Outcome::Done { retain: true }).await;
    let retry = Outcome::Retry {
        at: later,
        error: "e".into(),
        is_failure: true,
    };
    kit.settle(&taken[2], retry).await;
    kit.settle(&taken[3], Outcome::Archive { error: "e".into() }).await;
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: Some(2),
    };
    let set = kit
        .broker
        .collect_group(&queue(), &GroupKey::new("G:1").unwrap(), limits)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(set.tasks.len(), 2);
    kit.broker.pause(&queue()).await.unwrap();

    let now = kit.clock.now();
    let server = ServerInfo {
        host: "h".into(),
        pid: 7,
        server_id: "s".into(),
        concurrency: 1,
        queues: [("q".to_owned(), 1)].into(),
        strict_priority: false,
        status: ServerStatus::Active,
        start_time: now,
        active_worker_count: 1,
    };
    let worker = WorkerInfo {
        host: "h".into(),
        pid: 7,
        server_id: "s".into(),
        task_id: id("running"),
        task_type: "t".into(),
        payload: Bytes::new(),
        queue: queue(),
        start_time: now,
        deadline: later,
    };
    kit.broker
        .write_server_state(&server, &[worker], Duration::from_secs(10))
        .await
        .unwrap();
    let entry = SchedulerEntry {
        id: "e".into(),
        spec: "@daily".into(),
        task_type: "t".into(),
        payload: Bytes::new(),
        options: vec![],
        next: Some(later),
        prev: None,
    };
    kit.broker
        .write_scheduler_entries("h:7:s", &[entry], Duration::from_secs(20))
        .await
        .unwrap();
    let event = SchedulerEnqueueEvent {
        task_id: id("unique"),
        enqueued_at: now,
    };
    kit.broker.record_enqueue_event("e", &event).await.unwrap();
    kit
}

#[tokio::test]
async fn every_key_of_the_layout_shows() {
    let kit = full().await;
    assert_eq!(kit.audit().await, []);
    let state = kit.store.raw_state();
    let day = kit.clock.now().format("%Y-%m-%d");
    let mut expected: Vec<String> = ["queues", "servers", "workers", "schedulers", "scheduler_history:e"]
        .into_iter()
        .chain(["servers:{h:7:s}", "workers:{h:7:s}", "schedulers:{h:7:s}"])
        .map(|name| format!("asynq:{name}"))
        .collect();
    let suffixes =
        "pending active lease scheduled retry archived completed groups aggregation_sets paused processed failed";
    expected.extend(suffixes.split(' ').map(|suffix| format!("asynq:{{q}}:{suffix}")));
    expected.extend(["processed", "failed"].map(|kind| format!("asynq:{{q}}:{kind}:{day}")));
    let tasks = "unique kept failed bad running pending late g1 g2 g3".split(' ');
    expected.extend(tasks.map(|name| format!("asynq:{{q}}:t:{name}")));
    expected.push("asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a".into());
    expected.push("asynq:{q}:g:G:1".into());
    let set = state.keys().find(|key| key.starts_with("asynq:{q}:g:G:1:")).unwrap();
    expected.push(set.clone());
    expected.sort();
    assert_eq!(state.keys().cloned().collect::<Vec<_>>(), expected);

    let RawValue::Hash(task) = &state["asynq:{q}:t:unique"] else {
        panic!("not a hash")
    };
    let fields: Vec<_> = task.keys().map(String::as_str).collect();
    assert_eq!(fields, ["msg", "state", "unique_key", "x:enq", "x:take"]);
    assert_eq!(task["x:enq"].len(), 16);
    let RawValue::Hash(task) = &state["asynq:{q}:t:pending"] else {
        panic!("not a hash")
    };
    assert_eq!(task["pending_since"], format!("{START}250000000"));
    let RawValue::Hash(task) = &state["asynq:{q}:t:kept"] else {
        panic!("not a hash")
    };
    assert_eq!(
        (&task["result"][..], &task["state"][..]),
        (&b"done"[..], &b"completed"[..])
    );
    assert_eq!(state["asynq:{q}:processed"], RawValue::String("3".into()));
    assert_eq!(state["asynq:{q}:paused"], RawValue::String(START.to_string().into()));
}

#[tokio::test]
async fn what_was_read_can_be_planted() {
    let state = full().await.store.raw_state();
    let copy = MemoryStore::new();
    for (key, value) in &state {
        copy.plant(key, Some(value.clone())).unwrap();
    }
    assert_eq!(copy.raw_state(), state);
    for key in state.keys() {
        copy.plant(key, None).unwrap();
    }
    assert_eq!(copy.raw_state(), RawState::new());
}

#[tokio::test]
async fn any_type_can_be_planted_anywhere() {
    let kit = full().await;
    let state = kit.store.raw_state();
    let odd = RawValue::Set([Bytes::from_static(b"odd")].into());
    for key in state.keys() {
        kit.store.plant(key, Some(odd.clone())).unwrap();
        assert_eq!(kit.store.raw_state()[key], odd, "{key}");
    }
    for key in ["asynq:{q}:no:such:key", "elsewhere"] {
        kit.store.plant(key, Some(odd.clone())).unwrap();
        assert_eq!(kit.store.raw_state()[key], odd, "{key}");
    }
    for (key, value) in &state {
        kit.store.plant(key, Some(value.clone())).unwrap();
        assert_eq!(kit.store.raw_state()[key], *value, "{key}");
    }
}

#[tokio::test]
async fn locks_counters_and_published_state_end_by_the_clock() {
    let kit = full().await;
    let lock = "asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a";
    let daily = format!("asynq:{{q}}:processed:{}", kit.clock.now().format("%Y-%m-%d"));
    assert_eq!(kit.broker.ttl(lock), Some(600));
    assert_eq!(kit.broker.ttl(&daily), Some(90 * 24 * 3600));
    assert_eq!(kit.broker.ttl("asynq:servers:{h:7:s}"), Some(10));
    assert_eq!(kit.broker.ttl("asynq:{q}:processed"), None);
    assert_eq!(
        (
            kit.broker.servers().await.unwrap().len(),
            kit.broker.workers().await.unwrap().len()
        ),
        (1, 1)
    );

    kit.advance(10);
    assert!(!kit.broker.raw_state().contains_key("asynq:servers:{h:7:s}"));
    assert!(kit.broker.raw_state().contains_key("asynq:servers"));
    assert_eq!(kit.broker.servers().await.unwrap(), []);

    kit.advance(589);
    assert!(kit.broker.raw_state().contains_key(lock));
    kit.advance(1);
    assert!(!kit.broker.raw_state().contains_key(lock));
    let again = request("q", "another")
        .payload("p")
        .unique(Duration::from_secs(1))
        .build();
    kit.broker.enqueue(&batch_of([again])).await.remove(0).unwrap();

    kit.advance(90 * 24 * 3600);
    assert!(!kit.broker.raw_state().contains_key(&daily));
    let before = kit.broker.raw_state();
    kit.broker.delete_expired(&queue(), 0).await.unwrap();
    assert_eq!(kit.broker.raw_state(), before);
}
