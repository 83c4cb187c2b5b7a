//! The broker: implements the traits with the operations.

mod cancel_subscriptions;
pub(crate) mod core;
mod unpublished;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    Act, TaskState,
    broker::{
        AggregationSet, Broker, CallRecord, Cancellations, EnqueueRequest, Exchanged, Expired, ExpiredPlace, Forwarded,
        GroupLimits, Healed, LeaseRef, LeaseUntil, LeasedTask, Recovery, Settlement, Tick, TickStart, Ticked, Want,
        Watch, WatchKind,
    },
    cancel::{Cancelled, Then},
    doctor::{Repair, RepairMode},
    error::{BrokerError, EnqueueError, SettleError},
    findings::{QueueFacts, StorageFacts},
    info::{DailyStats, GroupInfo, QueueInfo, SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskInfo, WorkerInfo},
    inspect::{
        ActedOn, AuditPage, Breach, BulkPlace, BulkStep, ClusterNode, Cursor, Inspect, ListFilter, Page, PageRequest,
        ScanLimits, ScanPlace, ScanStep, TaskMark, TaskPage,
    },
    names::{GroupKey, QueueName, TaskId},
    periodic::{EntryKey, TickMark},
    progress::Progress,
    statistics::{QueueStatistics, StatisticsPart, TimeRange},
    trail::TrailEntry,
    tree::{PublishedTree, ServerIdentity, TreeNode},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use self::core::Core;
use crate::{links::Links, ops};

/// A task storage on Redis, shared with Go asynq. Cheap to clone; clones share the connections, which
/// are replaced when they are lost and closed with the last clone or by [`close`](Broker::close).
#[derive(Clone)]
pub struct RedisBroker {
    core: Arc<Core>,
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker")
            .field("link", &self.core.link)
            .field("id", &self.core.id())
            .finish_non_exhaustive()
    }
}

impl RedisBroker {
    pub(crate) fn from_links(link: Links) -> Self {
        Self {
            core: Arc::new(Core::new(link)),
        }
    }

    /// Returns whether this is a Redis Cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        !self.core.link.has_one_slot()
    }

    /// Returns what each server tells about itself: the lines of `INFO`, by their names. One entry for a single server, whose
    /// name is `None`; in a cluster one for each master, by its address.
    ///
    /// # Errors
    /// [`Error::Broker`](asynq_core::Error::Broker) for a server that does not answer or refuses the command; the others
    /// are returned.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn server_infos(&self) -> Vec<(Option<String>, asynq_core::Result<BTreeMap<String, String>>)> {
        ops::facts::server_infos(&self.core).await
    }

    /// Returns what a node of the cluster tells about it: the lines of `CLUSTER INFO`, by their names (Go:
    /// `asynq.RedisClusterClient`).
    ///
    /// # Errors
    /// [`Error::Broker`](asynq_core::Error::Broker): no node answers, or the server is not part of a cluster.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn cluster_info(&self) -> asynq_core::Result<BTreeMap<String, String>> {
        Ok(ops::facts::cluster_info(&self.core).await?)
    }

    /// Returns the text of `INFO`, and in a cluster that of `CLUSTER INFO`, which one of its nodes answers.
    ///
    /// # Errors
    /// [`Error::Broker`](asynq_core::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn info_text(&self) -> asynq_core::Result<String> {
        Ok(ops::facts::info_text(&self.core).await?)
    }

    /// Returns the text of `CLUSTER NODES`, which one of the nodes answers.
    ///
    /// # Errors
    /// As [`cluster_info`](Self::cluster_info).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn cluster_nodes_text(&self) -> asynq_core::Result<String> {
        Ok(ops::facts::cluster_nodes_text(&self.core).await?)
    }

    /// Returns the URI of the server, without user and password, such as `redis://127.0.0.1:6379/0`. In a cluster those of the
    /// nodes that were given, with commas.
    #[must_use]
    pub fn describe(&self) -> String {
        self.core.link.to_string()
    }
}

#[async_trait]
impl Broker for RedisBroker {
    async fn enqueue(&self, batch: &[Arc<EnqueueRequest>]) -> Vec<Result<TaskInfo, EnqueueError>> {
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
        self.core.next_call()
    }

    async fn exchange(&self, call: &CallRecord, settle: &[Settlement], want: &[Want]) -> Exchanged {
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

    async fn write_statistics(
        &self,
        queue: &QueueName,
        server: &ServerIdentity,
        parts: &[StatisticsPart],
    ) -> Result<u64, BrokerError> {
        ops::statistics::write(&self.core, queue, server, parts).await
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

    async fn history(&self, queue: &QueueName, days: u32) -> Result<Vec<DailyStats>, BrokerError> {
        ops::inspect::history(&self.core, queue, days).await
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

    async fn archive_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        ops::archive_task::archive_task(&self.core, queue, id).await
    }

    async fn delete_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        ops::delete_task::delete_task(&self.core, queue, id).await
    }

    async fn update_task_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), BrokerError> {
        ops::update::payload(&self.core, queue, id, payload).await
    }

    async fn reschedule_task(&self, queue: &QueueName, id: &TaskId, at: DateTime<Utc>) -> Result<(), BrokerError> {
        ops::update::reschedule(&self.core, queue, id, at).await
    }

    async fn clear_counters(&self, queue: &QueueName) -> Result<(), BrokerError> {
        ops::update::clear_counters(&self.core, queue).await
    }

    async fn cluster_key_slot(&self, queue: &QueueName) -> Result<u16, BrokerError> {
        ops::cluster_nodes::key_slot(&self.core, queue)
    }

    async fn cluster_nodes(&self, queue: &QueueName) -> Result<Vec<ClusterNode>, BrokerError> {
        ops::cluster_nodes::nodes(&self.core, queue).await
    }

    async fn act_on_some(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        act: Act,
        place: Option<BulkPlace>,
    ) -> Result<BulkStep, BrokerError> {
        ops::bulk::act_on_some(&self.core, queue, filter, act, place).await
    }

    async fn scan_tasks(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        place: Option<&ScanPlace>,
        limits: ScanLimits,
    ) -> Result<ScanStep, BrokerError> {
        ops::scan::scan_tasks(&self.core, queue, filter, place, limits).await
    }

    async fn act_on_these(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        act: Act,
        tasks: &[TaskMark],
    ) -> Result<ActedOn, BrokerError> {
        ops::bulk::act_on_these(&self.core, queue, filter, act, tasks).await
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

    async fn delete_queue(&self, queue: &QueueName, force: bool) -> Result<(), BrokerError> {
        ops::delete_queue::delete_queue(&self.core, queue, force).await
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

    async fn record_act(&self, act: &TrailEntry) -> Result<(), BrokerError> {
        ops::trail::record(&self.core, act).await
    }

    async fn trail(&self, cursor: Cursor, count: u32) -> Result<Page<TrailEntry>, BrokerError> {
        ops::trail::read(&self.core, cursor, count).await
    }

    async fn statistics(&self, queue: &QueueName, range: &TimeRange) -> Result<QueueStatistics, BrokerError> {
        ops::statistics::read(&self.core, queue, range).await
    }

    async fn audit(&self, queue: &QueueName, cursor: Cursor) -> Result<AuditPage, BrokerError> {
        ops::audit::audit(&self.core, queue, cursor).await
    }

    async fn repair(
        &self,
        queue: &QueueName,
        breaches: &[Breach],
        mode: RepairMode,
    ) -> Result<Vec<Repair>, BrokerError> {
        ops::repair::repair(&self.core, queue, breaches, mode).await
    }

    async fn queue_facts(&self, queue: &QueueName, late: Duration) -> Result<QueueFacts, BrokerError> {
        ops::facts::queue(&self.core, queue, late).await
    }

    async fn storage_facts(&self) -> Vec<Result<StorageFacts, BrokerError>> {
        ops::facts::storage(&self.core).await
    }
}
