//! Damaged data harm only themselves: they are reported, put aside or repaired.

use asynq_testing::request::batch_of;
use std::time::Duration;

use asynq_core::{
    Broker as _, BrokerError, EnqueueError, Inspect as _, SettleError, TaskState,
    broker::{Outcome, RECOVER_GRACE, Want},
    error::PoisonKind,
    inspect::{Breach, ListFilter, PageRequest},
    raw::RawValue,
};
use asynq_testing::request;
use bytes::Bytes;

use crate::kit::{Kit, START, id, queue, settlement};

fn list(items: &[&str]) -> RawValue {
    RawValue::List(
        items
            .iter()
            .map(|item| Bytes::copy_from_slice(item.as_bytes()))
            .collect(),
    )
}

fn zset(entries: &[(&str, i64)]) -> RawValue {
    RawValue::ZSet(
        entries
            .iter()
            .map(|(member, score)| (Bytes::copy_from_slice(member.as_bytes()), *score))
            .collect(),
    )
}

fn hash(fields: &[(&str, &[u8])]) -> RawValue {
    RawValue::Hash(
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value)))
            .collect(),
    )
}

impl Kit {
    fn put(&self, suffix: &str, value: RawValue) {
        self.store.plant(&format!("asynq:{{q}}:{suffix}"), Some(value)).unwrap();
    }

    fn key(&self, suffix: &str) -> Option<RawValue> {
        self.broker.raw_state().remove(&format!("asynq:{{q}}:{suffix}"))
    }
}

/// A queue whose pending list has one good task behind one of each damage.
async fn damaged() -> Kit {
    let kit = Kit::new();
    kit.enqueue(request("q", "good").build()).await;
    kit.put(
        "pending",
        list(&["good", "gone", "blank", "garbage", "foreign", "string"]),
    );
    kit.put("t:blank", hash(&[("state", b"pending")]));
    kit.put("t:garbage", hash(&[("state", b"pending"), ("msg", b"\xff\xff")]));
    kit.put(
        "t:foreign",
        hash(&[("state", b"pending"), ("msg", &request("q", "other").encoded())]),
    );
    kit.put("t:string", RawValue::String("x".into()));
    kit
}

const KINDS: [(&str, PoisonKind); 5] = [
    ("string", PoisonKind::NotAHash),
    ("foreign", PoisonKind::Mismatch),
    ("garbage", PoisonKind::Undecodable),
    ("blank", PoisonKind::NoMessage),
    ("gone", PoisonKind::NoHash),
];

#[tokio::test]
async fn a_take_steps_over_what_cannot_be_used() {
    let kit = damaged().await;
    let before = kit.broker.raw_state();
    let taken = kit.take(3).await;
    let found: Vec<_> = taken
        .poisoned
        .iter()
        .map(|poison| (poison.id.as_str(), poison.kind))
        .collect();
    // The two with a message that cannot be read were taken first.
    assert_eq!(found, KINDS);
    assert_eq!(taken.leased.len(), 1);
    assert_eq!(kit.audit().await, []);

    let names: Vec<_> = KINDS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != "gone")
        .collect();
    let mut expected: Vec<_> = names.iter().map(|name| (*name, START)).collect();
    expected.sort_unstable();
    assert_eq!(kit.key("x:quarantine"), Some(zset(&expected)));
    for name in ["blank", "string"] {
        assert_eq!(
            kit.key(&format!("x:quarantine:{name}")).as_ref(),
            before.get(&format!("asynq:{{q}}:t:{name}"))
        );
        assert_eq!(kit.key(&format!("t:{name}")), None);
    }
    // The id is free again.
    kit.enqueue(request("q", "garbage").build()).await;
    assert_eq!(kit.take(9).await.leased.len(), 1);
}

#[tokio::test]
async fn lists_and_infos_name_what_cannot_be_read() {
    let kit = damaged().await;
    let page = PageRequest::default();
    let listed = kit
        .broker
        .list_tasks(&queue(), &ListFilter::State(TaskState::Pending), page)
        .await
        .unwrap();
    assert_eq!(listed.readable().count(), 1);
    let poisoned: Vec<_> = listed.poisoned().map(|(id, kind)| (id.as_str(), kind)).collect();
    assert_eq!(poisoned, KINDS);
    for (name, kind) in KINDS {
        match kit.broker.task_info(&queue(), &id(name)).await {
            Err(BrokerError::TaskNotFound { .. }) => assert_eq!(kind, PoisonKind::NoHash),
            Err(BrokerError::Poison { kind: found, .. }) => assert_eq!(found, kind),
            other => panic!("{name}: {other:?}"),
        }
    }
    kit.put(
        "t:good",
        hash(&[("msg", &request("q", "good").encoded()), ("state", b"lost")]),
    );
    let info = kit.broker.task_info(&queue(), &id("good")).await;
    assert!(matches!(
        info,
        Err(BrokerError::Poison {
            kind: PoisonKind::BadState,
            ..
        })
    ));
}

#[tokio::test]
async fn an_audit_finds_each_damage() {
    let kit = damaged().await;
    kit.put("active", list(&["good"]));
    kit.put("lease", zset(&[("ghost", 7)]));
    kit.put(
        "t:alone",
        hash(&[("msg", &request("q", "alone").encoded()), ("state", b"retry")]),
    );
    kit.put("groups", RawValue::Set([Bytes::from_static(b"empty")].into()));
    kit.put("g:full", zset(&[("gone", 1)]));
    kit.put("g:full:0123abcd-0000-4000-8000-0123456789ab", zset(&[("gone", 1)]));
    kit.put("unique:t:x", RawValue::String("nobody".into()));
    kit.put("failed", RawValue::String("3".into()));
    kit.put("processed:2020-01-01", RawValue::String("3".into()));
    kit.put("retry", RawValue::String("x".into()));
    kit.store.plant("asynq:queues", None).unwrap();
    let found = kit.audit().await;
    let has = |wanted: &str| {
        assert!(
            found.iter().any(|breach| breach.to_string().contains(wanted)),
            "{wanted}: {found:#?}"
        )
    };
    has("asynq:{q}:pending: id gone: the id has no task hash");
    has("asynq:{q}:pending: id garbage: the message cannot be decoded");
    has("asynq:{q}:active: id good has state \"pending\"");
    has("task good stands in asynq:{q}:pending and asynq:{q}:active");
    has("active task good has no lease");
    has("lease of ghost has no active task");
    has("task alone with state \"retry\" stands in no container");
    has("task blank: pending_since does not fit state \"pending\"");
    has("group \"empty\" in the index is empty");
    has("group \"full\" is not in the index");
    has("aggregation set asynq:{q}:g:full:0123abcd-0000-4000-8000-0123456789ab is not listed");
    has("lock asynq:{q}:unique:t:x is held by \"nobody\"");
    has("more tasks failed than were processed");
    has("a daily counter without an end");
    has("key asynq:{q}:retry is a string");
    has("queue \"q\" is not in the index of queues");
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(found, sorted);
}

#[tokio::test]
async fn heal_repairs_what_an_audit_finds() {
    let kit = Kit::new();
    kit.enqueue(request("q", "good").build()).await;
    kit.enqueue(request("q", "member").group("full").build()).await;
    let encoded = |name: &str| request("q", name).encoded();
    kit.put("active", list(&["bare", "stray", "blank", "twice"]));
    kit.put("t:bare", hash(&[("msg", &encoded("bare")), ("state", b"active")]));
    kit.put(
        "t:stray",
        hash(&[("msg", &encoded("stray")), ("state", b"retry"), ("x:take", b"old")]),
    );
    kit.put("t:blank", hash(&[("state", b"active")]));
    kit.put("t:twice", hash(&[("msg", &encoded("twice")), ("state", b"retry")]));
    kit.put("retry", zset(&[("twice", 7)]));
    kit.put("lease", zset(&[("ghost", 7), ("lost", START - 31)]));
    kit.put("t:lost", hash(&[("msg", &encoded("lost")), ("state", b"active")]));
    kit.put("t:alone", hash(&[("msg", &encoded("alone")), ("state", b"scheduled")]));
    kit.put("t:void", hash(&[("msg", &encoded("void"))]));
    kit.put(
        "t:member",
        hash(&[
            ("msg", &encoded("member")),
            ("state", b"aggregating"),
            ("group", b"full"),
        ]),
    );
    kit.put("g:full", zset(&[("member", 1)]));
    kit.put("groups", RawValue::Set([].into()));
    kit.put("unique:t:x", RawValue::String("nobody".into()));
    assert!(!kit.audit().await.is_empty());

    let healed = kit.broker.heal(&queue(), 100).await.unwrap();
    assert_eq!(kit.audit().await, []);
    assert_eq!(healed.leased, [id("bare")]);
    assert_eq!(healed.stale_leases, [id("ghost")]);
    assert_eq!(healed.relisted, [id("stray"), id("twice"), id("alone"), id("lost")]);
    assert_eq!(healed.regrouped.len(), 1);
    assert_eq!(healed.unlocked, ["asynq:{q}:unique:t:x"]);
    let poisoned: Vec<_> = healed
        .poisoned
        .iter()
        .map(|poison| (poison.id.as_str(), poison.kind))
        .collect();
    assert_eq!(
        poisoned,
        [("blank", PoisonKind::NoMessage), ("void", PoisonKind::BadState)]
    );
    assert_eq!(
        kit.key("lease"),
        Some(zset(&[("lost", START - 31), ("bare", START), ("stray", START)]))
    );
    assert!(kit.broker.heal(&queue(), 100).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_undecodable_message_does_not_stop_recovery() {
    let kit = Kit::new();
    for name in ["a", "b", "c"] {
        kit.enqueue(request("q", name).build()).await;
    }
    kit.take(3).await;
    kit.put("t:b", hash(&[("state", b"active"), ("msg", b"\xff")]));
    kit.advance(60);
    let expired = kit.broker.expired(&queue(), RECOVER_GRACE, 100).await.unwrap();
    assert_eq!(
        (expired.tasks.len(), expired.poisoned.len(), expired.more),
        (2, 1, false)
    );
    assert_eq!(kit.audit().await, []);
}

#[tokio::test]
async fn a_container_of_the_wrong_type_refuses_the_call_before_any_write() {
    let kit = Kit::new();
    kit.enqueue(request("q", "a").build()).await;
    kit.enqueue(request("q", "b").build()).await;
    let task = kit.take(1).await.leased.remove(0);
    let again = |suffix: &'static str| {
        kit.put(suffix, RawValue::String("x".into()));
        (kit.broker.raw_state(), format!("asynq:{{q}}:{suffix}"))
    };

    let (before, wrong) = again("completed");
    assert_eq!(
        kit.broker.delete_expired(&queue(), 10).await.unwrap_err().to_string(),
        format!("key {wrong} has the wrong type")
    );
    // Nothing that this outcome touches is damaged.
    let retry = Outcome::Retry {
        at: kit.clock.now(),
        error: "e".into(),
        is_failure: true,
    };
    assert_eq!(kit.broker.raw_state(), before);

    let (before, wrong) = again("retry");
    let want = || vec![Want { queue: queue(), max: 1 }];
    let refused = kit
        .broker
        .exchange(&kit.broker.begin(), &[settlement(&task, retry)], &want())
        .await;
    assert!(
        matches!(&refused.settled[..], [Err(SettleError::Broker(BrokerError::WrongType { key }))] if *key == wrong)
    );
    assert!(matches!(&refused.failed[..], [(_, BrokerError::WrongType { .. })]));
    assert!(refused.leased.is_empty());
    assert!(matches!(
        kit.broker.forward(&queue(), 10).await,
        Err(BrokerError::WrongType { .. })
    ));
    assert!(matches!(
        kit.broker.heal(&queue(), 10).await,
        Err(BrokerError::WrongType { .. })
    ));
    assert_eq!(kit.broker.raw_state(), before);

    let (before, _) = again("pending");
    let batch = vec![request("q", "c").build(), request("other", "c").build()];
    let answers = kit.broker.enqueue(&batch_of(batch)).await;
    assert!(matches!(
        &answers[0],
        Err(EnqueueError::Broker(BrokerError::WrongType { .. }))
    ));
    assert!(answers[1].is_ok());
    assert_eq!(kit.key("t:c"), None);
    let filter = ListFilter::State(TaskState::Pending);
    assert!(matches!(
        kit.broker.list_tasks(&queue(), &filter, PageRequest::default()).await,
        Err(BrokerError::WrongType { .. })
    ));
    assert!(kit.broker.raw_state().len() > before.len());
    assert!(
        kit.audit()
            .await
            .iter()
            .any(|breach| matches!(breach, Breach::WrongType { .. }))
    );

    let (_, _) = again("lease");
    assert!(matches!(
        kit.broker.expired(&queue(), Duration::ZERO, 10).await,
        Err(BrokerError::WrongType { .. })
    ));
    let extended = kit.broker.extend_leases(vec![task.lease.clone()]).await;
    assert!(matches!(
        extended[..],
        [Err(SettleError::Broker(BrokerError::WrongType { .. }))]
    ));
}

#[tokio::test]
async fn extreme_times_and_durations_do_no_harm() {
    use asynq_core::{broker::GroupLimits, names::GroupKey};
    use chrono::{DateTime, Utc};
    let kit = Kit::new();
    let ends = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC];
    for (n, at) in ends.into_iter().enumerate() {
        kit.enqueue(
            request("q", &format!("at{n}"))
                .payload(format!("{n}"))
                .at(at)
                .unique(Duration::MAX)
                .build(),
        )
        .await;
    }
    let kept = request("q", "kept").retention(i64::MAX).build();
    kit.enqueue(kept).await;
    let kept = kit.take(1).await.leased.remove(0);
    kit.settle(&kept, Outcome::Done { retain: true }).await;
    assert_eq!(
        kit.key("completed"),
        Some(zset(&[("kept", asynq_core::broker::MAX_SCORE)]))
    );
    assert_eq!(kit.broker.delete_expired(&queue(), u32::MAX).await.unwrap(), 0);
    assert_eq!(kit.broker.forward(&queue(), u32::MAX).await.unwrap().moved, 1);
    kit.broker.expired(&queue(), Duration::MAX, u32::MAX).await.unwrap();
    kit.enqueue(request("q", "member").group("g").build()).await;
    let limits = GroupLimits {
        grace: Duration::MAX,
        max_delay: Some(Duration::MAX),
        max_size: Some(u32::MAX),
    };
    assert!(
        kit.broker
            .collect_group(&queue(), &GroupKey::new("g").unwrap(), limits)
            .await
            .unwrap()
            .is_none()
    );
    kit.broker
        .write_scheduler_entries("s", &[], Duration::MAX)
        .await
        .unwrap();
    kit.broker
        .write_scheduler_entries("s", &[], Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(kit.audit().await, []);
}
