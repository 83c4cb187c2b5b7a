//! The suite that every storage passes.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use asynq_core::{
    Env, Storage,
    raw::{RawState, RawValue},
};
use asynq_memory::{MemoryBroker, MemoryStore};
use asynq_testing::conformance::{Backend, Fixture, Harness};

/// A store of its own for each case.
struct Memory;

#[async_trait]
impl Harness for Memory {
    async fn open(&self) -> Fixture {
        Fixture::new(MemoryBackend::default()).await
    }
}

/// A store, and a connection that looks at it by the clock of the case.
#[derive(Default)]
struct MemoryBackend {
    store: MemoryStore,
    eye: OnceLock<MemoryBroker>,
}

impl MemoryBackend {
    fn eye(&self) -> &MemoryBroker {
        self.eye.get().expect("the case has connected")
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn connect(&self, env: Env) -> Arc<dyn Storage> {
        let looking = Env {
            clock: env.clock.clone(),
            entropy: asynq_core::Entropy::seeded(99),
        };
        self.eye.get_or_init(|| self.store.open(looking));
        Arc::new(self.store.open(env))
    }

    async fn raw_state(&self) -> RawState {
        self.eye().raw_state()
    }

    async fn ttl(&self, key: &str) -> Option<i64> {
        self.eye().ttl(key)
    }

    async fn put(&self, values: Vec<(String, Option<RawValue>)>) {
        for (key, value) in values {
            self.store
                .plant(&key, value)
                .unwrap_or_else(|error| panic!("{key}: {error}"));
        }
    }

    fn has_virtual_time(&self) -> bool {
        true
    }
}

asynq_testing::conformance!(Memory);
