//! Drains the same tasks with Go asynq and with ours, in turn, on one private Redis.
//!
//! `cargo bench -p asynq-interop --bench drain -- [tasks] [rounds]`. Prints the median of each
//! and the ratio; the time is from the first handler's start until Redis shows every task
//! processed and none active. Beside it the CPU time of ours, of the process and of its Redis, for
//! one task: it says more than the clock on a machine that others use too.

use std::{
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
    // Cargo adds words of its own.
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let tasks = args.next().unwrap_or(100_000);
    let rounds = args.next().unwrap_or(3);
    println!("{tasks} no-op tasks, {rounds} rounds, medians\n");
    println!(
        "{:>11} {:>9} {:>9} {:>6} {:>14} {:>13}",
        "concurrency", "Go /s", "ours /s", "ratio", "our CPU us", "its Redis us"
    );
    for concurrency in [10, 100, 1000] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        let mut cpu = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let server = RedisServer::start().await;
            fill(&server, tasks).await?;
            let address = format!("127.0.0.1:{}", server.port());
            theirs.push(
                asynq_interop::bench_drain(&address, tasks as u64, concurrency as u64, Duration::from_secs(300))
                    .await
                    .per_second,
            );
            drop(server);
            let server = RedisServer::start().await;
            fill(&server, tasks).await?;
            let before = (cpu_of_us()?, cpu_of_redis(&server).await?);
            ours.push(drain(&server, tasks, concurrency).await?);
            cpu.0.push((cpu_of_us()? - before.0) * 1e6 / tasks as f64);
            cpu.1
                .push((cpu_of_redis(&server).await? - before.1) * 1e6 / tasks as f64);
        }
        let (theirs, ours) = (median(theirs), median(ours));
        println!(
            "{concurrency:>11} {theirs:>9.0} {ours:>9.0} {:>6.1} {:>14.1} {:>13.1}",
            ours / theirs,
            median(cpu.0),
            median(cpu.1)
        );
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
    for chunk in (0..tasks).collect::<Vec<_>>().chunks(2000) {
        let batch: Result<Vec<Task>, _> = chunk.iter().map(|_| Task::new("bench:noop", b"{}")).collect();
        for answer in client.enqueue_many(batch?).await {
            answer?;
        }
    }
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

/// Seconds of CPU that this process has used.
fn cpu_of_us() -> Result<f64, Failure> {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<f64> = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_A_SECOND)
}

/// Seconds of CPU that the server has used.
async fn cpu_of_redis(server: &RedisServer) -> Result<f64, Failure> {
    let info = server.client().await.cmd(&["INFO", "cpu"]).await;
    let text = info.text();
    let figures = text.lines().filter_map(|line| {
        line.strip_prefix("used_cpu_sys:")
            .or_else(|| line.strip_prefix("used_cpu_user:"))
    });
    Ok(figures.map(str::trim).map(str::parse::<f64>).sum::<Result<f64, _>>()?)
}
