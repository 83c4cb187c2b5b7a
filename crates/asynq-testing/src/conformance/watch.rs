//! Wake-ups (rules.md#watches-only-read, rules.md#watches-are-proven and rules.md#calm-wake-ups). A storage
//! without watches says `Unsupported`.

use asynq_core::broker::{Wake, Watch, WatchKind};
use tokio::time::timeout;

use super::kit::*;

/// A watch, or none where only polling is to be had.
async fn watch(fx: &Fixture, queues: &[&str], kind: WatchKind) -> Option<Watch> {
    let queues: Vec<_> = queues.iter().map(|name| queue(name)).collect();
    match fx.storage.watch(&queues, kind).await {
        Ok(watch) => Some(watch),
        Err(BrokerError::Unsupported { .. }) => None,
        Err(other) => panic!("watch: {other:?}"),
    }
}

async fn wakes(watch: &mut Watch) {
    let woken = timeout(LIMIT, watch.changed()).await;
    assert_eq!(
        woken.unwrap_or_else(|_| panic!("the watch does not wake")),
        Wake::Changed
    );
}

async fn sleeps(watch: &mut Watch) {
    assert!(
        timeout(Duration::from_millis(30), watch.changed()).await.is_err(),
        "nothing has happened"
    );
}

/// Tasks that are there already are reported at once.
pub(super) async fn what_is_there_is_told_at_once(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    if let Some(mut watch) = watch(fx, &["other", Q], WatchKind::Pending).await {
        wakes(&mut watch).await;
        wakes(&mut watch).await;
    }
}

/// A push to any of the queues wakes, on whatever connection it came; nothing else does.
pub(super) async fn a_push_wakes(fx: &Fixture) {
    let other = fx.connect().await;
    for storage in [&fx.storage, &other] {
        let Some(mut watch) = watch(fx, &["one", "two"], WatchKind::Pending).await else {
            return;
        };
        storage
            .enqueue(&batch_of([request("three", "a").build()]))
            .await
            .remove(0)
            .ok();
        sleeps(&mut watch).await;
        storage
            .enqueue(&batch_of([request("two", "a").build()]))
            .await
            .remove(0)
            .unwrap();
        wakes(&mut watch).await;
        let want = vec![Want {
            queue: queue("two"),
            max: 1,
        }];
        let task = fx
            .storage
            .exchange(&fx.storage.begin(), &[], &want)
            .await
            .leased
            .remove(0);
        fx.settled(&task, DONE).await;
    }
}

/// Whatever makes a task pending wakes: forward, requeue and recovery too.
pub(super) async fn every_way_into_pending_wakes(fx: &Fixture) {
    fx.enqueue(request(Q, "a").at(fx.now())).await;
    let Some(mut forwarded) = watch(fx, &[Q], WatchKind::Pending).await else {
        return;
    };
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    wakes(&mut forwarded).await;
    let task = fx.take_one().await;
    let Some(mut requeued) = watch(fx, &[Q], WatchKind::Pending).await else {
        return;
    };
    sleeps(&mut requeued).await;
    fx.settled(&task, Outcome::Requeue).await;
    wakes(&mut requeued).await;
}

/// A paused queue has nothing to take; the end of the pause wakes.
pub(super) async fn the_end_of_a_pause_wakes(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    fx.storage.pause(&queue(Q)).await.unwrap();
    let Some(mut watch) = watch(fx, &[Q], WatchKind::Pending).await else {
        return;
    };
    sleeps(&mut watch).await;
    fx.storage.unpause(&queue(Q)).await.unwrap();
    wakes(&mut watch).await;
}

/// A change of the delayed tasks wakes: a new one that waits, a retry.
pub(super) async fn a_new_delayed_task_wakes(fx: &Fixture) {
    let Some(mut scheduled) = watch(fx, &[Q], WatchKind::Delayed).await else {
        return;
    };
    sleeps(&mut scheduled).await;
    fx.enqueue(request(Q, "a").at(fx.after(60))).await;
    wakes(&mut scheduled).await;
    let task = fx.running(request(Q, "b")).await;
    let Some(mut retried) = watch(fx, &[Q], WatchKind::Delayed).await else {
        return;
    };
    fx.settled(&task, retry(fx.after(60))).await;
    wakes(&mut retried).await;
}

/// A task that waits for a later time is no reason to wake at once.
pub(super) async fn a_task_that_waits_is_not_told_at_once(fx: &Fixture) {
    fx.enqueue(request(Q, "a").at(fx.after(60))).await;
    if let Some(mut watch) = watch(fx, &[Q], WatchKind::Delayed).await {
        sleeps(&mut watch).await;
    }
}

/// The contract: a watch is lost with its connection.
pub(super) async fn a_watch_is_lost_with_its_connection(fx: &Fixture) {
    let other = fx.connect().await;
    let Ok(mut watch) = other.watch(&[queue(Q)], WatchKind::Pending).await else {
        return;
    };
    other.close().await;
    let woken = timeout(LIMIT, watch.changed()).await;
    assert_eq!(woken.unwrap_or_else(|_| panic!("the watch does not end")), Wake::Lost);
}
