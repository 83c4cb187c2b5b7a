//! Readings of the storage that requests share while they are fresh, so that many open pages cost as much as one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use asynq::{
    Inspector, PublishedTree,
    findings::Findings,
    info::{SchedulerEntry, ServerInfo, WorkerInfo},
};
use futures::future::try_join;
use tokio::{sync::Mutex, time::Instant};

use crate::problem::Result;

/// Time for which servers, trees and entries are fresh.
const FRESH: Duration = Duration::from_secs(1);
/// Least and longest time for which findings are fresh. Between, ten times as long as the reading took.
const FINDINGS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// The running servers, and the tasks that they run.
pub(crate) type Servers = (Vec<ServerInfo>, Vec<WorkerInfo>);

/// The readings.
#[derive(Debug)]
pub(crate) struct Readings {
    inspector: Inspector,
    /// Number of changes that users have made through this server. A reading that is older than the last one is not fresh.
    changes: AtomicU64,
    findings: Reading<Findings>,
    servers: Reading<Servers>,
    trees: Reading<Vec<PublishedTree>>,
    entries: Reading<Vec<SchedulerEntry>>,
}

impl Readings {
    pub(crate) fn new(inspector: Inspector) -> Self {
        Self {
            inspector,
            changes: AtomicU64::new(0),
            findings: Reading::default(),
            servers: Reading::default(),
            trees: Reading::default(),
            entries: Reading::default(),
        }
    }

    /// A user has made a change, and must see its effect.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) async fn findings(&self) -> Result<Arc<Findings>> {
        let (least, longest) = FINDINGS;
        let fresh = |took: Duration| (took * 10).clamp(least, longest);
        let read = async || Ok(self.inspector.findings().await?);
        self.findings.get(&self.changes, fresh, read).await
    }

    pub(crate) async fn servers(&self) -> Result<Arc<Servers>> {
        let read = async || Ok(try_join(self.inspector.servers(), self.inspector.workers()).await?);
        self.servers.get(&self.changes, |_| FRESH, read).await
    }

    pub(crate) async fn trees(&self) -> Result<Arc<Vec<PublishedTree>>> {
        let read = async || Ok(self.inspector.trees().await?);
        self.trees.get(&self.changes, |_| FRESH, read).await
    }

    pub(crate) async fn entries(&self) -> Result<Arc<Vec<SchedulerEntry>>> {
        let read = async || Ok(self.inspector.list_scheduler_entries().await?);
        self.entries.get(&self.changes, |_| FRESH, read).await
    }
}

/// A part of the storage as it was read last.
#[derive(Debug)]
struct Reading<T>(Mutex<Option<Latest<T>>>);

#[derive(Debug)]
struct Latest<T> {
    /// Number of changes at its beginning.
    changes: u64,
    took: Duration,
    ended: Instant,
    read: Result<Arc<T>>,
}

impl<T> Default for Reading<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Reading<T> {
    /// Returns the latest reading if it is fresh, otherwise a new one. Who asks during a reading gets its answer too, also if it is an
    /// error. If the one who reads goes away, the next one reads.
    async fn get(
        &self,
        changes: &AtomicU64,
        fresh: impl Fn(Duration) -> Duration,
        read: impl AsyncFnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        let asked = Instant::now();
        let mut latest = self.0.lock().await;
        let (now, changes) = (Instant::now(), changes.load(Ordering::Acquire));
        if let Some(latest) = latest.as_ref().filter(|latest| latest.changes == changes) {
            let is_fresh = latest.read.is_ok() && now - latest.ended < fresh(latest.took);
            if is_fresh || latest.ended > asked {
                return latest.read.clone();
            }
        }
        // A part that is not read to its end leaves none that could count as the latest.
        *latest = None;
        let read = read().await.map(Arc::new);
        *latest = Some(Latest {
            changes,
            took: now.elapsed(),
            ended: Instant::now(),
            read: read.clone(),
        });
        read
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::future::{join, join_all};

    use super::*;
    use crate::problem::Problem;

    /// A reading that takes a second, and how often it was made.
    #[derive(Default)]
    struct Slow {
        reading: Reading<usize>,
        made: AtomicUsize,
        changes: AtomicU64,
    }

    impl Slow {
        async fn get(&self, fails: bool) -> Result<usize> {
            let read = async || {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let nth = self.made.fetch_add(1, Ordering::Relaxed);
                match fails {
                    true => Err(Problem::unavailable("no")),
                    false => Ok(nth),
                }
            };
            let fresh = |took: Duration| took * 2;
            self.reading.get(&self.changes, fresh, read).await.map(|nth| *nth)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_share_a_reading_while_it_is_fresh() {
        let slow = Slow::default();
        let all = join_all((0..100).map(|_| slow.get(false))).await;
        assert!(all.into_iter().all(|read| read.unwrap() == 0));
        tokio::time::advance(Duration::from_millis(1900)).await;
        assert_eq!(slow.get(false).await.unwrap(), 0);
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(slow.get(false).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_makes_all_readings_old_those_that_run_too() {
        let slow = Slow::default();
        assert_eq!(slow.get(false).await.unwrap(), 0);
        slow.changes.fetch_add(1, Ordering::AcqRel);
        assert_eq!(slow.get(false).await.unwrap(), 1);
        tokio::time::advance(Duration::from_secs(9)).await;
        let changed = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            slow.changes.fetch_add(1, Ordering::AcqRel);
            slow.get(false).await.unwrap()
        };
        let (before, after) = join(slow.get(false), changed).await;
        assert_eq!((before.unwrap(), after), (2, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_for_those_who_wait_and_nobody_after() {
        let slow = Slow::default();
        let all = join_all((0..100).map(|_| slow.get(true))).await;
        assert!(all.iter().all(Result::is_err));
        assert_eq!(slow.made.load(Ordering::Relaxed), 1);
        assert_eq!(slow.get(false).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_the_reading_to_the_next() {
        let slow = Slow::default();
        let gone = tokio::time::timeout(Duration::from_millis(500), slow.get(false));
        let (gone, read) = join(gone, slow.get(false)).await;
        assert!(gone.is_err());
        assert_eq!(read.unwrap(), 0);
    }
}
