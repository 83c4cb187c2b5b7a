//! The suite on a cluster. A cluster takes seconds to come up, so cases use one after another.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use asynq_core::{
    Connector, Env, Storage,
    raw::{RawState, RawValue},
};

use super::{Backend, Fixture, Harness, backend::put_commands};
use crate::{RedisCluster, Resp};

type Connect = dyn Fn(&RedisCluster) -> Arc<dyn Connector> + Send + Sync;

/// Clusters that no case uses right now. Make it a `static`.
#[derive(Debug, Default)]
pub struct ClusterPool(Mutex<Vec<RedisCluster>>);

impl ClusterPool {
    /// A pool without clusters; they are started when they are needed.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    async fn take(&self) -> RedisCluster {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(cluster) => {
                cluster.clear().await;
                cluster
            }
            None => RedisCluster::start().await,
        }
    }

    fn give_back(&self, cluster: RedisCluster) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(cluster);
    }
}

/// An empty cluster for each case, and the storage that a connector opens on it.
pub struct ClusterHarness {
    pool: &'static ClusterPool,
    connect: Box<Connect>,
}

impl std::fmt::Debug for ClusterHarness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterHarness")
    }
}

impl ClusterHarness {
    /// `connect` makes the connector under test for a cluster.
    pub fn new(
        pool: &'static ClusterPool,
        connect: impl Fn(&RedisCluster) -> Arc<dyn Connector> + Send + Sync + 'static,
    ) -> Self {
        Self {
            pool,
            connect: Box::new(connect),
        }
    }
}

#[async_trait]
impl Harness for ClusterHarness {
    async fn open(&self) -> Fixture {
        let cluster = self.pool.take().await;
        Fixture::new(ClusterBackend {
            connector: (self.connect)(&cluster),
            clients: tokio::sync::Mutex::new(cluster.clients().await),
            cluster: Some(cluster),
            pool: self.pool,
        })
        .await
    }
}

/// A cluster as a [`Backend`].
#[derive(Debug)]
struct ClusterBackend {
    connector: Arc<dyn Connector>,
    /// One for each node.
    clients: tokio::sync::Mutex<Vec<Resp>>,
    /// Gone only while this is dropped.
    cluster: Option<RedisCluster>,
    pool: &'static ClusterPool,
}

impl Drop for ClusterBackend {
    fn drop(&mut self) {
        // After a failed case nobody knows what still runs there.
        if let Some(cluster) = self.cluster.take()
            && !std::thread::panicking()
        {
            self.pool.give_back(cluster);
        }
    }
}

#[async_trait]
impl Backend for ClusterBackend {
    async fn connect(&self, env: Env) -> Arc<dyn Storage> {
        let connected = self.connector.connect(env).await;
        connected.unwrap_or_else(|error| panic!("the storage under test does not connect: {error:?}"))
    }

    async fn raw_state(&self) -> RawState {
        let mut state = RawState::new();
        for client in self.clients.lock().await.iter_mut() {
            state.extend(client.raw_state().await);
        }
        state
    }

    async fn ttl(&self, key: &str) -> Option<i64> {
        let place = RedisCluster::place_of(key.as_bytes());
        self.clients.lock().await[place].ttl(key).await
    }

    async fn put(&self, values: Vec<(String, Option<RawValue>)>) {
        let mut clients = self.clients.lock().await;
        for (key, value) in values {
            let place = RedisCluster::place_of(key.as_bytes());
            for reply in clients[place].pipeline(&put_commands(&key, value.as_ref())).await {
                assert_eq!(reply.error(), None, "a foreign write");
            }
        }
    }

    fn has_virtual_time(&self) -> bool {
        false
    }
}
