//! Connections that die in silence, and the end of the link.

use asynq_core::broker::Env;
use asynq_testing::{Proxy, RedisServer};

use super::*;

#[tokio::test]
async fn a_black_hole_does_not_hold_a_call_for_ever() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = Link::open(impatient(&proxy.url()), Env::default()).await.unwrap();
    let before = link.connection();
    proxy.blackhole();
    is(within(count(&link, "n")).await, ambiguous);
    proxy.resume();
    replaced(&link, before).await;
    at_last(|| count(&link, "n")).await;
}

#[tokio::test]
async fn an_idle_connection_in_a_black_hole_is_replaced_before_it_is_needed() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = Link::open(impatient(&proxy.url()), Env::default()).await.unwrap();
    let before = link.connection();
    proxy.blackhole();
    within(
        link.core
            .state
            .subscribe()
            .wait_for(|state| matches!(state, State::Down(_))),
    )
    .await
    .unwrap();
    proxy.resume();
    replaced(&link, before).await;
}

#[tokio::test]
async fn a_slow_call_gets_its_answer() {
    static SLOW: Script = Script::new(
        "slow",
        "local start = redis.call('TIME')
         local function ms(t) return t[1] * 1000 + t[2] / 1000 end
         while ms(redis.call('TIME')) - ms(start) < 150 do end
         return redis.call('INCR', KEYS[1])",
    );
    let server = RedisServer::start().await;
    // Longer silent than a PING comes after, shorter than it is waited for.
    let link = Link::open(attentive(&server.url()), Env::default()).await.unwrap();
    let before = link.connection();
    assert_eq!(link.eval(&SLOW, vec!["n".into()], vec![]).await.map(int).unwrap(), 1);
    assert_eq!(link.connection(), before);
}

#[tokio::test]
async fn an_idle_connection_stays() {
    let server = RedisServer::start().await;
    let link = Link::open(attentive(&server.url()), Env::default()).await.unwrap();
    let before = link.connection();
    let mut client = server.client().await;
    // Asked for signs of life several times.
    let pings = async |client: &mut asynq_testing::Resp| {
        let stats = client.cmd(&["INFO", "commandstats"]).await.text();
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_ping:calls="));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse::<u32>().unwrap())
    };
    let begin = pings(&mut client).await;
    within(async { while pings(&mut client).await < begin + 5 {} }).await;
    assert_eq!(link.connection(), before);
}

#[tokio::test]
async fn a_closed_link_answers_closed() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    static NOTHING: Script = Script::new("nothing", "return redis.call('EXISTS', KEYS[1])");
    let probe = || super::super::Probe {
        script: &NOTHING,
        keys: vec!["k".into()],
        args: vec![],
    };
    let mut watch = link.watch(probe()).await.unwrap();
    let mut messages = link.subscribe("c").await.unwrap();
    let live = link.connection();
    server.pause();
    let mut call = Box::pin(count(&link, "n"));
    assert!(futures::poll!(&mut call).is_pending());
    assert_eq!(link.core.state.live().unwrap().unwrap().open_calls(), 1);
    within(link.close()).await;
    is(within(call).await, ambiguous);
    assert_eq!(within(watch.changed()).await, asynq_core::broker::Wake::Lost);
    assert_eq!(within(messages.recv()).await, None);
    within(link.close()).await;

    is(count(&link, "n").await, closed);
    is(link.eval_on(live, &COUNT, vec!["n".into()], vec![]).await, closed);
    is(link.command(&cmd(&["PING"])).await, closed);
    assert!(
        link.pipeline(&[cmd(&["PING"])])
            .await
            .into_iter()
            .all(|answer| closed(&answer.unwrap_err()))
    );
    is(link.kill(live).await, closed);
    is(link.watch(probe()).await, closed);
    is(link.subscribe("c").await, closed);
    assert_eq!(link.connection(), 0);
    server.resume();
    let mut client = server.client().await;
    within(async { while clients(&mut client).await != 1 {} }).await;
}

async fn clients(client: &mut asynq_testing::Resp) -> usize {
    client.cmd(&["CLIENT", "LIST"]).await.text().lines().count()
}

#[tokio::test]
async fn who_waits_for_a_connection_learns_of_the_close() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    server.kill();
    within(
        link.core
            .state
            .subscribe()
            .wait_for(|state| matches!(state, State::Down(_))),
    )
    .await
    .unwrap();
    let mut call = Box::pin(count(&link, "n"));
    assert!(futures::poll!(&mut call).is_pending());
    link.close().await;
    is(within(call).await, closed);
}

#[tokio::test]
async fn the_last_handle_takes_the_connections_along() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let other = link.clone();
    let _messages = link.subscribe("c").await.unwrap();
    let mut client = server.client().await;
    assert_eq!(clients(&mut client).await, 3);
    drop(link);
    assert!(count(&other, "n").await.is_ok());
    drop(other);
    within(async { while clients(&mut client).await != 1 {} }).await;
}
