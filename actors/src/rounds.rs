//! Passes over the queues of a server, side by side: a queue that hangs or fails keeps no other waiting.
//!
//! A pass waits a little for the jobs that it began. A job that takes longer goes on by itself, one
//! at most for each queue, and later passes leave its queue out until it has ended. A queue whose job
//! failed has its next after a growing wait of its own.

use std::{
    collections::HashMap,
    panic::resume_unwind,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::{BrokerError, Entropy, QueueName};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, timeout, timeout_at},
};

use crate::{distrust::report, roads::LATE};

const FIRST_RETRY: Duration = Duration::from_millis(100);

type End<T> = (QueueName, Result<T, BrokerError>);

#[derive(Debug, Default)]
struct Line {
    /// Its job is under way.
    open: bool,
    failures: u32,
    /// What the last failure was.
    error: String,
    /// When its next job is due; at once, if there is none.
    due: Option<Instant>,
}

#[derive(Debug)]
struct State<T> {
    lines: HashMap<QueueName, Line>,
    jobs: JoinSet<End<T>>,
}

/// How often, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From a job of a queue that ended well to its next.
    pub(crate) interval: Duration,
    /// The longest wait for the next after one that failed.
    pub(crate) longest_retry: Duration,
    /// How long a job may take. It is then given up, so it must be one that may be dropped.
    pub(crate) within: Duration,
}

/// The passes of one chore. They outlive its actor.
#[derive(Debug)]
pub(crate) struct Rounds<T> {
    /// In words, for the log.
    what: &'static str,
    pace: Pace,
    entropy: Entropy,
    state: Mutex<State<T>>,
}

/// What came of a pass.
#[derive(Debug)]
pub(crate) struct Round<T> {
    /// What jobs gave that ended well, those of earlier passes included.
    pub(crate) done: Vec<T>,
    /// How many queues have no answer yet, or failed.
    pub(crate) troubled: usize,
    /// How long to wait before the next pass; `None`: whatever pleases.
    pub(crate) wait: Option<Duration>,
}

/// Puts the jobs back, also where the pass is dropped.
struct Taken<'r, T> {
    rounds: &'r Rounds<T>,
    jobs: JoinSet<End<T>>,
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.rounds.lock().jobs = std::mem::take(&mut self.jobs);
    }
}

impl<T> Rounds<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Rounds<T> {
    pub(crate) fn new(what: &'static str, pace: Pace, entropy: Entropy) -> Self {
        let state = State {
            lines: HashMap::new(),
            jobs: JoinSet::new(),
        };
        Self {
            what,
            pace,
            entropy,
            state: Mutex::new(state),
        }
    }

    /// Does the job for each of the queues that is due.
    ///
    /// # Errors
    /// The last error, when no queue at all is well.
    pub(crate) async fn pass<'q, F>(
        &self,
        queues: impl IntoIterator<Item = &'q QueueName>,
        job: impl Fn(QueueName) -> F,
    ) -> Result<Round<T>, BrokerError>
    where
        F: Future<Output = Result<T, BrokerError>> + Send + 'static,
    {
        let mut done = Vec::new();
        let mut taken = Taken {
            rounds: self,
            jobs: std::mem::take(&mut self.lock().jobs),
        };
        while let Some(ended) = taken.jobs.try_join_next() {
            done.extend(self.ended(ended).and_then(|(_, value)| value));
        }
        let queues: Vec<&QueueName> = queues.into_iter().collect();
        let mut begun = Vec::new();
        let (now, within) = (Instant::now(), self.pace.within);
        for queue in &queues {
            if self.begin(queue, now) {
                let job = job((*queue).clone());
                let queue = (*queue).clone();
                begun.push(queue.clone());
                taken.jobs.spawn(async move {
                    let end = timeout(within, job).await;
                    let end =
                        end.unwrap_or_else(|_| Err(BrokerError::unavailable(format!("no answer within {within:?}"))));
                    (queue, end)
                });
            }
        }
        let patience = now + LATE;
        while !begun.is_empty() {
            match timeout_at(patience, taken.jobs.join_next()).await {
                Ok(Some(ended)) => {
                    if let Some((queue, value)) = self.ended(ended) {
                        begun.retain(|other| *other != queue);
                        done.extend(value);
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    for queue in &begun {
                        tracing::warn!(%queue, what = self.what, "no answer from the storage yet, other queues go on");
                    }
                    break;
                }
            }
        }
        drop(taken);
        self.outcome(&queues, done)
    }

    fn begin(&self, queue: &QueueName, now: Instant) -> bool {
        let mut state = self.lock();
        let line = match state.lines.get_mut(queue) {
            Some(line) => line,
            None => state.lines.entry(queue.clone()).or_default(),
        };
        let begins = !line.open && line.due.is_none_or(|due| due <= now);
        line.open |= begins;
        begins
    }

    /// Notes the end of a job; `None` for one that was given up.
    fn ended(&self, ended: Result<End<T>, JoinError>) -> Option<(QueueName, Option<T>)> {
        let (queue, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // A job that panics crashes the actor, as the pass itself would. Which queue it was is
                // not known: all may begin anew.
                if let Ok(panic) = error.try_into_panic() {
                    self.lock().lines.clear();
                    resume_unwind(panic);
                }
                return None;
            }
        };
        let what = self.what;
        let mut state = self.lock();
        let line = state.lines.entry(queue.clone()).or_default();
        line.open = false;
        match result {
            Ok(value) => {
                if line.failures > 0 {
                    tracing::info!(%queue, what, failures = line.failures, "works again");
                }
                *line = Line {
                    due: (!self.pace.interval.is_zero()).then(|| Instant::now() + self.pace.interval),
                    ..Line::default()
                };
                Some((queue, Some(value)))
            }
            Err(error) => {
                line.error = report(&error);
                if line.failures == 0 {
                    tracing::warn!(%queue, what, error = line.error, "failed, retrying");
                }
                let wait = FIRST_RETRY
                    .saturating_mul(2_u32.saturating_pow(line.failures.min(16)))
                    .min(self.pace.longest_retry);
                line.failures = line.failures.saturating_add(1);
                line.due = Some(Instant::now() + wait / 2 + self.entropy.up_to(wait / 2));
                Some((queue, None))
            }
        }
    }

    fn outcome(&self, queues: &[&QueueName], done: Vec<T>) -> Result<Round<T>, BrokerError> {
        let state = self.lock();
        let now = Instant::now();
        let lines = || queues.iter().filter_map(|queue| state.lines.get(*queue));
        let troubled = lines().filter(|line| line.open || line.failures > 0).count();
        let dues = lines().filter(|line| !line.open).filter_map(|line| line.due);
        let wait = dues.min().map(|due| due - now);
        let last = lines().find(|line| line.failures > 0).map(|line| line.error.clone());
        match last {
            Some(error) if troubled == queues.len() => Err(BrokerError::unavailable(error)),
            _ => Ok(Round { done, troubled, wait }),
        }
    }

    /// Gives up all jobs that are under way.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.jobs.abort_all();
        state.lines.clear();
    }
}
