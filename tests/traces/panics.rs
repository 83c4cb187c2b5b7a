//! A sampler, a processor or a propagator that panics harms the trace, and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use asynq::{
    AsynqSystem, Client, EnqueueMsg, Env, SchedulerConfig, SchedulerHandle, ServerConfig, Task, client::Waited,
    memory::MemoryStore, testing::TestKit,
};
use opentelemetry::{Context, KeyValue, baggage::BaggageExt as _, context::FutureExt as _};
use tokio::sync::mpsc;

use crate::{
    PATIENCE, ended, exporter,
    telemetry::{BEGIN, END, PROPAGATOR, SAMPLER},
};

const WAYS: [&str; 3] = [SAMPLER, BEGIN, END];

fn task(queue: &str) -> Task {
    Task::new("t", b"").unwrap().with_queue(queue)
}

async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap()
}

/// A run that succeeded stays so, and is not run again.
#[tokio::test]
async fn a_run_ends_as_its_handler_says() {
    for way in WAYS {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let system = crate::system(way, ServerConfig::new(), move |_: Task| {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok(()))
        })
        .await;
        let client = system.client();
        let info = client.enqueue(task(way).with_retention(PATIENCE)).await.unwrap();
        let ended = client.wait(&info, PATIENCE).await.unwrap();
        assert!(matches!(ended, Waited::Completed(_)), "{way}: {ended:?}");
        for answer in client
            .enqueue_many((0..3).map(|_| task(way).with_retention(PATIENCE)))
            .await
        {
            client.wait(&answer.unwrap(), PATIENCE).await.unwrap();
        }
        system.shutdown().await;
        assert_eq!(runs.load(Ordering::SeqCst), 4, "{way}");
    }
}

/// So does one that was aborted: its task comes back.
#[tokio::test]
async fn the_end_of_an_aborted_run_is_none() {
    let queue = format!("{END}-aborted");
    let (began, mut begins) = mpsc::unbounded_channel();
    let config = ServerConfig::new().shutdown_timeout(Duration::ZERO);
    let system = crate::system(&queue, config, move |_: Task| {
        began.send(()).unwrap();
        std::future::pending::<asynq::Result<()>>()
    })
    .await;
    system.client().enqueue(task(&queue)).await.unwrap();
    next(&mut begins).await;
    assert_eq!(system.shutdown().await, asynq::Exit::Stopped);
}

/// The actor of the client lives on. It would be given up after five panics.
#[tokio::test]
async fn the_client_takes_messages() {
    for way in WAYS {
        let (ran, mut runs) = mpsc::unbounded_channel();
        let queue = format!("{way}-message");
        let system = crate::system(&queue, ServerConfig::new(), move |_: Task| {
            ran.send(()).unwrap();
            std::future::ready(Ok(()))
        })
        .await;
        let first = system.enqueue_ref().unwrap();
        for _ in 0..8 {
            let (port, answer) = ractor::concurrency::oneshot();
            first.cast(EnqueueMsg::call(task(&queue), port.into())).unwrap();
            tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap().unwrap();
            first.cast(EnqueueMsg::new(task(&queue))).unwrap();
        }
        for _ in 0..16 {
            next(&mut runs).await;
        }
        assert_eq!(system.shutdown().await, asynq::Exit::Stopped, "{way}");
    }
}

#[tokio::test]
async fn ticks_are_enqueued() {
    exporter();
    for way in WAYS {
        let (ran, mut runs) = mpsc::unbounded_channel();
        let queue = format!("{way}-tick");
        let handle = SchedulerHandle::new(SchedulerConfig::new(), Env::default()).unwrap();
        handle.register("@every 1s", task(&queue)).unwrap();
        let system = AsynqSystem::builder(MemoryStore::new())
            .config(ServerConfig::new().queues([(queue.as_str(), 1)]))
            .scheduler_handle(handle.clone())
            .handler(move |task: Task| {
                ran.send(task).unwrap();
                std::future::ready(Ok(()))
            })
            .spawn()
            .await
            .unwrap();
        for _ in 0..2 {
            next(&mut runs).await;
        }
        // Its lock is free.
        assert_eq!(handle.entries().len(), 1);
        assert_eq!(system.shutdown().await, asynq::Exit::Stopped, "{way}");
    }
}

#[tokio::test]
async fn groups_are_aggregated() {
    exporter();
    for way in WAYS {
        let (ran, mut runs) = mpsc::unbounded_channel();
        let queue = format!("{way}-group");
        let config = ServerConfig::new()
            .queues([(queue.as_str(), 1)])
            .group_grace_period(Duration::from_secs(1))
            .unwrap()
            .group_check_interval(Duration::from_millis(20));
        let system = AsynqSystem::builder(MemoryStore::new())
            .config(config)
            .aggregator(|_: String, tasks: Vec<Task>| async move { Ok(tasks[0].clone()) })
            .handler(move |_: Task| {
                ran.send(()).unwrap();
                std::future::ready(Ok(()))
            })
            .spawn()
            .await
            .unwrap();
        system.client().enqueue(task(&queue).with_group("g")).await.unwrap();
        next(&mut runs).await;
        assert_eq!(system.shutdown().await, asynq::Exit::Stopped, "{way}");
    }
}

#[tokio::test]
async fn a_propagator_may_panic() {
    let (ran, mut runs) = mpsc::unbounded_channel();
    let system = crate::system("propagator", ServerConfig::new(), move |task: Task| {
        ran.send(task).unwrap();
        std::future::ready(Ok(()))
    })
    .await;
    // The one that writes.
    let context = Context::new().with_baggage([KeyValue::new(PROPAGATOR, "1")]);
    system
        .client()
        .enqueue(task("propagator"))
        .with_context(context)
        .await
        .unwrap();
    assert!(next(&mut runs).await.headers().is_empty());
    // The one that reads.
    let marked = task("propagator").with_header(PROPAGATOR, "1");
    system.client().enqueue(marked).await.unwrap();
    next(&mut runs).await;
    let spans = ended("process propagator", 2).await;
    assert!(
        spans
            .iter()
            .all(|span| span.is_root() && span.text("asynq.outcome") == "done")
    );
    ended("send propagator", 2).await;
    assert_eq!(system.shutdown().await, asynq::Exit::Stopped);
}

#[tokio::test]
async fn the_test_kit_and_the_inspector_work() {
    exporter();
    for way in WAYS {
        let kit = TestKit::new().await;
        kit.client().enqueue(task(way)).await.unwrap();
        let ran = kit.run_one(&|_: Task| async { Ok(()) }).await.unwrap();
        assert!(matches!(ran.end, asynq::testing::End::Done), "{ran:?}");
        let storage = MemoryStore::new();
        let client = Client::new(storage.clone()).await.unwrap();
        let inspector = asynq::Inspector::connect(storage).await.unwrap();
        inspector.enqueue(task(way)).await.unwrap();
        client.enqueue(task(way)).await.unwrap();
        assert_eq!(inspector.get_queue_stats(way).await.unwrap().pending, 2);
    }
}
