//! The crash table of DESIGN section 3 on Redis, in real time: each actor is crashed under load, in each
//! way; every task is settled, no attempt runs twice, the tree shows the restarts, and the raw keys
//! contradict themselves nowhere.

use asynq::{Crash, Env, redis::RedisConnectionType};
use asynq_testing::{RedisServer, invariants};

use crate::load::Load;

const TIMES: usize = 3;
const STORM: usize = 100;

async fn on_redis<F: Future<Output = ()>>(crashes: impl FnOnce(Load) -> F) {
    let server = RedisServer::start().await;
    let connector = || RedisConnectionType::single(server.url()).unwrap();
    crashes(Load::start(connector(), connector(), Env::default()).await).await;
    invariants::assert_hold(&server.client().await.raw_state().await);
}

async fn survives(path: &str, crash: Crash) {
    on_redis(async |load| {
        for _ in 0..TIMES {
            load.crash(path, crash).await;
        }
        load.balance().await;
    })
    .await;
}

crate::load::crash_table!(#[tokio::test]);

#[tokio::test]
async fn storm() {
    on_redis(async |load| {
        load.storm(STORM).await;
        load.balance().await;
    })
    .await;
}
