//! [`Server`]: takes tasks from their queues and runs them.

use std::{fmt, sync::Arc, time::Duration};

use asynq_actors::AsynqSystem;
pub use asynq_core::Handler;
use asynq_core::{
    ConfigError, Connector, Error, GroupAggregator, Result, ServerConfig, config::Settings, error::ConfigFault,
};

use crate::life::Life;

/// Takes tasks from their queues and runs them (Go: `asynq.Server`).
///
/// A thin front end of an [`AsynqSystem`], which runs from [`start`](Self::start) to [`shutdown`](Self::shutdown). A
/// server starts only once: after a shutdown, make another server. A server that is dropped while it runs is shut
/// down in the background, as long as the Tokio runtime lives.
///
/// ```no_run
/// use asynq::{Server, ServerConfig, Task, memory::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> asynq::Result<()> {
/// let config = ServerConfig::new().concurrency(4).queues([("critical", 6), ("default", 3)]);
/// let mut server = Server::new(MemoryStore::new(), config).await?;
/// // Until TERM or INT.
/// server
///     .run(|task: Task| async move {
///         println!("{}", task.get_type());
///         Ok(())
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    connector: Arc<dyn Connector>,
    config: ServerConfig,
    aggregator: Option<Arc<dyn GroupAggregator>>,
    connect_within: Option<Duration>,
    life: Life,
}

impl Server {
    /// Makes a server on the storage that the connector opens. It is not started yet.
    ///
    /// # Errors
    /// [`Error::Config`] with all faults of the settings at once.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn new(connector: impl Connector, config: ServerConfig) -> Result<Self> {
        let _: Settings = config.validate()?;
        Ok(Self {
            connector: Arc::new(connector),
            config,
            aggregator: None,
            connect_within: None,
            life: Life::New,
        })
    }

    /// Sets the aggregator, which combines the tasks of a group into one task. Call this method before the start.
    pub fn set_group_aggregator(&mut self, aggregator: impl GroupAggregator) {
        self.aggregator = Some(Arc::new(aggregator));
    }

    /// Makes the start wait until the storage answers, for `within` at most, and fail if the storage does not answer.
    /// Call this method before the start. Default: the start does not wait, and the server connects in the background
    /// for as long as necessary.
    pub fn set_connect_within(&mut self, within: Duration) {
        self.connect_within = Some(within);
    }

    /// Starts, runs until TERM or INT, and shuts down. TSTP stops fetching, as in Go. The method also returns when
    /// the server ends by itself.
    ///
    /// # Errors
    /// Those of [`start`](Self::start). [`Error::Actor`] when the server ended by itself because one of its actors
    /// failed repeatedly.
    ///
    /// # Cancel safety
    /// Not safe: if the future is dropped, the server keeps running, as after [`start`](Self::start).
    pub async fn run(&mut self, handler: impl Handler) -> Result<()> {
        self.start(handler).await?;
        self.life.run("server").await
    }

    /// Starts, and returns when all actors run. The server connects to the storage in the background, and retries for
    /// as long as necessary.
    ///
    /// # Errors
    /// [`Error::Lifecycle`], with Go's texts, when the server was started before. [`Error::Config`] with all faults
    /// of the handler (see [`ServeMux`](crate::serve_mux::ServeMux)) at once. [`Error::Actor`] when the actors of the
    /// server cannot start. [`Error::Broker`] when the storage does not answer in [time](Self::set_connect_within);
    /// the server can then be started again.
    ///
    /// # Cancel safety
    /// Not safe: the server may have started.
    pub async fn start(&mut self, handler: impl Handler) -> Result<()> {
        match &self.life {
            Life::New => {}
            Life::Active(system) if system.is_fetching() => {
                return Err(Error::Lifecycle("the server is already running"));
            }
            Life::Active(_) => {
                return Err(Error::Lifecycle(
                    "the server is in the stopped state. Waiting for shutdown.",
                ));
            }
            Life::Closed => return Err(Error::Lifecycle("Server closed")),
        }
        let mut builder = AsynqSystem::builder(Arc::clone(&self.connector))
            .config(self.config.clone())
            .handler(handler);
        if let Some(aggregator) = self.aggregator.clone() {
            builder = builder.aggregator(aggregator);
        }
        if let Some(within) = self.connect_within {
            builder = builder.connect_within(within);
        }
        self.life.start(builder).await
    }

    /// Stops taking tasks. Tasks that are already taken run on. Without effect unless the server runs.
    pub fn stop(&self) {
        if let Some(system) = self.life.system() {
            system.stop_fetching();
        }
    }

    /// Shuts down: running tasks continue for the shutdown timeout, and are then cancelled and given back. This takes
    /// at most [`ServerConfig::shutdown_timeout`] plus 6 s, see [`AsynqSystem::shutdown`]. Without effect unless the
    /// server runs.
    ///
    /// # Cancel safety
    /// Safe: the shutdown continues.
    pub async fn shutdown(&mut self) {
        self.life.shutdown().await;
    }

    /// Checks that the storage answers. On a closed server the check succeeds without a call, as in Go.
    ///
    /// # Errors
    /// [`Error::Broker`] with the reason.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ping(&self) -> Result<()> {
        self.life.ping(&*self.connector).await
    }

    /// Returns the runtime of a running server: its tree, its client, its events.
    #[must_use]
    pub fn system(&self) -> Option<&AsynqSystem> {
        self.life.system()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("storage", &self.connector.describe())
            .field("config", &self.config)
            .field("life", &self.life.word())
            .finish_non_exhaustive()
    }
}

/// Builds a [`Server`].
///
/// ```
/// use asynq::{ServerBuilder, ServerConfig, memory::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> asynq::Result<()> {
/// let server = ServerBuilder::new()
///     .storage(MemoryStore::new())
///     .server_config(ServerConfig::new().concurrency(4))
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct ServerBuilder {
    connector: Option<Arc<dyn Connector>>,
    config: ServerConfig,
    aggregator: Option<Arc<dyn GroupAggregator>>,
}

impl ServerBuilder {
    /// Makes a builder with nothing set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the storage: a Redis connection, or an embedded store. Required.
    #[must_use]
    pub fn storage(mut self, connector: impl Connector) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// The name of [`storage`](Self::storage) in the style of Go.
    #[must_use]
    pub fn redis_config(self, connector: impl Connector) -> Self {
        self.storage(connector)
    }

    /// Sets the configuration. Default: [`ServerConfig::new`].
    #[must_use]
    pub fn server_config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the aggregator, which combines the tasks of a group into one task. Default: none.
    #[must_use]
    pub fn group_aggregator(mut self, aggregator: impl GroupAggregator) -> Self {
        self.aggregator = Some(Arc::new(aggregator));
        self
    }

    /// Builds the server, which is not started yet.
    ///
    /// # Errors
    /// [`Error::Config`] with all faults at once.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn build(self) -> Result<Server> {
        let mut faults = self.config.validate().err().map_or_else(Vec::new, |error| error.faults);
        let Some(connector) = self.connector else {
            faults.push(ConfigFault {
                field: "storage",
                problem: "is required".to_owned(),
            });
            return Err(ConfigError { faults }.into());
        };
        if !faults.is_empty() {
            return Err(ConfigError { faults }.into());
        }
        let mut server = Server::new(connector, self.config).await?;
        server.aggregator = self.aggregator;
        Ok(server)
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
