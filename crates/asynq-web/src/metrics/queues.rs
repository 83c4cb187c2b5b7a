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
    error::{Error, Result},
    info::QueueInfo,
    names::QueueName,
};
use tokio::{sync::Mutex, time::Instant};

use super::family::{Family, number};
use crate::queue_reads;

/// Largest number of queues that have metrics.
const MOST: usize = 10_000;
/// Number of queues that one scrape reads.
const PER_SCRAPE: usize = 1000;
/// Time for which a read is fresh.
const FRESH: Duration = Duration::from_secs(1);
/// Time after which a scrape reads no further queue.
const WITHIN: Duration = Duration::from_secs(4);

/// The readings of queues.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    readings: HashMap<QueueName, Reading>,
    /// The end of the last read, and the number of queues that there were.
    read: Option<(Instant, usize)>,
    is_whole: bool,
}

#[derive(Clone, Debug)]
struct Reading {
    tried: Instant,
    /// The last numbers with their time; `None` if the queue cannot be read.
    last: Option<(Instant, QueueInfo)>,
}

/// The queues as one scrape shows them.
pub(super) struct Readings {
    pub(super) queues: Vec<QueueInfo>,
    /// Queues without a reading.
    pub(super) unread: usize,
    pub(super) oldest: Option<Duration>,
    /// The errors of queues that could not be read, while others could. Only the read that met them has them.
    pub(super) errors: Vec<Error>,
    /// There was no such error.
    pub(super) is_whole: bool,
}

impl Queues {
    /// Reads the queues whose turn it is. Scrapes that come at the same time wait for each other, and share what is fresh.
    pub(super) async fn read(&self, inspector: &Inspector) -> Result<Readings> {
        let mut known = self.0.lock().await;
        if known.read.is_some_and(|(at, _)| at.elapsed() < FRESH) {
            return Ok(known.shown(Vec::new()));
        }
        let errors = known.read(inspector).await?;
        Ok(known.shown(errors))
    }
}

impl Known {
    /// Returns the errors of queues that cannot be read.
    async fn read(&mut self, inspector: &Inspector) -> Result<Vec<Error>> {
        let known = &mut self.readings;
        let names = inspector.queues().await?;
        let all: HashSet<&QueueName> = names.iter().take(MOST).collect();
        known.retain(|name, _| all.contains(name));
        let mut turn: Vec<&QueueName> = all.into_iter().collect();
        turn.sort_by_key(|name| (known.get(*name).map(|reading| reading.tried), *name));
        turn.truncate(PER_SCRAPE);

        let turn = turn.into_iter().map(ToString::to_string).collect();
        let read = queue_reads::read(inspector, turn, WITHIN).await?;
        let (tried, mut errors) = (Instant::now(), Vec::new());
        for info in read.queues {
            let (name, last) = (info.queue.clone(), Some((tried, info)));
            known.insert(name, Reading { tried, last });
        }
        for name in read.gone {
            known.remove(name.as_str());
        }
        for unread in read.unreadable {
            let is_passing = unread.is_passing();
            // One that was late is first in the next scrape.
            let place = names.binary_search_by(|name| name.as_str().cmp(&unread.queue));
            let (Some(error), Some(name)) = (unread.error, place.ok().map(|place| &names[place])) else {
                continue;
            };
            let reading = known.entry(name.clone()).or_insert(Reading { tried, last: None });
            reading.tried = tried;
            // The numbers of a queue whose node does not answer may still be right.
            reading.last.take_if(|_| !is_passing);
            errors.push(error);
        }
        self.read = Some((Instant::now(), names.len()));
        self.is_whole = errors.is_empty();
        Ok(errors)
    }

    fn shown(&self, errors: Vec<Error>) -> Readings {
        let (known, names) = (&self.readings, self.read.map_or(0, |(_, queues)| queues));
        let oldest = known
            .values()
            .filter_map(|reading| reading.last.as_ref().map(|(at, _)| *at))
            .min();
        let mut queues: Vec<_> = known
            .values()
            .filter_map(|reading| reading.last.clone())
            .map(|(_, info)| info)
            .collect();
        queues.sort_by(|one, other| one.queue.cmp(&other.queue));
        Readings {
            unread: names - queues.len().min(names),
            oldest: oldest.map(|at| at.elapsed()),
            queues,
            errors,
            is_whole: self.is_whole,
        }
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
