//! Reads the facts from a storage.

use std::{error::Error as _, future::Future, time::Duration};

use chrono::Utc;
use futures::{StreamExt as _, stream};
use tokio::time::timeout;

use super::{
    facts::{EntryReading, Facts, QueueReading, Unread},
    options::FindingsOptions,
    rules::{Consumers, repeated_entries},
};
use crate::{
    error::BrokerError,
    inspect::{Inspect, ListFilter, PageRequest, ScanLimits},
    names::QueueName,
    task_state::TaskState,
};

/// Number of enqueue events that are read of a scheduler entry.
const EVENTS: u32 = 10;

type Read<T> = Result<T, BrokerError>;

/// Reads all facts, and returns them with the number of queues that were left out. A part that cannot be read is noted in
/// [`Facts::unread`], and keeps no other part from being read.
///
/// # Errors
/// That of the list of queues.
///
/// # Cancel safety
/// Safe.
pub async fn read_facts<B: Inspect + ?Sized>(storage: &B, options: &FindingsOptions) -> Read<(Facts, usize)> {
    let mut names = within(options.queue_timeout, storage.queues()).await?;
    let left_out = names.len().saturating_sub(options.max_queues);
    names.truncate(options.max_queues);
    let mut facts = Facts::default();
    read_servers(storage, options, &mut facts).await;
    read_entries(storage, options, &mut facts).await;
    read_storage(storage, options, &mut facts).await;
    let servers = facts.servers.as_deref();
    let consumers = servers.map(|servers| Consumers::of(servers, &facts.trees));
    let readings = names.into_iter().map(|queue| {
        let tell_types = consumers.as_ref().is_some_and(|all| all.tell_their_types(&queue));
        read_queue(storage, queue, tell_types, options)
    });
    let mut readings = stream::iter(readings).buffered(options.at_once);
    while let Some(reading) = readings.next().await {
        match reading {
            Ok(reading) => facts.queues.push(reading),
            Err((queue, error)) => facts.unread.push(unread(Some(queue), "it", &error)),
        }
    }
    drop(readings);
    // The times in the facts are those of the storage.
    let times = facts.queues.iter().map(|reading| reading.facts.timestamp);
    facts.now = times.max().unwrap_or_else(Utc::now);
    Ok((facts, left_out))
}

async fn read_queue<B: Inspect + ?Sized>(
    storage: &B,
    queue: QueueName,
    tell_types: bool,
    options: &FindingsOptions,
) -> Result<QueueReading, (QueueName, BrokerError)> {
    let read = async {
        let facts = storage.queue_facts(&queue, options.late_after).await?;
        let mut reading = QueueReading::new(facts);
        let sample = async |state, count| {
            if options.sample == 0 || count == 0 {
                return Ok(Vec::new());
            }
            let limits = ScanLimits {
                tasks: options.sample,
                ..ScanLimits::default()
            };
            let step = storage
                .scan_tasks(&queue, &ListFilter::State(state), None, limits)
                .await?;
            Ok::<_, BrokerError>(step.tasks.into_iter().map(|task| task.info).collect())
        };
        // Samples are only for types that nobody handles, if all servers tell theirs, and for storms.
        if tell_types {
            reading.pending = sample(TaskState::Pending, reading.facts.pending).await?;
        }
        if tell_types || reading.facts.retry >= options.retry_storm {
            reading.retry = sample(TaskState::Retry, reading.facts.retry).await?;
        }
        Ok(reading)
    };
    let read = within(options.queue_timeout, read).await;
    read.map_err(|error| (queue, error))
}

async fn read_servers<B: Inspect + ?Sized>(storage: &B, options: &FindingsOptions, facts: &mut Facts) {
    // The trees first: a server that starts meanwhile is then not known to be ours, which makes no finding.
    match within(options.queue_timeout, storage.trees()).await {
        Ok(trees) => facts.trees = trees,
        Err(error) => facts.unread.push(unread(None, "the supervision trees", &error)),
    }
    match within(options.queue_timeout, storage.servers()).await {
        Ok(servers) => facts.servers = Some(servers),
        Err(error) => facts.unread.push(unread(None, "the list of servers", &error)),
    }
}

async fn read_entries<B: Inspect + ?Sized>(storage: &B, options: &FindingsOptions, facts: &mut Facts) {
    let entries = match within(options.queue_timeout, storage.scheduler_entries()).await {
        Ok(entries) => entries,
        Err(error) => return facts.unread.push(unread(None, "the list of scheduler entries", &error)),
    };
    let page = PageRequest::new(1, EVENTS);
    for entry in repeated_entries(&entries) {
        match within(options.queue_timeout, storage.enqueue_events(&entry.id, page)).await {
            Ok(events) => facts.entries.push(EntryReading::new(entry.clone(), events)),
            Err(error) => return facts.unread.push(unread(None, "the history of the schedulers", &error)),
        }
    }
}

async fn read_storage<B: Inspect + ?Sized>(storage: &B, options: &FindingsOptions, facts: &mut Facts) {
    let read = async { Ok(storage.storage_facts().await) };
    let found = within(options.queue_timeout, read).await;
    for found in found.unwrap_or_else(|error| vec![Err(error)]) {
        match found {
            Ok(found) => facts.storage.push(found),
            Err(error) => facts.unread.push(unread(None, "the state of Redis", &error)),
        }
    }
}

/// The beginning of our own cause, which names nobody.
const LATE: &str = "no answer within";

fn unread(queue: Option<QueueName>, part: &'static str, error: &BrokerError) -> Unread {
    // The causes name hosts and users of the storage, and a finding is shown to many.
    let (name, cause) = (queue.as_ref().map(QueueName::as_str), error.source());
    tracing::warn!(queue = name, part, %error, cause, "a part of the storage cannot be read");
    let late = cause.map(ToString::to_string).filter(|cause| cause.starts_with(LATE));
    Unread {
        queue,
        part,
        error: late.unwrap_or_else(|| error.to_string()),
    }
}

/// An answer in time.
async fn within<T>(limit: Duration, read: impl Future<Output = Read<T>>) -> Read<T> {
    match timeout(limit, read).await {
        Ok(answer) => answer,
        Err(_) => Err(BrokerError::unavailable(format!("{LATE} {limit:?}"))),
    }
}
