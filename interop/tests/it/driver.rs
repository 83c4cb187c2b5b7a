//! The driver of the programs itself: it fails loudly and leaves nothing behind.

use std::time::Duration;

use asynq_interop::{GoClient, GoErrorKind, GoEvent, GoQueueInfo, GoTask, ServerProcess};
use asynq_testing::RedisServer;
use rustix::process::{Pid, test_kill_process};

use crate::{
    pair::{Pair, eventually},
    sides::{Producer, Side, process, worker},
};

#[tokio::test]
async fn a_dropped_server_is_killed() {
    let redis = RedisServer::start().await;
    for side in [Side::Go, Side::Rust] {
        let server = process(side, &redis).start().await;
        let pid = Pid::from_raw(server.pid().unwrap().try_into().unwrap()).unwrap();
        test_kill_process(pid).unwrap();
        drop(server);
        let gone = async || match test_kill_process(pid) {
            Ok(()) => Err("it lives"),
            Err(_) => Ok(()),
        };
        eventually("the server is gone", gone).await;
    }
}

#[tokio::test]
#[should_panic(expected = "connection refused")]
async fn a_server_that_does_not_start_shows_what_it_said() {
    let redis = RedisServer::start().await;
    let address = redis.address();
    drop(redis);
    ServerProcess::go(&address).start().await;
}

#[tokio::test]
#[should_panic(expected = "invalid value 'http://nowhere' for '--redis")]
async fn a_worker_that_does_not_start_shows_what_it_said() {
    worker("http://nowhere").start().await;
}

/// Our worker speaks as Go's server does: a test may take either for the other.
#[tokio::test]
async fn both_servers_tell_the_same() {
    let (ours, gos) = tokio::join!(what_is_told_by(Side::Rust), what_is_told_by(Side::Go));
    for (ours, gos) in ours.iter().zip(&gos) {
        assert_eq!(ours, gos, "ours (left) and Go's (right) event differ");
    }
    assert_eq!(ours.len(), gos.len());
}

async fn what_is_told_by(side: Side) -> Vec<GoEvent> {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    let mut server = process(side, &pair.redis)
        .queues([("größe, breite", 2), ("low", 1)])
        .strict()
        .concurrency(1)
        .task_check_interval(Duration::from_millis(50))
        .delayed_task_check_interval(Duration::from_millis(100))
        .retry_delay(Duration::ZERO)
        .start()
        .await;
    let orders = [
        r#"{"do":"fail_times","n":1,"error":"boom"}"#,
        r#"{"do":"sleep","ms":1}"#,
        r#"{"do":"sleep","ms":1,"n":1}"#,
        r#"{"do":"result","data_base64":"AP+AAA=="}"#,
        r#"{"do":"panic"}"#,
        r#"{"do":"skip_retry"}"#,
        "no orders",
    ];
    for (n, orders) in orders.iter().enumerate() {
        let task = GoTask::new("t").payload(orders).id(&n.to_string()).header("k", "v");
        let task = task.queue("größe, breite").max_retry(1).deadline_unix(4_000_000_000);
        client.enqueue(&task).await;
        server.ended(&task.task_id.unwrap()).await;
        let settled = |info: &GoQueueInfo| info.size == info.archived + info.completed;
        pair.until_queue("größe, breite", "all settled", settled).await;
    }
    server.stop().await;
    let late = client.enqueue(&GoTask::new("late").queue("low")).await;
    let mut told = server.shutdown().await;
    assert_eq!(pair.look("low", &late.id).await.unwrap().state, "pending");
    for event in &mut told {
        if let GoEvent::Start(run) | GoEvent::End(run) = event {
            run.at_unix_nanos = 0;
        }
    }
    told
}

#[tokio::test]
#[should_panic(expected = "no start of nothing")]
async fn an_event_that_does_not_come_is_a_failure() {
    let redis = RedisServer::start().await;
    let mut server = ServerProcess::go(&redis.address()).start().await;
    let never = |_: &_| None::<()>;
    server
        .expect("start of nothing", Duration::from_millis(10), never)
        .await;
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let redis = RedisServer::start().await;
    let mut client = GoClient::start(&redis.address()).await;
    client.enqueue(&GoTask::new("t").id("a")).await;
    let taken = client.try_enqueue(&GoTask::new("t").id("a")).await.unwrap_err();
    assert_eq!(taken.kind, GoErrorKind::IdConflict);
    let blank = client.try_enqueue(&GoTask::new(" ")).await.unwrap_err();
    assert_eq!(
        (blank.kind, blank.text.as_str()),
        (GoErrorKind::Other, "task typename cannot be empty")
    );
}
