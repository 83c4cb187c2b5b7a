//! Metrics of queues, with the names, labels and texts of Go's collector (`asynq/x/metrics`), and some of ours.
//!
//! A scrape reads a limited number of queues, those that were not read for longest, and shows the last reading of the
//! others.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use asynq::{
    Inspector,
    error::{BrokerError, Error, Result},
    info::QueueInfo,
    names::QueueName,
};
use futures::{StreamExt as _, stream};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use super::family::{Family, number};

/// Largest number of queues that have metrics.
const MOST: usize = 10_000;
/// Number of queues that one scrape reads.
const PER_SCRAPE: usize = 1000;
/// Number of queues that are read at once.
const AT_ONCE: usize = 16;
/// Time after which a scrape reads no further queue.
const WITHIN: Duration = Duration::from_secs(4);

/// The readings of queues.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<HashMap<QueueName, Reading>>);

#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    /// `None` if the queue could not be read.
    info: Option<QueueInfo>,
}

/// The queues as one scrape shows them.
pub(super) struct Readings {
    pub(super) queues: Vec<QueueInfo>,
    /// Queues without a reading.
    pub(super) unread: usize,
    pub(super) oldest: Option<Duration>,
    /// The errors of queues that could not be read, while others could.
    pub(super) errors: Vec<Error>,
}

impl Queues {
    /// Reads the queues whose turn it is. Scrapes that come at the same time wait for each other.
    pub(super) async fn read(&self, inspector: &Inspector) -> Result<Readings> {
        let mut known = self.0.lock().await;
        let names = inspector.queues().await?;
        let all: HashSet<&QueueName> = names.iter().take(MOST).collect();
        known.retain(|name, _| all.contains(name));
        let mut turn: Vec<&QueueName> = all.into_iter().collect();
        turn.sort_by_key(|name| (known.get(*name).map(|reading| reading.at), *name));
        turn.truncate(PER_SCRAPE);

        let deadline = Instant::now() + WITHIN;
        let turn: Vec<QueueName> = turn.into_iter().cloned().collect();
        let reads = turn.into_iter().map(|name| async move {
            let info = inspector.get_queue_stats(name.as_str()).await;
            (name, info)
        });
        let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
        let (mut failure, mut errors) = (None, Vec::new());
        while let Ok(Some((name, read))) = timeout_at(deadline, reads.next()).await {
            match read {
                Ok(info) => {
                    let at = Instant::now();
                    known.insert(name, Reading { at, info: Some(info) });
                }
                // It was deleted meanwhile.
                Err(Error::Broker(BrokerError::QueueNotFound { .. })) => {
                    known.remove(&name);
                }
                // No other queue would be read either.
                Err(error) if is_outage(&error) => {
                    failure = Some(error);
                    break;
                }
                Err(error) => {
                    let at = Instant::now();
                    known.insert(name, Reading { at, info: None });
                    errors.push(error);
                }
            }
        }
        drop(reads);
        if let Some(error) = failure {
            return Err(error);
        }
        let oldest = known.values().map(|reading| reading.at).min();
        let mut queues: Vec<_> = known.values().filter_map(|reading| reading.info.clone()).collect();
        queues.sort_by(|one, other| one.queue.cmp(&other.queue));
        Ok(Readings {
            unread: names.len() - queues.len().min(names.len()),
            oldest: oldest.map(|at| at.elapsed()),
            queues,
            errors,
        })
    }
}

fn is_outage(error: &Error) -> bool {
    match error {
        Error::Broker(error) => error.is_retryable() || matches!(error, BrokerError::Closed),
        _ => true,
    }
}

impl Readings {
    /// Returns the metrics of the queues that a user sees.
    pub(super) fn families(&self, sees: impl Fn(&str) -> bool) -> Vec<Family> {
        let mut tasks = Family::gauge(
            "asynq_tasks_enqueued_total",
            "Number of tasks enqueued; broken down by queue and state.",
        );
        let mut size = Family::gauge("asynq_queue_size", "Number of tasks in a queue");
        let mut latency = Family::gauge(
            "asynq_queue_latency_seconds",
            "Number of seconds the oldest pending task is waiting in pending state to be processed.",
        );
        let mut memory = Family::gauge(
            "asynq_queue_memory_usage_approx_bytes",
            "Number of memory used by a given queue (approximated number by sampling).",
        );
        let mut processed = Family::counter(
            "asynq_tasks_processed_total",
            "Number of tasks processed (both succeeded and failed); broken down by queue",
        );
        let mut failed = Family::counter(
            "asynq_tasks_failed_total",
            "Number of tasks failed; broken down by queue",
        );
        let mut paused = Family::gauge("asynq_queue_paused_total", "Number of queues paused");
        let mut aggregating = Family::gauge(
            "asynq_queue_aggregating_tasks",
            "Number of tasks in groups; broken down by queue.",
        );
        let mut groups = Family::gauge("asynq_queue_groups", "Number of groups; broken down by queue.");
        for info in self.queues.iter().filter(|info| sees(info.queue.as_str())) {
            let queue = ("queue", info.queue.as_str());
            for (state, count) in [
                ("active", info.active),
                ("pending", info.pending),
                ("scheduled", info.scheduled),
                ("retry", info.retry),
                ("archived", info.archived),
                ("completed", info.completed),
            ] {
                tasks.add(&[queue, ("state", state)], number(count));
            }
            size.add(&[queue], number(info.size()));
            latency.add(&[queue], info.latency.as_secs_f64());
            if let Some(bytes) = info.memory_usage {
                memory.add(&[queue], number(bytes));
            }
            processed.add(&[queue], number(info.processed_total));
            failed.add(&[queue], number(info.failed_total));
            paused.add(&[queue], f64::from(u8::from(info.paused)));
            aggregating.add(&[queue], number(info.aggregating));
            groups.add(&[queue], number(info.groups));
        }
        let mut unread = Family::gauge(
            "asynq_web_queues_unread",
            "Number of queues without metrics so far. A scrape reads 1000 queues, and at most 10000 have metrics.",
        );
        unread.add(&[], number(self.unread as u64));
        let mut age = Family::gauge(
            "asynq_web_queue_reading_age_seconds",
            "Age of the oldest reading of a queue that is shown.",
        );
        age.add(&[], self.oldest.unwrap_or_default().as_secs_f64());
        vec![
            tasks,
            size,
            latency,
            memory,
            processed,
            failed,
            paused,
            aggregating,
            groups,
            unread,
            age,
        ]
    }
}
