//! Tasks that are taken ahead of the slots, on Redis, in real time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq::{AsynqSystem, Exit, ServerConfig, redis::RedisConnectionType, task::Task};
use asynq_testing::{Proxy, RedisServer, Resp, RespValue, invariants};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

const PENDING: &str = "asynq:{default}:pending";
const ACTIVE: &str = "asynq:{default}:active";
const LEASE: &str = "asynq:{default}:lease";
/// Several times what anything here takes.
const SOON: Duration = Duration::from_secs(30);

/// Number of starts of each task.
type Starts = Arc<Mutex<BTreeMap<String, u32>>>;

struct Server {
    system: AsynqSystem,
    /// One permit for each run that may end.
    gate: Arc<Semaphore>,
}

async fn server(url: &str, config: ServerConfig, starts: &Starts) -> Server {
    let gate = Arc::new(Semaphore::new(0));
    let (starts, opens) = (Arc::clone(starts), Arc::clone(&gate));
    let system = AsynqSystem::builder(RedisConnectionType::single(url).unwrap())
        .config(config)
        .handler(move |task: Task| {
            let (starts, opens) = (Arc::clone(&starts), Arc::clone(&opens));
            async move {
                let id = task.context().unwrap().id().to_string();
                *starts.lock().unwrap().entry(id).or_default() += 1;
                opens.acquire().await.unwrap().forget();
                Ok(())
            }
        })
        .spawn()
        .await
        .unwrap();
    Server { system, gate }
}

/// Adds tasks that may not fail even once; their ids are in the order of their queue.
async fn enqueue(redis: &RedisServer, tasks: usize) -> Vec<String> {
    let connection = RedisConnectionType::single(redis.url()).unwrap();
    let system = AsynqSystem::builder(connection).spawn().await.unwrap();
    let ids: Vec<_> = (0..tasks).map(|number| format!("{number:03}")).collect();
    // One call after the other: of two calls under way, the second one can overtake the first.
    for part in ids.chunks(100) {
        let tasks = part
            .iter()
            .map(|id| Task::new("t", b"").unwrap().with_task_id(id).with_max_retry(0));
        for answer in system.client().enqueue_many(tasks).await {
            answer.unwrap();
        }
    }
    system.shutdown().await;
    ids
}

async fn texts(raw: &mut Resp, command: &[&str]) -> Vec<String> {
    let values = raw.cmd(command).await.array();
    values.iter().map(RespValue::text).collect()
}

/// The ids of a list; of `pending` and `active` the last one was to run next.
async fn list(raw: &mut Resp, key: &str) -> Vec<String> {
    let mut ids = texts(raw, &["LRANGE", key, "0", "-1"]).await;
    ids.reverse();
    ids
}

/// Waits until so many tasks are active and so many pending.
async fn until(raw: &mut Resp, active: usize, pending: usize) {
    let began = Instant::now();
    loop {
        let counts = (list(raw, ACTIVE).await.len(), list(raw, PENDING).await.len());
        if counts == (active, pending) {
            return;
        }
        assert!(began.elapsed() < SOON, "{counts:?}, not {:?}", (active, pending));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn ran(starts: &Starts) -> BTreeMap<String, u32> {
    starts.lock().unwrap().clone()
}

fn once(ids: &[String]) -> BTreeMap<String, u32> {
    ids.iter().map(|id| (id.clone(), 1)).collect()
}

/// All that was taken is pending again at once, in its order, as before the take.
#[tokio::test]
async fn a_shutdown_gives_back_what_was_taken_ahead_in_its_order() {
    let redis = RedisServer::start().await;
    let mut raw = redis.client().await;
    let ids = enqueue(&redis, 300).await;
    let starts = Starts::default();
    let config = ServerConfig::new()
        .concurrency(2)
        .prefetch(250)
        .shutdown_timeout(Duration::ZERO);
    // In more calls than one, as no call takes so many.
    let a = server(&redis.url(), config, &starts).await;
    until(&mut raw, 252, 48).await;
    let mut leases = texts(&mut raw, &["ZRANGE", LEASE, "0", "-1"]).await;
    leases.sort();
    assert_eq!(leases, ids[..252]);
    assert_eq!(timeout(SOON, a.system.shutdown()).await.unwrap(), Exit::Stopped);
    // Of the two calls under way, either can take first. The two tasks that ran come first, the others in their order.
    let mut pending = list(&mut raw, PENDING).await;
    let others = pending.split_off(2);
    assert_eq!(ran(&starts), once(&pending));
    assert!(others.is_sorted(), "{others:?}");
    pending.extend(others);
    pending.sort();
    assert_eq!(pending, ids);
    assert_eq!(list(&mut raw, ACTIVE).await, [""; 0]);
    assert_eq!(raw.cmd(&["EXISTS", LEASE]).await.int(), 0);
    invariants::assert_hold(&raw.raw_state().await);
    crate::doctor::finds_nothing(RedisConnectionType::single(redis.url()).unwrap()).await;

    let b = server(&redis.url(), ServerConfig::new().concurrency(50).prefetch(50), &starts).await;
    b.gate.add_permits(ids.len());
    until(&mut raw, 0, 0).await;
    // The two that ran were cut off.
    assert_eq!(ran(&starts).values().sum::<u32>(), 302);
    assert_eq!(raw.cmd(&["GET", "asynq:{default}:processed"]).await.text(), "300");
    b.system.shutdown().await;
    invariants::assert_hold(&raw.raw_state().await);
    crate::doctor::finds_nothing(RedisConnectionType::single(redis.url()).unwrap()).await;
}

/// A pause of the queue, while tasks are taken ahead of a slot that stays busy.
#[tokio::test]
async fn what_was_taken_ahead_of_a_paused_queue_goes_back() {
    let redis = RedisServer::start().await;
    let mut raw = redis.client().await;
    let ids = enqueue(&redis, 6).await;
    let starts = Starts::default();
    let a = server(&redis.url(), ServerConfig::new().concurrency(1).prefetch(3), &starts).await;
    until(&mut raw, 4, 2).await;
    raw.ok(&["SET", "asynq:{default}:paused", "1"]).await;
    until(&mut raw, 1, 5).await;
    a.gate.add_permits(ids.len());
    until(&mut raw, 0, 5).await;
    assert_eq!(list(&mut raw, PENDING).await, ids[1..]);
    assert_eq!(ran(&starts), once(&ids[..1]));
    raw.ok(&["DEL", "asynq:{default}:paused"]).await;
    until(&mut raw, 0, 0).await;
    assert_eq!(ran(&starts), once(&ids));
    a.system.shutdown().await;
    invariants::assert_hold(&raw.raw_state().await);
    crate::doctor::finds_nothing(RedisConnectionType::single(redis.url()).unwrap()).await;
}

/// A process that is cut off for good, as one that was killed: nobody of it writes anything any more. Its leases are
/// aged, so that they end now, with the tokens that name them.
#[tokio::test]
async fn what_a_killed_server_had_taken_ahead_is_run_once_by_another() {
    let redis = RedisServer::start().await;
    let mut raw = redis.client().await;
    let ids = enqueue(&redis, 8).await;
    let starts = Starts::default();
    let proxy = Proxy::start(&redis).await;
    let a = server(&proxy.url(), ServerConfig::new().concurrency(1).prefetch(5), &starts).await;
    until(&mut raw, 6, 2).await;
    proxy.refuse();
    let taken = list(&mut raw, ACTIVE).await;
    let then = (chrono::Utc::now().timestamp() - 90).to_string();
    for id in &taken {
        let key = format!("asynq:{{default}}:t:{id}");
        let take = raw.cmd(&["HGET", &key, "x:take"]).await.text();
        let (server, until) = take.rsplit_once('@').unwrap();
        let lease = raw.cmd(&["ZSCORE", LEASE, id]).await.text();
        // The lease of the run may have been extended; those that wait have the one of their take.
        if *id != ids[0] {
            assert_eq!(lease, until, "{id}");
            raw.ok(&["HSET", &key, "x:take", &format!("{server}@{then}")]).await;
        }
        raw.ok(&["ZADD", LEASE, "XX", &then, id]).await;
    }
    let config = ServerConfig::new()
        .concurrency(2)
        .prefetch(2)
        .recoverer_interval(Duration::from_millis(200));
    let b = server(&redis.url(), config, &starts).await;
    b.gate.add_permits(ids.len());
    until(&mut raw, 0, 0).await;
    // That which ran had no retry left; it is archived or, if its lease was that of its take, run again.
    let mut seen = ran(&starts);
    assert!(matches!(seen.remove(&ids[0]), Some(1 | 2)));
    assert_eq!(seen, once(&ids[1..]));
    let archived = texts(&mut raw, &["ZRANGE", "asynq:{default}:archived", "0", "-1"]).await;
    assert!(archived.iter().all(|id| *id == ids[0]), "{archived:?}");
    // As a server whose host slept: all that it says now is refused.
    proxy.resume();
    a.system.shutdown_at_once().await;
    b.system.shutdown().await;
    assert_eq!(
        (list(&mut raw, ACTIVE).await.len(), list(&mut raw, PENDING).await.len()),
        (0, 0)
    );
    invariants::assert_hold(&raw.raw_state().await);
    crate::doctor::finds_nothing(RedisConnectionType::single(redis.url()).unwrap()).await;
}

/// Redis stands still for longer than tasks may wait ahead, in the middle of the work. Nothing is lost, and nothing
/// runs twice: all leases outlast the outage.
#[tokio::test]
async fn nothing_is_lost_or_doubled_when_redis_stands_still() {
    let redis = RedisServer::start().await;
    let mut raw = redis.client().await;
    let ids = enqueue(&redis, 400).await;
    let starts = Starts::default();
    let a = server(&redis.url(), ServerConfig::new().concurrency(10).prefetch(20), &starts).await;
    until(&mut raw, 30, 370).await;
    a.gate.add_permits(100);
    let begun = Instant::now();
    while ran(&starts).len() < 60 {
        assert!(begun.elapsed() < SOON, "{}", ran(&starts).len());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    redis.pause();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    redis.resume();
    a.gate.add_permits(ids.len());
    until(&mut raw, 0, 0).await;
    assert_eq!(ran(&starts), once(&ids));
    assert_eq!(raw.cmd(&["GET", "asynq:{default}:processed"]).await.text(), "400");
    a.system.shutdown().await;
    invariants::assert_hold(&raw.raw_state().await);
    crate::doctor::finds_nothing(RedisConnectionType::single(redis.url()).unwrap()).await;
}

/// The answers of takes, of outcomes and of returns are lost, each time with the connection.
#[tokio::test]
async fn nothing_is_lost_or_doubled_when_connections_break() {
    let redis = RedisServer::start().await;
    let mut raw = redis.client().await;
    let ids = enqueue(&redis, 400).await;
    let starts = Starts::default();
    let proxy = Proxy::start(&redis).await;
    let a = server(&proxy.url(), ServerConfig::new().concurrency(4).prefetch(20), &starts).await;
    until(&mut raw, 24, 376).await;
    for round in 0..5 {
        // An exchange: probes of watches have the key alone.
        proxy.lose_reply_to(|words| words.len() > 10 && words.iter().any(|word| word.as_ref() == PENDING.as_bytes()));
        a.gate.add_permits(20);
        timeout(SOON, proxy.struck()).await.unwrap();
        let begun = Instant::now();
        while ran(&starts).len() < 20 * (round + 1) {
            assert!(begun.elapsed() < SOON, "{round}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    a.gate.add_permits(ids.len());
    until(&mut raw, 0, 0).await;
    assert_eq!(ran(&starts), once(&ids));
    assert_eq!(raw.cmd(&["GET", "asynq:{default}:processed"]).await.text(), "400");
    a.system.shutdown().await;
    invariants::assert_hold(&raw.raw_state().await);
    crate::doctor::finds_nothing(RedisConnectionType::single(redis.url()).unwrap()).await;
}
