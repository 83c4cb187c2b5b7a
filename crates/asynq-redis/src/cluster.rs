//! The link to a cluster, through the redis crate's cluster client.
//!
//! The client knows the nodes, which slots they serve, and connects again to those it has lost. What it
//! would do behind the caller's back it may not do here (SAFETY rule 4): it retries nothing, it has no limit
//! for answers, and each command is sent alone, to the node of its slot. Redirects are followed here.
//!
//! When the client fails to learn the slots anew, it ends all open calls with the reason for that, those
//! too that were sent. So of its errors only those replies count as refusals that no other command than the
//! call's own can have got; all others leave open whether the call took effect.

mod nodes;

use std::{fmt, sync::Arc};

use asynq_core::{
    broker::{Env, Watch},
    error::BrokerError,
};
use futures::future::join_all;
use redis::{Cmd, Value};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use self::nodes::{Nodes, Target};
use crate::{
    clock_sync,
    failure::{ErrorReply, without_effect},
    link::{
        LOADS, Probe, REPORT_EVERY, STOOD_WELL, Script, backoff,
        current::{Current, State},
        name_of,
        owned::Owned,
        policy,
        settings::{Address, Settings},
        wire::Wire,
    },
    pubsub::Subscriptions,
};

/// How often a call is redirected. Go's limit is 8.
const REDIRECTS: u32 = 8;

/// A handle to a cluster. Cheap to clone; clones share the connections. The last one dropped closes them.
#[derive(Clone)]
pub(crate) struct Cluster {
    core: Arc<Core>,
    keeper: Arc<Owned>,
}

/// What the handles and the keeper share.
struct Core {
    /// What all nodes have in common.
    common: Settings,
    /// Those that were named.
    seeds: Vec<Address>,
    env: Env,
    state: Current<Nodes>,
    subscriptions: Subscriptions,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = describe(&self.core.common, &self.core.seeds);
        write!(f, "Cluster({name} {})", self.core.state.describe())
    }
}

/// The nodes that were named, without user and password.
pub(crate) fn describe(common: &Settings, seeds: &[Address]) -> String {
    let names: Vec<_> = seeds.iter().map(|seed| at(common, seed).to_string()).collect();
    names.join(",")
}

/// The settings of one node.
fn at(common: &Settings, address: &Address) -> Settings {
    Settings {
        address: address.clone(),
        ..common.clone()
    }
}

impl Cluster {
    /// Connects to all masters. Warns if a node that was named may evict keys, and corrects a system clock by
    /// that of the node with the index of queues.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] if no node that was named is there; `Refused` if the first that is does not
    /// let us in; `InvalidConnection` if it is no node of a cluster, or for TLS or a database.
    pub(crate) async fn open(common: Settings, seeds: Vec<Address>, env: Env) -> Result<Self, BrokerError> {
        if common.uses_tls() {
            return Err(invalid("TLS is not to be had in a cluster yet"));
        }
        if common.db != 0 {
            return Err(invalid("db: a cluster has no database but 0"));
        }
        let nodes = Arc::new(connect(&common, &seeds, &env).await?);
        clock_sync::sync(&env.clock, &*nodes).await;
        let core = Arc::new(Core {
            common,
            seeds,
            env,
            state: Current::new(Arc::clone(&nodes)),
            subscriptions: Subscriptions::default(),
        });
        let keeper = Owned::spawn(keep(Arc::clone(&core), nodes));
        Ok(Self {
            core,
            keeper: Arc::new(keeper),
        })
    }

    /// See [`Links`](crate::links::Links) for this and what follows.
    pub(crate) fn connection(&self) -> u64 {
        self.core.state.live().ok().flatten().map_or(0, |nodes| nodes.number())
    }

    pub(crate) async fn eval(
        &self,
        script: &Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, BrokerError> {
        let nodes = self.nodes().await?;
        run(&nodes, script, &keys, &args).await
    }

    pub(crate) async fn eval_on(
        &self,
        connection: u64,
        script: &Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, BrokerError> {
        match self.core.state.live()? {
            Some(nodes) if nodes.number() == connection => run(&nodes, script, &keys, &args).await,
            _ => Err(BrokerError::unavailable("the connections of this call were replaced")),
        }
    }

    pub(crate) async fn command(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        self.send_to(target_of(cmd), cmd).await
    }

    pub(crate) async fn command_at(&self, key: &[u8], cmd: &Cmd) -> Result<Value, BrokerError> {
        self.send_to(Target::of_key(key), cmd).await
    }

    async fn send_to(&self, target: Target, cmd: &Cmd) -> Result<Value, BrokerError> {
        let nodes = self.nodes().await?;
        let answer = send(&nodes, cmd, target, &name_of(cmd)).await?;
        answer.map_err(Into::into)
    }

    /// One by one, at the same time: a pipeline would be sent again as a whole where one of them is redirected.
    pub(crate) async fn pipeline(&self, cmds: &[Cmd]) -> Vec<Result<Value, BrokerError>> {
        join_all(cmds.iter().map(|cmd| self.command(cmd))).await
    }

    /// The client tells neither which connection a call went over nor when it replaces one.
    pub(crate) async fn kill(&self, connection: u64) -> Result<(), BrokerError> {
        if connection == 0 {
            return Ok(());
        }
        Err(BrokerError::Unsupported {
            what: "CLIENT KILL in a cluster",
        })
    }

    /// On any node: in a cluster each passes messages on to all.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<mpsc::Receiver<Vec<u8>>, BrokerError> {
        let is_closed = || self.core.state.is_closed();
        let mut last = BrokerError::Closed;
        for seed in in_some_order(&self.core.seeds, &self.core.env) {
            let settings = at(&self.core.common, seed);
            match self.core.subscriptions.subscribe(&settings, &is_closed, channel).await {
                Err(error) if !is_closed() => last = error,
                done => return done,
            }
        }
        Err(last)
    }

    pub(crate) async fn watch(&self, _: Probe) -> Result<Watch, BrokerError> {
        if self.core.state.is_closed() {
            return Err(BrokerError::Closed);
        }
        Err(BrokerError::Unsupported {
            what: "watches in a cluster",
        })
    }

    pub(crate) fn env(&self) -> &Env {
        &self.core.env
    }

    /// Ends all connections. Calls without answer become ambiguous, later ones are
    /// [`BrokerError::Closed`], subscriptions end.
    pub(crate) async fn close(&self) {
        self.keeper.abort();
        if let Some(nodes) = self.core.state.close() {
            nodes.cut();
        }
        self.core.subscriptions.close();
    }

    async fn nodes(&self) -> Result<Arc<Nodes>, BrokerError> {
        self.core.state.wait(self.core.common.wait_timeout).await
    }
}

fn invalid(reason: &str) -> BrokerError {
    BrokerError::InvalidConnection {
        reason: reason.to_owned(),
    }
}

/// All of them, beginning anywhere.
fn in_some_order<'s>(seeds: &'s [Address], env: &Env) -> impl Iterator<Item = &'s Address> {
    let place = usize::try_from(env.entropy.bits()).unwrap_or_default() % seeds.len().max(1);
    let (before, from) = seeds.split_at(place);
    from.iter().chain(before)
}

/// Where a command belongs: all that we send begin with their key, but for the few that have none. A channel
/// counts as a key, so that messages of one publisher take one way and keep their order.
fn target_of(cmd: &Cmd) -> Target {
    let mut words = cmd.args_iter().filter_map(|word| match word {
        redis::Arg::Simple(word) => Some(word),
        _ => None,
    });
    match (words.next(), words.next()) {
        (Some(b"PING"), _) => Target::AllMasters,
        (_, None) => Target::AnyMaster,
        (_, Some(key)) => Target::of_key(key),
    }
}

/// Runs a script on the node of its keys.
async fn run(nodes: &Nodes, script: &Script, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Result<Value, BrokerError> {
    let target = || keys.first().map_or(Target::AnyMaster, |key| Target::of_key(key));
    let invoke = script.invoke(keys, args);
    let mut answer = send(nodes, &invoke, target(), script.name).await?;
    for _ in 0..LOADS {
        match &answer {
            Err(reply) if reply.is_no_script() => {}
            _ => break,
        }
        let loaded = send(nodes, &script.load(), target(), script.name).await;
        loaded.map_err(without_effect)??;
        answer = send(nodes, &invoke, target(), script.name).await?;
    }
    answer.map_err(Into::into)
}

/// Sends one command, and again where a node says that another one serves its slot.
async fn send(
    nodes: &Nodes,
    cmd: &Cmd,
    mut target: Target,
    name: &str,
) -> Result<Result<Value, ErrorReply>, BrokerError> {
    let mut answer = nodes.ask(cmd, &target, name).await?;
    for _ in 0..REDIRECTS {
        match &answer {
            // The client learns the slots anew before it sends anything else.
            Err(reply) if reply.code == "MOVED" => {}
            Err(reply) if reply.code == "ASK" => match Target::asked(&reply.text) {
                Some(there) => target = there,
                None => break,
            },
            _ => break,
        }
        answer = nodes.ask(cmd, &target, name).await?;
        if let Target::Asked { key_of, .. } = target {
            target = *key_of;
        }
    }
    Ok(answer)
}

/// Connects to the nodes that were named until one answers, and then to all that it knows.
async fn connect(common: &Settings, seeds: &[Address], env: &Env) -> Result<Nodes, BrokerError> {
    let mut last = invalid("nodes: at least one address is needed");
    for seed in in_some_order(seeds, env) {
        let settings = at(common, seed);
        // The client says only that it could not connect; this says why, and what the node speaks.
        match Wire::open(&settings, "", None, env.entropy.bits()).await {
            Ok(wire) => {
                let mut info = redis::cmd("CLUSTER");
                info.arg("INFO");
                let told = wire.ask(&info, "CLUSTER INFO".into()).await.map_err(without_effect)?;
                if let Err(reply) = told {
                    let error = BrokerError::from(reply);
                    return Err(match error {
                        BrokerError::Refused { source } => {
                            invalid(&format!("nodes: {settings} is no node of a cluster: {source}"))
                        }
                        other => other,
                    });
                }
                policy::check(&wire, &settings.to_string()).await;
                return Nodes::connect(common, seeds, wire.is_resp3(), env).await;
            }
            Err(error @ BrokerError::Unavailable { .. }) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Replaces all connections whenever a node answers no more, for as long as the link lives.
async fn keep(core: Arc<Core>, mut nodes: Arc<Nodes>) {
    let mut attempt = 0;
    loop {
        let since = Instant::now();
        tokio::select! {
            () = nodes.until_silent(core.common.pace) => {}
            () = clock_sync::keep_in_sync(&core.env.clock, &*nodes) => continue,
        }
        if since.elapsed() >= STOOD_WELL {
            attempt = 0;
        }
        let server = describe(&core.common, &core.seeds);
        tracing::warn!(%server, "a node of the cluster answers no more; all connections are given up");
        nodes.cut();
        core.state.set(State::Down(None));
        nodes = reconnect(&core, &mut attempt).await;
        core.state.set(State::Up(Arc::clone(&nodes)));
    }
}

/// Tries until there are connections.
async fn reconnect(core: &Core, attempt: &mut u32) -> Arc<Nodes> {
    let mut reported: Option<Instant> = None;
    loop {
        sleep(backoff(&core.env, *attempt)).await;
        *attempt = attempt.saturating_add(1);
        match connect(&core.common, &core.seeds, &core.env).await {
            Ok(nodes) => {
                clock_sync::sync(&core.env.clock, &nodes).await;
                return Arc::new(nodes);
            }
            Err(error) => {
                if reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
                    reported = Some(Instant::now());
                    let server = describe(&core.common, &core.seeds);
                    tracing::warn!(%server, %error, "no connection to the cluster; trying on");
                }
                core.state.set(State::Down(Some(Arc::new(error))));
            }
        }
    }
}
