//! Tasks that wait for their time (transitions.md#schedule).

use chrono::TimeDelta;

use super::kit::*;

/// transitions.md#schedule: state `scheduled`, the score the process-at, neither `pending_since` nor `group`.
pub(super) async fn a_scheduled_task_is_stored_as_go_stores_it(fx: &Fixture) {
    let whole = chrono::DateTime::from_timestamp(fx.secs() + 60, 0).unwrap();
    fx.enqueue(request(Q, "a").at(whole)).await;
    let raw = fx.raw().await;
    assert_eq!(raw.q().suffixes(), ["scheduled", "t:a"]);
    assert_eq!(raw.zset("scheduled"), [("a".to_owned(), fx.secs() + 60)]);
    assert_eq!(raw.task("a").names(), ["msg", "state", "x:enq"]);
    assert_eq!(raw.task("a").state(), "scheduled");
}

/// Pitfalls 1.3: process-at is floored to its second.
pub(super) async fn process_at_is_floored(fx: &Fixture) {
    let whole = chrono::DateTime::from_timestamp(fx.secs() + 10, 0).unwrap();
    fx.enqueue(request(Q, "a").at(whole + TimeDelta::milliseconds(900)))
        .await;
    fx.enqueue(request(Q, "b").at(whole - TimeDelta::nanoseconds(1))).await;
    let secs = fx.secs();
    assert_eq!(
        fx.raw().await.zset("scheduled"),
        [("b".to_owned(), secs + 9), ("a".to_owned(), secs + 10)]
    );
}

/// transitions.md#schedule: a process-at that has passed waits for the forwarder like any other.
pub(super) async fn a_time_that_has_passed_waits_for_the_forwarder(fx: &Fixture) {
    fx.enqueue(request(Q, "a").at(fx.after(-60))).await;
    assert_eq!(fx.raw().await.zset("scheduled"), [("a".to_owned(), fx.secs() - 60)]);
    assert!(fx.take(1).await.is_empty());
}

/// Pitfalls 3.5: ties are ordered by the bytes of the ids.
pub(super) async fn ties_are_ordered_by_id(fx: &Fixture) {
    for id in ["b", "ä", "a", "B"] {
        fx.enqueue(request(Q, id).at(fx.after(60))).await;
    }
    let ids: Vec<_> = fx.raw().await.zset("scheduled").into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["B", "a", "b", "ä"]);
}
