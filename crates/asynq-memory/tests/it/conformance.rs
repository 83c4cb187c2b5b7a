//! The suite that every storage passes.

use async_trait::async_trait;
use asynq_testing::conformance::{Fixture, Harness};

use crate::backend::MemoryBackend;

/// A store of its own for each case.
struct Memory;

#[async_trait]
impl Harness for Memory {
    async fn open(&self) -> Fixture {
        Fixture::new(MemoryBackend::default()).await
    }
}

asynq_testing::conformance!(Memory);
