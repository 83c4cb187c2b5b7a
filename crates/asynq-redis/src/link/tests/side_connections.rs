//! Timely calls, which wait behind no data, and small calls, which wait behind no large one.

use asynq_core::broker::{Env, LARGE_BYTES};
use asynq_testing::{Proxy, RedisServer};

use super::{fake::Fake, *};
use crate::link::side_connections::Way;

static SIZE: Script = Script::new("size", "return #ARGV[1]");
static KEEP: Script = Script::new("keep", "redis.call('SET', KEYS[1], ARGV[1]) return #ARGV[1]");
static READ: Script = Script::new("read", "return redis.call('GET', KEYS[1])");

const LARGE: usize = 4 * LARGE_BYTES;

fn large() -> Vec<Vec<u8>> {
    vec![vec![b'x'; LARGE]]
}

/// A slow way, on which a large call takes two seconds.
async fn slow(server: &RedisServer) -> (Proxy, Link) {
    let proxy = Proxy::slow(server, 512 << 10).await;
    let link = Link::open(settings(&proxy.url()), Env::default()).await.unwrap();
    (proxy, link)
}

async fn timely(link: &Link) -> Result<Value, BrokerError> {
    link.eval_by(Way::Timely, &COUNT, vec!["n".into()], vec![]).await
}

async fn apart(link: &Link) -> Result<Value, BrokerError> {
    link.eval_by(Way::Apart, &SIZE, vec![], large()).await
}

/// The names of the connections of this link.
async fn names(server: &RedisServer) -> Vec<String> {
    let list = server.client().await.cmd(&["CLIENT", "LIST"]).await.text();
    let names = list
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("name="));
    let mut names: Vec<_> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test]
async fn neither_large_calls_nor_large_answers_hold_up_a_timely_one() {
    let server = RedisServer::start().await;
    server.client().await.ok(&["SET", "large", &"x".repeat(LARGE)]).await;
    let (_proxy, link) = slow(&server).await;
    let down = link.eval(&READ, vec!["large".into()], vec![]);
    let mut slow = Box::pin(futures::future::join(apart(&link), down));
    assert!(futures::poll!(&mut slow).is_pending());
    for n in 1..=5 {
        tokio::select! {
            biased;
            answer = timely(&link) => assert_eq!(answer.map(int).unwrap(), n),
            _ = &mut slow => panic!("the data came first"),
        }
    }
    let (sent, got) = within(slow).await;
    assert_eq!(sent.map(int).unwrap() as usize, LARGE);
    assert_eq!(text(got.unwrap()).len(), LARGE);
}

#[tokio::test]
async fn small_calls_on_the_main_connection_pass_a_large_one_that_may_be_passed() {
    let server = RedisServer::start().await;
    let (_proxy, link) = slow(&server).await;
    let mut slow = Box::pin(apart(&link));
    assert!(futures::poll!(&mut slow).is_pending());
    for n in 1..=5 {
        tokio::select! {
            biased;
            answer = count(&link, "n") => assert_eq!(answer.unwrap(), n),
            _ = &mut slow => panic!("the data came first"),
        }
    }
    within(slow).await.unwrap();
}

/// Many small items keep their order: they are no large call, however much they are together.
#[tokio::test]
async fn only_one_large_argument_makes_a_call_a_large_one() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let many = vec![vec![b'x'; LARGE_BYTES - 1]; 8];
    link.eval_by(Way::Apart, &SIZE, vec![], many.clone()).await.unwrap();
    link.eval_by(Way::Timely, &SIZE, vec![], many).await.unwrap();
    assert_eq!(names(&server).await, ["asynq"]);
    let edge = vec![vec![b'x'; LARGE_BYTES]];
    link.eval_by(Way::Apart, &SIZE, vec![], edge).await.unwrap();
    assert_eq!(names(&server).await, ["asynq", "asynq:data"]);
}

#[tokio::test]
async fn what_must_come_last_comes_behind_what_travels_apart() {
    let server = RedisServer::start().await;
    let (_proxy, link) = slow(&server).await;
    // The script is known, and the connection is there.
    link.eval(&KEEP, vec!["other".into()], vec![b"small".to_vec()])
        .await
        .unwrap();
    apart(&link).await.unwrap();
    let mut write = Box::pin(link.eval_by(Way::Apart, &KEEP, vec!["k".into()], large()));
    assert!(futures::poll!(&mut write).is_pending());
    let delete = cmd(&["DEL", "k"]);
    let (written, deleted) = within(futures::future::join(write, link.command_last(&delete))).await;
    written.unwrap();
    deleted.unwrap();
    assert_eq!(server.client().await.cmd(&["EXISTS", "k"]).await.int(), 0);
}

#[tokio::test]
async fn they_are_made_when_needed_replaced_when_lost_and_end_with_the_link() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = open(&proxy.url()).await;
    assert_eq!(names(&server).await, ["asynq"]);
    timely(&link).await.unwrap();
    apart(&link).await.unwrap();
    let all = ["asynq", "asynq:control", "asynq:data"];
    assert_eq!(names(&server).await, all);
    // A call that is large goes where it holds up nothing.
    link.eval_by(Way::Timely, &SIZE, vec![], large()).await.unwrap();
    let before = link.connection();
    proxy.cut_all();
    replaced(&link, before).await;
    let both = || async {
        at_last(|| timely(&link)).await;
        at_last(|| apart(&link)).await;
        names(&server).await == all
    };
    until(both).await;
    link.close().await;
    is(timely(&link).await, closed);
    until(|| async { names(&server).await.is_empty() }).await;
}

#[tokio::test]
async fn a_dead_one_is_replaced() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = Link::open(attentive(&proxy.url()), Env::default()).await.unwrap();
    timely(&link).await.unwrap();
    apart(&link).await.unwrap();
    proxy.half_open();
    let (first, second) = within(futures::future::join(timely(&link), apart(&link))).await;
    is(first, ambiguous);
    is(second, ambiguous);
    at_last(|| timely(&link)).await;
    at_last(|| apart(&link)).await;
}

/// Also where a proxy lets no more in without a word.
#[tokio::test]
async fn one_that_does_not_come_keeps_no_call_waiting_for_long() {
    let greeted = std::sync::atomic::AtomicBool::new(false);
    let fake = Fake::start(move |words| {
        // What follows on another connection is not answered.
        let first = words[0] != "HELLO" || !greeted.swap(true, std::sync::atomic::Ordering::SeqCst);
        (!first).then(String::new)
    })
    .await;
    let link = Link::open(settings(&fake.url()), Env::default()).await.unwrap();
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        within(link.command_timely(&cmd(&["PING"]))).await.unwrap();
    }
    assert!(began.elapsed() < LIMIT / 2, "the limit for connections is longer");
}

#[tokio::test]
async fn where_there_is_room_for_one_connection_only_it_carries_all() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    server.client().await.ok(&["CONFIG", "SET", "maxclients", "1"]).await;
    // The client that said so counts until it is gone.
    until(|| async { matches!(timely(&link).await.map(int), Ok(n) if n > 0) }).await;
    assert_eq!(apart(&link).await.map(int).unwrap() as usize, LARGE);
}
