//! Wake-ups.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use asynq_core::broker::{Env, Wake};
use asynq_testing::{Proxy, RedisServer};

use super::{super::Probe, fake::Fake, *};

static PENDING: Script = Script::new(
    "probe",
    "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end return redis.call('LLEN', KEYS[2])",
);

fn probe() -> Probe {
    Probe {
        script: &PENDING,
        keys: vec!["paused".into(), "pending".into()],
        args: vec![],
    }
}

#[tokio::test]
async fn a_foreign_push_wakes() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let mut watch = link.watch(probe()).await.unwrap();
    let mut client = server.client().await;
    client.ok(&["SET", "unrelated", "x"]).await;
    assert!(futures::poll!(Box::pin(watch.changed())).is_pending());
    client.ok(&["LPUSH", "pending", "a"]).await;
    assert_eq!(within(watch.changed()).await, Wake::Changed);
}

#[tokio::test]
async fn our_own_push_wakes_and_so_does_an_unpause() {
    static PUSH: Script = Script::new("push", "return redis.call('LPUSH', KEYS[1], 'a')");
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let mut watch = link.watch(probe()).await.unwrap();
    link.eval(&PUSH, vec!["pending".into()], vec![]).await.unwrap();
    assert_eq!(within(watch.changed()).await, Wake::Changed);

    link.command(&cmd(&["SET", "paused", "1"])).await.unwrap();
    let mut watch = link.watch(probe()).await.unwrap();
    link.command(&cmd(&["DEL", "paused"])).await.unwrap();
    assert_eq!(within(watch.changed()).await, Wake::Changed);
}

#[tokio::test]
async fn what_is_there_already_is_seen_at_once() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    link.command(&cmd(&["LPUSH", "pending", "a"])).await.unwrap();
    assert_eq!(
        within(link.watch(probe()).await.unwrap().changed()).await,
        Wake::Changed
    );
}

#[tokio::test]
async fn watches_are_set_again_and_again() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let mut client = server.client().await;
    for _ in 0..50 {
        let mut watch = link.watch(probe()).await.unwrap();
        client.ok(&["LPUSH", "pending", "a"]).await;
        assert_eq!(within(watch.changed()).await, Wake::Changed);
        client.ok(&["DEL", "pending"]).await;
    }
}

#[tokio::test]
async fn two_watches_on_one_key_both_wake() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let (mut one, mut two) = (link.watch(probe()).await.unwrap(), link.watch(probe()).await.unwrap());
    server.client().await.ok(&["LPUSH", "pending", "a"]).await;
    assert_eq!(within(one.changed()).await, Wake::Changed);
    assert_eq!(within(two.changed()).await, Wake::Changed);
}

#[tokio::test]
async fn a_flush_loses_all_watches() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let mut watch = link.watch(probe()).await.unwrap();
    server.client().await.ok(&["FLUSHALL"]).await;
    assert_eq!(within(watch.changed()).await, Wake::Lost);
    assert!(link.watch(probe()).await.is_ok());
}

#[tokio::test]
async fn the_death_of_the_server_loses_all_watches() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let mut watch = link.watch(probe()).await.unwrap();
    server.kill();
    assert_eq!(within(watch.changed()).await, Wake::Lost);
    server.restart().await;
    let mut watch = within(link.watch(probe())).await.unwrap();
    server.client().await.ok(&["LPUSH", "pending", "a"]).await;
    // The link itself may still be on its way back, which loses what was set before.
    if within(watch.changed()).await == Wake::Lost {
        assert_eq!(
            within(within(link.watch(probe())).await.unwrap().changed()).await,
            Wake::Changed
        );
    }
}

#[tokio::test]
async fn a_black_hole_loses_all_watches() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = Link::open(impatient(&proxy.url()), Env::default()).await.unwrap();
    let mut watch = at_last(|| link.watch(probe())).await;
    proxy.blackhole();
    assert_eq!(within(watch.changed()).await, Wake::Lost);
}

#[tokio::test]
async fn a_flushed_probe_is_loaded_again() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    drop(link.watch(probe()).await.unwrap());
    let mut client = server.client().await;
    client.ok(&["SCRIPT", "FLUSH"]).await;
    let mut watch = link.watch(probe()).await.unwrap();
    client.ok(&["LPUSH", "pending", "a"]).await;
    assert_eq!(within(watch.changed()).await, Wake::Changed);
}

#[tokio::test]
async fn another_database_is_watched_too() {
    let server = RedisServer::start().await;
    let link = open(&format!("{}/5", server.url())).await;
    let mut watch = link.watch(probe()).await.unwrap();
    let mut client = server.client().await;
    client.ok(&["SELECT", "5"]).await;
    client.ok(&["LPUSH", "pending", "a"]).await;
    assert_eq!(within(watch.changed()).await, Wake::Changed);
}

#[tokio::test]
async fn the_proof_leaves_nothing_behind() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let _watch = link.watch(probe()).await.unwrap();
    assert!(server.client().await.keys().await.is_empty());
}

#[tokio::test]
async fn a_login_is_needed_for_watches_as_well() {
    let server = RedisServer::builder().password("pw").start().await;
    let link = open(&server.url()).await;
    let mut watch = link.watch(probe()).await.unwrap();
    server.client().await.ok(&["LPUSH", "pending", "a"]).await;
    assert_eq!(within(watch.changed()).await, Wake::Changed);
}

#[tokio::test]
async fn where_there_are_no_pushes_it_says_so() {
    let old = RedisServer::start_with(&["--rename-command", "HELLO", ""]).await;
    is(open(&old.url()).await.watch(probe()).await, unsupported);

    let server = RedisServer::start().await;
    let mut client = server.client().await;
    client
        .ok(&[
            "ACL",
            "SETUSER",
            "a",
            "on",
            ">p",
            "~*",
            "+@all",
            "-client",
            "+client|id",
        ])
        .await;
    client.ok(&["ACL", "SETUSER", "b", "on", ">p", "~p*", "+@all"]).await;
    for user in ["a", "b"] {
        let link = open(&format!("redis://{user}:p@127.0.0.1:{}", server.port())).await;
        is(link.watch(probe()).await, unsupported);
        is(link.watch(probe()).await, unsupported);
    }
}

#[tokio::test]
async fn who_promises_pushes_and_sends_none_is_found_out() {
    let proofs = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&proofs);
    let fake = Fake::start(move |words| {
        if words[0] == "CLIENT" && words[1] == "TRACKING" {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        (words[0] == "EVALSHA").then(|| ":0\r\n".to_owned())
    })
    .await;
    let link = open(&fake.url()).await;
    is(within(link.watch(probe())).await, unsupported);
    // Known by now: no second proof.
    is(within(link.watch(probe())).await, unsupported);
    assert_eq!(proofs.load(Ordering::Relaxed), 1);
}

/// However slow a server is, it pushes before it answers what came later.
#[tokio::test]
async fn a_push_that_comes_with_the_next_answer_is_proof() {
    let written = Mutex::new(None);
    let fake = Fake::start(move |words| match words[0].as_str() {
        "EVALSHA" => Some(":0\r\n".to_owned()),
        "SET" => {
            *written.lock().unwrap() = Some(words[1].clone());
            None
        }
        "PING" => written.lock().unwrap().take().map(|key| {
            let length = key.len();
            format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n${length}\r\n{key}\r\n+PONG\r\n")
        }),
        _ => None,
    })
    .await;
    let link = open(&fake.url()).await;
    within(link.watch(probe())).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_no_number_is_a_fault() {
    static WRONG: Script = Script::new("wrong", "return 'x'");
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let odd = link
        .watch(Probe {
            script: &WRONG,
            keys: vec![],
            args: vec![],
        })
        .await;
    is(odd, |error| matches!(error, asynq_core::BrokerError::Protocol { .. }));
}
