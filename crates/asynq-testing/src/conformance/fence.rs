//! A settle is fenced (rules.md#fenced-settle), and a call whose answer was lost is adopted
//! (rules.md#calls-outlive-actors).

use asynq_core::{
    broker::{CallRecord, LeasedTask, RECOVER_GRACE, Recovery},
    error::PoisonKind,
};

use super::kit::*;

/// Every kind of outcome, and an extension and a result, answer `NotOurs` and change nothing.
async fn assert_not_ours(fx: &Fixture, task: &LeasedTask) {
    let before = fx.raw().await;
    for outcome in outcomes(fx.after(60)) {
        let answer = fx.settle(task, outcome.clone()).await;
        assert!(matches!(answer, Err(SettleError::NotOurs)), "{outcome:?}: {answer:?}");
    }
    let answer = fx.storage.extend_leases(vec![task.lease.clone()]).await.remove(0);
    assert!(matches!(answer, Err(SettleError::NotOurs)), "extend: {answer:?}");
    let answer = fx.storage.write_result(&task.lease, bytes("r")).await;
    assert!(matches!(answer, Err(SettleError::NotOurs)), "result: {answer:?}");
    before.assert_same(&fx.raw().await);
}

/// Our recoverer takes the expired task over and puts it back.
async fn recovered(fx: &Fixture) {
    let expired = fx.storage.expired(&queue(Q), RECOVER_GRACE, 10).await.unwrap();
    let batch = expired
        .tasks
        .into_iter()
        .map(|task| Recovery {
            task,
            outcome: Outcome::Requeue,
        })
        .collect();
    assert!(fx.storage.recover(batch).await.iter().all(Result::is_ok));
}

async fn take_for(fx: &Fixture, call: &CallRecord, max: u32) -> Vec<LeasedTask> {
    fx.storage
        .exchange(call, &[], &[Want { queue: queue(Q), max }])
        .await
        .leased
}

/// rules.md#fenced-settle: an outcome that was written is not written again, whatever it was.
pub(super) async fn an_outcome_is_written_once(fx: &Fixture) {
    for (n, outcome) in outcomes(fx.after(60)).into_iter().enumerate() {
        let task = fx.running(request(Q, &format!("id{n}")).retention(60)).await;
        fx.settled(&task, outcome).await;
        assert_not_ours(fx, &task).await;
    }
}

/// rules.md#fenced-settle: the same outcome twice in one call is written once.
pub(super) async fn an_outcome_twice_in_one_call_is_written_once(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    let twice = vec![
        settlement(&task, retry(fx.after(60))),
        settlement(&task, retry(fx.after(90))),
    ];
    let answer = fx.exchange(twice, 0).await;
    assert!(answer.settled[0].is_ok());
    assert!(
        matches!(answer.settled[1], Err(SettleError::NotOurs)),
        "{:?}",
        answer.settled[1]
    );
    let raw = fx.raw().await;
    assert_eq!(raw.zset("retry"), [("a".to_owned(), fx.secs() + 60)]);
    assert_eq!(raw.string("processed").as_deref(), Some("1"));
}

/// rules.md#fenced-settle: of two outcomes for one task in one call the first is written, whatever they are.
pub(super) async fn the_first_of_two_outcomes_is_written(fx: &Fixture) {
    for (nth, second) in [DONE, retry(fx.after(90)), Outcome::Requeue].into_iter().enumerate() {
        for (letter, first) in [("r", retry(fx.after(60))), ("d", DONE)] {
            let task = fx.running(request(Q, &format!("{letter}{nth}"))).await;
            let both = vec![settlement(&task, first), settlement(&task, second.clone())];
            let settled = fx.exchange(both, 0).await.settled;
            assert!(settled[0].is_ok(), "{settled:?}");
            assert!(matches!(settled[1], Err(SettleError::NotOurs)), "{settled:?}");
        }
    }
    let raw = fx.raw().await;
    assert_eq!(raw.zset("retry").len(), 3);
    assert!(
        raw.zset("retry")
            .iter()
            .all(|(id, at)| id.starts_with('r') && *at == fx.secs() + 60)
    );
    assert_eq!(raw.string("processed").as_deref(), Some("6"));
}

/// rules.md#fenced-settle: what is not ours does not keep the others from being written.
pub(super) async fn a_refused_outcome_harms_no_other(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b", "c"]).await;
    let taken = fx.take(3).await;
    fx.settled(&taken[1], DONE).await;
    let settle = taken.iter().map(|task| settlement(task, DONE)).collect();
    let answer = fx.exchange(settle, 0).await;
    assert!(answer.settled[0].is_ok() && answer.settled[2].is_ok());
    assert!(matches!(answer.settled[1], Err(SettleError::NotOurs)));
    assert_eq!(fx.raw().await.string("processed").as_deref(), Some("3"));
}

/// rules.md#fenced-settle: a `done` that comes again does not delete a new task of the same id that was
/// taken by another.
pub(super) async fn a_new_task_under_the_same_id_is_not_ours(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.settled(&task, DONE).await;
    fx.enqueue(request(Q, "a")).await;
    assert_not_ours(fx, &task).await;
    let other = fx.connect().await;
    let want = vec![Want {
        queue: queue(Q),
        max: 1,
    }];
    assert_eq!(other.exchange(&other.begin(), &[], &want).await.leased.len(), 1);
    assert_not_ours(fx, &task).await;
}

/// rules.md#fenced-settle: a task that was recovered is no longer its old owner's, taken again or not.
pub(super) async fn a_recovered_task_is_not_its_old_owners(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.advance(60);
    recovered(fx).await;
    assert_not_ours(fx, &task).await;
    let again = fx.take_one().await;
    assert_not_ours(fx, &task).await;
    fx.settled(&again, DONE).await;
}

/// rules.md#fenced-settle: a task that Go took has no token: never ours.
pub(super) async fn a_task_that_go_took_is_not_ours(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.edit(|state| set_field(state, "a", "x:take", None)).await;
    assert_not_ours(fx, &task).await;
}

/// rules.md#fenced-settle: Go recovers and takes without clearing our token; the higher lease tells.
pub(super) async fn a_lease_above_ours_is_not_ours(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    let until = task.lease.until.0;
    fx.edit(|state| set_score(state, "lease", "a", until + 1)).await;
    assert_not_ours(fx, &task).await;
}

/// rules.md#fenced-settle: a lease at or below the highest that we wrote is ours.
pub(super) async fn a_lease_not_above_ours_is_ours(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    let until = task.lease.until.0;
    fx.edit(|state| set_score(state, "lease", "a", until - 7)).await;
    fx.settled(&task, DONE).await;
    assert!(!fx.raw().await.has_task("a"));
}

/// differences.md#no-partial-effects: an active task of ours whose lease is merely missing ends normally.
pub(super) async fn a_missing_lease_does_not_void_the_claim(fx: &Fixture) {
    for (n, outcome) in outcomes(fx.after(60)).into_iter().enumerate() {
        let task = fx.running(request(Q, &format!("id{n}")).retention(60)).await;
        fx.edit(|state| drop(state.remove(&key("lease")))).await;
        fx.settled(&task, outcome).await;
        let raw = fx.raw().await;
        assert!(raw.list("active").is_empty() && raw.zset("lease").is_empty());
        if raw.has_task(&format!("id{n}")) && raw.list("pending").len() == 1 {
            fx.settled(&fx.take_one().await, DONE).await;
        }
    }
}

/// differences.md#no-partial-effects, transitions.md#done: an id that does not stand in `active` is not ended
/// by anybody.
pub(super) async fn an_id_outside_of_active_is_not_ours(fx: &Fixture) {
    fx.leaves_damage();
    let task = fx.running(request(Q, "a")).await;
    fx.edit(|state| drop(state.remove(&key("active")))).await;
    let before = fx.raw().await;
    for outcome in outcomes(fx.after(60)) {
        let answer = fx.settle(&task, outcome).await;
        assert!(matches!(answer, Err(SettleError::NotOurs)), "{answer:?}");
        let raw = fx.raw().await;
        assert_eq!(before.q().get("t:a"), raw.q().get("t:a"));
        assert!(raw.zset("retry").is_empty() && raw.zset("archived").is_empty() && raw.list("pending").is_empty());
    }
}

/// rules.md#check-then-write: a task key that is no hash, and a hash whose state nobody writes, are told, and
/// nothing is written for them.
pub(super) async fn a_damaged_task_is_told_as_poison(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue_ids(&["a", "b", "c"]).await;
    let taken = fx.take(3).await;
    fx.edit(|state| {
        state.insert(key("t:a"), string("x"));
        set_field(state, "b", "state", Some(bytes("running")));
    })
    .await;
    let before = fx.raw().await;
    for outcome in outcomes(fx.after(60)) {
        let settle = taken[..2]
            .iter()
            .map(|task| settlement(task, outcome.clone()))
            .collect();
        let settled = fx.exchange(settle, 0).await.settled;
        assert!(
            matches!(settled[0], Err(SettleError::Poison(PoisonKind::NotAHash))),
            "{settled:?}"
        );
        assert!(
            matches!(settled[1], Err(SettleError::Poison(PoisonKind::BadState))),
            "{settled:?}"
        );
    }
    let leases = taken[..2].iter().map(|task| task.lease.clone()).collect();
    let extended = fx.storage.extend_leases(leases).await;
    assert!(
        extended
            .iter()
            .all(|answer| matches!(answer, Err(SettleError::Poison(_)))),
        "{extended:?}"
    );
    before.assert_same(&fx.raw().await);
    fx.settled(&taken[2], DONE).await;
}

/// An outcome for a task that was never there changes nothing, not even in an unknown queue.
pub(super) async fn an_unknown_task_is_not_ours(fx: &Fixture) {
    let mut task = fx.running(request(Q, "a")).await;
    fx.settled(&task, DONE).await;
    task.lease.id = id("never");
    assert_not_ours(fx, &task).await;
    task.lease.queue = queue("never");
    assert_not_ours(fx, &task).await;
}

/// rules.md#calls-outlive-actors: what a lost call took is found by its token, oldest first, and gets a new lease.
pub(super) async fn a_lost_take_is_adopted(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b", "c", "d"]).await;
    let call = fx.storage.begin();
    take_for(fx, &call, 2).await;
    fx.take(1).await;
    fx.advance(20);
    let adopted = fx.storage.adopt(&queue(Q), &call).await.unwrap();
    assert_eq!(ids(&adopted), ["a", "b"]);
    let until = fx.secs() + 30;
    let raw = fx.raw().await;
    let expected = [
        ("c".to_owned(), until - 20),
        ("a".to_owned(), until),
        ("b".to_owned(), until),
    ];
    assert_eq!(raw.zset("lease"), expected);
    assert_eq!(raw.list("active"), ["c", "b", "a"]);
    for task in &adopted {
        let lease = &task.lease;
        assert_eq!(
            (lease.until.0, &lease.token, &lease.queue),
            (until, &call.token, &queue(Q))
        );
        assert_eq!(raw.task(&task.message.id).message(), *task.message);
        fx.settled(task, DONE).await;
    }
}

/// rules.md#calls-outlive-actors: a call that took nothing, or never arrived, is adopted as nothing.
pub(super) async fn a_call_that_took_nothing_is_adopted_as_nothing(fx: &Fixture) {
    let call = fx.storage.begin();
    assert!(fx.storage.adopt(&queue("never"), &call).await.unwrap().is_empty());
    assert!(fx.raw().await.state.is_empty());
    fx.enqueue_ids(&["a"]).await;
    fx.take_one().await;
    let before = fx.raw().await;
    assert!(fx.storage.adopt(&queue(Q), &call).await.unwrap().is_empty());
    before.assert_same(&fx.raw().await);
}

/// rules.md#calls-outlive-actors: what was settled or taken by another since is not adopted.
pub(super) async fn what_was_taken_over_is_not_adopted(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b", "c"]).await;
    let call = fx.storage.begin();
    let taken = take_for(fx, &call, 3).await;
    fx.settled(&taken[0], retry(fx.after(600))).await;
    fx.advance(60);
    recovered(fx).await;
    assert_eq!(fx.take(1).await.len(), 1);
    let before = fx.raw().await;
    assert!(fx.storage.adopt(&queue(Q), &call).await.unwrap().is_empty());
    before.assert_same(&fx.raw().await);
}

/// rules.md#calls-outlive-actors, its test: take, lose the reply, Go recovers and retakes; adopt returns nothing.
pub(super) async fn what_go_took_since_is_not_adopted(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b"]).await;
    let call = fx.storage.begin();
    take_for(fx, &call, 2).await;
    let until = call.lease_until.0;
    // Go leaves our token in the hash: a higher lease is all that tells.
    fx.edit(|state| set_score(state, "lease", "a", until + 90)).await;
    assert_eq!(ids(&fx.storage.adopt(&queue(Q), &call).await.unwrap()), ["b"]);
    assert!(fx.raw().await.zset("lease").contains(&("a".to_owned(), until + 90)));
}

/// rules.md#calls-outlive-actors: what a lost call took and lost its lease is found too.
pub(super) async fn a_missing_lease_is_adopted(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b"]).await;
    let call = fx.storage.begin();
    take_for(fx, &call, 2).await;
    fx.edit(|state| drop(state.remove(&key("lease")))).await;
    assert_eq!(ids(&fx.storage.adopt(&queue(Q), &call).await.unwrap()), ["a", "b"]);
    let until = fx.secs() + 30;
    assert_eq!(
        fx.raw().await.zset("lease"),
        [("a".to_owned(), until), ("b".to_owned(), until)]
    );
}

/// rules.md#calls-outlive-actors, `keys::own::ADOPT`: an adoption whose own answer was lost can be repeated,
/// until the lease is no longer the one that it wrote.
pub(super) async fn an_adoption_can_be_repeated(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b"]).await;
    let call = fx.storage.begin();
    take_for(fx, &call, 2).await;
    for _ in 0..3 {
        fx.advance(10);
        let adopted = fx.storage.adopt(&queue(Q), &call).await.unwrap();
        assert_eq!(ids(&adopted), ["a", "b"]);
        assert!(adopted.iter().all(|task| task.lease.until.0 == fx.secs() + 30));
    }
    let until = fx.secs() + 30;
    assert_eq!(fx.raw().await.task("a").field("x:adopt"), Some(until.to_string()));
    fx.edit(|state| set_score(state, "lease", "a", until + 90)).await;
    let adopted = fx.storage.adopt(&queue(Q), &call).await.unwrap();
    assert_eq!(ids(&adopted), ["b"], "the other was taken since");
    fx.settled(&adopted[0], retry(fx.after(60))).await;
    assert_eq!(fx.raw().await.task("b").names(), ["msg", "state", "x:at", "x:enq"]);
}

/// rules.md#calls-outlive-actors: the mark of an adoption goes with the next take.
pub(super) async fn a_new_take_clears_the_mark_of_an_adoption(fx: &Fixture) {
    for back in [Outcome::Requeue, retry(fx.now())] {
        fx.enqueue_ids(&["a"]).await;
        let call = fx.storage.begin();
        take_for(fx, &call, 1).await;
        fx.advance(1);
        let adopted = fx.storage.adopt(&queue(Q), &call).await.unwrap();
        fx.settled(&adopted[0], back).await;
        fx.storage.forward(&queue(Q), 10).await.unwrap();
        assert_eq!(
            fx.raw().await.task("a").names(),
            ["msg", "pending_since", "state", "x:enq"]
        );
        let task = fx.take_one().await;
        assert_eq!(fx.raw().await.task("a").names(), ["msg", "state", "x:enq", "x:take"]);
        fx.settled(&task, DONE).await;
    }
}

/// rules.md#calls-outlive-actors: among thousands of active tasks a lost call finds all of its own.
pub(super) async fn adoption_walks_all_of_active(fx: &Fixture) {
    let names: Vec<_> = (0..2500).map(|n| format!("id{n:04}")).collect();
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let (mut lost, mut expected, mut count) = (None, Vec::new(), 0);
    while count < names.len() {
        let call = fx.storage.begin();
        let taken = take_for(fx, &call, 100).await;
        count += taken.len();
        if lost.is_none() {
            expected = ids(&taken).into_iter().map(str::to_owned).collect();
            lost = Some(call);
        }
    }
    let adopted = fx.storage.adopt(&queue(Q), &lost.unwrap()).await.unwrap();
    assert_eq!(ids(&adopted), expected);
}

/// rules.md#fenced-settle: an id that stands in `active` twice, which is damage, is ended once.
pub(super) async fn an_id_twice_in_active_is_ended_once(fx: &Fixture) {
    let (mut processed, mut failed) = (0, 0);
    for (n, outcome) in outcomes(fx.after(60)).into_iter().enumerate() {
        let name = format!("id{n}");
        let task = fx.running(request(Q, &name).retention(60)).await;
        fx.edit(|state| drop(state.insert(key("active"), list(&[&name, &name]))))
            .await;
        let settle = vec![settlement(&task, outcome.clone()), settlement(&task, outcome.clone())];
        let settled = fx.exchange(settle, 0).await.settled;
        assert!(settled[0].is_ok(), "{outcome:?}: {settled:?}");
        assert!(
            matches!(settled[1], Err(SettleError::NotOurs)),
            "{outcome:?}: {settled:?}"
        );
        processed += i64::from(outcome != Outcome::Requeue);
        failed += i64::from(matches!(outcome, Outcome::Retry { .. } | Outcome::Archive { .. }));
        let raw = fx.raw().await;
        let counters = ["processed", "failed"].map(|suffix| raw.string(suffix).unwrap_or_else(|| "0".into()));
        assert_eq!(counters, [processed.to_string(), failed.to_string()], "{outcome:?}");
        // The other entry is healed.
        while !fx.storage.heal(&queue(Q), 100).await.unwrap().is_empty() {}
        assert!(fx.raw().await.list("active").is_empty(), "{outcome:?}");
        fx.take(1)
            .await
            .iter()
            .for_each(|task| assert_eq!(task.lease.id, id(&name)));
        fx.edit(|state| {
            [
                "active",
                "lease",
                &format!("t:{name}"),
                "retry",
                "archived",
                "completed",
            ]
            .iter()
            .for_each(|suffix| drop(state.remove(&key(suffix))));
        })
        .await;
    }
}

/// rules.md#calls-outlive-actors and rules.md#extensions-revive-nothing: an adoption never shortens a lease,
/// though its clock was set back; it tells the one in force.
pub(super) async fn an_adoption_tells_the_lease_in_force(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b"]).await;
    let call = fx.storage.begin();
    take_for(fx, &call, 2).await;
    // What an adoption by a clock ahead of ours wrote.
    let ahead = fx.secs() + 300;
    fx.edit(|state| {
        set_score(state, "lease", "a", ahead);
        set_field(state, "a", "x:adopt", Some(bytes(ahead.to_string())));
    })
    .await;
    let adopted = fx.storage.adopt(&queue(Q), &call).await.unwrap();
    let told: Vec<_> = adopted.iter().map(|task| task.lease.until.0).collect();
    assert_eq!((ids(&adopted), told), (vec!["a", "b"], vec![ahead, fx.secs() + 30]));
    let raw = fx.raw().await;
    assert_eq!(
        raw.zset("lease"),
        [("b".to_owned(), fx.secs() + 30), ("a".to_owned(), ahead)]
    );
    assert_eq!(raw.task("a").field("x:adopt"), Some(ahead.to_string()));
    for task in &adopted {
        fx.settled(task, DONE).await;
    }
}
