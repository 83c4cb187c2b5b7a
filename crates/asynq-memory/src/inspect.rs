//! One connection to a store: the [`Inspect`] side.

use async_trait::async_trait;
use asynq_core::{
    TaskState,
    cancel::{Cancelled, Then},
    error::BrokerError,
    info::{GroupInfo, QueueInfo, SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskInfo, WorkerInfo},
    inspect::{Breach, Cursor, Inspect, ListFilter, Page, PageRequest, TaskPage},
    names::{QueueName, TaskId},
    tree::PublishedTree,
};

use crate::{
    MemoryBroker,
    ops::{audit, cancel, groups, inspect, publish, run_task},
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

    async fn cancel_task(&self, queue: &QueueName, id: &TaskId, then: Then) -> Result<Cancelled, BrokerError> {
        self.with(|data, now| cancel::cancel_task(data, queue, id, then, now))?
    }

    async fn pause(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.with_queue(queue, inspect::pause)
    }

    async fn unpause(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.with_queue(queue, |queue, _| inspect::unpause(queue))
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

    async fn audit(&self, queue: &QueueName, _cursor: Cursor) -> Result<Page<Breach>, BrokerError> {
        let items = self.with(|data, now| audit::audit(data, queue, now))?;
        Ok(Page { items, next: None })
    }
}
