//! Progress and result, which a handler stores with its task.
//!
//! ```text
//! cargo run --example result_writer                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example result_writer    # the same on Redis
//! ```
//!
//! Expected: the progress of a report in four steps, then its result, which is kept for a minute. A real
//! server would run until a signal; this one ends by itself, with status 0, when its task is done.

mod common;

use std::{sync::Arc, time::Duration};

use asynq::{Client, Error, Result, ServeMux, Server, ServerConfig, Task, TaskContext, client::Waited};

/// A queue of its own: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-results";

async fn build(run: TaskContext) -> Result<()> {
    for (percent, note) in [(25, "read"), (50, "sorted"), (75, "drawn"), (100, "printed")] {
        tokio::time::sleep(Duration::from_millis(200)).await;
        // Each call writes to the storage, so a handler of many steps should report only some of them.
        run.set_progress(percent, note).await?;
    }
    // Kept with the task for its retention; without a retention it is deleted with the task.
    let written = run.write_result("42 pages").await?;
    println!("wrote a result of {written} bytes");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;

    let mut mux = ServeMux::new();
    mux.route_on("report:build", build);
    let mut server = Server::new(Arc::clone(&storage), ServerConfig::new().queues([(QUEUE, 1)])).await?;
    server.start(mux).await?;

    let client = Client::new(storage).await?;
    let report = Task::new("report:build", b"may")?
        .with_queue(QUEUE)
        .with_max_retry(0)
        .with_retention(Duration::from_secs(60));
    let report = client.enqueue(report).await?;

    // Any process that knows queue and id can wait for the end. This one looks at the progress every 50 ms.
    let mut seen = None;
    let done = loop {
        let (info, has_ended) = match client.wait(&report, Duration::from_millis(50)).await? {
            Waited::Completed(info) => (info, true),
            Waited::NotYet(info) => (info, false),
            Waited::Archived(info) => return Err(Error::other(info.last_error)),
            other => return Err(Error::other(format!("its end was missed: {other:?}"))),
        };
        if info.progress != seen {
            seen.clone_from(&info.progress);
            if let Some(progress) = &seen {
                println!("{:3} %: {}", progress.percent, progress.note);
            }
        }
        if has_ended {
            break info;
        }
    };
    let result = done.result.unwrap_or_default();
    println!(
        "{} is {}: {}",
        done.task_type,
        done.state,
        String::from_utf8_lossy(&result)
    );
    server.shutdown().await;
    client.close().await;
    Ok(())
}
