//! Tasks from end to end on a cluster and behind a sentinel, in real time.

use asynq::{Crash, Env, redis::RedisConnectionType};
#[cfg(feature = "cluster")]
use asynq_testing::RedisCluster;
#[cfg(feature = "sentinel")]
use asynq_testing::RedisSentinel;
use asynq_testing::invariants;

use crate::load::Load;

/// Queues on two nodes: delayed, failing, panicking tasks, each settled once, while an actor is replaced.
#[cfg(feature = "cluster")]
#[tokio::test]
async fn cluster() {
    let cluster = RedisCluster::start().await;
    let connector = || RedisConnectionType::cluster(cluster.urls()).unwrap();
    let load = Load::start(connector(), connector(), Env::default()).await;
    load.crash("work/processor", Crash::Kill).await;
    load.balance().await;
    invariants::assert_hold(&cluster.raw_state().await);
}

#[cfg(feature = "sentinel")]
#[tokio::test]
async fn sentinel() {
    let both = RedisSentinel::start().await;
    let connector = || RedisConnectionType::sentinel(RedisSentinel::MASTER, [both.sentinel().url()]).unwrap();
    let load = Load::start(connector(), connector(), Env::default()).await;
    load.crash("broker", Crash::Kill).await;
    load.balance().await;
    invariants::assert_hold(&both.master().client().await.raw_state().await);
}
