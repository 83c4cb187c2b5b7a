//! Tasks of dead owners (transitions.md#expired-leases, and transitions.md#requeue to transitions.md#archive by
//! the recoverer).

use asynq_core::{
    broker::{Expired, MAX_UNSTARTED, RECOVER_GRACE, Recovery},
    error::PoisonKind,
};

use super::kit::*;

async fn expired(fx: &Fixture, limit: u32) -> Expired {
    fx.storage.expired(&queue(Q), RECOVER_GRACE, limit).await.unwrap()
}

async fn recover(fx: &Fixture, found: &Expired, outcome: &Outcome) -> Vec<Result<(), SettleError>> {
    let batch = found
        .tasks
        .iter()
        .map(|task| Recovery {
            task: task.clone(),
            outcome: outcome.clone(),
        })
        .collect();
    fx.storage.recover(batch).await
}

/// transitions.md#expired-leases, layout.md#inclusive-times: found 30 s after the end of the lease, inclusive,
/// longest first; finding changes nothing.
pub(super) async fn a_lease_is_over_thirty_seconds_after_its_end(fx: &Fixture) {
    assert!(expired(fx, 10).await.tasks.is_empty());
    fx.enqueue_ids(&["a", "b"]).await;
    fx.take(1).await;
    fx.advance(1);
    fx.take(1).await;
    fx.advance(58);
    assert!(expired(fx, 10).await.tasks.is_empty());
    fx.advance(1);
    let before = fx.raw().await;
    let found = expired(fx, 10).await;
    assert_eq!((found.tasks.len(), found.more, found.poisoned.len()), (1, false, 0));
    assert_eq!(
        (found.tasks[0].message.id.as_str(), found.tasks[0].until.0),
        ("a", fx.secs() - 30)
    );
    assert_eq!(found.tasks[0].queue, queue(Q));
    fx.advance(1);
    let found = expired(fx, 10).await;
    let ids: Vec<_> = found.tasks.iter().map(|task| task.message.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    let now = fx
        .storage
        .expired(&queue(Q), Duration::from_secs(1000), 10)
        .await
        .unwrap();
    assert!(now.tasks.is_empty());
    before.assert_same(&fx.raw().await);
}

/// transitions.md#expired-leases: without a grace, as the tools look for orphans, the end of the lease itself counts.
pub(super) async fn the_grace_is_the_callers(fx: &Fixture) {
    fx.task_in("a", TaskState::Active).await;
    fx.advance(29);
    let look = async || {
        fx.storage
            .expired(&queue(Q), Duration::ZERO, 10)
            .await
            .unwrap()
            .tasks
            .len()
    };
    assert_eq!(look().await, 0);
    fx.advance(1);
    assert_eq!(look().await, 1);
}

/// rules.md#bounded-calls: no more than asked for, and more is told.
pub(super) async fn no_more_than_asked_for_is_listed(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b", "c"]).await;
    fx.take(3).await;
    fx.advance(60);
    let found = expired(fx, 2).await;
    assert_eq!((found.tasks.len(), found.more), (2, true));
    let found = expired(fx, 3).await;
    assert_eq!((found.tasks.len(), found.more), (3, false));
}

/// transitions.md#retry: as a failed attempt of its worker would be; the token is gone.
pub(super) async fn a_recovered_task_is_retried(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.advance(60);
    let found = expired(fx, 10).await;
    let outcome = Outcome::Retry {
        at: fx.after(9),
        error: "asynq: task lease expired".into(),
        is_failure: true,
    };
    assert!(recover(fx, &found, &outcome).await[0].is_ok());
    let raw = fx.raw().await;
    assert_eq!(raw.zset("retry"), [("a".to_owned(), fx.secs() + 9)]);
    assert_eq!((raw.list("active").len(), raw.zset("lease").len()), (0, 0));
    assert_eq!(raw.task("a").names(), ["msg", "state", "x:at", "x:enq", "x:runs"]);
    let expected = asynq_core::message::failed(&task.message, "asynq: task lease expired", fx.secs(), true);
    assert_eq!(raw.task("a").message(), expected);
    assert_eq!(
        (raw.string("processed").as_deref(), raw.string("failed").as_deref()),
        (Some("1"), Some("1"))
    );
}

/// transitions.md#archive: archived when its retries are used up.
pub(super) async fn a_recovered_task_is_archived(fx: &Fixture) {
    fx.running(request(Q, "a").max_retry(0)).await;
    fx.advance(60);
    let found = expired(fx, 10).await;
    assert!(recover(fx, &found, &archive()).await[0].is_ok());
    let raw = fx.raw().await;
    assert_eq!(raw.zset("archived"), [("a".to_owned(), fx.secs())]);
    assert_eq!(
        (raw.task("a").state().as_str(), raw.task("a").names()),
        ("archived", vec!["msg", "state", "x:enq", "x:runs"])
    );
}

/// The contract: a task may simply be given back.
pub(super) async fn a_recovered_task_is_given_back(fx: &Fixture) {
    fx.running(request(Q, "a")).await;
    fx.enqueue_ids(&["b"]).await;
    fx.advance(60);
    let found = expired(fx, 10).await;
    assert!(recover(fx, &found, &Outcome::Requeue).await[0].is_ok());
    let raw = fx.raw().await;
    assert_eq!(raw.list("pending"), ["b", "a"]);
    let names = ["msg", "pending_since", "state", "x:enq", "x:runs", "x:unstarted"];
    assert_eq!(raw.task("a").names(), names);
    assert_eq!(raw.string("processed"), None);
}

/// The contract: a task whose lease nobody extended may never have been started; that is told as often as
/// [`MAX_UNSTARTED`], until a run has an outcome.
pub(super) async fn a_task_whose_lease_was_never_extended_may_not_have_been_started(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    for times in 1..=MAX_UNSTARTED {
        fx.take_one().await;
        fx.advance(60);
        let found = expired(fx, 10).await;
        assert!(found.tasks[0].unstarted, "{times}");
        assert!(recover(fx, &found, &Outcome::Requeue).await[0].is_ok());
        assert_eq!(fx.raw().await.task("a").field("x:unstarted"), Some(times.to_string()));
    }
    fx.take_one().await;
    fx.advance(60);
    let found = expired(fx, 10).await;
    assert!(!found.tasks[0].unstarted, "perhaps it ends its process");
    assert!(recover(fx, &found, &retry(fx.now())).await[0].is_ok());
    assert_eq!(fx.raw().await.task("a").field("x:unstarted"), None);
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    fx.take_one().await;
    fx.advance(60);
    assert!(expired(fx, 10).await.tasks[0].unstarted, "counted anew");
    for damage in ["x", "3.5", "999999999999999999999"] {
        fx.edit(|state| set_field(state, "a", "x:unstarted", Some(bytes(damage))))
            .await;
        assert!(!expired(fx, 10).await.tasks[0].unstarted, "{damage}");
    }
}

/// The contract: an extension shows that the owner lived on; what Go took, after us too, says nothing.
pub(super) async fn a_task_that_was_held_or_is_anothers_counts_as_started(fx: &Fixture) {
    fx.enqueue_ids(&["held", "retaken"]).await;
    let taken = fx.take(2).await;
    fx.advance(5);
    fx.storage
        .extend_leases(vec![taken[0].lease.clone()])
        .await
        .remove(0)
        .unwrap();
    let (ours, theirs) = (taken[0].lease.until.0 + 5, taken[0].lease.until.0 + 61);
    fx.edit(|state| {
        state.insert(key("t:go"), go_task(request(Q, "go"), "active"));
        state.insert(key("active"), list(&["go", "retaken", "held"]));
        let leases = [("go", ours), ("held", ours), ("retaken", theirs)];
        state.insert(key("lease"), zset(&leases));
    })
    .await;
    fx.advance(120);
    let found = expired(fx, 10).await;
    assert_eq!(found.tasks.len(), 3);
    for task in found.tasks {
        assert!(!task.unstarted, "{}", task.message.id);
    }
}

/// The contract: nobody recovers a task as done.
pub(super) async fn recovery_as_done_is_refused(fx: &Fixture) {
    fx.running(request(Q, "a").retention(60)).await;
    fx.advance(60);
    let found = expired(fx, 10).await;
    let before = fx.raw().await;
    let answer = recover(fx, &found, &DONE).await.remove(0);
    assert!(
        matches!(answer, Err(SettleError::Broker(BrokerError::Refused { .. }))),
        "{answer:?}"
    );
    before.assert_same(&fx.raw().await);
}

/// rules.md#extensions-revive-nothing: the score is tested again: a task whose owner extended, or that another server
/// recovered, is left alone.
pub(super) async fn the_lease_is_tested_again(fx: &Fixture) {
    fx.enqueue_ids(&["extended", "done", "recovered"]).await;
    let taken = fx.take(3).await;
    fx.advance(60);
    let found = expired(fx, 10).await;
    assert_eq!(found.tasks.len(), 3);
    fx.storage
        .extend_leases(vec![taken[0].lease.clone()])
        .await
        .remove(0)
        .unwrap();
    fx.settled(&taken[1], DONE).await;
    assert!(recover(fx, &found, &retry(fx.after(60))).await[2].is_ok() || expired(fx, 10).await.tasks.is_empty());
    let before = fx.raw().await;
    for answer in recover(fx, &found, &retry(fx.after(60))).await {
        assert!(matches!(answer, Err(SettleError::NotOurs)), "{answer:?}");
    }
    before.assert_same(&fx.raw().await);
    assert_eq!(before.list("active"), ["extended"]);
}

/// rules.md#fenced-settle: a task that was recovered and taken again has a new lease: an old finding does not
/// touch it.
pub(super) async fn an_old_finding_does_not_touch_a_new_run(fx: &Fixture) {
    fx.running(request(Q, "a")).await;
    fx.advance(60);
    let found = expired(fx, 10).await;
    assert!(recover(fx, &found, &Outcome::Requeue).await[0].is_ok());
    fx.take_one().await;
    let before = fx.raw().await;
    assert!(matches!(
        recover(fx, &found, &archive()).await[0],
        Err(SettleError::NotOurs)
    ));
    before.assert_same(&fx.raw().await);
}

/// transitions.md#expired-leases: a task that a Go server took is recovered like any other.
pub(super) async fn a_task_that_go_took_is_recovered(fx: &Fixture) {
    fx.edit(|state| {
        state.insert("asynq:queues".into(), RawValue::Set([bytes(Q)].into()));
        state.insert(key("t:a"), go_task(request(Q, "a"), "active"));
        state.insert(key("active"), list(&["a"]));
        state.insert(key("lease"), zset(&[("a", 1000)]));
    })
    .await;
    let found = expired(fx, 10).await;
    assert_eq!(found.tasks[0].until.0, 1000);
    assert!(recover(fx, &found, &retry(fx.now())).await[0].is_ok());
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    assert_eq!(fx.take_one().await.message.retried, 1);
}

/// differences.md#poison-messages: what cannot be decoded is put aside and told; the others are listed.
pub(super) async fn an_undecodable_message_does_not_stop_the_sweep(fx: &Fixture) {
    fx.enqueue_ids(&["bare", "garbage", "gone", "good", "other", "stateless"])
        .await;
    fx.take(6).await;
    fx.edit(|state| {
        set_field(state, "bare", "msg", None);
        set_field(state, "garbage", "msg", Some(Bytes::from_static(b"\xff\xff")));
        set_field(state, "other", "msg", Some(request(Q, "x").encoded()));
        set_field(state, "stateless", "state", None);
        state.remove(&key("t:gone"));
    })
    .await;
    fx.advance(60);
    let found = expired(fx, 10).await;
    let ids: Vec<_> = found.tasks.iter().map(|task| task.message.id.as_str()).collect();
    assert_eq!(ids, ["good"]);
    let mut told: Vec<_> = found
        .poisoned
        .iter()
        .map(|poison| (poison.id.as_str(), poison.kind))
        .collect();
    told.sort_unstable_by_key(|(id, _)| *id);
    let expected = [
        ("bare", PoisonKind::NoMessage),
        ("garbage", PoisonKind::Undecodable),
        ("gone", PoisonKind::NoHash),
        ("other", PoisonKind::Mismatch),
        ("stateless", PoisonKind::BadState),
    ];
    assert_eq!(told, expected);
    let raw = fx.raw().await;
    assert_eq!(
        (raw.list("active"), raw.zset("lease").len()),
        (vec!["good".to_owned()], 1)
    );
    let aside: Vec<_> = raw.zset("x:quarantine").into_iter().map(|(id, _)| id).collect();
    assert_eq!(aside, ["bare", "garbage", "other", "stateless"]);
}

/// rules.md#isolation: more than a page of leases of which nothing can be made, at the lowest scores, keeps nobody
/// from those behind it: neither ids without a usable task nor tasks that do not stand in `active`. All is
/// seen in one walk, in a bounded number of pages.
pub(super) async fn what_cannot_be_recovered_keeps_nobody_waiting(fx: &Fixture) {
    fx.leaves_damage();
    fx.running(request(Q, "good")).await;
    let names: Vec<_> = (0..90).map(|n| format!("{n:02}")).collect();
    fx.edit(|state| {
        let Some(RawValue::ZSet(leases)) = state.get_mut(&key("lease")) else {
            panic!("no leases")
        };
        let mut stray: Vec<(Bytes, i64)> = Vec::new();
        for name in &names {
            stray.extend(["gone", "garbage", "nowhere"].map(|kind| (bytes(format!("{kind}{name}")), 1000)));
        }
        leases.extend(stray);
        leases.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        for name in &names {
            let garbage = hash([("msg", bytes("\u{1}")), ("state", bytes("active"))]);
            state.insert(key(&format!("t:garbage{name}")), garbage);
            let nowhere = format!("nowhere{name}");
            state.insert(key(&format!("t:{nowhere}")), go_task(request(Q, &nowhere), "active"));
        }
        let Some(RawValue::List(active)) = state.get_mut(&key("active")) else {
            panic!("no active tasks")
        };
        active.extend(names.iter().map(|name| bytes(format!("garbage{name}"))));
    })
    .await;
    fx.advance(60);
    let (mut place, mut pages, mut recovered) = (asynq_core::broker::ExpiredPlace::default(), 0, Vec::new());
    loop {
        let found = fx
            .storage
            .expired_after(&queue(Q), RECOVER_GRACE, 20, &place)
            .await
            .unwrap();
        for (task, answer) in found.tasks.iter().zip(recover(fx, &found, &Outcome::Requeue).await) {
            match answer {
                Ok(()) => recovered.push(task.message.id.clone()),
                Err(SettleError::NotOurs) => {}
                other => panic!("{other:?}"),
            }
        }
        pages += 1;
        place = found.next;
        if !found.more {
            break;
        }
        assert!(pages < 40, "no end");
    }
    assert_eq!(recovered, ["good"]);
    let raw = fx.raw().await;
    assert_eq!(raw.zset("x:quarantine").len(), 90, "garbage never comes back");
    assert_eq!(raw.zset("lease").len(), 90);
}
