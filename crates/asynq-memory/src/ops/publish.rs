//! Records that servers and schedulers publish about themselves, and cancel requests.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use asynq_core::{
    broker::{CancelRequest, LeaseRef, MAX_SCHEDULER_EVENTS},
    error::BrokerError,
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, WorkerInfo},
    inspect::{Cursor, Page, PageRequest},
    keys::{self, own},
    names::TaskId,
    published,
    raw::RawValue,
    trail::{MAX_TRAIL, TRAIL_SLACK, TrailEntry, surplus},
    tree::{PublishedTree, ServerIdentity, TreeNode},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use crate::model::{Data, Subscriber};

/// Number of cancel requests that wait for a slow subscriber before it is cut off.
const CANCEL_BACKLOG: usize = 4096;

/// Whole seconds, at least one (layout.md#whole-seconds).
fn whole_secs(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs())
        .unwrap_or(i64::MAX)
        .clamp(1, 100 * 366 * 24 * 3600)
}

/// Publishes a server and its workers.
pub(crate) fn write_server(
    data: &mut Data,
    server: &ServerInfo,
    workers: &[WorkerInfo],
    ttl: Duration,
    now: DateTime<Utc>,
) -> Result<(), BrokerError> {
    data.check(keys::SERVERS)?;
    data.check(keys::WORKERS)?;
    let ttl = whole_secs(ttl);
    let (server_key, workers_key) = keys_of(server);
    data.servers.put(
        &server_key,
        Some(RawValue::String(published::encode_server(server))),
        ttl,
        now,
    );
    let mut running: BTreeMap<String, Bytes> = BTreeMap::new();
    for worker in workers {
        // Only values are read; the queue tells apart equal ids (differences.md#ids-in-two-queues).
        let id = worker.task_id.as_str();
        let field = if running.contains_key(id) {
            format!("{}:{id}", worker.queue)
        } else {
            id.to_owned()
        };
        running.insert(field, published::encode_worker(worker));
    }
    let running = (!running.is_empty()).then_some(RawValue::Hash(running));
    data.workers.put(&workers_key, running, ttl, now);
    Ok(())
}

/// Removes a server and its workers.
pub(crate) fn clear_server(data: &mut Data, server: &ServerInfo) {
    let (server_key, workers_key) = keys_of(server);
    data.servers.remove(&server_key);
    data.workers.remove(&workers_key);
}

fn keys_of(server: &ServerInfo) -> (String, String) {
    let ServerInfo {
        host, pid, server_id, ..
    } = server;
    (
        keys::server_info(host, *pid, server_id),
        keys::worker_info(host, *pid, server_id),
    )
}

/// The servers that live. Undecodable ones are skipped.
pub(crate) fn servers(data: &Data, now: DateTime<Utc>) -> Result<Vec<ServerInfo>, BrokerError> {
    data.check(keys::SERVERS)?;
    let decode = |value: &RawValue| match value {
        RawValue::String(bytes) => published::decode_server(bytes),
        _ => None,
    };
    Ok(data.servers.living(now).filter_map(decode).collect())
}

/// Returns what the living servers run. Undecodable workers are skipped.
pub(crate) fn workers(data: &Data, now: DateTime<Utc>) -> Result<Vec<WorkerInfo>, BrokerError> {
    data.check(keys::WORKERS)?;
    let mut workers = Vec::new();
    for value in data.workers.living(now) {
        if let RawValue::Hash(running) = value {
            workers.extend(
                running
                    .values()
                    .filter_map(|bytes| published::decode_worker(bytes.clone())),
            );
        }
    }
    Ok(workers)
}

/// Publishes the supervision tree of a server.
pub(crate) fn write_tree(
    data: &mut Data,
    server: &ServerIdentity,
    tree: &TreeNode,
    ttl: Duration,
    now: DateTime<Utc>,
) -> Result<(), BrokerError> {
    data.check(own::TREES)?;
    let json = PublishedTree::new(server, tree.clone()).encode();
    data.trees
        .put(&tree_key(server), Some(RawValue::String(json)), whole_secs(ttl), now);
    Ok(())
}

/// Removes the supervision tree of a server.
pub(crate) fn clear_tree(data: &mut Data, server: &ServerIdentity) {
    data.trees.remove(&tree_key(server));
}

fn tree_key(server: &ServerIdentity) -> String {
    own::tree(&server.host, server.pid, &server.server_id)
}

/// The trees that live. Undecodable ones are skipped.
pub(crate) fn trees(data: &Data, now: DateTime<Utc>) -> Result<Vec<PublishedTree>, BrokerError> {
    data.check(own::TREES)?;
    let decode = |value: &RawValue| match value {
        RawValue::String(json) => PublishedTree::decode(json),
        _ => None,
    };
    let mut trees: Vec<_> = data.trees.living(now).filter_map(decode).collect();
    trees.sort_by(PublishedTree::by_server);
    Ok(trees)
}

/// Publishes the entries of a scheduler. Each is pushed to the head, so the list runs backwards.
pub(crate) fn write_entries(
    data: &mut Data,
    scheduler_id: &str,
    entries: &[SchedulerEntry],
    ttl: Duration,
    now: DateTime<Utc>,
) -> Result<(), BrokerError> {
    data.check(keys::SCHEDULERS)?;
    let list: Vec<Bytes> = entries.iter().rev().map(published::encode_scheduler_entry).collect();
    let list = (!list.is_empty()).then_some(RawValue::List(list));
    data.schedulers
        .put(&keys::scheduler_entries(scheduler_id), list, whole_secs(ttl), now);
    Ok(())
}

/// The entries of the schedulers that live. Undecodable ones are skipped.
pub(crate) fn entries(data: &Data, now: DateTime<Utc>) -> Result<Vec<SchedulerEntry>, BrokerError> {
    data.check(keys::SCHEDULERS)?;
    let mut entries = Vec::new();
    for value in data.schedulers.living(now) {
        let RawValue::List(list) = value else { continue };
        for bytes in list {
            match published::decode_scheduler_entry(bytes.clone()) {
                Some(entry) => entries.push(entry),
                None => tracing::warn!("a scheduler entry cannot be read"),
            }
        }
    }
    Ok(entries)
}

/// A page of the events of an entry, newest first. Undecodable ones are skipped.
pub(crate) fn events(
    data: &Data,
    entry_id: &str,
    page: PageRequest,
) -> Result<Vec<SchedulerEnqueueEvent>, BrokerError> {
    data.check(&keys::scheduler_history(entry_id))?;
    let Some(history) = data.history.get(entry_id) else {
        return Ok(Vec::new());
    };
    let start = usize::try_from(page.start()).unwrap_or(usize::MAX);
    let size = usize::try_from(page.size()).unwrap_or(usize::MAX);
    let page = history.iter().rev().skip(start).take(size);
    let decode = |(bytes, _): (&Bytes, i64)| {
        let event = published::decode_enqueue_event(bytes);
        if event.is_none() {
            tracing::warn!(entry_id, "an enqueue event of a scheduler entry cannot be read");
        }
        event
    };
    Ok(page.filter_map(decode).collect())
}

/// Removes the entries of a scheduler.
pub(crate) fn clear_entries(data: &mut Data, scheduler_id: &str) {
    data.schedulers.remove(&keys::scheduler_entries(scheduler_id));
}

/// Adds to the history of an entry: makes room first, then adds.
pub(crate) fn record_event(data: &mut Data, entry_id: &str, event: &SchedulerEnqueueEvent) -> Result<(), BrokerError> {
    data.check(&keys::scheduler_history(entry_id))?;
    let events = data.history.entry(entry_id.to_owned()).or_default();
    let most = MAX_SCHEDULER_EVENTS as usize - 1;
    events.pop_lowest(events.len().saturating_sub(most));
    events.insert(published::encode_enqueue_event(event), event.enqueued_at.timestamp());
    Ok(())
}

/// Deletes the history of an entry.
pub(crate) fn clear_history(data: &mut Data, entry_id: &str) {
    data.history.remove(entry_id);
}

/// Adds an act to the trail, and makes room for the next ones if it has too many.
pub(crate) fn record_act(data: &mut Data, act: &TrailEntry) -> Result<(), BrokerError> {
    data.check(own::TRAIL)?;
    let number = data.trail.back().map_or(0, |(number, _)| number + 1);
    data.trail.push_back((number, act.clone()));
    if data.trail.len() > (MAX_TRAIL + TRAIL_SLACK) as usize {
        let actors: Vec<_> = data.trail.iter().map(|(_, act)| act.operator()).collect();
        let gone: HashSet<usize> = surplus(&actors, MAX_TRAIL as usize).into_iter().collect();
        let mut place = 0..;
        data.trail
            .retain(|_| place.next().is_none_or(|place| !gone.contains(&place)));
    }
    Ok(())
}

/// A part of the trail, newest first.
pub(crate) fn trail(data: &Data, cursor: &Cursor, count: u32) -> Result<Page<TrailEntry>, BrokerError> {
    data.check(own::TRAIL)?;
    let before = cursor
        .0
        .as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or(u64::MAX);
    let count = count.clamp(1, MAX_TRAIL) as usize;
    let mut older = data.trail.iter().rev().filter(|(number, _)| *number < before);
    let part: Vec<_> = older.by_ref().take(count).collect();
    let next = older.next().and(part.last());
    Ok(Page {
        next: next.map(|(number, _)| Cursor(Some(number.to_string()))),
        items: part.into_iter().map(|(_, act)| act.clone()).collect(),
    })
}

/// Tells all subscribers. One that does not keep up is cut off, as Redis does, and so learns that
/// it missed something.
pub(crate) fn cancel(data: &mut Data, id: &TaskId) {
    data.subscribers.retain(|subscriber| {
        subscriber
            .requests
            .try_send(CancelRequest {
                id: id.clone(),
                run: None,
            })
            .is_ok()
    });
}

/// Tells the subscribers of a connection again of a request that is kept, but those that are behind: the next time
/// comes soon.
pub(crate) fn repeat_cancel(data: &Data, connection: u64, lease: &LeaseRef) {
    for subscriber in data.subscribers.iter().filter(|of| of.connection == connection) {
        let _ = subscriber.requests.try_send(CancelRequest {
            id: lease.id.clone(),
            run: Some(lease.clone()),
        });
    }
}

/// A new subscription to cancel requests.
pub(crate) fn subscribe(data: &mut Data, connection: u64) -> mpsc::Receiver<CancelRequest> {
    let (requests, received) = mpsc::channel(CANCEL_BACKLOG);
    data.subscribers.retain(|subscriber| !subscriber.requests.is_closed());
    data.subscribers.push(Subscriber { connection, requests });
    received
}
