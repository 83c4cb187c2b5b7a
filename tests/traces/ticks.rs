//! Periodic tasks: each tick begins a trace.

use asynq::{AsynqSystem, Env, SchedulerConfig, SchedulerHandle, ServerConfig, Task, memory::MemoryStore};
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};

use crate::{ended, exporter, named, telemetry};

#[tokio::test]
async fn a_tick_begins_a_trace() {
    exporter();
    let storage = MemoryStore::new();
    let scheduler = || {
        let handle = SchedulerHandle::new(SchedulerConfig::new(), Env::default()).unwrap();
        handle
            .register("@every 1s", Task::new("t", b"").unwrap().with_queue("tick"))
            .unwrap();
        handle
    };
    // The second one finds each tick decided.
    let mut systems = Vec::new();
    for _ in 0..2 {
        let system = AsynqSystem::builder(storage.clone())
            .config(ServerConfig::new().queues([("tick", 1)]))
            .scheduler_handle(scheduler())
            .handler(|_: Task| async { Ok(()) })
            .spawn()
            .await
            .unwrap();
        systems.push(system);
    }
    let deadline = tokio::time::Instant::now() + crate::PATIENCE;
    let taken = |span: &crate::Seen| span.text("asynq.tick.taken") == "true";
    while named("process tick").len() < 2 || !named("send tick").iter().any(taken) {
        assert!(tokio::time::Instant::now() < deadline, "{:#?}", named("send tick"));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for system in systems {
        system.shutdown().await;
    }
    let sent = named("send tick");
    assert!(sent.iter().all(crate::Seen::is_root));
    for run in named("process tick") {
        let own = sent.iter().find(|sent| run.is_child_of(&sent.0.span_context)).unwrap();
        assert!(!taken(own) && !own.has_failed());
    }
    ended("send tick", sent.len()).await;
}

/// The span of a tick that was never decided ends with its system, although the handle lives on.
#[tokio::test]
async fn a_tick_that_is_open_at_the_end_ends_its_span() {
    exporter();
    let faults = Faults::new();
    faults.always(Op::EnqueueTick, Fault::unavailable());
    let handle = SchedulerHandle::new(SchedulerConfig::new(), Env::default()).unwrap();
    handle
        .register("@every 1s", Task::new("t", b"").unwrap().with_queue("tick-open"))
        .unwrap();
    let system = AsynqSystem::builder(FaultyConnector::new(MemoryStore::new(), faults.clone()))
        .config(ServerConfig::new().queues([("tick-open", 1)]))
        .scheduler_handle(handle.clone())
        .handler(|_: Task| async { Ok(()) })
        .spawn()
        .await
        .unwrap();
    let deadline = tokio::time::Instant::now() + crate::PATIENCE;
    while faults.calls(Op::EnqueueTick) < 2 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    system.shutdown().await;
    let sent = named("send tick-open");
    assert_eq!(sent.len(), 1, "{sent:#?}");
    assert_eq!(
        (sent[0].text("error.type").as_str(), sent[0].has_failed()),
        ("closed", true)
    );
    drop(handle);
}

/// Code of the application that a span calls may use the scheduler.
#[tokio::test]
async fn a_sampler_may_ask_the_scheduler() {
    exporter();
    let queue = telemetry::CALLS_BACK;
    let handle = SchedulerHandle::new(SchedulerConfig::new(), Env::default()).unwrap();
    let asked = handle.clone();
    let back = move || assert_eq!(asked.entries().len(), 1);
    assert!(telemetry::BACK.set(Box::new(back)).is_ok());
    let task = Task::new("t", b"").unwrap().with_queue(queue);
    handle.register("@every 1s", task).unwrap();
    let system = AsynqSystem::builder(MemoryStore::new())
        .config(ServerConfig::new().queues([(queue, 1)]))
        .scheduler_handle(handle)
        .handler(|_: Task| async { Ok(()) })
        .spawn()
        .await
        .unwrap();
    let deadline = tokio::time::Instant::now() + crate::PATIENCE;
    while named("process calls-back").is_empty() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    system.shutdown().await;
}
