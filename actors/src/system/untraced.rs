//! Messages without traces: the stored bytes are those of the composed task.

use asynq_core::{Connector as _, Env, QueueName, Task, TaskOptions, broker::Want, compose::compose, message::encode};
use asynq_memory::MemoryStore;
use tokio::sync::mpsc;

use super::AsynqSystem;
use crate::client::TaskContextExt as _;

/// Says that the feature `otel` must be off here. `cargo xtask test` sets it where it tests the runtime alone.
const UNTRACED: &str = "ASYNQ_TEST_UNTRACED";

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn task(id: &str, queue: &str) -> Task {
    Task::new("t", b"payload").unwrap().with_task_id(id).with_queue(queue)
}

#[tokio::test]
async fn nothing_is_added_to_a_message() {
    let untraced = cfg!(not(feature = "otel"));
    assert!(
        untraced || std::env::var_os(UNTRACED).is_none(),
        "built with the feature"
    );
    // With it a handler passes on the trace of its task, also where nobody makes spans.
    if !untraced {
        return;
    }
    let storage = MemoryStore::new();
    let (ran, mut runs) = mpsc::unbounded_channel();
    let system = AsynqSystem::builder(storage.clone())
        .config(asynq_core::ServerConfig::new().queues([("run", 1)]))
        .handler(move |run: Task| {
            let ran = ran.clone();
            async move {
                let client = run.context().unwrap().client();
                client.enqueue(task("by a handler", "kept")).await?;
                // Nobody but the application says what these headers are.
                client.enqueue(run.with_task_id("again").with_queue("kept")).await?;
                ran.send(()).unwrap();
                Ok(())
            }
        })
        .spawn()
        .await
        .unwrap();
    let client = system.client();
    client.enqueue(task("one", "kept")).await.unwrap();
    let many = client.enqueue_many([task("two", "kept"), task("three", "kept")]).await;
    assert!(many.iter().all(Result::is_ok));
    let traced = |task: Task| {
        task.with_header("baggage", "user=7")
            .with_header("traceparent", TRACEPARENT)
    };
    client.enqueue(traced(task("first", "run"))).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(60), runs.recv())
        .await
        .unwrap()
        .unwrap();
    system.shutdown().await;

    let env = Env::default();
    let storage = storage.connect(env.clone()).await.unwrap();
    let wants = [Want {
        queue: QueueName::new("kept").unwrap(),
        max: 10,
    }];
    let taken = storage.exchange(&storage.begin(), &[], &wants).await.leased;
    let expected = [
        task("one", "kept"),
        task("two", "kept"),
        task("three", "kept"),
        task("by a handler", "kept"),
        traced(task("again", "kept")),
    ];
    assert_eq!(taken.len(), expected.len());
    for (taken, expected) in taken.iter().zip(&expected) {
        let expected = compose(expected, &TaskOptions::new(), &env).unwrap().message;
        assert_eq!(encode(&taken.message), encode(&expected), "{:?}", taken.message);
    }
}
