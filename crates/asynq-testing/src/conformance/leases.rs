//! Keeping leases (transitions.md#extend-leases, rules.md#extensions-revive-nothing).

use super::kit::*;

/// transitions.md#extend-leases: the lease is now + 30 s again, and the outcome is fenced by what was written.
pub(super) async fn an_extension_writes_a_new_lease(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b"]).await;
    let mut taken = fx.take(2).await;
    fx.advance(10);
    let extended = fx
        .storage
        .extend_leases(vec![taken[0].lease.clone()])
        .await
        .remove(0)
        .unwrap();
    assert_eq!(extended.0, fx.secs() + 30);
    let raw = fx.raw().await;
    assert_eq!(
        raw.zset("lease"),
        [("b".to_owned(), fx.secs() + 20), ("a".to_owned(), fx.secs() + 30)]
    );
    // The old claim does not know the lease in place.
    assert!(matches!(fx.settle(&taken[0], DONE).await, Err(SettleError::NotOurs)));
    taken[0].lease.until = extended;
    fx.settled(&taken[0], DONE).await;
}

/// transitions.md#extend-leases: many leases of several queues in one batch, answered in order.
pub(super) async fn a_batch_of_leases_is_answered_in_order(fx: &Fixture) {
    let mut leases = Vec::new();
    for (name, id) in [("one", "a"), ("two", "b"), ("one", "c")] {
        fx.enqueue(request(name, id)).await;
        let want = vec![Want {
            queue: queue(name),
            max: 1,
        }];
        leases.push(
            fx.storage
                .exchange(&fx.storage.begin(), &[], &want)
                .await
                .leased
                .remove(0)
                .lease,
        );
    }
    leases[1].id = id("never");
    fx.advance(5);
    let answers = fx.storage.extend_leases(leases).await;
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0].as_ref().unwrap().0, fx.secs() + 30);
    assert!(matches!(answers[1], Err(SettleError::NotOurs)));
    assert_eq!(answers[2].as_ref().unwrap().0, fx.secs() + 30);
    assert!(fx.storage.extend_leases(Vec::new()).await.is_empty());
}

/// rules.md#bounded-calls: any number of leases is extended.
pub(super) async fn any_number_of_leases_is_extended(fx: &Fixture) {
    let names: Vec<_> = (0..1500).map(|n| format!("id{n:04}")).collect();
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let mut leases = Vec::new();
    while leases.len() < names.len() {
        leases.extend(fx.take(200).await.into_iter().map(|task| task.lease));
    }
    fx.advance(7);
    let answers = fx.storage.extend_leases(leases).await;
    assert_eq!(
        (answers.len(), answers.iter().filter(|answer| answer.is_ok()).count()),
        (1500, 1500)
    );
    assert!(
        fx.raw()
            .await
            .zset("lease")
            .iter()
            .all(|(_, until)| *until == fx.secs() + 30)
    );
}

/// rules.md#extensions-revive-nothing: an extension never shortens a lease.
pub(super) async fn an_extension_never_shortens(fx: &Fixture) {
    let mut task = fx.running(request(Q, "a")).await;
    let until = fx.secs() + 300;
    fx.edit(|state| set_score(state, "lease", "a", until)).await;
    task.lease.until = asynq_core::broker::LeaseUntil(until + 7);
    let before = fx.raw().await;
    let extended = fx.storage.extend_leases(vec![task.lease.clone()]).await.remove(0);
    assert_eq!(extended.unwrap().0, until, "the lease in force");
    before.assert_same(&fx.raw().await);
}

/// Pitfalls 5.2, rules.md#fenced-settle and rules.md#extensions-revive-nothing: an extension never makes a
/// lease anew, neither of a finished task nor of one that lost it. The latter is still ours, but no more is
/// claimed than what was written before: the claim may name a fence that is above every lease.
pub(super) async fn an_extension_never_makes_a_lease(fx: &Fixture) {
    let done = fx.running(request(Q, "a")).await;
    fx.settled(&done, DONE).await;
    let mut lost = fx.running(request(Q, "b")).await;
    fx.edit(|state| drop(state.remove(&key("lease")))).await;
    fx.advance(7);
    let before = fx.raw().await;
    lost.lease.until = asynq_core::broker::LeaseUntil(fx.secs() + 45);
    let answers = fx.storage.extend_leases(vec![done.lease, lost.lease]).await;
    assert!(matches!(answers[0], Err(SettleError::NotOurs)));
    assert!(matches!(answers[1], Err(SettleError::NoLease)), "{:?}", answers[1]);
    before.assert_same(&fx.raw().await);
    fx.storage.heal(&queue(Q), 10).await.unwrap();
}

/// rules.md#fenced-settle: what happens to leases of a lost task is the fence's matter: an expired lease that
/// nobody took over can still be extended.
pub(super) async fn an_expired_lease_that_nobody_took_can_be_extended(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.advance(100);
    let extended = fx.storage.extend_leases(vec![task.lease]).await.remove(0).unwrap();
    assert_eq!(extended.0, fx.secs() + 30);
}

/// rules.md#check-then-write: a lease set of the wrong type is told.
pub(super) async fn a_lease_set_of_the_wrong_type_is_told(fx: &Fixture) {
    fx.leaves_damage();
    let task = fx.running(request(Q, "a")).await;
    fx.edit(|state| drop(state.insert(key("lease"), string("x")))).await;
    let answer = fx.storage.extend_leases(vec![task.lease]).await.remove(0);
    assert!(
        matches!(answer, Err(SettleError::Broker(BrokerError::WrongType { .. }))),
        "{answer:?}"
    );
}
