//! Tasks found by a query.

mod walk;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use asynq_core::{
    Act, Inspect, Result, TaskInfo,
    inspect::{Cursor, SCAN_STEP},
};
use asynq_query::{Query, Verdict};
use futures::stream::{self, Stream};
use tokio::time::Instant;

use super::Inspector;
use walk::is_over;
pub(super) use walk::{Container, Walk};

/// The limits of one call of [`Inspector::search`]. Whichever is reached first ends the call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchLimits {
    /// Number of tasks to find; 100 by default, at least 1.
    pub found: usize,
    /// Number of tasks to look at; 10 000 by default. The call looks at 200 at least.
    pub looked_at: u64,
    /// Bytes of messages, results and progress to look at; 64 MiB by default. The call looks at one task at least.
    pub bytes: u64,
    /// Time after which no further step begins; 2 s by default. The call makes one step at least.
    pub time: Duration,
}

impl Default for SearchLimits {
    fn default() -> Self {
        Self {
            found: 100,
            looked_at: 10_000,
            bytes: 64 << 20,
            time: Duration::from_secs(2),
        }
    }
}

impl SearchLimits {
    /// Sets the number of tasks to find.
    #[must_use]
    pub fn found(mut self, tasks: usize) -> Self {
        self.found = tasks;
        self
    }

    /// Sets the number of tasks to look at.
    #[must_use]
    pub fn looked_at(mut self, tasks: u64) -> Self {
        self.looked_at = tasks;
        self
    }

    /// Sets the number of bytes to look at.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets the time after which no further step begins.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Returns whether one more step could exceed the limits.
    fn are_reached(&self, looked_at: u64, bytes: u64) -> bool {
        looked_at > 0 && (looked_at + u64::from(SCAN_STEP) > self.looked_at || bytes >= self.bytes)
    }
}

/// The answer of one call of [`Inspector::search`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Found {
    /// The tasks that meet the query.
    pub tasks: Vec<TaskInfo>,
    /// Number of tasks that were looked at.
    pub looked_at: u64,
    /// Number of tasks among these about which the query could not decide, because a value is not known or cannot be read:
    /// see [`Verdict::Undecided`](crate::query::Verdict::Undecided).
    pub undecided: u64,
    /// The place where the search continues; `None`: it is complete. A call with the default cursor begins again.
    pub next: Option<Cursor>,
}

/// The answer of [`Inspector::count`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// Number of tasks that meet the query.
    pub tasks: u64,
    /// Number of tasks that were looked at. Those of a queue and state that meet the query as a whole need no look.
    pub looked_at: u64,
    /// Number of tasks among these about which the query could not decide.
    pub undecided: u64,
    /// `true` if nothing was left out; otherwise at least so many tasks meet the query.
    pub is_complete: bool,
}

impl std::fmt::Display for Count {
    /// Writes `12 tasks`, or `at least 12 tasks; looked at 10000`, and the number of undecided tasks if there are any.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let least = if self.is_complete { "" } else { "at least " };
        let tasks = if self.tasks == 1 { "task" } else { "tasks" };
        write!(f, "{least}{} {tasks}", self.tasks)?;
        if !self.is_complete {
            write!(f, "; looked at {}", self.looked_at)?;
        }
        match self.undecided {
            0 => Ok(()),
            undecided => write!(f, "; {undecided} undecided"),
        }
    }
}

impl<B: Inspect + ?Sized> Inspector<B> {
    /// Finds tasks by a query, within limits. The answer tells how many tasks were looked at, and where to go on:
    /// give [`Found::next`] to the next call.
    ///
    /// The search goes through the queues by name, and in each through the states active, pending, aggregating (group by
    /// group), scheduled, retry, archived and completed. Queues and states that cannot meet the query are left out. Within
    /// a state the order is that of [`list_tasks`](Self::list_tasks), and a task is neither skipped nor found twice while it
    /// stays in its state and is not rescheduled. See [`scan_tasks`](Self::scan_tasks), which has an exception for lists. Times in the query are
    /// relative to the clock of the storage.
    ///
    /// ```
    /// use asynq::{Client, Inspector, Task, inspect::Cursor, inspector::SearchLimits, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> anyhow::Result<()> {
    /// let storage = MemoryStore::new();
    /// let client = Client::new(storage.clone()).await?;
    /// for user in [1002, 7] {
    ///     client.enqueue(Task::new("email:send", format!(r#"{{"user_id":{user}}}"#).as_bytes())?).await?;
    /// }
    /// let inspector = Inspector::connect(storage).await?;
    /// let query = "type^=email: payload.user_id>1000".parse()?;
    /// let found = inspector.search(&query, &SearchLimits::default(), &Cursor::default()).await?;
    /// assert_eq!((found.tasks.len(), found.looked_at, found.next), (1, 2, None));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: one `SMEMBERS`; for each queue whose aggregating tasks can meet the query, a script that lists the groups; a
    /// script and a `SISMEMBER` for every 200 tasks or MiB that are looked at, about 2 ms of Redis for 200 small tasks.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for the field `cursor` if no search has returned it;
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn search(&self, query: &Query, limits: &SearchLimits, from: &Cursor) -> Result<Found> {
        let end = Instant::now().checked_add(limits.time);
        let mut walk = Walk::new(Arc::clone(&self.0), query.clone(), None, from).await?;
        let (mut found, mut bytes) = (Found::default(), 0);
        let wanted = limits.found.max(1);
        loop {
            if !walk.reach(end).await? {
                found.next = walk.cursor(end).await?;
                break;
            }
            let Some(scanned) = walk.step(limits.bytes.saturating_sub(bytes)).await? else {
                break;
            };
            let step = &scanned.step;
            let mut used = step.tasks.len();
            for (at, task) in step.tasks.iter().enumerate() {
                found.looked_at += 1;
                bytes += task.size;
                match query.evaluate(&task.info, step.at) {
                    Verdict::Match => found.tasks.push(task.info.clone()),
                    Verdict::Undecided => found.undecided += 1,
                    Verdict::NoMatch => {}
                }
                if found.tasks.len() == wanted {
                    used = at + 1;
                    break;
                }
            }
            walk.went_on(&scanned, used);
            let is_enough = found.tasks.len() >= wanted || limits.are_reached(found.looked_at, bytes) || is_over(end);
            if is_enough {
                found.next = walk.cursor(end).await?;
                break;
            }
        }
        Ok(found)
    }

    /// Returns a stream of all tasks that meet a query. See [`search`](Self::search), which has limits.
    ///
    /// Cost: that of [`search`](Self::search), over all tasks. The program holds 200 tasks at a time, or one MiB.
    ///
    /// # Errors
    /// In the stream [`Error::Broker`](crate::Error::Broker), after which it ends.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn search_all(&self, query: &Query) -> impl Stream<Item = Result<TaskInfo>> + Send + use<B> {
        let start = (Arc::clone(&self.0), query.clone(), None, VecDeque::new());
        stream::try_unfold(start, async |(storage, query, walk, mut read)| {
            let mut walk = match walk {
                Some(walk) => walk,
                None => Walk::new(Arc::clone(&storage), query.clone(), None, &Cursor::default()).await?,
            };
            while read.is_empty() {
                let Some(scanned) = walk.step(u64::MAX).await? else {
                    return Ok(None);
                };
                let tasks = scanned.step.tasks.iter().map(|task| &task.info);
                let found = tasks.filter(|task| query.evaluate(task, scanned.step.at) == Verdict::Match);
                read.extend(found.cloned());
                walk.went_on(&scanned, scanned.step.tasks.len());
            }
            let task = read.pop_front();
            Ok(task.map(|task: TaskInfo| (task, (storage, query, Some(walk), read))))
        })
    }

    /// Counts the tasks that meet a query, within limits, of which [`found`](SearchLimits::found) has no effect. The
    /// answer is exact if [`is_complete`](Count::is_complete).
    ///
    /// The tasks of a state are counted without a look at them if the query depends on nothing but queue and state, such as
    /// `queue=critical state=retry,archived`.
    ///
    /// Cost: that of [`search`](Self::search), and for each queue that is counted as a whole that of
    /// [`get_queue_stats`](Self::get_queue_stats).
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn count(&self, query: &Query, limits: &SearchLimits) -> Result<Count> {
        self.count_for(query, None, limits).await
    }

    /// Counts the tasks that meet a query, in the states in which an act is possible.
    pub(super) async fn count_for(&self, query: &Query, act: Option<Act>, limits: &SearchLimits) -> Result<Count> {
        let end = Instant::now().checked_add(limits.time);
        let mut walk = Walk::new(Arc::clone(&self.0), query.clone(), act, &Cursor::default()).await?;
        let (mut count, mut bytes, mut has_looked) = (Count::default(), 0, false);
        loop {
            let is_late = has_looked && is_over(end);
            if is_late && walk.cursor(end).await?.is_some() || !walk.reach(end).await? {
                return Ok(count);
            }
            if let Some(size) = walk.whole().await? {
                count.tasks += size;
                has_looked = true;
                continue;
            }
            if limits.are_reached(count.looked_at, bytes) && walk.cursor(end).await?.is_some() {
                return Ok(count);
            }
            let Some(scanned) = walk.step(limits.bytes.saturating_sub(bytes)).await? else {
                count.is_complete = true;
                return Ok(count);
            };
            has_looked = true;
            for task in &scanned.step.tasks {
                count.looked_at += 1;
                bytes += task.size;
                match query.evaluate(&task.info, scanned.step.at) {
                    Verdict::Match => count.tasks += 1,
                    Verdict::Undecided => count.undecided += 1,
                    Verdict::NoMatch => {}
                }
            }
            walk.went_on(&scanned, scanned.step.tasks.len());
        }
    }
}
