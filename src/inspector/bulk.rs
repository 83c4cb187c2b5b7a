//! Acts on all tasks of a state or group.

use asynq_core::{
    Act, GroupKey, Inspect, QueueName, Result, TaskState,
    inspect::{BulkDone, ListFilter},
};

use super::{Inspector, operator::Target};

impl<B: Inspect + ?Sized> Inspector<B> {
    /// Runs, archives or deletes all tasks of one state or group, 200 in each step. Between the steps the storage
    /// serves other calls, and the call ends however many tasks are added meanwhile. Each task that was there at first
    /// and still is there is acted on, unless as many others are put before it meanwhile; some of those that were added
    /// are acted on too. Go does the same in one script, which stops Redis for as long as it takes.
    ///
    /// Each task changes as by [`run_task`](Self::run_task), [`archive_task`](Self::archive_task) or
    /// [`delete_task`](Self::delete_task). Damaged tasks do not hinder the others: see [`BulkDone`]. The methods below
    /// have the names of Go and return only the number of tasks.
    ///
    /// ```
    /// use asynq::{Client, Inspector, Task, TaskState, inspect::ListFilter, inspector::Act, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// # let storage = MemoryStore::new();
    /// # let client = Client::new(storage.clone()).await?;
    /// # let inspector = Inspector::connect(storage).await?;
    /// client.enqueue(Task::new("email:send", b"1")?).await?;
    /// client.enqueue(Task::new("email:send", b"2")?).await?;
    /// assert_eq!(inspector.archive_all_pending_tasks("default").await?, 2);
    /// let archived = ListFilter::State(TaskState::Archived);
    /// let done = inspector.act_on_all("default", &archived, Act::Delete).await?;
    /// assert_eq!((done.done, done.dropped), (2, 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: a script and a `SISMEMBER` for every 200 tasks.
    ///
    /// # Errors
    /// As [`get_queue_stats`](Self::get_queue_stats), and [`Error::Invalid`](crate::Error::Invalid) for a blank group.
    /// [`BrokerError::WrongAct`](crate::error::BrokerError::WrongAct) for an act that is not possible for all tasks of
    /// the state, see [`Act::applies_to`]. The steps before the error have taken effect.
    ///
    /// # Cancel safety
    /// The steps before the drop have taken effect. Call again for the rest.
    pub async fn act_on_all(&self, queue: &str, tasks: &ListFilter, act: Act) -> Result<BulkDone> {
        self.act_on_all_while(queue, tasks, act, |_| true).await
    }

    /// [`act_on_all`](Self::act_on_all), which asks after each step whether to go on, and gives the numbers so far. An act
    /// that is ended early is in the audit trail with these numbers.
    ///
    /// ```
    /// use asynq::{Client, Inspector, Task, TaskState, inspect::ListFilter, inspector::Act, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// # let storage = MemoryStore::new();
    /// # let client = Client::new(storage.clone()).await?;
    /// # let inspector = Inspector::connect(storage).await?;
    /// for _ in 0..500 {
    ///     client.enqueue(Task::new("email:send", b"1")?).await?;
    /// }
    /// let pending = ListFilter::State(TaskState::Pending);
    /// let done = inspector.act_on_all_while("default", &pending, Act::Delete, |done| done.done < 300).await?;
    /// assert_eq!(done.done, 400);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost, errors and cancel safety are those of [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn act_on_all_while(
        &self,
        queue: &str,
        tasks: &ListFilter,
        act: Act,
        mut go_on: impl FnMut(&BulkDone) -> bool + Send,
    ) -> Result<BulkDone> {
        let name = format!("{act}_all_tasks");
        let target = Target {
            tasks: Some(match tasks {
                ListFilter::State(state) => format!("state={state}"),
                ListFilter::Group(group) => format!("group={group:?}"),
            }),
            ..Target::queue(queue)
        };
        let all = async {
            let queue = QueueName::new(queue)?;
            let (mut done, mut place) = (BulkDone::default(), None);
            loop {
                let step = self.0.act_on_some(&queue, tasks, act, place).await?;
                done.add(&step);
                place = step.next;
                if place.is_none() || !go_on(&done) {
                    return Ok(done);
                }
            }
        };
        self.recorded(&name, target, all, |done: &BulkDone| Some(done.done))
            .await
    }

    /// Makes all scheduled tasks of a queue pending (Go: `RunAllScheduledTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn run_all_scheduled_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Scheduled), Act::Run)
            .await?
            .done)
    }

    /// Makes all tasks of a queue pending that wait for their retry (Go: `RunAllRetryTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn run_all_retry_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Retry), Act::Run)
            .await?
            .done)
    }

    /// Makes all archived tasks of a queue pending (Go: `RunAllArchivedTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn run_all_archived_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Archived), Act::Run)
            .await?
            .done)
    }

    /// Makes all tasks pending that wait in a group (Go: `RunAllAggregatingTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn run_all_aggregating_tasks(&self, queue: &str, group: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::Group(GroupKey::new(group)?), Act::Run)
            .await?
            .done)
    }

    /// Archives all pending tasks of a queue (Go: `ArchiveAllPendingTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn archive_all_pending_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Pending), Act::Archive)
            .await?
            .done)
    }

    /// Archives all scheduled tasks of a queue (Go: `ArchiveAllScheduledTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn archive_all_scheduled_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Scheduled), Act::Archive)
            .await?
            .done)
    }

    /// Archives all tasks of a queue that wait for their retry (Go: `ArchiveAllRetryTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn archive_all_retry_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Retry), Act::Archive)
            .await?
            .done)
    }

    /// Archives all tasks that wait in a group (Go: `ArchiveAllAggregatingTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn archive_all_aggregating_tasks(&self, queue: &str, group: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::Group(GroupKey::new(group)?), Act::Archive)
            .await?
            .done)
    }

    /// Deletes all pending tasks of a queue (Go: `DeleteAllPendingTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn delete_all_pending_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Pending), Act::Delete)
            .await?
            .done)
    }

    /// Deletes all scheduled tasks of a queue (Go: `DeleteAllScheduledTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn delete_all_scheduled_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Scheduled), Act::Delete)
            .await?
            .done)
    }

    /// Deletes all tasks of a queue that wait for their retry (Go: `DeleteAllRetryTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn delete_all_retry_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Retry), Act::Delete)
            .await?
            .done)
    }

    /// Deletes all archived tasks of a queue (Go: `DeleteAllArchivedTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn delete_all_archived_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Archived), Act::Delete)
            .await?
            .done)
    }

    /// Deletes all completed tasks of a queue, with their results (Go: `DeleteAllCompletedTasks`). Returns their
    /// number. See [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn delete_all_completed_tasks(&self, queue: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::State(TaskState::Completed), Act::Delete)
            .await?
            .done)
    }

    /// Deletes all tasks that wait in a group (Go: `DeleteAllAggregatingTasks`). Returns their number. See
    /// [`act_on_all`](Self::act_on_all).
    ///
    /// # Errors
    /// As [`act_on_all`](Self::act_on_all).
    ///
    /// # Cancel safety
    /// As [`act_on_all`](Self::act_on_all).
    pub async fn delete_all_aggregating_tasks(&self, queue: &str, group: &str) -> Result<u64> {
        Ok(self
            .act_on_all(queue, &ListFilter::Group(GroupKey::new(group)?), Act::Delete)
            .await?
            .done)
    }
}
