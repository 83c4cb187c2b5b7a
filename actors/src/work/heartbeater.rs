//! The heartbeater: extends the leases of tasks in flight, and shows the server and its tree to the tools.
//!
//! It receives no messages. It waits a little for the extensions of each queue, and for one write per beat. On a
//! restart nothing is lost: the leases are in the in-flight table, and a restart takes far less than one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq_core::{
    BrokerError, Entropy, QueueName, ServerInfo, SettleError, Storage, WorkerInfo,
    broker::{LeaseRef, LeaseUntil},
    info::ServerStatus,
    tree::ServerIdentity,
};
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::{
    broker::BrokerHandle,
    in_flight::table::Table,
    metrics::unsettled,
    per_queue::passes::{Pace, Passes},
    supervision::{chore::Chore, tree::Tree},
};

/// The wait after a failure never exceeds this (rules.md#leases-first).
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// Longest time that one extension may take; a lease is worth three of them.
const EXTEND_WITHIN: Duration = Duration::from_secs(8);
/// Longest time that the server's entry may take to be written.
const SHOW_WITHIN: Duration = Duration::from_secs(5);
/// Largest part of a running task's payload that is shown. It is written with every beat.
const SHOWN_BYTES: usize = 64 << 10;
/// Longest time that the last act may take.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// The identity of this server.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) server: ServerIdentity,
    pub(crate) concurrency: i32,
    pub(crate) queues: BTreeMap<String, i32>,
    pub(crate) strict_priority: bool,
    pub(crate) start_time: DateTime<Utc>,
    /// Patterns of the task types that have a handler, if they are known.
    pub(crate) handles: Option<Vec<String>>,
}

pub(crate) struct Heartbeater {
    table: Arc<Table>,
    broker: BrokerHandle,
    identity: Identity,
    interval: Duration,
    tree: Tree,
    extensions: Passes<()>,
}

/// Extends leases of one queue.
async fn extend(table: &Table, storage: &dyn Storage, leases: Vec<LeaseRef>) -> Result<(), BrokerError> {
    let mut answers = storage.extend_leases(leases.clone()).await;
    let failed = |answer: &Result<LeaseUntil, SettleError>| matches!(answer, Err(SettleError::Broker(_)));
    let failed = answers.iter().position(failed);
    let failed = failed.map(|place| std::mem::replace(&mut answers[place], Err(SettleError::NoLease)));
    table.extended(&leases, answers);
    match failed {
        Some(Err(SettleError::Broker(error))) => Err(error),
        _ => Ok(()),
    }
}

impl Heartbeater {
    pub(crate) fn new(
        table: Arc<Table>,
        broker: BrokerHandle,
        identity: Identity,
        interval: Duration,
        tree: Tree,
        entropy: Entropy,
    ) -> Self {
        let pace = Pace {
            interval: Duration::ZERO,
            longest_retry: LONGEST_RETRY.min(interval),
            within: EXTEND_WITHIN,
            tells: true,
        };
        Self {
            table,
            broker,
            identity,
            interval,
            tree,
            extensions: Passes::new("extend leases", pace, entropy),
        }
    }

    fn server(&self, active: usize) -> ServerInfo {
        let Identity {
            server: ServerIdentity { host, pid, server_id },
            concurrency,
            queues,
            strict_priority,
            start_time,
            handles: _,
        } = self.identity.clone();
        let status = match (self.table.is_closing(), self.table.is_fetching()) {
            (true, _) => ServerStatus::Closed,
            (false, true) => ServerStatus::Active,
            (false, false) => ServerStatus::Stopped,
        };
        ServerInfo {
            host,
            pid,
            server_id,
            concurrency,
            queues,
            strict_priority,
            status,
            start_time,
            active_worker_count: i32::try_from(active).unwrap_or(i32::MAX),
        }
    }

    /// Extends the leases; whether all of them have an answer. Each queue is asked for itself, once at a
    /// time, and its answers count as they come. Safe to give up half-way: an extension only ever
    /// lengthens a lease that is ours.
    async fn extend(&self, storage: &Arc<dyn Storage>) -> bool {
        let mut leases: BTreeMap<QueueName, Vec<LeaseRef>> = BTreeMap::new();
        for lease in self.table.leases() {
            match leases.get_mut(&lease.queue) {
                Some(of_queue) => of_queue.push(lease),
                None => drop(leases.insert(lease.queue.clone(), vec![lease])),
            }
        }
        let job = |queue: QueueName| {
            let leases = leases.get(&queue).cloned().unwrap_or_default();
            let (table, storage) = (Arc::clone(&self.table), Arc::clone(storage));
            async move { extend(&table, &*storage, leases).await }
        };
        let round = self.extensions.pass(leases.keys(), job).await;
        round.is_ok_and(|round| round.troubled == 0)
    }

    async fn show(&self, storage: &dyn Storage) -> Result<(), BrokerError> {
        let workers = self.workers();
        let server = self.server(workers.len());
        // The entry lives for two beats, in whole seconds.
        let ttl = Duration::from_secs((self.interval * 2).as_secs().max(2));
        let write = async {
            storage.write_server_state(&server, &workers, ttl).await?;
            match self.tree.snapshot() {
                Some(mut tree) => {
                    tree.handles.clone_from(&self.identity.handles);
                    storage.write_tree(&ServerIdentity::from(&server), &tree, ttl).await
                }
                None => Ok(()),
            }
        };
        match tokio::time::timeout(SHOW_WITHIN, write).await {
            Ok(written) => written,
            Err(_) => Err(BrokerError::Unavailable { source: None }),
        }
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        let running = self.table.running();
        running
            .into_iter()
            .map(|run| WorkerInfo {
                host: self.identity.server.host.clone(),
                pid: self.identity.server.pid,
                server_id: self.identity.server.server_id.clone(),
                task_id: run.id,
                task_type: run.message.r#type.clone(),
                payload: run.message.payload.slice(..run.message.payload.len().min(SHOWN_BYTES)),
                queue: run.queue,
                start_time: run.started_at,
                deadline: run.deadline,
            })
            .collect()
    }
}

#[async_trait]
impl Chore for Heartbeater {
    fn first(&self) -> Duration {
        Duration::ZERO
    }

    fn longest_retry(&self) -> Duration {
        LONGEST_RETRY.min(self.interval)
    }

    async fn pass(&self) -> Result<Duration, BrokerError> {
        unsettled("processor", self.table.unsettled(false));
        unsettled("syncer", self.table.unsettled(true));
        let storage = self.broker.storage().await?;
        // Side by side and each in its own time: what others see never holds up what they act on.
        let (extended, shown) = tokio::join!(self.extend(&storage), self.show(&*storage));
        shown?;
        // Extended again soon: a lease is worth more than a beat.
        Ok(if extended { self.interval } else { self.longest_retry() })
    }

    fn last_within(&self) -> Duration {
        LAST_WITHIN
    }

    async fn last(&self, until: Instant) {
        self.extensions.end();
        let clear = async {
            let (storage, server) = (self.broker.storage().await?, self.server(0));
            storage.clear_tree(&ServerIdentity::from(&server)).await?;
            storage.clear_server_state(&server).await
        };
        match tokio::time::timeout_at(until, clear).await {
            Ok(Ok(())) => {}
            // The entry goes by itself when its time is over.
            Ok(Err(error)) => tracing::debug!(%error, "server entry not removed"),
            Err(_) => tracing::debug!("server entry not removed in time"),
        }
    }
}
