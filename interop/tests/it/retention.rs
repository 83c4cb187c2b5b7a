//! Tasks kept by one side are deleted by the other when their time is over. Time is helped along: the side that
//! keeps them looks for what has expired, too.

use std::time::Duration;

use asynq::TaskState;
use asynq_interop::GoTask;

use crate::{
    pair::Pair,
    sides::{Producer, Runner, Settings, Side},
};

#[tokio::test]
async fn expired_tasks_are_deleted_by_either_side() {
    tokio::join!(kept_by(Side::Go), kept_by(Side::Rust));
}

async fn kept_by(side: Side) {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(side.other(), &pair.redis).await;
    let settings = Settings {
        janitor_every: Duration::from_secs(3600),
        ..Settings::default()
    };
    let mut runner = Runner::start(side, &pair, &settings).await;
    for (id, retention) in [("short", 600_000), ("long", 3_600_000)] {
        let orders = r#"{"do":"result","data":"kept"}"#;
        client
            .enqueue(&GoTask::new("t").payload(orders).id(id).retention_ms(retention))
            .await;
        runner.ended(id).await;
    }
    runner.shutdown().await;
    assert_eq!(pair.list("default", TaskState::Completed).await.len(), 2);
    let mut redis = pair.redis.client().await;
    for id in ["short", "long"] {
        let ten_minutes = ["ZINCRBY", "asynq:{default}:completed", "-600", id];
        redis.ok(&ten_minutes).await;
    }

    let janitor = Runner::start(side.other(), &pair, &Settings::default()).await;
    pair.until_gone("default", "short").await;
    let left: Vec<_> = pair
        .list("default", TaskState::Completed)
        .await
        .into_iter()
        .map(|info| info.id)
        .collect();
    assert_eq!(left, ["long"]);
    janitor.shutdown().await;
    assert_eq!(pair.breaches().await, []);
}
