//! A task that is given back goes to the front of its queue, whoever had taken it.

use std::time::Duration;

use asynq::TaskState;
use asynq_interop::GoTask;

use crate::{
    pair::Pair,
    same::{Database, Difference, Known, assert_same},
    sides::{Producer, Runner, Settings, Side},
};

const KNOWN: &Known = &[(
    "long",
    Difference::OursAlone("pending_since"),
    "Go does not tell since when a task is pending that was given back, and shows no latency then",
)];

#[tokio::test]
async fn we_give_back_as_go_does() {
    let (ours, gos) = tokio::join!(cut_off(Side::Rust), cut_off(Side::Go));
    assert_same(&ours, &gos, KNOWN);
}

/// One task is cut off by the shutdown of its server while another one waits. What is in Redis then; and the
/// other side runs both.
async fn cut_off(side: Side) -> Database {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(side.other(), &pair.redis).await;
    let settings = Settings {
        concurrency: 1,
        shutdown_timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    let mut runner = Runner::start(side, &pair, &settings).await;
    // Longer than any shutdown takes.
    let long = GoTask::new("t")
        .payload(r#"{"do":"sleep","ms":600000}"#)
        .header("k", "v")
        .id("long");
    client.enqueue(&long).await;
    runner.started("long").await;
    for id in ["waits", "waits too"] {
        client.enqueue(&GoTask::new("t").id(id)).await;
    }
    runner.shutdown().await;

    let listed: Vec<_> = pair.list("default", TaskState::Pending).await;
    let order: Vec<_> = listed.iter().map(|info| info.id.as_str()).collect();
    assert_eq!(order, ["long", "waits", "waits too"], "it runs next");
    let back = &listed[0];
    assert_eq!((back.retried, back.last_err.as_str(), back.last_failed_at), (0, "", 0));
    assert_eq!(pair.counted("default").await, (0, 0));
    let database = Database::of(&pair.redis).await;

    let settings = Settings {
        concurrency: 1,
        shutdown_timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    let mut runner = Runner::start(side.other(), &pair, &settings).await;
    let run = runner.started("long").await;
    assert_eq!((run.retried, &run.headers), (0, long.headers.as_ref().unwrap()));
    assert_eq!(runner.unexpected(), [""; 0], "the others wait for it");
    runner.shutdown().await;
    let order: Vec<_> = pair
        .list("default", TaskState::Pending)
        .await
        .into_iter()
        .map(|info| info.id)
        .collect();
    assert_eq!(order, ["long", "waits", "waits too"], "it was given back once more");
    database
}

/// Go's server beside ours gets the tasks that ours had taken ahead of its only slot, which stays busy.
#[tokio::test]
async fn go_runs_what_we_had_taken_ahead() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    let settings = Settings {
        concurrency: 1,
        prefetch: 3,
        shutdown_timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    let mut ours = Runner::start(Side::Rust, &pair, &settings).await;
    let long = GoTask::new("t").payload(r#"{"do":"sleep","ms":600000}"#).id("long");
    client.enqueue(&long).await;
    ours.started("long").await;
    let ids = ["a", "b", "c", "d", "e"];
    for id in ids {
        client.enqueue(&GoTask::new("t").id(id).max_retry(0)).await;
    }
    pair.until_queue("default", "taken ahead", |info| {
        info.active > 1 && info.active + info.pending == 6
    })
    .await;
    let mut go = Runner::start(Side::Go, &pair, &settings).await;
    let mut seen = Vec::new();
    for _ in ids {
        let run = go.ended_like("a short task", |run| run.id != "long").await;
        assert_eq!((run.retried, run.outcome.as_str()), (0, "ok"));
        seen.push(run.id);
    }
    seen.sort();
    assert_eq!(seen, ids);
    pair.until_queue("default", "all but one settled", |info| {
        info.active == 1 && info.pending == 0
    })
    .await;
    assert_eq!(pair.counted("default").await, (5, 0));
    assert_eq!(ours.unexpected(), [""; 0]);
    assert_eq!(pair.breaches().await, []);

    // Back at once, with a retry left as before.
    ours.shutdown().await;
    assert_eq!(go.started("long").await.retried, 0);
    go.shutdown().await;
}
