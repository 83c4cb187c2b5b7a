//! The link to a cluster: a link for each node, and the map that says which node serves which slot.
//!
//! What one node does costs no other one anything. Each has its own connection with its own signs of life; it is
//! cut and made again alone. A call to a node that is silent ends after the node timeout, and the next ones are
//! refused at once until it answers again, so that what joins calls to several nodes waits once for a short time.
//!
//! The map is learned from whichever node answers first, and again when a node is unwell, when a call was
//! redirected, and every now and then. Nothing is sent twice behind the caller's back, except what a node has
//! refused: NOSCRIPT, MOVED, ASK.

mod master;
mod node;
mod slots;
mod state;
mod target;
mod topology;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use asynq_core::{
    broker::{Env, Watch},
    error::BrokerError,
};
use futures::future::{join, join_all};
use redis::{Cmd, Value};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};

pub(crate) use self::{master::ClusterMaster, slots::slot_of, state::describe};
use self::{
    state::{ClusterState, invalid},
    target::{Place, Target},
};
use crate::{
    args::Args,
    clock_sync::{self, Timekeeper as _},
    link::{
        Probe, Script,
        calls::CallName,
        name_of,
        owned::Owned,
        policy,
        settings::{Address, Settings},
        side_connections::Way,
    },
    pubsub::Subscriptions,
};

/// A handle to a cluster. Cheap to clone; clones share the connections. The last one dropped closes them.
#[derive(Clone)]
pub(crate) struct Cluster {
    core: Arc<ClusterState>,
    keeper: Arc<Owned>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = describe(&self.core.common, &self.core.seeds);
        match &*self.core.slots.borrow() {
            Some(slots) => write!(f, "Cluster({name} {:?})", slots.nodes()),
            None => write!(f, "Cluster({name} closed)"),
        }
    }
}

impl fmt::Display for Cluster {
    /// Writes the addresses that the user named, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.core.common, &self.core.seeds))
    }
}

impl Cluster {
    /// Learns the nodes from the first one that answers, and waits for connections to the masters: to those that
    /// do not answer no longer than a call would. Warns of nodes that may evict keys, and corrects a system
    /// clock by that of the node with the index of queues.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] if no node that was named answers; `Refused` if none that does lets us in;
    /// `InvalidConnection` if it is no node of a cluster, or for TLS or a database.
    pub(crate) async fn open(common: Settings, seeds: Vec<Address>, env: Env) -> Result<Self, BrokerError> {
        if common.uses_tls() {
            return Err(invalid("TLS is not supported in a cluster yet"));
        }
        if common.db != 0 {
            return Err(invalid("db: a cluster has only database 0"));
        }
        let number = env.entropy.bits() | 1;
        let core = Arc::new(ClusterState {
            common,
            seeds,
            env,
            number,
            slots: watch::Sender::new(Some(Arc::default())),
            doubt: Arc::new(Notify::new()),
            sent: Mutex::default(),
            subscriptions: Subscriptions::default(),
        });
        let mut epoch = 0;
        let told = topology::ask(&core, epoch).await?;
        core.learn(&told, &mut epoch).await;
        let nodes = core.slots()?.nodes().to_vec();
        let connected = join_all(nodes.iter().map(|node| node.until_ready()));
        // Some are missing: calls to them wait, or are refused.
        let _ = timeout(core.common.wait_timeout, connected).await;
        let checked = nodes.iter().filter_map(|node| node.ready().map(|wire| (node, wire)));
        let checked = join_all(checked.map(|(node, wire)| async move {
            policy::check(&wire, &node.to_string()).await;
        }));
        let _ = timeout(core.common.wait_timeout, checked).await;
        clock_sync::sync(&core.env.clock, &*core).await;
        let keeper = Owned::spawn(topology::keep(Arc::clone(&core), epoch));
        Ok(Self {
            core,
            keeper: Arc::new(keeper),
        })
    }

    /// See [`Links`](crate::links::Links) for this and what follows. The number is that of all connections to all
    /// nodes: a call is sent where its node is connected, and [`kill`](Self::kill) ends what was sent to that
    /// node on whichever connection.
    pub(crate) fn connection(&self) -> u64 {
        self.core.slots().map_or(0, |_| self.core.number)
    }

    pub(crate) async fn eval(&self, script: &Script, keys: Args, args: Args) -> Result<Value, BrokerError> {
        let target = keys.first().map_or(Target::Any, Target::of_key);
        let place = self.core.place(target).await?;
        self.core.run(place, script, &script.invoke(&keys, &args)).await
    }

    pub(crate) async fn eval_by(
        &self,
        way: Way,
        script: &Script,
        keys: Args,
        args: Args,
    ) -> Result<Value, BrokerError> {
        let target = keys.first().map_or(Target::Any, Target::of_key);
        let place = self.core.place(target).await?.by(way, &args).await?;
        self.core.run(place, script, &script.invoke(&keys, &args)).await
    }

    pub(crate) async fn command_timely(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        match Target::of(cmd) {
            Target::All => self.core.ask_all(cmd, Some(Way::Timely)).await,
            target => {
                let mut place = self.core.place(target).await?.by(Way::Timely, &Args::default()).await?;
                let answer = self.core.send(&mut place, cmd, &name_of(cmd).into()).await?;
                answer.map_err(Into::into)
            }
        }
    }

    pub(crate) async fn command_last(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        let mut place = self.core.place(Target::of(cmd)).await?;
        let name = CallName::from(name_of(cmd));
        let (node, sides) = (Arc::clone(&place.node), place.node.sides(&place.wire));
        let on_sides = join_all(sides.iter().map(|side| node.ask(side, cmd, name.clone())));
        let (answer, _) = join(self.core.send(&mut place, cmd, &name), on_sides).await;
        answer?.map_err(Into::into)
    }

    pub(crate) async fn eval_on(
        &self,
        connection: u64,
        script: &Script,
        keys: Args,
        args: Args,
    ) -> Result<Value, BrokerError> {
        let slots = self.core.slots()?;
        let target = keys.first().map_or(Target::Any, Target::of_key);
        let found = target.find(&slots).filter(|_| connection == self.core.number);
        let Some((node, wire)) = found.and_then(|node| Some((node, node.ready()?))) else {
            return Err(match found {
                Some(node) => node.refusal().await,
                None => BrokerError::unavailable("no node is known for this call"),
            });
        };
        let node = Arc::clone(node);
        self.core
            .run(Place::new(node, wire), script, &script.invoke(&keys, &args))
            .await
    }

    pub(crate) async fn command(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        match Target::of(cmd) {
            Target::All => self.core.ask_all(cmd, None).await,
            target => self.core.send_to(target, cmd).await,
        }
    }

    pub(crate) async fn command_at(&self, key: &[u8], cmd: &Cmd) -> Result<Value, BrokerError> {
        self.core.send_to(Target::of_key(key), cmd).await
    }

    /// One by one, at the same time.
    pub(crate) async fn pipeline(&self, cmds: &[Cmd]) -> Vec<Result<Value, BrokerError>> {
        join_all(cmds.iter().map(|cmd| self.command(cmd))).await
    }

    /// Makes sure that nothing more runs that was sent to the node of this key.
    ///
    /// A node that was the master before and is silent since may still run such a call when it goes on. It has
    /// no effect then: what a master writes after another one has taken its place is given up when it joins
    /// that one as a replica.
    pub(crate) async fn kill(&self, connection: u64, key: &[u8]) -> Result<(), BrokerError> {
        if connection == 0 {
            return Ok(());
        }
        if connection != self.core.number {
            return Err(BrokerError::Unsupported {
                what: "CLIENT KILL for connections of another link to the cluster",
            });
        }
        let Place { node, wire, .. } = self.core.place(Target::of_key(key)).await?;
        node.settle_sent(&wire).await
    }

    /// Returns the masters.
    pub(crate) fn masters(&self) -> Result<Vec<ClusterMaster>, BrokerError> {
        let slots = self.core.slots()?;
        let nodes = slots.nodes().iter();
        Ok(nodes.map(|node| ClusterMaster::new(&self.core, node)).collect())
    }

    /// Subscribes on any node: in a cluster each passes messages on to all.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<mpsc::Receiver<Vec<u8>>, BrokerError> {
        let is_closed = || self.core.slots().is_err();
        let is_closed = &is_closed;
        let candidates = self.core.in_some_order(&*self.core.slots()?);
        let tried = candidates.into_iter().map(|(at, _)| async move {
            let settings = at.settings(&self.core.common);
            self.core
                .subscriptions
                .subscribe(&settings, None, is_closed, channel)
                .await
        });
        topology::first(tried).await
    }

    pub(crate) async fn watch(&self, _: Probe) -> Result<Watch, BrokerError> {
        self.core.slots()?;
        Err(BrokerError::Unsupported {
            what: "watches in a cluster",
        })
    }

    pub(crate) async fn time(&self) -> Option<Value> {
        self.core.time().await
    }

    pub(crate) fn env(&self) -> &Env {
        &self.core.env
    }

    /// Ends all connections. Calls without answer become ambiguous, later ones are
    /// [`BrokerError::Closed`], subscriptions end.
    pub(crate) async fn close(&self) {
        self.keeper.abort();
        let slots = self.core.slots.send_replace(None);
        let nodes = slots.iter().flat_map(|slots| slots.nodes());
        join_all(nodes.map(|node| node.close())).await;
        self.core.subscriptions.end_all();
    }
}
