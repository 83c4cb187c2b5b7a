//! Metrics of the requests to this server.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, proto::MetricFamily};

/// Bounds of the time until an answer begins, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];

/// Counts requests, by the template of their route, so that the number of series is limited.
#[derive(Clone, Debug)]
pub(crate) struct Requests(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    /// `None` if a name were not valid.
    total: Option<IntCounterVec>,
    duration: Option<HistogramVec>,
}

impl Requests {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let total = Opts::new(
            "asynq_web_http_requests_total",
            "Number of requests to this server; broken down by method, route and status.",
        );
        let duration = HistogramOpts::new(
            "asynq_web_http_request_duration_seconds",
            "Time until the answer to a request began; broken down by method and route.",
        );
        let total = IntCounterVec::new(total, &["method", "route", "status"]).ok();
        let duration = HistogramVec::new(duration.buckets(BOUNDS.to_vec()), &["method", "route"]).ok();
        if let Some(total) = &total {
            let _ = registry.register(Box::new(total.clone()));
        }
        if let Some(duration) = &duration {
            let _ = registry.register(Box::new(duration.clone()));
        }
        Self(Arc::new(Inner {
            registry,
            total,
            duration,
        }))
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.0.registry.gather()
    }

    pub(super) fn ended(&self, method: &str, route: &str, status: &str, seconds: f64) {
        if let Some(total) = &self.0.total {
            total.with_label_values(&[method, route, status]).inc();
        }
        if let Some(duration) = &self.0.duration {
            duration.with_label_values(&[method, route]).observe(seconds);
        }
    }
}

/// Counts a request. One that its client gave up on is not counted.
pub(crate) async fn count(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let began = Instant::now();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    requests.ended(method, route, response.status().as_str(), began.elapsed().as_secs_f64());
    response
}

/// Returns the name of a method that is in use: others may be of any text.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
