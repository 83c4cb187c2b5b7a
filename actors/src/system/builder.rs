//! A builder of systems.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    ClientConfig, ConfigError, Connector, Error, GroupAggregator, Handler, PeriodicTaskConfig,
    PeriodicTaskConfigProvider, Result, ServeMux, ServerConfig, ServerIdentity,
    broker::Env,
    config::{ClientSettings, Settings},
    extract::Route,
    panics::remember_panics,
};
use ractor::{Actor, ActorCell};
use tokio::{sync::watch, time::Instant};

use super::{
    AsynqSystem, ROOT,
    teardown::Teardown,
    watchdog::{Patience, Watchdog, Watched},
};
use crate::{
    broker::{Broker, BrokerArgs, Lending},
    client::{Client, ClientHandle},
    host::host,
    in_flight::{exchange::Exchange, nudge::Nudge, starter::Starter, table::Table},
    maintenance::{
        self, Maintenance,
        aggregator::AggregatorRef,
        scheduler::{SchedulerConfig, SchedulerHandle, Setup},
    },
    per_queue::health::QueueHealth,
    statistics::Statistics,
    supervision::{
        branch::SupervisorSettings,
        chore::STOP_WITHIN,
        supervisor::{Backoff, ChildSpec, ExitCell, Intensity, Supervisor},
        tree::Tree,
    },
    work::{
        Work,
        handlers::{self, HandlerActorSpec, Prepared},
        router::HandlerRef,
    },
};

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
    scheduler: Setup,
    env: Env,
    connect_within: Option<Duration>,
    intensity: Intensity,
    backoff: Backoff,
}

impl AsynqSystem {
    /// Returns a builder of a system on the storage that the connector opens.
    #[must_use]
    pub fn builder(connector: impl Connector) -> AsynqSystemBuilder {
        AsynqSystemBuilder::new(connector)
    }
}

impl AsynqSystemBuilder {
    pub(super) fn new(connector: impl Connector) -> Self {
        let env = connector.env();
        Self {
            connector: Arc::new(connector),
            config: ServerConfig::new(),
            client_config: ClientConfig::new(),
            handler: None,
            aggregator: None,
            handler_actors: Vec::new(),
            routes: ServeMux::new(),
            scheduler: Setup::default(),
            env,
            connect_within: None,
            intensity: Intensity::default(),
            backoff: Backoff::default(),
        }
    }

    /// Sets the configuration of the server part. Default: [`ServerConfig::new`].
    #[must_use]
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// Makes [`spawn`](Self::spawn) wait until the storage answers, for `within` at most, and fail if the storage
    /// does not answer. Default: spawn does not wait, and the system connects in the background for as long as
    /// necessary.
    ///
    /// Use it for programs that must not start without their storage, for example in a container that is restarted
    /// after a failed start.
    #[must_use]
    pub fn connect_within(mut self, within: Duration) -> Self {
        self.connect_within = Some(within);
        self
    }

    /// Sets the configuration of the client part. Default: [`ClientConfig::new`].
    #[must_use]
    pub fn client_config(mut self, config: ClientConfig) -> Self {
        self.client_config = config;
        self
    }

    /// Sets the handler of the tasks that have no [handler actor](Self::handler_actor). A system without any handler
    /// takes no tasks.
    #[must_use]
    pub fn handler(mut self, handler: impl Handler) -> Self {
        self.handler = Some(HandlerRef(Arc::new(handler)));
        self
    }

    /// Sets the aggregator, which combines the tasks of a group into one task, in all queues of the config. Without
    /// an aggregator, groups wait for another server. An aggregator needs no handler in the same system; the combined
    /// tasks then wait for another server.
    #[must_use]
    pub fn aggregator(mut self, aggregator: impl GroupAggregator) -> Self {
        self.aggregator = Some(AggregatorRef(Arc::new(aggregator)));
        self
    }

    /// Registers an async function with extracted arguments for the task type of one of its arguments, as
    /// [`ServeMux::route`] does. It has precedence over the plain handler, and handler actors have precedence over
    /// it.
    #[must_use]
    pub fn route<Args: 'static, R: Route<Args>>(mut self, handler: R) -> Self {
        self.routes.route(handler);
        self
    }

    /// Registers a function like [`route`](Self::route), for the task types that begin with the pattern.
    #[must_use]
    pub fn route_on<Args: 'static, R: Route<Args>>(mut self, pattern: &str, handler: R) -> Self {
        self.routes.route_on(pattern, handler);
        self
    }

    /// Returns the handler of the tasks without a handler actor.
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

    /// Registers an actor type that runs the tasks whose type begins with its pattern. Call it once for each pattern.
    /// The longest matching pattern wins, and has precedence over the plain handler.
    #[must_use]
    pub fn handler_actor(mut self, spec: HandlerActorSpec) -> Self {
        self.handler_actors.push(spec);
        self
    }

    /// Adds a scheduler of periodic tasks with this configuration; see [`AsynqSystem::scheduler`]. Default: no
    /// scheduler, or one with default settings if [`periodic`](Self::periodic) or
    /// [`periodic_tasks`](Self::periodic_tasks) is used. A scheduler needs no handler in the same system.
    #[must_use]
    pub fn scheduler(mut self, config: SchedulerConfig) -> Self {
        self.scheduler.config = Some(config);
        self
    }

    /// Adds an existing scheduler with its registered entries, in place of [`scheduler`](Self::scheduler). Only one
    /// system can use it, and only once.
    #[must_use]
    pub fn scheduler_handle(mut self, handle: SchedulerHandle) -> Self {
        self.scheduler.handle = Some(handle);
        self
    }

    /// Registers a periodic task. Call it once for each task. [`spawn`](Self::spawn) returns all specs, tasks and
    /// options that are not valid in one error.
    #[must_use]
    pub fn periodic(mut self, task: PeriodicTaskConfig) -> Self {
        self.scheduler.periodic.push(task);
        self
    }

    /// Sets the provider of periodic tasks, in addition to the registered ones (Go: `PeriodicTaskManager`). It is
    /// called before the system starts, and then every `sync_interval`, 1 s to 24 h, or every 3 min if that is
    /// `None`. New entries are registered, and those that it no longer returns are unregistered. All others keep
    /// their ids, times and histories.
    ///
    /// Nothing changes if the provider fails, panics, returns an empty spec, or does not answer within 30 s or within
    /// the interval if that is shorter. An entry with another fault is logged and left out.
    #[must_use]
    pub fn periodic_tasks(
        mut self,
        provider: impl PeriodicTaskConfigProvider,
        sync_interval: impl Into<Option<Duration>>,
    ) -> Self {
        let interval = sync_interval.into().unwrap_or(Setup::SYNC_INTERVAL);
        self.scheduler.provider = Some((Arc::new(provider), interval));
        self
    }

    /// Sets the source of time and randomness. Default: that of the [connector](Connector::env).
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// Sets the number of restarts of actors that are normal. Default: 5 in 60 s for each supervisor.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Sets the delay before an actor is restarted. Default: 100 ms, doubling to 30 s.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Starts the system, and returns when all actors run. The system connects to the storage afterwards, and retries
    /// for as long as necessary.
    ///
    /// # Errors
    /// [`Error::Config`] with all faults at once. [`Error::Handler`] when the first answer of the provider of
    /// periodic tasks cannot be used. [`Error::Lifecycle`] when another system has the scheduler handle.
    /// [`Error::Actor`] when an actor cannot start.
    pub async fn spawn(self) -> Result<AsynqSystem> {
        self.start(None).await
    }

    /// Starts the system as a child of an actor of the application, which receives the end of the system as an
    /// ordinary supervision event. When that actor ends, the system ends too, at once and without the shutdown
    /// timeout; see [how it ends](AsynqSystem#how-it-ends).
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub async fn spawn_linked(self, supervisor: ActorCell) -> Result<AsynqSystem> {
        self.start(Some(supervisor)).await
    }

    /// Returns all faults of the settings, of the handlers, and of the `prepared` middleware of the handler actors.
    fn validate(&self, prepared: &[Prepared]) -> Result<(Settings, ClientSettings), ConfigError> {
        let handler = (self.plain()).map_or(Ok(()), |handler| handler.0.check_with(self.config.states()));
        let mut faults = handler.err().map_or_else(Vec::new, |error| error.faults);
        let server = self.config.validate().map_err(|error| faults.extend(error.faults));
        let client = self
            .client_config
            .validate()
            .map_err(|error| faults.extend(error.faults));
        faults.extend(handlers::check(&self.handler_actors, prepared, self.config.states()));
        faults.extend(self.scheduler.faults());
        match (server, client) {
            (Ok(server), Ok(client)) if faults.is_empty() => Ok((server, client)),
            _ => Err(ConfigError { faults }),
        }
    }

    async fn start(self, parent: Option<ActorCell>) -> Result<AsynqSystem> {
        let prepared = handlers::prepare(&self.handler_actors);
        let (settings, client_settings) = self.validate(&prepared)?;
        let handler_actors: Vec<_> = self.handler_actors.iter().cloned().zip(prepared).collect();
        remember_panics();
        let env = self.env.clone();
        let lending = Lending::new();
        let tree = Tree::new(env.clock.clone());
        let client = ClientHandle::new(&client_settings, env.clone());
        let server = Arc::new(ServerIdentity {
            host: host(),
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            server_id: env.entropy.uuid(),
        });
        let statistics = settings.statistics.then(|| {
            let statistics = Statistics::new(env.clock.clone(), Arc::clone(&server));
            Arc::new(statistics)
        });
        let table = Table::new(settings.concurrency, env.clock.clone())
            .taking_ahead(settings.prefetch)
            .of_server(Arc::clone(&server))
            .counting(statistics.clone())
            .metered(lending.handle().meters());
        let table = Arc::new(table);
        let exit = ExitCell::default();
        let exchange = Exchange {
            table: Arc::clone(&table),
            roads: Arc::new(QueueHealth::new(env.entropy.clone())),
            broker: lending.handle(),
            nudge: Nudge::new(),
            starter: Starter::default(),
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
            client.spec(lending.handle(), "system/client", tree.ending()),
        ];
        let scheduler = self.scheduler.ready(&env, &tree, maintenance::PATH).await?;
        let scheduler_handle = scheduler.as_ref().map(|scheduler| scheduler.handle.clone());
        let takes = self.plain().is_some() || !self.handler_actors.is_empty();
        let keeps_order = takes || self.aggregator.is_some();
        // Without application code there is nothing to wait for.
        let timeout = if keeps_order {
            settings.shutdown_timeout
        } else {
            Duration::ZERO
        };
        tree.ending().set_timeout(timeout);
        let supervisors = SupervisorSettings {
            intensity: self.intensity,
            backoff: self.backoff,
            tree: tree.clone(),
            entropy: env.entropy.clone(),
        };
        let mut claim = None;
        if keeps_order || scheduler.is_some() {
            let maintenance = Maintenance {
                settings: keeps_order.then_some(&settings),
                aggregator: self.aggregator.clone(),
                scheduler,
                exchange: &exchange,
                env: &env,
                supervisors: &supervisors,
            };
            let branch;
            (branch, claim) = maintenance.branch();
            children.push(branch);
        }
        if takes {
            let work = Work {
                settings: &settings,
                handler_actors: &handler_actors,
                plain: self.plain(),
                exchange: &exchange,
                statistics: statistics.clone(),
                server: &server,
                client: Client::of_system(client.clone(), lending.handle()).for_runs(),
                env: &env,
                supervisors: &supervisors,
            };
            children.push(work.branch()?);
        }
        let waiting = client.clone();
        tree.set_backlog("system/client", move || waiting.waiting());
        let root = supervisors.args(ROOT, children, exit.clone());
        let spawned = match parent {
            Some(parent) => Actor::spawn_linked(None, Supervisor, root, parent).await,
            None => Actor::spawn(None, Supervisor, root).await,
        };
        let (root, joined) = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                lending.close(Instant::now() + STOP_WITHIN).await;
                return Err(Error::Actor(error.into()));
            }
        };
        if let Some(claim) = claim {
            claim.keep();
        }

        let watchdog = takes.then(|| Watched {
            table: Arc::clone(&table),
            connector: Arc::clone(&self.connector),
            env: env.clone(),
            tree: tree.clone(),
            path: ROOT,
            patience: Patience::default(),
        });
        let watchdog = watchdog.and_then(Watchdog::start);
        let stalls = watchdog.as_ref().map(Watchdog::stalls).unwrap_or_default();
        if takes {
            let weights = settings
                .queues
                .iter()
                .map(|(queue, weight)| format!("{queue}={weight}"));
            tracing::info!(
                storage = self.connector.describe(),
                queues = weights.collect::<Vec<_>>().join(","),
                concurrency = settings.concurrency,
                "server started"
            );
        }
        let (ended, exits) = watch::channel(None);
        let last = Teardown {
            root: root.get_cell(),
            ending: tree.ending().clone(),
            exchange: exchange.clone(),
            client: client.clone(),
            lending: lending.clone(),
            statistics,
            exit,
            watchdog,
            takes,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "it does what is left when the root has ended, and tells its end"
        )]
        tokio::spawn(last.act(joined, ended));
        let system = AsynqSystem {
            root: root.get_cell(),
            client,
            scheduler: scheduler_handle,
            broker: lending.handle(),
            table,
            exchange,
            tree,
            stalls,
            exits,
        };
        if let Some(within) = self.connect_within
            && let Err(error) = system.reach(within).await
        {
            system.shutdown_at_once().await;
            return Err(error.into());
        }
        Ok(system)
    }
}
