//! A handle, which registers and unregisters periodic tasks.

use std::{fmt, sync::Arc};

use asynq_core::{Env, Error, IntoTask, PeriodicTaskConfig, Result, TaskOptions, info::SchedulerEntry};

use super::{SchedulerConfig, SchedulerMsg, entries::Entries, entry::EntryId};
use crate::supervision::supervised_ref::SupervisedRef;

/// Registers and unregisters the periodic tasks of a scheduler: before it starts, while it runs,
/// while its actor is restarted. Cheap to clone; the clones are one scheduler.
///
/// ```
/// use asynq::{AsynqSystem, SchedulerConfig, Task, memory::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> asynq::Result<()> {
/// let system = AsynqSystem::builder(MemoryStore::new())
///     .scheduler(SchedulerConfig::new())
///     .spawn()
///     .await?;
/// let scheduler = system.scheduler().expect("the system has one");
/// let id = scheduler.register("30 7 * * mon-fri", Task::new("report:daily", b"")?)?;
/// println!("{:?}", scheduler.entries()[0].next);
/// scheduler.unregister(&id)?;
/// system.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SchedulerHandle {
    pub(crate) entries: Arc<Entries>,
    pub(super) actor: SupervisedRef<SchedulerMsg>,
}

impl SchedulerHandle {
    /// A scheduler that is not started yet; a system is given it with
    /// [`scheduler_handle`](crate::AsynqSystemBuilder::scheduler_handle). Time and randomness are those
    /// of `env`, which is to be the system's.
    ///
    /// # Errors
    /// [`Error::Config`] with all faults at once.
    pub fn new(config: SchedulerConfig, env: Env) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            entries: Arc::new(Entries::new(config, env)),
            actor: SupervisedRef::new(),
        })
    }

    /// Registers a task to be enqueued whenever the spec says so, from now on, or from the start of the
    /// scheduler on; `@every` begins one period later, or sooner where the storage remembers its last tick,
    /// whose phase goes on. Entries with the same spec, time zone, task and options are one: each tick is
    /// enqueued once.
    ///
    /// # Errors
    /// [`Error::Config`] names the spec and what is wrong with it; [`Error::Invalid`] names the field of
    /// the task or the option and its limit.
    pub fn register(&self, spec: &str, task: impl IntoTask) -> Result<EntryId> {
        self.register_with(spec, task, &TaskOptions::new())
    }

    /// Registers a task; the options given here override its own, one by one.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn register_with(&self, spec: &str, task: impl IntoTask, options: &TaskOptions) -> Result<EntryId> {
        self.add(&PeriodicTaskConfig::new(spec, task.into_task()?).options(options.clone()))
    }

    /// Registers a task with a time zone or a policy for missed ticks of its own.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn add(&self, config: &PeriodicTaskConfig) -> Result<EntryId> {
        let prepared = self.entries.prepare(config)?;
        let id = self.entries.insert(prepared);
        self.changed();
        Ok(id)
    }

    /// Unregisters an entry; a tick that is just being enqueued may still be. Its history is deleted.
    ///
    /// # Errors
    /// [`Error::Lifecycle`], with Go's text, when there is no such entry.
    pub fn unregister(&self, id: &EntryId) -> Result<()> {
        if !self.entries.remove(id) {
            return Err(Error::Lifecycle("no scheduler entry found"));
        }
        self.changed();
        Ok(())
    }

    /// The entries as they are now, in the order of their registration.
    #[must_use]
    pub fn entries(&self) -> Vec<SchedulerEntry> {
        self.entries.shown()
    }

    /// Tells the actor. When there is none, its next incarnation looks for itself.
    pub(crate) fn changed(&self) {
        let _ = self.actor.cast(SchedulerMsg::Changed);
    }
}

impl fmt::Debug for SchedulerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SchedulerHandle").field(&self.entries).finish()
    }
}
