//! Delayed tasks that are due (transitions.md#forward).

use asynq_core::{broker::Forwarded, error::PoisonKind};

use super::kit::*;

async fn forward(fx: &Fixture, limit: u32) -> Forwarded {
    fx.storage.forward(&queue(Q), limit).await.unwrap()
}

async fn schedule(fx: &Fixture, entries: &[(&str, i64)]) {
    for (id, secs) in entries {
        fx.enqueue(request(Q, id).at(fx.after(*secs))).await;
    }
}

/// transitions.md#forward: to the end of `pending` in the order of their times, pending since now; inclusive.
pub(super) async fn due_tasks_become_pending_in_order(fx: &Fixture) {
    fx.enqueue_ids(&["first"]).await;
    schedule(fx, &[("c", 30), ("a", 10), ("b", 20), ("later", 31)]).await;
    fx.advance(30);
    let done = forward(fx, 100).await;
    assert_eq!((done.moved, done.more, done.poisoned.len()), (3, false, 0));
    let raw = fx.raw().await;
    assert_eq!(raw.list("pending"), ["c", "b", "a", "first"]);
    assert_eq!(raw.zset("scheduled"), [("later".to_owned(), fx.secs() + 1)]);
    let nanos = asynq_core::clock::unix_nanos(fx.now());
    for id in ["a", "b", "c"] {
        assert_eq!(raw.task(id).names(), ["msg", "pending_since", "state", "x:enq"]);
        assert_eq!(raw.task(id).state(), "pending");
        assert_eq!(raw.task(id).field("pending_since"), Some(nanos.to_string()));
    }
}

/// transitions.md#forward: both sets are served, scheduled first; the message stays as it is.
pub(super) async fn scheduled_comes_before_retry(fx: &Fixture) {
    fx.task_in("r", TaskState::Retry).await;
    schedule(fx, &[("s", 60)]).await;
    let before = fx.raw().await.task("r").message();
    fx.advance(60);
    assert_eq!(forward(fx, 100).await.moved, 2);
    let raw = fx.raw().await;
    assert_eq!(raw.list("pending"), ["r", "s"]);
    assert_eq!(raw.task("r").message(), before);
    assert_eq!(raw.task("r").names(), ["msg", "pending_since", "state", "x:enq"]);
}

/// The next due time is told to the second, of both sets.
pub(super) async fn the_next_due_time_is_told(fx: &Fixture) {
    assert_eq!(forward(fx, 100).await.next_due, None);
    fx.task_in("r", TaskState::Retry).await;
    assert_eq!(forward(fx, 100).await.next_due.unwrap().timestamp(), fx.secs() + 60);
    schedule(fx, &[("s", 50)]).await;
    assert_eq!(forward(fx, 100).await.next_due.unwrap().timestamp(), fx.secs() + 50);
    fx.advance(55);
    assert_eq!(forward(fx, 100).await.next_due.unwrap().timestamp(), fx.secs() + 5);
    fx.advance(5);
    assert_eq!(forward(fx, 100).await.next_due, None);
}

/// Nothing due, nothing changed.
pub(super) async fn what_is_not_due_stays(fx: &Fixture) {
    forward(fx, 100).await;
    assert!(fx.raw().await.state.is_empty());
    schedule(fx, &[("a", 10)]).await;
    fx.task_in("r", TaskState::Retry).await;
    fx.advance(9);
    let before = fx.raw().await;
    let done = forward(fx, 100).await;
    assert_eq!((done.moved, done.more), (0, false));
    before.assert_same(&fx.raw().await);
}

/// rules.md#bounded-calls: at most so many of each set; more is told.
pub(super) async fn one_call_moves_no_more_than_asked(fx: &Fixture) {
    schedule(fx, &[("a", 1), ("b", 2), ("c", 3)]).await;
    fx.advance(10);
    let done = forward(fx, 2).await;
    assert_eq!((done.moved, done.more), (2, true));
    assert_eq!(fx.raw().await.list("pending"), ["b", "a"]);
    let done = forward(fx, 2).await;
    assert_eq!((done.moved, done.more), (1, false));
    assert_eq!(fx.raw().await.list("pending"), ["c", "b", "a"]);
}

/// rules.md#bounded-calls: thousands of due tasks are all moved, in order, call after call.
pub(super) async fn thousands_are_moved_call_after_call(fx: &Fixture) {
    let names: Vec<_> = (0..1200).map(|n| format!("id{n:04}")).collect();
    let batch = names.iter().map(|id| request(Q, id).at(fx.after(5)).build());
    assert!(fx.storage.enqueue(&batch_of(batch)).await.iter().all(Result::is_ok));
    fx.advance(5);
    let mut moved = 0;
    loop {
        let done = forward(fx, 500).await;
        moved += done.moved;
        if !done.more {
            break;
        }
        assert!(done.moved > 0);
    }
    assert_eq!(moved, 1200);
    let mut pending = fx.raw().await.list("pending");
    pending.reverse();
    assert_eq!(pending, names);
}

/// transitions.md#forward, layout.md#task-hash and differences.md#groups-of-forwarded-tasks: a hash with the
/// field `group` joins its group, and the group the index.
pub(super) async fn a_task_with_a_group_joins_it(fx: &Fixture) {
    fx.task_in("r", TaskState::Retry).await;
    schedule(fx, &[("s", 60)]).await;
    fx.edit(|state| {
        set_field(state, "r", "group", Some(bytes("g1")));
        set_field(state, "s", "group", Some(bytes("g2")));
    })
    .await;
    fx.advance(60);
    assert_eq!(forward(fx, 100).await.moved, 2);
    let raw = fx.raw().await;
    assert_eq!(
        (raw.list("pending").len(), raw.q().set("groups")),
        (0, vec!["g1".to_owned(), "g2".to_owned()])
    );
    assert_eq!(raw.zset("g:g1"), [("r".to_owned(), fx.secs())]);
    assert_eq!(raw.zset("g:g2"), [("s".to_owned(), fx.secs())]);
    assert_eq!(raw.task("r").names(), ["group", "msg", "state", "x:enq"]);
    assert_eq!(raw.task("r").state(), "aggregating");
}

/// transitions.md#forward: an empty field `group` is none; neither is the group in the message.
pub(super) async fn an_empty_group_is_none(fx: &Fixture) {
    let new = request(Q, "a").group("g").build();
    let waiting = asynq_core::broker::EnqueueRequest {
        placement: asynq_core::broker::Placement::Scheduled(fx.after(1)),
        ..new
    };
    assert!(fx.storage.enqueue(&batch_of([waiting])).await[0].is_ok());
    schedule(fx, &[("b", 1)]).await;
    fx.edit(|state| set_field(state, "b", "group", Some(Bytes::new())))
        .await;
    fx.advance(1);
    forward(fx, 100).await;
    assert_eq!(fx.raw().await.list("pending"), ["b", "a"]);
}

/// The result that an attempt wrote survives.
pub(super) async fn a_result_survives_the_wait(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.storage.write_result(&task.lease, bytes("half")).await.unwrap();
    fx.settled(&task, retry(fx.now())).await;
    assert_eq!(forward(fx, 100).await.moved, 1);
    assert_eq!(fx.raw().await.task("a").field("result").as_deref(), Some("half"));
}

/// differences.md#ids-without-a-hash, rules.md#damage-stays-local: ids without a usable task are put aside and
/// told; no partial hash is made, and the others are moved.
pub(super) async fn damaged_tasks_harm_only_themselves(fx: &Fixture) {
    schedule(fx, &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]).await;
    fx.edit(|state| {
        state.remove(&key("t:a"));
        state.insert(key("t:b"), string("x"));
        set_field(state, "c", "msg", None);
    })
    .await;
    fx.advance(1);
    let done = forward(fx, 100).await;
    assert_eq!(done.moved, 1);
    let mut told: Vec<_> = done
        .poisoned
        .iter()
        .map(|poison| (poison.id.as_str(), poison.kind))
        .collect();
    told.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(
        told,
        [
            ("a", PoisonKind::NoHash),
            ("b", PoisonKind::NotAHash),
            ("c", PoisonKind::NoMessage)
        ]
    );
    let raw = fx.raw().await;
    assert_eq!(raw.list("pending"), ["d"]);
    assert!(raw.zset("scheduled").is_empty());
    assert!(!raw.has_task("a") && !raw.has_task("b") && !raw.has_task("c"));
    assert_eq!(
        raw.zset("x:quarantine"),
        [("b".to_owned(), fx.secs()), ("c".to_owned(), fx.secs())]
    );
}

/// rules.md#check-then-write: a container of the wrong type refuses the call before any write.
pub(super) async fn a_container_of_the_wrong_type_refuses_the_call(fx: &Fixture) {
    fx.leaves_damage();
    for (suffix, waiting) in [("scheduled", "retry"), ("retry", "scheduled"), ("pending", "scheduled")] {
        fx.edit(|state| {
            state.clear();
            state.insert(key("t:a"), go_task(request(Q, "a"), waiting));
            state.insert(key(waiting), zset(&[("a", 1)]));
            state.insert(key(suffix), string("x"));
        })
        .await;
        let before = fx.raw().await;
        match fx.storage.forward(&queue(Q), 100).await {
            Err(BrokerError::WrongType { key: named }) => assert_eq!(named, key(suffix)),
            other => panic!("{suffix}: {other:?}"),
        }
        before.assert_same(&fx.raw().await);
    }
}

/// rules.md#isolation: a group whose key holds another type puts off its own tasks for a minute; they keep nobody
/// waiting who is due behind them.
pub(super) async fn a_damaged_group_puts_off_its_own_tasks_alone(fx: &Fixture) {
    fx.leaves_damage();
    let bad: Vec<_> = (0..30).map(|n| format!("bad{n:02}")).collect();
    for id in &bad {
        fx.enqueue(request(Q, id).at(fx.after(1))).await;
    }
    schedule(fx, &[("good", 2), ("grouped", 3)]).await;
    fx.edit(|state| {
        for id in &bad {
            set_field(state, id, "group", Some(bytes("bad")));
        }
        set_field(state, "grouped", "group", Some(bytes("other")));
        state.insert(key("g:bad"), string("x"));
    })
    .await;
    fx.advance(3);
    let (mut moved, mut put_off) = (0, Vec::new());
    for _ in 0..10 {
        let done = forward(fx, 10).await;
        moved += done.moved;
        put_off.extend(done.put_off);
        assert!(done.poisoned.is_empty());
        if !done.more {
            assert_eq!(done.next_due.unwrap().timestamp(), fx.secs() + 60);
            break;
        }
    }
    put_off.sort();
    assert_eq!(
        (moved, put_off),
        (2, bad.iter().map(|name| id(name)).collect::<Vec<_>>())
    );
    let raw = fx.raw().await;
    assert_eq!(
        (raw.list("pending"), raw.zset("g:other").len()),
        (vec!["good".to_owned()], 1)
    );
    // Once the group is well again they join it.
    fx.edit(|state| drop(state.remove(&key("g:bad")))).await;
    fx.advance(60);
    while forward(fx, 10).await.more {}
    assert_eq!(fx.raw().await.zset("g:bad").len(), 30);
}
