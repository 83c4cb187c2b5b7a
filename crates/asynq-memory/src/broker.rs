//! One connection to a store: the [`Broker`] side.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    broker::{
        AggregationSet, Broker, CallRecord, CallToken, Cancellations, Connector, EnqueueRequest, Env, Exchanged,
        Expired, ExpiredPlace, Forwarded, GroupLimits, Healed, LeaseRef, LeaseUntil, LeasedTask, Poison, Recovery,
        Settlement, Storage, Tick, TickStart, Ticked, Want, Watch, WatchKind,
    },
    clock::Jumps,
    error::{BrokerError, EnqueueError, SettleError},
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskInfo, WorkerInfo},
    names::{GroupKey, QueueName, TaskId},
    periodic::{EntryKey, TickMark},
    progress::Progress,
    raw::RawState,
    statistics::StatisticsPart,
    tree::{ServerIdentity, TreeNode},
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::coop::consume_budget;

use crate::{
    MemoryStore,
    model::{Data, Queue},
    ops::{enqueue, exchange, forward, groups, heal, janitor, lease, publish, recover, statistics, ticks, watch},
};

/// A connection to a [`MemoryStore`]. Cheap to clone; clones are one connection. It closes by
/// [`close`](Broker::close) or with its last clone: its watches are then lost and its
/// subscriptions end, while the store and other connections go on.
#[derive(Clone)]
pub struct MemoryBroker(Arc<Connection>);

struct Connection {
    store: MemoryStore,
    env: Env,
    number: u64,
    uuid: String,
    calls: AtomicU64,
    closed: AtomicBool,
    jumps: Mutex<Jumps>,
}

impl Connection {
    fn close(&self) {
        let mut data = self.store.data();
        self.closed.store(true, Ordering::Relaxed);
        data.disconnect(self.number);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl MemoryBroker {
    /// A connection to a new store of its own.
    #[must_use]
    pub fn new(env: Env) -> Self {
        MemoryStore::new().open(env)
    }

    pub(crate) fn on(store: MemoryStore, env: Env, number: u64) -> Self {
        let (calls, closed) = (AtomicU64::new(0), AtomicBool::new(false));
        let uuid = env.entropy.uuid();
        Self(Arc::new(Connection {
            store,
            env,
            number,
            uuid,
            calls,
            closed,
            jumps: Mutex::default(),
        }))
    }

    /// The store it is connected to.
    #[must_use]
    pub fn store(&self) -> &MemoryStore {
        &self.0.store
    }

    /// The keys and values that Redis would hold now.
    #[doc(hidden)]
    #[must_use]
    pub fn raw_state(&self) -> RawState {
        let now = self.0.env.clock.now();
        self.0.store.data().raw(now)
    }

    /// The whole seconds that a key still lives, rounded as Redis does: for tests. `None`: for ever,
    /// or there is no such key.
    #[doc(hidden)]
    #[must_use]
    pub fn ttl(&self, key: &str) -> Option<i64> {
        let lives = self.0.store.data().expiry(key)? - self.0.env.clock.now();
        Some((lives.num_milliseconds() + 500) / 1000).filter(|_| lives > TimeDelta::zero())
    }

    /// Returns whether tasks and sets may be taken from their owners; not so soon after a jump of the time that
    /// living owners may not have extended their leases since.
    fn may_take_over(&self) -> bool {
        let clock = &self.0.env.clock;
        let mut jumps = self.0.jumps.lock().unwrap_or_else(PoisonError::into_inner);
        jumps.look(clock);
        !jumps.is_settling(clock)
    }

    /// Runs one operation on the data, at this moment of the connection's clock.
    pub(crate) fn with<T>(&self, operation: impl FnOnce(&mut Data, DateTime<Utc>) -> T) -> Result<T, BrokerError> {
        let mut data = self.0.store.data();
        if self.0.closed.load(Ordering::Relaxed) {
            return Err(BrokerError::Closed);
        }
        let now = self.0.env.clock.now();
        data.latest = data.latest.max(now);
        Ok(operation(&mut data, now))
    }

    /// Runs one operation on a queue.
    pub(crate) fn with_queue<T, E: From<BrokerError>>(
        &self,
        queue: &QueueName,
        operation: impl FnOnce(&mut Queue, DateTime<Utc>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with(|data, now| operation(data.queue(queue), now))?
    }
}

impl Default for MemoryBroker {
    /// A connection to a new store of its own, on the system's clock.
    fn default() -> Self {
        Self::new(Env::default())
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker")
            .field("connection", &self.0.number)
            .finish_non_exhaustive()
    }
}

fn log(poisoned: &[Poison], operation: &str) {
    for Poison { queue, id, kind } in poisoned {
        tracing::warn!(%queue, %id, %kind, operation, "damaged task put aside");
    }
}

/// Operations never wait, so a caller that loops over them would never let others run: those on
/// the hot path take part in tokio's budget before they begin.
impl MemoryStore {
    /// A connection of its own number, with its own token and clock.
    #[must_use]
    pub fn open(&self, env: Env) -> MemoryBroker {
        let number = self.next_connection();
        MemoryBroker::on(self.clone(), env, number)
    }
}

#[async_trait]
impl Connector for MemoryStore {
    async fn connect(&self, env: Env) -> Result<Arc<dyn Storage>, BrokerError> {
        Ok(Arc::new(self.open(env)))
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn enqueue(&self, batch: &[Arc<EnqueueRequest>]) -> Vec<Result<TaskInfo, EnqueueError>> {
        consume_budget().await;
        let count = batch.len();
        let enqueued = self.with(|data, now| enqueue::enqueue_all(data, batch, now));
        enqueued.unwrap_or_else(|_| (0..count).map(|_| Err(BrokerError::Closed.into())).collect())
    }

    async fn enqueue_tick(&self, request: EnqueueRequest, tick: &Tick) -> Result<Ticked, EnqueueError> {
        consume_budget().await;
        self.with(|data, now| ticks::enqueue_tick(data, request, tick, now))?
    }

    async fn last_ticks(&self, entries: &[(QueueName, EntryKey)]) -> Vec<Result<Option<TickMark>, BrokerError>> {
        let one =
            |(queue, entry): &(QueueName, EntryKey)| self.with(|data, now| ticks::last_tick(data, queue, entry, now));
        entries.iter().map(one).collect()
    }

    async fn start_ticks(&self, starts: &[TickStart]) -> Vec<Result<Option<TickMark>, BrokerError>> {
        let one = |start: &TickStart| self.with(|data, now| ticks::start(data, start, now));
        starts.iter().map(one).collect()
    }

    fn begin(&self) -> CallRecord {
        let seq = self.0.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let lease_until = LeaseUntil::from_now(self.0.env.clock.now());
        CallRecord {
            token: CallToken::new(&self.0.uuid, seq, lease_until),
            connection: self.0.number,
            lease_until,
        }
    }

    async fn exchange(&self, call: &CallRecord, settle: &[Settlement], want: &[Want]) -> Exchanged {
        consume_budget().await;
        let exchanged = self.with(|data, now| exchange::exchange(data, call, settle, want, now));
        let answer = exchanged.unwrap_or_else(|_| exchange::refused(settle, want));
        log(&answer.poisoned, "exchange");
        answer
    }

    async fn adopt(&self, queue: &QueueName, lost: &CallRecord) -> Result<Vec<LeasedTask>, BrokerError> {
        let (adopted, poisoned) = self.with_queue(queue, |queue, now| lease::adopt(queue, lost, now))?;
        log(&poisoned, "adopt");
        Ok(adopted)
    }

    async fn extend_leases(&self, batch: Vec<LeaseRef>) -> Vec<Result<LeaseUntil, SettleError>> {
        let extended = self.with(|data, now| lease::extend(data, self.0.number, &batch, now));
        extended.unwrap_or_else(|_| batch.iter().map(|_| Err(BrokerError::Closed.into())).collect())
    }

    async fn watch(&self, queues: &[QueueName], kind: WatchKind) -> Result<Watch, BrokerError> {
        self.with(|data, _| watch::watch(data, queues, kind, self.0.number))
    }

    async fn forward(&self, queue: &QueueName, limit: u32) -> Result<Forwarded, BrokerError> {
        consume_budget().await;
        let forwarded = self.with_queue(queue, |queue, now| forward::forward(queue, limit, now))?;
        log(&forwarded.poisoned, "forward");
        Ok(forwarded)
    }

    async fn expired_after(
        &self,
        queue: &QueueName,
        grace: Duration,
        limit: u32,
        place: &ExpiredPlace,
    ) -> Result<Expired, BrokerError> {
        consume_budget().await;
        if !self.may_take_over() {
            return Ok(Expired::default());
        }
        let expired = self.with_queue(queue, |queue, now| recover::expired(queue, grace, limit, place, now))?;
        log(&expired.poisoned, "expired");
        Ok(expired)
    }

    async fn recover(&self, batch: Vec<Recovery>) -> Vec<Result<(), SettleError>> {
        let one = |recovery: &Recovery| {
            self.with_queue(&recovery.task.queue, |queue, now| {
                recover::recover(queue, recovery, now)
            })
        };
        batch.iter().map(one).collect()
    }

    async fn claim_heal(&self, queue: &QueueName, lasts: Duration) -> Result<bool, BrokerError> {
        self.with_queue(queue, |queue, now| Ok(heal::claim(queue, self.0.number, lasts, now)))
    }

    async fn heal(&self, queue: &QueueName, limit: u32) -> Result<Healed, BrokerError> {
        let healed = self.with_queue(queue, |queue, now| heal::heal(queue, limit, now))?;
        log(&healed.poisoned, "heal");
        Ok(healed)
    }

    async fn delete_expired(&self, queue: &QueueName, limit: u32) -> Result<u32, BrokerError> {
        consume_budget().await;
        self.with_queue(queue, |queue, now| janitor::delete_expired(queue, limit, now))
    }

    async fn list_groups(&self, queue: &QueueName) -> Result<Vec<GroupKey>, BrokerError> {
        self.with_queue(queue, |queue, _| groups::names(queue))
    }

    async fn collect_group(
        &self,
        queue: &QueueName,
        group: &GroupKey,
        limits: GroupLimits,
    ) -> Result<Option<AggregationSet>, BrokerError> {
        let set_id = self.0.env.entropy.uuid();
        let collected = self.with_queue(queue, |queue, now| groups::collect(queue, group, limits, set_id, now));
        let (set, poisoned) = collected?;
        log(&poisoned, "collect_group");
        Ok(set)
    }

    async fn extend_aggregation(&self, set: &AggregationSet) -> Result<LeaseUntil, BrokerError> {
        self.with_queue(&set.queue, |queue, now| groups::extend(queue, set, now))
    }

    async fn release_aggregation(&self, set: &AggregationSet, wait: Duration) -> Result<LeaseUntil, BrokerError> {
        self.with_queue(&set.queue, |queue, now| groups::release(queue, set, wait, now))
    }

    async fn finish_aggregation(&self, set: &AggregationSet, result: EnqueueRequest) -> Result<TaskInfo, EnqueueError> {
        self.with(|data, now| groups::finish(data.publish(set.queue.as_str()), set, result, now))?
    }

    async fn reclaim_aggregation_sets(&self, queue: &QueueName) -> Result<u32, BrokerError> {
        if !self.may_take_over() {
            return Ok(0);
        }
        self.with_queue(queue, groups::reclaim)
    }

    async fn write_server_state(
        &self,
        server: &ServerInfo,
        workers: &[WorkerInfo],
        ttl: Duration,
    ) -> Result<(), BrokerError> {
        self.with(|data, now| publish::write_server(data, server, workers, ttl, now))?
    }

    async fn clear_server_state(&self, server: &ServerInfo) -> Result<(), BrokerError> {
        self.with(|data, _| publish::clear_server(data, server))
    }

    async fn write_tree(&self, server: &ServerIdentity, tree: &TreeNode, ttl: Duration) -> Result<(), BrokerError> {
        self.with(|data, now| publish::write_tree(data, server, tree, ttl, now))?
    }

    async fn clear_tree(&self, server: &ServerIdentity) -> Result<(), BrokerError> {
        self.with(|data, _| publish::clear_tree(data, server))
    }

    async fn write_statistics(
        &self,
        queue: &QueueName,
        server: &ServerIdentity,
        parts: &[StatisticsPart],
    ) -> Result<u64, BrokerError> {
        self.with_queue(queue, |queue, now| statistics::write(queue, server, parts, now))
    }

    async fn write_scheduler_entries(
        &self,
        scheduler_id: &str,
        entries: &[SchedulerEntry],
        ttl: Duration,
    ) -> Result<(), BrokerError> {
        self.with(|data, now| publish::write_entries(data, scheduler_id, entries, ttl, now))?
    }

    async fn clear_scheduler_entries(&self, scheduler_id: &str) -> Result<(), BrokerError> {
        self.with(|data, _| publish::clear_entries(data, scheduler_id))
    }

    async fn record_enqueue_event(&self, entry_id: &str, event: &SchedulerEnqueueEvent) -> Result<(), BrokerError> {
        self.with(|data, _| publish::record_event(data, entry_id, event))?
    }

    async fn clear_scheduler_history(&self, entry_id: &str) -> Result<(), BrokerError> {
        self.with(|data, _| publish::clear_history(data, entry_id))
    }

    async fn write_result(&self, lease: &LeaseRef, result: Bytes) -> Result<usize, SettleError> {
        self.with_queue(&lease.queue, |queue, _| lease::write_result(queue, lease, result))
    }

    async fn write_progress(&self, lease: &LeaseRef, progress: Progress) -> Result<(), SettleError> {
        self.with_queue(&lease.queue, |queue, _| lease::write_progress(queue, lease, &progress))
    }

    async fn publish_cancellation(&self, id: &TaskId) -> Result<(), BrokerError> {
        self.with(|data, _| publish::cancel(data, id))
    }

    async fn subscribe_cancellations(&self) -> Result<Cancellations, BrokerError> {
        self.with(|data, _| Cancellations::new(publish::subscribe(data, self.0.number)))
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.with(|_, _| ())
    }

    async fn close(&self) {
        self.0.close();
    }
}
