//! A queue paused by one side is left alone by the other.

use asynq::{TaskState, error::BrokerError};
use asynq_interop::GoTask;

use crate::{
    pair::{Pair, queue_name},
    sides::{Producer, Runner, Settings, Side},
};

#[tokio::test]
async fn a_pause_by_go_stops_our_running_system() {
    pause(Side::Rust).await;
}

#[tokio::test]
async fn a_pause_by_us_stops_a_go_server() {
    pause(Side::Go).await;
}

/// `runner` is paused by the other side.
async fn pause(runner: Side) {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(runner, &pair.redis).await;
    let settings = Settings {
        concurrency: 1,
        ..Settings::queues(&["default", "low"])
    };
    let mut server = Runner::start(runner, &pair, &settings).await;
    let before = client.enqueue(&GoTask::new("before")).await;
    pair.until_gone("default", &before.id).await;

    set_paused(&mut pair, runner.other(), true).await;
    assert!(pair.queue("default").await.paused);
    assert!(matches!(
        pair.storage.pause(&queue_name("default")).await,
        Err(BrokerError::AlreadyPaused { .. })
    ));
    pair.go.pause("default").await.unwrap_err();
    let during = client.enqueue(&GoTask::new("during").id("during")).await;
    // The server looks at all its queues again for each of these, one after the other.
    for _ in 0..5 {
        let other = client.enqueue(&GoTask::new("other").queue("low")).await;
        server.ended(&other.id).await;
        pair.until_gone("low", &other.id).await;
    }
    assert_eq!(pair.look("default", &during.id).await.unwrap().state, "pending");
    let due = client.enqueue(&GoTask::new("due").process_in_ms(1)).await;
    pair.until("default", &due.id, TaskState::Pending).await;
    assert!(!server.unexpected().contains(&during.id));

    set_paused(&mut pair, runner.other(), false).await;
    server.started(&during.id).await;
    pair.until_gone("default", &during.id).await;
    pair.until_gone("default", &due.id).await;
    assert!(!pair.queue("default").await.paused);
    assert!(matches!(
        pair.storage.unpause(&queue_name("default")).await,
        Err(BrokerError::NotPaused { .. })
    ));
    server.shutdown().await;
}

async fn set_paused(pair: &mut Pair, by: Side, paused: bool) {
    let queue = queue_name("default");
    match (by, paused) {
        (Side::Go, true) => pair.go.pause("default").await.unwrap(),
        (Side::Go, false) => pair.go.unpause("default").await.unwrap(),
        (Side::Rust, true) => pair.storage.pause(&queue).await.unwrap(),
        (Side::Rust, false) => pair.storage.unpause(&queue).await.unwrap(),
    }
}
