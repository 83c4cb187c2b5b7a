//! Drains the same tasks with Go asynq and with ours, in turn, on one private Redis.
//!
//! `cargo run --release -p asynq-interop --bin drain [tasks] [rounds]`. Prints the median of each
//! and the ratio; the time is from the first handler's start until Redis shows every task
//! processed and none active.

use std::{
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use asynq::{AsynqSystem, ServerConfig, names::QueueName, redis::RedisConnectionType, task::Task};
use asynq_testing::redis::RedisServer;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let tasks = args.next().transpose()?.unwrap_or(100_000);
    let rounds = args.next().transpose()?.unwrap_or(3);
    let go = asynq_interop::go_program();
    println!("{tasks} no-op tasks, {rounds} rounds, medians\n");
    println!("{:>11} {:>12} {:>12} {:>7}", "concurrency", "Go /s", "ours /s", "ratio");
    for concurrency in [10, 100, 1000] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let server = RedisServer::start().await;
            fill(&server, tasks).await?;
            theirs.push(drain_with_go(&go, &server, tasks, concurrency)?);
            drop(server);
            let server = RedisServer::start().await;
            fill(&server, tasks).await?;
            ours.push(drain(&server, tasks, concurrency).await?);
        }
        let (theirs, ours) = (median(theirs), median(ours));
        println!("{concurrency:>11} {theirs:>12.0} {ours:>12.0} {:>7.1}", ours / theirs);
    }
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

async fn fill(server: &RedisServer, tasks: usize) -> Result<(), Failure> {
    let system = AsynqSystem::builder(RedisConnectionType::single(server.url())?)
        .spawn()
        .await?;
    let client = system.client();
    let started = Instant::now();
    for chunk in (0..tasks).collect::<Vec<_>>().chunks(2000) {
        let batch: Result<Vec<Task>, _> = chunk.iter().map(|_| Task::new("bench:noop", b"{}")).collect();
        for answer in client.enqueue_many(batch?).await {
            answer?;
        }
    }
    tracing::debug!(per_second = tasks as f64 / started.elapsed().as_secs_f64(), "enqueued");
    system.shutdown().await;
    Ok(())
}

async fn drain(server: &RedisServer, tasks: usize, concurrency: usize) -> Result<f64, Failure> {
    let first = Arc::new(OnceLock::new());
    let (began, done) = (Arc::clone(&first), Arc::new(AtomicUsize::new(0)));
    let handled = Arc::clone(&done);
    let system = AsynqSystem::builder(RedisConnectionType::single(server.url())?)
        .config(ServerConfig::new().concurrency(concurrency))
        .handler(move |_task: Task| {
            began.get_or_init(Instant::now);
            handled.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(()))
        })
        .spawn()
        .await?;
    let storage = system.storage().await?;
    let queue = QueueName::default();
    loop {
        if done.load(Ordering::Relaxed) >= tasks {
            let info = storage.queue_info(&queue).await?;
            if info.active == 0 && info.processed_total >= tasks as u64 {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = first.get().map_or(Duration::ZERO, Instant::elapsed);
    system.shutdown().await;
    Ok(tasks as f64 / took.as_secs_f64())
}

fn drain_with_go(go: &std::path::Path, server: &RedisServer, tasks: usize, concurrency: usize) -> Result<f64, Failure> {
    let output = Command::new(go)
        .args(["bench-drain", "--redis", &format!("127.0.0.1:{}", server.port())])
        .args(["--n", &tasks.to_string(), "--concurrency", &concurrency.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    figures["per_second"]
        .as_f64()
        .ok_or_else(|| "no per_second in the answer of the Go program".into())
}
