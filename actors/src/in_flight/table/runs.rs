//! Runs: started, cancelled, and ended; and the results that their handlers write meanwhile.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    QueueName, TaskId, TaskMessage,
    broker::{CallToken, LeaseRef, Outcome},
    clock::Reading,
    statistics::RunEnd,
};
use chrono::{DateTime, Utc};
use tokio::{task::AbortHandle, time::Instant};

use super::{CancelReason, Entry, Key, Phase, Start, Table};
use crate::metrics::Meters;

/// The end of a run, as reported to the table.
#[derive(Debug)]
pub(crate) enum End {
    /// With an outcome that is to be written.
    Outcome(Outcome),
    /// With an outcome too, but the task was not run.
    PutBack(Outcome),
    /// The task is no longer ours: nothing is written.
    LeaseLost,
}

impl End {
    /// Returns the outcome; `None` if nothing is written.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Outcome(outcome) | Self::PutBack(outcome) => Some(outcome),
            Self::LeaseLost => None,
        }
    }

    /// The end as statistics count it.
    fn counted(&self) -> RunEnd {
        match self {
            Self::Outcome(outcome) => RunEnd::of(outcome),
            Self::PutBack(_) => RunEnd::GivenBack,
            Self::LeaseLost => RunEnd::Lost,
        }
    }
}

/// A task that is running, for the server's info.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) message: Arc<TaskMessage>,
    pub(crate) queue: QueueName,
    pub(crate) id: TaskId,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) deadline: DateTime<Utc>,
}

impl Table {
    pub(crate) fn set_abort(&self, key: &Key, token: &CallToken, abort: AbortHandle) {
        if let Some(Entry {
            phase: Phase::Running { abort: slot },
            lease,
            ..
        }) = self.lock().entries.get_mut(key)
            && lease.token == *token
        {
            *slot = Some(abort);
        }
    }

    /// A run ended.
    pub(crate) fn finish(&self, key: &Key, token: &CallToken, end: End) {
        let ended;
        {
            let mut state = self.lock();
            let Some(entry) = state.entries.get_mut(key) else {
                return;
            };
            if entry.lease.token != *token || !matches!(entry.phase, Phase::Running { .. }) {
                return;
            }
            let read = self.clock.read();
            // Before anybody can see that it has ended, so that who waits for the end finds it counted.
            match end {
                End::PutBack(_) => self.count_put_back(key, &entry.message, read.now),
                _ => self.count_end(key, &entry.message, end.counted(), entry.began, &read),
            }
            ended = Meters::ENABLED.then(|| (Arc::clone(&entry.message), end.counted(), entry.began, read));
            let was_run = matches!(end, End::Outcome(_));
            match end {
                End::Outcome(outcome) | End::PutBack(outcome) => {
                    let is_recorded = was_run && outcome.keeps(&entry.message);
                    entry.ended_at = is_recorded.then_some(read.now);
                    entry.phase = Phase::Finished {
                        outcome,
                        at: Instant::now(),
                        attempts: 0,
                    };
                    state.ended(key.clone());
                }
                End::LeaseLost => {
                    state.entries.remove(key);
                }
            }
            state.running -= 1;
        }
        self.changed.notify_waiters();
        if let Some((message, end, began, read)) = ended {
            self.meter_end(key, &message, end, began, &read);
        }
    }

    /// Counts runs that have just been started.
    pub(super) fn count_starts(&self, starts: &[Start], now: DateTime<Utc>) {
        for start in starts {
            self.meters
                .started(start.key.0.as_str(), &start.message.r#type, start.waited);
        }
        if let Some(statistics) = &self.statistics
            && !starts.is_empty()
        {
            let known = starts
                .iter()
                .filter_map(|start| Some((&start.key.0, start.message.r#type.as_str(), start.waited?)));
            statistics.started(known, now);
        }
    }

    /// Counts the end of a run.
    pub(super) fn count_end(&self, key: &Key, message: &TaskMessage, end: RunEnd, began: Duration, now: &Reading) {
        if let Some(statistics) = &self.statistics {
            let took = now.steady.saturating_sub(began);
            statistics.ended(&key.0, &message.r#type, end, took, now.now);
        }
    }

    /// Counts a task whose run never began.
    fn count_put_back(&self, key: &Key, message: &TaskMessage, now: DateTime<Utc>) {
        if let Some(statistics) = &self.statistics {
            statistics.put_back(&key.0, &message.r#type, now);
        }
    }

    /// Tells the metrics of the end of a run.
    pub(super) fn meter_end(&self, key: &Key, message: &TaskMessage, end: RunEnd, began: Duration, now: &Reading) {
        let took = now.steady.saturating_sub(began);
        self.meters.ended(key.0.as_str(), &message.r#type, end, took);
    }

    /// The claim of a running task, for what a handler writes.
    pub(crate) fn lease_of(&self, key: &Key, token: &CallToken) -> Option<LeaseRef> {
        let read = self.clock.read();
        let mut state = self.lock();
        let entry = state.entries.get_mut(key)?;
        (entry.lease.token == *token && matches!(entry.phase, Phase::Running { .. })).then(|| entry.fenced(&read))
    }

    /// Returns whether the fence has been raised since this claim was made, while the task runs on.
    pub(crate) fn raised(&self, key: &Key, lease: &LeaseRef) -> bool {
        let state = self.lock();
        state.entries.get(key).is_some_and(|entry| {
            let runs = entry.lease.token == lease.token && matches!(entry.phase, Phase::Running { .. });
            runs && entry.lease.until > lease.until
        })
    }

    /// Notes that a result is on its way with this claim, until the value returned is dropped.
    pub(crate) fn writing(self: &Arc<Self>, key: &Key, lease: &LeaseRef) -> Writing {
        if let Some(entry) = self.lock().entries.get_mut(key)
            && entry.lease.token == lease.token
        {
            entry.writes.push(lease.until);
        }
        Writing {
            table: Arc::clone(self),
            key: key.clone(),
            lease: lease.clone(),
        }
    }

    /// Cancels the runs of tasks with this id, whatever their queue (the wire names no queue). A task that
    /// waits to be started ends as soon as it is.
    pub(crate) fn cancel_id(&self, id: &TaskId) -> usize {
        let state = self.lock();
        let hit = state.entries.iter().filter(|(Key(_, known), entry)| {
            known == id && matches!(entry.phase, Phase::Leased { .. } | Phase::Running { .. })
        });
        hit.map(|(_, entry)| entry.cancel.cancel(CancelReason::Requested))
            .count()
    }

    /// Cancels the one run with this claim, as [`cancel_id`](Self::cancel_id); whether it was there.
    pub(crate) fn cancel_run(&self, lease: &LeaseRef) -> bool {
        let state = self.lock();
        let entry = state.entries.get(&Key::of(lease));
        let hit = entry.filter(|entry| {
            entry.lease.token == lease.token && matches!(entry.phase, Phase::Leased { .. } | Phase::Running { .. })
        });
        hit.inspect(|entry| entry.cancel.cancel(CancelReason::Requested))
            .is_some()
    }

    /// Cancels all runs.
    pub(crate) fn cancel_running(&self, reason: CancelReason) {
        for entry in self.lock().entries.values() {
            if matches!(entry.phase, Phase::Running { .. }) {
                entry.cancel.cancel(reason);
            }
        }
    }

    /// Drops the futures of all runs at their next await point. Each then reports its end.
    pub(crate) fn abort_running(&self) {
        for entry in self.lock().entries.values() {
            if let Phase::Running { abort: Some(abort) } = &entry.phase {
                abort.abort();
            }
        }
    }

    pub(crate) fn running(&self) -> Vec<Running> {
        let state = self.lock();
        let running = state
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.phase, Phase::Running { .. }));
        running
            .map(|(Key(queue, id), entry)| Running {
                message: Arc::clone(&entry.message),
                queue: queue.clone(),
                id: id.clone(),
                started_at: entry.started_at,
                deadline: entry.deadline,
            })
            .collect()
    }
}

/// A result that is on its way.
#[derive(Debug)]
pub(crate) struct Writing {
    table: Arc<Table>,
    key: Key,
    lease: LeaseRef,
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.table.lock();
        if let Some(entry) = state.entries.get_mut(&self.key)
            && entry.lease.token == self.lease.token
            && let Some(place) = entry.writes.iter().position(|fence| *fence == self.lease.until)
        {
            entry.writes.swap_remove(place);
        }
    }
}
