//! `asynq stats`: the numbers of all queues, of today, and of Redis.

use std::collections::BTreeMap;

use asynq::info::QueueInfo;
use asynq_web::records::QueueRecord;
use chrono::{DateTime, Local, SecondsFormat, Utc};
use clap::Args;
use serde::Serialize;

use crate::{
    cli::Global,
    commands::queue::error_rate,
    error::{CliError, Result},
    output::{BOLD, lined_up, plain_table},
    session::Session,
};

/// Columns are at least as wide as this, as in Go's program.
const COLUMN: usize = 9;

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Write one line of JSON as Go's program does, with its names, whatever `--output` says.
    #[arg(long)]
    json: bool,
}

/// The sums over all queues.
#[derive(Clone, Debug, Default, Serialize)]
struct Aggregate {
    active: u64,
    pending: u64,
    aggregating: u64,
    scheduled: u64,
    retry: u64,
    archived: u64,
    completed: u64,
    processed: u64,
    failed: u64,
    timestamp: String,
}

#[derive(Debug, Serialize)]
struct Record<'a> {
    aggregate: &'a Aggregate,
    queues: Vec<QueueRecord>,
    redis: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct GoRecord<'a> {
    aggregate: &'a Aggregate,
    /// Go writes `null` for none.
    queues: Option<Vec<GoQueue<'a>>>,
    redis: BTreeMap<&'a str, &'a str>,
}

/// A queue with the names of Go's fields, in their order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GoQueue<'a> {
    queue: &'a str,
    memory_usage: u64,
    paused: bool,
    size: u64,
    groups: u64,
    pending: u64,
    active: u64,
    scheduled: u64,
    retry: u64,
    archived: u64,
    completed: u64,
    aggregating: u64,
    processed: u64,
    failed: u64,
    processed_total: u64,
    failed_total: u64,
    /// Nanoseconds.
    latency: u64,
    timestamp: String,
}

impl Stats {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        let mut queues = Vec::new();
        for queue in session.inspector.queues().await? {
            let info = session.inspector.get_queue_stats(queue.as_str()).await;
            queues.push(info.map_err(|error| {
                CliError::from(error).context(format!("could not fetch stats for queue {:?}", queue.as_str()))
            })?);
        }
        let redis = redis_info(&session).await?;
        let aggregate = Aggregate::of(&queues);
        if self.json {
            return write_go_json(&aggregate, &queues, &redis);
        }
        let record = Record {
            aggregate: &aggregate,
            queues: queues.iter().map(QueueRecord::of).collect(),
            redis: &redis,
        };
        session.out.record(&record, || {
            text_of(&aggregate, &queues, &redis, session.redis.is_cluster())
        })
    }
}

/// The words of Redis about itself: the lines of `INFO`, or of `CLUSTER INFO` in a cluster.
async fn redis_info(session: &Session) -> Result<BTreeMap<String, String>> {
    let info = match session.redis.is_cluster() {
        true => session.redis.cluster_info().await,
        false => match session.redis.server_infos().await.into_iter().next() {
            Some((_, info)) => info,
            None => Ok(BTreeMap::new()),
        },
    };
    info.map_err(|error| CliError::from(error).context("could not fetch redis info"))
}

impl Aggregate {
    fn of(queues: &[QueueInfo]) -> Self {
        let mut sum = Self::default();
        for queue in queues {
            sum.active += queue.active;
            sum.pending += queue.pending;
            sum.aggregating += queue.aggregating;
            sum.scheduled += queue.scheduled;
            sum.retry += queue.retry;
            sum.archived += queue.archived;
            sum.completed += queue.completed;
            sum.processed += queue.processed;
            sum.failed += queue.failed;
        }
        sum.timestamp = go_time(queues.last().map_or_else(Utc::now, |queue| queue.timestamp));
        sum
    }
}

impl<'a> GoQueue<'a> {
    fn of(queue: &'a QueueInfo) -> Self {
        Self {
            queue: queue.queue.as_str(),
            memory_usage: queue.memory_usage.unwrap_or_default(),
            paused: queue.paused,
            size: queue.size(),
            groups: queue.groups,
            pending: queue.pending,
            active: queue.active,
            scheduled: queue.scheduled,
            retry: queue.retry,
            archived: queue.archived,
            completed: queue.completed,
            aggregating: queue.aggregating,
            processed: queue.processed,
            failed: queue.failed,
            processed_total: queue.processed_total,
            failed_total: queue.failed_total,
            latency: u64::try_from(queue.latency.as_nanos()).unwrap_or(u64::MAX),
            timestamp: go_time(queue.timestamp),
        }
    }
}

/// A time as Go writes it in JSON: RFC 3339 in the zone of this machine, the fraction without the zeros at its end.
fn go_time(at: DateTime<Utc>) -> String {
    let at = at.with_timezone(&Local);
    let whole = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let fraction = format!("{:09}", at.timestamp_subsec_nanos());
    match (
        fraction.trim_end_matches('0'),
        whole.split_at_checked("2026-05-14T03:04:05".len()),
    ) {
        (fraction, Some((time, zone))) if !fraction.is_empty() => format!("{time}.{fraction}{zone}"),
        _ => whole,
    }
}

fn write_go_json(aggregate: &Aggregate, queues: &[QueueInfo], redis: &BTreeMap<String, String>) -> Result<()> {
    let record = GoRecord {
        aggregate,
        queues: (!queues.is_empty()).then(|| queues.iter().map(GoQueue::of).collect()),
        // Go leaves out lines with a second colon.
        redis: redis
            .iter()
            .filter(|(_, value)| !value.contains(':'))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
    };
    let json = serde_json::to_string(&record)
        .map_err(|error| CliError::failure(format!("could not marshal stats to JSON: {error}")))?;
    // As in Go. Outside of texts JSON has none of these.
    let json = json
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    crate::output::Output::default().text(json + "\n")
}

fn text_of(sum: &Aggregate, queues: &[QueueInfo], redis: &BTreeMap<String, String>, is_cluster: bool) -> String {
    let states = [
        ("active", sum.active),
        ("pending", sum.pending),
        ("aggregating", sum.aggregating),
        ("scheduled", sum.scheduled),
        ("retry", sum.retry),
        ("archived", sum.archived),
        ("completed", sum.completed),
    ];
    let title = |queue: &QueueInfo| match queue.paused {
        true => format!("{} (paused)", queue.queue),
        false => queue.queue.to_string(),
    };
    let runs = vec![
        sum.processed.to_string(),
        sum.failed.to_string(),
        error_rate(sum.processed, sum.failed),
    ];
    let info = |name: &str| redis.get(name).cloned().unwrap_or_default();
    let (heading, table) = match is_cluster {
        true => (
            "Redis Cluster Info",
            plain_table(
                &["State", "Known Nodes", "Cluster Size"],
                &[vec![
                    info("cluster_state").to_uppercase(),
                    info("cluster_known_nodes"),
                    info("cluster_size"),
                ]],
            ),
        ),
        false => (
            "Redis Info",
            plain_table(
                &["version", "uptime", "connections", "memory usage", "peak memory usage"],
                &[vec![
                    info("redis_version"),
                    info("uptime_in_days") + " days",
                    info("connected_clients"),
                    info("used_memory_human") + "B",
                    info("used_memory_peak_human") + "B",
                ]],
            ),
        ),
    };
    format!(
        "{BOLD}Task Count by State{BOLD:#}\n{}\n{BOLD}Task Count by Queue{BOLD:#}\n{}\n\
         {BOLD}Daily Stats {} UTC{BOLD:#}\n{}\n{BOLD}{heading}{BOLD:#}\n{table}\n",
        wide_table(
            states.map(|(state, count)| (state.to_owned(), count)).to_vec(),
            |_, numbers| numbers.max(COLUMN)
        ),
        match queues {
            [] => "No queues\n".to_owned(),
            queues => {
                let columns = queues.iter().map(|queue| (title(queue), queue.size())).collect();
                wide_table(columns, |titles, _| titles)
            }
        },
        queues
            .last()
            .map_or_else(Utc::now, |queue| queue.timestamp)
            .format("%Y-%m-%d"),
        plain_table(&["processed", "failed", "error rate"], &[runs]),
    )
}

/// Lays out numbers under their titles, with lines of one length between. `length` makes it of the longest title and
/// the longest number.
fn wide_table(columns: Vec<(String, u64)>, length: impl FnOnce(usize, usize) -> usize) -> String {
    let (titles, numbers): (Vec<String>, Vec<String>) = columns
        .into_iter()
        .map(|(title, number)| (title, number.to_string()))
        .unzip();
    let longest = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or_default();
    let line = "-".repeat(length(longest(&titles), longest(&numbers)));
    let lines = vec![line; titles.len()];
    lined_up(&[titles, lines, numbers])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_gos_fraction() {
        let at = |nanos| go_time(DateTime::from_timestamp(1_700_000_000, nanos).unwrap());
        assert!(!at(0).contains('.'), "{}", at(0));
        assert!(at(120_000_000).contains(".12"), "{}", at(120_000_000));
        assert!(!at(120_000_000).contains(".120"), "{}", at(120_000_000));
        assert!(at(1).contains(".000000001"), "{}", at(1));
        for nanos in [0, 1, 120_000_000] {
            let read = DateTime::parse_from_rfc3339(&at(nanos)).unwrap();
            assert_eq!(
                (read.timestamp(), read.timestamp_subsec_nanos()),
                (1_700_000_000, nanos)
            );
        }
    }

    #[test]
    fn lines_under_titles_are_as_long_as_gos() {
        let states = wide_table(vec![("a".into(), 1), ("b".into(), 12)], |_, numbers| {
            numbers.max(COLUMN)
        });
        assert_eq!(states, "a          b\n---------  ---------\n1          12\n");
        let queues = wide_table(vec![("default".into(), 1), ("x".into(), 2)], |titles, _| titles);
        assert_eq!(queues, "default  x\n-------  -------\n1        2\n");
    }
}
