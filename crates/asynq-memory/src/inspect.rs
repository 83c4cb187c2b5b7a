//! One connection to a store: the [`Inspect`] side.

use std::time::Duration;

use async_trait::async_trait;
use asynq_core::{
    Act, TaskState,
    cancel::{Cancelled, Then},
    doctor::{Repair, RepairMode},
    error::BrokerError,
    findings::{QueueFacts, StorageFacts},
    info::{DailyStats, GroupInfo, QueueInfo, SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskInfo, WorkerInfo},
    inspect::{
        ActedOn, AuditPage, Breach, BulkPlace, BulkStep, ClusterNode, Cursor, Inspect, ListFilter, Page, PageRequest,
        ScanLimits, ScanPlace, ScanStep, TaskMark, TaskPage,
    },
    names::{QueueName, TaskId},
    statistics::{Adding, QueueStatistics, TimeRange},
    trail::TrailEntry,
    tree::PublishedTree,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{
    MemoryBroker,
    ops::{
        archive_task, audit, bulk, cancel, delete_queue, delete_task, facts, groups, inspect, publish, repair,
        run_task, scan, statistics, update,
    },
};

const NO_CLUSTER: BrokerError = BrokerError::Unsupported {
    what: "the slots of a cluster",
};

/// [`memory_usage`](QueueInfo::memory_usage) is the sum of what the tasks' fields take.
/// [`audit`](Inspect::audit) looks at a whole queue in one call and needs no cursor.
#[async_trait]
impl Inspect for MemoryBroker {
    async fn queues(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.with(|data, _| inspect::queues(data))?
    }

    async fn queue_info(&self, queue: &QueueName) -> Result<QueueInfo, BrokerError> {
        self.with(|data, now| inspect::queue_info(data, queue, now))?
    }

    async fn history(&self, queue: &QueueName, days: u32) -> Result<Vec<DailyStats>, BrokerError> {
        self.with(|data, now| inspect::history(data, queue, days, now))?
    }

    async fn group_infos(&self, queue: &QueueName) -> Result<Vec<GroupInfo>, BrokerError> {
        self.with_queue(queue, |queue, _| groups::list(queue))
    }

    async fn list_tasks(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        page: PageRequest,
    ) -> Result<TaskPage, BrokerError> {
        self.with(|data, now| inspect::list_tasks(data, queue, filter, page, now))?
    }

    async fn task_info(&self, queue: &QueueName, id: &TaskId) -> Result<TaskInfo, BrokerError> {
        self.with(|data, now| inspect::task_info(data, queue, id, now))?
    }

    async fn task_state(&self, queue: &QueueName, id: &TaskId) -> Result<TaskState, BrokerError> {
        self.with(|data, _| inspect::task_state(data, queue, id))?
    }

    async fn run_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        self.with(|data, now| run_task::run_task(data, queue, id, now))?
    }

    async fn archive_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        self.with(|data, now| archive_task::archive_task(data, queue, id, now))?
    }

    async fn delete_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        self.with(|data, now| delete_task::delete_task(data, queue, id, now))?
    }

    async fn update_task_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), BrokerError> {
        self.with(|data, now| update::payload(data, queue, id, payload, now))?
    }

    async fn reschedule_task(&self, queue: &QueueName, id: &TaskId, at: DateTime<Utc>) -> Result<(), BrokerError> {
        self.with(|data, now| update::reschedule(data, queue, id, at, now))?
    }

    async fn clear_counters(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.with(|data, now| update::clear_counters(data, queue, now))?
    }

    async fn cluster_key_slot(&self, _queue: &QueueName) -> Result<u16, BrokerError> {
        Err(NO_CLUSTER)
    }

    async fn cluster_nodes(&self, _queue: &QueueName) -> Result<Vec<ClusterNode>, BrokerError> {
        Err(NO_CLUSTER)
    }

    async fn act_on_some(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        act: Act,
        place: Option<BulkPlace>,
    ) -> Result<BulkStep, BrokerError> {
        self.with(|data, now| bulk::act_on_some(data, queue, filter, act, place.as_ref(), now))?
    }

    async fn scan_tasks(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        place: Option<&ScanPlace>,
        limits: ScanLimits,
    ) -> Result<ScanStep, BrokerError> {
        self.with(|data, now| scan::scan_tasks(data, queue, filter, place, limits, now))?
    }

    async fn act_on_these(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        act: Act,
        tasks: &[TaskMark],
    ) -> Result<ActedOn, BrokerError> {
        self.with(|data, now| bulk::act_on_these(data, queue, filter, act, tasks, now))?
    }

    async fn cancel_task(&self, queue: &QueueName, id: &TaskId, then: Then) -> Result<Cancelled, BrokerError> {
        self.with(|data, now| cancel::cancel_task(data, queue, id, then, now))?
    }

    async fn pause(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.with_queue(queue, inspect::pause)
    }

    async fn unpause(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.with_queue(queue, |queue, _| inspect::unpause(queue))
    }

    async fn delete_queue(&self, queue: &QueueName, force: bool) -> Result<(), BrokerError> {
        self.with(|data, now| delete_queue::delete_queue(data, queue, force, now))?
    }

    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        self.with(|data, now| publish::servers(data, now))?
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>, BrokerError> {
        self.with(|data, now| publish::workers(data, now))?
    }

    async fn trees(&self) -> Result<Vec<PublishedTree>, BrokerError> {
        self.with(|data, now| publish::trees(data, now))?
    }

    async fn scheduler_entries(&self) -> Result<Vec<SchedulerEntry>, BrokerError> {
        self.with(|data, now| publish::entries(data, now))?
    }

    async fn enqueue_events(
        &self,
        entry_id: &str,
        page: PageRequest,
    ) -> Result<Vec<SchedulerEnqueueEvent>, BrokerError> {
        self.with(|data, _| publish::events(data, entry_id, page))?
    }

    async fn record_act(&self, act: &TrailEntry) -> Result<(), BrokerError> {
        self.with(|data, _| publish::record_act(data, act))?
    }

    async fn trail(&self, cursor: Cursor, count: u32) -> Result<Page<TrailEntry>, BrokerError> {
        self.with(|data, _| publish::trail(data, &cursor, count))?
    }

    async fn statistics(&self, queue: &QueueName, range: &TimeRange) -> Result<QueueStatistics, BrokerError> {
        // They are decoded and added up outside of the lock.
        let values = self.with(|data, now| statistics::read(data, queue, range, now))??;
        let mut adding = Adding::new(range);
        for (span, field, value) in values {
            adding.add(span, field.as_bytes(), &value);
        }
        Ok(adding.finish(queue.clone()))
    }

    async fn audit(&self, queue: &QueueName, _cursor: Cursor) -> Result<AuditPage, BrokerError> {
        self.with(|data, now| AuditPage {
            items: audit::audit(data, queue, now),
            next: None,
            looked: audit::looked(data, queue),
        })
    }

    async fn repair(
        &self,
        queue: &QueueName,
        breaches: &[Breach],
        mode: RepairMode,
    ) -> Result<Vec<Repair>, BrokerError> {
        self.with(|data, now| repair::repair(data, queue, breaches, mode, now))?
    }

    async fn queue_facts(&self, queue: &QueueName, late: Duration) -> Result<QueueFacts, BrokerError> {
        self.with(|data, now| facts::queue(data, queue, late, now))?
    }

    async fn storage_facts(&self) -> Vec<Result<StorageFacts, BrokerError>> {
        Vec::new()
    }
}
