//! Destinations of commands in a cluster.

use std::sync::Arc;

use asynq_core::error::BrokerError;
use redis::{Cmd, Value};

use super::{
    node::Node,
    slots::{Slots, slot_of},
};
use crate::{
    args::Args,
    failure::ErrorReply,
    link::{calls::CallName, side_connections::Way, wire::Wire},
};

/// The destination of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The master of a slot.
    Slot(u16),
    /// There too, or, as long as that one does not answer, to any other one.
    Rather(u16),
    /// Any master.
    Any,
    /// All masters.
    All,
}

impl Target {
    pub(super) fn of_key(key: &[u8]) -> Self {
        Self::Slot(slot_of(key))
    }

    /// Returns the target of a command. All commands begin with their key, but for the few that have none. A
    /// channel counts as a key, so that messages of one publisher take one way and keep their order.
    pub(super) fn of(cmd: &Cmd) -> Self {
        let mut words = cmd.args_iter().filter_map(|word| match word {
            redis::Arg::Simple(word) => Some(word),
            _ => None,
        });
        match (words.next(), words.next()) {
            (Some(b"PING"), _) => Self::All,
            (Some(b"PUBLISH"), Some(channel)) => Self::Rather(slot_of(channel)),
            (_, None) => Self::Any,
            (_, Some(key)) => Self::of_key(key),
        }
    }

    /// The node among these.
    pub(super) fn find(self, slots: &Slots) -> Option<&Arc<Node>> {
        let ready = |node: &&Arc<Node>| node.ready().is_some();
        match self {
            Self::Slot(slot) => slots.get(slot),
            Self::Rather(slot) => slots.get(slot).filter(ready).or_else(|| Self::Any.find(slots)),
            Self::Any | Self::All => slots.nodes().iter().find(ready).or_else(|| slots.nodes().first()),
        }
    }
}

/// A node that answers, and a connection to it.
pub(super) struct Place {
    pub(super) node: Arc<Node>,
    pub(super) wire: Arc<Wire>,
    /// `true` for a connection beside the main one. Takes are never sent there, so [`Cluster::kill`] need not end
    /// it.
    pub(super) beside: bool,
}

impl Place {
    pub(super) fn new(node: Arc<Node>, wire: Arc<Wire>) -> Self {
        Self {
            node,
            wire,
            beside: false,
        }
    }

    /// The same node, by the connection for a call with these arguments.
    pub(super) async fn by(self, way: Way, args: &Args) -> Result<Self, BrokerError> {
        let Self { node, wire, .. } = self;
        let main = wire.number();
        let wire = node.beside(wire, way, args).await?;
        Ok(Self {
            beside: wire.number() != main,
            node,
            wire,
        })
    }

    /// Notes that a call is about to be sent.
    pub(super) fn note(&self) {
        if !self.beside {
            self.node.sent().on(self.wire.number());
        }
    }

    pub(super) async fn ask(&self, cmd: &Cmd, name: &CallName) -> Result<Result<Value, ErrorReply>, BrokerError> {
        self.node.ask(&self.wire, cmd, name.clone()).await
    }
}
