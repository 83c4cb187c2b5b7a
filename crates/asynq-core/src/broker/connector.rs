//! Connectors, which open a storage.

use super::Storage;
use crate::{clock::Clock, entropy::Entropy, error::BrokerError};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;

/// The environment that a storage is opened with.
#[derive(Clone, Debug, Default)]
pub struct Env {
    /// The source of `now`.
    pub clock: Clock,
    /// The source of ids, tokens and jitter.
    pub entropy: Entropy,
}

/// Opens a storage. The broker actor holds a connector and needs no knowledge of Redis.
#[async_trait]
pub trait Connector: Send + Sync + fmt::Debug + 'static {
    /// Opens the storage and checks that it answers.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] when the storage cannot be reached, so that a later attempt may succeed. Other
    /// errors when the settings are wrong.
    ///
    /// # Cancel safety
    /// Safe: dropping the future drops the half-open connection.
    async fn connect(&self, env: Env) -> Result<Arc<dyn Storage>, BrokerError>;

    /// The address of the storage without secrets, for logs and the tree.
    fn describe(&self) -> String;

    /// The source of time and randomness for a system on this storage, unless the system is given another. Default:
    /// the operating system.
    fn env(&self) -> Env {
        Env::default()
    }
}

#[async_trait]
impl<C: Connector + ?Sized> Connector for Arc<C> {
    async fn connect(&self, env: Env) -> Result<Arc<dyn Storage>, BrokerError> {
        (**self).connect(env).await
    }

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn env(&self) -> Env {
        (**self).env()
    }
}
