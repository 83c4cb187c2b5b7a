//! After the barrier, nothing more runs that was sent on a lost connection.

use asynq_testing::{Proxy, RedisServer};

use super::*;

#[tokio::test]
async fn a_late_call_does_not_run_after_the_barrier() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = open(&proxy.url()).await;
    let lost = link.connection();
    let mut held = proxy.hold_next_request();
    is(
        within(link.eval_on(lost, &COUNT, vec!["n".into()], vec![])).await,
        ambiguous,
    );
    within(held.caught()).await;
    within(link.kill(lost)).await.unwrap();
    assert_eq!(within(held.release()).await, None);
    assert_eq!(server.client().await.cmd(&["EXISTS", "n"]).await.int(), 0);
    // Once more, and by another link to the same server: it is gone already.
    link.kill(lost).await.unwrap();
    open(&server.url()).await.kill(lost).await.unwrap();
}

#[tokio::test]
async fn without_the_barrier_it_would() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = open(&proxy.url()).await;
    // Loaded, so that what is held is not answered NOSCRIPT.
    count(&link, "n").await.unwrap();
    let mut held = proxy.hold_next_request();
    is(within(count(&link, "n")).await, ambiguous);
    within(held.caught()).await;
    assert!(within(held.release()).await.is_some());
    assert_eq!(server.client().await.cmd(&["GET", "n"]).await.text(), "2");
}

#[tokio::test]
async fn another_link_can_raise_the_barrier() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let other = open(&server.url()).await;
    let lost = link.connection();
    other.kill(lost).await.unwrap();
    assert_ne!(replaced(&link, lost).await, lost);
}

#[tokio::test]
async fn the_live_connection_stays_and_waits_for_what_was_sent() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let live = link.connection();
    count(&link, "n").await.unwrap();
    server.pause();
    // Sent, and its caller gone.
    let dropped = {
        let mut call = Box::pin(count(&link, "n"));
        futures::poll!(&mut call)
    };
    assert!(dropped.is_pending());
    tokio::task::yield_now().await;
    server.resume();
    within(link.kill(live)).await.unwrap();
    assert_eq!(link.connection(), live);
}

#[tokio::test]
async fn no_connection_needs_no_barrier() {
    let server = RedisServer::start().await;
    open(&server.url()).await.kill(0).await.unwrap();
}

#[tokio::test]
async fn a_restarted_server_has_no_strangers_killed() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let lost = link.connection();
    server.restart().await;
    // The same client ids are given again, to others.
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(server.client().await);
    }
    replaced(&link, lost).await;
    link.kill(lost).await.unwrap();
    for stranger in &mut strangers {
        stranger.try_cmd(&["PING"]).await.unwrap();
    }
}

#[tokio::test]
async fn where_it_is_not_permitted_it_says_so() {
    let server = RedisServer::start().await;
    let mut client = server.client().await;
    client
        .ok(&[
            "ACL",
            "SETUSER",
            "plain",
            "on",
            ">p",
            "~*",
            "+@all",
            "-client",
            "+client|id",
        ])
        .await;
    client
        .ok(&[
            "ACL", "SETUSER", "bare", "on", ">p", "~*", "+@all", "-client", "-info", "-config", "-time",
        ])
        .await;
    for user in ["plain", "bare"] {
        let link = open(&format!("redis://{user}:p@127.0.0.1:{}", server.port())).await;
        let lost = link.connection();
        assert_ne!(lost, 0);
        link.kill(lost).await.unwrap();
        link.core.state.live().unwrap().unwrap().cut();
        replaced(&link, lost).await;
        is(link.kill(lost).await, unsupported);
        assert!(count(&link, "n").await.is_ok());
    }
}

#[tokio::test]
async fn without_a_client_id_connections_differ_all_the_same() {
    let server = RedisServer::start_with(&["--rename-command", "HELLO", ""]).await;
    server
        .client()
        .await
        .ok(&["ACL", "SETUSER", "bare", "on", ">p", "~*", "+@all", "-client"])
        .await;
    let link = open(&format!("redis://bare:p@127.0.0.1:{}", server.port())).await;
    let lost = link.connection();
    assert_eq!(
        link.eval_on(lost, &COUNT, vec!["n".into()], vec![])
            .await
            .map(int)
            .unwrap(),
        1
    );
    link.core.state.live().unwrap().unwrap().cut();
    let now = replaced(&link, lost).await;
    is(link.eval_on(lost, &COUNT, vec!["n".into()], vec![]).await, unavailable);
    assert_eq!(
        link.eval_on(now, &COUNT, vec!["n".into()], vec![])
            .await
            .map(int)
            .unwrap(),
        2
    );
    is(link.kill(lost).await, unsupported);
}
