//! `/metrics`: metrics in the text format of Prometheus. They are those of queues with the names of Go's collector, those
//! that servers publish, those of this server, and those of the application's own exporter.

mod attention;
mod family;
mod queues;
mod requests;
mod servers;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use prometheus::{TEXT_FORMAT, TextEncoder};

pub(crate) use self::requests::{Requests, count};
use self::{attention::Attention, family::Family, queues::Queues};
use crate::{
    access::Role,
    app::App,
    guard::Caller,
    problem::{Problem, Result},
    routes::Route,
};

/// Returns the text of an exporter.
pub(crate) type Exporter = dyn Fn() -> String + Send + Sync;

/// State that is kept from one scrape to the next.
pub(crate) struct Metrics {
    pub(crate) requests: Requests,
    queues: Queues,
    attention: Attention,
    errors: Errors,
    exporter: Option<Arc<Exporter>>,
}

impl Metrics {
    pub(crate) fn new(exporter: Option<Arc<Exporter>>) -> Self {
        Self {
            requests: Requests::new(),
            queues: Queues::default(),
            attention: Attention::default(),
            errors: Errors::default(),
            exporter,
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Errors of the storage that scrapes met, by their kind.
#[derive(Default)]
struct Errors {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    now: AtomicBool,
    scrapes: AtomicU64,
}

impl Errors {
    /// A scrape begins.
    fn begin(&self) {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        self.now.store(false, Ordering::Relaxed);
    }

    /// Takes a part that was read, and counts an error in place of one that was not.
    fn take<T>(&self, part: Result<T>) -> Option<T> {
        let problem = match part {
            Ok(part) => return Some(part),
            Err(problem) => problem,
        };
        tracing::warn!(error = problem.detail, "a part of the metrics could not be read");
        self.now.store(true, Ordering::Relaxed);
        let code = problem.code;
        *self.lock().entry(code).or_default() += 1;
        None
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn families(&self) -> Vec<Family> {
        let mut up = Family::gauge(
            "asynq_web_storage_up",
            "Whether the last scrape read all of the storage: 1, or 0.",
        );
        up.add(&[], f64::from(u8::from(!self.now.load(Ordering::Relaxed))));
        let mut errors = Family::counter(
            "asynq_web_storage_errors_total",
            "Number of parts of scrapes that could not be read from the storage; broken down by code.",
        );
        for (code, count) in &*self.lock() {
            errors.add(&[("code", code)], family::number(*count));
        }
        let mut scrapes = Family::counter("asynq_web_scrapes_total", "Number of scrapes of this server.");
        scrapes.add(&[], family::number(self.scrapes.load(Ordering::Relaxed)));
        vec![up, errors, scrapes]
    }
}

/// The routes. Their paths are relative to the root.
pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get("/metrics", Role::Viewer, scrape).for_each_queue()]
}

/// Answers a scrape. A user with a role for some queues gets the metrics of these queues only.
async fn scrape(State(app): State<App>, caller: Caller) -> Result<Response> {
    let metrics = &app.metrics;
    metrics.errors.begin();
    let read = metrics.queues.read(&app.inspector).await;
    let mut families = Vec::new();
    if let Some(mut readings) = metrics.errors.take(read.map_err(Problem::from)) {
        if !readings.is_whole {
            metrics.errors.now.store(true, Ordering::Relaxed);
        }
        for error in std::mem::take(&mut readings.errors) {
            metrics.errors.take(Err::<(), _>(error.into()));
        }
        families.extend(readings.families(|queue| caller.sees(queue)));
    }
    let sees_all = caller.need_everywhere(Role::Viewer).is_ok();
    if sees_all {
        if let Some(servers) = metrics.errors.take(servers::families(&app.readings).await) {
            families.extend(servers);
        }
        if let Some(attention) = metrics.errors.take(metrics.attention.families(&app.readings).await) {
            families.extend(attention);
        }
        families.extend(metrics.errors.families());
    }
    let mut families: Vec<_> = families.into_iter().filter_map(Family::finish).collect();
    if sees_all {
        families.extend(metrics.requests.gather());
    }
    families.sort_by(|one, other| one.name().cmp(other.name()));
    let mut text = TextEncoder::new().encode_to_string(&families).map_err(|error| {
        tracing::error!(%error, "the metrics cannot be written");
        Problem::internal("the metrics cannot be written; the log of the server has more")
    })?;
    if let Some(exporter) = metrics.exporter.as_ref().filter(|_| sees_all) {
        text.push_str(&exporter());
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

#[cfg(test)]
mod tests;
