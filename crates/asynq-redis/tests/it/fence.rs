//! Calls whose answer was lost, over a proxy that loses it (rules.md#calls-outlive-actors,
//! rules.md#fenced-settle and rules.md#ambiguous-is-a-state).

use asynq_testing::request::batch_of;
use std::{sync::Arc, time::Duration};

use asynq_core::{
    BrokerError, EnqueueError, SettleError, Storage,
    broker::{CallRecord, Exchanged, GroupLimits, Outcome, RECOVER_GRACE, Recovery, Tick, Ticked, Want},
    info::TaskInfo,
};
use asynq_testing::{
    Proxy,
    request::{group, request},
};

use crate::support::{Bench, DONE, connect, ids, key, q, retry, settlement, tick};

/// A broker whose way to the server leads over a proxy.
async fn behind_proxy(bench: &Bench) -> (Proxy, Arc<dyn Storage>) {
    let proxy = Proxy::start(&bench.server).await;
    let storage = connect(&proxy.url(), &bench.clock, 2).await;
    (proxy, storage)
}

async fn take(storage: &dyn Storage, call: &CallRecord, max: u32) -> Exchanged {
    storage.exchange(call, &[], &[Want { queue: q(), max }]).await
}

/// The scripts are known to the server from here on, so that a fault strikes the call itself.
async fn warm_up(storage: &dyn Storage) {
    let call = storage.begin();
    assert!(take(storage, &call, 1).await.failed.is_empty());
    storage.adopt(&q(), &call).await.unwrap();
}

fn is_ambiguous(answer: &Exchanged) -> bool {
    matches!(answer.failed.as_slice(), [(queue, BrokerError::Ambiguous { .. })] if *queue == q())
}

#[tokio::test]
async fn a_take_whose_answer_was_lost_is_adopted() {
    let bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    warm_up(&*storage).await;
    bench.enqueue_ids(&["a", "b", "c"]).await;
    let call = storage.begin();
    proxy.lose_next_reply();
    let answer = take(&*storage, &call, 2).await;
    assert!(is_ambiguous(&answer), "{answer:?}");
    bench.advance(10);
    let adopted = storage.adopt(&q(), &call).await.unwrap();
    assert_eq!(ids(&adopted), ["a", "b"]);
    assert_eq!(adopted[0].lease.until.0, bench.secs() + 30);
    for task in &adopted {
        let call = storage.begin();
        storage
            .exchange(&call, &[settlement(task, DONE)], &[])
            .await
            .settled
            .remove(0)
            .unwrap();
    }
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn a_take_that_was_under_way_can_not_run_after_its_adoption() {
    let mut bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    warm_up(&*storage).await;
    bench.enqueue_ids(&["a"]).await;
    let call = storage.begin();
    let mut held = proxy.hold_next_request();
    let answer = take(&*storage, &call, 1).await;
    assert!(is_ambiguous(&answer), "{answer:?}");
    held.caught().await;
    assert!(storage.adopt(&q(), &call).await.unwrap().is_empty());
    assert_eq!(held.release().await, None, "its connection was closed");
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 1);
}

#[tokio::test]
async fn an_adoption_whose_answer_was_lost_can_be_repeated() {
    let bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    warm_up(&*storage).await;
    bench.enqueue_ids(&["a", "b"]).await;
    let call = storage.begin();
    proxy.lose_next_reply();
    take(&*storage, &call, 2).await;
    for _ in 0..2 {
        bench.advance(7);
        proxy.lose_next_reply();
        let lost = storage.adopt(&q(), &call).await;
        assert!(matches!(lost, Err(BrokerError::Ambiguous { .. })), "{lost:?}");
    }
    bench.advance(7);
    let adopted = storage.adopt(&q(), &call).await.unwrap();
    assert_eq!(ids(&adopted), ["a", "b"]);
    assert_eq!(adopted[1].lease.until.0, bench.secs() + 30);
}

#[tokio::test]
async fn what_go_took_is_not_adopted_even_if_the_adoption_is_repeated() {
    let mut bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    warm_up(&*storage).await;
    bench.enqueue_ids(&["a", "b"]).await;
    let call = storage.begin();
    proxy.lose_next_reply();
    take(&*storage, &call, 2).await;
    // Go's recoverer retries it, its forwarder forwards it, its worker takes it: the hash keeps our
    // token, the lease is Go's, and below what our adoption is going to write.
    bench.advance(61);
    let lease = (bench.secs() + 30).to_string();
    bench.raw(&["ZADD", &key("lease"), &lease, "a"]).await;
    bench.advance(3);
    proxy.lose_next_reply();
    assert!(storage.adopt(&q(), &call).await.is_err());
    assert_eq!(ids(&storage.adopt(&q(), &call).await.unwrap()), ["b"]);
    assert_eq!(bench.raw(&["ZSCORE", &key("lease"), "a"]).await.text(), lease);
}

#[tokio::test]
async fn outcomes_can_be_offered_again_after_an_answer_was_lost() {
    let mut bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    warm_up(&*storage).await;
    bench.enqueue_ids(&["a", "b"]).await;
    let call = storage.begin();
    let taken = take(&*storage, &call, 2).await.leased;
    let settle = || {
        vec![
            settlement(&taken[0], DONE),
            settlement(&taken[1], retry(bench.after(60))),
        ]
    };
    proxy.lose_next_reply();
    let call = storage.begin();
    let lost = storage.exchange(&call, &settle(), &[]).await;
    assert!(is_ambiguous(&lost), "{lost:?}");
    for answer in &lost.settled {
        assert!(
            matches!(answer, Err(SettleError::Broker(BrokerError::Ambiguous { .. }))),
            "{answer:?}"
        );
    }
    // Somebody enqueues and takes a task of the same id meanwhile: it is not touched.
    bench.enqueue_ids(&["a"]).await;
    assert_eq!(ids(&bench.take(1).await), ["a"]);
    storage.adopt(&q(), &call).await.unwrap();
    let again = storage.exchange(&storage.begin(), &settle(), &[]).await;
    for answer in &again.settled {
        assert!(matches!(answer, Err(SettleError::NotOurs)), "{answer:?}");
    }
    assert_eq!(bench.raw_int(&["GET", &key("processed")]).await, 2);
    assert_eq!(bench.raw_int(&["LLEN", &key("active")]).await, 1);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn nothing_is_sent_for_a_call_whose_connection_is_gone() {
    let mut bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    bench.enqueue_ids(&["a", "b"]).await;
    let call = storage.begin();
    let taken = take(&*storage, &call, 1).await.leased;
    let stale = storage.begin();
    proxy.cut_all();
    // The next call finds a new connection.
    while storage.ping().await.is_err() || storage.begin().connection == stale.connection {
        tokio::task::yield_now().await;
    }
    let want = vec![Want { queue: q(), max: 5 }];
    let answer = storage.exchange(&stale, &[settlement(&taken[0], DONE)], &want).await;
    assert!(matches!(
        answer.settled[0],
        Err(SettleError::Broker(BrokerError::Unavailable { .. }))
    ));
    assert!(
        matches!(answer.failed.as_slice(), [(_, BrokerError::Unavailable { .. })]),
        "{:?}",
        answer.failed
    );
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 1);
    assert_eq!(bench.raw_int(&["EXISTS", &key("t:a")]).await, 1);
}

#[tokio::test]
async fn an_enqueue_whose_answer_was_lost_can_be_repeated() {
    let mut bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    bench.enqueue_ids(&["warm"]).await;
    let batch = || {
        vec![
            request("q", "a").token(1).build(),
            request("q", "b").token(2).unique(Duration::from_secs(60)).build(),
            request("q", "c").token(3).at(bench.after(60)).build(),
            request("q", "d")
                .token(4)
                .group("g")
                .unique(Duration::from_secs(60))
                .payload("p")
                .build(),
        ]
    };
    proxy.lose_next_reply();
    for answer in storage.enqueue(&batch_of(batch())).await {
        assert!(
            matches!(answer, Err(EnqueueError::Broker(BrokerError::Ambiguous { .. }))),
            "{answer:?}"
        );
    }
    for answer in storage.enqueue(&batch_of(batch())).await {
        answer.unwrap();
    }
    // Another request is told the truth.
    let others = vec![
        request("q", "a").build(),
        request("q", "e").unique(Duration::from_secs(60)).build(),
        request("q", "b")
            .token(2)
            .unique(Duration::from_secs(60))
            .payload("p")
            .build(),
    ];
    let answers = storage.enqueue(&batch_of(others)).await;
    assert!(
        matches!(answers[0], Err(EnqueueError::TaskIdConflict)),
        "{:?}",
        answers[0]
    );
    assert!(
        matches!(answers[1], Err(EnqueueError::DuplicateTask)),
        "{:?}",
        answers[1]
    );
    assert!(
        matches!(answers[2], Err(EnqueueError::DuplicateTask)),
        "{:?}",
        answers[2]
    );
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 3);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn a_recovery_whose_answer_was_lost_can_be_repeated() {
    let mut bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    bench.enqueue_ids(&["a"]).await;
    bench.take(1).await;
    bench.advance(60);
    let expired = storage.expired(&q(), RECOVER_GRACE, 10).await.unwrap().tasks;
    let batch = || {
        vec![Recovery {
            task: expired[0].clone(),
            outcome: retry(bench.after(1)),
        }]
    };
    // The script is not known yet, and only the call that runs it is struck.
    proxy.lose_next_reply();
    assert!(matches!(
        storage.recover(batch()).await.remove(0),
        Err(SettleError::Broker(BrokerError::Ambiguous { .. }))
    ));
    assert!(matches!(
        storage.recover(batch()).await.remove(0),
        Err(SettleError::NotOurs)
    ));
    assert_eq!(bench.raw_int(&["GET", &key("failed")]).await, 1);
}

#[tokio::test]
async fn an_aggregation_whose_answer_was_lost_can_be_finished_again() {
    let mut bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    bench
        .enqueue(vec![request("q", "a").group("g"), request("q", "b").group("g")])
        .await;
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    let set = storage.collect_group(&q(), &group("g"), limits).await.unwrap().unwrap();
    let result = request("q", "all").build();
    proxy.lose_next_reply();
    let lost = storage.finish_aggregation(&set, result.clone()).await;
    assert!(
        matches!(lost, Err(EnqueueError::Broker(BrokerError::Ambiguous { .. }))),
        "{lost:?}"
    );
    storage.finish_aggregation(&set, result).await.unwrap();
    let other = storage.finish_aggregation(&set, request("q", "other").build()).await;
    assert!(
        matches!(other, Err(EnqueueError::Broker(BrokerError::AggregationSetGone { .. }))),
        "{other:?}"
    );
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 1);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn a_lease_above_the_claim_is_another_owners() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a"]).await;
    let task = bench.take(1).await.remove(0);
    let higher = (task.lease.until.0 + 1).to_string();
    bench.raw(&["ZADD", &key("lease"), &higher, "a"]).await;
    for outcome in [DONE, retry(bench.after(9)), Outcome::Requeue] {
        assert!(matches!(bench.settle(&task, outcome).await, Err(SettleError::NotOurs)));
    }
    assert!(matches!(
        bench.storage.write_result(&task.lease, "r".into()).await,
        Err(SettleError::NotOurs)
    ));
    bench
        .raw(&["ZADD", &key("lease"), &task.lease.until.0.to_string(), "a"])
        .await;
    bench.settle(&task, DONE).await.unwrap();
}

/// rules.md#ambiguous-is-a-state and rules.md#one-tick-one-task: the request sent again for its tick is
/// answered as the answer that was lost.
#[tokio::test]
async fn a_tick_whose_answer_was_lost_can_be_repeated() {
    let bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    let unique = |id: &str, token| {
        let new = request("q", id).payload("p").unique(Duration::from_secs(60));
        new.token(token).build()
    };
    let lose = async |id: &str, token, tick: &Tick| {
        proxy.lose_next_reply();
        let answer = storage.enqueue_tick(unique(id, token), tick).await;
        assert!(
            matches!(answer, Err(EnqueueError::Broker(BrokerError::Ambiguous { .. }))),
            "{answer:?}"
        );
    };
    // The script is known to the server from here on.
    let other = bench
        .storage
        .enqueue_tick(request("other", "a").build(), &tick(&bench, 0))
        .await;
    enqueued(other);

    lose("a", 1, &tick(&bench, 0)).await;
    let another = bench.storage.enqueue_tick(unique("b", 2), &tick(&bench, 0)).await;
    assert!(matches!(another, Ok(Ticked::Taken { .. })), "{another:?}");
    for _ in 0..2 {
        assert_eq!(
            enqueued(storage.enqueue_tick(unique("a", 1), &tick(&bench, 0)).await).id,
            "a"
        );
    }

    // A duplicate decides its tick, and is told again when the lock is gone.
    lose("b", 3, &tick(&bench, 1)).await;
    let task = bench.take(1).await.remove(0);
    bench.settled(&task, DONE).await;
    let again = storage.enqueue_tick(unique("b", 3), &tick(&bench, 1)).await;
    assert!(matches!(again, Err(EnqueueError::DuplicateTask)), "{again:?}");

    // A later tick was decided before the request came again: the task itself tells.
    lose("c", 4, &tick(&bench, 2)).await;
    let later = request("q", "d").build();
    enqueued(bench.storage.enqueue_tick(later, &tick(&bench, 3)).await);
    assert_eq!(
        enqueued(storage.enqueue_tick(unique("c", 4), &tick(&bench, 2)).await).id,
        "c"
    );
    assert_eq!(ids(&bench.take(9).await), ["c", "d"]);
    assert_eq!(bench.audit(&q()).await, []);
}

fn enqueued(answer: Result<Ticked, EnqueueError>) -> TaskInfo {
    match answer {
        Ok(Ticked::Enqueued(info)) => info,
        other => panic!("{other:?}"),
    }
}

/// A request that is still on its way when it is sent again enqueues nothing more.
#[tokio::test]
async fn a_tick_that_was_under_way_enqueues_nothing_more() {
    let mut bench = Bench::start().await;
    let (proxy, storage) = behind_proxy(&bench).await;
    let new = || request("q", "a").token(1).build();
    enqueued(
        storage
            .enqueue_tick(request("other", "a").build(), &tick(&bench, 0))
            .await,
    );
    let mut held = proxy.hold_next_request();
    let answer = storage.enqueue_tick(new(), &tick(&bench, 0)).await;
    assert!(
        matches!(answer, Err(EnqueueError::Broker(BrokerError::Ambiguous { .. }))),
        "{answer:?}"
    );
    held.caught().await;
    enqueued(storage.enqueue_tick(new(), &tick(&bench, 0)).await);
    let task = bench.take(1).await.remove(0);
    bench.settled(&task, DONE).await;
    held.release().await;
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 0);
}
