//! Statistics: the outcomes and durations of runs over time.

use asynq::statistics::{Bucket, Histogram, RunCounts, RunEnd, Step, TimeRange, TypeStatistics};
use axum::{Json, extract::State};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    extract::{Path, Query},
    guard::Caller,
    problem::Result,
};

/// The length of a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PointLength {
    #[default]
    Minute,
    Hour,
    Day,
}

impl From<PointLength> for Step {
    fn from(step: PointLength) -> Self {
        match step {
            PointLength::Minute => Self::Minute,
            PointLength::Hour => Self::Hour,
            PointLength::Day => Self::Day,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ShowStatistics {
    /// First time. Default: an hour, two days or thirty days before the last one, by the step.
    #[param(nullable = false)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Last time. Default: now.
    #[param(nullable = false)]
    pub(crate) to: Option<DateTime<Utc>>,
    /// Length of a point: `minute` (default; kept for 48 hours), `hour` or `day` (kept for 90 days). There are at most 2880.
    #[param(inline, nullable = false)]
    pub(crate) step: Option<PointLength>,
    /// Only this task type.
    #[serde(rename = "type")]
    #[param(nullable = false)]
    pub(crate) task_type: Option<String>,
}

/// The statistics of a queue over a range of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Statistics {
    pub(crate) queue: String,
    /// Start of the first point.
    pub(crate) from: DateTime<Utc>,
    /// End of the last point.
    pub(crate) to: DateTime<Utc>,
    pub(crate) step: PointLength,
    /// The totals of each task type, by name. Types beyond the first 500 of a minute count as `other`.
    pub(crate) types: Vec<OfType>,
    /// The points that have runs, over all of these types.
    pub(crate) points: Vec<At>,
    /// Number of stored values that could not be read.
    pub(crate) unreadable: u64,
}

/// The totals of a task type.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OfType {
    #[serde(rename = "type")]
    pub(crate) task_type: String,
    #[serde(flatten)]
    pub(crate) totals: Totals,
}

/// The totals of a point.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct At {
    /// Start of the point.
    pub(crate) at: DateTime<Utc>,
    #[serde(flatten)]
    pub(crate) totals: Totals,
}

/// Runs that have ended, and durations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Totals {
    pub(crate) runs: Runs,
    /// Durations of runs.
    pub(crate) run_seconds: Durations,
    /// Durations for which tasks were pending.
    pub(crate) wait_seconds: Durations,
}

/// Numbers of runs by their ends.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Runs {
    pub(crate) total: u64,
    /// Retried or archived.
    pub(crate) failed: u64,
    pub(crate) done: u64,
    pub(crate) retried: u64,
    pub(crate) deferred: u64,
    pub(crate) archived: u64,
    pub(crate) given_back: u64,
    pub(crate) lost: u64,
}

impl Runs {
    fn of(runs: &RunCounts) -> Self {
        Self {
            total: runs.total(),
            failed: runs.failed(),
            done: runs.of(RunEnd::Done),
            retried: runs.of(RunEnd::Retried),
            deferred: runs.of(RunEnd::Deferred),
            archived: runs.of(RunEnd::Archived),
            given_back: runs.of(RunEnd::GivenBack),
            lost: runs.of(RunEnd::Lost),
        }
    }
}

/// Durations in seconds. Percentiles are within a few per cent, and `null` without durations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Durations {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) mean: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p99: Option<f64>,
}

impl Durations {
    fn of(histogram: &Histogram) -> Self {
        let percentile = |part| histogram.percentile(part).map(|duration| duration.as_secs_f64());
        Self {
            count: histogram.count(),
            sum: histogram.sum().as_secs_f64(),
            mean: histogram.mean().map(|mean| mean.as_secs_f64()),
            p50: percentile(0.5),
            p90: percentile(0.9),
            p99: percentile(0.99),
        }
    }
}

impl Totals {
    pub(crate) fn of(statistics: &TypeStatistics) -> Self {
        Self {
            runs: Runs::of(&statistics.runs),
            run_seconds: Durations::of(&statistics.run_time),
            wait_seconds: Durations::of(&statistics.wait_time),
        }
    }
}

/// Shows the outcomes and durations of runs over a range of time. Servers of Go write none.
#[utoipa::path(
    get, path = "/queues/{queue}/statistics", tag = "queues",
    params(("queue" = String, Path), ShowStatistics), responses((status = 200, body = Statistics)),
)]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    Query(asked): Query<ShowStatistics>,
) -> Result<Json<Statistics>> {
    let step = asked.step.unwrap_or_default();
    let back = match step {
        PointLength::Minute => TimeDelta::hours(1),
        PointLength::Hour => TimeDelta::days(2),
        PointLength::Day => TimeDelta::days(30),
    };
    let to = asked.to.unwrap_or_else(Utc::now);
    let from = asked.from.or_else(|| to.checked_sub_signed(back)).unwrap_or(to);
    let range = TimeRange::new(from, to, step.into()).map_err(asynq::Error::from)?;
    let _read = app.budgets.read(&caller.user().name)?;
    app.inspector.get_queue_stats(&queue).await?;
    let statistics = app.inspector.statistics(&queue, range).await?;
    let is_asked = |name: &str| asked.task_type.as_deref().is_none_or(|asked| asked == name);
    let sum = |bucket: &Bucket| {
        let mut sum = TypeStatistics::default();
        let types = bucket.types().filter(|(name, _)| is_asked(name));
        types.for_each(|(_, of_type)| sum.merge(of_type));
        sum
    };
    let total = statistics.total();
    let types = total.types().filter(|(name, _)| is_asked(name));
    let types = types.map(|(name, of_type)| OfType {
        task_type: name.to_owned(),
        totals: Totals::of(of_type),
    });
    let points = statistics.points.iter().map(|point| At {
        at: point.at,
        totals: Totals::of(&sum(&point.types)),
    });
    Ok(Json(Statistics {
        queue,
        from: statistics.from,
        to: statistics.to,
        step,
        types: types.collect(),
        points: points
            .filter(|point| point.totals.runs.total > 0 || point.totals.wait_seconds.count > 0)
            .collect(),
        unreadable: statistics.unreadable,
    }))
}
