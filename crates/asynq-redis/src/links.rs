//! The links of a broker: one server, or the nodes of a cluster. Operations need not know which.

use std::fmt;

use asynq_core::{
    broker::{Env, Watch},
    error::BrokerError,
};
use futures::future::join_all;
use redis::{Cmd, Value};
use tokio::sync::mpsc;

#[cfg(feature = "cluster")]
use crate::cluster::{Cluster, ClusterMaster};
use crate::{
    args::Args,
    clock_sync::Timekeeper,
    link::{Link, Probe, Script, side_connections::Way},
};

/// A handle; cheap to clone, clones share the connections.
#[derive(Clone, Debug)]
pub(crate) enum Links {
    /// One server, perhaps the one that sentinels call the master.
    One(Link),
    /// Each queue on a node of its own.
    #[cfg(feature = "cluster")]
    Cluster(Cluster),
}

/// The same of whichever it is.
macro_rules! each {
    ($links:expr, $link:ident => $call:expr) => {
        match $links {
            Links::One($link) => $call,
            #[cfg(feature = "cluster")]
            Links::Cluster($link) => $call,
        }
    };
}

impl fmt::Display for Links {
    /// Writes the address or addresses, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, link => link.fmt(f))
    }
}

impl Timekeeper for Links {
    async fn time(&self) -> Option<Value> {
        each!(self, link => link.time().await)
    }
}

impl Links {
    /// Returns which connection is live, 0 if there is none; see [`Link::connection`].
    pub(crate) fn connection(&self) -> u64 {
        each!(self, link => link.connection())
    }

    /// Runs a script. Its keys share one slot.
    pub(crate) async fn eval(
        &self,
        script: &Script,
        keys: impl Into<Args>,
        args: impl Into<Args>,
    ) -> Result<Value, BrokerError> {
        each!(self, link => link.eval(script, keys.into(), args.into()).await)
    }

    /// [`eval`](Self::eval) of a script that must not wait behind data, and is safe in any order beside other
    /// calls. Its answer is small.
    pub(crate) async fn eval_timely(
        &self,
        script: &Script,
        keys: impl Into<Args>,
        args: impl Into<Args>,
    ) -> Result<Value, BrokerError> {
        each!(self, link => link.eval_by(Way::Timely, script, keys.into(), args.into()).await)
    }

    /// [`eval`](Self::eval) of a script behind whose arguments nothing should wait if one of them is large. It is
    /// safe in any order beside other calls. Its answer is small.
    pub(crate) async fn eval_apart(
        &self,
        script: &Script,
        keys: impl Into<Args>,
        args: impl Into<Args>,
    ) -> Result<Value, BrokerError> {
        each!(self, link => link.eval_by(Way::Apart, script, keys.into(), args.into()).await)
    }

    /// [`command`](Self::command) that must not wait behind data, and is safe in any order beside other calls. It
    /// and its answer are small.
    pub(crate) async fn command_timely(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        each!(self, link => link.command_timely(cmd).await)
    }

    /// Sends commands, all at once, that take effect behind all that was sent before on any connection. They
    /// may be sent more than once.
    ///
    /// # Errors
    /// That of the first command that failed.
    pub(crate) async fn commands_last(&self, cmds: &[Cmd]) -> Result<(), BrokerError> {
        let answers = match self {
            Self::One(link) => join_all(cmds.iter().map(|cmd| link.command_last(cmd))).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => join_all(cmds.iter().map(|cmd| cluster.command_last(cmd))).await,
        };
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }

    /// Runs a script if `connection` is the live one; else nothing is sent and the answer is
    /// [`BrokerError::Unavailable`].
    pub(crate) async fn eval_on(
        &self,
        connection: u64,
        script: &Script,
        keys: impl Into<Args>,
        args: impl Into<Args>,
    ) -> Result<Value, BrokerError> {
        each!(self, link => link.eval_on(connection, script, keys.into(), args.into()).await)
    }

    /// Sends a command that does not begin with a key to where `key` is, or would be.
    pub(crate) async fn command_at(&self, key: &[u8], cmd: &Cmd) -> Result<Value, BrokerError> {
        each!(self, link => link.command_at(key, cmd).await)
    }

    /// Sends a command. It begins with its keys, which share one slot, or has none.
    pub(crate) async fn command(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        each!(self, link => link.command(cmd).await)
    }

    /// Returns the servers that have the keys: one, or the masters of a cluster.
    pub(crate) fn masters(&self) -> Result<Vec<Master>, BrokerError> {
        match self {
            Self::One(link) => Ok(vec![Master::One(link.clone())]),
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => Ok(cluster.masters()?.into_iter().map(Master::Node).collect()),
        }
    }

    /// Sends commands, all at once; as many answers as commands.
    pub(crate) async fn pipeline(&self, cmds: &[Cmd]) -> Vec<Result<Value, BrokerError>> {
        each!(self, link => link.pipeline(cmds).await)
    }

    /// Makes sure that nothing more runs that was sent on `connection` to where `key` is, or would be.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] where that is not possible: what was sent may still run for a while.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(unused_variables, reason = "one server has all keys")
    )]
    pub(crate) async fn kill(&self, connection: u64, key: &[u8]) -> Result<(), BrokerError> {
        match self {
            Self::One(link) => link.kill(connection).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => cluster.kill(connection, key).await,
        }
    }

    /// Returns the slot of a key in a cluster; `None` if there is one server.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(unused_variables, reason = "one server has no slots")
    )]
    pub(crate) fn slot_of(&self, key: &[u8]) -> Option<u16> {
        match self {
            Self::One(_) => None,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => Some(crate::cluster::slot_of(key)),
        }
    }

    /// Returns whether all queues are on a server whose time the system's clock follows. The nodes of a cluster have
    /// clocks of their own.
    pub(crate) fn tells_one_time(&self) -> bool {
        match self {
            Self::One(link) => link.env().clock.is_system(),
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => false,
        }
    }

    /// Returns whether one script can write keys of any slots.
    pub(crate) fn has_one_slot(&self) -> bool {
        match self {
            Self::One(_) => true,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => false,
        }
    }

    /// Subscribes to a channel; the messages end when its connection is lost.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<mpsc::Receiver<Vec<u8>>, BrokerError> {
        each!(self, link => link.subscribe(channel).await)
    }

    /// Looks, by a script that only reads, and, if there is nothing, leaves a watch on its keys.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] where the server does not tell of changes.
    pub(crate) async fn watch(&self, probe: Probe) -> Result<Watch, BrokerError> {
        each!(self, link => link.watch(probe).await)
    }

    /// Returns what it was opened with.
    pub(crate) fn env(&self) -> &Env {
        each!(self, link => link.env())
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        each!(self, link => link.close().await);
    }
}

/// One of the servers that have the keys.
#[derive(Clone, Debug)]
pub(crate) enum Master {
    /// The only one.
    One(Link),
    /// A node of a cluster.
    #[cfg(feature = "cluster")]
    Node(ClusterMaster),
}

impl Master {
    /// Returns its `host:port` in a cluster.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Self::One(_) => None,
            #[cfg(feature = "cluster")]
            Self::Node(node) => Some(node.name()),
        }
    }

    /// Sends it a command.
    pub(crate) async fn command(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        match self {
            Self::One(link) => link.command_timely(cmd).await,
            #[cfg(feature = "cluster")]
            Self::Node(node) => node.command(cmd).await,
        }
    }
}
