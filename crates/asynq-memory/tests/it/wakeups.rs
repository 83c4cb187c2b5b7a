//! Watches: what ends one, and what does not.

use std::time::Duration;

use asynq_core::{
    Broker as _, Inspect as _, QueueName,
    broker::{Outcome, Wake, Watch, WatchKind},
};
use asynq_testing::request;
use chrono::TimeDelta;
use tokio::time::timeout;

use crate::kit::{Kit, queue};

async fn sleeps(watch: &mut Watch) -> bool {
    timeout(Duration::from_millis(5), watch.changed()).await.is_err()
}

async fn pending(kit: &Kit) -> Watch {
    kit.broker.watch(&[queue()], WatchKind::Pending).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_push_ends_a_watch_on_pending_tasks() {
    let kit = Kit::new();
    let mut watch = pending(&kit).await;
    assert!(sleeps(&mut watch).await);
    kit.enqueue(request("other", "a").build()).await;
    assert!(sleeps(&mut watch).await);
    kit.enqueue(request("q", "a").build()).await;
    assert_eq!(watch.changed().await, Wake::Changed);
    assert_eq!(watch.changed().await, Wake::Changed);
    // There is something at the first look.
    assert_eq!(pending(&kit).await.changed().await, Wake::Changed);
}

#[tokio::test(start_paused = true)]
async fn what_becomes_pending_in_any_way_ends_the_watch() {
    let kit = Kit::new();
    let later = kit.clock.now() + TimeDelta::seconds(10);
    kit.enqueue(request("q", "late").at(later).build()).await;
    let mut watch = pending(&kit).await;
    kit.advance(10);
    assert!(sleeps(&mut watch).await);
    assert_eq!(kit.broker.forward(&queue(), 100).await.unwrap().moved, 1);
    assert_eq!(watch.changed().await, Wake::Changed);

    let task = kit.take(1).await.leased.remove(0);
    let mut watch = pending(&kit).await;
    assert!(sleeps(&mut watch).await);
    kit.settle(&task, Outcome::Requeue).await;
    assert_eq!(watch.changed().await, Wake::Changed);
}

#[tokio::test(start_paused = true)]
async fn a_paused_queue_wakes_nobody_until_its_pause_ends() {
    let kit = Kit::new();
    kit.broker.pause(&queue()).await.unwrap();
    kit.enqueue(request("q", "a").build()).await;
    let mut watch = pending(&kit).await;
    kit.enqueue(request("q", "b").build()).await;
    assert!(sleeps(&mut watch).await);
    kit.broker.unpause(&queue()).await.unwrap();
    assert_eq!(watch.changed().await, Wake::Changed);
}

#[tokio::test(start_paused = true)]
async fn new_delayed_tasks_end_a_watch_on_them() {
    let kit = Kit::new();
    let delayed = || async { kit.broker.watch(&[queue()], WatchKind::Delayed).await.unwrap() };
    let mut watch = delayed().await;
    kit.enqueue(request("q", "a").build()).await;
    assert!(sleeps(&mut watch).await);
    kit.enqueue(request("q", "b").at(kit.clock.now() + TimeDelta::hours(1)).build())
        .await;
    assert_eq!(watch.changed().await, Wake::Changed);

    let task = kit.take(1).await.leased.remove(0);
    let mut watch = delayed().await;
    let retry = Outcome::Retry {
        at: kit.clock.now(),
        error: "e".into(),
        is_failure: true,
    };
    kit.settle(&task, retry).await;
    assert_eq!(watch.changed().await, Wake::Changed);

    // Tasks that leave the set are no news.
    let mut watch = delayed().await;
    assert_eq!(kit.broker.forward(&queue(), 100).await.unwrap().moved, 1);
    assert!(sleeps(&mut watch).await);
}

#[tokio::test(start_paused = true)]
async fn one_watch_looks_at_many_queues() {
    let kit = Kit::new();
    let names: Vec<_> = ["x", "y", "q"].map(|name| QueueName::new(name).unwrap()).into();
    for round in 0..50 {
        let mut watch = kit.broker.watch(&names, WatchKind::Pending).await.unwrap();
        assert!(sleeps(&mut watch).await);
        kit.enqueue(request("q", &format!("t{round}")).build()).await;
        assert_eq!(watch.changed().await, Wake::Changed);
        let task = kit.take(1).await.leased.remove(0);
        kit.settle(&task, Outcome::Done { retain: true }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_waiters_on_many_threads_miss_nothing() {
    let kit = Kit::new();
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let broker = kit.connect();
            async move {
                let mut watch = broker.watch(&[queue()], WatchKind::Pending).await.unwrap();
                timeout(Duration::from_secs(30), watch.changed()).await.unwrap()
            }
        })
        .collect();
    let mut set = tokio::task::JoinSet::new();
    for waiter in waiting {
        set.spawn(waiter);
    }
    tokio::task::yield_now().await;
    kit.enqueue(request("q", "a").build()).await;
    while let Some(woken) = set.join_next().await {
        assert_eq!(woken.unwrap(), Wake::Changed);
    }
}
