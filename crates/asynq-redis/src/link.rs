//! The link to one Redis: one connection for the calls of all, replaced when it is lost, and two beside it.
//!
//! Nothing is sent twice behind the caller's back. A call is written once, on the connection that
//! lives at that moment, and ends with its answer or with that connection
//! ([`BrokerError::Ambiguous`]). The one exception is NOSCRIPT, a definite refusal.

pub(crate) mod activity;
pub(crate) mod backoff;
pub(crate) mod calls;
pub(crate) mod current;
mod keeper;
pub(crate) mod liveness;
pub(crate) mod owned;
pub(crate) mod policy;
pub(crate) mod script;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinels;
pub(crate) mod server_check;
pub(crate) mod settings;
mod side_calls;
pub(crate) mod side_connections;
pub(crate) mod socket;
pub(crate) mod state;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod wire;

#[cfg(feature = "cluster")]
use std::time::Duration;
use std::{fmt, sync::Arc};

use asynq_core::{
    broker::{Env, Watch},
    error::BrokerError,
};
use futures::future::{join, join_all};
use redis::{Cmd, Value};
use tokio::sync::mpsc;

use self::{
    current::Current,
    keeper::attend,
    owned::Owned,
    side_connections::Way,
    state::LinkState,
    wire::{ClientId, Wire},
};
#[cfg(feature = "cluster")]
use self::{
    current::State,
    keeper::{keep, reconnect},
};
pub(crate) use self::{
    script::{Script, name_of},
    settings::Settings,
};
pub(crate) use crate::watcher::Probe;
use crate::{
    args::Args,
    clock_sync,
    failure::{classify, without_effect},
};

/// A handle to one Redis. Cheap to clone; clones share the connection, and all follow when it is
/// replaced. The last one dropped closes it.
#[derive(Clone)]
pub(crate) struct Link {
    core: Arc<LinkState>,
    keeper: Arc<Owned>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} {})", self.core.settings, self.core.state.describe())
    }
}

impl fmt::Display for Link {
    /// Writes the address, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.settings.fmt(f)
    }
}

impl Link {
    /// Connects: RESP3 where it is spoken, else RESP2; user, database and name as in the settings.
    /// Warns if the server may evict keys, and corrects a system clock by the server's.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] if there is no server, `Refused` if it does not let us in,
    /// `InvalidConnection` if the settings cannot be right, `Busy` if it is starting.
    pub(crate) async fn open(settings: Settings, env: Env) -> Result<Self, BrokerError> {
        let wire = Arc::new(Wire::open(&settings, "", None, env.entropy.bits()).await?);
        policy::check(&wire, &settings.to_string()).await;
        clock_sync::sync(&env.clock, &*wire).await;
        let core = Arc::new(LinkState::new(settings, env, Current::new(Arc::clone(&wire))));
        let keeper = Owned::spawn(attend(Arc::clone(&core), wire));
        Ok(Self {
            core,
            keeper: Arc::new(keeper),
        })
    }

    /// A link whose connection is made in the background; calls wait for it as they do when it is lost.
    #[cfg(feature = "cluster")]
    pub(crate) fn begin(settings: Settings, env: Env) -> Self {
        let core = Arc::new(LinkState::new(settings, env, Current::none()));
        let keeper = Arc::clone(&core);
        let keeper = Owned::spawn(async move {
            let wire = reconnect(&keeper, None, &mut 0).await;
            keeper.state.set(State::Up(Arc::clone(&wire)));
            keep(&keeper, wire).await;
        });
        Self {
            core,
            keeper: Arc::new(keeper),
        }
    }

    /// The live connection, if there is one.
    #[cfg(feature = "cluster")]
    pub(crate) fn live(&self) -> Result<Option<Arc<Wire>>, BrokerError> {
        self.core.state.live()
    }

    /// The live connection; waits for one at most so long.
    #[cfg(feature = "cluster")]
    pub(crate) async fn wait(&self, limit: Duration) -> Result<Arc<Wire>, BrokerError> {
        self.core.state.wait(limit).await
    }

    /// The live connection, as soon as there is one; `None` once the link is closed.
    #[cfg(feature = "cluster")]
    pub(crate) async fn until_up(&self) -> Option<Arc<Wire>> {
        self.core.state.until_up().await
    }

    /// Returns which connection is live, 0 if there is none. To be given to [`eval_on`](Self::eval_on) and
    /// [`kill`](Self::kill), of this link or a later one to the same server; it has no other meaning.
    pub(crate) fn connection(&self) -> u64 {
        self.core.state.live().ok().flatten().map_or(0, |wire| wire.number())
    }

    /// Runs a script.
    pub(crate) async fn eval(
        &self,
        script: &Script,
        keys: impl Into<Args>,
        args: impl Into<Args>,
    ) -> Result<Value, BrokerError> {
        let invoke = script.invoke(&keys.into(), &args.into());
        let wire = self.core.wire().await?;
        self.core.eval(&wire, script, &invoke).await
    }

    /// [`eval`](Self::eval) of a script that is safe in any order beside other calls, on the connection that its
    /// arguments are for.
    pub(crate) async fn eval_by(
        &self,
        way: Way,
        script: &Script,
        keys: impl Into<Args>,
        args: impl Into<Args>,
    ) -> Result<Value, BrokerError> {
        let args = args.into();
        let invoke = script.invoke(&keys.into(), &args);
        let main = self.core.wire().await?;
        let wire = match way.role(&args) {
            None => main,
            Some(role) => self.core.beside(main, role).await,
        };
        self.core.eval(&wire, script, &invoke).await
    }

    /// The connection for a call with these arguments, which is safe in any order beside other calls.
    pub(crate) async fn beside(&self, main: Arc<Wire>, way: Way, args: &Args) -> Arc<Wire> {
        match way.role(args) {
            None => main,
            Some(role) => self.core.beside(main, role).await,
        }
    }

    /// The connections that are open beside the main one.
    pub(crate) fn sides(&self, main: &Wire) -> Vec<Arc<Wire>> {
        self.core.sides.open_ones(main)
    }

    /// [`command`](Self::command) that must not wait behind data. It and its answer are small.
    pub(crate) async fn command_timely(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        let wire = self
            .beside(self.core.wire().await?, Way::Timely, &Args::default())
            .await;
        let answer = wire.ask(cmd, name_of(cmd).into()).await?;
        self.core.heard(answer)
    }

    /// Sends a command that takes effect behind all that was sent before, on whichever connection: so it goes on
    /// each. It must be one that may be repeated.
    pub(crate) async fn command_last(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        let wire = self.core.wire().await?;
        let sides = self.sides(&wire);
        let on_sides = join_all(sides.iter().map(|side| side.ask(cmd, name_of(cmd).into())));
        let (answer, _) = join(wire.ask(cmd, name_of(cmd).into()), on_sides).await;
        self.core.heard(answer?)
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
        match self.core.state.live()? {
            Some(wire) if wire.number() == connection => {
                let invoke = script.invoke(&keys.into(), &args.into());
                self.core.eval(&wire, script, &invoke).await
            }
            _ => Err(BrokerError::unavailable("the connection of this call was replaced")),
        }
    }

    /// Sends a command.
    pub(crate) async fn command(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        let wire = self.core.wire().await?;
        let answer = wire.ask(cmd, name_of(cmd).into()).await?;
        self.core.heard(answer)
    }

    /// Sends a command; all keys are here.
    pub(crate) async fn command_at(&self, _key: &[u8], cmd: &Cmd) -> Result<Value, BrokerError> {
        self.command(cmd).await
    }

    /// Sends commands in one write; as many answers as commands.
    pub(crate) async fn pipeline(&self, cmds: &[Cmd]) -> Vec<Result<Value, BrokerError>> {
        let wire = match self.core.wire().await {
            Ok(wire) => wire,
            Err(BrokerError::Closed) => return cmds.iter().map(|_| Err(BrokerError::Closed)).collect(),
            Err(error) => {
                let cause = Arc::new(error);
                return cmds
                    .iter()
                    .map(|_| Err(BrokerError::unavailable(Arc::clone(&cause))))
                    .collect();
            }
        };
        match wire.ask_all(cmds, "pipeline").await {
            Ok(answers) => answers.into_iter().map(|answer| self.core.heard(answer)).collect(),
            Err(error) => cmds.iter().map(|_| Err(classify(error.clone(), true))).collect(),
        }
    }

    /// Makes sure that nothing more runs that was sent on `connection`: on the live connection by
    /// waiting for an answer behind it, on an earlier one by ending it at the server.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] where we may not: what was sent may still run for a while.
    pub(crate) async fn kill(&self, connection: u64) -> Result<(), BrokerError> {
        if connection == 0 {
            return Ok(());
        }
        let wire = self.core.wire().await?;
        if wire.number() == connection {
            // Answers come in order. An error reply is one too.
            return wire
                .ask(&redis::cmd("PING"), "PING".into())
                .await
                .map(drop)
                .map_err(without_effect);
        }
        let id = match wire::client_id(connection, wire.number()) {
            ClientId::Known(id) => id,
            ClientId::OtherServer => return Ok(()),
            ClientId::Unknown => return Err(BrokerError::Unsupported { what: "CLIENT KILL" }),
        };
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(id);
        match wire.ask(&kill, "CLIENT KILL".into()).await.map_err(without_effect)? {
            Ok(_) => Ok(()),
            Err(reply) if matches!(reply.code.as_str(), "NOPERM" | "ERR") => {
                Err(BrokerError::Unsupported { what: "CLIENT KILL" })
            }
            Err(reply) => Err(self.core.refused(reply)),
        }
    }

    /// Subscribes to a channel, on a connection of its own; returns once the server has confirmed.
    /// The messages end when the connection is lost.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<mpsc::Receiver<Vec<u8>>, BrokerError> {
        let peer = self.core.wire().await?.peer().clone();
        let LinkState {
            settings,
            subscriptions,
            ..
        } = &*self.core;
        subscriptions
            .subscribe(settings, Some(&peer), &|| self.core.is_closed(), channel)
            .await
    }

    /// Looks, by a script that only reads, and, if there is nothing, leaves a watch on its keys.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] where the server does not tell of changes.
    pub(crate) async fn watch(&self, probe: Probe) -> Result<Watch, BrokerError> {
        self.core.watcher.watch(&self.core, probe).await
    }

    /// Returns what TIME answers; `None` if it does not.
    pub(crate) async fn time(&self) -> Option<Value> {
        self.command(&redis::cmd("TIME")).await.ok()
    }

    /// Returns what the link was opened with.
    pub(crate) fn env(&self) -> &Env {
        &self.core.env
    }

    /// Ends all connections. Calls without answer become ambiguous, later ones are
    /// [`BrokerError::Closed`], watches are lost, subscriptions end.
    pub(crate) async fn close(&self) {
        self.keeper.abort();
        if let Some(wire) = self.core.state.close() {
            wire.cut();
            wire.over().await;
        }
        self.core.sides.cut();
        self.core.watcher.close();
        self.core.subscriptions.end_all();
    }
}
