//! The number of findings. They are read in the background, at most once a minute.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use asynq::findings::Findings;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::family::{Family, number};
use crate::{
    problem::{Problem, Result},
    readings::Readings,
};

/// Age at which findings are read again.
const FRESH: Duration = Duration::from_secs(60);
/// Age at which findings are no longer shown.
const STALE: Duration = Duration::from_secs(600);
/// Time for which the first scrape waits for findings.
const FIRST: Duration = Duration::from_secs(1);
/// Longest time that they may take.
const WITHIN: Duration = Duration::from_secs(120);

/// Numbers of findings by kind and severity.
pub(super) type Counts = BTreeMap<(&'static str, String), u64>;

/// The latest findings, and the read in progress. It ends with this.
#[derive(Debug, Default)]
pub(super) struct Attention {
    latest: watch::Sender<Option<(Instant, Counts)>>,
    failure: Arc<Mutex<Option<Problem>>>,
    reading: Mutex<Reading>,
}

#[derive(Debug, Default)]
struct Reading {
    began: Option<Instant>,
    task: JoinSet<()>,
}

impl Attention {
    /// Returns the numbers of findings, and sees to it that they are read again when they are old.
    pub(super) async fn families(&self, readings: &Arc<Readings>) -> Result<Vec<Family>> {
        self.refresh(readings);
        let mut latest = self.latest.subscribe();
        if latest.borrow().is_none() {
            let _ = timeout(FIRST, latest.wait_for(Option::is_some)).await;
        }
        if let Some(error) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let latest = latest.borrow();
        let Some((at, counts)) = latest.as_ref().filter(|(at, _)| at.elapsed() < STALE) else {
            return Ok(Vec::new());
        };
        Ok(of(counts, at.elapsed()))
    }

    fn refresh(&self, readings: &Arc<Readings>) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        while reading.task.try_join_next().is_some() {}
        if !reading.task.is_empty() || reading.began.is_some_and(|began| began.elapsed() < FRESH) {
            return;
        }
        reading.began = Some(Instant::now());
        let (readings, latest, failure) = (Arc::clone(readings), self.latest.clone(), self.failure.clone());
        reading.task.spawn(async move {
            match timeout(WITHIN, readings.findings()).await {
                Ok(Ok(findings)) => {
                    latest.send_replace(Some((Instant::now(), counts(&findings))));
                }
                Ok(Err(error)) => *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
                Err(_) => tracing::warn!(within = ?WITHIN, "the findings were not read in time"),
            }
        });
    }
}

fn counts(findings: &Findings) -> Counts {
    let mut counts = Counts::new();
    for finding in findings {
        let key = (finding.kind.name(), finding.severity.to_string());
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// Returns the metrics of findings of this age.
pub(super) fn of(counts: &Counts, age: Duration) -> Vec<Family> {
    let mut findings = Family::gauge(
        "asynq_findings",
        "Number of findings, which need attention; broken down by kind and severity. Kinds without one are left out.",
    );
    for ((kind, severity), count) in counts {
        findings.add(&[("kind", kind), ("severity", severity)], number(*count));
    }
    let mut since = Family::gauge("asynq_findings_age_seconds", "Time since the findings were read.");
    since.add(&[], age.as_secs_f64());
    vec![findings, since]
}
