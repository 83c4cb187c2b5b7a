//! Unique locks (transitions.md#enqueue-unique, transitions.md#schedule-unique,
//! transitions.md#add-to-a-group-unique; layout.md#unique-locks).

use super::kit::*;

const HOUR: Duration = Duration::from_secs(3600);
/// `asynq:{q}:unique:t:` and the MD5 of `p`.
const LOCK: &str = "unique:t:83878c91171338902e0fe0fb97a8c47a";

fn unique(id: &str) -> crate::request::RequestBuilder {
    request(Q, id).payload("p").unique(HOUR)
}

async fn assert_ttl(fx: &Fixture, lock: &str, expected: i64) {
    let ttl = fx.ttl(lock).await.unwrap_or_else(|| panic!("{lock} never ends"));
    // A real server counts on while the case runs.
    assert!(
        ttl <= expected && ttl >= expected - 5,
        "{lock} lives {ttl} s, not {expected}"
    );
}

async fn refused_as_duplicate(fx: &Fixture, new: crate::request::RequestBuilder) {
    let before = fx.raw().await;
    let answer = fx.try_enqueue(new).await;
    assert!(matches!(answer, Err(EnqueueError::DuplicateTask)), "{answer:?}");
    before.assert_same(&fx.raw().await);
}

/// transitions.md#enqueue-unique: the lock holds the id for the unique TTL; hash and message name it.
pub(super) async fn the_lock_holds_the_id_for_its_ttl(fx: &Fixture) {
    fx.enqueue(unique("a")).await;
    let raw = fx.raw().await;
    assert_eq!(raw.string(LOCK).as_deref(), Some("a"));
    assert_eq!(
        raw.task("a").names(),
        ["msg", "pending_since", "state", "unique_key", "x:enq"]
    );
    assert_eq!(raw.task("a").field("unique_key"), Some(key(LOCK)));
    assert_eq!(raw.task("a").message().unique_key, key(LOCK));
    assert_ttl(fx, LOCK, 3600).await;
}

/// transitions.md#enqueue-unique, transitions.md#schedule-unique, transitions.md#add-to-a-group-unique: a taken
/// lock refuses every kind of task, without any effect.
pub(super) async fn a_taken_lock_is_a_duplicate(fx: &Fixture) {
    fx.enqueue(unique("a")).await;
    refused_as_duplicate(fx, unique("b")).await;
    refused_as_duplicate(fx, unique("b").at(fx.after(60))).await;
    refused_as_duplicate(fx, unique("b").group("g")).await;
    // Without a lock of its own it is none.
    fx.enqueue(request(Q, "c").payload("p")).await;
}

/// Pitfalls 3.6: the lock is tested before the id.
pub(super) async fn duplicate_wins_over_id_conflict(fx: &Fixture) {
    fx.enqueue(unique("a")).await;
    refused_as_duplicate(fx, unique("a")).await;
}

/// differences.md#locks-and-id-conflicts: an id conflict leaves no lock behind.
pub(super) async fn an_id_conflict_leaves_no_lock(fx: &Fixture) {
    fx.enqueue(request(Q, "a")).await;
    let before = fx.raw().await;
    for new in [unique("a"), unique("a").at(fx.after(60)), unique("a").group("g")] {
        let answer = fx.try_enqueue(new).await;
        assert!(matches!(answer, Err(EnqueueError::TaskIdConflict)), "{answer:?}");
    }
    before.assert_same(&fx.raw().await);
}

/// layout.md#unique-locks: queue, type and payload make the lock, and no payload is not an empty one.
pub(super) async fn queue_type_and_payload_make_the_lock(fx: &Fixture) {
    let all = [
        request(Q, "a"),
        request(Q, "b").payload(""),
        request(Q, "c").payload("p"),
        request(Q, "d").payload("p2"),
        request(Q, "e").task_type("t2").payload("p"),
        request("q2", "f").payload("p"),
    ];
    for new in &all {
        fx.enqueue(new.clone().unique(HOUR)).await;
    }
    let raw = fx.raw().await;
    assert_eq!(raw.string("unique:t:").as_deref(), Some("a"));
    assert_eq!(
        raw.string("unique:t:d41d8cd98f00b204e9800998ecf8427e").as_deref(),
        Some("b")
    );
    assert_eq!(raw.string(LOCK).as_deref(), Some("c"));
    // Neither headers nor options take part.
    refused_as_duplicate(fx, unique("z").header("k", "v").max_retry(0)).await;
}

/// transitions.md#add-to-a-group-unique and differences.md#locks-of-grouped-tasks: a grouped task names its
/// lock in the hash too.
pub(super) async fn a_grouped_task_records_its_lock(fx: &Fixture) {
    fx.enqueue(unique("a").group("g")).await;
    let raw = fx.raw().await;
    assert_eq!(raw.task("a").names(), ["group", "msg", "state", "unique_key", "x:enq"]);
    assert_eq!(raw.task("a").field("unique_key"), Some(key(LOCK)));
    assert_ttl(fx, LOCK, 3600).await;
}

/// transitions.md#schedule-unique, layout.md#unique-locks: the lock of a scheduled task lives until so long
/// after it is due.
pub(super) async fn a_scheduled_lock_includes_the_wait(fx: &Fixture) {
    fx.enqueue(unique("a").at(fx.after(600))).await;
    assert_eq!(
        fx.raw().await.task("a").names(),
        ["msg", "state", "unique_key", "x:at", "x:enq"]
    );
    assert_ttl(fx, LOCK, 4200).await;
}

/// differences.md#lifetime-of-locks: the TTL is rounded up and at least a second, even for a time that has passed.
pub(super) async fn a_lock_lives_at_least_a_second(fx: &Fixture) {
    let brief = |id: &str, ttl| request(Q, id).payload(id.to_owned()).unique(ttl);
    fx.enqueue(brief("a", Duration::from_micros(1))).await;
    fx.enqueue(brief("b", Duration::from_millis(1)).at(fx.now())).await;
    fx.enqueue(brief("c", Duration::from_secs(60)).at(fx.after(-3600)))
        .await;
    fx.enqueue(brief("d", Duration::from_millis(100_500))).await;
    let lock = asynq_core::keys::unique(&queue(Q), "t", Some(b"d"));
    let ttl = fx.ttl_of(&lock).await.unwrap_or_default();
    assert!((96..=101).contains(&ttl), "{ttl}");
}

/// transitions.md#done, transitions.md#complete: success frees the lock, with retention or without.
pub(super) async fn success_frees_the_lock(fx: &Fixture) {
    for (id, retention) in [("a", 0), ("b", 3600)] {
        let task = fx.running(unique(id).retention(retention)).await;
        assert_eq!(fx.raw().await.string(LOCK).as_deref(), Some(id), "running keeps it");
        fx.settled(&task, DONE).await;
        assert_eq!(fx.raw().await.string(LOCK), None);
    }
    // A revoked task too.
    let task = fx.running(unique("c").retention(3600)).await;
    fx.settled(&task, Outcome::Done { retain: false }).await;
    assert_eq!(
        fx.raw()
            .await
            .q()
            .suffixes()
            .iter()
            .filter(|key| key.starts_with("unique"))
            .count(),
        0
    );
}

/// layout.md#unique-locks, differences.md#locks-outlive-failures: retry, archive and requeue keep the lock.
pub(super) async fn failure_keeps_the_lock(fx: &Fixture) {
    for (n, outcome) in [retry(fx.after(60)), archive(), Outcome::Requeue]
        .into_iter()
        .enumerate()
    {
        let payload = n.to_string();
        let id = format!("id{n}");
        let task = fx.running(request(Q, &id).payload(payload.clone()).unique(HOUR)).await;
        fx.settled(&task, outcome).await;
        let lock = asynq_core::keys::unique(&queue(Q), "t", Some(payload.as_bytes()));
        assert_eq!(fx.raw().await.state.get(&lock), Some(&string(&id)));
        assert!(fx.ttl_of(&lock).await.is_some(), "and its end");
    }
}

/// Pitfalls 5.3: a lock is freed only if it still holds the task's own id.
pub(super) async fn a_lock_that_another_task_holds_is_left_alone(fx: &Fixture) {
    for (id, retention) in [("a", 0), ("b", 3600)] {
        let task = fx.running(unique(id).retention(retention)).await;
        fx.enqueue(request(Q, "z").at(fx.after(60)).token(1)).await;
        fx.edit(|state| drop(state.insert(key(LOCK), string("z")))).await;
        fx.settled(&task, DONE).await;
        assert_eq!(fx.raw().await.string(LOCK).as_deref(), Some("z"));
        fx.edit(|state| drop(state.remove(&key(LOCK)))).await;
    }
}

/// rules.md#check-then-write: what a message calls its lock is only touched if it is a lock of this queue.
pub(super) async fn no_other_key_is_treated_as_a_lock(fx: &Fixture) {
    fx.leaves_damage();
    for name in [key("paused"), key("unique"), "asynq:{other}:unique:t:".to_owned()] {
        let foreign = go_task(request(Q, "a"), "pending");
        fx.edit(|state| {
            state.insert(key("t:a"), foreign);
            state.insert(key("pending"), list(&["a"]));
            state.insert("asynq:queues".to_owned(), RawValue::Set([bytes(Q)].into()));
        })
        .await;
        let mut task = fx.take_one().await;
        let mut message = (*task.message).clone();
        message.unique_key.clone_from(&name);
        task.message = Arc::new(message);
        fx.edit(|state| drop(state.insert(name.clone(), string("a")))).await;
        fx.settled(&task, DONE).await;
        let raw = fx.raw().await;
        assert_eq!(raw.state.get(&name), Some(&string("a")), "{name}");
        assert!(!raw.has_task("a"));
        fx.edit(|state| drop(state.remove(&name))).await;
    }
}

/// rules.md#check-then-write: a request whose lock is not one of its own queue is refused before anything is
/// written; the rest of the batch is not.
pub(super) async fn a_lock_of_another_place_is_refused(fx: &Fixture) {
    for name in ["asynq:{other}:unique:t:", "asynq:{q}:pending", "x", ""] {
        let mut new = unique("a").build();
        new.message.unique_key = name.to_owned();
        let before = fx.raw().await;
        let answer = fx.storage.enqueue(&batch_of([new.clone()])).await.remove(0);
        assert!(
            matches!(answer, Err(EnqueueError::Broker(BrokerError::Refused { .. }))),
            "{name:?}: {answer:?}"
        );
        let after = fx.raw().await;
        assert_eq!(before.q().suffixes(), after.q().suffixes(), "{name:?}");
        let good = request(Q, &format!("good{name}")).build();
        let answers = fx.storage.enqueue(&batch_of([new, good])).await;
        assert!(answers[0].is_err() && answers[1].is_ok(), "{answers:?}");
    }
}

/// transitions.md#enqueue-unique: when its time is over, the lock is free. (Only where time is virtual: the
/// locks of a real server end by its own clock.)
pub(super) async fn a_lock_whose_time_is_over_is_free(fx: &Fixture) {
    if !fx.has_virtual_time() {
        return;
    }
    fx.enqueue(unique("a")).await;
    fx.advance(3599);
    refused_as_duplicate(fx, unique("b")).await;
    fx.advance(1);
    fx.enqueue(unique("b")).await;
    assert_eq!(fx.raw().await.string(LOCK).as_deref(), Some("b"));
}

/// rules.md#ambiguous-is-a-state: a lock that our own earlier attempt took is success; the same id with another
/// token is a duplicate.
pub(super) async fn a_unique_request_sent_again_is_success(fx: &Fixture) {
    let kinds = [
        unique("a"),
        unique("b").task_type("t2").at(fx.after(60)),
        unique("c").task_type("t3").group("g"),
    ];
    for new in kinds {
        let new = new.token(7);
        fx.enqueue(new.clone()).await;
        let before = fx.raw().await;
        fx.enqueue(new.clone()).await;
        before.assert_same(&fx.raw().await);
        refused_as_duplicate(fx, new.token(8)).await;
    }
}

/// rules.md#ambiguous-is-a-state: our task whose lock ended meanwhile is still ours, and a lock that a
/// stranger's task took since is a duplicate.
pub(super) async fn a_request_sent_again_after_its_lock_is_told_by_hash_and_lock(fx: &Fixture) {
    let new = unique("a").token(7);
    fx.enqueue(new.clone()).await;
    fx.edit(|state| drop(state.remove(&key(LOCK)))).await;
    let before = fx.raw().await;
    fx.enqueue(new.clone()).await;
    before.assert_same(&fx.raw().await);
    fx.enqueue(unique("b")).await;
    refused_as_duplicate(fx, new).await;
}
