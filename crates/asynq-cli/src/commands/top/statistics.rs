//! The statistics that servers of Asynq for Rust keep.

use std::collections::{BTreeMap, BTreeSet};

use asynq::{
    error::{BrokerError, Error},
    inspector::Inspector,
    statistics::{Step, TimeRange, TypeStatistics},
};
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::{sample::AT_ONCE, seconds};
use crate::{
    error::{CliError, Result},
    output::{BOLD, plain_table},
};

/// Number of minutes that are added up, the present one included.
const MINUTES: u32 = 10;

/// The statistics of the last minutes.
#[derive(Debug, Serialize)]
pub(super) struct Recent {
    /// Beginning of the first minute.
    from: DateTime<Utc>,
    /// Time of the look.
    to: DateTime<Utc>,
    /// The types that ran, the most frequent ones first.
    types: Vec<TypeRecord>,
}

/// The statistics of a type.
#[derive(Debug, Serialize)]
struct TypeRecord {
    #[serde(rename = "type")]
    task_type: String,
    queues: BTreeSet<String>,
    runs_per_second: f64,
    #[serde(flatten)]
    counted: TypeStatistics,
}

/// Reads the statistics of some queues; `None` if no server keeps any. Those that cannot be read are left out.
pub(super) async fn read<'q>(
    inspector: &Inspector,
    queues: impl Iterator<Item = &'q String>,
    now: DateTime<Utc>,
) -> Result<Option<Recent>> {
    let range = TimeRange::last(MINUTES, Step::Minute, now).map_err(|error| CliError::from(Error::from(error)))?;
    let reads = queues.map(|queue| async move {
        match inspector.statistics(queue, range).await {
            Ok(found) => Ok(Some((queue, found.total()))),
            Err(Error::Broker(BrokerError::QueueNotFound { .. } | BrokerError::WrongType { .. })) => Ok(None),
            Err(error) => Err(CliError::from(error)),
        }
    });
    let found: Vec<_> = stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut types: BTreeMap<String, (BTreeSet<String>, TypeStatistics)> = BTreeMap::new();
    for (queue, bucket) in found.into_iter().flatten() {
        for (task_type, statistics) in bucket.types() {
            let (queues, sum) = types.entry(task_type.to_owned()).or_default();
            queues.insert(queue.clone());
            sum.merge(statistics);
        }
    }
    if types.is_empty() {
        return Ok(None);
    }
    let time = (now - range.from()).as_seconds_f64().max(1.0);
    let mut types: Vec<_> = types
        .into_iter()
        .map(|(task_type, (queues, counted))| TypeRecord {
            task_type,
            queues,
            runs_per_second: counted.runs.total() as f64 / time,
            counted,
        })
        .collect();
    types.sort_by(|a, b| {
        (b.counted.runs.total().cmp(&a.counted.runs.total())).then_with(|| a.task_type.cmp(&b.task_type))
    });
    Ok(Some(Recent {
        from: range.from(),
        to: now,
        types,
    }))
}

impl Recent {
    pub(super) fn text(&self) -> String {
        let rows: Vec<Vec<String>> = self.types.iter().map(TypeRecord::row).collect();
        let head = [
            "Type", "Runs/s", "Runs", "Failed", "p50", "p95", "p99", "Wait p50", "Wait p95",
        ];
        format!(
            "\n{BOLD}Statistics{BOLD:#} of the last {MINUTES} minutes, from servers that keep them\n{}",
            plain_table(&head, &rows)
        )
    }
}

impl TypeRecord {
    fn row(&self) -> Vec<String> {
        let TypeStatistics {
            runs,
            run_time,
            wait_time,
            ..
        } = &self.counted;
        let mut row = vec![
            self.task_type.clone(),
            format!("{:.1}", self.runs_per_second),
            runs.total().to_string(),
            runs.failed().to_string(),
        ];
        let parts = [
            (run_time, 0.5),
            (run_time, 0.95),
            (run_time, 0.99),
            (wait_time, 0.5),
            (wait_time, 0.95),
        ];
        row.extend(parts.map(|(times, part)| seconds(times.percentile(part).map(|time| time.as_secs_f64()))));
        row
    }
}
