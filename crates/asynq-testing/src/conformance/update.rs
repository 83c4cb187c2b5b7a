//! An operator changes a waiting task (transitions.md#update-a-payload), or clears the counters of a queue.

use asynq_core::error::PoisonKind;
use chrono::{DateTime, TimeDelta, Utc};

use super::kit::*;

const WAITING: [TaskState; 3] = [TaskState::Scheduled, TaskState::Retry, TaskState::Archived];

async fn update(fx: &Fixture, name: &str, payload: &str) -> Result<(), BrokerError> {
    fx.storage
        .update_task_payload(&queue(Q), &id(name), bytes(payload))
        .await
}

async fn reschedule(fx: &Fixture, name: &str, at: DateTime<Utc>) -> Result<(), BrokerError> {
    fx.storage.reschedule_task(&queue(Q), &id(name), at).await
}

/// A task in each state, called as the state is.
async fn one_of_each(fx: &Fixture) {
    for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending) {
        fx.task_in(state.as_str(), state).await;
    }
    fx.task_in("pending", TaskState::Pending).await;
}

fn is_wrong_state(answer: Result<(), BrokerError>, in_state: TaskState) {
    match answer {
        Err(BrokerError::WrongState { queue: of, state, .. }) => assert_eq!((of, state), (queue(Q), in_state)),
        other => panic!("{in_state}: {other:?}"),
    }
}

/// Damage, and what both operations answer to it; the tasks are scheduled.
async fn damaged(fx: &Fixture) -> [(&'static str, PoisonKind); 5] {
    let kinds = [
        ("bare", PoisonKind::NoMessage),
        ("garbage", PoisonKind::Undecodable),
        ("list", PoisonKind::NotAHash),
        ("other", PoisonKind::Mismatch),
        ("stateless", PoisonKind::BadState),
    ];
    for (name, _) in kinds {
        fx.enqueue(request(Q, name).at(fx.after(60))).await;
    }
    fx.edit(|state| {
        set_field(state, "bare", "msg", None);
        set_field(state, "garbage", "msg", Some(Bytes::from_static(b"\xff\xff")));
        state.insert(key("t:list"), list(&["x"]));
        set_field(state, "other", "msg", Some(request("x", "other").encoded()));
        set_field(state, "stateless", "state", None);
    })
    .await;
    kinds
}

fn is_poison(answer: Result<(), BrokerError>, name: &str, kind: PoisonKind) {
    match answer {
        Err(BrokerError::Poison {
            id: of, kind: found, ..
        }) => assert_eq!((of, found), (id(name), kind)),
        other => panic!("{name}: {other:?}"),
    }
}

/// transitions.md#update-a-payload: nothing but the payload changes; the lock keeps its name.
pub(super) async fn a_payload_is_replaced(fx: &Fixture) {
    let new = request(Q, "a")
        .at(fx.after(60))
        .payload("old")
        .retention(30)
        .unique(Duration::from_secs(600));
    fx.enqueue(new).await;
    let before = fx.raw().await;
    for payload in ["new", "", "\u{fffd} and more of it"] {
        update(fx, "a", payload).await.unwrap();
        let raw = fx.raw().await;
        let mut message = raw.task("a").message();
        assert_eq!(message.payload, payload.as_bytes());
        message.payload = before.task("a").message().payload;
        assert_eq!(message, before.task("a").message());
        for field in before.task("a").names().into_iter().filter(|name| *name != "msg") {
            assert_eq!(raw.task("a").field(field), before.task("a").field(field), "{field}");
        }
        assert_eq!(raw.zset("scheduled"), before.zset("scheduled"));
    }
    fx.advance(60);
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    let task = fx.take_one().await;
    assert_eq!(task.message.payload, "\u{fffd} and more of it".as_bytes());
    // Success frees it all the same.
    fx.settled(&task, DONE).await;
    assert!(
        !fx.raw()
            .await
            .q()
            .suffixes()
            .iter()
            .any(|suffix| suffix.starts_with("unique:"))
    );
}

/// transitions.md#update-a-payload (Go: `cannot update task that is not in scheduled state`).
pub(super) async fn only_a_scheduled_task_is_updated(fx: &Fixture) {
    one_of_each(fx).await;
    let before = fx.raw().await;
    for state in TaskState::ALL
        .into_iter()
        .filter(|state| *state != TaskState::Scheduled)
    {
        is_wrong_state(update(fx, state.as_str(), "x").await, state);
    }
    before.assert_same(&fx.raw().await);
}

/// The queue, the task, or damage; nothing changes.
pub(super) async fn what_cannot_be_updated_is_told(fx: &Fixture) {
    fx.leaves_damage();
    let kinds = damaged(fx).await;
    let before = fx.raw().await;
    let never = fx
        .storage
        .update_task_payload(&queue("never"), &id("a"), Bytes::new())
        .await;
    assert!(matches!(never, Err(BrokerError::QueueNotFound { .. })), "{never:?}");
    let nobody = update(fx, "nobody", "x").await;
    assert!(matches!(nobody, Err(BrokerError::TaskNotFound { .. })), "{nobody:?}");
    for (name, kind) in kinds {
        is_poison(update(fx, name, "x").await, name, kind);
    }
    before.assert_same(&fx.raw().await);
}

/// The contract: sooner or later, to the millisecond; the task keeps its state and its message.
pub(super) async fn a_waiting_task_gets_another_time(fx: &Fixture) {
    for state in WAITING {
        let to = if state == TaskState::Retry {
            "retry"
        } else {
            "scheduled"
        };
        fx.task_in("a", state).await;
        fx.edit(|raw| {
            set_field(raw, "a", "tenant", Some(bytes("x")));
            set_field(raw, "a", "x:at", Some(bytes("7")));
        })
        .await;
        let before = fx.raw().await;
        for at in [fx.after(600), fx.after(-5), fx.after(30)] {
            reschedule(fx, "a", at).await.unwrap();
            let raw = fx.raw().await;
            assert_eq!(raw.zset(to), [("a".to_owned(), at.timestamp())], "{state}");
            assert!(state.as_str() == to || raw.q().get(state.as_str()).is_none());
            let task = raw.task("a");
            assert_eq!(task.state(), to);
            assert_eq!(task.field("x:at"), Some(at.timestamp_millis().to_string()));
            assert_eq!(task.field("tenant").as_deref(), Some("x"));
            assert_eq!(task.message(), before.task("a").message());
            assert_eq!(raw.string("failed"), before.string("failed"));
        }
        // A whole second.
        let at = fx.after(30) - TimeDelta::milliseconds(250);
        reschedule(fx, "a", at).await.unwrap();
        assert_eq!(fx.raw().await.task("a").field("x:at"), None);
        reschedule(fx, "a", DateTime::<Utc>::MIN_UTC).await.unwrap();
        assert_eq!(fx.raw().await.zset(to), [("a".to_owned(), 0)]);
        assert_eq!(fx.storage.forward(&queue(Q), 10).await.unwrap().moved, 1);
        fx.settled(&fx.take_one().await, Outcome::Done { retain: false }).await;
    }
}

/// layout.md#unique-locks: it lives for its time from when the task is due.
pub(super) async fn the_lock_of_a_scheduled_task_moves_with_it(fx: &Fixture) {
    let new = |id: &str| request(Q, id).payload(id.to_owned()).unique(Duration::from_secs(1000));
    let lock = asynq_core::keys::unique(&queue(Q), "t", Some(b"a"));
    fx.enqueue(new("a").at(fx.after(5000))).await;
    let ttl = async || fx.ttl_of(&lock).await.unwrap();
    let first = ttl().await;
    reschedule(fx, "a", fx.after(8000)).await.unwrap();
    assert!(
        (first + 2990..=first + 3001).contains(&ttl().await),
        "{first} {}",
        ttl().await
    );
    reschedule(fx, "a", fx.after(5000)).await.unwrap();
    assert!(
        (first - 10..=first + 1).contains(&ttl().await),
        "{first} {}",
        ttl().await
    );
    // It never ends at once, and one of another task does not move.
    reschedule(fx, "a", DateTime::UNIX_EPOCH).await.unwrap();
    assert!(ttl().await <= 2);
    fx.edit(|state| drop(state.insert(lock.clone(), string("b")))).await;
    fx.enqueue_ids(&["b"]).await;
    reschedule(fx, "a", fx.after(60)).await.unwrap();
    assert_eq!(fx.ttl_of(&lock).await, None);
}

/// The contract: an active or pending task, and one in a group, has no time; a completed one does not run again.
pub(super) async fn only_a_waiting_task_is_rescheduled(fx: &Fixture) {
    one_of_each(fx).await;
    let before = fx.raw().await;
    for state in TaskState::ALL.into_iter().filter(|state| !WAITING.contains(state)) {
        is_wrong_state(reschedule(fx, state.as_str(), fx.after(5)).await, state);
    }
    before.assert_same(&fx.raw().await);
}

/// The queue, the task, or damage; nothing changes.
pub(super) async fn what_cannot_be_rescheduled_is_told(fx: &Fixture) {
    fx.leaves_damage();
    let kinds = damaged(fx).await;
    fx.enqueue(request(Q, "lost").at(fx.after(60))).await;
    fx.edit(|state| set_field(state, "lost", "state", Some(bytes("retry"))))
        .await;
    let before = fx.raw().await;
    let never = fx.storage.reschedule_task(&queue("never"), &id("a"), fx.now()).await;
    assert!(matches!(never, Err(BrokerError::QueueNotFound { .. })), "{never:?}");
    let nobody = reschedule(fx, "nobody", fx.now()).await;
    assert!(matches!(nobody, Err(BrokerError::TaskNotFound { .. })), "{nobody:?}");
    for (name, kind) in kinds.into_iter().chain([("lost", PoisonKind::Misplaced)]) {
        is_poison(reschedule(fx, name, fx.now()).await, name, kind);
    }
    before.assert_same(&fx.raw().await);
}

/// rules.md#check-then-write.
pub(super) async fn a_container_of_the_wrong_type_refuses_to_reschedule(fx: &Fixture) {
    fx.task_in("a", TaskState::Archived).await;
    fx.task_in("r", TaskState::Retry).await;
    let healthy = fx.raw().await.state;
    for (container, name) in [("archived", "a"), ("scheduled", "a"), ("retry", "r")] {
        fx.edit(|state| drop(state.insert(key(container), string("x")))).await;
        let before = fx.raw().await;
        match reschedule(fx, name, fx.now()).await {
            Err(BrokerError::WrongType { key: of }) => assert_eq!(of, key(container)),
            other => panic!("{container}: {other:?}"),
        }
        before.assert_same(&fx.raw().await);
        fx.edit(|state| state.clone_from(&healthy)).await;
    }
}

/// The contract: today and the totals; other days, and other queues, stay. A damaged counter goes too.
pub(super) async fn the_counters_of_a_queue_are_cleared(fx: &Fixture) {
    let one_more = async || {
        for (name, outcome) in [("a", DONE), ("b", archive())] {
            fx.settled(&fx.running(request(Q, name)).await, outcome).await;
        }
        fx.storage.delete_task(&queue(Q), &id("b")).await.unwrap();
    };
    one_more().await;
    fx.advance(24 * 3600);
    one_more().await;
    fx.edit(|state| drop(state.insert(key("failed"), list(&["x"])))).await;
    fx.storage.clear_counters(&queue(Q)).await.unwrap();
    let days = fx.storage.history(&queue(Q), 2).await.unwrap();
    let told: Vec<_> = days.iter().map(|day| (day.processed, day.failed)).collect();
    assert_eq!(told, [(0, 0), (2, 1)]);
    let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
    assert_eq!((info.processed_total, info.failed_total), (0, 0));
    one_more().await;
    let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
    assert_eq!(
        [info.processed, info.failed, info.processed_total, info.failed_total],
        [2, 1, 2, 1]
    );
    let never = fx.storage.clear_counters(&queue("never")).await;
    assert!(matches!(never, Err(BrokerError::QueueNotFound { .. })), "{never:?}");
}
