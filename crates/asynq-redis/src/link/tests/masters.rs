//! Sentinels that disagree, are silent, or change their mind.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use asynq_core::broker::{Env, LARGE_BYTES, Wake};
use asynq_testing::RedisServer;
use tokio::net::TcpListener;

use super::{super::Probe, fake::Fake, *};
use crate::link::{side_connections::Way, socket::Peer};

static NOTHING: Script = Script::new("nothing", "return redis.call('EXISTS', KEYS[1])");

/// A sentinel that knows of so many failovers and calls what listens at a port the master.
async fn sentinel(epoch: u32, port: Arc<AtomicU16>) -> Fake {
    Fake::start(move |words| {
        let port = port.load(Ordering::Relaxed).to_string();
        let epoch = epoch.to_string();
        match words[0].as_str() {
            "SENTINEL" if words[1] == "MASTER" => {
                Some(format!("*2\r\n$12\r\nconfig-epoch\r\n${}\r\n{epoch}\r\n", epoch.len()))
            }
            "SENTINEL" => Some(format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len())),
            "SUBSCRIBE" => Some("*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n".to_owned()),
            _ => None,
        }
    })
    .await
}

fn port_of(server: &RedisServer) -> Arc<AtomicU16> {
    Arc::new(AtomicU16::new(server.port()))
}

fn through(sentinels: &[String]) -> Settings {
    let mut settings = uri::sentinels::parse("m", sentinels).unwrap();
    settings.wait_timeout = LIMIT;
    settings.pace = impatient("redis://127.0.0.1").pace;
    settings.pace.ping_timeout = LIMIT;
    settings
}

fn leads_to(link: &Link, server: &RedisServer) -> bool {
    let wire = link.core.state.live().unwrap().unwrap();
    matches!(wire.peer(), Peer::Tcp { at, .. } if at.port() == server.port())
}

#[tokio::test]
async fn the_sentinel_that_knows_of_the_latest_failover_is_believed() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let first = sentinel(3, port_of(&old)).await;
    let second = sentinel(4, port_of(&new)).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    for _ in 0..5 {
        let link = within(Link::open(
            through(&[silent.clone(), first.url(), second.url()]),
            Env::default(),
        ));
        assert!(leads_to(&link.await.unwrap(), &new));
    }
}

#[tokio::test]
async fn a_server_that_is_no_master_is_not_followed() {
    let server = RedisServer::start().await;
    server.client().await.ok(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let sentinel = sentinel(1, port_of(&server)).await;
    let refused = within(Link::open(through(&[sentinel.url()]), Env::default())).await;
    is(refused.map(drop), unavailable);
}

/// Nothing is published: the silence of the connection alone makes the link ask.
#[tokio::test]
async fn a_silent_master_is_left_as_soon_as_there_is_another() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let master = port_of(&old);
    let sentinel = sentinel(1, Arc::clone(&master)).await;
    let link = within(Link::open(through(&[sentinel.url()]), Env::default()))
        .await
        .unwrap();
    let probe = Probe {
        script: &NOTHING,
        keys: vec!["k".into()],
        args: vec![],
    };
    let mut watch = link.watch(probe).await.unwrap();
    let mut messages = link.subscribe("c").await.unwrap();

    old.pause();
    let wire = link.core.state.live().unwrap().unwrap();
    let mut call = Box::pin(count(&link, "n"));
    assert!(futures::poll!(&mut call).is_pending());
    within(wire.in_doubt()).await;
    // As long as there is no other one, the call waits.
    assert!(
        tokio::time::timeout(Duration::from_millis(100), &mut call)
            .await
            .is_err()
    );
    master.store(new.port(), Ordering::Relaxed);
    is(within(call).await, ambiguous);
    assert_eq!(within(count(&link, "n")).await.unwrap(), 1);
    assert!(leads_to(&link, &new));
    assert_eq!(within(watch.changed()).await, Wake::Lost);
    assert_eq!(within(messages.recv()).await, None);
    let mut messages = link.subscribe("c").await.unwrap();
    new.client().await.ok(&["PUBLISH", "c", "x"]).await;
    assert_eq!(within(messages.recv()).await.unwrap(), b"x");
}

/// Also where the former master lives on and answers: what it is told then is lost.
#[tokio::test]
async fn the_connections_beside_the_main_one_follow_it_to_another_master() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let master = port_of(&old);
    let sentinel = sentinel(1, Arc::clone(&master)).await;
    let link = within(Link::open(through(&[sentinel.url()]), Env::default()))
        .await
        .unwrap();
    let timely = || link.eval_by(Way::Timely, &COUNT, vec!["timely".into()], vec![]);
    let large = || vec![vec![b'x'; LARGE_BYTES]];
    let apart = || link.eval_by(Way::Apart, &COUNT, vec!["apart".into()], large());
    for n in 1..=3 {
        assert_eq!(within(timely()).await.map(int).unwrap(), n);
        assert_eq!(within(apart()).await.map(int).unwrap(), n);
    }

    master.store(new.port(), Ordering::Relaxed);
    link.core.state.live().unwrap().unwrap().cut();
    until(|| async { count(&link, "n").await.is_ok() && leads_to(&link, &new) }).await;
    for n in 1..=3 {
        assert_eq!(within(timely()).await.map(int).unwrap(), n, "by the former master");
        assert_eq!(within(apart()).await.map(int).unwrap(), n, "by the former master");
    }
}
