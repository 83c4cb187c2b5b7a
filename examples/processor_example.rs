//! A handler with state, and the ways in which a run can end.
//!
//! ```text
//! cargo run --example processor_example                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example processor_example    # the same on Redis
//! ```
//!
//! Expected: one payment succeeds at once; one fails and succeeds when it is retried, a second later; one is
//! snoozed, which uses no retry; one is archived at once; one is revoked, and no longer stored; one panics and is
//! archived, as it has no retries. Then the state of each task is printed. A real server would run until a signal;
//! this one ends by itself, with status 0, when its tasks are done.

mod common;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use asynq::{Client, Error, Handler, Inspector, Result, RetryDelay, Server, ServerConfig, Task, error::BrokerError};
use tokio::sync::mpsc;

/// A queue of its own: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-processor";

/// Charges payments. It is called for many tasks at once, so its state is behind a lock.
struct Cashier {
    /// Number of attempts for each payment.
    attempts: Mutex<HashMap<String, u32>>,
    /// Receives a message at the last run of each payment.
    ended: mpsc::UnboundedSender<()>,
}

impl Cashier {
    fn attempt(&self, payment: &str) -> u32 {
        // The guard is not held across an await. A panic while it is held leaves a valid count.
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = attempts.entry(payment.to_owned()).or_default();
        *count += 1;
        *count
    }
}

#[async_trait]
impl Handler for Cashier {
    async fn process_task(&self, task: Task) -> Result<()> {
        let payment: String = task.get_payload_with_json()?;
        let attempt = self.attempt(&payment);
        let retried = task.context().map_or(0, asynq::TaskContext::retried);
        println!("{payment}: attempt {attempt}, retries used: {retried}");
        if attempt == 1 {
            match payment.as_str() {
                // Retried after the retry delay, while retries are left.
                "flaky" => return Err(Error::other("the bank did not answer")),
                // Run again after this time; no retry is used.
                "early" => return Err(Error::snooze(Duration::from_secs(1))),
                _ => {}
            }
        }
        let _ = self.ended.send(());
        match payment.as_str() {
            // Archived now, though retries are left.
            "fraud" => Err(Error::skip_retry("the card is stolen")),
            // Dropped: neither retried nor kept.
            "withdrawn" => Err(Error::revoke("the order was cancelled")),
            "broken" => panic!("a bug"),
            _ => Ok(()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    // The panic is part of the example: one line for it is enough.
    std::panic::set_hook(Box::new(|panic| println!("{panic}")));
    let storage = common::storage()?;

    let config = ServerConfig::new()
        .concurrency(2)
        .queues([(QUEUE, 1)])
        .retry_delay(RetryDelay::new(|_, _, _| Duration::from_secs(1)));
    let (ended, mut ends) = mpsc::unbounded_channel();
    let cashier = Cashier {
        attempts: Mutex::default(),
        ended,
    };
    let mut server = Server::new(Arc::clone(&storage), config).await?;
    server.start(cashier).await?;

    let client = Client::new(Arc::clone(&storage)).await?;
    let inspector = Inspector::connect(storage).await?;
    let mut tasks = Vec::new();
    for payment in ["plain", "flaky", "early", "fraud", "withdrawn", "broken"] {
        let task = Task::new_with_json("payment:charge", payment)?
            .with_queue(QUEUE)
            .with_max_retry(if payment == "broken" { 0 } else { 3 })
            .with_retention(Duration::from_secs(60));
        tasks.push((payment, client.enqueue(task).await?));
    }
    common::skip(&mut ends, tasks.len()).await?;

    let system = server.system().ok_or(Error::other("the server has ended"))?;
    // Returns when the outcome of each run is written.
    system.drain().await;
    for (payment, info) in tasks {
        match inspector.get_task_info(QUEUE, info.id.as_str()).await {
            Ok(info) => {
                let (state, retried, error) = (info.state, info.retried, info.last_error);
                let error = if error.is_empty() { "none" } else { &error };
                println!("{payment:9} is {state}, retries used: {retried}, last error: {error}");
            }
            Err(Error::Broker(BrokerError::TaskNotFound { .. })) => println!("{payment:9} is gone"),
            Err(error) => return Err(error),
        }
    }
    server.shutdown().await;
    client.close().await;
    Ok(())
}
