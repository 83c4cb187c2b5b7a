//! Actors that fail as they are told, and a record of what became of them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{
    ActorState, Tree, TreeNode,
    supervisor::{
        Backoff, ChildSpec, ExitCell, Intensity, Strategy, Supervisor, SupervisorArgs, SupervisorError, SupervisorMsg,
    },
};
use asynq_core::{Clock, Entropy};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, ActorStatus, SpawnErr};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

/// Long enough for everything that is under way to have happened; virtual.
pub(crate) const DUST: Duration = Duration::from_secs(600);

/// An order to a probe.
#[derive(Debug)]
pub(crate) enum Order {
    Panic,
    Fail,
    /// Ends normally.
    End,
    /// Never comes back from it.
    Hang,
    /// Is busy for so long.
    Busy(Duration),
    /// Says that it did it.
    Note(u32),
    /// Fails with an error that panics when it is shown.
    FailUnspeakably,
    /// Ends normally and leaves behind what panics when it is dropped.
    EndBadly,
    /// Blocks its thread until the sender says something.
    Block(std::sync::mpsc::Receiver<()>),
}
#[cfg(feature = "ractor-cluster")]
impl ractor::Message for Order {}

/// A failure of a start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Boot {
    Fail,
    Panic,
    Hang,
    /// Takes so long, and then succeeds.
    Slow(Duration),
    /// Already running, `post_start` fails.
    FailAfterwards,
    PanicAfterwards,
    HangAfterwards,
}

#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
pub(crate) struct ToldToFail(#[source] std::fmt::Error);

#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("not to be shown")
    }
}

impl std::error::Error for Unspeakable {}

#[derive(Debug, Default)]
struct Record {
    log: Vec<String>,
    starts: Vec<(String, Instant)>,
    probes: BTreeMap<String, Vec<ActorRef<Order>>>,
    boots: BTreeMap<String, VecDeque<Boot>>,
    lingers: BTreeMap<String, Duration>,
    breaches: Vec<String>,
}

/// One test's actors. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct World {
    record: Arc<Mutex<Record>>,
    blocks: Arc<Notify>,
    pub(crate) tree: Tree,
    pub(crate) exit: ExitCell,
}

pub(crate) struct Probe;

pub(crate) struct ProbeState {
    name: String,
    world: World,
    boot: Option<Boot>,
    bad_end: Option<BadEnd>,
}

struct BadEnd;

impl Drop for BadEnd {
    fn drop(&mut self) {
        panic!("not to be dropped")
    }
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Probe {
    type Msg = Order;
    type State = ProbeState;
    type Arguments = (String, World);

    async fn pre_start(
        &self,
        myself: ActorRef<Order>,
        (name, world): (String, World),
    ) -> Result<ProbeState, ActorProcessingErr> {
        let boot = world.with(|record| record.boots.get_mut(&name).and_then(VecDeque::pop_front));
        match boot {
            Some(Boot::Fail) => return Err(Box::new(ToldToFail(std::fmt::Error))),
            Some(Boot::Panic) => panic!("told to panic at start"),
            Some(Boot::Hang) => std::future::pending().await,
            Some(Boot::Slow(wait)) => tokio::time::sleep(wait).await,
            _ => {}
        }
        world.with(|record| {
            let former = record.probes.entry(name.clone()).or_default();
            if former.iter().any(|actor| actor.get_status() != ActorStatus::Stopped) {
                record.breaches.push(format!("{name} was started while it ran"));
            }
            former.push(myself);
            record.log.push(format!("start {name}"));
            record.starts.push((name.clone(), Instant::now()));
        });
        Ok(ProbeState {
            name,
            world,
            boot,
            bad_end: None,
        })
    }

    async fn post_start(&self, _myself: ActorRef<Order>, state: &mut ProbeState) -> Result<(), ActorProcessingErr> {
        match state.boot.take() {
            Some(Boot::FailAfterwards) => Err(Box::new(ToldToFail(std::fmt::Error))),
            Some(Boot::PanicAfterwards) => panic!("told to panic after the start"),
            Some(Boot::HangAfterwards) => std::future::pending().await,
            _ => Ok(()),
        }
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        state: &mut ProbeState,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Panic => panic!("told to panic"),
            Order::Fail => return Err(Box::new(ToldToFail(std::fmt::Error))),
            Order::FailUnspeakably => return Err(Box::new(Unspeakable)),
            Order::End => myself.stop(None),
            Order::EndBadly => {
                state.bad_end = Some(BadEnd);
                myself.stop(None);
            }
            Order::Hang => std::future::pending().await,
            Order::Busy(time) => tokio::time::sleep(time).await,
            Order::Block(release) => {
                // A task that this one has woken stands in a slot of this thread that no other thread takes from.
                tokio::task::yield_now().await;
                state.world.blocks.notify_one();
                let _ = release.recv();
            }
            Order::Note(number) => state.world.say(format!("did {} {number}", state.name)),
        }
        Ok(())
    }

    async fn post_stop(&self, _myself: ActorRef<Order>, state: &mut ProbeState) -> Result<(), ActorProcessingErr> {
        let linger = state.world.with(|record| record.lingers.get(&state.name).copied());
        if let Some(linger) = linger {
            tokio::time::sleep(linger).await;
        }
        state.world.say(format!("stop {}", state.name));
        Ok(())
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            record: Arc::default(),
            blocks: Arc::default(),
            tree: Tree::new(Clock::tokio()),
            exit: ExitCell::default(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Record) -> T) -> T {
        act(&mut self.record.lock().unwrap())
    }

    fn say(&self, line: String) {
        self.with(|record| record.log.push(line));
    }

    /// A permanent child that does as it is told.
    pub(crate) fn child(&self, name: &str) -> ChildSpec {
        let (world, probe) = (self.clone(), name.to_owned());
        ChildSpec::new(name, move || (Probe, (probe.clone(), world.clone())))
    }

    pub(crate) fn children(&self, names: &[&'static str]) -> Vec<ChildSpec> {
        names.iter().map(|name| self.child(name)).collect()
    }

    /// A supervisor that hardly ever gives up and waits about 100 ms before each restart.
    pub(crate) fn args(&self, strategy: Strategy, children: Vec<ChildSpec>) -> SupervisorArgs {
        SupervisorArgs {
            path: "root".into(),
            children,
            strategy,
            intensity: Intensity {
                restarts: 1000,
                within: Duration::from_secs(60),
            },
            backoff: Backoff {
                first: Duration::from_millis(100),
                most: Duration::from_millis(100),
            },
            tree: self.tree.clone(),
            entropy: Entropy::seeded(3),
            exit: Arc::clone(&self.exit),
        }
    }

    /// Another supervisor as a child; `path` is its whole path.
    pub(crate) fn nested(&self, id: &'static str, args: SupervisorArgs) -> ChildSpec {
        ChildSpec::new(id, move || {
            let exit = ExitCell::default();
            (Supervisor, SupervisorArgs { exit, ..args.clone() })
        })
    }

    pub(crate) async fn try_spawn(
        &self,
        args: SupervisorArgs,
    ) -> Result<(ActorRef<SupervisorMsg>, JoinHandle<()>), SpawnErr> {
        Actor::spawn(None, Supervisor, args).await
    }

    pub(crate) async fn spawn(&self, args: SupervisorArgs) -> Root {
        let (actor, joined) = self.try_spawn(args).await.expect("the supervisor starts");
        Root {
            cell: actor.get_cell(),
            joined,
        }
    }

    /// The next starts of a probe go wrong like that, one after the other.
    pub(crate) fn boots(&self, name: &str, boots: impl IntoIterator<Item = Boot>) {
        self.with(|record| record.boots.entry(name.to_owned()).or_default().extend(boots));
    }

    /// The probe takes so long to stop.
    pub(crate) fn lingers(&self, name: &str, time: Duration) {
        self.with(|record| record.lingers.insert(name.to_owned(), time));
    }

    /// The newest incarnation.
    pub(crate) fn probe(&self, name: &str) -> ActorRef<Order> {
        self.with(|record| record.probes[name].last().cloned())
            .expect("was started")
    }

    /// The newest incarnation, where there was one.
    pub(crate) fn probe_if_any(&self, name: &str) -> Option<ActorRef<Order>> {
        self.with(|record| record.probes.get(name).and_then(|all| all.last().cloned()))
    }

    pub(crate) fn tell(&self, name: &str, order: Order) {
        self.probe(name).cast(order).expect("is alive");
    }

    /// A probe blocks its thread.
    pub(crate) async fn blocked(&self) {
        self.blocks.notified().await;
    }

    /// Returns how many incarnations are there.
    pub(crate) fn alive(&self, name: &str) -> usize {
        self.with(|record| {
            let all = record.probes.get(name).map(Vec::as_slice).unwrap_or_default();
            all.iter()
                .filter(|actor| actor.get_status() != ActorStatus::Stopped)
                .count()
        })
    }

    /// The supervisor of the newest incarnation.
    pub(crate) fn supervisor_of(&self, name: &str) -> Option<ActorCell> {
        self.probe(name).try_get_supervisor()
    }

    /// Returns what was said since the last question.
    pub(crate) fn log(&self) -> Vec<String> {
        self.with(|record| std::mem::take(&mut record.log))
    }

    /// Returns when a probe was started.
    pub(crate) fn starts(&self, name: &str) -> Vec<Instant> {
        self.with(|record| {
            let starts = record.starts.iter().filter(|(who, _)| who == name);
            starts.map(|(_, at)| *at).collect()
        })
    }

    /// Returns how many starts of any probe came before its newest one.
    pub(crate) fn start_number(&self, name: &str) -> Option<usize> {
        self.with(|record| record.starts.iter().rposition(|(who, _)| who == name))
    }

    /// Two incarnations at once.
    pub(crate) fn breaches(&self) -> Vec<String> {
        self.with(|record| record.breaches.clone())
    }

    pub(crate) fn node(&self, path: &[&str]) -> TreeNode {
        let root = self.tree.snapshot().expect("was started");
        root.find(path)
            .unwrap_or_else(|| panic!("no {path:?} in\n{root}"))
            .clone()
    }

    pub(crate) fn state(&self, path: &[&str]) -> ActorState {
        self.node(path).state
    }

    pub(crate) fn failed_with(&self) -> SupervisorError {
        match self.exit.get() {
            Some(Err(error)) => error.clone(),
            other => panic!("not failed: {other:?}"),
        }
    }
}

/// A supervisor that nobody supervises.
pub(crate) struct Root {
    pub(crate) cell: ActorCell,
    joined: JoinHandle<()>,
}

impl Root {
    pub(crate) async fn ended(self) {
        tokio::time::timeout(DUST, self.joined)
            .await
            .expect("the supervisor ends")
            .expect("without a panic of its task");
    }

    pub(crate) async fn stop(self) {
        self.cell.stop(None);
        self.ended().await;
    }
}

/// Lets everything happen that is under way.
pub(crate) async fn settle() {
    tokio::time::sleep(DUST).await;
}

/// Lets happen what needs no time.
pub(crate) async fn breathe() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
