//! `asynq top`.

mod sample;
mod statistics;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use asynq::{
    error::{BrokerError, Error},
    info::{QueueInfo, WorkerInfo},
    inspector::Inspector,
};
use chrono::{DateTime, Utc};
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use self::{
    sample::{AT_ONCE, Sample, TypeRuns},
    statistics::Recent,
};
use crate::{
    cli::Global,
    error::{CliError, Result},
    go::{self, duration_argument},
    output::{BOLD, plain_table},
};

/// Longest time between the two looks.
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Debug, Args)]
#[command(
    after_help = "Rates of queues come from two looks at their counters. What is told about types comes from the tasks that \
                        run, and from the recorded runs of the last tasks that were completed with a retention, wait for a \
                        retry or are archived. A task that succeeds without a retention leaves no record, and neither does a \
                        run of a Go server. Servers of Asynq for Rust also keep statistics of all their runs, which are added \
                        up over the last ten minutes. What is not known is shown as `-`."
)]
pub(crate) struct Top {
    /// Only these queues.
    #[arg(value_name = "QUEUE", add = super::complete::queues())]
    queues: Vec<String>,
    /// Time between the two looks; at most an hour.
    #[arg(long = "for", value_name = "DURATION", default_value = "5s", value_parser = window_argument)]
    window: Duration,
    /// Number of tasks whose runs are looked at, over all queues.
    #[arg(long, value_name = "NUMBER", default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    tasks: u32,
}

fn window_argument(text: &str) -> Result<Duration, String> {
    match duration_argument(text)? {
        window if window > LONGEST => Err("the longest time is 1h".to_owned()),
        window => Ok(window),
    }
}

/// The answer.
#[derive(Debug, Serialize)]
struct TopRecord {
    /// Time between the two looks.
    window_seconds: f64,
    /// Number of tasks whose runs were looked at.
    tasks_looked_at: u64,
    /// Number of tasks that are completed, wait for a retry or are archived.
    tasks: u64,
    queues: Vec<QueueRate>,
    types: Vec<TypeRecord>,
    /// The statistics of the last minutes. `None` if no server keeps any.
    statistics: Option<Recent>,
}

/// A queue between the two looks.
#[derive(Debug, Serialize)]
struct QueueRate {
    queue: String,
    paused: bool,
    pending: u64,
    active: u64,
    /// Failures included. `None` if the counter was reset meanwhile.
    processed_per_second: Option<f64>,
    failed_per_second: Option<f64>,
    latency_seconds: f64,
}

/// A task type.
#[derive(Debug, Serialize)]
struct TypeRecord {
    #[serde(rename = "type")]
    task_type: String,
    queues: BTreeSet<String>,
    /// Number of tasks that run now.
    running: u64,
    /// Time for which the oldest of them has been running.
    oldest_run_seconds: Option<f64>,
    /// Runs that began between the two looks, as far as they are seen. `None` if none is seen.
    least_per_second: Option<f64>,
    #[serde(flatten)]
    runs: TypeRuns,
}

impl Top {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        let inspector = &session.inspector;
        let began = Instant::now();
        let first = self.look(inspector).await?;
        let earlier = inspector.workers().await?;
        tokio::time::sleep(self.window).await;
        let second = self.look(inspector).await?;
        // Without a time between the looks, there are no rates.
        let window = if self.window.is_zero() {
            Duration::ZERO
        } else {
            began.elapsed()
        };
        let workers = inspector.workers().await?;
        let is_asked = |worker: &&WorkerInfo| second.contains_key(worker.queue.as_str());
        let now = second.values().next().map_or_else(Utc::now, |info| info.timestamp);
        let mut sample = Sample::new(now - chrono::TimeDelta::from_std(window).unwrap_or_default());
        sample.read(inspector, second.values(), self.tasks).await?;
        for worker in earlier.iter().chain(&workers).filter(is_asked) {
            sample.started(&worker.queue, &worker.task_id, &worker.task_type, worker.start_time);
        }
        let record = TopRecord {
            window_seconds: window.as_secs_f64(),
            tasks_looked_at: sample.looked_at,
            tasks: second
                .values()
                .map(|info| info.completed + info.retry + info.archived)
                .sum(),
            queues: second
                .values()
                .map(|info| rate(first.get(info.queue.as_str()), info, window))
                .collect(),
            types: types(sample, workers.iter().filter(is_asked), window, now),
            statistics: statistics::read(inspector, second.keys(), now).await?,
        };
        session.out.record(&record, || text(&record))
    }

    /// The numbers of the queues. One that was deleted meanwhile is left out, unless it was asked for.
    async fn look(&self, inspector: &Inspector) -> Result<BTreeMap<String, QueueInfo>> {
        let queues = match self.queues.is_empty() {
            true => inspector.queues().await?.iter().map(ToString::to_string).collect(),
            false => self.queues.clone(),
        };
        let looks = queues.iter().map(|queue| async move {
            match inspector.get_queue_stats(queue).await {
                Ok(info) => Ok(Some((queue.clone(), info))),
                Err(Error::Broker(BrokerError::QueueNotFound { .. })) if self.queues.is_empty() => Ok(None),
                Err(error) => Err(CliError::from(error)),
            }
        });
        let infos: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(infos.into_iter().flatten().collect())
    }
}

fn rate(first: Option<&QueueInfo>, second: &QueueInfo, window: Duration) -> QueueRate {
    let per_second = |count: fn(&QueueInfo) -> u64| {
        let more = count(second).checked_sub(count(first?))?;
        (!window.is_zero()).then(|| more as f64 / window.as_secs_f64())
    };
    QueueRate {
        queue: second.queue.to_string(),
        paused: second.paused,
        pending: second.pending,
        active: second.active,
        processed_per_second: per_second(|info| info.processed_total),
        failed_per_second: per_second(|info| info.failed_total),
        latency_seconds: second.latency.as_secs_f64(),
    }
}

/// The types that run or of which runs are recorded, the most frequent ones first.
fn types<'w>(
    sample: Sample,
    running: impl Iterator<Item = &'w WorkerInfo>,
    window: Duration,
    now: DateTime<Utc>,
) -> Vec<TypeRecord> {
    let mut found: BTreeMap<String, TypeRecord> = BTreeMap::new();
    let entry = |task_type: &str| TypeRecord {
        task_type: task_type.to_owned(),
        queues: BTreeSet::new(),
        running: 0,
        oldest_run_seconds: None,
        least_per_second: None,
        runs: TypeRuns::default(),
    };
    for (task_type, queue, runs, started) in sample.finish() {
        let known = found.entry(task_type).or_insert_with_key(|name| entry(name));
        known.queues.insert(queue);
        known.runs.add(runs);
        if started > 0 && !window.is_zero() {
            *known.least_per_second.get_or_insert_default() += started as f64 / window.as_secs_f64();
        }
    }
    for worker in running {
        let known = found
            .entry(worker.task_type.clone())
            .or_insert_with_key(|name| entry(name));
        known.queues.insert(worker.queue.to_string());
        known.running += 1;
        let age = (now - worker.start_time).as_seconds_f64().max(0.0);
        known.oldest_run_seconds = Some(known.oldest_run_seconds.map_or(age, |oldest| oldest.max(age)));
    }
    let mut types: Vec<TypeRecord> = found.into_values().collect();
    types.iter_mut().for_each(|one| one.runs.summarize());
    types.sort_by(|a, b| {
        let rates = |one: &TypeRecord| one.least_per_second.unwrap_or_default();
        (rates(b).total_cmp(&rates(a)))
            .then_with(|| (b.running, b.runs.runs).cmp(&(a.running, a.runs.runs)))
            .then_with(|| a.task_type.cmp(&b.task_type))
    });
    types
}

fn text(record: &TopRecord) -> String {
    let per_second = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    let queues: Vec<Vec<String>> = record
        .queues
        .iter()
        .map(|queue| {
            vec![
                queue.queue.clone(),
                if queue.paused { "paused" } else { "run" }.to_owned(),
                per_second(queue.processed_per_second),
                per_second(queue.failed_per_second),
                queue.pending.to_string(),
                queue.active.to_string(),
                seconds(Some(queue.latency_seconds)),
            ]
        })
        .collect();
    let types: Vec<Vec<String>> = record
        .types
        .iter()
        .map(|one| {
            let (runs, failed) = match one.runs.runs {
                0 => ("-".to_owned(), "-".to_owned()),
                runs => (
                    runs.to_string(),
                    format!(
                        "{} ({:.0}%)",
                        one.runs.failed,
                        100.0 * one.runs.failed as f64 / runs as f64
                    ),
                ),
            };
            vec![
                one.task_type.clone(),
                per_second(one.least_per_second),
                one.running.to_string(),
                seconds(one.oldest_run_seconds),
                runs,
                failed,
                seconds(one.runs.median_seconds),
                seconds(one.runs.p95_seconds),
            ]
        })
        .collect();
    let window = go::between(
        DateTime::UNIX_EPOCH,
        DateTime::UNIX_EPOCH + Duration::from_secs_f64(record.window_seconds),
    );
    let mut text = format!("{BOLD}Queues{BOLD:#}, two looks {window} apart\n");
    if queues.is_empty() {
        return text + "no queues\n";
    }
    text += &plain_table(
        &[
            "Queue",
            "State",
            "Processed/s",
            "Failed/s",
            "Pending",
            "Active",
            "Latency",
        ],
        &queues,
    );
    text += &format!(
        "\n{BOLD}Types{BOLD:#}, from the tasks that run and the runs of {} of {} tasks that have run\n",
        record.tasks_looked_at, record.tasks
    );
    text += &match types.is_empty() {
        true => "no runs known\n".to_owned(),
        false => plain_table(
            &[
                "Type",
                "At least/s",
                "Running",
                "Oldest",
                "Runs",
                "Failed",
                "Median",
                "p95",
            ],
            &types,
        ),
    };
    if let Some(statistics) = &record.statistics {
        text += &statistics.text();
    }
    text
}

/// A duration for people, with three digits at most below a minute.
fn seconds(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return "-".to_owned();
    };
    let millis = match seconds {
        below if below < 10.0 => (seconds * 1000.0).round(),
        below if below < 60.0 => (seconds * 10.0).round() * 100.0,
        _ => seconds.round() * 1000.0,
    };
    asynq::go::write_duration(Duration::from_millis(millis.max(0.0) as u64))
}
