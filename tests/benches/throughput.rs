//! Enqueue and drain through a whole system, on the embedded broker and on a private Redis.
//!
//! `cargo xtask bench --micro`. Figures are ratios to compare within one run, never limits.

use std::{sync::Arc, time::Duration};

use asynq::{AsynqSystem, Connector, EnqueueMsg, ServerConfig, memory::MemoryStore, names::QueueName, task::Task};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ractor::concurrency::oneshot;
use tokio::{runtime::Runtime, sync::Semaphore};

const TASKS: usize = 5_000;

struct Place {
    name: &'static str,
    connector: Arc<dyn Connector>,
}

async fn producer(place: &Place) -> AsynqSystem {
    let system = AsynqSystem::builder(Arc::clone(&place.connector))
        .spawn()
        .await
        .expect("a valid configuration");
    system.ping().await.expect("a storage that answers");
    system
}

async fn fill(system: &AsynqSystem, tasks: usize) {
    let client = system.client();
    let batch = (0..tasks).map(|_| Task::new("noop", b"{}").expect("a valid type"));
    for answer in client.enqueue_many(batch).await {
        answer.expect("enqueued");
    }
}

/// Enqueues by messages to the client actor, all of which are under way at once.
async fn fill_by_message(system: &AsynqSystem, tasks: usize) {
    let answers = (0..tasks).map(|_| {
        let task = Task::new("noop", b"{}").expect("a valid type");
        let (reply, answer) = oneshot();
        let client = system.enqueue_ref().expect("the client actor runs");
        let message = EnqueueMsg::call(task, reply.into());
        client.send_message(message).expect("the client actor runs");
        answer
    });
    for answer in answers.collect::<Vec<_>>() {
        answer.await.expect("an answer").expect("enqueued");
    }
}

async fn drain(place: &Place, concurrency: usize, tasks: usize) {
    let left = Arc::new(Semaphore::new(0));
    let counter = Arc::clone(&left);
    let system = AsynqSystem::builder(Arc::clone(&place.connector))
        .config(ServerConfig::new().concurrency(concurrency))
        .handler(move |_task: Task| {
            let counter = Arc::clone(&counter);
            async move {
                counter.add_permits(1);
                Ok(())
            }
        })
        .spawn()
        .await
        .expect("a valid configuration");
    let all = u32::try_from(tasks).expect("few tasks");
    left.acquire_many(all).await.expect("never closed").forget();
    // The outcomes of the last ones are part of the work.
    let storage = system.storage().await.expect("a storage that answers");
    while storage
        .queue_info(&QueueName::default())
        .await
        .expect("the queue exists")
        .active
        > 0
    {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    system.shutdown().await;
}

fn throughput(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let server = runtime.block_on(asynq_testing::redis::RedisServer::start());
    let redis = asynq::redis::RedisConnectionType::single(server.url()).expect("a valid URL");
    let places = [
        Place {
            name: "memory",
            connector: Arc::new(MemoryStore::new()),
        },
        Place {
            name: "redis",
            connector: Arc::new(redis),
        },
    ];

    let mut group = c.benchmark_group("enqueue");
    group.sample_size(10).throughput(Throughput::Elements(TASKS as u64));
    for place in &places {
        let system = runtime.block_on(producer(place));
        group.bench_function(place.name, |b| b.iter(|| runtime.block_on(fill(&system, TASKS))));
        group.bench_function(BenchmarkId::new(place.name, "EnqueueMsg"), |b| {
            b.iter(|| runtime.block_on(fill_by_message(&system, TASKS)));
        });
        runtime.block_on(system.shutdown());
        // What was enqueued must not weigh on what follows.
        runtime.block_on(async {
            let left = AsynqSystem::builder(Arc::clone(&place.connector))
                .spawn()
                .await
                .expect("valid");
            let size = left
                .storage()
                .await
                .expect("a storage")
                .queue_info(&QueueName::default())
                .await
                .expect("exists");
            left.shutdown().await;
            drain(place, 1000, usize::try_from(size.pending).expect("few tasks")).await;
        });
    }
    group.finish();

    let mut group = c.benchmark_group("drain");
    group.sample_size(10).throughput(Throughput::Elements(TASKS as u64));
    for place in &places {
        for concurrency in [10, 100, 1000] {
            let id = BenchmarkId::new(place.name, concurrency);
            group.bench_with_input(id, &concurrency, |b, &concurrency| {
                b.iter_batched(
                    || {
                        runtime.block_on(async {
                            let system = producer(place).await;
                            fill(&system, TASKS).await;
                            system.shutdown().await;
                        });
                    },
                    |()| runtime.block_on(drain(place, concurrency, TASKS)),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, throughput);
criterion_main!(benches);
