//! The broker: implements the traits with the operations.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    Result as AsynqResult, TaskState,
    broker::{
        AggregationSet, Broker, CallRecord, CallToken, Cancellations, EnqueueRequest, Env, Exchanged, Expired,
        ExpiredPlace, Forwarded, GroupLimits, Healed, LeaseRef, LeaseUntil, LeasedTask, Recovery, Settlement, Tick,
        TickStart, Ticked, Want, Watch, WatchKind,
    },
    cancel::{Cancelled, Then},
    clock::Jumps,
    error::{BrokerError, EnqueueError, SettleError},
    info::{GroupInfo, QueueInfo, SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskInfo, WorkerInfo},
    inspect::{Breach, Cursor, Inspect, ListFilter, Page, PageRequest, TaskPage},
    names::{GroupKey, QueueName, TaskId},
    periodic::{EntryKey, TickMark},
    progress::Progress,
    tree::{PublishedTree, ServerIdentity, TreeNode},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{
    clock_sync::Freshness,
    connection_type::RedisConnectionType,
    link::owned::Owned,
    links::Links,
    ops::cancel::Subscriptions,
    ops::{self, enqueue::Unpublished},
};

/// A task storage on Redis, shared with Go asynq. Cheap to clone; clones share the connections, which
/// are replaced when they are lost and closed with the last clone or by [`close`](Broker::close).
#[derive(Clone)]
pub struct RedisBroker {
    core: Arc<Core>,
}

/// State that all operations share.
pub(crate) struct Core {
    pub(crate) link: Links,
    /// Prefix of each token.
    id: String,
    calls: AtomicU64,
    kept: Mutex<Vec<Owned>>,
    freshness: Freshness,
    jumps: Mutex<Jumps>,
    pub(crate) unpublished: Unpublished,
    /// `true` while connections may be killed, as far as is known.
    pub(crate) may_kill: AtomicBool,
    pub(crate) cancel_requests: Subscriptions,
}

impl Core {
    /// The time now, corrected to the server's.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.link.env().clock.now()
    }

    /// Corrects the clock by the server's before times are judged or leases are written.
    pub(crate) async fn refresh_clock(&self) {
        self.freshness.refresh(&self.link.env().clock, &self.link).await;
    }

    /// [`refresh_clock`](Self::refresh_clock) before tasks or sets are taken from their owners; `false` if the
    /// time has jumped so lately that living owners may not have extended their leases since.
    pub(crate) async fn may_take_over(&self) -> bool {
        self.refresh_clock().await;
        let clock = &self.link.env().clock;
        let mut jumps = lock(&self.jumps);
        jumps.look(clock);
        !jumps.is_settling(clock)
    }

    /// Returns what tells this broker from others; in front of each token.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Keeps a background task until it has ended, at most as long as the broker.
    pub(crate) fn keep(&self, task: Owned) {
        let mut kept = lock(&self.kept);
        kept.retain(|task| !task.handle().is_finished());
        kept.push(task);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker")
            .field("link", &self.core.link)
            .field("id", &self.core.id)
            .finish_non_exhaustive()
    }
}

impl RedisBroker {
    /// Connects, with the system's clock and randomness.
    ///
    /// # Errors
    /// As [`Connector::connect`](asynq_core::Connector::connect): the server cannot be reached, or
    /// it does not let us in.
    ///
    /// # Cancel safety
    /// Safe: dropping the future drops the half-open connection.
    ///
    /// ```no_run
    /// # async fn connect() -> asynq::Result<()> {
    /// use asynq::redis::{RedisBroker, RedisConnectionType};
    ///
    /// let broker = RedisBroker::new(RedisConnectionType::single("redis://127.0.0.1:6379")?).await?;
    /// # let _ = broker;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn new(connection: RedisConnectionType) -> AsynqResult<Self> {
        Ok(connection.open(Env::default()).await?)
    }

    pub(crate) fn from_links(link: Links) -> Self {
        let id = link.env().entropy.uuid();
        let core = Core {
            link,
            id,
            calls: AtomicU64::new(1),
            kept: Mutex::default(),
            freshness: Freshness::default(),
            jumps: Mutex::default(),
            unpublished: Unpublished::default(),
            may_kill: AtomicBool::new(true),
            cancel_requests: Subscriptions::default(),
        };
        Self { core: Arc::new(core) }
    }
}

#[async_trait]
impl Broker for RedisBroker {
    async fn enqueue(&self, batch: Vec<EnqueueRequest>) -> Vec<Result<TaskInfo, EnqueueError>> {
        ops::enqueue::enqueue(&self.core, batch).await
    }

    async fn enqueue_tick(&self, request: EnqueueRequest, tick: &Tick) -> Result<Ticked, EnqueueError> {
        ops::ticks::enqueue(&self.core, request, tick).await
    }

    async fn last_ticks(&self, entries: &[(QueueName, EntryKey)]) -> Vec<Result<Option<TickMark>, BrokerError>> {
        ops::ticks::last(&self.core, entries).await
    }

    async fn start_ticks(&self, starts: &[TickStart]) -> Vec<Result<Option<TickMark>, BrokerError>> {
        ops::ticks::start(&self.core, starts).await
    }

    fn begin(&self) -> CallRecord {
        let lease_until = LeaseUntil::from_now(self.core.now());
        let seq = self.core.calls.fetch_add(1, Ordering::Relaxed);
        CallRecord {
            token: CallToken::new(&self.core.id, seq, lease_until),
            connection: self.core.link.connection(),
            lease_until,
        }
    }

    async fn exchange(&self, call: &CallRecord, settle: Vec<Settlement>, want: Vec<Want>) -> Exchanged {
        ops::exchange::exchange(&self.core, call, settle, want).await
    }

    async fn adopt(&self, queue: &QueueName, lost: &CallRecord) -> Result<Vec<LeasedTask>, BrokerError> {
        ops::adopt::adopt(&self.core, queue, lost).await
    }

    fn adoption_is_final(&self) -> bool {
        self.core.may_kill.load(Ordering::Relaxed)
    }

    async fn extend_leases(&self, batch: Vec<LeaseRef>) -> Vec<Result<LeaseUntil, SettleError>> {
        ops::lease::extend(&self.core, batch).await
    }

    async fn watch(&self, queues: &[QueueName], kind: WatchKind) -> Result<Watch, BrokerError> {
        ops::watch::watch(&self.core, queues, kind).await
    }

    async fn forward(&self, queue: &QueueName, limit: u32) -> Result<Forwarded, BrokerError> {
        ops::forward::forward(&self.core, queue, limit).await
    }

    async fn expired_after(
        &self,
        queue: &QueueName,
        grace: Duration,
        limit: u32,
        place: &ExpiredPlace,
    ) -> Result<Expired, BrokerError> {
        ops::recover::expired(&self.core, queue, grace, limit, place).await
    }

    async fn recover(&self, batch: Vec<Recovery>) -> Vec<Result<(), SettleError>> {
        ops::recover::recover(&self.core, batch).await
    }

    async fn claim_heal(&self, queue: &QueueName, lasts: Duration) -> Result<bool, BrokerError> {
        ops::heal::claim(&self.core, queue, lasts).await
    }

    async fn heal(&self, queue: &QueueName, limit: u32) -> Result<Healed, BrokerError> {
        ops::heal::heal(&self.core, queue, limit).await
    }

    async fn delete_expired(&self, queue: &QueueName, limit: u32) -> Result<u32, BrokerError> {
        ops::janitor::delete_expired(&self.core, queue, limit).await
    }

    async fn list_groups(&self, queue: &QueueName) -> Result<Vec<GroupKey>, BrokerError> {
        ops::groups::names(&self.core, queue).await
    }

    async fn collect_group(
        &self,
        queue: &QueueName,
        group: &GroupKey,
        limits: GroupLimits,
    ) -> Result<Option<AggregationSet>, BrokerError> {
        ops::groups::collect(&self.core, queue, group, limits).await
    }

    async fn extend_aggregation(&self, set: &AggregationSet) -> Result<LeaseUntil, BrokerError> {
        ops::groups::extend(&self.core, set).await
    }

    async fn release_aggregation(&self, set: &AggregationSet, wait: Duration) -> Result<LeaseUntil, BrokerError> {
        ops::groups::release(&self.core, set, wait).await
    }

    async fn finish_aggregation(&self, set: &AggregationSet, result: EnqueueRequest) -> Result<TaskInfo, EnqueueError> {
        ops::groups::finish(&self.core, set, result).await
    }

    async fn reclaim_aggregation_sets(&self, queue: &QueueName) -> Result<u32, BrokerError> {
        ops::groups::reclaim(&self.core, queue).await
    }

    async fn write_server_state(
        &self,
        server: &ServerInfo,
        workers: &[WorkerInfo],
        ttl: Duration,
    ) -> Result<(), BrokerError> {
        ops::server_state::write(&self.core, server, workers, ttl).await
    }

    async fn clear_server_state(&self, server: &ServerInfo) -> Result<(), BrokerError> {
        ops::server_state::clear(&self.core, server).await
    }

    async fn write_tree(&self, server: &ServerIdentity, tree: &TreeNode, ttl: Duration) -> Result<(), BrokerError> {
        ops::tree::write(&self.core, server, tree, ttl).await
    }

    async fn clear_tree(&self, server: &ServerIdentity) -> Result<(), BrokerError> {
        ops::tree::clear(&self.core, server).await
    }

    async fn write_scheduler_entries(
        &self,
        scheduler_id: &str,
        entries: &[SchedulerEntry],
        ttl: Duration,
    ) -> Result<(), BrokerError> {
        ops::scheduler_state::write(&self.core, scheduler_id, entries, ttl).await
    }

    async fn clear_scheduler_entries(&self, scheduler_id: &str) -> Result<(), BrokerError> {
        ops::scheduler_state::clear(&self.core, scheduler_id).await
    }

    async fn record_enqueue_event(&self, entry_id: &str, event: &SchedulerEnqueueEvent) -> Result<(), BrokerError> {
        ops::scheduler_state::record(&self.core, entry_id, event).await
    }

    async fn clear_scheduler_history(&self, entry_id: &str) -> Result<(), BrokerError> {
        ops::scheduler_state::clear_history(&self.core, entry_id).await
    }

    async fn write_result(&self, lease: &LeaseRef, result: Bytes) -> Result<usize, SettleError> {
        ops::result::write(&self.core, lease, result).await
    }

    async fn write_progress(&self, lease: &LeaseRef, progress: Progress) -> Result<(), SettleError> {
        ops::result::write_progress(&self.core, lease, &progress).await
    }

    async fn publish_cancellation(&self, id: &TaskId) -> Result<(), BrokerError> {
        ops::cancel::publish(&self.core, id).await
    }

    async fn subscribe_cancellations(&self) -> Result<Cancellations, BrokerError> {
        ops::cancel::subscribe(&self.core).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.core.link.command_timely(&redis::cmd("PING")).await.map(drop)
    }

    async fn close(&self) {
        self.core.link.close().await;
    }
}

#[async_trait]
impl Inspect for RedisBroker {
    async fn queues(&self) -> Result<Vec<QueueName>, BrokerError> {
        ops::inspect::queues(&self.core).await
    }

    async fn queue_info(&self, queue: &QueueName) -> Result<QueueInfo, BrokerError> {
        ops::inspect::queue_info(&self.core, queue).await
    }

    async fn group_infos(&self, queue: &QueueName) -> Result<Vec<GroupInfo>, BrokerError> {
        ops::groups::infos(&self.core, queue).await
    }

    async fn list_tasks(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        page: PageRequest,
    ) -> Result<TaskPage, BrokerError> {
        ops::inspect::list_tasks(&self.core, queue, filter, page).await
    }

    async fn task_info(&self, queue: &QueueName, id: &TaskId) -> Result<TaskInfo, BrokerError> {
        ops::inspect::task_info(&self.core, queue, id).await
    }

    async fn task_state(&self, queue: &QueueName, id: &TaskId) -> Result<TaskState, BrokerError> {
        ops::inspect::task_state(&self.core, queue, id).await
    }

    async fn run_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        ops::run_task::run_task(&self.core, queue, id).await
    }

    async fn cancel_task(&self, queue: &QueueName, id: &TaskId, then: Then) -> Result<Cancelled, BrokerError> {
        ops::cancel::cancel_task(&self.core, queue, id, then).await
    }

    async fn pause(&self, queue: &QueueName) -> Result<(), BrokerError> {
        ops::inspect::pause(&self.core, queue).await
    }

    async fn unpause(&self, queue: &QueueName) -> Result<(), BrokerError> {
        ops::inspect::unpause(&self.core, queue).await
    }

    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        ops::server_state::servers(&self.core).await
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>, BrokerError> {
        ops::server_state::workers(&self.core).await
    }

    async fn trees(&self) -> Result<Vec<PublishedTree>, BrokerError> {
        ops::tree::trees(&self.core).await
    }

    async fn scheduler_entries(&self) -> Result<Vec<SchedulerEntry>, BrokerError> {
        ops::scheduler_state::entries(&self.core).await
    }

    async fn enqueue_events(
        &self,
        entry_id: &str,
        page: PageRequest,
    ) -> Result<Vec<SchedulerEnqueueEvent>, BrokerError> {
        ops::scheduler_state::events(&self.core, entry_id, page).await
    }

    async fn audit(&self, queue: &QueueName, cursor: Cursor) -> Result<Page<Breach>, BrokerError> {
        ops::audit::audit(&self.core, queue, cursor).await
    }
}
