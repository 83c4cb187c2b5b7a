//! Acts on the tasks that a query finds.

use std::{collections::VecDeque, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use asynq_core::{
    Act, BrokerError, Inspect, Result, Storage, TaskInfo, TaskState,
    inspect::{ActedOn, BULK_STEP, Cursor, ScanPlace, TaskMark},
};
use asynq_query::{Query, Verdict};
use chrono::{DateTime, Utc};
use futures::stream::{self, Stream};
use tokio::time::{Instant, sleep_until};

use super::{
    Inspector,
    operator::{Operator, Target, record},
    search::{Count, SearchLimits, Walk},
};

/// Number of states and groups without tasks that one call goes through.
const MOST_EMPTY: u32 = 100;

/// The limits of an act on the tasks that a query finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActLimits {
    /// Number of tasks that are acted on per second; as fast as possible by default.
    pub rate: Option<NonZeroU32>,
    /// Number of tasks after which the act ends; no limit by default. Up to 200 more are acted on after each answer that was
    /// lost.
    pub tasks: Option<u64>,
}

impl ActLimits {
    /// Acts on so many tasks per second.
    #[must_use]
    pub fn rate(mut self, tasks_per_second: NonZeroU32) -> Self {
        self.rate = Some(tasks_per_second);
        self
    }

    /// Ends after so many tasks.
    #[must_use]
    pub fn tasks(mut self, tasks: u64) -> Self {
        self.tasks = Some(tasks);
        self
    }
}

/// The numbers of an act on the tasks that a query finds, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActProgress {
    /// Number of tasks that were looked at.
    pub looked_at: u64,
    /// Number of tasks that met the query when they were looked at.
    pub found: u64,
    /// Number of tasks that were acted on.
    pub done: u64,
    /// Number of tasks that were left alone, because they had moved or changed between the look and the act.
    pub moved: u64,
    /// Number of ids without a task that were removed.
    pub dropped: u64,
    /// Number of tasks that were quarantined because their data cannot be used.
    pub poisoned: u64,
    /// Number of tasks that were left alone, because the query could not decide about them: a value is not known or cannot
    /// be read.
    pub undecided: u64,
    /// `true` if the act is complete, or has reached [`ActLimits::tasks`].
    pub has_ended: bool,
}

impl<B: Inspect + ?Sized> Inspector<B> {
    /// Counts the tasks on which an act by query would act, within limits. See [`count`](Self::count).
    ///
    /// Cost, errors and cancel safety are those of [`count`](Self::count).
    ///
    /// # Errors
    /// As [`count`](Self::count).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn preview(&self, query: &Query, act: Act, limits: &SearchLimits) -> Result<Count> {
        self.count_for(query, Some(act), limits).await
    }

    /// Runs, archives or deletes the tasks that a query finds, step by step. Nothing happens until
    /// [`next`](ActByQuery::next) is called, which returns the numbers so far. States in which the act is not possible are
    /// left out: see [`Act::applies_to`].
    ///
    /// A task that comes into the state retry or archived after the beginning is left alone and counted as moved, so that no
    /// task runs twice because it failed meanwhile.
    ///
    /// The script that acts on a task checks that the task still stands where it was found, with the same score and the same
    /// message. A task that moved or changed meanwhile is left alone and counted. Each task changes as by
    /// [`run_task`](Self::run_task), [`archive_task`](Self::archive_task) or [`delete_task`](Self::delete_task).
    ///
    /// The audit trail gets one entry before the first task is acted on, and one with the numbers when the act ends, fails, is
    /// stopped or is dropped. The entry of a dropped act is written by a task of the runtime, and is only logged if the runtime
    /// ends. [`stop`](ActByQuery::stop) waits for its entry.
    ///
    /// ```
    /// use asynq::{Client, Inspector, Task, inspector::{Act, ActLimits, SearchLimits}, memory::MemoryStore, query::Query};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> anyhow::Result<()> {
    /// # let storage = MemoryStore::new();
    /// # let client = Client::new(storage.clone()).await?;
    /// for user in [1002, 7, 1002] {
    ///     client.enqueue(Task::new("email:send", format!(r#"{{"user_id":{user}}}"#).as_bytes())?).await?;
    /// }
    /// let inspector = Inspector::connect(storage).await?;
    /// let query: Query = "type=email:send payload.user_id=1002".parse()?;
    /// let preview = inspector.preview(&query, Act::Delete, &SearchLimits::default()).await?;
    /// assert_eq!(preview.to_string(), "2 tasks");
    ///
    /// let mut act = inspector.act_by_query(&query, Act::Delete, ActLimits::default())?;
    /// while let Some(progress) = act.next().await? {
    ///     println!("{} of {} found", progress.done, progress.found);
    /// }
    /// assert_eq!(act.progress().done, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: that of [`search`](Self::search) over all tasks, and a script and a `SISMEMBER` for at most 200 tasks that are acted
    /// on. Each such script on pending tasks walks through the list, from its tail to the last of these tasks: 30 ms for a
    /// million, and up to three times more if many tasks have left the list since the look.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for the field `reason` if one is [required](Self::requiring_reason) and not
    /// given.
    pub fn act_by_query(&self, query: &Query, act: Act, limits: ActLimits) -> Result<ActByQuery<B>> {
        self.1.must_have_reason()?;
        Ok(ActByQuery {
            report: Report {
                storage: Arc::clone(&self.0),
                operator: Arc::clone(&self.1),
                name: format!("{act}_by_query"),
                query: query.to_string(),
                progress: ActProgress::default(),
                has_begun: false,
                is_open: false,
            },
            query: query.clone(),
            act,
            limits,
            walk: None,
            began: None,
            found: None,
            next_act: Instant::now(),
        })
    }
}

/// An act on the tasks that a query finds: see [`Inspector::act_by_query`].
pub struct ActByQuery<B: Inspect + ?Sized = dyn Storage> {
    report: Report<B>,
    query: Query,
    act: Act,
    limits: ActLimits,
    walk: Option<Walk<B>>,
    /// Time of the storage at the first look.
    began: Option<DateTime<Utc>>,
    /// Tasks of the last step that wait for the act.
    found: Option<Waiting>,
    /// Earliest time of the next act.
    next_act: Instant,
}

struct Waiting {
    container: super::search::Container,
    marks: VecDeque<TaskMark>,
    /// The place behind the step.
    place: Option<ScanPlace>,
}

impl<B: Inspect + ?Sized> ActByQuery<B> {
    /// Returns the numbers so far.
    #[must_use]
    pub fn progress(&self) -> ActProgress {
        self.report.progress
    }

    /// Looks at the next tasks, or acts on those that were found, and returns the numbers so far. `None` after the end.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker). If the error is temporary, the call can be repeated, and goes on where
    /// it was. An act of which the answer was lost may have taken effect, and its tasks then count as moved.
    ///
    /// # Cancel safety
    /// A call that is dropped may still take effect, as after a lost answer.
    pub async fn next(&mut self) -> Result<Option<ActProgress>> {
        if self.report.progress.has_ended {
            return Ok(None);
        }
        let moved_on = match &self.found {
            Some(_) => self.act_on_some().await,
            None => self.look().await,
        };
        if let Err(error) = moved_on {
            self.report.failed(&error).await;
            return Err(error);
        }
        self.report.goes_on();
        if self.report.progress.has_ended {
            let is_limit = self.found.is_some();
            self.report
                .end(if is_limit { "limit reached" } else { "complete" })
                .await;
        }
        Ok(Some(self.report.progress))
    }

    /// Ends the act early, and returns its numbers.
    ///
    /// # Cancel safety
    /// If the call is dropped, the entry in the audit trail may be missing.
    pub async fn stop(mut self) -> ActProgress {
        self.report.end("stopped").await;
        self.report.progress
    }

    /// Returns a stream of the numbers, which ends when the act is complete, or with its first error. Drop it to stop the
    /// act.
    pub fn into_stream(self) -> impl Stream<Item = Result<ActProgress>> + Send + use<B> {
        stream::try_unfold(self, async |mut act| {
            Ok(act.next().await?.map(|progress| (progress, act)))
        })
    }

    async fn look(&mut self) -> Result<()> {
        let walk = match &mut self.walk {
            Some(walk) => walk,
            none => {
                let storage = Arc::clone(&self.report.storage);
                none.insert(Walk::new(storage, self.query.clone(), Some(self.act), &Cursor::default()).await?)
            }
        };
        let progress = &mut self.report.progress;
        let mut empty = 0;
        let scanned = loop {
            let Some(scanned) = walk.step(u64::MAX).await? else {
                progress.has_ended = true;
                return Ok(());
            };
            if !scanned.step.tasks.is_empty() {
                break scanned;
            }
            walk.went_on(&scanned, 0);
            empty += 1;
            if empty == MOST_EMPTY {
                return Ok(());
            }
        };
        let mut marks = VecDeque::new();
        let began = *self.began.get_or_insert(scanned.step.at);
        for task in &scanned.step.tasks {
            progress.looked_at += 1;
            if self.act == Act::Run && has_failed_since(&task.info, began) {
                progress.moved += 1;
                continue;
            }
            match self.query.evaluate(&task.info, scanned.step.at) {
                Verdict::Match => marks.push_back(task.mark.clone()),
                Verdict::Undecided => progress.undecided += 1,
                Verdict::NoMatch => {}
            }
        }
        progress.found += marks.len() as u64;
        if marks.is_empty() {
            walk.went_on(&scanned, scanned.step.tasks.len());
        } else {
            self.found = Some(Waiting {
                container: scanned.container,
                marks,
                place: scanned.step.next,
            });
        }
        Ok(())
    }

    async fn act_on_some(&mut self) -> Result<()> {
        let (Some(found), Some(walk)) = (&mut self.found, &mut self.walk) else {
            return Ok(());
        };
        let progress = &mut self.report.progress;
        let left = self
            .limits
            .tasks
            .map_or(u64::MAX, |most| most.saturating_sub(progress.done));
        // With a rate, four parts a second.
        let part = self
            .limits
            .rate
            .map_or(BULK_STEP, |rate| (rate.get() / 4).clamp(1, BULK_STEP));
        let part = usize::try_from(left.min(u64::from(part)))
            .unwrap_or(usize::MAX)
            .min(found.marks.len());
        let tasks: Vec<TaskMark> = found.marks.iter().take(part).cloned().collect();
        if !tasks.is_empty() {
            sleep_until(self.next_act).await;
            self.report.begin(self.limits).await;
            let storage = &self.report.storage;
            let acted = storage.act_on_these(&found.container.queue, &found.container.filter, self.act, &tasks);
            let acted = match acted.await {
                Ok(acted) => acted,
                // It was deleted meanwhile.
                Err(BrokerError::QueueNotFound { .. }) => ActedOn {
                    moved: u32::try_from(tasks.len()).unwrap_or(u32::MAX),
                    ..ActedOn::default()
                },
                Err(error) => return Err(error.into()),
            };
            let progress = &mut self.report.progress;
            progress.done += u64::from(acted.done);
            progress.moved += u64::from(acted.moved);
            progress.dropped += u64::from(acted.dropped);
            progress.poisoned += acted.poisoned.len() as u64;
            if let Some(rate) = self.limits.rate {
                let pause = Duration::from_secs(1) * u32::try_from(tasks.len()).unwrap_or(u32::MAX) / rate.get();
                self.next_act = self.next_act.max(Instant::now()) + pause;
            }
            if let Some(place) = &mut found.place {
                place.forget(&tasks);
            }
            found.marks.drain(..part);
        }
        let progress = &mut self.report.progress;
        if self.limits.tasks.is_some_and(|most| progress.done >= most) {
            progress.has_ended = true;
        } else if found.marks.is_empty() {
            walk.go_to(found.place.take());
            self.found = None;
        }
        Ok(())
    }
}

impl<B: Inspect + ?Sized> fmt::Debug for ActByQuery<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActByQuery")
            .field("query", &self.report.query)
            .field("act", &self.act)
            .field("limits", &self.limits)
            .field("progress", &self.report.progress)
            .finish_non_exhaustive()
    }
}

/// Returns whether a task failed after a time, of which its storage has whole seconds.
fn has_failed_since(task: &TaskInfo, time: DateTime<Utc>) -> bool {
    matches!(task.state, TaskState::Retry | TaskState::Archived)
        && task
            .state_since
            .is_some_and(|since| since.timestamp() > time.timestamp())
}

/// The entries in the audit trail.
struct Report<B: Inspect + ?Sized> {
    storage: Arc<B>,
    operator: Arc<Operator>,
    name: String,
    query: String,
    progress: ActProgress,
    has_begun: bool,
    /// Its end, or failure, is not recorded.
    is_open: bool,
}

impl<B: Inspect + ?Sized> Report<B> {
    fn entry(&self, detail: String) -> super::TrailEntry {
        let target = Target {
            tasks: Some(self.query.clone()),
            ..Target::default()
        };
        self.operator.entry(&self.name, target.detail(detail))
    }

    /// Before the first task is acted on, or again after a failure.
    async fn begin(&mut self, limits: ActLimits) {
        self.is_open = true;
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let mut detail = "begun".to_owned();
        if let Some(rate) = limits.rate {
            detail += &format!(", {rate} a second");
        }
        if let Some(tasks) = limits.tasks {
            detail += &format!(", at most {tasks}");
        }
        record(&*self.storage, &self.entry(detail)).await;
    }

    /// After a failure there is an end once more.
    fn goes_on(&mut self) {
        self.is_open |= self.has_begun;
    }

    /// The entry of the end, unless it has been made.
    fn ended(&mut self, how: &str) -> Option<super::TrailEntry> {
        if !std::mem::take(&mut self.is_open) {
            return None;
        }
        let ActProgress {
            looked_at,
            found,
            done,
            moved,
            undecided,
            ..
        } = self.progress;
        let detail = format!("{how}; looked at {looked_at}, found {found}, moved {moved}, undecided {undecided}");
        let mut entry = self.entry(detail);
        entry.changed = Some(done);
        Some(entry)
    }

    async fn end(&mut self, how: &str) {
        if let Some(entry) = self.ended(how) {
            record(&*self.storage, &entry).await;
        }
    }

    async fn failed(&mut self, error: &asynq_core::Error) {
        if let Some(entry) = self.ended("failed") {
            record(&*self.storage, &entry.failed(error)).await;
        }
    }
}

impl<B: Inspect + ?Sized> Drop for Report<B> {
    fn drop(&mut self) {
        let Some(entry) = self.ended("dropped") else { return };
        let storage = Arc::clone(&self.storage);
        tracing::warn!(?entry, "an act by query was dropped before its end");
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // A drop cannot wait. The task ends with its one call.
            drop(runtime.spawn(async move { record(&*storage, &entry).await }));
        }
    }
}
