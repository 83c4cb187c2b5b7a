//! A connector whose storages fail on demand.

use std::sync::Arc;

use async_trait::async_trait;
use asynq_core::{BrokerError, Connector, Env, Storage};

use super::{Faults, Op};

/// Wraps a [`Connector`]: connecting can fail ([`Op::Connect`]), and what it opens is a
/// [`FaultyBroker`](super::FaultyBroker) under the same control.
#[derive(Clone, Debug)]
pub struct FaultyConnector<C> {
    inner: C,
    faults: Faults,
}

impl<C: Connector> FaultyConnector<C> {
    /// A connector that does what the control says.
    pub fn new(inner: C, faults: Faults) -> Self {
        Self { inner, faults }
    }

    /// The control.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

#[async_trait]
impl<C: Connector> Connector for FaultyConnector<C> {
    async fn connect(&self, env: Env) -> Result<Arc<dyn Storage>, BrokerError> {
        let storage = self.faults.guard(Op::Connect, self.inner.connect(env)).await?;
        Ok(Arc::new(self.faults.around(storage)))
    }

    fn describe(&self) -> String {
        format!("faulty {}", self.inner.describe())
    }

    fn env(&self) -> Env {
        self.inner.env()
    }
}
