//! `/metrics` with the exporter of an application that has servers in it. The recorder is that of the process.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeMap, time::Duration};

use asynq::{
    AsynqSystem, Crash, Error, ServerConfig, Task,
    broker::Connector as _,
    memory::MemoryStore,
    metrics::{ALL, MetricKind},
};
use asynq_web::Web;
use axum::{body::Body, http::Request};
use http_body_util::BodyExt as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tower::ServiceExt as _;

const PATIENCE: Duration = Duration::from_secs(60);

/// Names of metrics that this test has no occasion for: no call of the storage fails.
const NO_OCCASION: [&str; 1] = ["asynq_storage_errors_total"];

#[tokio::test]
async fn the_metrics_of_an_applications_servers_are_served_beside_those_of_queues() {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &[0.01, 0.1, 1.0, 10.0])
        .unwrap()
        .set_buckets_for_metric(Matcher::Suffix("_tasks".to_owned()), &[1.0, 10.0, 100.0])
        .unwrap()
        .install_recorder()
        .unwrap();
    asynq::metrics::describe();
    let storage = MemoryStore::new();
    let system = AsynqSystem::builder(storage.clone())
        .config(ServerConfig::new().heartbeat_interval(Duration::from_millis(20)))
        .handler(|task: Task| async move {
            match task.get_type() {
                "fails" => Err(Error::skip_retry("no")),
                _ => Ok(()),
            }
        })
        .spawn()
        .await
        .unwrap();
    for task_type in ["works", "works", "fails"] {
        system
            .client()
            .enqueue(Task::new(task_type, b"").unwrap())
            .await
            .unwrap();
    }
    assert!(system.crash_actor("maintenance/forwarder", Crash::Panic));
    let storage = storage.connect(storage.env()).await.unwrap();
    let router = Web::new(storage)
        .without_authentication()
        .exporter(move || handle.render())
        .router();

    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        // A server that found nothing to do wakes up.
        let late = Task::new("late", b"").unwrap();
        system.client().enqueue(late).await.unwrap();
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let body = router.clone().oneshot(request).await.unwrap().into_body();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
        let types: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .collect();
        let described = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(types.len(), described, "a metric is there twice:\n{text}");
        let missing: Vec<_> = ALL
            .iter()
            .filter(|metric| {
                let kind = match metric.kind {
                    MetricKind::Counter => "counter",
                    MetricKind::Gauge => "gauge",
                    _ => "histogram",
                };
                types.get(metric.name) != Some(&kind) && !NO_OCCASION.contains(&metric.name)
            })
            .map(|metric| metric.name)
            .collect();
        let ended = |task_type: &str, outcome: &str, count: u32| {
            let labels = [("queue", "default"), ("type", task_type), ("outcome", outcome)];
            text.lines().any(|line| {
                let has = |(name, value): &(&str, &str)| line.contains(&format!("{name}=\"{value}\""));
                line.starts_with("asynq_runs_total{") && labels.iter().all(has) && line.ends_with(&format!(" {count}"))
            })
        };
        if missing.is_empty() && ended("works", "done", 2) && ended("fails", "archived", 1) {
            assert!(types.contains_key("asynq_queue_size"));
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{missing:?}:\n{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    system.shutdown().await;
}
