//! The state of a cluster, which its handles and its keeper share, and the way of a command to its node.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use asynq_core::{broker::Env, error::BrokerError, keys};
use futures::future::join_all;
use redis::{Cmd, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::{
    node::{At, Node, Sent},
    slots::{Slots, Told, read_redirect, slot_of},
    target::{Place, Target},
};
use crate::{
    args::Args,
    clock_sync::Timekeeper,
    failure::{ErrorReply, without_effect},
    link::{
        Script,
        calls::CallName,
        name_of,
        script::LOADS,
        settings::{Address, Settings},
        side_connections::Way,
    },
    pubsub::Subscriptions,
};

/// Number of times that a call is redirected. Go's limit is 8.
const REDIRECTS: u32 = 8;
/// Number of former addresses of nodes that are remembered. Those of living nodes are never forgotten.
const MOST_ADDRESSES: usize = 1000;

/// State that the handles and the keeper share.
pub(super) struct ClusterState {
    /// Settings that all nodes have in common.
    pub(super) common: Settings,
    /// Addresses that the user named.
    pub(super) seeds: Vec<Address>,
    pub(super) env: Env,
    /// Unlike that of any other one. Never 0.
    pub(super) number: u64,
    /// `None`: closed.
    pub(super) slots: watch::Sender<Option<Arc<Slots>>>,
    /// Notified when the slots should be asked for.
    pub(super) doubt: Arc<Notify>,
    /// Outlives the nodes.
    pub(super) sent: Mutex<HashMap<At, Arc<Sent>>>,
    pub(super) subscriptions: Subscriptions,
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

pub(super) fn invalid(reason: &str) -> BrokerError {
    BrokerError::InvalidConnection {
        reason: reason.to_owned(),
    }
}

impl ClusterState {
    pub(super) fn slots(&self) -> Result<Arc<Slots>, BrokerError> {
        self.slots.borrow().clone().ok_or(BrokerError::Closed)
    }

    /// Returns the connection for a command. Waits for a node that does not answer, or for another one in its
    /// place, until it has not answered for the wait timeout.
    pub(super) async fn place(&self, target: Target) -> Result<Place, BrokerError> {
        self.place_of(|slots| target.find(slots).cloned()).await
    }

    pub(super) async fn place_of(&self, find: impl Fn(&Slots) -> Option<Arc<Node>>) -> Result<Place, BrokerError> {
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

    pub(super) async fn send_to(&self, target: Target, cmd: &Cmd) -> Result<Value, BrokerError> {
        let mut place = self.place(target).await?;
        let answer = self.send(&mut place, cmd, &name_of(cmd).into()).await?;
        answer.map_err(Into::into)
    }

    /// Sends a command to each master; the answer is one of theirs, or the failure of any.
    pub(super) async fn ask_all(&self, cmd: &Cmd, way: Option<Way>) -> Result<Value, BrokerError> {
        let slots = self.slots()?;
        let name = CallName::from(name_of(cmd));
        let asked = slots.nodes().iter().map(async |node| {
            let place = self.place_of(|_| Some(Arc::clone(node))).await?;
            let place = match way {
                Some(way) => place.by(way, &Args::default()).await?,
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
    pub(super) async fn run(&self, mut place: Place, script: &Script, invoke: &Cmd) -> Result<Value, BrokerError> {
        let name = CallName::from(script.name);
        let mut answer = self.send(&mut place, invoke, &name).await?;
        for _ in 0..LOADS {
            match &answer {
                Err(reply) if reply.is_no_script() => {}
                _ => break,
            }
            let loaded = place.ask(&script.load(), &name).await;
            loaded.map_err(without_effect)??;
            answer = self.send(&mut place, invoke, &name).await?;
        }
        answer.map_err(Into::into)
    }

    /// Sends one command, and again where a node says that another one serves its slot: `place` is the one that
    /// has answered then.
    pub(super) async fn send(
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
    pub(super) async fn learn(&self, told: &Told, epoch: &mut u64) {
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
    pub(super) fn in_some_order(&self, slots: &Slots) -> Vec<(At, Option<Place>)> {
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

impl Timekeeper for ClusterState {
    /// Always of the same node, as long as slots stay where they are and that one answers.
    async fn time(&self) -> Option<Value> {
        let target = Target::Rather(slot_of(keys::QUEUES.as_bytes()));
        self.send_to(target, &redis::cmd("TIME")).await.ok()
    }
}
