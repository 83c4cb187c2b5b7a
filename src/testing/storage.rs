//! The storage of the kit's clients and servers: the embedded broker, with a record of the enqueued tasks. It can be
//! made to fail.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    Act, Broker, BrokerError, Cancelled, Connector, EnqueueError, Env, GroupInfo, GroupKey, Inspect, Progress,
    PublishedTree, QueueInfo, QueueName, ServerIdentity, ServerInfo, SettleError, Storage, TaskId, TaskInfo, TaskState,
    Then, TreeNode, WorkerInfo,
    broker::{
        AggregationSet, CallRecord, Cancellations, EnqueueRequest, Exchanged, Expired, ExpiredPlace, Forwarded,
        GroupLimits, Healed, LeaseRef, LeaseUntil, LeasedTask, Recovery, Settlement, Tick, TickStart, Ticked, Want,
        Watch, WatchKind,
    },
    doctor::{Repair, RepairMode},
    findings::{QueueFacts, StorageFacts},
    info::{DailyStats, SchedulerEnqueueEvent, SchedulerEntry},
    inspect::{
        ActedOn, AuditPage, Breach, BulkPlace, BulkStep, ClusterNode, Cursor, ListFilter, Page, PageRequest,
        ScanLimits, ScanPlace, ScanStep, TaskMark, TaskPage,
    },
    periodic::{EntryKey, TickMark},
    statistics::{QueueStatistics, StatisticsPart, TimeRange},
    trail::TrailEntry,
};
use asynq_memory::{MemoryBroker, MemoryStore};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::EnqueuedTask;

/// A failure of one enqueue; see [`TestKit::fail_next_enqueue`](super::TestKit::fail_next_enqueue). A scheduler that
/// receives no answer tries the same tick again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnqueueFault {
    /// The storage refuses the enqueue: [`BrokerError::OutOfMemory`] in [`Error::Broker`](crate::Error::Broker). The
    /// task is not enqueued.
    Refused,
    /// The request never arrives, and the caller cannot know this: [`EnqueueError::Unknown`] in
    /// [`Error::Enqueue`](crate::Error::Enqueue). The task is not enqueued.
    TimedOut,
    /// The request arrives, but its answer does not: the same [`EnqueueError::Unknown`]. The task is enqueued, so a
    /// caller that tries again with another id enqueues it twice.
    AnswerLost,
}

/// State that all connections of a kit share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) env: Env,
    store: MemoryStore,
    faults: Mutex<VecDeque<EnqueueFault>>,
    enqueued: Mutex<Vec<EnqueuedTask>>,
}

impl Shared {
    pub(super) fn new(env: Env) -> Arc<Self> {
        Arc::new(Self {
            env,
            store: MemoryStore::new(),
            faults: Mutex::default(),
            enqueued: Mutex::default(),
        })
    }

    pub(super) fn open(self: &Arc<Self>) -> KitStorage {
        KitStorage {
            inner: self.open_plain(),
            shared: Arc::clone(self),
        }
    }

    pub(super) fn open_plain(&self) -> MemoryBroker {
        self.store.open(self.env.clone())
    }

    pub(super) fn fail_next(&self, fault: EnqueueFault) {
        lock(&self.faults).push_back(fault);
    }

    pub(super) fn enqueued(&self) -> Vec<EnqueuedTask> {
        lock(&self.enqueued).clone()
    }

    /// The same request may arrive twice, because the client sends a request without an answer again.
    fn enters(&self, info: TaskInfo, unique_ttl: Option<Duration>) {
        let task = EnqueuedTask {
            enqueued_at: self.env.clock.now(),
            unique_ttl,
            info,
        };
        let mut enqueued = lock(&self.enqueued);
        if !enqueued.iter().any(|other| other.is(&task.info.queue, &task.info.id)) {
            enqueued.push(task);
        }
    }

    fn leaves(&self, queue: &QueueName, id: &str) {
        lock(&self.enqueued).retain(|task| task.info.queue != *queue || task.info.id.as_str() != id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the storage of a [`TestKit`](super::TestKit), for code under test that makes its own
/// [`Client`](crate::client::Client), [`Server`](crate::server::Server) or [`AsynqSystem`](crate::AsynqSystem). They
/// use the kit's time.
#[derive(Clone, Debug)]
pub struct TestConnector(pub(super) Arc<Shared>);

#[async_trait]
impl Connector for TestConnector {
    /// The storage uses only the kit's time, whatever time the caller uses.
    async fn connect(&self, _env: Env) -> Result<Arc<dyn Storage>, BrokerError> {
        Ok(Arc::new(self.0.open()))
    }

    fn describe(&self) -> String {
        "test kit".to_owned()
    }

    fn env(&self) -> Env {
        self.0.env.clone()
    }
}

/// A connection that forwards every call, except enqueues that are made to fail.
#[derive(Debug)]
pub(super) struct KitStorage {
    inner: MemoryBroker,
    shared: Arc<Shared>,
}

impl KitStorage {
    async fn enqueue_one(&self, request: &Arc<EnqueueRequest>) -> Result<TaskInfo, EnqueueError> {
        let id = TaskId::from_storage(&request.message.id);
        let unique_ttl = request.unique_ttl;
        let fault = lock(&self.shared.faults).pop_front();
        match fault {
            Some(EnqueueFault::Refused) => return Err(BrokerError::OutOfMemory.into()),
            Some(EnqueueFault::TimedOut) => return Err(EnqueueError::Unknown { id }),
            Some(EnqueueFault::AnswerLost) | None => {}
        }
        let mut answers = self.inner.enqueue(std::slice::from_ref(request)).await;
        let answer = answers.pop().unwrap_or_else(|| Err(BrokerError::Closed.into()));
        if let Ok(info) = &answer {
            self.shared.enters(info.clone(), unique_ttl);
        }
        match fault {
            Some(_) => Err(EnqueueError::Unknown { id }),
            None => answer,
        }
    }
}

#[async_trait]
impl Broker for KitStorage {
    async fn enqueue(&self, batch: &[Arc<EnqueueRequest>]) -> Vec<Result<TaskInfo, EnqueueError>> {
        let mut answers = Vec::with_capacity(batch.len());
        for request in batch {
            answers.push(self.enqueue_one(request).await);
        }
        answers
    }

    async fn enqueue_tick(&self, request: EnqueueRequest, tick: &Tick) -> Result<Ticked, EnqueueError> {
        let unique_ttl = request.unique_ttl;
        let fault = lock(&self.shared.faults).pop_front();
        match fault {
            Some(EnqueueFault::Refused) => return Err(BrokerError::OutOfMemory.into()),
            Some(EnqueueFault::TimedOut) => return Err(BrokerError::Ambiguous { source: None }.into()),
            Some(EnqueueFault::AnswerLost) | None => {}
        }
        let answer = self.inner.enqueue_tick(request, tick).await;
        if let Ok(Ticked::Enqueued(info)) = &answer {
            self.shared.enters(info.clone(), unique_ttl);
        }
        match fault {
            Some(_) => Err(BrokerError::Ambiguous { source: None }.into()),
            None => answer,
        }
    }

    async fn last_ticks(&self, entries: &[(QueueName, EntryKey)]) -> Vec<Result<Option<TickMark>, BrokerError>> {
        self.inner.last_ticks(entries).await
    }

    async fn start_ticks(&self, starts: &[TickStart]) -> Vec<Result<Option<TickMark>, BrokerError>> {
        self.inner.start_ticks(starts).await
    }

    fn begin(&self) -> CallRecord {
        self.inner.begin()
    }

    async fn exchange(&self, call: &CallRecord, settle: &[Settlement], want: &[Want]) -> Exchanged {
        let answer = self.inner.exchange(call, settle, want).await;
        for taken in &answer.leased {
            self.shared.leaves(&taken.lease.queue, taken.lease.id.as_str());
        }
        answer
    }

    async fn adopt(&self, queue: &QueueName, lost: &CallRecord) -> Result<Vec<LeasedTask>, BrokerError> {
        self.inner.adopt(queue, lost).await
    }

    async fn extend_leases(&self, batch: Vec<LeaseRef>) -> Vec<Result<LeaseUntil, SettleError>> {
        self.inner.extend_leases(batch).await
    }

    async fn watch(&self, queues: &[QueueName], kind: WatchKind) -> Result<Watch, BrokerError> {
        self.inner.watch(queues, kind).await
    }

    async fn forward(&self, queue: &QueueName, limit: u32) -> Result<Forwarded, BrokerError> {
        self.inner.forward(queue, limit).await
    }

    async fn expired_after(
        &self,
        queue: &QueueName,
        grace: Duration,
        limit: u32,
        place: &ExpiredPlace,
    ) -> Result<Expired, BrokerError> {
        self.inner.expired_after(queue, grace, limit, place).await
    }

    async fn recover(&self, batch: Vec<Recovery>) -> Vec<Result<(), SettleError>> {
        self.inner.recover(batch).await
    }

    async fn claim_heal(&self, queue: &QueueName, lasts: Duration) -> Result<bool, BrokerError> {
        self.inner.claim_heal(queue, lasts).await
    }

    async fn heal(&self, queue: &QueueName, limit: u32) -> Result<Healed, BrokerError> {
        self.inner.heal(queue, limit).await
    }

    async fn delete_expired(&self, queue: &QueueName, limit: u32) -> Result<u32, BrokerError> {
        self.inner.delete_expired(queue, limit).await
    }

    async fn list_groups(&self, queue: &QueueName) -> Result<Vec<GroupKey>, BrokerError> {
        self.inner.list_groups(queue).await
    }

    async fn collect_group(
        &self,
        queue: &QueueName,
        group: &GroupKey,
        limits: GroupLimits,
    ) -> Result<Option<AggregationSet>, BrokerError> {
        self.inner.collect_group(queue, group, limits).await
    }

    async fn extend_aggregation(&self, set: &AggregationSet) -> Result<LeaseUntil, BrokerError> {
        self.inner.extend_aggregation(set).await
    }

    async fn release_aggregation(&self, set: &AggregationSet, wait: Duration) -> Result<LeaseUntil, BrokerError> {
        self.inner.release_aggregation(set, wait).await
    }

    async fn finish_aggregation(&self, set: &AggregationSet, result: EnqueueRequest) -> Result<TaskInfo, EnqueueError> {
        let unique_ttl = result.unique_ttl;
        let info = self.inner.finish_aggregation(set, result).await?;
        for task in &set.tasks {
            self.shared.leaves(&set.queue, &task.id);
        }
        self.shared.enters(info.clone(), unique_ttl);
        Ok(info)
    }

    async fn reclaim_aggregation_sets(&self, queue: &QueueName) -> Result<u32, BrokerError> {
        self.inner.reclaim_aggregation_sets(queue).await
    }

    async fn write_server_state(
        &self,
        server: &ServerInfo,
        workers: &[WorkerInfo],
        ttl: Duration,
    ) -> Result<(), BrokerError> {
        self.inner.write_server_state(server, workers, ttl).await
    }

    async fn clear_server_state(&self, server: &ServerInfo) -> Result<(), BrokerError> {
        self.inner.clear_server_state(server).await
    }

    async fn write_tree(&self, server: &ServerIdentity, tree: &TreeNode, ttl: Duration) -> Result<(), BrokerError> {
        self.inner.write_tree(server, tree, ttl).await
    }

    async fn clear_tree(&self, server: &ServerIdentity) -> Result<(), BrokerError> {
        self.inner.clear_tree(server).await
    }

    async fn write_statistics(
        &self,
        queue: &QueueName,
        server: &ServerIdentity,
        parts: &[StatisticsPart],
    ) -> Result<u64, BrokerError> {
        self.inner.write_statistics(queue, server, parts).await
    }

    async fn write_scheduler_entries(
        &self,
        scheduler_id: &str,
        entries: &[SchedulerEntry],
        ttl: Duration,
    ) -> Result<(), BrokerError> {
        self.inner.write_scheduler_entries(scheduler_id, entries, ttl).await
    }

    async fn clear_scheduler_entries(&self, scheduler_id: &str) -> Result<(), BrokerError> {
        self.inner.clear_scheduler_entries(scheduler_id).await
    }

    async fn record_enqueue_event(&self, entry_id: &str, event: &SchedulerEnqueueEvent) -> Result<(), BrokerError> {
        self.inner.record_enqueue_event(entry_id, event).await
    }

    async fn clear_scheduler_history(&self, entry_id: &str) -> Result<(), BrokerError> {
        self.inner.clear_scheduler_history(entry_id).await
    }

    async fn write_result(&self, lease: &LeaseRef, result: Bytes) -> Result<usize, SettleError> {
        self.inner.write_result(lease, result).await
    }

    async fn write_progress(&self, lease: &LeaseRef, progress: Progress) -> Result<(), SettleError> {
        self.inner.write_progress(lease, progress).await
    }

    async fn publish_cancellation(&self, id: &TaskId) -> Result<(), BrokerError> {
        self.inner.publish_cancellation(id).await
    }

    async fn subscribe_cancellations(&self) -> Result<Cancellations, BrokerError> {
        self.inner.subscribe_cancellations().await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.inner.ping().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl Inspect for KitStorage {
    async fn queues(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.inner.queues().await
    }

    async fn queue_info(&self, queue: &QueueName) -> Result<QueueInfo, BrokerError> {
        self.inner.queue_info(queue).await
    }

    async fn history(&self, queue: &QueueName, days: u32) -> Result<Vec<DailyStats>, BrokerError> {
        self.inner.history(queue, days).await
    }

    async fn group_infos(&self, queue: &QueueName) -> Result<Vec<GroupInfo>, BrokerError> {
        self.inner.group_infos(queue).await
    }

    async fn list_tasks(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        page: PageRequest,
    ) -> Result<TaskPage, BrokerError> {
        self.inner.list_tasks(queue, filter, page).await
    }

    async fn task_info(&self, queue: &QueueName, id: &TaskId) -> Result<TaskInfo, BrokerError> {
        self.inner.task_info(queue, id).await
    }

    async fn task_state(&self, queue: &QueueName, id: &TaskId) -> Result<TaskState, BrokerError> {
        self.inner.task_state(queue, id).await
    }

    async fn archive_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        self.inner.archive_task(queue, id).await
    }

    async fn delete_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        self.inner.delete_task(queue, id).await
    }

    async fn update_task_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), BrokerError> {
        self.inner.update_task_payload(queue, id, payload).await
    }

    async fn reschedule_task(&self, queue: &QueueName, id: &TaskId, at: DateTime<Utc>) -> Result<(), BrokerError> {
        self.inner.reschedule_task(queue, id, at).await
    }

    async fn clear_counters(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.inner.clear_counters(queue).await
    }

    async fn cluster_key_slot(&self, queue: &QueueName) -> Result<u16, BrokerError> {
        self.inner.cluster_key_slot(queue).await
    }

    async fn cluster_nodes(&self, queue: &QueueName) -> Result<Vec<ClusterNode>, BrokerError> {
        self.inner.cluster_nodes(queue).await
    }

    async fn act_on_some(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        act: Act,
        place: Option<BulkPlace>,
    ) -> Result<BulkStep, BrokerError> {
        self.inner.act_on_some(queue, filter, act, place).await
    }

    async fn scan_tasks(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        place: Option<&ScanPlace>,
        limits: ScanLimits,
    ) -> Result<ScanStep, BrokerError> {
        self.inner.scan_tasks(queue, filter, place, limits).await
    }

    async fn act_on_these(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        act: Act,
        tasks: &[TaskMark],
    ) -> Result<ActedOn, BrokerError> {
        self.inner.act_on_these(queue, filter, act, tasks).await
    }

    async fn cancel_task(&self, queue: &QueueName, id: &TaskId, then: Then) -> Result<Cancelled, BrokerError> {
        self.inner.cancel_task(queue, id, then).await
    }

    async fn pause(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.inner.pause(queue).await
    }

    async fn unpause(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.inner.unpause(queue).await
    }

    async fn run_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        self.inner.run_task(queue, id).await
    }

    async fn delete_queue(&self, queue: &QueueName, force: bool) -> Result<(), BrokerError> {
        self.inner.delete_queue(queue, force).await
    }

    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        self.inner.servers().await
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>, BrokerError> {
        self.inner.workers().await
    }

    async fn trees(&self) -> Result<Vec<PublishedTree>, BrokerError> {
        self.inner.trees().await
    }

    async fn scheduler_entries(&self) -> Result<Vec<SchedulerEntry>, BrokerError> {
        self.inner.scheduler_entries().await
    }

    async fn enqueue_events(
        &self,
        entry_id: &str,
        page: PageRequest,
    ) -> Result<Vec<SchedulerEnqueueEvent>, BrokerError> {
        self.inner.enqueue_events(entry_id, page).await
    }

    async fn record_act(&self, act: &TrailEntry) -> Result<(), BrokerError> {
        self.inner.record_act(act).await
    }

    async fn trail(&self, cursor: Cursor, count: u32) -> Result<Page<TrailEntry>, BrokerError> {
        self.inner.trail(cursor, count).await
    }

    async fn statistics(&self, queue: &QueueName, range: &TimeRange) -> Result<QueueStatistics, BrokerError> {
        self.inner.statistics(queue, range).await
    }

    async fn audit(&self, queue: &QueueName, cursor: Cursor) -> Result<AuditPage, BrokerError> {
        self.inner.audit(queue, cursor).await
    }

    async fn repair(
        &self,
        queue: &QueueName,
        breaches: &[Breach],
        mode: RepairMode,
    ) -> Result<Vec<Repair>, BrokerError> {
        self.inner.repair(queue, breaches, mode).await
    }

    async fn queue_facts(&self, queue: &QueueName, late: Duration) -> Result<QueueFacts, BrokerError> {
        self.inner.queue_facts(queue, late).await
    }

    async fn storage_facts(&self) -> Vec<Result<StorageFacts, BrokerError>> {
        self.inner.storage_facts().await
    }
}
