//! The whole runtime as one value: a supervision tree that takes, runs and settles tasks.

mod builder;
mod exit;
mod own_client;
mod teardown;
#[cfg(test)]
mod untraced;
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

/// A running supervision tree. Cheap to clone. The tree lives until it is shut down, or until the actor of the
/// application to which it is [linked](AsynqSystemBuilder::spawn_linked) ends.
///
/// # How it ends
/// [`shutdown`](Self::shutdown) ends the system in order. The root is killed instead if the actor to which the system
/// is linked has stopped, panicked or been killed. The killed actors cannot finish their work, so a task that belongs
/// to no actor does the following:
///
/// - Running tasks are cancelled and get 2 s of grace. Then they are dropped and given back to the front of their
///   queues, without using up a retry.
/// - Outcomes are written for up to 3 s.
/// - Enqueues in progress end with [`EnqueueError::Unknown`](asynq_core::EnqueueError::Unknown), and later ones with
///   [`Closed`](asynq_core::EnqueueError::Closed).
/// - The storage is closed.
///
/// [`wait`](Self::wait) returns when all of this is done. Await it before the process ends.
///
/// This work needs the Tokio runtime. If the runtime is dropped or the process ends, tasks stay active until other
/// servers find them with ended leases. That takes about a minute and uses up a retry.
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
    /// Returns the client of this system. The client uses the system's connections, follows restarts of the client
    /// actor, and ends with the system. The handlers of the system use the same client, see
    /// [`Client`](Client#in-handlers).
    #[must_use]
    pub fn client(&self) -> Client {
        Client::of_system(self.client.clone(), self.broker.clone())
    }

    /// Returns the handle that registers periodic tasks; `None` in a system without a
    /// [scheduler](AsynqSystemBuilder::scheduler).
    #[must_use]
    pub fn scheduler(&self) -> Option<SchedulerHandle> {
        self.scheduler.clone()
    }

    /// Returns the present client actor, for actors that send it [`EnqueueMsg`]. The reference is for one
    /// incarnation: fetch it again after a send error. `None` while the actor is being restarted for the first time.
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
    /// [`BrokerError::Unavailable`] when the storage is not reachable within 5 s. [`BrokerError::Refused`] as soon as
    /// the storage refuses the credentials. Both name the storage and the cause.
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

    /// Kills one actor, named by its path below the root: `work/processor`, `work/handlers/email:send#0`. Its
    /// supervisor restarts the actor, and no task is lost. Use it for an actor that hangs. A `/` within a name can be
    /// written as it is, or as `%2F` as in [`TreeEvent::path`](crate::TreeEvent::path). Returns `false` if no such
    /// actor exists.
    pub fn kill_actor(&self, path: &str) -> bool {
        self.crash_actor(path, Crash::Kill)
    }

    /// Makes one actor crash, named as in [`kill_actor`](Self::kill_actor). Use it to test how an application
    /// survives crashes. Returns `false` if no such actor exists.
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

    /// Returns the number of times that the Tokio runtime was blocked for 2 s or longer, because handlers that
    /// compute or wait without `await` blocked all its threads. Each time is logged with the task types that run, and
    /// shown as the note of the root in [`tree`](Self::tree).
    ///
    /// During such a block, a separate thread of the system extends the leases, from the ninth second on and until
    /// the deadline of each task, so that no other server runs the tasks too. No other part of the system works: it
    /// takes no tasks, receives no cancel request, and is invisible to inspectors. Move such work to a handler that
    /// is not async ([`ServeMux::handle_func`](asynq_core::ServeMux::handle_func)) or to
    /// `tokio::task::spawn_blocking`. A system on a [virtual](asynq_core::Clock::tokio) clock does not measure this.
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

    /// Cancels a task that runs in this system: its handler is dropped at its next await point, and the task fails
    /// with `context canceled` and is retried as after any failure. A task that was taken and has not started does
    /// not start. Returns the number of cancelled tasks, because several queues can have a task with the same id.
    ///
    /// [`Inspect::cancel_task`](asynq_core::Inspect::cancel_task) of the [storage](Self::storage) can archive or
    /// delete the task instead, on any server.
    pub fn cancel_task(&self, id: &asynq_core::TaskId) -> usize {
        self.table.cancel_id(id)
    }

    /// Stops taking tasks. Tasks that are already taken run to their end, and tasks can still be enqueued. Tasks that
    /// were [taken ahead](asynq_core::ServerConfig::prefetch) and have not started go back to the front of their queues.
    pub fn stop_fetching(&self) {
        self.table.set_fetching(false);
        self.exchange.nudge.nudge();
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

    /// Shuts the system down: running tasks continue for the shutdown timeout, and are then cancelled and given back
    /// to their queues. Outcomes are written, enqueues are sent, and connections are closed.
    ///
    /// The shutdown takes at most [`ServerConfig::shutdown_timeout`](asynq_core::ServerConfig::shutdown_timeout) plus
    /// 6 s, whatever handlers and the storage do, unless a thread of the runtime is blocked:
    ///
    /// - Cancelled handlers get 2 s of grace, and are then dropped.
    /// - Outcomes are written and enqueues sent for up to 3 s after the last handler has ended. An unreachable
    ///   storage therefore delays the end by about that time.
    /// - 1 s is reserved for actors that do not stop by themselves, and for closing connections.
    ///
    /// Handlers that are not async ([`ServeMux::handle_func`](asynq_core::ServeMux::handle_func)) cannot be dropped.
    /// If one has not returned by then, its task is left to other servers. Neither this method nor the end of the
    /// tokio runtime waits for it. An async handler that blocks its thread does block the runtime, which waits for it
    /// when `main` returns. End such a process with `std::process::exit`, or its runtime with
    /// `Runtime::shutdown_background`.
    ///
    /// In a system without handlers and aggregator, the shutdown takes at most 6 s. Enqueues that the storage does
    /// not accept in that time end with an error. Outcomes that it does not accept are left to other servers, which
    /// recover their tasks.
    ///
    /// # Cancel safety
    /// Safe: the shutdown continues, and [`wait`](Self::wait) returns at its end.
    pub async fn shutdown(&self) -> Exit {
        self.stop();
        self.wait().await
    }

    /// Begins the shutdown, as [`shutdown`](Self::shutdown) does, and does not wait for it.
    pub fn stop(&self) {
        self.tree.ending().begin();
        self.root.stop(None);
    }

    /// As [`shutdown`](Self::shutdown), but running tasks continue for at most `timeout`, if that is less than
    /// [`ServerConfig::shutdown_timeout`](asynq_core::ServerConfig::shutdown_timeout). Zero cancels them at once.
    ///
    /// # Cancel safety
    /// Safe: the shutdown continues.
    pub async fn shutdown_within(&self, timeout: Duration) -> Exit {
        self.tree.ending().set_hurry(timeout);
        self.shutdown().await
    }

    /// As [`shutdown`](Self::shutdown), but running tasks are not awaited: they are cancelled and dropped at once,
    /// and go back to their queues. The method can also speed up a shutdown in progress. It ends within about a
    /// second, and outcomes that the storage has not accepted by then are left to other servers.
    ///
    /// # Cancel safety
    /// Safe: the shutdown continues.
    pub async fn shutdown_at_once(&self) -> Exit {
        self.tree.ending().set_at_once();
        self.shutdown().await
    }

    /// Stops taking tasks, and waits until the taken tasks have ended and their outcomes are written, for any time
    /// that this takes. Tasks can still be enqueued, and [`resume_fetching`](Self::resume_fetching) can resume the
    /// taking.
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

    /// Runs until a signal ends the system, like a Go server's `Run`. TERM or INT shut the system down, and a second
    /// one does so [at once](Self::shutdown_at_once). TSTP only stops fetching. The method also returns when the
    /// system ends by itself. A system installs signal handlers only in this method, at the first poll, and they stay
    /// installed.
    ///
    /// # Errors
    /// [`Error::Actor`] where the signals cannot be listened for.
    ///
    /// # Cancel safety
    /// Safe: the system continues, and signals are no longer handled.
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

    /// Runs until Ctrl-C ends the system. Also returns when the system ends by itself.
    ///
    /// # Errors
    /// [`Error::Actor`] where the signal cannot be listened for.
    ///
    /// # Cancel safety
    /// Safe: the system continues, and the signal is no longer handled.
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

    /// Waits for any end of the system, and for the remaining work on tasks in flight.
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
