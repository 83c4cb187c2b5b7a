//! The stores heal (rules.md#stores-heal).

use asynq_core::{
    broker::{Healed, RECOVER_GRACE},
    error::PoisonKind,
};

use super::kit::*;

/// Looks until nothing more is found: one look is bounded.
async fn heal(fx: &Fixture) -> Healed {
    let mut all = Healed::default();
    let mut quiet = 0;
    while quiet < 5 {
        let healed = fx.storage.heal(&queue(Q), 100).await.unwrap();
        quiet = if healed.is_empty() { quiet + 1 } else { 0 };
        all.leased.extend(healed.leased);
        all.stale_leases.extend(healed.stale_leases);
        all.regrouped.extend(healed.regrouped);
        all.relisted_sets.extend(healed.relisted_sets);
        all.relisted.extend(healed.relisted);
        all.unlocked.extend(healed.unlocked);
        all.poisoned.extend(healed.poisoned);
    }
    all
}

/// Ids without a task leave the sets in which nobody else would look at them for long, and no others do.
pub(super) async fn ids_without_a_task_leave_their_sets(fx: &Fixture) {
    let states = [
        TaskState::Scheduled,
        TaskState::Retry,
        TaskState::Archived,
        TaskState::Completed,
    ];
    for state in states {
        for name in ["kept", "gone"] {
            fx.task_in(&format!("{name}-{state}"), state).await;
        }
    }
    let whole = fx.raw().await;
    fx.edit(|raw| {
        for state in states {
            raw.remove(&key(&format!("t:gone-{state}")));
        }
    })
    .await;
    let mut told: Vec<_> = heal(fx)
        .await
        .poisoned
        .into_iter()
        .map(|p| (p.id.to_string(), p.kind))
        .collect();
    told.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let expected = ["archived", "completed", "retry", "scheduled"];
    assert_eq!(
        told,
        expected.map(|state| (format!("gone-{state}"), PoisonKind::NoHash))
    );
    let raw = fx.raw().await;
    for state in states {
        let ids: Vec<_> = raw.zset(state.as_str()).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [format!("kept-{state}")]);
        let kept = format!("kept-{state}");
        assert_eq!(raw.task(&kept).names(), whole.task(&kept).names());
    }
}

/// Any number of them, a part in each look.
pub(super) async fn any_number_of_ids_without_a_task_leave(fx: &Fixture) {
    let ids: Vec<String> = (0..1200).map(|n| format!("id{n:04}")).collect();
    fx.task_in("kept", TaskState::Archived).await;
    let now = fx.secs();
    fx.edit(|raw| {
        let entries: Vec<_> = ids.iter().map(|id| (id.as_str(), now)).chain([("kept", now)]).collect();
        raw.insert(key("archived"), zset(&entries));
    })
    .await;
    let healed = heal(fx).await;
    assert_eq!(healed.poisoned.len(), 1200);
    let left = fx.raw().await.zset("archived");
    assert_eq!(left, [("kept".to_owned(), now)]);
}

/// A healthy queue is left alone.
pub(super) async fn what_is_whole_is_left_alone(fx: &Fixture) {
    assert!(heal(fx).await.is_empty());
    assert!(fx.raw().await.state.is_empty());
    for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending) {
        fx.task_in(state.as_str(), state).await;
    }
    fx.enqueue(request(Q, "pending").unique(Duration::from_secs(600))).await;
    fx.enqueue(request(Q, "collected").group("g2")).await;
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
    let before = fx.raw().await;
    assert!(heal(fx).await.is_empty());
    before.assert_same(&fx.raw().await);
}

/// differences.md#active-without-a-lease: an active task without a lease gets one that ends now; the usual
/// recovery takes it 30 s later, and a living owner can extend it again.
pub(super) async fn an_active_task_without_lease_gets_one(fx: &Fixture) {
    fx.enqueue_ids(&["dead", "alive", "other"]).await;
    let taken = fx.take(3).await;
    fx.edit(|state| drop(state.insert(key("lease"), zset(&[("other", taken[2].lease.until.0)]))))
        .await;
    fx.advance(5);
    let mut leased = heal(fx).await.leased;
    leased.sort();
    assert_eq!(leased, [id("alive"), id("dead")]);
    let raw = fx.raw().await;
    assert!(raw.zset("lease").contains(&("dead".to_owned(), fx.secs())));
    assert!(
        raw.zset("lease")
            .contains(&("other".to_owned(), taken[2].lease.until.0)),
        "NX"
    );
    fx.storage
        .extend_leases(vec![taken[1].lease.clone(), taken[2].lease.clone()])
        .await
        .remove(0)
        .unwrap();
    fx.advance(30);
    let found = fx.storage.expired(&queue(Q), RECOVER_GRACE, 10).await.unwrap();
    let ids: Vec<_> = found.tasks.iter().map(|task| task.message.id.as_str()).collect();
    assert_eq!(ids, ["dead"]);
}

/// Invariant 2: a lease without an active task is removed.
pub(super) async fn a_stale_lease_is_removed(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.enqueue_ids(&["b"]).await;
    let until = task.lease.until.0;
    fx.edit(|state| drop(state.insert(key("lease"), zset(&[("a", until), ("b", 7), ("gone", until)]))))
        .await;
    let mut stale = heal(fx).await.stale_leases;
    stale.sort();
    assert_eq!(stale, [id("b"), id("gone")]);
    assert_eq!(fx.raw().await.zset("lease"), [("a".to_owned(), until)]);
}

/// differences.md#groups-handed-back, differences.md#groups-of-forwarded-tasks: a group that Go's reclaim or
/// forward left out of the index is put back; sets are no groups.
pub(super) async fn a_forgotten_group_is_put_back(fx: &Fixture) {
    fx.enqueue(request(Q, "a").group("g1")).await;
    fx.enqueue(request(Q, "b").group("g:2")).await;
    fx.enqueue(request(Q, "c").group("g3")).await;
    let limits = asynq_core::broker::GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    fx.storage
        .collect_group(&queue(Q), &group("g3"), limits)
        .await
        .unwrap()
        .unwrap();
    fx.edit(|state| drop(state.remove(&key("groups")))).await;
    let mut regrouped = heal(fx).await.regrouped;
    regrouped.sort();
    assert_eq!(regrouped, [group("g1"), group("g:2")]);
    assert_eq!(fx.raw().await.q().set("groups"), ["g1", "g:2"]);
}

/// differences.md#ids-without-a-hash: an id in `active` without a usable task is put aside.
pub(super) async fn an_active_id_without_task_is_put_aside(fx: &Fixture) {
    fx.enqueue_ids(&["gone", "bare", "whole"]).await;
    fx.take(3).await;
    fx.edit(|state| {
        state.remove(&key("t:gone"));
        // What Go's dequeue makes of an id without a hash.
        state.insert(key("t:bare"), hash([("state", bytes("active"))]));
    })
    .await;
    let healed = heal(fx).await;
    let mut aside: Vec<_> = healed.poisoned.iter().map(|poison| poison.id.as_str()).collect();
    aside.sort_unstable();
    assert_eq!(aside, ["bare", "gone"]);
    let raw = fx.raw().await;
    assert_eq!(
        (raw.list("active"), raw.zset("lease").len()),
        (vec!["whole".to_owned()], 1)
    );
    assert!(!raw.has_task("bare") && !raw.has_task("gone"));
}

/// rules.md#extensions-revive-nothing, the contract of `Healed`: a task that stands in no container stands
/// again where its state says.
pub(super) async fn an_unlisted_task_is_listed_again(fx: &Fixture) {
    for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending) {
        fx.task_in(state.as_str(), state).await;
    }
    fx.enqueue_ids(&["pending"]).await;
    let containers = [
        "pending",
        "active",
        "lease",
        "scheduled",
        "retry",
        "archived",
        "completed",
        "g:g",
        "groups",
    ];
    fx.edit(|state| containers.iter().for_each(|suffix| drop(state.remove(&key(suffix)))))
        .await;
    let mut relisted = heal(fx).await.relisted;
    relisted.sort();
    let mut all = TaskState::ALL.map(|state| id(state.as_str()));
    all.sort();
    assert_eq!(relisted, all);
    let raw = fx.raw().await;
    assert_eq!(
        (raw.list("pending"), raw.list("active")),
        (vec!["pending".to_owned()], vec!["active".to_owned()])
    );
    for suffix in ["scheduled", "retry", "archived", "completed"] {
        assert_eq!(raw.zset(suffix)[0].0, suffix);
    }
    assert_eq!(raw.zset("g:g")[0].0, "aggregating");
}

/// rules.md#extensions-revive-nothing, promise 2: a task that stands where it should, too, leaves the other place.
pub(super) async fn an_active_id_that_lives_elsewhere_leaves_active(fx: &Fixture) {
    fx.task_in("a", TaskState::Retry).await;
    fx.edit(|state| {
        state.insert(key("active"), list(&["a"]));
        state.insert(key("lease"), zset(&[("a", 1000)]));
    })
    .await;
    assert!(!heal(fx).await.is_empty());
    let raw = fx.raw().await;
    assert_eq!(
        (
            raw.list("active").len(),
            raw.zset("lease").len(),
            raw.zset("retry").len()
        ),
        (0, 0, 1)
    );
}

/// rules.md#extensions-revive-nothing, differences.md#freed-locks: a lock whose owner has no task is removed,
/// the others stay.
pub(super) async fn a_lock_without_owner_is_removed(fx: &Fixture) {
    fx.enqueue(request(Q, "a").unique(Duration::from_secs(600))).await;
    fx.edit(|state| drop(state.insert(key("unique:t2:"), string("gone"))))
        .await;
    assert_eq!(heal(fx).await.unlocked, [key("unique:t2:")]);
    assert_eq!(fx.raw().await.string("unique:t:").as_deref(), Some("a"));
}

/// rules.md#bounded-calls: one look repairs no more than asked, and looks that follow get everywhere.
pub(super) async fn looks_that_follow_get_everywhere(fx: &Fixture) {
    let names: Vec<_> = (0..60).map(|n| format!("id{n:02}")).collect();
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    fx.take(60).await;
    fx.edit(|state| drop(state.remove(&key("lease")))).await;
    let mut leased = 0;
    for _ in 0..200 {
        leased += fx.storage.heal(&queue(Q), 7).await.unwrap().leased.len();
    }
    assert_eq!((leased, fx.raw().await.zset("lease").len()), (60, 60));
}

/// Takes a task out of one sorted set and puts it into another.
fn move_task(state: &mut asynq_core::raw::RawState, id: &str, from: &str, to: &str) {
    let left: Vec<_> = match state.remove(&key(from)) {
        Some(RawValue::ZSet(entries)) => entries.into_iter().filter(|(member, _)| member != id).collect(),
        other => panic!("{from}: {other:?}"),
    };
    state.insert(key(from), RawValue::ZSet(left));
    state.insert(key(to), zset(&[(id, 5)]));
}

/// Promise 2: a task that stands in a group that its hash does not name stands somewhere, whether that
/// group is in the index or not.
pub(super) async fn a_task_in_another_group_is_not_listed_again(fx: &Fixture) {
    for in_index in [true, false] {
        for (state, from) in [(TaskState::Aggregating, "g:g"), (TaskState::Retry, "retry")] {
            let id = format!("{state}-{in_index}");
            fx.task_in(&id, state).await;
            fx.enqueue(request(Q, &format!("stays-{id}")).group("g")).await;
            let other = format!("g:other-{id}");
            fx.edit(|raw| {
                move_task(raw, &id, from, &other);
                set_field(raw, &id, "state", Some(bytes("aggregating")));
                let Some(RawValue::Set(groups)) = raw.get_mut(&key("groups")) else {
                    panic!("no groups")
                };
                if in_index {
                    groups.insert(bytes(&other[2..]));
                }
            })
            .await;
            let healed = heal(fx).await;
            assert!(healed.relisted.is_empty() && healed.poisoned.is_empty(), "{healed:?}");
            let raw = fx.raw().await;
            assert_eq!(raw.zset(&other), [(id.clone(), 5)]);
            let elsewhere = [raw.zset("g:g"), raw.zset("retry")].concat();
            assert!(!elsewhere.iter().any(|(of, _)| *of == id), "{elsewhere:?}");
        }
    }
}

/// Promise 2: an id in `active` whose task waits in any group leaves `active`.
pub(super) async fn an_active_id_that_waits_in_another_group_leaves_active(fx: &Fixture) {
    fx.enqueue(request(Q, "a").group("g")).await;
    fx.edit(|state| {
        move_task(state, "a", "g:g", "g:other");
        state.insert(key("groups"), RawValue::Set([bytes("other")].into()));
        state.insert(key("active"), list(&["a"]));
        state.insert(key("lease"), zset(&[("a", 1000)]));
    })
    .await;
    assert_eq!(heal(fx).await.relisted, [id("a")]);
    let raw = fx.raw().await;
    assert_eq!((raw.list("active").len(), raw.zset("lease").len()), (0, 0));
    assert_eq!(
        (raw.zset("g:other").len(), raw.task("a").state()),
        (1, "aggregating".to_owned())
    );
}

/// Promise 2: an aggregation set that lost its entry is listed again and its tasks are not; it goes
/// back to its group in the end, each task once.
pub(super) async fn a_lost_entry_of_a_set_is_made_anew(fx: &Fixture) {
    for id in ["a", "b", "c"] {
        fx.enqueue(request(Q, id).group("g")).await;
    }
    let limits = asynq_core::broker::GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: Some(2),
    };
    let collected = fx.storage.collect_group(&queue(Q), &group("g"), limits).await;
    let set = collected.unwrap().unwrap();
    let set_key = key(&format!("g:g:{}", set.id));
    fx.edit(|state| drop(state.remove(&key("aggregation_sets")))).await;
    let healed = heal(fx).await;
    assert_eq!(healed.relisted_sets, [set_key.as_str()]);
    assert!(healed.relisted.is_empty() && healed.regrouped.is_empty(), "{healed:?}");
    assert_eq!(fx.raw().await.zset("aggregation_sets"), [(set_key, fx.secs() + 120)]);
    // Its owner may live and go on.
    fx.storage.extend_aggregation(&set).await.unwrap();
    fx.advance(121);
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 1);
    let raw = fx.raw().await;
    let tasks: Vec<_> = raw.zset("g:g").into_iter().map(|(id, _)| id).collect();
    assert_eq!(tasks, ["a", "b", "c"]);
    assert_eq!(raw.q().set("groups"), ["g"]);
}

/// differences.md#groups-handed-back: a group may be called like a set; what its tasks say decides.
pub(super) async fn a_group_that_is_called_like_a_set_is_a_group(fx: &Fixture) {
    let name = "user:0f0f0f0f-aaaa-4bbb-8ccc-0123456789ab";
    fx.enqueue(request(Q, "a").group(name)).await;
    fx.edit(|state| drop(state.remove(&key("groups")))).await;
    let healed = heal(fx).await;
    assert_eq!(healed.regrouped, [group(name)]);
    assert!(healed.relisted_sets.is_empty());
    assert_eq!(fx.raw().await.q().set("groups"), [name]);
}

/// rules.md#bounded-calls: of several servers one claims the repairs of a queue; it may renew the claim, which
/// ends by itself. Each queue is claimed for itself.
pub(super) async fn one_connection_claims_the_repairs(fx: &Fixture) {
    let other = fx.connect().await;
    let minute = Duration::from_secs(60);
    assert!(fx.storage.claim_heal(&queue(Q), minute).await.unwrap());
    assert!(!other.claim_heal(&queue(Q), minute).await.unwrap());
    assert!(other.claim_heal(&queue("q2"), minute).await.unwrap());
    assert!(
        fx.storage
            .claim_heal(&queue(Q), Duration::from_millis(50))
            .await
            .unwrap(),
        "renewed"
    );
    // On a real server the claim ends by the server's clock.
    fx.advance(1);
    let claimed = async {
        while !other.claim_heal(&queue(Q), minute).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, claimed).await.unwrap();
    assert!(!fx.storage.claim_heal(&queue(Q), minute).await.unwrap());
    // A claim makes no queue.
    assert!(fx.storage.queues().await.unwrap().is_empty());
    assert_eq!(fx.audit(&queue(Q)).await, []);
}
