//! The embedded broker and Redis are one storage: whatever is done to both, singly or in batches,
//! by several workers, over time, with calls that get lost, they answer the same and hold the same
//! keys, and no invariant is broken on the way (rules.md#memory-as-oracle).
//!
//! 256 sequences by default; the environment variable `PROPTEST_CASES` sets another number.

use std::{cell::RefCell, sync::Arc};

use asynq_redis::RedisConnectionType;
use asynq_testing::{
    RedisServer,
    conformance::RedisBackend,
    model::{Arena, steps},
};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use crate::memory_backend::MemoryBackend;

#[test]
fn memory_and_redis_are_one_storage() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let redis = runtime.block_on(async {
        let server = RedisServer::start().await;
        let connector = RedisConnectionType::single(server.url()).unwrap();
        Arc::new(RedisBackend::new(server, Arc::new(connector)).await)
    });
    // `Config::default` reads PROPTEST_CASES.
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Config::default()
    };
    let told = RefCell::new(String::new());
    let result = TestRunner::new(config).run(&steps(10..80), |steps| {
        let outcome = runtime.block_on(async {
            redis.clear().await;
            let memory = Arc::new(MemoryBackend::default());
            let mut arena = Arena::new(vec![("memory", memory), ("redis", redis.clone())]).await;
            let outcome = arena.run(&steps).await;
            arena.close().await;
            outcome
        });
        outcome.map_err(|problem| {
            told.replace(problem);
            TestCaseError::fail("the storages differ")
        })
    });
    if let Err(TestError::Fail(reason, steps)) = &result {
        panic!("{reason} after\n{steps:#?}\n{}", told.borrow());
    }
    result.unwrap();
}
