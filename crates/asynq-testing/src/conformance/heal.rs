//! The stores heal (DESIGN promise 6).

use asynq_core::broker::{Healed, RECOVER_GRACE};

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
        all.relisted.extend(healed.relisted);
        all.unlocked.extend(healed.unlocked);
        all.poisoned.extend(healed.poisoned);
    }
    all
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

/// G10: an active task without a lease gets one that ends now; the usual recovery takes it 30 s
/// later, and a living owner can extend it again.
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

/// G4, G5: a group that Go's reclaim or forward left out of the index is put back; sets are no
/// groups.
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

/// G8: an id in `active` without a usable task is put aside.
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

/// SAFETY 8, the contract of `Healed`: a task that stands in no container stands again where its
/// state says.
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

/// SAFETY 8, promise 2: a task that stands where it should, too, leaves the other place.
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

/// SAFETY 8, G15: a lock whose owner has no task is removed, the others stay.
pub(super) async fn a_lock_without_owner_is_removed(fx: &Fixture) {
    fx.enqueue(request(Q, "a").unique(Duration::from_secs(600))).await;
    fx.edit(|state| drop(state.insert(key("unique:t2:"), string("gone"))))
        .await;
    assert_eq!(heal(fx).await.unlocked, [key("unique:t2:")]);
    assert_eq!(fx.raw().await.string("unique:t:").as_deref(), Some("a"));
}

/// SAFETY 7: one look repairs no more than asked, and looks that follow get everywhere.
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
