//! The cost of statistics and of metrics for the hot path: drains with and without them, in turns, on one thread.
//!
//! `cargo bench -p asynq-tests --bench watching`. It prints ratios of the time that a drain takes: the median of the
//! pairs, so that the load of the machine does not show. The embedded broker shows most, since nothing else costs much
//! there; on Redis the process waits for the server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use asynq::{AsynqSystem, Connector, ServerConfig, memory::MemoryStore, names::QueueName, task::Task};
use metrics_util::debugging::DebuggingRecorder;
use tokio::{runtime::Runtime, sync::Semaphore};

const TASKS: usize = 10_000;
const PAIRS: usize = 15;
const TYPES: usize = 8;

/// One of the ways in which a server is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Not,
    ByStatistics,
    ByMetrics,
}

async fn fill(connector: &Arc<dyn Connector>) {
    let system = AsynqSystem::builder(Arc::clone(connector))
        .spawn()
        .await
        .expect("valid");
    system.ping().await.expect("a storage that answers");
    let tasks = (0..TASKS).map(|number| Task::new(format!("noop:{}", number % TYPES), b"{}").expect("a valid type"));
    for answer in system.client().enqueue_many(tasks).await {
        answer.expect("enqueued");
    }
    system.shutdown().await;
}

/// Returns the time from the first start to the last outcome.
async fn drain(connector: &Arc<dyn Connector>, watched: Watched) -> Duration {
    let left = Arc::new(Semaphore::new(0));
    let counter = Arc::clone(&left);
    let began = Instant::now();
    let system = AsynqSystem::builder(Arc::clone(connector))
        .config(
            ServerConfig::new()
                .concurrency(100)
                .statistics(watched == Watched::ByStatistics),
        )
        .handler(move |_: Task| {
            counter.add_permits(1);
            std::future::ready(Ok(()))
        })
        .spawn()
        .await
        .expect("valid");
    let all = u32::try_from(TASKS).expect("few tasks");
    left.acquire_many(all).await.expect("never closed").forget();
    let storage = system.storage().await.expect("a storage that answers");
    while storage
        .queue_info(&QueueName::default())
        .await
        .expect("it exists")
        .active
        > 0
    {
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    let took = began.elapsed();
    system.shutdown().await;
    took
}

fn measure(runtime: &Runtime, connector: &Arc<dyn Connector>, watched: Watched) -> Duration {
    runtime.block_on(fill(connector));
    let recorder = DebuggingRecorder::new();
    let _guard = (watched == Watched::ByMetrics).then(|| metrics::set_default_local_recorder(&recorder));
    runtime.block_on(drain(connector, watched))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let server = runtime.block_on(asynq_testing::redis::RedisServer::start());
    let redis = asynq::redis::RedisConnectionType::single(server.url()).expect("a valid URL");
    let places: [(&str, Arc<dyn Connector>); 2] =
        [("embedded", Arc::new(MemoryStore::new())), ("redis", Arc::new(redis))];
    for (name, connector) in &places {
        for watched in [Watched::ByStatistics, Watched::ByMetrics] {
            let mut ratios = Vec::new();
            let mut rates = Vec::new();
            measure(&runtime, connector, watched);
            for pair in 0..PAIRS {
                // The one that comes second has warmer caches: they take turns.
                let (with, without) = if pair % 2 == 0 {
                    let with = measure(&runtime, connector, watched);
                    (with, measure(&runtime, connector, Watched::Not))
                } else {
                    let without = measure(&runtime, connector, Watched::Not);
                    (measure(&runtime, connector, watched), without)
                };
                ratios.push(with.as_secs_f64() / without.as_secs_f64());
                rates.push(without.as_secs_f64());
            }
            #[expect(clippy::cast_precision_loss, reason = "ten thousand")]
            let rate = TASKS as f64 / median(rates);
            println!(
                "{name}, {watched:?}: {:.3} of the time without, at {rate:.0} tasks a second",
                median(ratios)
            );
        }
    }
}
