//! A producer of ours waits for the ends of its tasks, whoever runs them.

use std::time::Duration;

use asynq::client::{Client, Waited};
use asynq::task::{Task, TaskInfo};

use crate::{
    pair::{Pair, connector},
    sides::{Runner, Settings, Side},
};

const MINUTE: Duration = Duration::from_secs(60);

async fn enqueue(client: &Client, orders: &str, retention: Option<Duration>) -> TaskInfo {
    let task = Task::new("t", orders.as_bytes()).unwrap();
    let task = match retention {
        Some(retention) => task.with_retention(retention),
        None => task,
    };
    client.enqueue(task).await.unwrap()
}

async fn run_by(side: Side) {
    let pair = Pair::start().await;
    let client = Client::new(connector(&pair.redis)).await.unwrap();
    let runner = Runner::start(side, &pair, &Settings::default()).await;
    let kept = enqueue(&client, r#"{"do":"result","data":"42 pages"}"#, Some(MINUTE)).await;
    let failed = enqueue(&client, r#"{"do":"skip_retry","error":"no such user"}"#, Some(MINUTE)).await;
    let vanished = enqueue(&client, r#"{"do":"result","data":"42 pages"}"#, None).await;
    let later = client.enqueue_in(Task::new("t", b"").unwrap(), MINUTE).await.unwrap();
    let wait = async |info: &TaskInfo| client.wait(info, MINUTE).await.unwrap();
    let (kept, failed, vanished) = tokio::join!(wait(&kept), wait(&failed), wait(&vanished));
    assert_eq!(
        kept.result().map(|result| &result[..]),
        Some(&b"42 pages"[..]),
        "{kept:?}"
    );
    assert!(
        matches!(&failed, Waited::Archived(info) if info.last_error.contains("no such user")),
        "{failed:?}"
    );
    assert_eq!(vanished, Waited::Gone);
    let later = client.wait(&later, Duration::from_millis(50)).await.unwrap();
    assert!(matches!(later, Waited::NotYet(_)), "{later:?}");
    client.close().await;
    runner.shutdown().await;
}

#[tokio::test]
async fn a_producer_hears_of_the_end_of_its_task_from_either_side() {
    tokio::join!(run_by(Side::Go), run_by(Side::Rust));
}
