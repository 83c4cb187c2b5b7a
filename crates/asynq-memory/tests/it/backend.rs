//! A store in memory as the backend of cases; tests of other crates share it by path.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use asynq_core::{
    Clock, Connector, Entropy, Env, Storage,
    raw::{RawState, RawValue},
};
use asynq_memory::{MemoryBroker, MemoryStore};
use asynq_testing::conformance::Backend;

/// A store, and the connector through which it is opened.
pub(crate) struct MemoryBackend {
    store: MemoryStore,
    connector: Arc<dyn Connector>,
    clock: OnceLock<Clock>,
}

impl MemoryBackend {
    /// Makes a store that is opened through a connector around it.
    pub(crate) fn through<C: Connector>(around: impl FnOnce(MemoryStore) -> C) -> Self {
        let store = MemoryStore::new();
        Self {
            connector: Arc::new(around(store.clone())),
            store,
            clock: OnceLock::new(),
        }
    }

    /// Opens the store itself, by the clock of the case.
    fn open(&self) -> MemoryBroker {
        self.store.open(Env {
            clock: self.clock.get().expect("the case has connected").clone(),
            entropy: Entropy::seeded(99),
        })
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::through(|store| store)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn connect(&self, env: Env) -> Arc<dyn Storage> {
        self.clock.get_or_init(|| env.clock.clone());
        self.connector.connect(env).await.unwrap()
    }

    async fn raw_state(&self) -> RawState {
        self.open().raw_state()
    }

    async fn ttl(&self, key: &str) -> Option<i64> {
        self.open().ttl(key)
    }

    async fn put(&self, values: Vec<(String, Option<RawValue>)>) {
        for (key, value) in values {
            let planted = self.store.plant(&key, value);
            planted.unwrap_or_else(|error| panic!("{key}: {error}"));
        }
    }

    fn has_virtual_time(&self) -> bool {
        true
    }
}
