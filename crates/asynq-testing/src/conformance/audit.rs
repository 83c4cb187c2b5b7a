//! The audit finds what does not hold (layout.md#invariants), and nothing else.

use asynq_core::{inspect::Breach, raw::RawState};

use super::kit::*;
use crate::invariants::{self, Violation};

/// Plants a damage on a healthy queue with one pending task `a` and checks that the audit and the
/// invariants over the raw keys both find it, and that neither changes anything.
async fn finds(fx: &Fixture, damage: impl FnOnce(&mut RawState), expected: Breach) {
    let whole = fx.raw().await;
    fx.edit(damage).await;
    let before = fx.raw().await;
    let found = fx.audit(&queue(Q)).await;
    assert!(found.contains(&expected), "{expected:?} is not among {found:#?}");
    before.assert_same(&fx.raw().await);
    let other = invariants::check(&before.state);
    assert!(other.contains(&Violation::Breach(queue(Q), expected)), "{other:#?}");
    fx.edit(|state| *state = whole.state).await;
}

/// Every state that the operations make is whole.
pub(super) async fn a_healthy_queue_has_no_breaches(fx: &Fixture) {
    assert!(fx.audit(&queue(Q)).await.is_empty());
    for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending) {
        fx.task_in(state.as_str(), state).await;
    }
    fx.enqueue(request(Q, "pending").unique(Duration::from_secs(60))).await;
    fx.enqueue(request(Q, "set").group("g2")).await;
    let limits = asynq_core::broker::GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    fx.storage
        .collect_group(&queue(Q), &group("g2"), limits)
        .await
        .unwrap()
        .unwrap();
    fx.storage.pause(&queue(Q)).await.unwrap();
    assert_eq!(fx.audit(&queue(Q)).await, []);
}

/// Invariant 1: an id without a usable task, in every kind of container.
pub(super) async fn an_id_without_task_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue_ids(&["a"]).await;
    let dangling = |suffix: &str, kind: asynq_core::error::PoisonKind| Breach::Dangling {
        container: key(suffix),
        id: id("x"),
        kind: kind.to_string(),
    };
    use asynq_core::error::PoisonKind::{Mismatch, NoHash, NoMessage, NotAHash, Undecodable};
    for suffix in ["pending", "active"] {
        finds(
            fx,
            |state| drop(state.insert(key(suffix), list(&["x"]))),
            dangling(suffix, NoHash),
        )
        .await;
    }
    for suffix in ["scheduled", "retry", "archived", "completed", "g:g"] {
        finds(
            fx,
            |state| drop(state.insert(key(suffix), zset(&[("x", 5)]))),
            dangling(suffix, NoHash),
        )
        .await;
    }
    let values = [
        (string("x"), NotAHash),
        (hash([("state", bytes("pending"))]), NoMessage),
        (
            hash([("msg", Bytes::from_static(b"\xff")), ("state", bytes("pending"))]),
            Undecodable,
        ),
        (go_task(request(Q, "other"), "pending"), Mismatch),
    ];
    for (value, kind) in values {
        let damage = |state: &mut RawState| {
            state.insert(key("pending"), list(&["x", "a"]));
            state.insert(key("t:x"), value);
        };
        finds(fx, damage, dangling("pending", kind)).await;
    }
}

/// Invariant 1: the state contradicts the container.
pub(super) async fn a_wrong_state_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue_ids(&["a"]).await;
    let breach = Breach::WrongState {
        container: key("pending"),
        id: id("a"),
        state: "active".into(),
    };
    finds(
        fx,
        |state| set_field(state, "a", "state", Some(bytes("active"))),
        breach,
    )
    .await;
    let breach = Breach::WrongState {
        container: key("pending"),
        id: id("a"),
        state: String::new(),
    };
    finds(fx, |state| set_field(state, "a", "state", None), breach).await;
}

/// Invariant 2: no task stands nowhere, and none in two places.
pub(super) async fn a_task_in_no_place_or_two_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue_ids(&["a"]).await;
    let breach = Breach::Unlisted {
        id: id("a"),
        state: "pending".into(),
    };
    finds(fx, |state| drop(state.remove(&key("pending"))), breach).await;
    let whole = fx.raw().await;
    fx.edit(|state| drop(state.insert(key("retry"), zset(&[("a", 5)]))))
        .await;
    let found = fx.audit(&queue(Q)).await;
    let double = |breach: &Breach| matches!(breach, Breach::Duplicated { id: of, containers } if *of == id("a") && containers.len() == 2);
    assert!(found.iter().any(double), "{found:#?}");
    fx.edit(|state| *state = whole.state).await;
    fx.edit(|state| drop(state.insert(key("pending"), list(&["a", "a"]))))
        .await;
    let found = fx.audit(&queue(Q)).await;
    assert!(found.iter().any(double), "{found:#?}");
}

/// Invariant 2: active ids and leases fit each other.
pub(super) async fn a_lease_that_does_not_fit_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.running(request(Q, "a")).await;
    finds(
        fx,
        |state| drop(state.remove(&key("lease"))),
        Breach::NoLease { id: id("a") },
    )
    .await;
    let damage = |state: &mut RawState| drop(state.insert(key("lease"), zset(&[("a", 5), ("x", 5)])));
    finds(fx, damage, Breach::StaleLease { id: id("x") }).await;
}

/// Invariant 3: `pending_since` exactly while pending.
pub(super) async fn a_wrong_pending_since_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.running(request(Q, "b")).await;
    fx.enqueue_ids(&["a"]).await;
    let breach = Breach::PendingSince {
        id: id("a"),
        state: "pending".into(),
    };
    finds(fx, |state| set_field(state, "a", "pending_since", None), breach).await;
    let breach = Breach::PendingSince {
        id: id("b"),
        state: "active".into(),
    };
    finds(
        fx,
        |state| set_field(state, "b", "pending_since", Some(bytes("1"))),
        breach,
    )
    .await;
}

/// Invariant 4: the index of groups, and that of sets.
pub(super) async fn a_wrong_group_index_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue(request(Q, "a").group("g")).await;
    let breach = Breach::GroupIndex {
        group: "g".into(),
        has_tasks: true,
    };
    finds(fx, |state| drop(state.remove(&key("groups"))), breach).await;
    // One that is called as a set is, in the words of its tasks.
    let like_a_set = "x:0f8e2b0c-4d5e-4f60-8a7b-9c0d1e2f3a4b";
    fx.enqueue(request(Q, "b").group(like_a_set)).await;
    let breach = Breach::GroupIndex {
        group: like_a_set.into(),
        has_tasks: true,
    };
    let damage = |state: &mut RawState| drop(state.insert(key("groups"), RawValue::Set([bytes("g")].into())));
    finds(fx, damage, breach).await;
    let damage =
        |state: &mut RawState| drop(state.insert(key("groups"), RawValue::Set(["g", "empty"].map(bytes).into())));
    finds(
        fx,
        damage,
        Breach::GroupIndex {
            group: "empty".into(),
            has_tasks: false,
        },
    )
    .await;
    let limits = asynq_core::broker::GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    let set = fx
        .storage
        .collect_group(&queue(Q), &group("g"), limits)
        .await
        .unwrap()
        .unwrap();
    let breach = Breach::UnlistedSet {
        set: key(&format!("g:g:{}", set.id)),
    };
    finds(fx, |state| drop(state.remove(&key("aggregation_sets"))), breach).await;
}

/// Invariant 5: a lock holds an id that has a task.
pub(super) async fn a_lock_without_owner_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue(request(Q, "a").unique(Duration::from_secs(60))).await;
    let breach = Breach::OwnerlessLock {
        lock: key("unique:t:"),
        id: "gone".into(),
    };
    finds(fx, |state| drop(state.insert(key("unique:t:"), string("gone"))), breach).await;
}

/// Invariant 6: no more failed than processed; days end and totals do not.
pub(super) async fn a_wrong_counter_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.settled(&fx.running(request(Q, "a")).await, archive()).await;
    assert_eq!(fx.audit(&queue(Q)).await, []);
    let is_of = |breach: &Breach, suffix: &str| matches!(breach, Breach::Counter { key: of, .. } if *of == key(suffix));
    let whole = fx.raw().await;
    fx.edit(|state| drop(state.insert(key("failed"), string("2")))).await;
    let found = fx.audit(&queue(Q)).await;
    assert!(found.iter().any(|breach| is_of(breach, "failed")), "{found:#?}");
    fx.edit(|state| *state = whole.state).await;
    // A foreign write takes the end of life away.
    let day = format!("processed:{}", asynq_core::keys::day(fx.now()));
    fx.edit(|state| drop(state.insert(key(&day), string("7")))).await;
    let found = fx.audit(&queue(Q)).await;
    assert!(found.iter().any(|breach| is_of(breach, &day)), "{found:#?}");
}

/// Invariant 7: a queue that has keys is in the index.
pub(super) async fn an_unlisted_queue_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue_ids(&["a"]).await;
    let breach = Breach::UnlistedQueue { queue: queue(Q) };
    finds(fx, |state| drop(state.remove("asynq:queues")), breach).await;
}

/// A key of another type than the layout says is found, and blinds nothing.
pub(super) async fn a_wrong_type_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue_ids(&["a"]).await;
    for suffix in [
        "active",
        "lease",
        "scheduled",
        "retry",
        "archived",
        "completed",
        "groups",
        "aggregation_sets",
    ] {
        let breach = Breach::WrongType {
            key: key(suffix),
            found: "string".into(),
        };
        finds(fx, |state| drop(state.insert(key(suffix), string("x"))), breach).await;
    }
    for suffix in ["paused", "processed", "failed", "unique:t:", "x:tick:e"] {
        let breach = Breach::WrongType {
            key: key(suffix),
            found: "list".into(),
        };
        finds(fx, |state| drop(state.insert(key(suffix), list(&["x"]))), breach).await;
    }
    fx.edit(|state| {
        state.insert(key("retry"), string("x"));
        state.insert(key("scheduled"), zset(&[("x", 5)]));
    })
    .await;
    let found = fx.audit(&queue(Q)).await;
    assert!(
        found.iter().any(|breach| matches!(breach, Breach::Dangling { .. })),
        "{found:#?}"
    );
}

/// Thousands of tasks are audited to the end, page after page, and every damage is found.
pub(super) async fn a_large_queue_is_audited_to_the_end(fx: &Fixture) {
    fx.leaves_damage();
    let names: Vec<_> = (0..3000).map(|n| format!("id{n:04}")).collect();
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let batch = names
        .iter()
        .map(|id| request(Q, &format!("s{id}")).at(fx.after(60)).build());
    assert!(fx.storage.enqueue(&batch_of(batch)).await.iter().all(Result::is_ok));
    assert_eq!(fx.audit(&queue(Q)).await, []);
    fx.edit(|state| {
        for name in ["id0000", "id1500", "id2999", "sid0000", "sid2999"] {
            state.remove(&key(&format!("t:{name}")));
        }
    })
    .await;
    let found = fx.audit(&queue(Q)).await;
    let dangling = found
        .iter()
        .filter(|breach| matches!(breach, Breach::Dangling { .. }))
        .count();
    assert_eq!((dangling, found.len()), (5, 5), "{found:#?}");
}

/// Invariant 2: a task in two groups is found, whichever its hash names; one in a single group stands
/// somewhere.
pub(super) async fn a_task_in_two_groups_is_found(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue(request(Q, "a").group("g1")).await;
    fx.enqueue_ids(&["b"]).await;
    let containers = |suffixes: &[&str]| -> Vec<String> { suffixes.iter().map(|suffix| key(suffix)).collect() };
    let set = "g:g1:0f0f0f0f-aaaa-4bbb-8ccc-0123456789ab";
    // Where `a` and `b` stand, besides where they should.
    let cases: &[(&[&str], &[&str])] = &[
        (&["g:g2"], &["g:g1", "g:g2"]),
        (&["g:g2", "g:g3"], &["g:g1", "g:g2", "g:g3"]),
        (&[set], &["g:g1", set]),
        (&[set, "g:g0"], &["g:g0", "g:g1", set]),
    ];
    for (places, expected) in cases {
        let breach = Breach::Duplicated {
            id: id("a"),
            containers: containers(expected),
        };
        finds(fx, |state| insert_all(state, places, "a"), breach).await;
        let mut found: Vec<String> = containers(places);
        found.sort();
        found.insert(0, key("pending"));
        let breach = Breach::Duplicated {
            id: id("b"),
            containers: found,
        };
        finds(fx, |state| insert_all(state, places, "b"), breach).await;
    }
    // In two groups, neither of which its hash names; told once.
    fx.edit(|state| {
        state.remove(&key("g:g1"));
        insert_all(state, &["g:g2", "g:g3"], "a");
    })
    .await;
    let found = fx.audit(&queue(Q)).await;
    let told: Vec<_> = found
        .iter()
        .filter(|breach| matches!(breach, Breach::Duplicated { .. } | Breach::Unlisted { .. }))
        .collect();
    let breach = Breach::Duplicated {
        id: id("a"),
        containers: containers(&["g:g2", "g:g3"]),
    };
    assert_eq!(told, [&breach]);
    fx.edit(|state| drop(state.remove(&key("g:g3")))).await;
    let found = fx.audit(&queue(Q)).await;
    let stands = |breach: &Breach| !matches!(breach, Breach::Duplicated { .. } | Breach::Unlisted { .. });
    assert!(found.iter().all(stands), "{found:#?}");
}

fn insert_all(state: &mut RawState, suffixes: &[&str], id: &str) {
    for suffix in suffixes {
        state.insert(key(suffix), zset(&[(id, 5)]));
    }
}
