//! The administration under faults.

use std::time::Duration;

use async_trait::async_trait;
use asynq_core::{
    Act, BrokerError, Cancelled, GroupInfo, Inspect, PublishedTree, QueueInfo, QueueName, ServerInfo, Storage, TaskId,
    TaskInfo, TaskState, Then, WorkerInfo,
    doctor::{Repair, RepairMode},
    findings::{QueueFacts, StorageFacts},
    info::{DailyStats, SchedulerEnqueueEvent, SchedulerEntry},
    inspect::{
        ActedOn, AuditPage, Breach, BulkPlace, BulkStep, ClusterNode, Cursor, ListFilter, Page, PageRequest,
        ScanLimits, ScanPlace, ScanStep, TaskMark, TaskPage,
    },
    statistics::{QueueStatistics, TimeRange},
    trail::TrailEntry,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{FaultyBroker, Op};

#[async_trait]
impl<B: Storage + ?Sized + 'static> Inspect for FaultyBroker<B> {
    async fn queues(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.faults.guard(Op::Queues, self.inner.queues()).await
    }

    async fn queue_info(&self, queue: &QueueName) -> Result<QueueInfo, BrokerError> {
        self.faults
            .guard_queue(Op::QueueInfo, queue, self.inner.queue_info(queue))
            .await
    }

    async fn history(&self, queue: &QueueName, days: u32) -> Result<Vec<DailyStats>, BrokerError> {
        self.faults
            .guard_queue(Op::History, queue, self.inner.history(queue, days))
            .await
    }

    async fn group_infos(&self, queue: &QueueName) -> Result<Vec<GroupInfo>, BrokerError> {
        self.faults
            .guard_queue(Op::GroupInfos, queue, self.inner.group_infos(queue))
            .await
    }

    async fn list_tasks(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        page: PageRequest,
    ) -> Result<TaskPage, BrokerError> {
        self.faults
            .guard_queue(Op::ListTasks, queue, self.inner.list_tasks(queue, filter, page))
            .await
    }

    async fn task_info(&self, queue: &QueueName, id: &TaskId) -> Result<TaskInfo, BrokerError> {
        self.faults
            .guard_queue(Op::TaskInfo, queue, self.inner.task_info(queue, id))
            .await
    }

    async fn task_state(&self, queue: &QueueName, id: &TaskId) -> Result<TaskState, BrokerError> {
        self.faults
            .guard_queue(Op::TaskState, queue, self.inner.task_state(queue, id))
            .await
    }

    async fn run_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        self.faults
            .guard_queue(Op::RunTask, queue, self.inner.run_task(queue, id))
            .await
    }

    async fn archive_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        self.faults
            .guard_queue(Op::ArchiveTask, queue, self.inner.archive_task(queue, id))
            .await
    }

    async fn delete_task(&self, queue: &QueueName, id: &TaskId) -> Result<(), BrokerError> {
        self.faults
            .guard_queue(Op::DeleteTask, queue, self.inner.delete_task(queue, id))
            .await
    }

    async fn update_task_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), BrokerError> {
        self.faults
            .guard_queue(
                Op::UpdateTaskPayload,
                queue,
                self.inner.update_task_payload(queue, id, payload),
            )
            .await
    }

    async fn reschedule_task(&self, queue: &QueueName, id: &TaskId, at: DateTime<Utc>) -> Result<(), BrokerError> {
        self.faults
            .guard_queue(Op::RescheduleTask, queue, self.inner.reschedule_task(queue, id, at))
            .await
    }

    async fn clear_counters(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.faults
            .guard_queue(Op::ClearCounters, queue, self.inner.clear_counters(queue))
            .await
    }

    async fn cluster_key_slot(&self, queue: &QueueName) -> Result<u16, BrokerError> {
        self.faults
            .guard_queue(Op::ClusterKeySlot, queue, self.inner.cluster_key_slot(queue))
            .await
    }

    async fn cluster_nodes(&self, queue: &QueueName) -> Result<Vec<ClusterNode>, BrokerError> {
        self.faults
            .guard_queue(Op::ClusterNodes, queue, self.inner.cluster_nodes(queue))
            .await
    }

    async fn act_on_some(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        act: Act,
        place: Option<BulkPlace>,
    ) -> Result<BulkStep, BrokerError> {
        self.faults
            .guard_queue(Op::ActOnSome, queue, self.inner.act_on_some(queue, filter, act, place))
            .await
    }

    async fn scan_tasks(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        place: Option<&ScanPlace>,
        limits: ScanLimits,
    ) -> Result<ScanStep, BrokerError> {
        self.faults
            .guard_queue(
                Op::ScanTasks,
                queue,
                self.inner.scan_tasks(queue, filter, place, limits),
            )
            .await
    }

    async fn act_on_these(
        &self,
        queue: &QueueName,
        filter: &ListFilter,
        act: Act,
        tasks: &[TaskMark],
    ) -> Result<ActedOn, BrokerError> {
        self.faults
            .guard_queue(
                Op::ActOnThese,
                queue,
                self.inner.act_on_these(queue, filter, act, tasks),
            )
            .await
    }

    async fn cancel_task(&self, queue: &QueueName, id: &TaskId, then: Then) -> Result<Cancelled, BrokerError> {
        self.faults
            .guard_queue(Op::CancelTask, queue, self.inner.cancel_task(queue, id, then))
            .await
    }

    async fn pause(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.faults.guard_queue(Op::Pause, queue, self.inner.pause(queue)).await
    }

    async fn unpause(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.faults
            .guard_queue(Op::Unpause, queue, self.inner.unpause(queue))
            .await
    }

    async fn delete_queue(&self, queue: &QueueName, force: bool) -> Result<(), BrokerError> {
        self.faults
            .guard_queue(Op::DeleteQueue, queue, self.inner.delete_queue(queue, force))
            .await
    }

    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        self.faults.guard(Op::Servers, self.inner.servers()).await
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>, BrokerError> {
        self.faults.guard(Op::Workers, self.inner.workers()).await
    }

    async fn trees(&self) -> Result<Vec<PublishedTree>, BrokerError> {
        self.faults.guard(Op::Trees, self.inner.trees()).await
    }

    async fn scheduler_entries(&self) -> Result<Vec<SchedulerEntry>, BrokerError> {
        self.faults
            .guard(Op::SchedulerEntries, self.inner.scheduler_entries())
            .await
    }

    async fn enqueue_events(
        &self,
        entry_id: &str,
        page: PageRequest,
    ) -> Result<Vec<SchedulerEnqueueEvent>, BrokerError> {
        self.faults
            .guard(Op::EnqueueEvents, self.inner.enqueue_events(entry_id, page))
            .await
    }

    async fn record_act(&self, act: &TrailEntry) -> Result<(), BrokerError> {
        self.faults.guard(Op::RecordAct, self.inner.record_act(act)).await
    }

    async fn trail(&self, cursor: Cursor, count: u32) -> Result<Page<TrailEntry>, BrokerError> {
        self.faults.guard(Op::Trail, self.inner.trail(cursor, count)).await
    }

    async fn statistics(&self, queue: &QueueName, range: &TimeRange) -> Result<QueueStatistics, BrokerError> {
        self.faults
            .guard_queue(Op::Statistics, queue, self.inner.statistics(queue, range))
            .await
    }

    async fn audit(&self, queue: &QueueName, cursor: Cursor) -> Result<AuditPage, BrokerError> {
        self.faults
            .guard_queue(Op::Audit, queue, self.inner.audit(queue, cursor))
            .await
    }

    async fn repair(
        &self,
        queue: &QueueName,
        breaches: &[Breach],
        mode: RepairMode,
    ) -> Result<Vec<Repair>, BrokerError> {
        self.faults
            .guard_queue(Op::Repair, queue, self.inner.repair(queue, breaches, mode))
            .await
    }

    async fn queue_facts(&self, queue: &QueueName, late: Duration) -> Result<QueueFacts, BrokerError> {
        let facts = self.inner.queue_facts(queue, late);
        self.faults.guard_queue(Op::QueueFacts, queue, facts).await
    }

    async fn storage_facts(&self) -> Vec<Result<StorageFacts, BrokerError>> {
        let facts = async { Ok(self.inner.storage_facts().await) };
        let facts = self.faults.guard(Op::StorageFacts, facts).await;
        facts.unwrap_or_else(|error| vec![Err(error)])
    }
}
