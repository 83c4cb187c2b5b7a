//! Passes over the queues of a server, which run concurrently: a queue that hangs or fails does not delay others.
//!
//! A pass waits briefly for the jobs that it started. A job that takes longer continues by itself, at most one for
//! each queue. Later passes leave its queue out until the job has ended. After a failed job, the queue waits for its
//! next job, and this wait grows with each failure.

use std::{
    collections::HashMap,
    panic::resume_unwind,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::{BrokerError, Entropy, QueueName, error::text::report};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, timeout, timeout_at},
};

use crate::{metrics::storage_failed, per_queue::health::LATE};

const FIRST_RETRY: Duration = Duration::from_millis(100);

type End<T> = (QueueName, Result<T, BrokerError>);

#[derive(Debug, Default)]
struct Line {
    /// Time by which the job in progress must have ended.
    open_until: Option<Instant>,
    failures: u32,
    /// The last failure.
    error: String,
    /// Due time of its next job; `None`: at once.
    due: Option<Instant>,
}

#[derive(Debug)]
struct State<T> {
    lines: HashMap<QueueName, Line>,
    jobs: JoinSet<End<T>>,
}

/// The interval of passes, and their limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Time from a job of a queue that succeeded to its next.
    pub(crate) interval: Duration,
    /// The longest wait for the next after one that failed.
    pub(crate) longest_retry: Duration,
    /// Longest time that a job may take. The job is then dropped, so it must be safe to drop.
    pub(crate) within: Duration,
    /// `true` if a job that is still running after a moment is logged.
    pub(crate) tells: bool,
}

/// The passes of one chore. They outlive its actor.
#[derive(Debug)]
pub(crate) struct Passes<T> {
    /// Name of the work, for the log.
    what: &'static str,
    pace: Pace,
    entropy: Entropy,
    state: Mutex<State<T>>,
}

/// The result of a pass.
#[derive(Debug)]
pub(crate) struct Round<T> {
    /// Results of the jobs that succeeded, including those of earlier passes.
    pub(crate) done: Vec<T>,
    /// Number of queues that have no answer yet, or failed.
    pub(crate) troubled: usize,
    /// Time until the next pass; `None` leaves it to the caller.
    pub(crate) wait: Option<Duration>,
}

/// The jobs of a pass. They go back to the passes when the pass ends, also if it is dropped.
struct Taken<'r, T> {
    rounds: &'r Passes<T>,
    jobs: JoinSet<End<T>>,
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.rounds.lock().jobs = std::mem::take(&mut self.jobs);
    }
}

impl<T> Passes<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Passes<T> {
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

    /// Runs the job for each due queue.
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
                    for queue in begun.iter().filter(|_| self.pace.tells) {
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
        let is_free = line.open_until.is_none_or(|until| until <= now);
        let begins = is_free && line.due.is_none_or(|due| due <= now);
        if begins {
            // A job that disappeared with its pass blocks its queue for at most this time.
            line.open_until = Some(now + self.pace.within + LATE);
        }
        begins
    }

    /// Records the end of a job; `None` for one that was given up.
    fn ended(&self, ended: Result<End<T>, JoinError>) -> Option<(QueueName, Option<T>)> {
        let (queue, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // A job that panics crashes the actor, as a panic in the pass itself does. Its queue is not known, so
                // all queues may start again.
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
        line.open_until = None;
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
                storage_failed(&error);
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
        let troubled = lines()
            .filter(|line| line.open_until.is_some() || line.failures > 0)
            .count();
        let dues = lines()
            .filter(|line| line.open_until.is_none())
            .filter_map(|line| line.due);
        let wait = dues.min().map(|due| due - now);
        let last = lines().find(|line| line.failures > 0).map(|line| line.error.clone());
        match last {
            Some(error) if troubled == queues.len() => Err(BrokerError::unavailable(error)),
            _ => Ok(Round { done, troubled, wait }),
        }
    }

    /// Delays the next job of a queue by this wait, independent of the interval.
    pub(crate) fn next_in(&self, queue: &QueueName, wait: Duration) {
        if let Some(line) = self.lock().lines.get_mut(queue) {
            line.due = Some(Instant::now() + wait);
        }
    }

    /// Gives up all jobs in progress.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.jobs.abort_all();
        state.lines.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use futures::{FutureExt as _, future::pending};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rounds(interval: Duration) -> Passes<&'static str> {
        let pace = Pace {
            interval,
            longest_retry: 10 * SECOND,
            within: 60 * SECOND,
            tells: true,
        };
        Passes::new("test", pace, Entropy::seeded(1))
    }

    fn queues() -> [QueueName; 2] {
        ["sick", "well"].map(|name| QueueName::new(name).unwrap())
    }

    #[derive(Clone, Copy)]
    enum Sick {
        Hangs,
        Fails,
        Works,
    }

    /// One pass; how many jobs began for the sick queue.
    async fn pass(rounds: &Passes<&'static str>, sick: Sick) -> (Result<Round<&'static str>, BrokerError>, u32) {
        let began = Arc::new(AtomicU32::new(0));
        let queues = queues();
        let job = |queue: QueueName| {
            let began = Arc::clone(&began);
            async move {
                if queue == "well" {
                    return Ok("well");
                }
                began.fetch_add(1, Ordering::Relaxed);
                match sick {
                    Sick::Hangs => pending().await,
                    Sick::Fails => Err(BrokerError::ReadOnly),
                    Sick::Works => Ok("sick"),
                }
            }
        };
        let round = rounds.pass(&queues, job).await;
        let began = began.load(Ordering::Relaxed);
        (round, began)
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_hangs_is_one_and_is_given_up_in_time() {
        let rounds = rounds(Duration::ZERO);
        let start = Instant::now();
        let mut jobs = 0;
        for number in 0..110 {
            let before = Instant::now();
            let (round, began) = pass(&rounds, Sick::Hangs).await;
            let round = round.unwrap();
            assert_eq!((&round.done[..], round.troubled), (&["well"][..], 1));
            assert!(
                before.elapsed() <= if began > 0 { LATE } else { Duration::ZERO },
                "{number}"
            );
            jobs += began;
            tokio::time::sleep(SECOND).await;
        }
        assert_eq!(jobs, 2, "in {:?}", start.elapsed());
        // Both are given up before the next ends.
        rounds.end();
        let (round, began) = pass(&rounds, Sick::Works).await;
        assert_eq!((round.unwrap().done.len(), began), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_fails_has_its_next_job_after_a_growing_wait() {
        let rounds = rounds(5 * SECOND);
        let (round, began) = pass(&rounds, Sick::Fails).await;
        let round = round.unwrap();
        assert_eq!((began, round.troubled), (1, 1));
        let mut wait = round.wait.unwrap();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        let (mut tries, mut well) = (0, 0);
        let start = Instant::now();
        while start.elapsed() < 60 * SECOND {
            tokio::time::sleep(wait).await;
            let (round, began) = pass(&rounds, Sick::Fails).await;
            let round = round.unwrap();
            tries += began;
            well += round.done.len();
            wait = round.wait.unwrap();
        }
        assert!((10..25).contains(&tries), "{tries}");
        assert!((11..=13).contains(&well), "{well}: its own pace");
        // Until it works.
        let mut works = false;
        while !works {
            tokio::time::sleep(wait).await;
            let round = pass(&rounds, Sick::Works).await.0.unwrap();
            works = round.troubled == 0;
            wait = round.wait.unwrap();
        }
        assert!(wait <= 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_fails_where_no_queue_is_well() {
        let rounds = rounds(Duration::ZERO);
        let sick = [QueueName::new("sick").unwrap()];
        let fails = |_| async { Err(BrokerError::ReadOnly) };
        let error = rounds.pass(&sick, fails).await.unwrap_err();
        assert!(matches!(error, BrokerError::Unavailable { .. }), "{error}");
    }

    /// As when its actor is killed.
    #[tokio::test(start_paused = true)]
    async fn a_pass_that_is_dropped_leaves_its_jobs() {
        let rounds = rounds(Duration::ZERO);
        let dropped = timeout(Duration::from_millis(10), pass(&rounds, Sick::Hangs)).await;
        assert!(dropped.is_err());
        let (round, began) = pass(&rounds, Sick::Works).await;
        assert_eq!((round.unwrap().troubled, began), (1, 0));
        // Nor is a queue lost with a job that has no end.
        rounds.lock().jobs = JoinSet::new();
        tokio::time::sleep(61 * SECOND).await;
        let (round, began) = pass(&rounds, Sick::Works).await;
        assert_eq!((round.unwrap().done.len(), began), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_panics_crashes_its_pass() {
        let rounds = rounds(Duration::ZERO);
        let queues = queues();
        let panics = |queue: QueueName| async move {
            assert!(queue == "well", "told to");
            Ok("well")
        };
        let pass = std::panic::AssertUnwindSafe(rounds.pass(&queues, panics));
        assert!(pass.catch_unwind().await.is_err());
        let (round, _) = self::pass(&rounds, Sick::Works).await;
        assert!(round.unwrap().troubled == 0);
    }
}
