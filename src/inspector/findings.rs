//! Findings, and the errors of tasks.

use std::time::{Duration, Instant};

use asynq_core::{
    BrokerError, Inspect, QueueName, Result, TaskState,
    findings::{Findings, FindingsOptions, read_facts},
    inspect::{ListFilter, SCAN_STEP, ScanLimits},
    signature::{ErrorSignatures, Tally},
};

use super::Inspector;

/// Largest number of tasks that [`Inspector::error_signatures`] looks at.
pub const MAX_SIGNATURE_TASKS: u32 = 100_000;

/// The limits of [`Inspector::error_signatures_within`]. Whichever is reached first ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignatureLimits {
    /// Number of tasks to look at, 1 to 100,000; 10,000 by default.
    pub tasks: u32,
    /// Bytes of messages, results and progress to look at; 64 MiB by default. At least one step of up to 200 tasks or 1 MiB is made.
    pub bytes: u64,
    /// Time after which no further step begins; 2 s by default.
    pub time: Duration,
}

impl Default for SignatureLimits {
    fn default() -> Self {
        Self {
            tasks: 10_000,
            bytes: 64 << 20,
            time: Duration::from_secs(2),
        }
    }
}

impl SignatureLimits {
    /// Sets the number of tasks to look at.
    #[must_use]
    pub fn tasks(mut self, tasks: u32) -> Self {
        self.tasks = tasks;
        self
    }

    /// Sets the number of bytes to look at.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets the time after which no further step begins.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }
}

impl<B: Inspect + ?Sized> Inspector<B> {
    /// Returns what needs attention, most serious first, each with a sentence, evidence and a suggested command. With the
    /// default thresholds; see [`findings_with`](Self::findings_with).
    ///
    /// ```
    /// use asynq::{Client, Inspector, Task, inspector::{FindingKind, FindingsOptions}, memory::MemoryStore};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// let storage = MemoryStore::new();
    /// let client = Client::new(storage.clone()).await?;
    /// client.enqueue(Task::new("email:send", b"42")?).await?;
    ///
    /// let inspector = Inspector::connect(storage).await?;
    /// assert!(inspector.findings().await?.is_empty()); // enqueued just now
    /// let at_once = FindingsOptions::new().unserved_after(Duration::ZERO);
    /// let findings = inspector.findings_with(&at_once).await?;
    /// let finding = findings.iter().next().unwrap();
    /// assert!(matches!(finding.kind, FindingKind::NoConsumer { pending: 1, .. }));
    /// assert!(finding.to_string().starts_with("queue \"default\": no running server takes from it; 1 task pending"));
    /// assert_eq!(finding.command, "asynq server list");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker) if the list of queues cannot be read. Any other part that cannot be read is
    /// a finding of its own, [`FindingKind::Unreadable`](super::FindingKind::Unreadable).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn findings(&self) -> Result<Findings> {
        self.findings_with(&FindingsOptions::new()).await
    }

    /// As [`findings`](Self::findings), with thresholds of your own.
    ///
    /// Cost, in commands of Redis: for each queue one script of about half a millisecond. If all its servers tell the task
    /// types that they handle, one script and a `SISMEMBER` more for its pending tasks, and the same for its retry tasks, of up to
    /// 200 tasks and 1 MiB each; otherwise only for retry tasks that are enough for a storm. The size of the queue does not matter. 16 queues are read at once. For all queues together six commands; one for each server, each
    /// tree and each scheduler; and at most 80 for scheduler entries that are registered several times. In a cluster two
    /// of the six go to each master. A thousand queues that are all busy need up to 3,000 scripts.
    ///
    /// A queue that does not answer occupies one of the 16 places for 5 s, and is then marked.
    ///
    /// Samples are the tasks that run next. Groups beyond a hundred are sampled at random.
    ///
    /// # Errors
    /// As [`findings`](Self::findings).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn findings_with(&self, options: &FindingsOptions) -> Result<Findings> {
        let (facts, left_out) = read_facts(&*self.0, options).await?;
        Ok(Findings::of(&facts, left_out, options))
    }

    /// Groups the errors of the tasks in some states of a queue by their [signature](crate::inspector::signature), and
    /// counts them. At most `budget` tasks are looked at, 1 to 100,000, in the order of the states, in each state those
    /// that [`list_tasks`](Self::list_tasks) lists first. The answer has the 20 most frequent signatures, and says how
    /// many of how many tasks were looked at.
    ///
    /// Tasks that stay in their state all the while are neither missed nor counted twice; see
    /// [`Inspect::scan_tasks`].
    ///
    /// ```
    /// use asynq::{AsynqSystem, Error, Inspector, Task, TaskState, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// let system = AsynqSystem::builder(MemoryStore::new())
    ///     .handler(|task: Task| async move {
    ///         Err(Error::other(format!("user {} not found", String::from_utf8_lossy(task.get_payload()))))
    ///     })
    ///     .spawn()
    ///     .await?;
    /// for user in 1..=3 {
    ///     system.client().enqueue(Task::new("mail", user.to_string().as_bytes())?).await?;
    /// }
    /// let inspector = Inspector::new(system.storage().await?);
    /// while inspector.get_queue_stats("default").await?.retry < 3 {
    ///     tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    /// }
    /// let errors = inspector.error_signatures("default", &[TaskState::Retry], 1000).await?;
    /// assert_eq!(errors.top[0].signature, "user <n> not found");
    /// assert_eq!((errors.top[0].count, errors.looked_at, errors.total), (3, 3, 3));
    /// # system.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: one script for the numbers, and one of a millisecond or two and a `SISMEMBER` for every 200 tasks or 1 MiB.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a blank name; [`BrokerError::QueueNotFound`] inside
    /// [`Error::Broker`](crate::Error::Broker); [`BrokerError::GroupRequired`] for [`TaskState::Aggregating`], whose tasks
    /// have no errors.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn error_signatures(&self, queue: &str, states: &[TaskState], budget: u32) -> Result<ErrorSignatures> {
        let limits = SignatureLimits {
            tasks: budget,
            bytes: u64::MAX,
            time: Duration::MAX,
        };
        self.error_signatures_within(queue, states, &limits).await
    }

    /// As [`error_signatures`](Self::error_signatures), within limits of tasks, bytes and time. The answer says how many of how many
    /// tasks were looked at.
    ///
    /// # Errors
    /// As [`error_signatures`](Self::error_signatures).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn error_signatures_within(
        &self,
        queue: &str,
        states: &[TaskState],
        limits: &SignatureLimits,
    ) -> Result<ErrorSignatures> {
        let began = Instant::now();
        let queue = QueueName::new(queue)?;
        let facts = self.0.queue_facts(&queue, Duration::ZERO).await?;
        if !self.0.queues().await?.contains(&queue) {
            return Err(BrokerError::QueueNotFound { queue }.into());
        }
        let (mut left, mut read) = (limits.tasks.clamp(1, MAX_SIGNATURE_TASKS), None::<u64>);
        let is_over =
            |read: Option<u64>| read.is_some_and(|bytes| bytes >= limits.bytes || began.elapsed() >= limits.time);
        let (mut tally, mut total) = (Tally::default(), 0);
        for (nth, state) in states.iter().enumerate() {
            if states[..nth].contains(state) {
                continue;
            }
            let size = match state {
                TaskState::Pending => facts.pending,
                TaskState::Active => facts.active,
                TaskState::Scheduled => facts.scheduled,
                TaskState::Retry => facts.retry,
                TaskState::Archived => facts.archived,
                TaskState::Completed => facts.completed,
                _ => 0,
            };
            total += size;
            let (filter, mut place) = (ListFilter::State(*state), None);
            while left > 0 && !is_over(read) {
                let step = ScanLimits {
                    tasks: left.min(SCAN_STEP),
                    ..ScanLimits::default()
                };
                let step = self.0.scan_tasks(&queue, &filter, place.as_ref(), step).await?;
                let bytes: u64 = step.tasks.iter().map(|task| task.size).sum();
                read = Some(read.unwrap_or(0).saturating_add(bytes));
                step.tasks.iter().for_each(|task| tally.add(&task.info));
                left = left.saturating_sub(u32::try_from(step.tasks.len()).unwrap_or(u32::MAX));
                place = step.next;
                if place.is_none() {
                    break;
                }
            }
        }
        let total = total.max(tally.looked_at());
        Ok(tally.finish(total))
    }
}
