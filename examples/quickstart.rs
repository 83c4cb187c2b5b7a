//! A first look: tasks are enqueued, run, retried and scheduled, and the supervision tree is shown.
//!
//! ```text
//! cargo run --example quickstart                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example quickstart    # the same on Redis
//! ```
//!
//! Expected: five mails are sent at once; a payment fails and is retried a second later; a digest runs a
//! second after it was enqueued; the report keeps its result. It ends by itself with status 0.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq::{AsynqSystem, Connector, Error, Result, RetryDelay, ServerConfig, Task, memory::MemoryStore};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = storage()?;
    println!("storage: {}", storage.describe());

    let (done, mut finished) = mpsc::unbounded_channel();
    let failed_once = Arc::new(Mutex::new(false));
    let system = AsynqSystem::builder(storage)
        .config(
            ServerConfig::new()
                .concurrency(4)
                .queues([("critical", 6), ("default", 3), ("low", 1)])
                .retry_delay(RetryDelay::new(|_, _, _| Duration::from_secs(1))),
        )
        .handler(move |task: Task| {
            let (done, failed_once) = (done.clone(), Arc::clone(&failed_once));
            async move {
                work(&task, &failed_once)
                    .await
                    .inspect(|()| drop(done.send(task.get_type().to_owned())))
            }
        })
        .spawn()
        .await?;

    let client = system.client();
    for user in 1..=5 {
        let info = client
            .enqueue(Task::new_with_json("email:send", &user)?.with_queue("critical"))
            .await?;
        println!("enqueued  {} {} to {}", info.task_type, user, info.queue);
    }
    let flaky = client.enqueue(Task::new("payment:charge", b"once more")?).await?;
    println!("enqueued  {} to {}", flaky.task_type, flaky.queue);
    let later = Task::new("email:digest", b"weekly")?
        .with_queue("low")
        .with_process_in(Duration::from_secs(1));
    let later = client.enqueue(later).await?;
    if let Some(time) = later.next_process_at {
        println!("scheduled {} for {}", later.task_type, time.format("%T UTC"));
    }
    let report = Task::new("report:build", b"")?.with_retention(Duration::from_secs(3600));
    let report = client.enqueue(report).await?;
    println!("enqueued  {} to {}", report.task_type, report.queue);

    for _ in 0..8 {
        finished
            .recv()
            .await
            .ok_or(Error::other("the system ended before its tasks"))?;
    }

    if let Some(result) = client.wait(&report, Duration::from_secs(10)).await?.result() {
        println!("result of {}: {}", report.task_type, String::from_utf8_lossy(result));
    }

    if let Some(tree) = system.tree() {
        println!("{tree}");
    }
    system.shutdown().await;
    println!("the system has ended");
    Ok(())
}

async fn work(task: &Task, failed_once: &Mutex<bool>) -> Result<()> {
    println!(
        "processing {} {}",
        task.get_type(),
        String::from_utf8_lossy(task.get_payload())
    );
    match task.get_type() {
        "payment:charge" if !std::mem::replace(&mut *failed_once.lock().map_err(|_| Error::other("lock"))?, true) => {
            Err(Error::other("card reader is busy"))
        }
        "report:build" => {
            let context = task.context().ok_or(Error::other("not in a handler"))?;
            context.write_result("42 pages").await.map(drop)
        }
        _ => Ok(()),
    }
}

/// Returns the Redis at `REDIS_URL` if that is set, else the embedded broker, which needs no server.
fn storage() -> Result<Arc<dyn Connector>> {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("REDIS_URL") {
        return Ok(Arc::new(asynq::redis::RedisConnectionType::single(url)?));
    }
    Ok(Arc::new(MemoryStore::new()))
}
