//! The way to the raw keys of a real server.

use std::sync::Arc;

use async_trait::async_trait;
use asynq_core::{
    Connector, Env, Storage,
    raw::{RawState, RawValue},
};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{Backend, Fixture, Harness};
use crate::{RedisServer, Resp};

type Connect = dyn Fn(&RedisServer) -> Arc<dyn Connector> + Send + Sync;

/// A private redis-server for each case, and the storage that a connector opens on it.
pub struct RedisHarness {
    connect: Box<Connect>,
}

impl std::fmt::Debug for RedisHarness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisHarness")
    }
}

impl RedisHarness {
    /// `connect` makes the connector under test for a server.
    pub fn new(connect: impl Fn(&RedisServer) -> Arc<dyn Connector> + Send + Sync + 'static) -> Self {
        Self {
            connect: Box::new(connect),
        }
    }
}

#[async_trait]
impl Harness for RedisHarness {
    async fn open(&self) -> Fixture {
        let server = RedisServer::start().await;
        let connector = (self.connect)(&server);
        Fixture::new(RedisBackend::new(server, connector).await).await
    }
}

/// A redis-server as a [`Backend`].
#[derive(Debug)]
pub struct RedisBackend {
    connector: Arc<dyn Connector>,
    client: Mutex<Resp>,
    // Lives as long as its connections are needed.
    _server: RedisServer,
}

impl RedisBackend {
    /// A backend on a server that holds nothing yet.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn new(server: RedisServer, connector: Arc<dyn Connector>) -> Self {
        Self {
            connector,
            client: Mutex::new(server.client().await),
            _server: server,
        }
    }

    /// Deletes all keys, so that the next case finds nothing.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn clear(&self) {
        self.client.lock().await.ok(&["FLUSHALL"]).await;
    }
}

#[async_trait]
impl Backend for RedisBackend {
    async fn connect(&self, env: Env) -> Arc<dyn Storage> {
        let connected = self.connector.connect(env).await;
        connected.unwrap_or_else(|error| panic!("the storage under test does not connect: {error:?}"))
    }

    async fn raw_state(&self) -> RawState {
        self.client.lock().await.raw_state().await
    }

    async fn ttl(&self, key: &str) -> Option<i64> {
        self.client.lock().await.ttl(key).await
    }

    async fn put(&self, values: Vec<(String, Option<RawValue>)>) {
        let commands: Vec<_> = values
            .iter()
            .flat_map(|(key, value)| put_commands(key, value.as_ref()))
            .collect();
        for reply in self.client.lock().await.pipeline(&commands).await {
            assert_eq!(reply.error(), None, "a foreign write");
        }
    }

    fn has_virtual_time(&self) -> bool {
        false
    }
}

/// The commands that replace a key whole.
pub(super) fn put_commands(key: &str, value: Option<&RawValue>) -> Vec<Vec<Bytes>> {
    let text = |word: &str| Bytes::copy_from_slice(word.as_bytes());
    let mut commands = vec![vec![text("DEL"), text(key)]];
    let (name, args): (&str, Vec<Bytes>) = match value {
        None => return commands,
        Some(RawValue::String(value)) => ("SET", vec![value.clone()]),
        Some(RawValue::List(items)) => ("RPUSH", items.clone()),
        Some(RawValue::Set(members)) => ("SADD", members.iter().cloned().collect()),
        Some(RawValue::ZSet(entries)) => (
            "ZADD",
            entries
                .iter()
                .flat_map(|(member, score)| [text(&score.to_string()), member.clone()])
                .collect(),
        ),
        Some(RawValue::Hash(fields)) => (
            "HSET",
            fields
                .iter()
                .flat_map(|(field, value)| [text(field), value.clone()])
                .collect(),
        ),
    };
    commands.push([text(name), text(key)].into_iter().chain(args).collect());
    commands
}
