//! Taking tasks (transitions.md#take), and settling and taking in one call.

use asynq_core::{
    broker::{MAX_BATCH, MAX_BATCH_BYTES},
    error::PoisonKind,
};

use chrono::TimeDelta;

use super::kit::*;

/// transitions.md#take: from the tail of `pending` to the head of `active`, with a lease of 30 s, without
/// `pending_since`, and with our token (rules.md#calls-outlive-actors).
pub(super) async fn a_taken_task_is_active_with_a_lease_and_our_token(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b", "c"]).await;
    let call = fx.storage.begin();
    let want = vec![Want {
        queue: queue(Q),
        max: 2,
    }];
    let answer = fx.storage.exchange(&call, &[], &want).await;
    assert_eq!(ids(&answer.leased), ["a", "b"]);
    let raw = fx.raw().await;
    assert_eq!(raw.q().suffixes(), ["active", "lease", "pending", "t:a", "t:b", "t:c"]);
    assert_eq!(raw.list("pending"), ["c"]);
    assert_eq!(raw.list("active"), ["b", "a"]);
    let until = fx.secs() + 30;
    assert_eq!(raw.zset("lease"), [("a".to_owned(), until), ("b".to_owned(), until)]);
    for task in &answer.leased {
        let lease = &task.lease;
        assert_eq!(
            (&lease.queue, lease.until.0, &lease.token),
            (&queue(Q), until, &call.token)
        );
        assert_eq!(
            (lease.id.as_str(), call.lease_until),
            (task.message.id.as_str(), lease.until)
        );
        let stored = raw.task(&task.message.id);
        assert_eq!(stored.names(), ["msg", "state", "x:enq", "x:take"]);
        assert_eq!(
            (stored.state().as_str(), stored.field("x:take").as_deref()),
            ("active", Some(call.token.as_str()))
        );
        assert_eq!(stored.message(), *task.message);
    }
}

/// layout.md#states: first in, first out, over any number of calls.
pub(super) async fn tasks_come_in_the_order_of_their_enqueue(fx: &Fixture) {
    fx.enqueue_ids(&["c", "a", "d", "b"]).await;
    assert_eq!(ids(&fx.take(1).await), ["c"]);
    assert_eq!(ids(&fx.take(2).await), ["a", "d"]);
    assert_eq!(ids(&fx.take(2).await), ["b"]);
    assert_eq!(fx.raw().await.list("active"), ["b", "d", "a", "c"]);
}

/// The contract: a queue that had less than was wanted is told, one that had just enough is not.
pub(super) async fn a_queue_that_had_less_is_told(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b", "c"]).await;
    assert!(fx.exchange(Vec::new(), 2).await.exhausted.is_empty());
    let answer = fx.exchange(Vec::new(), 2).await;
    assert_eq!((ids(&answer.leased), answer.exhausted), (vec!["c"], vec![queue(Q)]));
    fx.enqueue_ids(&["d"]).await;
    assert_eq!(ids(&fx.take(1).await), ["d"]);
}

/// A look at an empty or unknown queue leaves no keys behind.
pub(super) async fn an_empty_queue_gives_nothing_and_gets_no_keys(fx: &Fixture) {
    let answer = fx.exchange(Vec::new(), 5).await;
    assert!(answer.leased.is_empty() && answer.poisoned.is_empty() && answer.failed.is_empty());
    assert_eq!(answer.exhausted, [queue(Q)]);
    assert!(fx.raw().await.state.is_empty());
}

/// Pitfalls 5.1: nothing is taken from a paused queue, and enqueueing goes on.
pub(super) async fn a_paused_queue_gives_nothing(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    fx.storage.pause(&queue(Q)).await.unwrap();
    fx.enqueue_ids(&["b"]).await;
    let before = fx.raw().await;
    let answer = fx.exchange(Vec::new(), 5).await;
    assert!(answer.leased.is_empty());
    assert_eq!(answer.exhausted, [queue(Q)]);
    before.assert_same(&fx.raw().await);
    fx.storage.unpause(&queue(Q)).await.unwrap();
    assert_eq!(ids(&fx.take(5).await), ["a", "b"]);
}

/// A pause stops takes, not outcomes.
pub(super) async fn a_paused_queue_takes_outcomes(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.storage.pause(&queue(Q)).await.unwrap();
    let answer = fx.exchange(vec![settlement(&task, DONE)], 1).await;
    assert!(answer.settled[0].is_ok());
    assert!(!fx.raw().await.has_task("a"));
}

/// The contract: one call may want from several queues, each its own number.
pub(super) async fn several_queues_are_asked_in_one_call(fx: &Fixture) {
    for (name, id) in [("one", "a"), ("two", "b"), ("two", "c"), ("three", "d")] {
        fx.enqueue(request(name, id)).await;
    }
    let wants = [("one", 5), ("two", 1), ("three", 1), ("none", 1)];
    let wants = wants
        .map(|(name, max)| Want {
            queue: queue(name),
            max,
        })
        .to_vec();
    let mut answer = fx.storage.exchange(&fx.storage.begin(), &[], &wants).await;
    let mut taken: Vec<_> = answer
        .leased
        .iter()
        .map(|task| (task.lease.queue.as_str(), task.lease.id.as_str()))
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, [("one", "a"), ("three", "d"), ("two", "b")]);
    answer.exhausted.sort();
    assert_eq!(answer.exhausted, [queue("none"), queue("one")]);
}

/// Nothing wanted, nothing taken.
pub(super) async fn a_want_of_zero_takes_nothing(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    let before = fx.raw().await;
    let want = vec![Want {
        queue: queue(Q),
        max: 0,
    }];
    let answer = fx.storage.exchange(&fx.storage.begin(), &[], &want).await;
    assert!(answer.leased.is_empty() && answer.exhausted.is_empty());
    before.assert_same(&fx.raw().await);
}

/// rules.md#bounded-calls: one call gives [`MAX_BATCH`] tasks at most; the queue is not told as exhausted then.
pub(super) async fn one_call_is_bounded_in_tasks(fx: &Fixture) {
    let names: Vec<_> = (0..250).map(|n| format!("id{n:03}")).collect();
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let first = fx.exchange(Vec::new(), 1000).await;
    assert!(
        !first.leased.is_empty() && first.leased.len() <= MAX_BATCH as usize,
        "{}",
        first.leased.len()
    );
    assert!(first.exhausted.is_empty());
    let mut taken: Vec<_> = ids(&first.leased).into_iter().map(str::to_owned).collect();
    while taken.len() < 250 {
        let more = fx.take(1000).await;
        assert!(!more.is_empty());
        taken.extend(ids(&more).into_iter().map(str::to_owned));
    }
    assert_eq!(taken, names);
}

/// rules.md#bounded-calls: one call carries a mebibyte of messages at most, and always one task.
pub(super) async fn one_call_is_bounded_in_bytes(fx: &Fixture) {
    for (id, size) in [("a", 3 << 20), ("b", 600 << 10), ("c", 600 << 10), ("d", 100)] {
        fx.enqueue(request(Q, id).payload(vec![7; size])).await;
    }
    let answer = fx.exchange(Vec::new(), 10).await;
    assert_eq!((ids(&answer.leased), answer.exhausted), (vec!["a"], vec![]));
    let answer = fx.exchange(Vec::new(), 10).await;
    let bytes: usize = answer.leased.iter().map(|task| task.message.payload.len()).sum();
    assert_eq!((ids(&answer.leased), answer.exhausted), (vec!["b"], vec![]));
    assert!(bytes <= MAX_BATCH_BYTES);
    assert_eq!(ids(&fx.take(10).await), ["c", "d"]);
}

/// rules.md#calls-outlive-actors: every call has a token of its own, on every connection.
pub(super) async fn each_call_has_a_token_of_its_own(fx: &Fixture) {
    let other = fx.connect().await;
    let tokens = [fx.storage.begin(), fx.storage.begin(), other.begin(), other.begin()].map(|call| call.token);
    let different: std::collections::HashSet<_> = tokens.iter().map(asynq_core::broker::CallToken::as_str).collect();
    assert_eq!(different.len(), 4, "{tokens:?}");
    assert_eq!(fx.storage.begin().lease_until.0, fx.secs() + 30);
}

/// Outcomes are written before tasks are taken, so what is given back can be
/// taken in the same call.
pub(super) async fn outcomes_are_written_before_tasks_are_taken(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    let answer = fx.exchange(vec![settlement(&task, Outcome::Requeue)], 1).await;
    assert!(answer.settled[0].is_ok());
    assert_eq!(ids(&answer.leased), ["a"]);
    assert_ne!(answer.leased[0].lease.token, task.lease.token);
    assert!(
        matches!(fx.settle(&task, DONE).await, Err(SettleError::NotOurs)),
        "the old claim is void"
    );
    fx.settled(&answer.leased[0], DONE).await;
}

/// The contract: outcomes of one queue and wants of another go in one call.
pub(super) async fn outcomes_and_wants_may_concern_different_queues(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.enqueue(request("two", "b")).await;
    let want = vec![Want {
        queue: queue("two"),
        max: 1,
    }];
    let answer = fx
        .storage
        .exchange(&fx.storage.begin(), &[settlement(&task, DONE)], &want)
        .await;
    assert!(answer.settled[0].is_ok());
    assert_eq!(ids(&answer.leased), ["b"]);
    assert!(!fx.raw().await.has_task("a"));
}

/// Two connections never get the same task.
pub(super) async fn a_task_is_taken_once(fx: &Fixture) {
    let names: Vec<_> = (0..40).map(|n| format!("id{n:02}")).collect();
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let connections = [fx.connect().await, fx.connect().await, fx.connect().await];
    let drain = |storage: Arc<dyn asynq_core::Storage>| async move {
        let mut taken = Vec::new();
        loop {
            let want = vec![Want {
                queue: queue(Q),
                max: 3,
            }];
            let leased = storage.exchange(&storage.begin(), &[], &want).await.leased;
            if leased.is_empty() {
                return taken;
            }
            taken.extend(leased.into_iter().map(|task| task.message.id.clone()));
        }
    };
    let mut taken = futures::future::join_all(connections.into_iter().map(drain))
        .await
        .concat();
    taken.sort();
    assert_eq!(taken, names);
}

/// differences.md#ids-without-a-hash, rules.md#damage-stays-local: an id without a hash is dropped and told; no
/// partial hash is made, and the others are given.
pub(super) async fn an_id_without_hash_is_dropped(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b", "c"]).await;
    fx.edit(|state| drop(state.remove(&key("t:a")))).await;
    let answer = fx.exchange(Vec::new(), 3).await;
    assert_eq!(ids(&answer.leased), ["b", "c"]);
    let told: Vec<_> = answer
        .poisoned
        .iter()
        .map(|poison| (poison.id.as_str(), poison.kind))
        .collect();
    assert_eq!(told, [("a", PoisonKind::NoHash)]);
    let raw = fx.raw().await;
    assert_eq!((raw.list("pending").len(), raw.has_task("a")), (0, false));
    assert_eq!(raw.list("active"), ["c", "b"]);
}

/// Pitfalls 8.9, differences.md#poison-messages: what cannot be used is put aside as it was found, with its id,
/// and told; it is neither active nor taken again.
pub(super) async fn what_cannot_be_used_is_put_aside(fx: &Fixture) {
    let damages: [(&str, Option<Bytes>, PoisonKind); 5] = [
        (
            "garbage",
            Some(Bytes::from_static(b"\xff\xff\xff")),
            PoisonKind::Undecodable,
        ),
        (
            "truncated",
            Some(request(Q, "truncated").encoded().slice(..5)),
            PoisonKind::Undecodable,
        ),
        ("stranger", Some(request(Q, "x").encoded()), PoisonKind::Mismatch),
        (
            "elsewhere",
            Some(request("q2", "elsewhere").encoded()),
            PoisonKind::Mismatch,
        ),
        ("bare", None, PoisonKind::NoMessage),
    ];
    for (name, msg, kind) in damages {
        fx.enqueue_ids(&[name, "good"]).await;
        fx.edit(|state| set_field(state, name, "msg", msg.clone())).await;
        let answer = fx.exchange(Vec::new(), 2).await;
        assert_eq!(ids(&answer.leased), ["good"], "{name}");
        let told: Vec<_> = answer
            .poisoned
            .iter()
            .map(|poison| (poison.id.as_str(), poison.kind))
            .collect();
        assert_eq!(told, [(name, kind)]);
        let raw = fx.raw().await;
        assert!(!raw.has_task(name), "{name}");
        assert_eq!(raw.list("active"), ["good"]);
        assert!(raw.zset("x:quarantine").contains(&(name.to_owned(), fx.secs())));
        let Some(RawValue::Hash(kept)) = raw.q().get(&format!("x:quarantine:{name}")) else {
            panic!("{name} is kept")
        };
        assert_eq!(kept.get("msg"), msg.as_ref());
        fx.settled(&answer.leased[0], DONE).await;
    }
}

/// rules.md#check-then-write: a task key of another type is put aside as it is.
pub(super) async fn a_task_key_that_is_no_hash_is_put_aside(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b"]).await;
    fx.edit(|state| drop(state.insert(key("t:a"), string("x")))).await;
    let answer = fx.exchange(Vec::new(), 2).await;
    assert_eq!(ids(&answer.leased), ["b"]);
    assert_eq!(
        (answer.poisoned[0].id.as_str(), answer.poisoned[0].kind),
        ("a", PoisonKind::NotAHash)
    );
    let raw = fx.raw().await;
    assert_eq!(raw.q().get("x:quarantine:a"), Some(&string("x")));
    assert!(!raw.has_task("a"));
}

/// rules.md#check-then-write: a container of the wrong type fails the part of its queue alone, without a write.
pub(super) async fn a_container_of_the_wrong_type_fails_its_queue_alone(fx: &Fixture) {
    fx.leaves_damage();
    for suffix in ["pending", "active", "lease"] {
        fx.enqueue(request("two", suffix)).await;
        fx.edit(|state| drop(state.insert(key(suffix), string("x")))).await;
        if suffix != "pending" {
            fx.enqueue_ids(&[suffix]).await;
        }
        let before = fx.raw().await;
        let wants = [Q, "two"]
            .map(|name| Want {
                queue: queue(name),
                max: 1,
            })
            .to_vec();
        let mut answer = fx.storage.exchange(&fx.storage.begin(), &[], &wants).await;
        assert_eq!(ids(&answer.leased), [suffix], "from the other queue");
        assert_eq!(answer.leased[0].lease.queue, "two");
        let failed = answer.failed.pop();
        assert!(
            matches!(&failed, Some((of, BrokerError::WrongType { key: named })) if *of == *Q && *named == key(suffix)),
            "{failed:?}"
        );
        let after = fx.raw().await;
        for name in before.q().suffixes() {
            assert_eq!(before.q().get(name), after.q().get(name));
        }
        fx.edit(|state| {
            state.remove(&key(suffix));
            state.remove(&key(&format!("t:{suffix}")));
            state.remove(&key("pending"));
        })
        .await;
    }
}

/// The contract of `Exchanged`: tasks come queue by queue as they were wanted, whatever is settled in
/// the same call.
pub(super) async fn tasks_come_in_the_order_of_the_wants(fx: &Fixture) {
    let want = |name: &str, max| Want {
        queue: queue(name),
        max,
    };
    fx.enqueue(request("a", "a1")).await;
    let call = fx.storage.begin();
    let running = fx.storage.exchange(&call, &[], &[want("a", 1)]).await.leased;
    for (name, id) in [("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2"), ("c", "c1")] {
        fx.enqueue(request(name, id)).await;
    }
    let wants = vec![want("c", 2), want("a", 2), want("b", 1), want("b", 1)];
    let settle = vec![settlement(&running[0], DONE)];
    let answer = fx.storage.exchange(&fx.storage.begin(), &settle, &wants).await;
    assert_eq!(ids(&answer.leased), ["c1", "a2", "a3", "b1", "b2"]);
    assert_eq!(answer.exhausted, [queue("c")]);
}

/// A task that is given back waits anew.
pub(super) async fn a_taken_task_comes_with_the_time_since_which_it_was_pending(fx: &Fixture) {
    let began = fx.now();
    fx.enqueue_ids(&["a", "b", "damaged"]).await;
    fx.advance(5);
    fx.enqueue(request(Q, "later")).await;
    fx.enqueue(request(Q, "exact").exact_deadline(fx.after(600))).await;
    fx.edit(|state| set_field(state, "damaged", "pending_since", None))
        .await;
    fx.advance(7);
    let taken = fx.take(10).await;
    let since: Vec<_> = taken.iter().map(|task| task.pending_since).collect();
    let later = Some(began + TimeDelta::seconds(5));
    assert_eq!(since, [Some(began), Some(began), None, later, later]);
    fx.settled(&taken[0], Outcome::Requeue).await;
    fx.advance(1);
    let again = fx.take_one().await;
    assert_eq!(again.pending_since, Some(began + TimeDelta::seconds(12)));
}

/// Of many tasks that are taken at once it may be estimated. The others say between which times it lies.
pub(super) async fn many_taken_tasks_tell_about_since_when_they_were_pending(fx: &Fixture) {
    let began = fx.now();
    for number in 0..60 {
        fx.enqueue(request(Q, &format!("t{number}"))).await;
        fx.advance(1);
    }
    for task in fx.take(60).await {
        let exact = began + TimeDelta::seconds(task.message.id[1..].parse().unwrap());
        let since = task.pending_since.unwrap();
        assert!(
            (since - exact).abs() < TimeDelta::seconds(8),
            "{}: {since} for {exact}",
            task.message.id
        );
    }
}
