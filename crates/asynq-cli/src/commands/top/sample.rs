//! A sample of the runs of tasks.

use std::collections::{BTreeMap, HashSet};

use asynq::{
    TaskInfo, TaskState,
    error::{BrokerError, Error},
    info::QueueInfo,
    inspector::Inspector,
    names::{QueueName, TaskId},
    task::{Run, RunOutcome},
};
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use crate::error::Result;

/// The states of tasks that have run.
const STATES: [TaskState; 3] = [TaskState::Completed, TaskState::Retry, TaskState::Archived];
/// Queues or tasks that are read at once.
pub(super) const AT_ONCE: usize = 16;
/// Tasks on a page of a list.
const PAGE: u32 = 16;

/// The recorded runs of a type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct TypeRuns {
    /// Number of recorded runs that were looked at.
    pub(super) runs: u64,
    /// Number of those that succeeded.
    pub(super) done: u64,
    /// Number of those that failed, lost ones included.
    pub(super) failed: u64,
    /// Number of those whose server died or lost its lease.
    pub(super) lost: u64,
    /// Half of the runs took at most so long.
    pub(super) median_seconds: Option<f64>,
    /// 95 of 100 runs took at most so long.
    pub(super) p95_seconds: Option<f64>,
    #[serde(skip)]
    times: Vec<f64>,
}

impl TypeRuns {
    fn count(&mut self, run: &Run) {
        self.runs += 1;
        self.done += u64::from(run.outcome == RunOutcome::Done);
        self.failed += u64::from(matches!(run.outcome, RunOutcome::Retried | RunOutcome::Archived));
        self.lost += u64::from(run.is_lost());
        if let (Some(started), Some(ended)) = (run.started, run.ended) {
            self.times.push((ended - started).as_seconds_f64().max(0.0));
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.done += other.done;
        self.failed += other.failed;
        self.lost += other.lost;
        self.times.extend(other.times);
    }

    /// Computes what needs all run times.
    pub(super) fn summarize(&mut self) {
        self.times.sort_by(f64::total_cmp);
        self.median_seconds = quantile(&self.times, 50);
        self.p95_seconds = quantile(&self.times, 95);
    }
}

/// The least of the sorted values that `percent` of them do not exceed.
fn quantile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The runs that are known.
#[derive(Debug)]
pub(super) struct Sample {
    /// Beginning of the time in which starts are counted.
    since: DateTime<Utc>,
    /// Number of tasks whose runs were looked at.
    pub(super) looked_at: u64,
    /// By type and queue: the recorded runs, and the starts since the beginning.
    found: BTreeMap<(String, String), (TypeRuns, u64)>,
    /// Starts that are counted: a run shows as that of a worker and in a record.
    seen: HashSet<(QueueName, TaskId, i64)>,
}

impl Sample {
    pub(super) fn new(since: DateTime<Utc>) -> Self {
        Self {
            since,
            looked_at: 0,
            found: BTreeMap::new(),
            seen: HashSet::new(),
        }
    }

    /// Reads the runs of at most `budget` tasks, spread over the queues and states. In each it takes the last tasks by time.
    pub(super) async fn read<'i>(
        &mut self,
        inspector: &Inspector,
        queues: impl Iterator<Item = &'i QueueInfo>,
        budget: u32,
    ) -> Result<()> {
        let mut places: Vec<(&QueueInfo, TaskState, u64)> = Vec::new();
        for info in queues {
            let counts = [info.completed, info.retry, info.archived];
            places.extend(
                STATES
                    .into_iter()
                    .zip(counts)
                    .map(|(state, count)| (info, state, count)),
            );
        }
        // The smallest ones first: what they do not need is left for the others.
        places.retain(|(_, _, count)| *count > 0);
        places.sort_by_key(|(_, _, count)| *count);
        let mut left = u64::from(budget);
        for (at, (info, state, count)) in places.iter().enumerate() {
            let share = (left / (places.len() - at) as u64).min(*count);
            if share == 0 {
                continue;
            }
            let ids = last(inspector, info.queue.as_str(), *state, *count, share).await?;
            left -= share;
            let reads = ids.iter().map(|id| read(inspector, info.queue.as_str(), id));
            let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
            // One after the other: their payloads may be long.
            while let Some(task) = reads.try_next().await? {
                task.iter().for_each(|task| self.count(task));
            }
        }
        Ok(())
    }

    fn count(&mut self, task: &TaskInfo) {
        self.looked_at += 1;
        for run in task.runs.iter().flat_map(|runs| &runs.recorded) {
            self.entry(&task.task_type, &task.queue).0.count(run);
            if let Some(started) = run.started.filter(|_| !run.is_lost()) {
                self.started(&task.queue, &task.id, &task.task_type, started);
            }
        }
    }

    fn entry(&mut self, task_type: &str, queue: &QueueName) -> &mut (TypeRuns, u64) {
        self.found.entry((task_type.to_owned(), queue.to_string())).or_default()
    }

    /// Counts the start of a run, if it is not counted yet.
    pub(super) fn started(&mut self, queue: &QueueName, id: &TaskId, task_type: &str, at: DateTime<Utc>) {
        // Workers have whole seconds, and two runs of one task do not begin in one second.
        let key = (queue.clone(), id.clone(), at.timestamp());
        if at >= self.since && self.seen.insert(key) {
            self.entry(task_type, queue).1 += 1;
        }
    }

    /// The type, the queue, its recorded runs, and the starts.
    pub(super) fn finish(self) -> impl Iterator<Item = (String, String, TypeRuns, u64)> {
        let found = self.found.into_iter();
        found.map(|((task_type, queue), (runs, started))| (task_type, queue, runs, started))
    }
}

/// The ids of the last `share` of `count` tasks, as they are listed. It reads few at once, as their payloads may be long.
async fn last(inspector: &Inspector, queue: &str, state: TaskState, count: u64, share: u64) -> Result<Vec<TaskId>> {
    let pages = |tasks: u64| u32::try_from(tasks / u64::from(PAGE)).unwrap_or(u32::MAX);
    let mut ids = Vec::new();
    for page in pages(count - share)..pages(count.next_multiple_of(u64::from(PAGE))) {
        let tasks = inspector.list_tasks(queue, state, page + 1, PAGE).await?;
        ids.extend(tasks.into_iter().map(|task| task.id));
    }
    let surplus = ids.len().saturating_sub(usize::try_from(share).unwrap_or(usize::MAX));
    Ok(ids.split_off(surplus))
}

/// A task with its runs; `None` if it is gone or cannot be read.
async fn read(inspector: &Inspector, queue: &str, id: &TaskId) -> Result<Option<TaskInfo>> {
    match inspector.get_task_info(queue, id.as_str()).await {
        Ok(task) => Ok(Some(task)),
        Err(Error::Broker(
            BrokerError::TaskNotFound { .. } | BrokerError::QueueNotFound { .. } | BrokerError::Poison { .. },
        )) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        assert_eq!(quantile(&[], 50), None);
        assert_eq!(quantile(&[7.0], 50), Some(7.0));
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!((quantile(&values, 50), quantile(&values, 95)), (Some(10.0), Some(19.0)));
    }

    #[test]
    fn a_start_counts_once() {
        let since = DateTime::from_timestamp(1000, 500_000_000).unwrap();
        let mut sample = Sample::new(since);
        let (queue, id) = (QueueName::new("q").unwrap(), TaskId::new("a").unwrap());
        let at = |seconds: i64, millis: u32| DateTime::from_timestamp(seconds, millis * 1_000_000).unwrap();
        sample.started(&queue, &id, "t", at(1000, 499)); // before
        sample.started(&queue, &id, "t", at(1002, 300));
        sample.started(&queue, &id, "t", at(1002, 0)); // the same, as its worker shows it
        sample.started(&queue, &id, "t", at(1003, 0));
        let starts: Vec<u64> = sample.finish().map(|(_, _, _, started)| started).collect();
        assert_eq!(starts, [2]);
    }
}
