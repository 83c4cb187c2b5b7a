//! The whole runtime as one value: a supervision tree that takes, runs and settles tasks.

mod builder;
mod exit;
mod own_client;
mod teardown;
mod watchdog;

use std::{fmt, sync::Arc, time::Duration};

use asynq_core::{BrokerError, Error, Result, Storage};
use ractor::{ActorCell, DerivedActorRef};
use tokio::sync::watch;

pub use builder::AsynqSystemBuilder;
pub use exit::Exit;

use crate::{
    broker::{BrokerHandle, CONNECTING},
    client::{Client, ClientHandle, EnqueueMsg},
    in_flight::{exchange::Exchange, table::Table},
    maintenance::scheduler::SchedulerHandle,
    supervision::{
        crash::Crash,
        tree::{Tree, TreeNode},
    },
    system::watchdog::Stalls,
};

const ROOT: &str = "system";

/// A running supervision tree. Cheap to clone; the tree lives until it is shut down, or the
/// user's actor that it is [linked](AsynqSystemBuilder::spawn_linked) to ends.
///
/// # How it ends
/// [`shutdown`](Self::shutdown) ends it in order. Where its root is killed instead, because the actor that it is
/// linked to has stopped, panicked or been killed, its actors cannot do the last work, so this is done by a task that
/// belongs to no actor: running tasks are cancelled, given 2 s of grace, dropped, and given back to the front of
/// their queues with no retry used; outcomes are written for up to 3 s; enqueues under way end with
/// [`EnqueueError::Unknown`](asynq_core::EnqueueError::Unknown), later ones with
/// [`Closed`](asynq_core::EnqueueError::Closed); then the storage is closed. [`wait`](Self::wait) returns when that
/// is over: wait for it before the process ends.
///
/// All of it needs the Tokio runtime. When that is dropped, or the process ends, tasks stay active
/// until other servers find them with their leases over, after about a minute, and a retry is used.
#[derive(Clone)]
pub struct AsynqSystem {
    root: ActorCell,
    client: ClientHandle,
    scheduler: Option<SchedulerHandle>,
    broker: BrokerHandle,
    table: Arc<Table>,
    exchange: Exchange,
    tree: Tree,
    stalls: Stalls,
    exits: watch::Receiver<Option<Exit>>,
}

impl AsynqSystem {
    /// The client of this system: it uses the system's connections, follows restarts of the client actor, and
    /// ends with the system. Its handlers find the same one, see [`Client`](Client#in-handlers).
    #[must_use]
    pub fn client(&self) -> Client {
        Client::of_system(self.client.clone(), self.broker.clone())
    }

    /// Registers periodic tasks; `None` in a system that was given no
    /// [scheduler](AsynqSystemBuilder::scheduler).
    #[must_use]
    pub fn scheduler(&self) -> Option<SchedulerHandle> {
        self.scheduler.clone()
    }

    /// Returns the current client actor, for actors that send it [`EnqueueMsg`]. One incarnation: on a send error
    /// fetch it again. `None` while it is being restarted for the first time.
    #[must_use]
    pub fn enqueue_ref(&self) -> Option<DerivedActorRef<EnqueueMsg>> {
        self.client.actor()
    }

    /// Lends the storage; follows restarts of the broker actor.
    #[must_use]
    pub fn broker(&self) -> BrokerHandle {
        self.broker.clone()
    }

    /// Returns the storage, to look at queues and tasks.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] when it is not reachable within 5 s, [`BrokerError::Refused`] as soon as it
    /// refuses the credentials; both say which storage it is and what happened.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn storage(&self) -> Result<Arc<dyn Storage>, BrokerError> {
        self.broker.prompt_storage(CONNECTING).await
    }

    /// Checks that the storage answers.
    ///
    /// # Errors
    /// [`Error::Broker`] says why not.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.storage().await?.ping().await?)
    }

    /// Returns the current supervision tree.
    #[must_use]
    pub fn tree(&self) -> Option<TreeNode> {
        self.tree.snapshot()
    }

    /// Returns the events of the tree from now on.
    #[must_use]
    pub fn tree_events(&self) -> tokio::sync::broadcast::Receiver<crate::supervision::tree::TreeEvent> {
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

    /// Returns how many tasks are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.table.running_count()
    }

    /// Returns how often the Tokio runtime was blocked for 2 s or longer, because handlers that compute or wait
    /// without `await` blocked all its threads. Each time is logged, with the task types that run, and shown as the
    /// note of the root in [`tree`](Self::tree).
    ///
    /// While it is blocked a thread of the system's own extends the leases, from the ninth second on and until the
    /// deadline of each task, so that no other server runs them too; nothing else of the system works: it takes no
    /// tasks, hears no cancel request, and the tools do not see it. Such work belongs into a handler that is not
    /// async ([`ServeMux::handle_func`](asynq_core::ServeMux::handle_func)) or into `tokio::task::spawn_blocking`.
    /// Not measured on a [virtual](asynq_core::Clock::tokio) clock.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.count()
    }

    /// Waits until the storage answers.
    async fn reach(&self, within: Duration) -> Result<(), BrokerError> {
        let answers = async { self.broker.prompt_storage(within).await?.ping().await };
        match tokio::time::timeout(within, answers).await {
            Ok(answer) => answer,
            Err(_) => Err(self.broker.unreachable()),
        }
    }

    /// Asks a task that runs in this system to end: its handler is dropped at its next await
    /// point, and the task fails with `context canceled`, to be retried as after any failure. A task that was
    /// taken and waits for its start is not started. The number of tasks that were hit (the id may run in several
    /// queues).
    ///
    /// [`Inspect::cancel_task`](asynq_core::Inspect::cancel_task) of the [storage](Self::storage) can have it
    /// archived or deleted instead, wherever it runs.
    pub fn cancel_task(&self, id: &asynq_core::TaskId) -> usize {
        self.table.cancel_id(id)
    }

    /// Stops taking tasks; those taken are run to their end, and enqueueing goes on.
    pub fn stop_fetching(&self) {
        self.table.set_fetching(false);
    }

    /// Returns whether tasks are being taken.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.table.is_fetching()
    }

    /// Takes tasks again after [`stop_fetching`](Self::stop_fetching).
    pub fn resume_fetching(&self) {
        self.table.set_fetching(true);
        self.exchange.nudge.nudge();
    }

    /// Shuts the system down: running tasks may go on for the shutdown timeout, and are then cancelled and given back
    /// to their queues; outcomes are written, enqueues sent, connections closed.
    ///
    /// It takes no longer than [`ServerConfig::shutdown_timeout`](asynq_core::ServerConfig::shutdown_timeout)
    /// and 6 s, whatever handlers and the storage do, unless a thread of the runtime is blocked:
    ///
    /// - cancelled handlers get 2 s of grace, and are then dropped;
    /// - outcomes are written, and enqueues sent, for up to 3 s after the last handler has ended, so a
    ///   storage that is away keeps the system for about that long;
    /// - 1 s is left for actors that do not stop by themselves, and for closing connections.
    ///
    /// Handlers that are not async ([`ServeMux::handle_func`](asynq_core::ServeMux::handle_func)) cannot be dropped:
    /// the tasks of those that have not returned by then are left to other servers, and neither this nor the end of
    /// the tokio runtime waits for them. An async handler that blocks its thread does hold the runtime, which waits
    /// for it where `main` returns: end such a process with `std::process::exit`, or its runtime with
    /// `Runtime::shutdown_background`.
    ///
    /// In a system without handlers and aggregator it takes no longer than 6 s. Enqueues that the storage
    /// does not take in that time end with an error, and outcomes that it does not take are left to other
    /// servers, which recover their tasks.
    ///
    /// # Cancel safety
    /// Safe: the shutdown goes on; [`wait`](Self::wait) sees its end.
    pub async fn shutdown(&self) -> Exit {
        self.stop();
        self.wait().await
    }

    /// Begins the shutdown, as [`shutdown`](Self::shutdown) does, and does not wait for it.
    pub fn stop(&self) {
        self.tree.ending().begin();
        self.root.stop(None);
    }

    /// As [`shutdown`](Self::shutdown), but running tasks may go on for `timeout` at most, where that is less
    /// than [`ServerConfig::shutdown_timeout`](asynq_core::ServerConfig::shutdown_timeout); zero cancels them
    /// at once.
    ///
    /// # Cancel safety
    /// Safe: the shutdown goes on.
    pub async fn shutdown_within(&self, timeout: Duration) -> Exit {
        self.tree.ending().set_hurry(timeout);
        self.shutdown().await
    }

    /// As [`shutdown`](Self::shutdown), also where that is under way, but what runs is not waited for: it is
    /// cancelled and dropped at once, and its tasks go back to their queues. Over within a second or so,
    /// and what the storage has not taken by then is left to other servers.
    ///
    /// # Cancel safety
    /// Safe: the shutdown goes on.
    pub async fn shutdown_at_once(&self) -> Exit {
        self.tree.ending().set_at_once();
        self.shutdown().await
    }

    /// Stops taking tasks, and waits until those taken have ended and their outcomes are written, however long that
    /// takes. Enqueueing goes on, and so may fetching, with [`resume_fetching`](Self::resume_fetching).
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

    /// Runs until a signal ends it, like a Go server's `Run`: TERM or INT shut the system down, and a second one does
    /// so [at once](Self::shutdown_at_once); TSTP stops fetching, and all else goes on. Returns when the system has
    /// ended, by itself too. A system installs signal handlers only here, at the first poll; they stay installed.
    ///
    /// # Errors
    /// [`Error::Actor`] where the signals cannot be listened for.
    ///
    /// # Cancel safety
    /// Safe: the system goes on, and signals are no longer handled.
    #[cfg(unix)]
    pub async fn run_until_signal(&self) -> Result<Exit> {
        use tokio::signal::unix::{SignalKind, signal};

        let listen = |kind| signal(kind).map_err(|error| Error::Actor(error.into()));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut stop = listen(SignalKind::from_raw(libc::SIGTSTP))?;
        loop {
            tokio::select! {
                exit = self.wait() => return Ok(exit),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = stop.recv() => {
                    tracing::info!("signal to stop: taking no more tasks");
                    self.stop_fetching();
                }
            }
        }
        tracing::info!("signal to end: shutting down; another one ends at once");
        self.stop();
        tokio::select! {
            exit = self.wait() => return Ok(exit),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("another signal to end: giving running tasks back");
        Ok(self.shutdown_at_once().await)
    }

    /// Runs until Ctrl-C ends it. Also returns when the system ends by itself.
    ///
    /// # Errors
    /// [`Error::Actor`] where the signal cannot be listened for.
    ///
    /// # Cancel safety
    /// Safe: the system goes on, and the signal is no longer handled.
    #[cfg(not(unix))]
    pub async fn run_until_signal(&self) -> Result<Exit> {
        tokio::select! {
            exit = self.wait() => Ok(exit),
            heard = tokio::signal::ctrl_c() => {
                heard.map_err(|error| Error::Actor(error.into()))?;
                self.stop();
                tokio::select! {
                    exit = self.wait() => Ok(exit),
                    _ = tokio::signal::ctrl_c() => Ok(self.shutdown_at_once().await),
                }
            }
        }
    }

    /// Waits for the end of the system, however it comes, until all that can be done for what was in
    /// flight is done.
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
