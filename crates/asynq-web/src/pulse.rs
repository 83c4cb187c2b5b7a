//! The last hour of a queue, minute by minute, kept for a few seconds so that many open pages cost as much as one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use asynq::{
    Inspector,
    statistics::{Step, TimeRange},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// Minutes that are shown.
const MINUTES: usize = 60;
/// Minutes over which the rate is taken.
const RATE_OVER: usize = 5;
/// Time for which an hour is kept. Servers write their statistics as often.
const FRESH: Duration = Duration::from_secs(10);
/// Queues that are kept. With more, the stale ones are dropped, or all.
const MOST: usize = 4096;

/// The runs of a queue's tasks in the last hour. Servers of Go record none.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    /// Ended runs of each minute, the oldest one first.
    pub(crate) runs: Vec<u64>,
    pub(crate) failed: Vec<u64>,
}

impl Pulse {
    /// Reads the last hour. `None` if it cannot be read: the rest of a page does not depend on it.
    async fn read(inspector: &Inspector, queue: &str, now: DateTime<Utc>) -> Option<Self> {
        // The minute that runs now is not over.
        let to = now - TimeDelta::minutes(1);
        let minutes = i64::try_from(MINUTES).unwrap_or(60);
        let from = to - TimeDelta::minutes(minutes - 1);
        let range = TimeRange::new(from, to, Step::Minute).ok()?;
        let statistics = inspector.statistics(queue, range).await.ok()?;
        let mut pulse = Self {
            runs: vec![0; MINUTES],
            failed: vec![0; MINUTES],
        };
        for point in &statistics.points {
            let minute = (point.at - statistics.from).num_minutes();
            let Some(index) = usize::try_from(minute).ok().filter(|index| *index < MINUTES) else {
                continue;
            };
            for (_, of_type) in point.types.types() {
                pulse.runs[index] = pulse.runs[index].saturating_add(of_type.runs.total());
                pulse.failed[index] = pulse.failed[index].saturating_add(of_type.runs.failed());
            }
        }
        Some(pulse)
    }

    /// Returns the runs per minute, over the last minutes.
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    pub(crate) fn rate(&self) -> f64 {
        self.runs.iter().rev().take(RATE_OVER).sum::<u64>() as f64 / RATE_OVER as f64
    }

    /// Returns the number of runs in the hour.
    pub(crate) fn total(&self) -> u64 {
        self.runs.iter().sum()
    }

    /// Returns the number of failed runs in the hour.
    pub(crate) fn total_failed(&self) -> u64 {
        self.failed.iter().sum()
    }
}

/// The last hours that were read.
#[derive(Debug, Default)]
pub(crate) struct Pulses(Mutex<HashMap<String, (Instant, Option<Pulse>)>>);

impl Pulses {
    /// Returns the last hour of a queue, `None` if it cannot be read.
    pub(crate) async fn of(&self, inspector: &Inspector, queue: &str, now: DateTime<Utc>) -> Option<Pulse> {
        let known = self.lock().get(queue).filter(|(at, _)| at.elapsed() < FRESH).cloned();
        if let Some((_, pulse)) = known {
            return pulse;
        }
        let pulse = Pulse::read(inspector, queue, now).await;
        let mut kept = self.lock();
        if kept.len() >= MOST {
            kept.retain(|_, (at, _)| at.elapsed() < FRESH);
            if kept.len() >= MOST {
                kept.clear();
            }
        }
        kept.insert(queue.to_owned(), (Instant::now(), pulse.clone()));
        pulse
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Option<Pulse>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use asynq::{Client, Task, memory::MemoryStore};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_kept_for_ten_seconds_and_their_number_is_bounded() {
        let storage = MemoryStore::new();
        let client = Client::new(storage.clone()).await.unwrap();
        client.enqueue(Task::new("a", b"").unwrap()).await.unwrap();
        let inspector = Inspector::connect(storage).await.unwrap();
        let pulses = Pulses::default();
        let now = Utc::now();
        let of = async |queue: &str| pulses.of(&inspector, queue, now).await;
        assert_eq!(of("default").await.unwrap().total(), 0);
        let read_at = pulses.lock()["default"].0;
        tokio::time::advance(FRESH / 2).await;
        of("default").await;
        assert_eq!(pulses.lock()["default"].0, read_at, "kept");
        tokio::time::advance(FRESH).await;
        of("default").await;
        assert!(pulses.lock()["default"].0 > read_at, "read again");
        for number in 0..MOST + 10 {
            of(&format!("q{number}")).await;
        }
        assert!(pulses.lock().len() <= MOST);
    }
}
