//! The suite that any storage passes, on a private redis-server for each case.

use std::sync::Arc;

use asynq_redis::RedisConnectionType;
use asynq_testing::conformance::RedisHarness;

asynq_testing::conformance!(RedisHarness::new(|server| {
    Arc::new(RedisConnectionType::single(server.url()).unwrap())
}));
