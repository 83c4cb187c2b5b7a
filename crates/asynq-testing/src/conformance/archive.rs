//! Failure for good, and the bounds of the archive (transitions.md#archive, layout.md#limits).

use asynq_core::broker::MAX_ARCHIVED;

use super::kit::*;

const NINETY_DAYS: i64 = 90 * 24 * 3600;

/// transitions.md#archive: into `archived` at now; text and time of the failure in the message, `retried` as it was;
/// counted as processed and failed.
pub(super) async fn an_archived_task_keeps_its_retries(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.settled(&task, retry(fx.now())).await;
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    let task = fx.take_one().await;
    fx.advance(5);
    fx.settled(
        &task,
        Outcome::Archive {
            error: "for good".into(),
        },
    )
    .await;
    let raw = fx.raw().await;
    assert_eq!(raw.zset("archived"), [("a".to_owned(), fx.secs())]);
    assert_eq!((raw.list("active").len(), raw.zset("lease").len()), (0, 0));
    let stored = raw.task("a");
    assert_eq!(
        (stored.names(), stored.state().as_str()),
        (vec!["msg", "state", "x:enq"], "archived")
    );
    let message = stored.message();
    assert_eq!(
        (message.error_msg.as_str(), message.retried, message.last_failed_at),
        ("for good", 1, fx.secs())
    );
    assert_eq!(
        (raw.string("processed").as_deref(), raw.string("failed").as_deref()),
        (Some("2"), Some("2"))
    );
}

/// transitions.md#archive, layout.md#inclusive-times: what was archived 90 days ago or earlier goes, with its
/// hash and the lock it holds (differences.md#freed-locks).
pub(super) async fn what_is_too_old_is_deleted(fx: &Fixture) {
    fx.enqueue(request(Q, "old").unique(Duration::from_secs(600))).await;
    fx.settled(&fx.take_one().await, archive()).await;
    for id in ["edge", "young"] {
        fx.task_in(id, TaskState::Archived).await;
    }
    let task = fx.running(request(Q, "new")).await;
    let cutoff = fx.secs() - NINETY_DAYS;
    fx.edit(|state| {
        set_score(state, "archived", "old", cutoff - 1000);
        set_score(state, "archived", "edge", cutoff);
        set_score(state, "archived", "young", cutoff + 1);
    })
    .await;
    fx.settled(&task, archive()).await;
    let raw = fx.raw().await;
    assert_eq!(
        raw.zset("archived"),
        [("young".to_owned(), cutoff + 1), ("new".to_owned(), fx.secs())]
    );
    assert!(!raw.has_task("old") && !raw.has_task("edge"));
    assert_eq!(raw.string("unique:t:"), None);
}

/// differences.md#freed-locks, differences.md#freed-locks: a lock that another task holds by now stays.
pub(super) async fn trimming_frees_own_locks_only(fx: &Fixture) {
    fx.enqueue(request(Q, "old").unique(Duration::from_secs(600))).await;
    fx.settled(&fx.take_one().await, archive()).await;
    let task = fx.running(request(Q, "new")).await;
    let old = fx.secs() - NINETY_DAYS - 1;
    fx.edit(|state| {
        set_score(state, "archived", "old", old);
        state.insert(key("unique:t:"), string("new"));
    })
    .await;
    fx.settled(&task, archive()).await;
    assert_eq!(fx.raw().await.string("unique:t:").as_deref(), Some("new"));
}

/// transitions.md#archive, layout.md#limits, differences.md#archive-trimming: beyond the limit the oldest go,
/// with their hashes.
pub(super) async fn the_oldest_beyond_the_limit_are_deleted(fx: &Fixture) {
    let most = i64::from(MAX_ARCHIVED);
    fx.enqueue_ids(&["n1", "n2"]).await;
    let taken = fx.take(2).await;
    let start = fx.secs() - most - 10;
    fx.edit(|state| {
        let ids: Vec<_> = (0..most).map(|n| (format!("old{n:05}"), start + n)).collect();
        for (id, _) in &ids {
            state.insert(key(&format!("t:{id}")), go_task(request(Q, id), "archived"));
        }
        let entries: Vec<_> = ids.iter().map(|(id, score)| (id.as_str(), *score)).collect();
        state.insert(key("archived"), zset(&entries));
    })
    .await;
    let settle = taken.iter().map(|task| settlement(task, archive())).collect();
    assert!(fx.exchange(settle, 0).await.settled.iter().all(Result::is_ok));
    let raw = fx.raw().await;
    let left = raw.zset("archived");
    assert!(left.len() == 9999 || left.len() == 10_000, "{}", left.len());
    assert_eq!(
        left.iter().filter(|(id, _)| id.starts_with('n')).count(),
        2,
        "the new ones stay"
    );
    // Of the old ones the oldest went: the rest is in one piece, and each has its hash.
    let first = left[0].1 - start;
    assert_eq!(left.len(), usize::try_from(most - first + 2).unwrap());
    assert!(!raw.has_task("old00000"));
    let hashes = raw
        .q()
        .suffixes()
        .iter()
        .filter(|suffix| suffix.starts_with("t:"))
        .count();
    assert_eq!(hashes, left.len());
}

/// differences.md#archive-trimming, promise 2: a trimmed id whose task lives elsewhere by now keeps its hash.
pub(super) async fn trimming_never_deletes_a_living_task(fx: &Fixture) {
    fx.enqueue_ids(&["alive", "new"]).await;
    let taken = fx.take(2).await;
    let old = fx.secs() - NINETY_DAYS - 1;
    fx.edit(|state| drop(state.insert(key("archived"), zset(&[("alive", old), ("nobody", old)]))))
        .await;
    fx.settled(&taken[1], archive()).await;
    let raw = fx.raw().await;
    assert_eq!(raw.zset("archived"), [("new".to_owned(), fx.secs())]);
    assert_eq!(raw.task("alive").state(), "active");
}
