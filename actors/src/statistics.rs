//! The statistics of this server: counted where runs start and end, and kept until the storage has them.
//!
//! They outlive the actor that writes them, as the in-flight table outlives those that use it. Counting takes a short lock
//! and no message. What is counted goes into buckets of the present minute, and from there into those that are written,
//! by minute and by hour. A bucket is written whole, so a write can be repeated (rules.md#statistics-count-once).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::{
    BrokerError, Clock, QueueName, Storage,
    error::text::report,
    statistics::{Bucket, RunEnd, Span, StatisticsPart},
    tree::ServerIdentity,
};
use chrono::{DateTime, Utc};
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::broker::BrokerHandle;

/// Largest number of minutes of a queue that are kept while they cannot be written.
const MOST_MINUTES: usize = 60;
/// Largest number of hours of a queue that are kept while they cannot be written.
const MOST_HOURS: usize = 26;
/// Number of minutes, and of hours, for which a bucket that is written is kept, so that what is counted late is added.
const KEPT: i64 = 2;

/// Buckets by the number of their minute; the present one is the last. There are few.
type Minutes = Vec<(i64, Bucket)>;
/// The buckets of each queue, sorted by queue.
type Recent = Vec<(QueueName, Minutes)>;

/// The runs that this server has counted.
#[derive(Debug)]
pub(crate) struct Statistics {
    clock: Clock,
    server: Arc<ServerIdentity>,
    /// Counted since the last look. Locked behind `kept`.
    recent: Mutex<Recent>,
    kept: Mutex<BTreeMap<QueueName, Kept>>,
}

/// The buckets of a queue that are written, or are to be.
#[derive(Debug, Default)]
struct Kept {
    /// By the number of their minute.
    minutes: BTreeMap<i64, Open>,
    /// By the number of their hour.
    hours: BTreeMap<i64, Open>,
}

#[derive(Debug, Default)]
struct Open {
    bucket: Bucket,
    /// Number of its records that the storage has.
    written: u64,
}

impl Open {
    fn is_written(&self) -> bool {
        self.bucket.records() <= self.written
    }
}

fn minute_of(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(60)
}

fn start_of(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

/// Removes buckets that are written and old, and the oldest beyond `most`; the number of those that were not written.
fn tidy(buckets: &mut BTreeMap<i64, Open>, now: i64, most: usize) -> usize {
    buckets.retain(|number, open| now - number <= KEPT || !open.is_written());
    let mut lost = 0;
    while buckets.len() > most {
        lost += usize::from(buckets.pop_first().is_some_and(|(_, open)| !open.is_written()));
    }
    lost
}

impl Statistics {
    pub(crate) fn new(clock: Clock, server: Arc<ServerIdentity>) -> Self {
        Self {
            clock,
            server,
            recent: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<QueueName, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts runs that start now: the queue and the type of each, and how long it was pending.
    pub(crate) fn started<'s>(
        &self,
        runs: impl Iterator<Item = (&'s QueueName, &'s str, Duration)>,
        now: DateTime<Utc>,
    ) {
        let mut recent = self.recent();
        for (queue, task_type, waited) in runs {
            bucket_of(&mut recent, queue, now).started(task_type, waited);
        }
    }

    /// Counts a run that ends now.
    pub(crate) fn ended(&self, queue: &QueueName, task_type: &str, end: RunEnd, took: Duration, now: DateTime<Utc>) {
        bucket_of(&mut self.recent(), queue, now).ended(task_type, end, took);
    }

    /// Counts a task that is put back now before its run began.
    pub(crate) fn put_back(&self, queue: &QueueName, task_type: &str, now: DateTime<Utc>) {
        bucket_of(&mut self.recent(), queue, now).put_back(task_type);
    }

    /// Adds what was counted since the last look to the buckets that are to be written.
    fn gather(&self) -> MutexGuard<'_, BTreeMap<QueueName, Kept>> {
        let mut kept = self.kept();
        let recent = std::mem::take(&mut *self.recent());
        for (queue, minutes) in recent {
            let of_queue = kept.entry(queue).or_default();
            for (minute, bucket) in minutes {
                of_queue.minutes.entry(minute).or_default().bucket.merge(&bucket);
                let hour = minute.div_euclid(60);
                of_queue.hours.entry(hour).or_default().bucket.merge(&bucket);
            }
        }
        let now = minute_of(self.clock.now());
        kept.retain(|queue, of_queue| {
            let lost = tidy(&mut of_queue.minutes, now, MOST_MINUTES)
                + tidy(&mut of_queue.hours, now.div_euclid(60), MOST_HOURS);
            if lost > 0 {
                tracing::warn!(%queue, buckets = lost, "statistics could not be written for long, dropping the oldest");
            }
            !of_queue.minutes.is_empty() || !of_queue.hours.is_empty()
        });
        kept
    }

    /// Returns the queues of which something is to be written.
    pub(crate) fn unwritten(&self) -> Vec<QueueName> {
        let kept = self.gather();
        let unwritten = kept.iter().filter(|(_, of_queue)| {
            let mut buckets = of_queue.minutes.values().chain(of_queue.hours.values());
            buckets.any(|open| !open.is_written())
        });
        unwritten.map(|(queue, _)| queue.clone()).collect()
    }

    /// Writes what is new of a queue. Safe to drop: it is then written again.
    pub(crate) async fn write(&self, storage: &dyn Storage, queue: &QueueName) -> Result<(), BrokerError> {
        let parts = self.parts(queue);
        if parts.is_empty() {
            return Ok(());
        }
        let full = storage.write_statistics(queue, &self.server, &parts).await?;
        if full > 0 {
            tracing::debug!(%queue, buckets = full, "the storage has no room for more statistics of this hour or day");
        }
        let mut kept = self.kept();
        let Some(of_queue) = kept.get_mut(queue) else {
            return Ok(());
        };
        for StatisticsPart { span, bucket } in parts {
            let open = match span {
                Span::Minute(at) => of_queue.minutes.get_mut(&minute_of(at)),
                Span::Hour(at) => of_queue.hours.get_mut(&minute_of(at).div_euclid(60)),
            };
            if let Some(open) = open {
                open.written = open.written.max(bucket.records());
            }
        }
        Ok(())
    }

    /// Returns the buckets of a queue that are to be written.
    fn parts(&self, queue: &QueueName) -> Vec<StatisticsPart> {
        let kept = self.gather();
        let Some(of_queue) = kept.get(queue) else {
            return Vec::new();
        };
        let minutes = of_queue
            .minutes
            .iter()
            .map(|(minute, open)| (Span::Minute(start_of(minute * 60)), open));
        let hours = of_queue
            .hours
            .iter()
            .map(|(hour, open)| (Span::Hour(start_of(hour * 3600)), open));
        let unwritten = minutes.chain(hours).filter(|(_, open)| !open.is_written());
        unwritten
            .map(|(span, open)| StatisticsPart {
                span,
                bucket: open.bucket.clone(),
            })
            .collect()
    }

    /// Writes all that is new, until `until` at the latest.
    pub(crate) async fn write_all(&self, broker: &BrokerHandle, until: Instant) {
        let queues = self.unwritten();
        if queues.is_empty() {
            return;
        }
        let write = async {
            let storage = broker.storage().await?;
            let written = join_all(queues.iter().map(|queue| self.write(&*storage, queue))).await;
            written.into_iter().collect::<Result<(), _>>()
        };
        match timeout_at(until, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %report(&error), "the last statistics were not written"),
            Err(_) => tracing::debug!("the last statistics were not written in time"),
        }
    }
}

/// The bucket of a queue for the present minute.
fn bucket_of<'r>(recent: &'r mut Recent, queue: &QueueName, now: DateTime<Utc>) -> &'r mut Bucket {
    let minute = minute_of(now);
    let place = recent
        .binary_search_by(|(known, _)| known.cmp(queue))
        .unwrap_or_else(|place| {
            recent.insert(place, (queue.clone(), Vec::with_capacity(1)));
            place
        });
    let minutes = &mut recent[place].1;
    let place = minutes
        .iter()
        .rposition(|(number, _)| *number == minute)
        .unwrap_or_else(|| {
            minutes.push((minute, Bucket::new()));
            minutes.len() - 1
        });
    &mut minutes[place].1
}
