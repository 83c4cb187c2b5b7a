//! The whole storage.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use asynq_core::{broker::CancelRequest, error::BrokerError, names::QueueName, raw::RawValue, trail::TrailEntry};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use super::{Published, Queue, ZSet};

/// The data: all keys, and all subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Data {
    /// `asynq:queues`.
    pub names: BTreeSet<QueueName>,
    /// Everything under `asynq:{Q}:`.
    pub queues: BTreeMap<QueueName, Queue>,
    /// `asynq:servers` and what it lists.
    pub servers: Published,
    /// `asynq:workers` and what it lists.
    pub workers: Published,
    /// `asynq:schedulers` and what it lists.
    pub schedulers: Published,
    /// `asynq:x:trees` and what it lists.
    pub trees: Published,
    /// `asynq:scheduler_history:<id>`, by id; score: when the event was.
    pub history: BTreeMap<String, ZSet<Bytes>>,
    /// `asynq:x:audit`, with the number of each act.
    pub trail: VecDeque<(u64, TrailEntry)>,
    /// Keys outside of all queues that hold another type than the layout says, or that it does not
    /// know. Only strangers and damage put one here.
    pub misfits: BTreeMap<String, RawValue>,
    /// Subscribers of `asynq:cancel`.
    pub subscribers: Vec<Subscriber>,
    /// The latest time that any connection brought.
    pub latest: DateTime<Utc>,
}

/// One subscription to cancel requests.
#[derive(Debug)]
pub(crate) struct Subscriber {
    /// The connection that it belongs to.
    pub connection: u64,
    /// Destination of requests.
    pub requests: mpsc::Sender<CancelRequest>,
}

impl Data {
    /// The keys of a queue, to be changed.
    pub(crate) fn queue(&mut self, name: &QueueName) -> &mut Queue {
        self.queues
            .entry(name.clone())
            .or_insert_with(|| Queue::new(name.clone()))
    }

    /// The keys of a queue, whose name is put into the index: every enqueue does so
    /// (differences.md#the-index-of-queues).
    pub(crate) fn publish(&mut self, name: &str) -> &mut Queue {
        if !self.names.contains(name) {
            self.names.insert(QueueName::from_storage(name));
        }
        self.queue(&QueueName::from_storage(name))
    }

    /// Returns when a key ends; `None`: never, or there is no such key.
    pub(crate) fn expiry(&self, key: &str) -> Option<DateTime<Utc>> {
        let published = [&self.servers, &self.workers, &self.schedulers, &self.trees]
            .into_iter()
            .find_map(|of| of.expiry(key));
        published.or_else(|| self.queues.values().find_map(|queue| queue.expiry(key)))
    }

    /// Refuses an operation on a key outside of all queues that holds another type.
    pub(crate) fn check(&self, key: &str) -> Result<(), BrokerError> {
        match self.misfits.contains_key(key) {
            true => Err(BrokerError::WrongType { key: key.to_owned() }),
            false => Ok(()),
        }
    }

    /// Forgets a connection: its watches are lost and its subscriptions end.
    pub(crate) fn disconnect(&mut self, connection: u64) {
        for queue in self.queues.values_mut() {
            queue.on_pending.lose(connection);
            queue.on_delayed.lose(connection);
        }
        self.subscribers
            .retain(|subscriber| subscriber.connection != connection);
    }
}
