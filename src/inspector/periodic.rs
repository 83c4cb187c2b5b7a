//! The tasks of scheduler entries, enqueued by hand: now, or for ticks of the past.

use std::time::Duration;

use asynq_core::{
    Broker, EnqueueError, Env, Error, Inspect, Result, Task, TaskError, TaskInfo,
    broker::{Tick, Ticked},
    compose::compose,
    info::SchedulerEntry,
    periodic::{EntryKey, OnConflict},
};
use chrono::{DateTime, SecondsFormat, Utc};

use super::{Inspector, operator::Target};

/// Largest number of ticks that one [`Inspector::backfill_entry`] enqueues.
pub const MAX_BACKFILL: usize = 1000;
/// Time for which a tick that was backfilled is remembered.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// The name in the marks of backfilled ticks. Schedulers have names of their own, so their marks are others.
const BACKFILL: &str = "asynq:backfill";

/// Number of ticks of a backfill, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backfilled {
    /// Their tasks were enqueued.
    pub enqueued: u64,
    /// An earlier backfill had decided them.
    pub decided_before: u64,
    /// Another task has their id or their unique lock.
    pub refused: u64,
}

impl<B: Broker + Inspect + ?Sized> Inspector<B> {
    /// Enqueues the task of a scheduler entry now, with the options of the entry, whatever scheduler it belongs to. No
    /// tick is affected, and the history of the entry does not show the task. Options that were set on the task and not
    /// at the registration are not known.
    ///
    /// ```
    /// use asynq::{Inspector, info::SchedulerEntry, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// let inspector = Inspector::connect(MemoryStore::new()).await?;
    /// let entry = SchedulerEntry {
    ///     id: "b0c6e8f0".into(),
    ///     spec: "@daily".into(),
    ///     task_type: "report".into(),
    ///     payload: "{}".into(),
    ///     options: vec![r#"Queue("low")"#.into()],
    ///     next: None,
    ///     prev: None,
    /// };
    /// let task = inspector.run_entry(&entry).await?;
    /// assert_eq!((task.queue.as_str(), task.task_type.as_str()), ("low", "report"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: those of an enqueue.
    ///
    /// # Errors
    /// [`Error::Enqueue`] if the task is refused, as by
    /// [`Client::enqueue`](crate::Client::enqueue). If the answer is lost, the error is [`EnqueueError::Unknown`] with
    /// the id of the task.
    ///
    /// # Cancel safety
    /// The task was enqueued, or was not. A call that is dropped may still enqueue it.
    pub async fn run_entry(&self, entry: &SchedulerEntry) -> Result<TaskInfo> {
        let request = compose(&task_of(entry)?, &entry.task_options(), &Env::default())?;
        let (queue, id) = (request.message.queue.clone(), request.message.id.clone());
        let target = Target::task(&queue, &id).detail(format!("of entry {}", entry.id));
        self.enqueue_recorded("run_entry", request, target, None).await
    }

    /// Enqueues the tasks of past ticks of a scheduler entry, each of them at most once, in the given order. Ticks are
    /// rounded down to seconds. The iterator may end early to stop the work.
    ///
    /// An entry without a fixed task id gives each tick an id of its own, which begins with `backfill:` and ends with
    /// the time of the tick. The storage remembers each tick for seven days. Until then, another backfill does not
    /// enqueue it again, also if its task has ended. Two entries with the same spec, type, payload and options count
    /// as one entry, since each scheduler publishes its own. Ticks that a scheduler has enqueued are not known here: do
    /// not pass them.
    ///
    /// ```
    /// use asynq::{Inspector, info::SchedulerEntry, inspector::MAX_BACKFILL, memory::MemoryStore};
    /// use chrono::{DateTime, TimeDelta, Utc};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// let inspector = Inspector::connect(MemoryStore::new()).await?;
    /// let entry = SchedulerEntry {
    ///     id: "b0c6e8f0".into(),
    ///     spec: "@daily".into(),
    ///     task_type: "report".into(),
    ///     payload: "{}".into(),
    ///     options: Vec::new(),
    ///     next: None,
    ///     prev: None,
    /// };
    /// let first: DateTime<Utc> = "2026-05-01T00:00:00Z".parse().unwrap();
    /// let days = |count| (0..count).map(move |day| first + TimeDelta::days(day));
    /// assert_eq!(inspector.backfill_entry(&entry, days(3)).await?.enqueued, 3);
    /// // Once more, and one more.
    /// let done = inspector.backfill_entry(&entry, days(4)).await?;
    /// assert_eq!((done.enqueued, done.decided_before), (1, 3));
    /// assert_eq!(inspector.get_queue_stats("default").await?.pending, 4);
    ///
    /// let too_many = days(MAX_BACKFILL as i64 + 1);
    /// assert!(inspector.backfill_entry(&entry, too_many).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: one script for each tick.
    ///
    /// # Errors
    /// As [`run_entry`](Self::run_entry), for the first tick that fails. The ticks before it are enqueued, and another
    /// call with the same ticks continues. [`Error::Invalid`] for the tick after the first
    /// [`MAX_BACKFILL`].
    ///
    /// # Cancel safety
    /// A call that is dropped has enqueued a part, which is not recorded in the audit trail. Another call with the same
    /// ticks enqueues the rest.
    pub async fn backfill_entry(
        &self,
        entry: &SchedulerEntry,
        ticks: impl IntoIterator<Item = DateTime<Utc>, IntoIter: Send> + Send,
    ) -> Result<Backfilled> {
        let queue = compose(&task_of(entry)?, &entry.task_options(), &Env::default())?
            .message
            .queue;
        let mut target = Target::queue(&queue).detail(format!("{} {}", entry.spec, entry.task_type));
        target.tasks = Some(format!("missed ticks of entry {}", entry.id));
        let ticks = ticks.into_iter();
        let backfill = async move {
            let mut done = Backfilled::default();
            for (number, at) in ticks.enumerate() {
                if number >= MAX_BACKFILL {
                    return Err(TaskError::TooLarge {
                        field: "ticks",
                        limit: MAX_BACKFILL as u64,
                        got: number as u64 + 1,
                    }
                    .into());
                }
                match self.backfill_tick(entry, at).await {
                    Ok(Ticked::Enqueued(_)) => done.enqueued += 1,
                    Ok(Ticked::Taken { .. }) => done.decided_before += 1,
                    Err(Error::Enqueue(EnqueueError::DuplicateTask | EnqueueError::TaskIdConflict)) => {
                        done.refused += 1
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(done)
        };
        self.recorded("backfill_entry", target, backfill, |done| Some(done.enqueued))
            .await
    }

    async fn backfill_tick(&self, entry: &SchedulerEntry, at: DateTime<Utc>) -> Result<Ticked> {
        let (task, options) = (task_of(entry)?, entry.task_options());
        let when = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let key = EntryKey::new(BACKFILL, &format!("{when} {}", entry.spec), "", &task, &options);
        let start = key.as_str().get(..8).unwrap_or_default();
        // An id among the options of the entry comes first.
        let task = task.with_task_id(format!("backfill:{start}:{when}"));
        let env = Env::default();
        let tick = Tick {
            entry: key,
            at,
            gap: Duration::ZERO,
            keep: REMEMBERED,
            by: env.entropy.uuid().into(),
            on_conflict: OnConflict::Skip,
            decide: true,
        };
        Ok(self.0.enqueue_tick(compose(&task, &options, &env)?, &tick).await?)
    }
}

/// The task of an entry, without its options.
fn task_of(entry: &SchedulerEntry) -> Result<Task> {
    // An absent payload and an empty one are stored alike.
    let payload = Some(entry.payload.clone()).filter(|payload| !payload.is_empty());
    Task::from_bytes(entry.task_type.clone(), payload)
}
