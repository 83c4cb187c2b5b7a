//! The cost of a crash, on Redis, in real time: each actor is crashed under load, in each way; every task is
//! settled, no attempt runs twice, the tree shows the restarts, and the raw keys contradict themselves nowhere.

use asynq::{Crash, Env, redis::RedisConnectionType};
use asynq_testing::{RedisServer, invariants};

use crate::load::{Crashing, Load};

const TIMES: u64 = 3;
const STORM: usize = 100;

/// For a look at the storage, and to work on it.
type Connectors = [RedisConnectionType; 2];

async fn on_redis(test: impl AsyncFnOnce(Connectors)) {
    let server = RedisServer::start().await;
    let connector = || RedisConnectionType::single(server.url()).unwrap();
    test([connector(), connector()]).await;
    invariants::assert_hold(&server.client().await.raw_state().await);
    crate::doctor::finds_nothing(RedisConnectionType::single(server.url()).unwrap()).await;
}

async fn survives(path: &str, crash: Crash) {
    on_redis(async |[look, connector]| {
        let load = Load::start(look, connector, Env::default()).await;
        for _ in 0..TIMES {
            load.crash(path, crash).await;
        }
        load.balance().await;
    })
    .await;
}

async fn serves_on(who: Crashing, crash: Crash) {
    on_redis(async |[look, connector]| {
        Load::serves_on(look, connector, Env::default(), (who, crash, TIMES)).await;
    })
    .await;
}

crate::load::crash_table!(#[tokio::test]);

#[tokio::test]
async fn storm() {
    on_redis(async |[look, connector]| {
        let beside = look.clone();
        let load = Load::start(look, connector, Env::default()).await;
        futures::join!(load.storm(STORM), crate::doctor::finds_nothing(beside));
        load.balance().await;
    })
    .await;
}
