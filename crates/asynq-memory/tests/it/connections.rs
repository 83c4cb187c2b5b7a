//! Several connections to one store.

use asynq_testing::request::batch_of;
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use asynq_core::{
    Broker as _, BrokerError, Clock, Connector as _, Entropy, Env, Inspect as _, SettleError,
    broker::{Cancellations, LeaseRef, Outcome, RECOVER_GRACE, Wake, Want, WatchKind},
};
use asynq_memory::MemoryStore;
use asynq_testing::request;
use chrono::{TimeDelta, Utc};

use crate::kit::{Kit, id, queue, settlement};

#[tokio::test]
async fn connections_share_the_data_and_differ_in_tokens() {
    let kit = Kit::new();
    let other = kit.connect();
    kit.enqueue(request("q", "a").build()).await;
    assert_eq!(other.queue_info(&queue()).await.unwrap().pending, 1);
    assert_eq!(kit.broker.raw_state(), other.raw_state());
    let (ours, theirs) = (kit.broker.begin(), other.begin());
    assert_ne!(ours.token, theirs.token);
    assert_ne!(ours.connection, theirs.connection);
    assert_ne!(kit.broker.begin().token, ours.token);
}

#[tokio::test]
async fn a_connector_opens_the_same_store_again() {
    let store = MemoryStore::new();
    let first = store.connect(Env::default()).await.unwrap();
    first
        .enqueue(&batch_of([request("q", "a").build()]))
        .await
        .remove(0)
        .unwrap();
    first.close().await;
    let second = store.connect(Env::default()).await.unwrap();
    assert_eq!(second.queues().await.unwrap(), [queue()]);
    assert_eq!(store.describe(), "memory");
    assert!(format!("{store:?} {second:?}").contains("MemoryBroker"));
}

#[tokio::test]
async fn closing_a_connection_closes_that_one_only() {
    let kit = Kit::new();
    let other = kit.connect();
    kit.enqueue(request("q", "a").build()).await;
    let taken = kit.take(1).await.leased.remove(0);
    let mut watch = kit.broker.watch(&[queue()], WatchKind::Pending).await.unwrap();
    let mut others_watch = other.watch(&[queue()], WatchKind::Pending).await.unwrap();
    let mut ids = kit.broker.subscribe_cancellations().await.unwrap();

    kit.broker.close().await;
    kit.broker.close().await;
    assert_eq!(watch.changed().await, Wake::Lost);
    assert_eq!(ids.next().await, None);
    assert!(matches!(kit.broker.ping().await, Err(BrokerError::Closed)));
    assert!(matches!(kit.broker.queues().await, Err(BrokerError::Closed)));
    let want = vec![Want { queue: queue(), max: 1 }];
    let refused = kit
        .broker
        .exchange(&kit.broker.begin(), &[settlement(&taken, Outcome::Requeue)], &want)
        .await;
    assert!(matches!(
        refused.settled[..],
        [Err(SettleError::Broker(BrokerError::Closed))]
    ));
    assert!(matches!(&refused.failed[..], [(_, BrokerError::Closed)]));

    other.ping().await.unwrap();
    other
        .enqueue(&batch_of([request("q", "b").build()]))
        .await
        .remove(0)
        .unwrap();
    assert_eq!(others_watch.changed().await, Wake::Changed);
}

#[tokio::test]
async fn a_connection_ends_with_its_last_clone() {
    let kit = Kit::new();
    let other = kit.connect();
    let clone = other.clone();
    let mut watch = other.watch(&[queue()], WatchKind::Delayed).await.unwrap();
    drop(other);
    clone.ping().await.unwrap();
    drop(clone);
    assert_eq!(watch.changed().await, Wake::Lost);
    kit.broker.ping().await.unwrap();
}

#[tokio::test]
async fn a_lost_call_is_adopted_from_another_connection() {
    let kit = Kit::new();
    for name in ["a", "b", "c"] {
        kit.enqueue(request("q", name).build()).await;
    }
    let call = kit.broker.begin();
    let want = vec![Want { queue: queue(), max: 2 }];
    drop(kit.broker.exchange(&call, &[], &want).await);
    kit.advance(5);
    let adopted = kit.connect().adopt(&queue(), &call).await.unwrap();
    let names: Vec<_> = adopted.iter().map(|task| task.message.id.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(adopted[0].lease.until.0, call.lease_until.0 + 5);
}

#[tokio::test]
async fn every_subscriber_hears_a_cancellation_and_a_slow_one_is_cut_off() {
    let kit = Kit::new();
    let other = kit.connect();
    let mut first: Cancellations = kit.broker.subscribe_cancellations().await.unwrap();
    let mut second = other.subscribe_cancellations().await.unwrap();
    other.publish_cancellation(&id("a")).await.unwrap();
    assert_eq!(first.next().await, Some(id("a")));
    assert_eq!(second.next().await, Some(id("a")));
    for n in 0..10_000 {
        kit.broker.publish_cancellation(&id(&format!("t{n}"))).await.unwrap();
        assert_eq!(first.next().await, Some(id(&format!("t{n}"))));
    }
    let mut heard = 0;
    while second.next().await.is_some() {
        heard += 1;
    }
    assert!(heard > 1000 && heard < 10_000, "{heard}");
}

#[tokio::test]
async fn a_fence_of_another_connection_holds() {
    let kit = Kit::new();
    kit.enqueue(request("q", "a").build()).await;
    let taken = kit.take(1).await.leased.remove(0);
    let stranger = LeaseRef {
        token: kit.connect().begin().token,
        ..taken.lease.clone()
    };
    let answers = kit.connect().extend_leases(vec![stranger, taken.lease]).await;
    assert!(matches!(answers[..], [Err(SettleError::NotOurs), Ok(_)]));
}

#[tokio::test]
async fn stores_are_apart() {
    let (one, two) = (Kit::new(), Kit::new());
    one.enqueue(request("q", "a").build()).await;
    assert!(two.broker.raw_state().is_empty());
    assert!(Arc::new(two.store).raw_state().is_empty());
}

/// The store keeps no time of its own, so its connections go by the wall clock. Owners extend their leases by the
/// new time before anything is taken from them.
#[tokio::test]
async fn nothing_is_taken_over_soon_after_a_step_of_the_wall_clock() {
    let step = Arc::new(AtomicI64::new(0));
    let read = Arc::clone(&step);
    let env = Env {
        clock: Clock::with_wall(move || Utc::now() + TimeDelta::seconds(read.load(Ordering::SeqCst))),
        entropy: Entropy::seeded(1),
    };
    let store = MemoryStore::new();
    let (storage, fresh) = (
        store.connect(env.clone()).await.unwrap(),
        store.connect(env).await.unwrap(),
    );
    storage
        .enqueue(&batch_of([request("q", "a").build()]))
        .await
        .remove(0)
        .unwrap();
    let want = vec![Want { queue: queue(), max: 1 }];
    assert_eq!(storage.exchange(&storage.begin(), &[], &want).await.leased.len(), 1);
    let expired = async || storage.expired(&queue(), RECOVER_GRACE, 10).await.unwrap().tasks.len();
    assert_eq!(expired().await, 0);
    step.store(65, Ordering::SeqCst);
    assert_eq!((expired().await, expired().await), (0, 0));
    let found = fresh.expired(&queue(), RECOVER_GRACE, 10).await.unwrap();
    assert_eq!(found.tasks.len(), 1, "one that saw no step");
}
