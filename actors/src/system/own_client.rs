//! Clients that have a small system of their own.

use std::{sync::Arc, time::Duration};

use asynq_core::{ClientConfig, Connector, Result};
use futures::future::{BoxFuture, FutureExt as _};

use super::AsynqSystem;
use crate::client::{Client, OwnSystem};

struct Own(AsynqSystem);

impl OwnSystem for Own {
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.0.shutdown().map(drop).boxed()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Client {
    /// Makes a client on the storage that the connector opens, with default settings. It connects in the background:
    /// [`ping`](Self::ping) says whether the storage answers.
    ///
    /// # Errors
    /// [`Error::Actor`](asynq_core::Error::Actor) when its actors cannot start.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn new(connector: impl Connector) -> Result<Self> {
        Self::with_config(connector, ClientConfig::new()).await
    }

    /// Makes a client with settings.
    ///
    /// # Errors
    /// [`Error::Config`](asynq_core::Error::Config) with all faults at once, and those of [`new`](Self::new).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn with_config(connector: impl Connector, config: ClientConfig) -> Result<Self> {
        let builder = AsynqSystem::builder(connector).client_config(config);
        Ok(Self::of_its_own(builder.spawn().await?))
    }

    /// Makes a client once the storage answers, or fails with the reason, after `within` at the latest.
    ///
    /// # Errors
    /// [`Error::Broker`](asynq_core::Error::Broker) with an [`Outage`](asynq_core::error::Outage), at once
    /// where the storage refuses the credentials; and those of [`new`](Self::new).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(connector: impl Connector, within: Duration) -> Result<Self> {
        let builder = AsynqSystem::builder(connector).connect_within(within);
        Ok(Self::of_its_own(builder.spawn().await?))
    }

    fn of_its_own(system: AsynqSystem) -> Self {
        let own = Arc::new(Own(system.clone()));
        system.client().owning(own)
    }
}
