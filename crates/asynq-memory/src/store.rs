//! The data, shared by all connections to it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use asynq_core::{
    error::BrokerError,
    raw::{RawState, RawValue},
};

use crate::model::Data;

/// A task storage in memory. Cheap to clone; clones share one storage, and it lives as long as one
/// of them or one connection does.
///
/// It is a [`Connector`](asynq_core::Connector): give it to a system wherever a Redis connection is taken.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Default)]
struct Shared {
    data: Mutex<Data>,
    connections: AtomicU64,
}

impl MemoryStore {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of the connection that is about to be made.
    pub(crate) fn next_connection(&self) -> u64 {
        self.0.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The keys and values that Redis would hold, at the latest time that any connection brought.
    #[doc(hidden)]
    #[must_use]
    pub fn raw_state(&self) -> RawState {
        let data = self.data();
        data.raw(data.latest)
    }

    /// Writes a key as it would stand in Redis, or deletes it: for tests that need damage. What is
    /// planted has no lifetime.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] for keys outside of the layout and for texts that are not UTF-8.
    #[doc(hidden)]
    pub fn plant(&self, key: &str, value: Option<RawValue>) -> Result<(), BrokerError> {
        self.data().plant(key, value)
    }

    /// The data. The guard never lives across an await.
    pub(crate) fn data(&self) -> MutexGuard<'_, Data> {
        self.0.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("connections", &self.0.connections)
            .finish_non_exhaustive()
    }
}
