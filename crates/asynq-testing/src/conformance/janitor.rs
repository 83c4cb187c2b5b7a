//! Completed tasks whose retention is over (transitions.md#delete-expired).

use super::kit::*;

async fn completed(fx: &Fixture, id: &str, retention: i64) {
    let task = fx.running(request(Q, id).retention(retention)).await;
    fx.settled(&task, DONE).await;
}

async fn delete(fx: &Fixture, limit: u32) -> u32 {
    fx.storage.delete_expired(&queue(Q), limit).await.unwrap()
}

/// transitions.md#delete-expired, layout.md#inclusive-times: deleted with its hash when its time has come, inclusive.
pub(super) async fn a_completed_task_goes_when_its_retention_is_over(fx: &Fixture) {
    assert_eq!(delete(fx, 10).await, 0);
    completed(fx, "a", 10).await;
    completed(fx, "b", 11).await;
    fx.advance(9);
    let before = fx.raw().await;
    assert_eq!(delete(fx, 10).await, 0);
    before.assert_same(&fx.raw().await);
    fx.advance(1);
    assert_eq!(delete(fx, 10).await, 1);
    let raw = fx.raw().await;
    assert!(!raw.has_task("a") && raw.has_task("b"));
    assert_eq!(raw.zset("completed").len(), 1);
}

/// transitions.md#delete-expired: no more than asked for in one call, the oldest first.
pub(super) async fn one_call_deletes_no_more_than_asked(fx: &Fixture) {
    for (id, retention) in [("c", 3), ("a", 1), ("b", 2)] {
        completed(fx, id, retention).await;
    }
    fx.advance(10);
    assert_eq!(delete(fx, 2).await, 2);
    assert_eq!(fx.raw().await.zset("completed")[0].0, "c");
    assert_eq!(delete(fx, 2).await, 1);
    assert_eq!(delete(fx, 2).await, 0);
}

/// Pitfalls 6.1: an id without a hash goes too; a task that lives elsewhere keeps its hash.
pub(super) async fn damaged_ids_go_and_living_tasks_stay(fx: &Fixture) {
    completed(fx, "a", 1).await;
    fx.enqueue_ids(&["alive"]).await;
    fx.edit(|state| drop(state.insert(key("completed"), zset(&[("a", 5), ("alive", 5), ("gone", 5)]))))
        .await;
    assert_eq!(delete(fx, 10).await, 3);
    let raw = fx.raw().await;
    assert!(raw.zset("completed").is_empty() && !raw.has_task("a") && !raw.has_task("gone"));
    assert_eq!(raw.task("alive").state(), "pending");
}

/// transitions.md#delete-expired: a lock is not touched, for it was freed at completion; whoever holds it now
/// keeps it.
pub(super) async fn the_lock_of_another_stays(fx: &Fixture) {
    let unique = |id| request(Q, id).unique(Duration::from_secs(600)).retention(10);
    let task = fx.running(unique("a")).await;
    fx.settled(&task, DONE).await;
    fx.enqueue(unique("b")).await;
    fx.advance(10);
    assert_eq!(delete(fx, 10).await, 1);
    assert_eq!(fx.raw().await.string("unique:t:").as_deref(), Some("b"));
}
