//! One master of a cluster, for commands that are not about a key.

use std::{fmt, sync::Arc};

use asynq_core::error::BrokerError;
use redis::{Cmd, Value};

use super::{node::Node, state::ClusterState};
use crate::link::{calls::CallName, name_of};

/// A master.
#[derive(Clone)]
pub(crate) struct ClusterMaster {
    core: Arc<ClusterState>,
    node: Arc<Node>,
}

impl fmt::Debug for ClusterMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}

impl ClusterMaster {
    pub(super) fn new(core: &Arc<ClusterState>, node: &Arc<Node>) -> Self {
        Self {
            core: Arc::clone(core),
            node: Arc::clone(node),
        }
    }

    /// Returns its `host:port`.
    pub(crate) fn name(&self) -> String {
        self.node.to_string()
    }

    /// Sends it a command. Waits no longer than any call does for a node that does not answer.
    pub(crate) async fn command(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        let place = self.core.place_of(|_| Some(Arc::clone(&self.node))).await?;
        place
            .ask(cmd, &CallName::from(name_of(cmd)))
            .await?
            .map_err(BrokerError::from)
    }
}
