//! The attributes that a sampler is told, and the traces of the spans that it drops.

use asynq::{ServerConfig, Task};

use crate::{named, system, telemetry};

fn keys(name: &str) -> Vec<String> {
    let asked = telemetry::asked(name).unwrap_or_default();
    asked.iter().map(|one| one.key.to_string()).collect()
}

#[tokio::test]
async fn a_sampler_is_told_what_it_may_choose_by() {
    let system = system("sampler", ServerConfig::new(), |_: Task| async { Ok(()) }).await;
    system
        .client()
        .enqueue(Task::new("t", b"").unwrap().with_queue("sampler"))
        .await
        .unwrap();
    crate::ended("process sampler", 1).await;
    system.shutdown().await;
    for name in ["send sampler", "process sampler"] {
        let keys = keys(name);
        for key in [
            "messaging.system",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.destination.name",
            "asynq.task.type",
        ] {
            assert!(keys.iter().any(|told| told == key), "{name}: {keys:?}");
        }
        // Made for a span that is recorded only.
        for key in ["messaging.message.id", "messaging.message.body.size", "asynq.retried"] {
            assert!(!keys.iter().any(|told| told == key), "{name}: {keys:?}");
        }
    }
    // No span of another name, not even the first of the process.
    assert!(telemetry::asked("asynq").is_none());
}

/// The decision goes with the task.
#[tokio::test]
async fn a_dropped_span_carries_its_trace_on() {
    let system = system(telemetry::DROPPED, ServerConfig::new(), |_: Task| async { Ok(()) }).await;
    let client = system.client();
    let task = Task::new("t", b"").unwrap().with_queue(telemetry::DROPPED);
    let info = client.enqueue(task.with_retention(crate::PATIENCE)).await.unwrap();
    let traceparent = &info.headers["traceparent"];
    assert!(traceparent.ends_with("-00"), "{traceparent}");
    client.wait(&info, crate::PATIENCE).await.unwrap();
    system.shutdown().await;
    assert!(!keys("process dropped").is_empty());
    assert!(named("send dropped").is_empty() && named("process dropped").is_empty());
}
