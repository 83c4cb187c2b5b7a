//! Cancel requests (transitions.md#cancel).

use super::kit::*;

/// transitions.md#cancel: every subscriber on every connection hears every id, in order.
pub(super) async fn every_subscriber_hears_every_id(fx: &Fixture) {
    let other = fx.connect().await;
    let mut first = fx.storage.subscribe_cancellations().await.unwrap();
    let mut second = other.subscribe_cancellations().await.unwrap();
    for text in ["a", "b c", "ü:{x}"] {
        other.publish_cancellation(&id(text)).await.unwrap();
    }
    for heard in [&mut first, &mut second] {
        for text in ["a", "b c", "ü:{x}"] {
            assert_eq!(heard.next().await, Some(id(text)));
        }
    }
}

/// Pitfalls 5.12: a cancel for nobody is lost and leaves nothing behind.
pub(super) async fn a_cancel_for_nobody_is_lost(fx: &Fixture) {
    fx.storage.publish_cancellation(&id("a")).await.unwrap();
    assert!(fx.raw().await.state.is_empty());
    let mut heard = fx.storage.subscribe_cancellations().await.unwrap();
    fx.storage.publish_cancellation(&id("b")).await.unwrap();
    assert_eq!(heard.next().await, Some(id("b")));
}

/// The contract: a subscription ends with its connection.
pub(super) async fn a_subscription_ends_with_its_connection(fx: &Fixture) {
    let other = fx.connect().await;
    let mut heard = other.subscribe_cancellations().await.unwrap();
    other.close().await;
    assert_eq!(heard.next().await, None);
    let mut heard = fx.storage.subscribe_cancellations().await.unwrap();
    fx.storage.publish_cancellation(&id("a")).await.unwrap();
    assert_eq!(heard.next().await, Some(id("a")), "others are not affected");
}

/// The contract: after `close` everything answers `Closed`; closing twice is fine.
pub(super) async fn a_closed_broker_says_so(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    let other = fx.connect().await;
    other.close().await;
    other.close().await;
    assert!(matches!(other.ping().await, Err(BrokerError::Closed)));
    let answers = other.enqueue(&batch_of([request(Q, "b").build()])).await;
    assert!(
        matches!(answers[..], [Err(EnqueueError::Broker(BrokerError::Closed))]),
        "{answers:?}"
    );
    let want = vec![Want {
        queue: queue(Q),
        max: 1,
    }];
    let answer = other.exchange(&other.begin(), &[], &want).await;
    assert!(
        matches!(answer.failed[..], [(_, BrokerError::Closed)]),
        "{:?}",
        answer.failed
    );
    assert!(matches!(other.forward(&queue(Q), 1).await, Err(BrokerError::Closed)));
    assert!(matches!(other.queues().await, Err(BrokerError::Closed)));
    assert_eq!(fx.raw().await.list("pending"), ["a"]);
    fx.storage.ping().await.unwrap();
}
