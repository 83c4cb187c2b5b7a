//! Periodic tasks: [`Scheduler`] and [`PeriodicTaskManager`].
//!
//! Schedulers with the same [name](SchedulerConfig::name) share their entries, in all processes: exactly one of them
//! enqueues each tick. In Go, each of them enqueues it. You can run any number of schedulers.
//! `docs/periodic-tasks.md` describes missed ticks, time zones and troubleshooting.
//!
//! An [`AsynqSystem`] can have a scheduler in addition to its handlers, see
//! [`AsynqSystemBuilder::scheduler`](crate::AsynqSystemBuilder::scheduler).

use std::{fmt, sync::Arc, time::Duration};

use asynq_actors::AsynqSystem;
pub use asynq_actors::{EntryId, SchedulerConfig, SchedulerHandle};
use asynq_core::{Connector, Error, IntoTask, Result, TaskOptions};
pub use asynq_core::{MissedTicks, OnConflict, PeriodicTaskConfig, PeriodicTaskConfigProvider, cron::Tz};

use crate::life::Life;

/// Default interval at which a [`PeriodicTaskManager`] calls its provider.
const SYNC_INTERVAL: Duration = Duration::from_secs(3 * 60);

/// Enqueues tasks at the times of cron specs (Go: `asynq.Scheduler`).
///
/// A thin front end of an [`AsynqSystem`], which runs from [`start`](Self::start) to [`shutdown`](Self::shutdown). A
/// scheduler starts only once: after a shutdown, make another scheduler. For the grammar of specs see
/// [`CronSpec`](crate::cron::CronSpec).
///
/// ```
/// use asynq::{Scheduler, SchedulerConfig, Task, memory::MemoryStore, scheduler::Tz};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> asynq::Result<()> {
/// let config = SchedulerConfig::new().timezone(Tz::Europe__Berlin);
/// let mut scheduler = Scheduler::new(MemoryStore::new(), config).await?;
/// scheduler.register("30 7 * * mon-fri", Task::new("report:daily", b"")?)?;
/// let cleanup = scheduler.register("@every 90s", Task::new("cleanup", b"")?)?;
/// scheduler.start().await?; // or `run`, which lives until TERM or INT
/// scheduler.unregister(&cleanup)?;
/// scheduler.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct Scheduler {
    connector: Arc<dyn Connector>,
    handle: SchedulerHandle,
    life: Life,
}

/// Refuses a second start, with Go's texts.
fn may_start(life: &Life) -> Result<()> {
    match life {
        Life::New => Ok(()),
        Life::Active(_) => Err(Error::Lifecycle("the scheduler is already running")),
        Life::Closed => Err(Error::Lifecycle("the scheduler has already been stopped")),
    }
}

impl Scheduler {
    /// Makes a scheduler on the storage that the connector opens. It is not started yet.
    ///
    /// # Errors
    /// [`Error::Config`] with all faults of the settings at once.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn new(connector: impl Connector, config: SchedulerConfig) -> Result<Self> {
        let handle = SchedulerHandle::new(config, connector.env())?;
        Ok(Self {
            connector: Arc::new(connector),
            handle,
            life: Life::New,
        })
    }

    /// Registers a task, to be enqueued with its own options at the times of the spec. Entries can be registered
    /// before the start and while the scheduler runs. The first tick of `@every` is one period later, or earlier if
    /// the storage remembers a last tick, whose phase is then kept. Entries with the same spec, time zone, task and
    /// options are one entry: each tick is enqueued once.
    ///
    /// # Errors
    /// [`Error::Config`] with the spec and its fault. [`Error::Invalid`] with the field of the task or option, and
    /// its limit.
    pub fn register(&self, spec: &str, task: impl IntoTask) -> Result<EntryId> {
        self.handle.register(spec, task)
    }

    /// Registers a task with options that override the task's own, one by one. Inspectors show the options given
    /// here.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn register_with(&self, spec: &str, task: impl IntoTask, options: &TaskOptions) -> Result<EntryId> {
        self.handle.register_with(spec, task, options)
    }

    /// Registers a task with its own time zone or its own policy for missed ticks.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn add(&self, config: &PeriodicTaskConfig) -> Result<EntryId> {
        self.handle.add(config)
    }

    /// Unregisters an entry, and deletes its history. A tick whose enqueue has already begun may still be enqueued.
    ///
    /// # Errors
    /// [`Error::Lifecycle`], with Go's text, when there is no such entry.
    pub fn unregister(&self, id: &EntryId) -> Result<()> {
        self.handle.unregister(id)
    }

    /// Returns a handle that can register and unregister entries as long as this scheduler lives.
    #[must_use]
    pub fn handle(&self) -> SchedulerHandle {
        self.handle.clone()
    }

    /// Starts, and returns when the scheduler runs. The scheduler connects to the storage in the background, and
    /// retries for as long as necessary. Ticks that are due after the start are enqueued up to five minutes late. For
    /// earlier ticks see [`MissedTicks`].
    ///
    /// # Errors
    /// [`Error::Lifecycle`] when it was started before, with Go's texts; [`Error::Actor`] when its actors
    /// cannot start.
    ///
    /// # Cancel safety
    /// Not safe: it may have started.
    pub async fn start(&mut self) -> Result<()> {
        may_start(&self.life)?;
        let builder = AsynqSystem::builder(Arc::clone(&self.connector)).scheduler_handle(self.handle.clone());
        self.life.start(builder).await
    }

    /// Starts, runs until TERM or INT, and shuts down. Also returns when it ends by itself.
    ///
    /// # Errors
    /// Those of [`start`](Self::start); [`Error::Actor`] when it ended by itself, because one of its actors failed
    /// repeatedly.
    ///
    /// # Cancel safety
    /// Not safe: if the future is dropped, it keeps running, as after [`start`](Self::start).
    pub async fn run(&mut self) -> Result<()> {
        self.start().await?;
        self.life.run("scheduler").await
    }

    /// Shuts down: the scheduler finishes or gives up the current ticks within seconds, and deletes its entries and
    /// their histories, as in Go. Without effect unless the scheduler runs.
    ///
    /// # Cancel safety
    /// Safe: the shutdown continues.
    pub async fn shutdown(&mut self) {
        self.life.shutdown().await;
    }

    /// Checks that the storage answers. On a closed scheduler the check succeeds without a call, as in Go.
    ///
    /// # Errors
    /// [`Error::Broker`] with the reason.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ping(&self) -> Result<()> {
        self.life.ping(&*self.connector).await
    }

    /// Returns the runtime of a running scheduler: its tree, its client, its events.
    #[must_use]
    pub fn system(&self) -> Option<&AsynqSystem> {
        self.life.system()
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("storage", &self.connector.describe())
            .field("handle", &self.handle)
            .field("life", &self.life.word())
            .finish()
    }
}

/// A [`Scheduler`] whose entries come from a [provider](PeriodicTaskConfigProvider), which it calls at intervals (Go:
/// `asynq.PeriodicTaskManager`).
///
/// Each call registers the new entries and unregisters those that the provider no longer returns. All others keep
/// their ids, times and histories. Nothing changes if the provider fails, panics, does not answer in time (30 s, or
/// the sync interval if that is shorter), or returns an empty spec. An entry with another fault is logged and left
/// out.
///
/// ```
/// use asynq::{
///     Task, error::BoxError, memory::MemoryStore,
///     scheduler::{PeriodicTaskConfig, PeriodicTaskConfigProvider, PeriodicTaskManager},
/// };
/// use std::time::Duration;
///
/// struct FromTheDatabase;
///
/// #[async_trait::async_trait]
/// impl PeriodicTaskConfigProvider for FromTheDatabase {
///     async fn get_configs(&self) -> Result<Vec<PeriodicTaskConfig>, BoxError> {
///         Ok(vec![PeriodicTaskConfig::new("@hourly", Task::new("report:hourly", b"")?)])
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> asynq::Result<()> {
/// let mut manager = PeriodicTaskManager::new(MemoryStore::new(), FromTheDatabase)
///     .sync_interval(Duration::from_secs(60));
/// manager.start().await?; // or `run`, which lives until TERM or INT
/// manager.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct PeriodicTaskManager {
    connector: Arc<dyn Connector>,
    provider: Arc<dyn PeriodicTaskConfigProvider>,
    config: SchedulerConfig,
    sync_interval: Duration,
    life: Life,
}

impl PeriodicTaskManager {
    /// Makes a manager on the storage that the connector opens. It is not started yet.
    #[must_use]
    pub fn new(connector: impl Connector, provider: impl PeriodicTaskConfigProvider) -> Self {
        Self {
            connector: Arc::new(connector),
            provider: Arc::new(provider),
            config: SchedulerConfig::new(),
            sync_interval: SYNC_INTERVAL,
            life: Life::New,
        }
    }

    /// Sets the configuration of the manager's scheduler. Default: [`SchedulerConfig::new`].
    #[must_use]
    pub fn config(mut self, config: SchedulerConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the interval between two calls of the provider, 1 s to 24 h. Default: 3 min.
    #[must_use]
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = interval;
        self
    }

    /// Calls the provider, and starts. The manager connects to the storage in the background.
    ///
    /// # Errors
    /// [`Error::Lifecycle`] when it was started before, with Go's texts; [`Error::Config`] with all faults of
    /// the settings at once; [`Error::Handler`] when the provider fails, with Go's texts; [`Error::Actor`]
    /// when its actors cannot start.
    ///
    /// # Cancel safety
    /// Not safe: it may have started.
    pub async fn start(&mut self) -> Result<()> {
        may_start(&self.life)?;
        let builder = AsynqSystem::builder(Arc::clone(&self.connector))
            .scheduler(self.config.clone())
            .periodic_tasks(Arc::clone(&self.provider), self.sync_interval);
        self.life.start(builder).await
    }

    /// Starts, runs until TERM or INT, and shuts down. Also returns when it ends by itself.
    ///
    /// # Errors
    /// Those of [`start`](Self::start); [`Error::Actor`] when it ended by itself, because one of its actors failed
    /// repeatedly.
    ///
    /// # Cancel safety
    /// Not safe: if the future is dropped, it keeps running, as after [`start`](Self::start).
    pub async fn run(&mut self) -> Result<()> {
        self.start().await?;
        self.life.run("scheduler").await
    }

    /// Shuts down as [`Scheduler::shutdown`] does. Without effect unless the manager runs.
    ///
    /// # Cancel safety
    /// Safe: the shutdown continues.
    pub async fn shutdown(&mut self) {
        self.life.shutdown().await;
    }

    /// Returns the runtime of a running manager: its tree, its scheduler, its events.
    #[must_use]
    pub fn system(&self) -> Option<&AsynqSystem> {
        self.life.system()
    }
}

impl fmt::Debug for PeriodicTaskManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeriodicTaskManager")
            .field("storage", &self.connector.describe())
            .field("config", &self.config)
            .field("sync_interval", &self.sync_interval)
            .field("life", &self.life.word())
            .finish_non_exhaustive()
    }
}
