//! Findings about queues, servers and schedulers of Go.

use std::{sync::Arc, time::Duration};

use asynq::{
    Inspector,
    broker::Storage,
    inspector::{Findings, FindingsOptions},
};
use asynq_interop::{GoScheduler, GoTask, ServerProcess};

use crate::pair::{Pair, eventually};

async fn find(storage: &Arc<dyn Storage>) -> Findings {
    // What waits at all waits for too long.
    let options = FindingsOptions::new()
        .unserved_after(Duration::ZERO)
        .clock_skew(Duration::from_secs(60));
    Inspector::new(Arc::clone(storage))
        .findings_with(&options)
        .await
        .unwrap()
}

/// Waits until these kinds are found, and no others.
async fn until(storage: &Arc<dyn Storage>, expected: &[&str]) -> Findings {
    let found = async || {
        let found = find(storage).await;
        let names: Vec<_> = found.iter().map(|finding| finding.kind.name()).collect();
        if names == expected { Ok(found) } else { Err(names) }
    };
    eventually(&format!("{expected:?}"), found).await
}

/// Two schedulers of Go with one entry each enqueue the task of each tick, until one is shut down. No server takes from
/// the queue.
#[tokio::test]
async fn two_schedulers_of_go_with_one_entry_are_found() {
    let pair = Pair::start().await;
    let (address, beat) = (pair.redis.address(), Duration::from_secs(1));
    let task = GoTask::new("report");
    let mut schedulers = Vec::new();
    for _ in 0..2 {
        let mut scheduler = GoScheduler::start(&address, beat).await;
        scheduler.register("@every 1s", &task).await;
        schedulers.push(scheduler);
    }
    let found = until(&pair.storage, &["no_consumer", "repeated_entry"]).await;
    assert!(
        found.findings[1]
            .to_string()
            .starts_with("2 scheduler entries enqueue \"report\" at \"@every 1s\"")
    );
    for scheduler in &mut schedulers {
        scheduler.enqueued().await.unwrap();
    }
    schedulers.pop().unwrap().shutdown().await;
    until(&pair.storage, &["no_consumer"]).await;
    schedulers.pop().unwrap().shutdown().await;
    // A server of Go publishes no types: nothing is known of them.
    let server = ServerProcess::go(&address).start().await;
    until(&pair.storage, &[]).await;
    server.shutdown().await;
}
