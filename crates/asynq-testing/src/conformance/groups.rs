//! Groups and aggregation sets (transitions.md#add-to-a-group, transitions.md#list-groups to
//! transitions.md#reclaim-sets).
//!
//! Longer than other files, since the cases of one topic are one list that is read from top to bottom.

use asynq_core::broker::{AggregationSet, GroupLimits};

use super::kit::*;

/// Ready at once, all tasks.
const NOW: GroupLimits = GroupLimits {
    grace: Duration::ZERO,
    max_delay: None,
    max_size: None,
};

async fn add(fx: &Fixture, ids: &[&str]) {
    for id in ids {
        fx.enqueue(request(Q, id).group("g")).await;
    }
}

async fn try_collect(fx: &Fixture, limits: GroupLimits) -> Option<AggregationSet> {
    fx.storage.collect_group(&queue(Q), &group("g"), limits).await.unwrap()
}

async fn collect(fx: &Fixture, limits: GroupLimits) -> AggregationSet {
    try_collect(fx, limits)
        .await
        .unwrap_or_else(|| panic!("the group is ready"))
}

fn suffix(set: &AggregationSet) -> String {
    format!("g:{}:{}", set.group, set.id)
}

fn ids_of(set: &AggregationSet) -> Vec<&str> {
    set.tasks.iter().map(|task| task.id.as_str()).collect()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// transitions.md#add-to-a-group: state `aggregating`, the field `group`, the time of adding as score, the
/// group in the index.
pub(super) async fn a_grouped_task_is_stored_as_go_stores_it(fx: &Fixture) {
    add(fx, &["a"]).await;
    let raw = fx.raw().await;
    assert_eq!(raw.q().suffixes(), ["g:g", "groups", "t:a"]);
    assert_eq!(raw.zset("g:g"), [("a".to_owned(), fx.secs())]);
    assert_eq!(raw.q().set("groups"), ["g"]);
    assert_eq!(raw.task("a").names(), ["group", "msg", "state", "x:enq"]);
    assert_eq!(raw.task("a").state(), "aggregating");
    assert_eq!(raw.task("a").field("group").as_deref(), Some("g"));
    assert_eq!(raw.task("a").message().group_key, "g");
}

/// transitions.md#list-groups: the names in the index.
pub(super) async fn groups_are_listed(fx: &Fixture) {
    assert!(fx.storage.list_groups(&queue(Q)).await.unwrap().is_empty());
    for name in ["b", "a", "with:colon", "ü"] {
        fx.enqueue(request(Q, name).group(name)).await;
    }
    fx.enqueue(request("q2", "x").group("elsewhere")).await;
    let mut groups = fx.storage.list_groups(&queue(Q)).await.unwrap();
    groups.sort();
    assert_eq!(groups, [group("a"), group("b"), group("with:colon"), group("ü")]);
}

/// transitions.md#collect-a-group: nothing is ready before a limit is reached, and then nothing changes.
pub(super) async fn a_group_that_is_not_ready_is_left_alone(fx: &Fixture) {
    assert!(try_collect(fx, NOW).await.is_none(), "there is no such group");
    add(fx, &["a", "b"]).await;
    let before = fx.raw().await;
    let limits = GroupLimits {
        grace: secs(10),
        max_delay: Some(secs(10)),
        max_size: Some(3),
    };
    assert!(try_collect(fx, limits).await.is_none());
    fx.advance(9);
    assert!(try_collect(fx, limits).await.is_none());
    // None is no limit, and neither is zero, as in Go.
    let none = GroupLimits {
        grace: secs(10),
        max_delay: Some(secs(0)),
        max_size: Some(0),
    };
    assert!(try_collect(fx, none).await.is_none());
    before.assert_same(&fx.raw().await);
}

/// transitions.md#collect-a-group, condition 1: a full group is ready at once; the oldest tasks go, as many as
/// the size; the rest stays and so does the group in the index.
pub(super) async fn a_full_group_gives_its_oldest_tasks(fx: &Fixture) {
    for id in ["c", "b", "a"] {
        add(fx, &[id]).await;
        fx.advance(1);
    }
    let limits = GroupLimits {
        grace: secs(60),
        max_delay: None,
        max_size: Some(2),
    };
    let set = collect(fx, limits).await;
    assert_eq!(ids_of(&set), ["c", "b"]);
    let raw = fx.raw().await;
    assert_eq!(raw.zset("g:g"), [("a".to_owned(), fx.secs() - 1)]);
    assert_eq!(raw.q().set("groups"), ["g"]);
    // The original scores are kept.
    assert_eq!(
        raw.zset(&suffix(&set)),
        [("c".to_owned(), fx.secs() - 3), ("b".to_owned(), fx.secs() - 2)]
    );
    assert!(try_collect(fx, limits).await.is_none(), "one is not full");
}

/// transitions.md#collect-a-group, condition 2, layout.md#inclusive-times: the oldest task has waited long
/// enough, inclusive.
pub(super) async fn the_oldest_task_ends_the_wait(fx: &Fixture) {
    let limits = GroupLimits {
        grace: secs(60),
        max_delay: Some(secs(10)),
        max_size: None,
    };
    add(fx, &["a"]).await;
    fx.advance(9);
    add(fx, &["b"]).await;
    assert!(try_collect(fx, limits).await.is_none());
    fx.advance(1);
    assert_eq!(ids_of(&collect(fx, limits).await), ["a", "b"]);
}

/// transitions.md#collect-a-group, condition 3: nothing came for the grace period, inclusive.
pub(super) async fn a_quiet_group_is_ready(fx: &Fixture) {
    let limits = GroupLimits {
        grace: secs(10),
        max_delay: None,
        max_size: Some(99),
    };
    add(fx, &["a"]).await;
    fx.advance(9);
    add(fx, &["b"]).await;
    fx.advance(9);
    assert!(try_collect(fx, limits).await.is_none());
    fx.advance(1);
    assert_eq!(ids_of(&collect(fx, limits).await), ["a", "b"]);
}

/// transitions.md#collect-a-group: the set is listed for 120 s, the emptied group leaves the index, the hashes
/// stay as they are.
pub(super) async fn a_set_is_listed_and_its_group_forgotten(fx: &Fixture) {
    add(fx, &["a", "b"]).await;
    let before = fx.raw().await;
    let set = collect(fx, NOW).await;
    assert_eq!(
        (set.queue.as_str(), set.group.as_str(), set.until.0),
        (Q, "g", fx.secs() + 120)
    );
    assert_eq!(set.id.len(), 36, "a UUID");
    let raw = fx.raw().await;
    assert_eq!(raw.q().suffixes(), ["aggregation_sets", &suffix(&set), "t:a", "t:b"]);
    assert_eq!(raw.zset("aggregation_sets"), [(key(&suffix(&set)), fx.secs() + 120)]);
    for id in ["t:a", "t:b"] {
        assert_eq!(before.q().get(id), raw.q().get(id));
    }
    assert!(try_collect(fx, NOW).await.is_none(), "nothing is collected twice");
}

/// Pitfalls 5.8: two servers never hold the same task.
pub(super) async fn sets_are_disjoint(fx: &Fixture) {
    add(fx, &["a", "b", "c", "d"]).await;
    let limits = GroupLimits {
        max_size: Some(2),
        ..NOW
    };
    let other = fx.connect().await;
    let first = collect(fx, limits).await;
    let second = other
        .collect_group(&queue(Q), &group("g"), limits)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!((ids_of(&first), ids_of(&second)), (vec!["a", "b"], vec!["c", "d"]));
}

/// differences.md#slow-aggregators: extension keeps the set for another 120 s; the set that is gone is told.
pub(super) async fn a_set_can_be_kept_longer(fx: &Fixture) {
    add(fx, &["a"]).await;
    let set = collect(fx, NOW).await;
    fx.advance(100);
    assert_eq!(fx.storage.extend_aggregation(&set).await.unwrap().0, fx.secs() + 120);
    assert_eq!(
        fx.raw().await.zset("aggregation_sets"),
        [(key(&suffix(&set)), fx.secs() + 120)]
    );
    fx.advance(119);
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 0);
    fx.advance(1);
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 1);
    let before = fx.raw().await;
    match fx.storage.extend_aggregation(&set).await {
        Err(BrokerError::AggregationSetGone { queue: of, group: g }) => assert_eq!((of, g), (queue(Q), group("g"))),
        other => panic!("{other:?}"),
    }
    before.assert_same(&fx.raw().await);
}

/// A set that is given up is handed back when its wait is over, and no later than it was to be.
pub(super) async fn a_set_that_is_given_up_comes_back_sooner(fx: &Fixture) {
    add(fx, &["a", "b"]).await;
    let set = collect(fx, NOW).await;
    let release = async |wait| fx.storage.release_aggregation(&set, secs(wait)).await.unwrap().0 - fx.secs();
    // In whole seconds, and no less.
    let first = release(30).await;
    assert!((30..=31).contains(&first), "{first}");
    assert_eq!(release(60).await, first, "never longer");
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 0);
    fx.advance(10);
    let next = release(5).await;
    assert!((5..=6).contains(&next), "{next}");
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 0);
    fx.advance(6);
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 1);
    let raw = fx.raw().await;
    assert_eq!(raw.zset("g:g").len(), 2);
    assert_eq!(raw.q().set("groups"), ["g"]);
    let answer = fx.storage.release_aggregation(&set, secs(0)).await;
    assert!(
        matches!(answer, Err(BrokerError::AggregationSetGone { .. })),
        "{answer:?}"
    );
    let set = collect(fx, NOW).await;
    assert_eq!(
        fx.storage.release_aggregation(&set, secs(0)).await.unwrap().0,
        fx.secs()
    );
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 1);
    let set = collect(fx, NOW).await;
    let latest = fx.storage.release_aggregation(&set, Duration::MAX).await.unwrap();
    assert_eq!(latest, set.until);
    fx.storage
        .finish_aggregation(&set, request(Q, "sum").build())
        .await
        .unwrap();
    let answer = fx.storage.release_aggregation(&set, secs(0)).await;
    assert!(
        matches!(answer, Err(BrokerError::AggregationSetGone { .. })),
        "{answer:?}"
    );
}

/// All its tasks, with the times at which they were added, beside those that joined the group meanwhile; and
/// another set of the group stays whose it is. Given up again, which is the answer to a lost answer, nothing
/// changes.
pub(super) async fn a_set_that_is_given_up_comes_back_as_it_was(fx: &Fixture) {
    for name in ["b", "a", "c"] {
        add(fx, &[name]).await;
        fx.advance(1);
    }
    let before = fx.raw().await;
    let given_up = collect(fx, NOW).await;
    add(fx, &["d"]).await;
    let kept = collect(fx, NOW).await;
    fx.advance(1);
    add(fx, &["e"]).await;
    let newcomer = fx.raw().await.zset("g:g");
    for _ in 0..2 {
        fx.storage.release_aggregation(&given_up, secs(0)).await.unwrap();
    }
    // Nobody but the storage moves them: the owner may still end the set.
    assert_eq!(fx.raw().await.zset("g:g"), newcomer);
    assert_eq!(fx.connect().await.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 1);
    let raw = fx.raw().await;
    let mut all = before.zset("g:g");
    all.extend(newcomer);
    assert_eq!(raw.zset("g:g"), all);
    assert_eq!(raw.q().set("groups"), ["g"]);
    assert_eq!(raw.zset(&suffix(&kept)).len(), 1);
    for name in ["a", "b", "c"] {
        assert_eq!(raw.q().get(&format!("t:{name}")), before.q().get(&format!("t:{name}")));
    }
    let again = collect(fx, NOW).await;
    assert_eq!(ids_of(&again), ["b", "a", "c", "e"]);
    fx.storage
        .finish_aggregation(&kept, request(Q, "sum").build())
        .await
        .unwrap();
}

/// Tasks that are being aggregated are aggregating to whoever looks.
pub(super) async fn tasks_in_sets_are_counted(fx: &Fixture) {
    add(fx, &["a", "b"]).await;
    let set = collect(fx, NOW).await;
    add(fx, &["c"]).await;
    fx.enqueue(request(Q, "d").group("with:colon")).await;
    let colon = fx
        .storage
        .collect_group(&queue(Q), &group("with:colon"), NOW)
        .await
        .unwrap();
    let look = async || {
        let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
        let groups = fx.storage.group_infos(&queue(Q)).await.unwrap();
        let sizes: Vec<_> = groups
            .into_iter()
            .map(|g| (g.group.to_string(), g.size, g.in_sets))
            .collect();
        (info.aggregating, info.groups, info.size(), sizes)
    };
    let (g, other) = ("g".to_owned(), "with:colon".to_owned());
    assert_eq!(look().await, (4, 1, 4, vec![(g.clone(), 1, 2), (other, 0, 1)]));
    // There is nothing to collect from it.
    assert_eq!(fx.storage.list_groups(&queue(Q)).await.unwrap(), [group("g")]);
    fx.storage
        .finish_aggregation(&set, request(Q, "sum").build())
        .await
        .unwrap();
    let colon = colon.unwrap();
    fx.storage
        .finish_aggregation(&colon, request(Q, "sum2").build())
        .await
        .unwrap();
    assert_eq!(look().await, (1, 1, 3, vec![(g, 1, 0)]));
}

/// transitions.md#finish-a-set and rules.md#one-script-ends-a-set: one script enqueues the result and deletes
/// the set with its tasks; their locks are freed (differences.md#freed-locks).
pub(super) async fn finishing_replaces_the_set_by_its_result(fx: &Fixture) {
    add(fx, &["a"]).await;
    fx.enqueue(request(Q, "b").payload("p").group("g").unique(secs(600)))
        .await;
    let set = collect(fx, NOW).await;
    let info = fx
        .storage
        .finish_aggregation(&set, request(Q, "sum").payload("ab").build())
        .await
        .unwrap();
    assert_eq!((info.id.as_str(), info.state), ("sum", TaskState::Pending));
    let raw = fx.raw().await;
    assert_eq!(raw.q().suffixes(), ["pending", "t:sum"]);
    assert_eq!(raw.list("pending"), ["sum"]);
    assert_eq!(raw.task("sum").names(), ["msg", "pending_since", "state", "x:enq"]);
}

/// layout.md#unique-locks: a lock that another task holds by now stays.
pub(super) async fn finishing_frees_own_locks_only(fx: &Fixture) {
    fx.enqueue(request(Q, "a").group("g").unique(secs(600))).await;
    let set = collect(fx, NOW).await;
    fx.edit(|state| drop(state.remove(&key("unique:t:")))).await;
    fx.enqueue(request(Q, "b").unique(secs(600))).await;
    fx.storage
        .finish_aggregation(&set, request(Q, "sum").build())
        .await
        .unwrap();
    assert_eq!(fx.raw().await.string("unique:t:").as_deref(), Some("b"));
}

/// rules.md#one-script-ends-a-set: when the set was handed back, nothing is enqueued.
pub(super) async fn a_set_that_was_handed_back_enqueues_nothing(fx: &Fixture) {
    add(fx, &["a"]).await;
    let set = collect(fx, NOW).await;
    fx.advance(120);
    fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap();
    let before = fx.raw().await;
    let answer = fx.storage.finish_aggregation(&set, request(Q, "sum").build()).await;
    let gone = matches!(
        answer,
        Err(EnqueueError::Broker(BrokerError::AggregationSetGone { .. }))
    );
    assert!(gone, "{answer:?}");
    before.assert_same(&fx.raw().await);
}

/// rules.md#ambiguous-is-a-state: finishing again with the same request, after a lost answer, is success
/// without effect.
pub(super) async fn finishing_again_is_success(fx: &Fixture) {
    add(fx, &["a"]).await;
    let set = collect(fx, NOW).await;
    let result = request(Q, "sum").token(7);
    fx.storage
        .finish_aggregation(&set, result.clone().build())
        .await
        .unwrap();
    let before = fx.raw().await;
    fx.storage.finish_aggregation(&set, result.build()).await.unwrap();
    before.assert_same(&fx.raw().await);
}

/// rules.md#one-script-ends-a-set: when the result cannot be enqueued the set stays as it is.
pub(super) async fn a_result_that_conflicts_leaves_the_set(fx: &Fixture) {
    fx.enqueue(request(Q, "sum").payload("p").unique(secs(600))).await;
    add(fx, &["a"]).await;
    let set = collect(fx, NOW).await;
    let before = fx.raw().await;
    let conflict = fx.storage.finish_aggregation(&set, request(Q, "sum").build()).await;
    assert!(matches!(conflict, Err(EnqueueError::TaskIdConflict)), "{conflict:?}");
    let duplicate = request(Q, "other").payload("p").unique(secs(600)).build();
    let duplicate = fx.storage.finish_aggregation(&set, duplicate).await;
    assert!(matches!(duplicate, Err(EnqueueError::DuplicateTask)), "{duplicate:?}");
    before.assert_same(&fx.raw().await);
}

/// The contract: the result may wait, be unique, or join a group itself.
pub(super) async fn a_result_may_be_placed_anywhere(fx: &Fixture) {
    add(fx, &["a"]).await;
    let later = request(Q, "later").at(fx.after(60)).unique(secs(60));
    fx.storage
        .finish_aggregation(&collect(fx, NOW).await, later.build())
        .await
        .unwrap();
    add(fx, &["b"]).await;
    fx.storage
        .finish_aggregation(&collect(fx, NOW).await, request(Q, "again").group("g").build())
        .await
        .unwrap();
    let raw = fx.raw().await;
    assert_eq!(raw.zset("scheduled"), [("later".to_owned(), fx.secs() + 60)]);
    assert_eq!(raw.string("unique:t:").as_deref(), Some("later"));
    assert_eq!(raw.zset("g:g"), [("again".to_owned(), fx.secs())]);
    assert_eq!(raw.q().set("groups"), ["g"]);
    assert!(!raw.has_task("a") && !raw.has_task("b"));
}

/// transitions.md#reclaim-sets and differences.md#groups-handed-back: after 120 s, inclusive, the tasks are
/// back in their group with their scores, and the group in the index. What came meanwhile stays with them.
pub(super) async fn a_stale_set_is_handed_back(fx: &Fixture) {
    let joined = fx.secs();
    add(fx, &["a", "b"]).await;
    let set = collect(fx, NOW).await;
    fx.advance(119);
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 0);
    assert!(fx.raw().await.q().get(&suffix(&set)).is_some());
    fx.advance(1);
    let other = request(Q, "c").group("g");
    fx.enqueue(other).await;
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 1);
    let raw = fx.raw().await;
    assert_eq!(raw.q().suffixes(), ["g:g", "groups", "t:a", "t:b", "t:c"]);
    let expected = [
        ("a".to_owned(), joined),
        ("b".to_owned(), joined),
        ("c".to_owned(), fx.secs()),
    ];
    assert_eq!(raw.zset("g:g"), expected);
    assert_eq!(raw.q().set("groups"), ["g"]);
    assert_eq!(ids_of(&collect(fx, NOW).await), ["a", "b", "c"]);
}

/// transitions.md#reclaim-sets: the group is all before the last colon, so names with colons come back right.
pub(super) async fn a_group_with_colons_comes_back_under_its_name(fx: &Fixture) {
    let name = group("a:b:5c1e0ae2-6f02-4a6a-9d4b-2f6d2d1f0a11");
    fx.enqueue(request(Q, "a").group(name.as_str())).await;
    fx.storage.collect_group(&queue(Q), &name, NOW).await.unwrap().unwrap();
    fx.advance(120);
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 1);
    assert_eq!(fx.raw().await.q().set("groups"), [name.as_str()]);
    assert!(fx.storage.collect_group(&queue(Q), &name, NOW).await.unwrap().is_some());
}

/// transitions.md#reclaim-sets: each set is handed back to its own group; sets that are not stale stay.
pub(super) async fn only_stale_sets_are_handed_back(fx: &Fixture) {
    fx.enqueue(request(Q, "a").group("g1")).await;
    fx.enqueue(request(Q, "b").group("g2")).await;
    for name in ["g1", "g2"] {
        fx.storage
            .collect_group(&queue(Q), &group(name), NOW)
            .await
            .unwrap()
            .unwrap();
        fx.advance(60);
    }
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 1);
    let raw = fx.raw().await;
    assert_eq!(raw.q().set("groups"), ["g1"]);
    assert_eq!(raw.zset("aggregation_sets").len(), 1);
}

/// rules.md#damage-stays-local: a member without a usable task is put aside and the others are collected.
pub(super) async fn a_damaged_member_harms_only_itself(fx: &Fixture) {
    add(fx, &["a", "b", "c"]).await;
    fx.edit(|state| {
        state.remove(&key("t:a"));
        set_field(state, "b", "msg", Some(Bytes::from_static(b"\xff\xff")));
    })
    .await;
    let set = collect(fx, NOW).await;
    assert_eq!(ids_of(&set), ["c"]);
    fx.storage
        .finish_aggregation(&set, request(Q, "sum").build())
        .await
        .unwrap();
    let raw = fx.raw().await;
    assert_eq!(raw.zset("x:quarantine"), [("b".to_owned(), fx.secs())]);
    assert!(!raw.has_task("a") && !raw.has_task("b") && !raw.has_task("c"));
}

/// Promise 4: a group of tasks that cannot be used leaves no set behind.
pub(super) async fn a_set_without_usable_tasks_is_not_listed(fx: &Fixture) {
    add(fx, &["a", "b"]).await;
    fx.edit(|state| {
        set_field(state, "a", "msg", Some(Bytes::from_static(b"\xff\xff")));
        set_field(state, "b", "msg", Some(Bytes::from_static(b"\xff\xff")));
    })
    .await;
    assert!(try_collect(fx, NOW).await.is_none());
    let raw = fx.raw().await;
    assert_eq!(
        (raw.zset("aggregation_sets"), raw.zset("g:g")),
        (Vec::new(), Vec::new())
    );
    assert!(raw.q().set("groups").is_empty());
    assert_eq!(raw.zset("x:quarantine").len(), 2);
}

/// rules.md#bounded-calls: a set has ten thousand tasks at most, also where no size was asked for: such a group
/// is full, its oldest tasks go, and the rest is the next set's.
pub(super) async fn a_large_group_gives_several_sets(fx: &Fixture) {
    let names: Vec<_> = (0..10_200).map(|n| format!("id{n:05}")).collect();
    let (first, second) = names.split_at(10_100);
    let batch = first.iter().map(|id| request(Q, id).group("g").build());
    assert!(fx.storage.enqueue(&batch_of(batch)).await.iter().all(Result::is_ok));
    fx.advance(1);
    let batch = second.iter().map(|id| request(Q, id).group("g").build());
    assert!(fx.storage.enqueue(&batch_of(batch)).await.iter().all(Result::is_ok));
    let not_quiet = GroupLimits {
        grace: secs(3600),
        max_delay: None,
        max_size: None,
    };
    let set = collect(fx, not_quiet).await;
    assert_eq!(ids_of(&set), names[..10_000]);
    assert!(try_collect(fx, not_quiet).await.is_none(), "the rest is not full");
    let huge = GroupLimits {
        max_size: Some(u32::MAX),
        ..not_quiet
    };
    assert!(try_collect(fx, huge).await.is_none());
    fx.storage
        .finish_aggregation(&set, request(Q, "sum").build())
        .await
        .unwrap();
    let rest = collect(fx, NOW).await;
    assert_eq!(ids_of(&rest), names[10_000..]);
    let raw = fx.raw().await;
    assert_eq!(raw.list("pending"), ["sum"]);
    assert_eq!(
        raw.q()
            .suffixes()
            .iter()
            .filter(|suffix| suffix.starts_with("t:"))
            .count(),
        201
    );
    assert!(!raw.q().suffixes().iter().any(|suffix| suffix.starts_with("x:")));
    // A set that goes back to others joins them, oldest first.
    add(fx, &["zz"]).await;
    fx.advance(120);
    assert_eq!(fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap(), 1);
    let again: Vec<_> = fx.raw().await.zset("g:g").into_iter().map(|(id, _)| id).collect();
    assert_eq!(again.len(), 201);
    assert_eq!(
        (again[..200].to_vec(), again[200].as_str()),
        (names[10_000..].to_vec(), "zz")
    );
}

/// rules.md#isolation: an old set whose group's key holds another type stays listed, for its own sake alone, and is
/// looked at again in a minute.
pub(super) async fn a_damaged_group_keeps_no_other_set_from_its_group(fx: &Fixture) {
    fx.leaves_damage();
    for name in ["bad", "good"] {
        fx.enqueue(request(Q, name).group(name)).await;
        fx.storage
            .collect_group(&queue(Q), &group(name), NOW)
            .await
            .unwrap()
            .unwrap();
    }
    fx.edit(|state| drop(state.insert(key("g:bad"), string("x")))).await;
    fx.advance(120);
    let reclaim = async || fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap();
    assert_eq!(reclaim().await, 1);
    let raw = fx.raw().await;
    assert_eq!(raw.zset("g:good").len(), 1);
    let listed = raw.zset("aggregation_sets");
    assert_eq!((listed.len(), listed[0].1), (1, fx.secs() + 60));
    fx.edit(|state| drop(state.remove(&key("g:bad")))).await;
    assert_eq!(reclaim().await, 0);
    fx.advance(60);
    assert_eq!(reclaim().await, 1);
    let raw = fx.raw().await;
    assert_eq!(
        (raw.zset("g:bad").len(), raw.q().set("groups")),
        (1, vec!["bad".to_owned(), "good".to_owned()])
    );
}
