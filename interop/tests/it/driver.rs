//! The driver of the Go program itself: it fails loudly and leaves nothing behind.

use std::time::Duration;

use asynq_interop::{GoClient, GoErrorKind, GoServer, GoTask};
use asynq_testing::RedisServer;
use rustix::process::{Pid, test_kill_process};

use crate::pair::eventually;

#[tokio::test]
async fn a_dropped_server_is_killed() {
    let redis = RedisServer::start().await;
    let server = GoServer::builder(&redis.address()).start().await;
    let pid = Pid::from_raw(server.pid().unwrap().try_into().unwrap()).unwrap();
    test_kill_process(pid).unwrap();
    drop(server);
    let gone = async || match test_kill_process(pid) {
        Ok(()) => Err("it lives"),
        Err(_) => Ok(()),
    };
    eventually("the Go server is gone", gone).await;
}

#[tokio::test]
#[should_panic(expected = "connection refused")]
async fn a_server_that_does_not_start_shows_what_it_said() {
    let redis = RedisServer::start().await;
    let address = redis.address();
    drop(redis);
    GoServer::builder(&address).start().await;
}

#[tokio::test]
#[should_panic(expected = "no start of nothing")]
async fn an_event_that_does_not_come_is_a_failure() {
    let redis = RedisServer::start().await;
    let mut server = GoServer::builder(&redis.address()).start().await;
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
