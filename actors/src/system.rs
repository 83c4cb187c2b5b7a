//! The whole runtime as one value: a supervision tree that takes, runs and settles tasks.

use std::{fmt, sync::Arc, time::Duration};

use asynq_core::{
    BrokerError, ClientConfig, ConfigError, Connector, Error, GroupAggregator, Handler, QueueName, Result, ServeMux,
    ServerConfig, Storage,
    broker::Env,
    config::{ClientSettings, Settings},
    extract::Route,
};
use ractor::{Actor, ActorCell, DerivedActorRef};
use tokio::sync::watch;

use crate::{
    aggregator::{Aggregator, AggregatorRef},
    broker::{Broker, BrokerArgs, BrokerHandle, Lending},
    chore::chore,
    client::{ClientHandle, EnqueueMsg},
    exchange::Exchange,
    forwarder::Forwarder,
    fuse::Crash,
    handler_actor::{self, HandlerActorSpec},
    healthchecker::Healthchecker,
    heartbeater::{Heartbeater, Identity, host},
    janitor::Janitor,
    processor::{self, Nudge, ProcessorArgs},
    recoverer::Recoverer,
    router::{HandlerRef, Router},
    run::Runner,
    subscriber::{self, SubscriberArgs},
    supervisor::{
        Backoff, ChildSpec, ExitCell, Intensity, Shutdown, Strategy, Supervisor, SupervisorArgs, SupervisorError,
    },
    syncer::Syncer,
    table::{CancelReason, Table},
    tree::{Tree, TreeNode},
};

const ROOT: &str = "system";
/// What a chore may take to stop.
const CHORE_STOP: Duration = Duration::from_secs(5);
/// What a supervisor may take to stop beyond its children's deadlines.
const SLACK: Duration = Duration::from_secs(2);

/// How a system ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It was stopped, and its children in order.
    Stopped,
    /// A supervisor gave up.
    Failed(SupervisorError),
    /// Its root was killed.
    Killed,
}

/// Settings of an [`AsynqSystem`] that is to be spawned.
#[derive(Debug)]
pub struct AsynqSystemBuilder {
    connector: Arc<dyn Connector>,
    config: ServerConfig,
    client_config: ClientConfig,
    handler: Option<HandlerRef>,
    aggregator: Option<AggregatorRef>,
    handler_actors: Vec<HandlerActorSpec>,
    routes: ServeMux,
    env: Env,
    intensity: Intensity,
    backoff: Backoff,
}

impl AsynqSystemBuilder {
    /// The settings of the server part. Default: [`ServerConfig::new`].
    #[must_use]
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// The settings of the client part. Default: [`ClientConfig::new`].
    #[must_use]
    pub fn client_config(mut self, config: ClientConfig) -> Self {
        self.client_config = config;
        self
    }

    /// What runs the tasks that no [handler actor](Self::handler_actor) is for. Without any handler
    /// the system takes none.
    #[must_use]
    pub fn handler(mut self, handler: impl Handler) -> Self {
        self.handler = Some(HandlerRef(Arc::new(handler)));
        self
    }

    /// What makes one task out of the tasks of a group, in all queues of the config. Without it
    /// groups wait for another server. It needs no handler beside it; the tasks that it makes then
    /// wait for another server's.
    #[must_use]
    pub fn aggregator(mut self, aggregator: impl GroupAggregator) -> Self {
        self.aggregator = Some(AggregatorRef(Arc::new(aggregator)));
        self
    }

    /// An async function with extracted arguments that runs the tasks of the type that one of them
    /// stands for, as [`ServeMux::route`]. It goes before the plain handler, and after handler actors.
    #[must_use]
    pub fn route<Args: 'static, R: Route<Args>>(mut self, handler: R) -> Self {
        self.routes.route(handler);
        self
    }

    /// As [`route`](Self::route), for the task types that begin with the pattern.
    #[must_use]
    pub fn route_on<Args: 'static, R: Route<Args>>(mut self, pattern: &str, handler: R) -> Self {
        self.routes.route_on(pattern, handler);
        self
    }

    /// The handler of all that no handler actor is for.
    fn plain(&self) -> Option<HandlerRef> {
        if self.routes.is_empty() && self.routes.check().is_ok() {
            return self.handler.clone();
        }
        let mut routes = self.routes.clone();
        if let Some(HandlerRef(handler)) = self.handler.clone() {
            routes.otherwise(handler);
        }
        Some(HandlerRef(Arc::new(routes)))
    }

    /// An actor type that runs the tasks whose type begins with its pattern. May be called for
    /// several patterns; the longest that matches wins, and goes before the plain handler.
    #[must_use]
    pub fn handler_actor(mut self, spec: HandlerActorSpec) -> Self {
        self.handler_actors.push(spec);
        self
    }

    /// Where time and randomness come from. Default: what the [connector](Connector::env) says.
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// How many restarts of its actors are normal. Default: 5 in 60 s for each supervisor.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// How long to wait before an actor is restarted. Default: 100 ms doubling to 30 s.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Starts the system. Returns when all actors run; the storage is connected to afterwards, and
    /// tried again as long as it takes.
    ///
    /// # Errors
    /// [`Error::Config`] with all faults at once; [`Error::Actor`] when an actor cannot start.
    pub async fn spawn(self) -> Result<AsynqSystem> {
        self.start(None).await
    }

    /// Starts the system as a child of a user's actor: its end arrives there as an ordinary
    /// supervision event.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub async fn spawn_linked(self, supervisor: ActorCell) -> Result<AsynqSystem> {
        self.start(Some(supervisor)).await
    }

    /// All that is wrong with the settings, and with how the handlers were put together.
    fn validate(&self) -> Result<(Settings, ClientSettings), ConfigError> {
        let handler = self.plain().map_or(Ok(()), |handler| handler.0.check());
        let mut faults = handler.err().map_or_else(Vec::new, |error| error.faults);
        let server = self.config.validate().map_err(|error| faults.extend(error.faults));
        let client = self
            .client_config
            .validate()
            .map_err(|error| faults.extend(error.faults));
        faults.extend(handler_actor::check(&self.handler_actors));
        match (server, client) {
            (Ok(server), Ok(client)) if faults.is_empty() => Ok((server, client)),
            _ => Err(ConfigError { faults }),
        }
    }

    async fn start(self, parent: Option<ActorCell>) -> Result<AsynqSystem> {
        let (settings, client_settings) = self.validate()?;
        let env = self.env.clone();
        let lending = Lending::new();
        let tree = Tree::new(env.clock.clone());
        let client = ClientHandle::new(&client_settings, env.clone());
        let table = Arc::new(Table::new(settings.concurrency, env.clock.clone()));
        let exit = ExitCell::default();
        let exchange = Exchange {
            table: Arc::clone(&table),
            broker: lending.handle(),
            nudge: Nudge::new(),
        };

        let broker = BrokerArgs {
            connector: Arc::clone(&self.connector),
            target: self.connector.describe(),
            env: env.clone(),
            lending: lending.clone(),
            tree: tree.clone(),
            path: format!("{ROOT}/broker"),
        };
        let mut children = vec![
            ChildSpec::new("broker", move || (Broker, broker.clone())),
            client.spec(lending.handle()),
        ];
        let takes = self.plain().is_some() || !self.handler_actors.is_empty();
        if takes || self.aggregator.is_some() {
            children.push(self.maintenance(&settings, &exchange, &tree));
        }
        if takes {
            children.push(self.work(&settings, &exchange, &tree)?);
        }
        let waiting = client.clone();
        tree.set_backlog("system/client", move || waiting.waiting());
        let root = self.supervisor(ROOT.to_owned(), children, &tree, exit.clone());
        let spawned = match parent {
            Some(parent) => Actor::spawn_linked(None, Supervisor, root, parent).await,
            None => Actor::spawn(None, Supervisor, root).await,
        };
        let (root, joined) = spawned.map_err(|error| Error::Actor(error.into()))?;

        let (ended, exits) = watch::channel(None);
        let (doomed, last_client) = (Arc::clone(&table), client.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the root actor, whose end it tells")]
        tokio::spawn(async move {
            let _ = joined.await;
            // Nobody extends leases any longer: what still runs must not go on (SAFETY rule 16).
            doomed.set_fetching(false);
            doomed.cancel_running(CancelReason::LeaseLost);
            doomed.abort_running();
            last_client.close();
            let exit = match exit.get() {
                Some(Ok(())) => Exit::Stopped,
                Some(Err(error)) => Exit::Failed(error.clone()),
                None => Exit::Killed,
            };
            ended.send_replace(Some(exit));
        });
        Ok(AsynqSystem {
            root: root.get_cell(),
            client,
            broker: lending.handle(),
            table,
            exchange,
            tree,
            exits,
        })
    }

    fn supervisor(&self, path: String, children: Vec<ChildSpec>, tree: &Tree, exit: ExitCell) -> SupervisorArgs {
        SupervisorArgs {
            path,
            children,
            strategy: Strategy::OneForOne,
            intensity: self.intensity,
            backoff: self.backoff,
            tree: tree.clone(),
            entropy: self.env.entropy.clone(),
            exit,
        }
    }

    fn branch(&self, id: &'static str, children: Vec<ChildSpec>, tree: &Tree) -> ChildSpec {
        nested(
            id,
            self.supervisor(format!("{ROOT}/{id}"), children, tree, ExitCell::default()),
        )
    }

    fn maintenance(&self, settings: &Settings, exchange: &Exchange, tree: &Tree) -> ChildSpec {
        const PATH: &str = "system/maintenance";
        let queues: Vec<QueueName> = settings.queues.keys().cloned().collect();
        let entropy = &self.env.entropy;
        let broker = &exchange.broker;
        let subscriber = SubscriberArgs {
            broker: broker.clone(),
            table: Arc::clone(&exchange.table),
            entropy: entropy.clone(),
            tree: tree.clone(),
            path: format!("{PATH}/subscriber"),
        };
        let forwarder = Forwarder {
            broker: broker.clone(),
            queues: queues.clone(),
            tree: tree.clone(),
            path: format!("{PATH}/forwarder"),
            interval: settings.delayed_task_check_interval,
            clock: self.env.clock.clone(),
            entropy: entropy.clone(),
        };
        let recoverer = Recoverer {
            broker: broker.clone(),
            settings: settings.clone(),
            env: self.env.clone(),
        };
        let janitor = Janitor {
            broker: broker.clone(),
            queues,
            interval: settings.janitor_interval,
            batch: settings.janitor_batch_size,
        };
        let mut children = vec![
            subscriber::spec(subscriber),
            chore("forwarder", PATH, forwarder, tree, entropy, CHORE_STOP),
            chore("recoverer", PATH, recoverer, tree, entropy, CHORE_STOP),
            chore("janitor", PATH, janitor, tree, entropy, CHORE_STOP),
        ];
        if let Some(aggregator) = self.aggregator.clone() {
            let aggregator = Aggregator::new(aggregator, settings, broker.clone(), self.env.clone());
            let stop_within = aggregator.stop_within();
            children.push(chore("aggregator", PATH, aggregator, tree, entropy, stop_within));
        }
        if let Some(check) = settings.health_check.clone() {
            let healthchecker = Healthchecker {
                broker: broker.clone(),
                check,
                interval: settings.health_check_interval,
            };
            children.push(chore("healthchecker", PATH, healthchecker, tree, entropy, CHORE_STOP));
        }
        self.branch("maintenance", children, tree)
    }

    /// The instances of all handler actors, where there are any, and who finds them. Their crashes
    /// never count (SAFETY rule 18).
    fn handlers(&self, settings: &Settings, tree: &Tree) -> Result<(Option<ChildSpec>, Router)> {
        const PATH: &str = "system/work/handlers";
        let (actors, instances) = handler_actor::build(&self.handler_actors, PATH, tree, &self.env)?;
        let child = (!instances.is_empty()).then(|| {
            let args = SupervisorArgs {
                intensity: Intensity::UNLIMITED,
                ..self.supervisor(PATH.to_owned(), instances, tree, ExitCell::default())
            };
            nested("handlers", args)
        });
        let entropy = self.env.entropy.clone();
        Ok((child, Router::new(actors, self.plain(), settings.unknown_task, entropy)))
    }

    fn work(&self, settings: &Settings, exchange: &Exchange, tree: &Tree) -> Result<ChildSpec> {
        const PATH: &str = "system/work";
        let (handlers, router) = self.handlers(settings, tree)?;
        let entropy = &self.env.entropy;
        let heartbeater = Heartbeater {
            table: Arc::clone(&exchange.table),
            broker: exchange.broker.clone(),
            interval: settings.heartbeat_interval,
            tree: tree.clone(),
            identity: Identity {
                host: host(),
                pid: i32::try_from(std::process::id()).unwrap_or(0),
                server_id: entropy.uuid(),
                concurrency: i32::try_from(settings.concurrency).unwrap_or(i32::MAX),
                queues: settings
                    .queues
                    .iter()
                    .map(|(name, priority)| (name.to_string(), *priority))
                    .collect(),
                strict_priority: settings.strict_priority,
                start_time: self.env.clock.now(),
            },
        };
        for (actor, stuck) in [("processor", false), ("syncer", true)] {
            let table = Arc::clone(&exchange.table);
            tree.set_backlog(&format!("{PATH}/{actor}"), move || table.unsettled(stuck));
        }
        let syncer = Syncer {
            exchange: exchange.clone(),
            interval: settings.syncer_interval,
        };
        let runner = Runner {
            router,
            settings: settings.clone(),
            env: self.env.clone(),
            table: Arc::clone(&exchange.table),
            broker: exchange.broker.clone(),
            nudge: exchange.nudge.clone(),
        };
        let processor = ProcessorArgs {
            runner: Arc::new(runner),
            exchange: exchange.clone(),
            tree: tree.clone(),
            path: format!("{PATH}/processor"),
        };
        let mut children = vec![
            chore("heartbeater", PATH, heartbeater, tree, entropy, CHORE_STOP),
            chore("syncer", PATH, syncer, tree, entropy, CHORE_STOP),
        ];
        children.extend(handlers);
        children.push(processor::spec(processor));
        Ok(self.branch("work", children, tree))
    }
}

/// A supervisor as a child; it may take as long to stop as its children together.
fn nested(id: &'static str, args: SupervisorArgs) -> ChildSpec {
    let within = SLACK
        + args
            .children
            .iter()
            .map(|child| match child.shutdown {
                Shutdown::Stop(within) | Shutdown::Drain(within) => within + SLACK,
                Shutdown::Kill => SLACK,
            })
            .sum::<Duration>();
    let fresh = move || {
        let exit = ExitCell::default();
        (Supervisor, SupervisorArgs { exit, ..args.clone() })
    };
    ChildSpec::new(id, fresh).shutdown(Shutdown::Stop(within))
}

/// A running supervision tree. Cheap to clone; the tree lives until it is shut down, or the
/// user's actor that it is linked to ends.
#[derive(Clone)]
pub struct AsynqSystem {
    root: ActorCell,
    client: ClientHandle,
    broker: BrokerHandle,
    table: Arc<Table>,
    exchange: Exchange,
    tree: Tree,
    exits: watch::Receiver<Option<Exit>>,
}

impl AsynqSystem {
    /// A system on the storage that the connector opens.
    #[must_use]
    pub fn builder(connector: impl Connector) -> AsynqSystemBuilder {
        let env = connector.env();
        AsynqSystemBuilder {
            connector: Arc::new(connector),
            config: ServerConfig::new(),
            client_config: ClientConfig::new(),
            handler: None,
            aggregator: None,
            handler_actors: Vec::new(),
            routes: ServeMux::new(),
            env,
            intensity: Intensity::default(),
            backoff: Backoff::default(),
        }
    }

    /// Enqueues tasks; follows restarts of the client actor.
    #[must_use]
    pub fn client(&self) -> ClientHandle {
        self.client.clone()
    }

    /// The client actor as it is now, for actors that send it [`EnqueueMsg`]. One incarnation: on
    /// a send error fetch it again. `None` while it is being restarted for the first time.
    #[must_use]
    pub fn enqueue_ref(&self) -> Option<DerivedActorRef<EnqueueMsg>> {
        self.client.actor()
    }

    /// Lends the storage; follows restarts of the broker actor.
    #[must_use]
    pub fn broker(&self) -> BrokerHandle {
        self.broker.clone()
    }

    /// The storage, for a look at queues and tasks.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] when it is not reachable within 5 s.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn storage(&self) -> Result<Arc<dyn Storage>, BrokerError> {
        self.broker.storage().await
    }

    /// Whether the storage answers.
    ///
    /// # Errors
    /// [`Error::Broker`] says why not.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.storage().await?.ping().await?)
    }

    /// The supervision tree as it is now.
    #[must_use]
    pub fn tree(&self) -> Option<TreeNode> {
        self.tree.snapshot()
    }

    /// Where to watch the tree.
    #[must_use]
    pub fn tree_events(&self) -> tokio::sync::broadcast::Receiver<crate::tree::TreeEvent> {
        self.tree.events()
    }

    /// Kills one actor, named by its path below the root: `work/processor`,
    /// `work/handlers/email:send#0`. Its supervisor restarts it; no task is lost. The button for an
    /// actor that hangs. A `/` within a name may stand as it is, or as `%2F` as in
    /// [`TreeEvent::path`](crate::TreeEvent::path). `false` when there is no such actor.
    pub fn kill_actor(&self, path: &str) -> bool {
        self.crash_actor(path, Crash::Kill)
    }

    /// Makes one actor crash, named as in [`kill_actor`](Self::kill_actor): to see how an
    /// application lives with it. `false` when there is no such actor.
    pub fn crash_actor(&self, path: &str, crash: Crash) -> bool {
        let path = format!("{ROOT}/{path}");
        let Some((path, actor)) = self.tree.resolve(&path) else {
            return false;
        };
        match crash {
            Crash::Kill => actor.kill(),
            Crash::Panic | Crash::Error => self.tree.fuse(&path).light(crash),
        }
        true
    }

    /// How many tasks are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.table.running_count()
    }

    /// Asks a task that runs in this system to end: its handler is dropped at its next await
    /// point, and the task fails with `context canceled`, to be retried as after any failure. The
    /// number of runs that were hit (the id may run in several queues).
    pub fn cancel_task(&self, id: &asynq_core::TaskId) -> usize {
        self.table.cancel_id(id)
    }

    /// Takes no more tasks; those taken are run to their end, and enqueueing goes on.
    pub fn stop_fetching(&self) {
        self.table.set_fetching(false);
    }

    /// Whether tasks are being taken.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.table.is_fetching()
    }

    /// Takes tasks again after [`stop_fetching`](Self::stop_fetching).
    pub fn resume_fetching(&self) {
        self.table.set_fetching(true);
        self.exchange.nudge.nudge();
    }

    /// Ends the system: running tasks may go on for the shutdown timeout, are then cancelled and
    /// given back to their queues; outcomes are written, enqueues sent, connections closed.
    ///
    /// # Cancel safety
    /// Safe: the shutdown goes on; [`wait`](Self::wait) sees its end.
    pub async fn shutdown(&self) -> Exit {
        self.root.stop(None);
        self.wait().await
    }

    /// Begins the end of the system as [`shutdown`](Self::shutdown) does, and does not wait for it.
    pub fn stop(&self) {
        self.root.stop(None);
    }

    /// As [`shutdown`](Self::shutdown), but running tasks may go on for `timeout` at most, where that
    /// is less than [`ServerConfig::shutdown_timeout`]; zero cancels them at once.
    ///
    /// # Cancel safety
    /// Safe: the shutdown goes on.
    pub async fn shutdown_within(&self, timeout: Duration) -> Exit {
        self.table.set_hurry(timeout);
        self.shutdown().await
    }

    /// Takes no more tasks, and waits until those taken have ended and their outcomes are written,
    /// however long that takes. Enqueueing goes on, and so may fetching, with
    /// [`resume_fetching`](Self::resume_fetching).
    ///
    /// # Cancel safety
    /// Safe: fetching stays stopped.
    pub async fn drain(&self) {
        self.stop_fetching();
        tokio::select! {
            () = self.table.idle() => {}
            _ = self.wait() => {}
        }
    }

    /// Lives until a signal ends it, as a Go server's `Run`: TERM or INT shut the system down; TSTP
    /// stops fetching, and all else goes on. Returns when the system has ended, by itself too. A
    /// system installs signal handlers only here, at the first poll; they stay installed.
    ///
    /// # Errors
    /// [`Error::Actor`] where the signals cannot be listened for.
    ///
    /// # Cancel safety
    /// Safe: the system goes on, and signals are no longer heard.
    #[cfg(unix)]
    pub async fn run_until_signal(&self) -> Result<Exit> {
        use rustix::process::Signal;
        use tokio::signal::unix::{SignalKind, signal};

        let listen = |kind| signal(kind).map_err(|error| Error::Actor(error.into()));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut stop = listen(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
        loop {
            tokio::select! {
                exit = self.wait() => return Ok(exit),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = stop.recv() => {
                    tracing::info!("told to stop: no more tasks are taken");
                    self.stop_fetching();
                }
            }
        }
        tracing::info!("told to end: shutting down");
        Ok(self.shutdown().await)
    }

    /// Lives until Ctrl-C ends it. Returns when the system has ended, by itself too.
    ///
    /// # Errors
    /// [`Error::Actor`] where the signal cannot be listened for.
    ///
    /// # Cancel safety
    /// Safe: the system goes on, and the signal is no longer heard.
    #[cfg(not(unix))]
    pub async fn run_until_signal(&self) -> Result<Exit> {
        tokio::select! {
            exit = self.wait() => Ok(exit),
            heard = tokio::signal::ctrl_c() => {
                heard.map_err(|error| Error::Actor(error.into()))?;
                Ok(self.shutdown().await)
            }
        }
    }

    /// Waits for the end of the system, however it comes.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait(&self) -> Exit {
        let mut exits = self.exits.clone();
        match exits.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(Exit::Killed),
            // The teller is gone with its runtime.
            Err(_) => Exit::Killed,
        }
    }
}

impl fmt::Debug for AsynqSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.tree)
    }
}
