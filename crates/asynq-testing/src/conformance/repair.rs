//! Each breach of layout.md#invariants is found, predicted, repaired, and gone at the next look; and its task runs or
//! is visible.

use std::collections::BTreeSet;

use asynq_core::{
    broker::{GroupLimits, RECOVER_GRACE},
    doctor::{Obstacle, Remedy, Repair, RepairMode},
    inspect::Breach,
    raw::RawState,
};

use super::kit::*;
use crate::invariants;

const LISTED: [TaskState; 6] = [
    TaskState::Pending,
    TaskState::Active,
    TaskState::Scheduled,
    TaskState::Retry,
    TaskState::Archived,
    TaskState::Completed,
];

async fn repair(fx: &Fixture, breaches: &[Breach], mode: RepairMode) -> Vec<Repair> {
    let results = fx.storage.repair(&queue(Q), breaches, mode).await.unwrap();
    assert_eq!(results.len(), breaches.len(), "{breaches:#?}");
    results
}

/// Plants a damage and repairs all that an audit finds. The prediction is what then happens and changes nothing; the
/// remedies are the expected ones; and nothing is found afterwards.
async fn mends(fx: &Fixture, damage: impl FnOnce(&mut RawState), remedies: &[Remedy]) -> Vec<Breach> {
    fx.edit(damage).await;
    let found = fx.audit(&queue(Q)).await;
    assert!(!found.is_empty(), "nothing is found");
    let before = fx.raw().await;
    let predicted = repair(fx, &found, RepairMode::Check).await;
    before.assert_same(&fx.raw().await);
    let results = repair(fx, &found, RepairMode::Write).await;
    assert_eq!(predicted, results, "{found:#?}");
    let expected: BTreeSet<_> = remedies.iter().cloned().collect();
    let got: BTreeSet<_> = results
        .iter()
        .map(|result| match result {
            Repair::Done(remedy) => remedy.clone(),
            other => panic!("{other:?}: {found:#?}"),
        })
        .collect();
    assert_eq!(got, expected, "{found:#?}");
    let again = repair(fx, &found, RepairMode::Write).await;
    assert!(again.iter().all(|result| *result == Repair::Gone), "{again:?}");
    let raw = fx.raw().await;
    assert_eq!(fx.audit(&queue(Q)).await, [], "after {found:#?}");
    assert_eq!(invariants::check(&raw.state), [], "after {found:#?}");
    found
}

/// Takes a task that waits in whatever state, and ends it.
async fn runs(fx: &Fixture, id: &str) {
    fx.storage.forward(&queue(Q), 100).await.unwrap();
    let task = fx.take_one().await;
    assert_eq!(task.message.id, id);
    fx.settled(&task, DONE).await;
}

/// Invariant 1: an id without a task leaves its container.
pub(super) async fn an_id_without_a_task_is_removed(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    for suffix in ["pending", "active"] {
        let ids: &[&str] = if suffix == "pending" { &["x", "a"] } else { &["x"] };
        mends(
            fx,
            |state| drop(state.insert(key(suffix), list(ids))),
            &[Remedy::RemoveId],
        )
        .await;
    }
    for suffix in ["scheduled", "retry", "archived", "completed", "g:g"] {
        let damage = |state: &mut RawState| {
            state.insert(key(suffix), zset(&[("x", 5)]));
            if suffix == "g:g" {
                state.insert(key("groups"), RawValue::Set([bytes("g")].into()));
            }
        };
        mends(fx, damage, &[Remedy::RemoveId]).await;
    }
    runs(fx, "a").await;
}

/// Invariant 1: data that cannot be used are kept aside, as they are.
pub(super) async fn unusable_data_go_to_quarantine(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    let values = [
        string("x"),
        hash([("state", bytes("pending"))]),
        hash([("msg", Bytes::from_static(b"\xff")), ("state", bytes("pending"))]),
        go_task(request(Q, "other"), "pending"),
    ];
    for (n, value) in values.into_iter().enumerate() {
        let name = format!("x{n}");
        let damage = |state: &mut RawState| {
            state.insert(key("pending"), list(&["a", &name]));
            state.insert(key(&format!("t:{name}")), value.clone());
        };
        mends(fx, damage, &[Remedy::Quarantine]).await;
        let raw = fx.raw().await;
        assert_eq!(raw.state.get(&key(&format!("x:quarantine:{name}"))), Some(&value));
    }
    runs(fx, "a").await;
}

/// Invariant 1: a task gets the state of its only container, but one that is not completed leaves `completed`.
pub(super) async fn a_state_agrees_with_its_container(fx: &Fixture) {
    for container in LISTED.into_iter().chain([TaskState::Aggregating]) {
        for state in ["scheduled", "archived", "", "unknown"] {
            if state == container.as_str() {
                continue;
            }
            let name = format!("{container}-{state}");
            fx.task_in(&name, container).await;
            let remedy = match (container, state.parse()) {
                (TaskState::Completed, Ok(state)) => Remedy::List(state),
                _ => Remedy::SetState(container),
            };
            let damage = |raw: &mut RawState| {
                let state = (!state.is_empty()).then(|| bytes(state));
                set_field(raw, &name, "state", state);
            };
            mends(fx, damage, &[remedy]).await;
            let now = fx.storage.task_state(&queue(Q), &id(&name)).await.unwrap();
            let kept = container == TaskState::Completed && state.parse::<TaskState>().is_ok();
            let expected = if kept { state } else { container.as_str() };
            assert_eq!(now.as_str(), expected);
            match now {
                TaskState::Active => {
                    let found = fx.storage.expired(&queue(Q), RECOVER_GRACE, 10).await.unwrap();
                    assert_eq!(found.tasks.len(), 0);
                    fx.advance(31);
                    let found = fx.storage.expired(&queue(Q), Duration::ZERO, 10).await.unwrap();
                    assert_eq!(found.tasks.len(), 1);
                    fx.edit(|raw| {
                        for suffix in ["active", "lease", &format!("t:{name}")] {
                            raw.remove(&key(suffix));
                        }
                    })
                    .await;
                }
                _ => {
                    if now != TaskState::Pending && now != TaskState::Completed {
                        fx.storage.run_task(&queue(Q), &id(&name)).await.unwrap();
                    }
                    if now != TaskState::Completed {
                        runs(fx, &name).await;
                    }
                }
            }
        }
    }
}

/// Invariant 2: a task in no container is put into that of its state, and runs or is visible.
pub(super) async fn a_task_in_no_container_is_listed(fx: &Fixture) {
    for state in LISTED.into_iter().chain([TaskState::Aggregating]) {
        let name = format!("of-{state}");
        fx.task_in(&name, state).await;
        let damage = |raw: &mut RawState| {
            let suffix = if state == TaskState::Aggregating {
                "g:g"
            } else {
                state.as_str()
            };
            for suffix in [suffix, "lease", "groups"] {
                raw.remove(&key(suffix));
            }
        };
        mends(fx, damage, &[Remedy::List(state)]).await;
        assert_eq!(fx.storage.task_state(&queue(Q), &id(&name)).await.unwrap(), state);
        if state == TaskState::Active {
            fx.advance(31);
            let found = fx.storage.expired(&queue(Q), Duration::ZERO, 10).await.unwrap();
            assert_eq!(found.tasks[0].message.id, name);
            fx.edit(|raw| {
                for suffix in ["active", "lease", "t:of-active"] {
                    raw.remove(&key(suffix));
                }
            })
            .await;
        } else if state != TaskState::Completed {
            if state != TaskState::Pending {
                fx.storage.run_task(&queue(Q), &id(&name)).await.unwrap();
            }
            runs(fx, &name).await;
        }
    }
    // Nothing says where it was.
    fx.enqueue_ids(&["lost"]).await;
    let damage = |raw: &mut RawState| {
        set_field(raw, "lost", "state", Some(bytes("unknown")));
        set_field(raw, "lost", "pending_since", None);
        raw.remove(&key("pending"));
    };
    mends(fx, damage, &[Remedy::Quarantine]).await;
    assert!(fx.raw().await.state.contains_key(&key("x:quarantine:lost")));
}

/// Invariant 2: a task in several containers stays in that of its state, and runs once.
pub(super) async fn a_task_in_several_containers_is_kept_once(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    let keep = |state| [Remedy::KeepOne(state)];
    let pending = TaskState::Pending;
    for suffix in ["scheduled", "retry", "archived", "completed"] {
        mends(
            fx,
            |raw| drop(raw.insert(key(suffix), zset(&[("a", 5)]))),
            &keep(pending),
        )
        .await;
    }
    mends(
        fx,
        |raw| drop(raw.insert(key("pending"), list(&["a", "a"]))),
        &keep(pending),
    )
    .await;
    let damage = |raw: &mut RawState| {
        raw.insert(key("active"), list(&["a"]));
        raw.insert(key("lease"), zset(&[("a", 5)]));
    };
    mends(fx, damage, &keep(pending)).await;
    let damage = |raw: &mut RawState| {
        raw.insert(key("g:g1"), zset(&[("a", 5)]));
        raw.insert(key("groups"), RawValue::Set([bytes("g1")].into()));
    };
    mends(fx, damage, &keep(pending)).await;
    assert_eq!(fx.raw().await.list("pending"), ["a"]);
    assert!(!fx.raw().await.state.contains_key(&key("groups")));
    let task = fx.take_one().await;
    // One that runs stays with its server.
    mends(
        fx,
        |raw| drop(raw.insert(key("retry"), zset(&[("a", 5)]))),
        &keep(TaskState::Active),
    )
    .await;
    fx.settled(&task, DONE).await;

    fx.enqueue(request(Q, "b").group("g1")).await;
    let damage = |raw: &mut RawState| {
        raw.insert(key("g:g2"), zset(&[("b", 5)]));
        raw.insert(
            key("groups"),
            RawValue::Set(["g1", "g2"].into_iter().map(bytes).collect()),
        );
    };
    mends(fx, damage, &keep(TaskState::Aggregating)).await;
    assert_eq!(fx.raw().await.zset("g:g1").len(), 1);
    // Neither container is that of its state.
    fx.edit(|raw| raw.retain(|key, _| key == "asynq:queues")).await;
    fx.enqueue_ids(&["c"]).await;
    let damage = |raw: &mut RawState| {
        raw.remove(&key("pending"));
        raw.insert(key("retry"), zset(&[("c", 5)]));
        raw.insert(key("archived"), zset(&[("c", 5)]));
    };
    mends(fx, damage, &keep(TaskState::Retry)).await;
    runs(fx, "c").await;
}

/// Invariant 2: an active task without a lease gets one that has ended, so that it is recovered; a lease without an
/// active task goes.
pub(super) async fn a_lease_agrees_with_the_active_tasks(fx: &Fixture) {
    fx.running(request(Q, "a")).await;
    mends(fx, |raw| drop(raw.remove(&key("lease"))), &[Remedy::AddLease]).await;
    let found = fx.storage.expired(&queue(Q), Duration::ZERO, 10).await.unwrap();
    assert_eq!(found.tasks[0].message.id, "a");
    fx.enqueue_ids(&["b"]).await;
    let damage = |raw: &mut RawState| {
        let secs = fx.secs();
        raw.insert(key("lease"), zset(&[("a", secs), ("b", secs), ("x", secs)]));
    };
    mends(fx, damage, &[Remedy::RemoveLease]).await;
    assert_eq!(fx.raw().await.zset("lease").len(), 1);
}

/// Invariant 3: pending tasks have `pending_since`, and others do not.
pub(super) async fn pending_since_agrees_with_the_state(fx: &Fixture) {
    fx.running(request(Q, "b")).await;
    fx.enqueue_ids(&["a"]).await;
    mends(
        fx,
        |raw| set_field(raw, "a", "pending_since", None),
        &[Remedy::SetPendingSince],
    )
    .await;
    let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
    assert_eq!(info.latency, Duration::ZERO);
    let damage = |raw: &mut RawState| set_field(raw, "b", "pending_since", Some(bytes("1")));
    mends(fx, damage, &[Remedy::RemovePendingSince]).await;
    runs(fx, "a").await;
}

/// Invariant 4: the index has the groups with tasks, and every set is listed, so that its tasks come back.
pub(super) async fn groups_and_sets_agree_with_their_indexes(fx: &Fixture) {
    fx.enqueue(request(Q, "a").group("g")).await;
    mends(fx, |raw| drop(raw.remove(&key("groups"))), &[Remedy::AddGroup]).await;
    let damage = |raw: &mut RawState| {
        raw.insert(
            key("groups"),
            RawValue::Set(["g", "empty"].into_iter().map(bytes).collect()),
        );
    };
    mends(fx, damage, &[Remedy::RemoveGroup]).await;
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    let collect = || async { fx.storage.collect_group(&queue(Q), &group("g"), limits).await.unwrap() };
    assert!(collect().await.is_some());
    mends(fx, |raw| drop(raw.remove(&key("aggregation_sets"))), &[Remedy::ListSet]).await;
    assert!(collect().await.is_none());
    fx.advance(121);
    fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap();
    assert!(collect().await.is_some(), "its tasks are back in their group");
}

/// Invariant 5: a lock without an owner goes, so that its name is free again.
pub(super) async fn a_lock_without_an_owner_is_removed(fx: &Fixture) {
    fx.enqueue(request(Q, "a")).await;
    mends(
        fx,
        |raw| drop(raw.insert(key("unique:t:"), string("gone"))),
        &[Remedy::RemoveLock],
    )
    .await;
}

/// Invariant 6: a lifetime is corrected, and a number is not.
pub(super) async fn a_counter_gets_its_lifetime_and_keeps_its_number(fx: &Fixture) {
    fx.settled(&fx.running(request(Q, "a")).await, archive()).await;
    let day = format!("processed:{}", asynq_core::keys::day(fx.now()));
    mends(
        fx,
        |raw| drop(raw.insert(key(&day), string("7"))),
        &[Remedy::SetLifetime],
    )
    .await;
    assert_eq!(fx.raw().await.string(&day), Some("7".to_owned()));
    let ttl = fx.ttl(&day).await.unwrap();
    assert!(ttl > 89 * 24 * 3600 && ttl <= 90 * 24 * 3600, "{ttl}");

    fx.leaves_damage();
    for value in ["9", "many"] {
        fx.edit(|raw| drop(raw.insert(key("failed"), string(value)))).await;
        let found = fx.audit(&queue(Q)).await;
        let results = repair(fx, &found, RepairMode::Write).await;
        assert_eq!(results, [Repair::Left(Obstacle::UnknownNumber)], "{found:#?}");
        assert_eq!(fx.raw().await.string("failed"), Some(value.to_owned()));
    }
}

/// Invariant 7: a queue with keys is in the index of queues.
pub(super) async fn a_queue_with_keys_is_in_the_index(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    mends(fx, |raw| drop(raw.remove("asynq:queues")), &[Remedy::ListQueue]).await;
    assert_eq!(fx.storage.queues().await.unwrap(), [queue(Q)]);
}

/// A key of the wrong type is left as it is, with what needs it; all else is as it was.
pub(super) async fn a_key_of_the_wrong_type_is_left(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue_ids(&["a"]).await;
    fx.edit(|raw| {
        raw.insert(key("retry"), string("x"));
        raw.insert(key("scheduled"), zset(&[("x", 5)]));
    })
    .await;
    let before = fx.raw().await;
    let found = fx.audit(&queue(Q)).await;
    assert_eq!(found.len(), 2, "{found:#?}");
    for mode in [RepairMode::Check, RepairMode::Write] {
        let left = Repair::Left(Obstacle::WrongType { key: key("retry") });
        assert_eq!(repair(fx, &found, mode).await, [left.clone(), left]);
    }
    before.assert_same(&fx.raw().await);
    fx.edit(|raw| drop(raw.remove(&key("retry")))).await;
    let results = repair(fx, &found, RepairMode::Write).await;
    assert_eq!(
        results.iter().filter(|result| **result == Repair::Gone).count(),
        1,
        "{results:?}"
    );
}

/// Breaches that do not exist, or no longer, change nothing.
pub(super) async fn what_is_well_is_not_changed(fx: &Fixture) {
    for state in LISTED.into_iter().chain([TaskState::Aggregating]) {
        fx.task_in(state.as_str(), state).await;
    }
    fx.enqueue(request(Q, "u").unique(Duration::from_secs(60))).await;
    let mut breaches = Vec::new();
    for state in LISTED.into_iter().chain([TaskState::Aggregating]) {
        let (container, of) = (key(state.as_str()), || id(state.as_str()));
        let text = || String::from("x");
        breaches.extend([
            Breach::Dangling {
                container: container.clone(),
                id: of(),
                kind: text(),
            },
            Breach::WrongState {
                container: container.clone(),
                id: of(),
                state: text(),
            },
            Breach::Unlisted {
                id: of(),
                state: text(),
            },
            Breach::Duplicated {
                id: of(),
                containers: vec![container, key("g:g")],
            },
            Breach::NoLease { id: of() },
            Breach::StaleLease { id: of() },
            Breach::PendingSince {
                id: of(),
                state: text(),
            },
        ]);
    }
    breaches.extend([
        Breach::NoLease { id: id("gone") },
        Breach::GroupIndex {
            group: "g".into(),
            has_tasks: false,
        },
        Breach::UnlistedSet { set: key("g:g") },
        Breach::UnlistedSet {
            set: "asynq:{other}:g:g".into(),
        },
        Breach::Counter {
            key: key("processed"),
            problem: "x".into(),
        },
        Breach::Counter {
            key: "asynq:{other}:processed".into(),
            problem: "x".into(),
        },
        Breach::OwnerlessLock {
            lock: "other".into(),
            id: "x".into(),
        },
        Breach::UnlistedQueue { queue: queue(Q) },
        Breach::WrongType {
            key: key("pending"),
            found: "string".into(),
        },
    ]);
    let before = fx.raw().await;
    let locks: Vec<_> = before.state.keys().filter(|key| key.contains("unique:")).collect();
    breaches.extend(locks.into_iter().map(|lock| Breach::OwnerlessLock {
        lock: lock.clone(),
        id: "x".into(),
    }));
    for mode in [RepairMode::Check, RepairMode::Write] {
        for part in [&breaches[..], &[]] {
            let results = repair(fx, part, mode).await;
            assert!(results.iter().all(|result| *result == Repair::Gone), "{results:#?}");
        }
    }
    before.assert_same(&fx.raw().await);
}

/// Hundreds of damaged tasks are repaired in one call.
pub(super) async fn hundreds_are_repaired_together(fx: &Fixture) {
    let names: Vec<_> = (0..300).map(|n| format!("id{n:03}")).collect();
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let damage = |raw: &mut RawState| {
        for name in &names[..150] {
            raw.remove(&key(&format!("t:{name}")));
        }
        for name in &names[150..] {
            set_field(raw, name, "pending_since", None);
        }
    };
    let found = mends(fx, damage, &[Remedy::RemoveId, Remedy::SetPendingSince]).await;
    assert_eq!(found.len(), 300);
    assert_eq!(fx.take(500).await.len(), 150);
}

/// A completed task whose retention is not known any more is kept for a day, with its result.
pub(super) async fn a_completed_task_in_no_container_is_kept_for_a_day(fx: &Fixture) {
    fx.task_in("a", TaskState::Completed).await;
    let damage = |state: &mut RawState| drop(state.remove(&key("completed")));
    mends(fx, damage, &[Remedy::List(TaskState::Completed)]).await;
    assert_eq!(fx.raw().await.zset("completed"), [("a".to_owned(), fx.secs() + 86_400)]);
    fx.storage.delete_expired(&queue(Q), 100).await.unwrap();
    assert!(fx.raw().await.has_task("a"));
}

/// Data that are put aside do not replace those of the same id that already are in quarantine.
pub(super) async fn data_in_quarantine_stay_when_others_of_the_id_come(fx: &Fixture) {
    // The queue is in the index.
    fx.enqueue_ids(&["b"]).await;
    for round in ["first", "second"] {
        let result = hash([("result", bytes(round))]);
        mends(
            fx,
            |state| drop(state.insert(key("t:a"), result)),
            &[Remedy::Quarantine],
        )
        .await;
        fx.advance(1);
    }
    let raw = fx.raw().await;
    let names: Vec<_> = raw.zset("x:quarantine").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a".to_owned(), format!("a@{}", fx.secs() - 1)]);
    for name in names {
        assert!(raw.q().get(&format!("x:quarantine:{name}")).is_some(), "{name}");
    }
}

/// A task that stands in a group that it does not name is not listed beside it, when no more than its lease is judged.
pub(super) async fn a_lease_alone_lists_no_task_twice(fx: &Fixture) {
    fx.running(request(Q, "a")).await;
    fx.edit(|state| {
        state.remove(&key("active"));
        state.insert(key("g:foo"), zset(&[("a", 1)]));
        state.insert(key("groups"), RawValue::Set(["foo".into()].into()));
    })
    .await;
    let before = fx.raw().await;
    let stale = [Breach::StaleLease { id: id("a") }];
    let left = repair(fx, &stale, RepairMode::Write).await;
    assert_eq!(left, [Repair::Left(Obstacle::NotSearched)]);
    before.assert_same(&fx.raw().await);
    // The other breaches of the same audit mend it.
    let found = fx.audit(&queue(Q)).await;
    repair(fx, &found, RepairMode::Write).await;
    assert_eq!(fx.audit(&queue(Q)).await, []);
    assert_eq!(invariants::check(&fx.raw().await.state), []);
}
