//! The link to a cluster: a link for each node, and the map that says which node serves which slot.
//!
//! What one node does costs no other one anything. Each has its own connection with its own signs of life; it is
//! cut and made again alone. A call to a node that is silent ends after the node timeout, and the next ones are
//! refused at once until it answers again, so that what joins calls to several nodes waits once for a short time.
//!
//! The map is learned from whichever node answers first, and again when a node is unwell, when a call was
//! redirected, and every now and then. Nothing is sent twice behind the caller's back, except what a node has
//! refused: NOSCRIPT, MOVED, ASK.

mod node;
mod slots;
mod topology;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use asynq_core::{
    broker::{Env, Watch},
    error::BrokerError,
    keys,
};
use futures::future::{join, join_all};
use redis::{Cmd, Value};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use self::{
    node::{At, Node, Sent},
    slots::{Slots, read_redirect, slot_of},
};
use crate::{
    clock_sync::{self, Timekeeper},
    failure::{ErrorReply, without_effect},
    link::{
        LOADS, Probe, Script,
        calls::CallName,
        name_of,
        owned::Owned,
        policy,
        settings::{Address, Settings},
        sides::Way,
        wire::Wire,
    },
    pubsub::Subscriptions,
};

/// Number of times that a call is redirected. Go's limit is 8.
const REDIRECTS: u32 = 8;
/// Number of former addresses of nodes that are remembered. Those of living nodes are never forgotten.
const MOST_ADDRESSES: usize = 1000;

/// A handle to a cluster. Cheap to clone; clones share the connections. The last one dropped closes them.
#[derive(Clone)]
pub(crate) struct Cluster {
    core: Arc<Core>,
    keeper: Arc<Owned>,
}

/// State that the handles and the keeper share.
struct Core {
    /// Settings that all nodes have in common.
    common: Settings,
    /// Addresses that the user named.
    seeds: Vec<Address>,
    env: Env,
    /// Unlike that of any other one. Never 0.
    number: u64,
    /// `None`: closed.
    slots: watch::Sender<Option<Arc<Slots>>>,
    /// Notified when the slots should be asked for.
    doubt: Arc<Notify>,
    /// Outlives the nodes.
    sent: Mutex<HashMap<At, Arc<Sent>>>,
    subscriptions: Subscriptions,
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

/// The nodes that were named, without user and password.
pub(crate) fn describe(common: &Settings, seeds: &[Address]) -> String {
    let at = |address: &Address| Settings {
        address: address.clone(),
        ..common.clone()
    };
    let names: Vec<_> = seeds.iter().map(|seed| at(seed).to_string()).collect();
    names.join(",")
}

/// The destination of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
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
    fn of_key(key: &[u8]) -> Self {
        Self::Slot(slot_of(key))
    }

    /// Returns the target of a command. All commands begin with their key, but for the few that have none. A
    /// channel counts as a key, so that messages of one publisher take one way and keep their order.
    fn of(cmd: &Cmd) -> Self {
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
    fn find(self, slots: &Slots) -> Option<&Arc<Node>> {
        let ready = |node: &&Arc<Node>| node.ready().is_some();
        match self {
            Self::Slot(slot) => slots.get(slot),
            Self::Rather(slot) => slots.get(slot).filter(ready).or_else(|| Self::Any.find(slots)),
            Self::Any | Self::All => slots.nodes().iter().find(ready).or_else(|| slots.nodes().first()),
        }
    }
}

/// A node that answers, and a connection to it.
struct Place {
    node: Arc<Node>,
    wire: Arc<Wire>,
    /// `true` for a connection beside the main one. Takes are never sent there, so [`Cluster::kill`] need not end
    /// it.
    beside: bool,
}

impl Place {
    fn new(node: Arc<Node>, wire: Arc<Wire>) -> Self {
        Self {
            node,
            wire,
            beside: false,
        }
    }

    /// The same node, by the connection for a call with these arguments.
    async fn by(self, way: Way, args: &[Vec<u8>]) -> Result<Self, BrokerError> {
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
    fn note(&self) {
        if !self.beside {
            self.node.sent().on(self.wire.number());
        }
    }

    async fn ask(&self, cmd: &Cmd, name: &CallName) -> Result<Result<Value, ErrorReply>, BrokerError> {
        self.node.ask(&self.wire, cmd, name.clone()).await
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
        let core = Arc::new(Core {
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

    pub(crate) async fn eval(
        &self,
        script: &Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, BrokerError> {
        let target = keys.first().map_or(Target::Any, |key| Target::of_key(key));
        let place = self.core.place(target).await?;
        self.core.run(place, script, &keys, &args).await
    }

    pub(crate) async fn eval_by(
        &self,
        way: Way,
        script: &Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, BrokerError> {
        let target = keys.first().map_or(Target::Any, |key| Target::of_key(key));
        let place = self.core.place(target).await?.by(way, &args).await?;
        self.core.run(place, script, &keys, &args).await
    }

    pub(crate) async fn command_timely(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        match Target::of(cmd) {
            Target::All => self.core.ask_all(cmd, Some(Way::Timely)).await,
            target => {
                let mut place = self.core.place(target).await?.by(Way::Timely, &[]).await?;
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
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, BrokerError> {
        let slots = self.core.slots()?;
        let target = keys.first().map_or(Target::Any, |key| Target::of_key(key));
        let found = target.find(&slots).filter(|_| connection == self.core.number);
        let Some((node, wire)) = found.and_then(|node| Some((node, node.ready()?))) else {
            return Err(match found {
                Some(node) => node.refusal().await,
                None => BrokerError::unavailable("no node is known for this call"),
            });
        };
        let node = Arc::clone(node);
        self.core.run(Place::new(node, wire), script, &keys, &args).await
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

fn invalid(reason: &str) -> BrokerError {
    BrokerError::InvalidConnection {
        reason: reason.to_owned(),
    }
}

impl Core {
    fn slots(&self) -> Result<Arc<Slots>, BrokerError> {
        self.slots.borrow().clone().ok_or(BrokerError::Closed)
    }

    /// Returns the connection for a command. Waits for a node that does not answer, or for another one in its
    /// place, until it has not answered for the wait timeout.
    async fn place(&self, target: Target) -> Result<Place, BrokerError> {
        self.place_of(|slots| target.find(slots).cloned()).await
    }

    async fn place_of(&self, find: impl Fn(&Slots) -> Option<Arc<Node>>) -> Result<Place, BrokerError> {
        let begun = Instant::now();
        let mut told = self.slots.subscribe();
        loop {
            let slots = told.borrow_and_update().clone().ok_or(BrokerError::Closed)?;
            let found = find(&slots);
            if let Some(node) = &found
                && let Some(wire) = node.ready()
            {
                let node = Arc::clone(node);
                return Ok(Place::new(node, wire));
            }
            let since = found.as_ref().and_then(|node| node.unwell_since());
            let last = since.map_or(begun, |since| since.min(begun)) + self.common.wait_timeout;
            let answers = async {
                match &found {
                    Some(node) => node.until_ready().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = answers => {}
                _ = told.changed() => {}
                () = sleep_until(last) => return Err(match &found {
                    Some(node) => node.refusal().await,
                    None => BrokerError::unavailable("no node of the cluster serves the slot of this call"),
                }),
            }
        }
    }

    async fn send_to(&self, target: Target, cmd: &Cmd) -> Result<Value, BrokerError> {
        let mut place = self.place(target).await?;
        let answer = self.send(&mut place, cmd, &name_of(cmd).into()).await?;
        answer.map_err(Into::into)
    }

    /// Sends a command to each master; the answer is one of theirs, or the failure of any.
    async fn ask_all(&self, cmd: &Cmd, way: Option<Way>) -> Result<Value, BrokerError> {
        let slots = self.slots()?;
        let name = CallName::from(name_of(cmd));
        let asked = slots.nodes().iter().map(async |node| {
            let place = self.place_of(|_| Some(Arc::clone(node))).await?;
            let place = match way {
                Some(way) => place.by(way, &[]).await?,
                None => place,
            };
            place.ask(cmd, &name).await?.map_err(BrokerError::from)
        });
        let mut last = Err(BrokerError::unavailable("no node of the cluster is known"));
        for answer in join_all(asked).await {
            last = Ok(answer?);
        }
        last
    }

    /// Runs a script on the node of its keys.
    async fn run(
        &self,
        mut place: Place,
        script: &Script,
        keys: &[Vec<u8>],
        args: &[Vec<u8>],
    ) -> Result<Value, BrokerError> {
        let invoke = script.invoke(keys, args);
        let name = CallName::from(script.name);
        let mut answer = self.send(&mut place, &invoke, &name).await?;
        for _ in 0..LOADS {
            match &answer {
                Err(reply) if reply.is_no_script() => {}
                _ => break,
            }
            let loaded = place.ask(&script.load(), &name).await;
            loaded.map_err(without_effect)??;
            answer = self.send(&mut place, &invoke, &name).await?;
        }
        answer.map_err(Into::into)
    }

    /// Sends one command, and again where a node says that another one serves its slot: `place` is the one that
    /// has answered then.
    async fn send(
        &self,
        place: &mut Place,
        cmd: &Cmd,
        name: &CallName,
    ) -> Result<Result<Value, ErrorReply>, BrokerError> {
        place.note();
        let mut answer = place.ask(cmd, name).await?;
        for _ in 0..REDIRECTS {
            let Err(reply) = &answer else { break };
            let is_moved = reply.code == "MOVED";
            if reply.code == "CLUSTERDOWN" {
                self.doubt.notify_one();
            }
            if !is_moved && reply.code != "ASK" {
                break;
            }
            let Some((slot, at)) = read_redirect(&reply.text, place.node.at()) else {
                break;
            };
            self.redirected(is_moved.then_some(slot), &at)?;
            let there = self.place_of(|slots| slots.at(&at).cloned()).await?;
            there.note();
            if is_moved {
                *place = there;
                answer = place.ask(cmd, name).await?;
            } else {
                answer = there.node.ask_importing(&there.wire, cmd).await?;
                if matches!(&answer, Err(reply) if reply.is_no_script()) {
                    // Loaded where it is to run.
                    *place = there;
                }
            }
        }
        Ok(answer)
    }

    /// A node has named another one, perhaps as the master of a slot.
    fn redirected(&self, slot: Option<u16>, at: &At) -> Result<(), BrokerError> {
        let before = self.slots()?;
        let is_known = match slot {
            Some(slot) => before.get(slot).is_some_and(|node| node.at() == at),
            None => before.at(at).is_some(),
        };
        if !is_known {
            let node = self.node_at(&before, at);
            self.slots.send_if_modified(|slots| {
                let Some(slots) = slots else { return false };
                let slots = Arc::make_mut(slots);
                match slot {
                    Some(slot) => slots.set(slot..=slot, node),
                    None => drop(slots.add(node)),
                }
                true
            });
        }
        if slot.is_some() {
            self.doubt.notify_one();
        }
        Ok(())
    }

    /// The node at an address: that which is there, or a new one.
    fn node_at(&self, slots: &Slots, at: &At) -> Arc<Node> {
        if let Some(node) = slots.at(at) {
            return Arc::clone(node);
        }
        let mut known = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_ADDRESSES {
            known.retain(|_, sent| Arc::strong_count(sent) > 1);
        }
        let sent = Arc::clone(known.entry(at.clone()).or_default());
        let doubt = Arc::clone(&self.doubt);
        Arc::new(Node::begin(at.clone(), &self.common, &self.env, sent, doubt))
    }

    /// Takes over what a node told of the slots. Nodes that serve none any more are left once their calls
    /// are answered, at once if they do not answer.
    async fn learn(&self, told: &topology::Told, epoch: &mut u64) {
        if told.epoch != 0 {
            *epoch = told.epoch;
        }
        let Ok(before) = self.slots() else { return };
        let mut new: Vec<Arc<Node>> = Vec::new();
        let slots = Slots::new(&told.ranges, |at| {
            if let Some(node) = new.iter().find(|node| node.at() == at) {
                return Arc::clone(node);
            }
            let node = self.node_at(&before, at);
            new.push(Arc::clone(&node));
            node
        });
        self.slots.send_if_modified(|current| {
            let open = current.is_some();
            if open {
                *current = Some(Arc::new(slots));
            }
            open
        });
        for node in before.nodes() {
            if !new.iter().any(|known| Arc::ptr_eq(known, node)) {
                tracing::debug!(%node, "a node serves no slot of the cluster any more");
                if node.ready().is_none() {
                    node.close().await;
                }
            }
        }
    }

    /// Returns the nodes to ask for the slots, or to listen to: those that answer, in some order, with their
    /// connections, and then those that were named.
    fn in_some_order(&self, slots: &Slots) -> Vec<(At, Option<Place>)> {
        let ready = slots.nodes().iter().filter_map(|node| {
            let (node, wire) = (Arc::clone(node), node.ready()?);
            Some((node.at().clone(), Some(Place::new(node, wire))))
        });
        let mut known: Vec<_> = ready.collect();
        let mut named: Vec<_> = self.seeds.iter().filter_map(At::of).collect();
        named.retain(|at| known.is_empty() || slots.at(at).is_none());
        let mut named: Vec<_> = named.into_iter().map(|at| (at, None)).collect();
        let turn = |length: usize| {
            let most = u64::try_from(length).unwrap_or_default().max(1);
            usize::try_from(self.env.entropy.below(most)).unwrap_or_default()
        };
        let (of_known, of_named) = (turn(known.len()), turn(named.len()));
        known.rotate_left(of_known);
        named.rotate_left(of_named);
        known.append(&mut named);
        known
    }
}

impl Timekeeper for Core {
    /// Always of the same node, as long as slots stay where they are and that one answers.
    async fn time(&self) -> Option<Value> {
        let target = Target::Rather(slot_of(keys::QUEUES.as_bytes()));
        self.send_to(target, &redis::cmd("TIME")).await.ok()
    }
}
