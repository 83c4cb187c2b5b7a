//! A handle, which registers and unregisters periodic tasks.

use std::{fmt, sync::Arc};

use asynq_core::{Env, Error, IntoTask, PeriodicTaskConfig, Result, TaskOptions, info::SchedulerEntry};

use super::{SchedulerConfig, SchedulerMsg, entries::Entries, entry::EntryId};
use crate::supervision::supervised_ref::SupervisedRef;

/// A handle that registers and unregisters the periodic tasks of a scheduler: before its start, while it runs, and
/// while its actor is restarted. Cheap to clone; all clones belong to one scheduler.
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
    /// Makes a scheduler that is not started yet. Give it to a system with
    /// [`scheduler_handle`](crate::AsynqSystemBuilder::scheduler_handle). `env` is the source of time and randomness,
    /// and must be that of the system.
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

    /// Registers a task, to be enqueued at the times of the spec, from now or from the start of the scheduler on. The
    /// first tick of `@every` is one period later, or earlier if the storage has a mark of the last tick, whose phase
    /// is then kept. Entries with the same spec, time zone, task and options are one entry: each tick is enqueued
    /// once.
    ///
    /// # Errors
    /// [`Error::Config`] with the spec and its fault. [`Error::Invalid`] with the field of the task or option, and
    /// its limit.
    pub fn register(&self, spec: &str, task: impl IntoTask) -> Result<EntryId> {
        self.register_with(spec, task, &TaskOptions::new())
    }

    /// Registers a task with options that override the task's own, one by one.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn register_with(&self, spec: &str, task: impl IntoTask, options: &TaskOptions) -> Result<EntryId> {
        self.add(&PeriodicTaskConfig::new(spec, task.into_task()?).options(options.clone()))
    }

    /// Registers a task with its own time zone or its own policy for missed ticks.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn add(&self, config: &PeriodicTaskConfig) -> Result<EntryId> {
        let prepared = self.entries.prepare(config)?;
        let id = self.entries.insert(prepared);
        self.changed();
        Ok(id)
    }

    /// Unregisters an entry, and deletes its history. A tick whose enqueue has already begun may still be enqueued.
    ///
    /// # Errors
    /// [`Error::Lifecycle`], with Go's text, when no such entry exists.
    pub fn unregister(&self, id: &EntryId) -> Result<()> {
        if !self.entries.remove(id) {
            return Err(Error::Lifecycle("no scheduler entry found"));
        }
        self.changed();
        Ok(())
    }

    /// Returns the present entries, in the order of their registration.
    #[must_use]
    pub fn entries(&self) -> Vec<SchedulerEntry> {
        self.entries.shown()
    }

    /// Notifies the actor. If there is no actor, its next incarnation checks the entries itself.
    pub(crate) fn changed(&self) {
        let _ = self.actor.cast(SchedulerMsg::Changed);
    }
}

impl fmt::Debug for SchedulerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SchedulerHandle").field(&self.entries).finish()
    }
}
