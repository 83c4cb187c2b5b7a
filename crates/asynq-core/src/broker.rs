//! The interface between the runtime and a storage: the [`Broker`] and its value types.
//!
//! [`Broker`] has the operations of the hot path and [`Inspect`] those of administration. A [`Storage`] is both.
//! Operations on many items take a batch and return one result per item. The transitions are those of Go asynq, and
//! each method describes its differences.

mod connector;
mod enqueue;
mod groups;
mod take;
mod ticks;
mod upkeep;
mod watch;

use crate::{
    error::{BrokerError, EnqueueError, SettleError},
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskInfo, WorkerInfo},
    inspect::Inspect,
    names::{GroupKey, QueueName, TaskId},
    periodic::{EntryKey, TickMark},
    progress::Progress,
    statistics::StatisticsPart,
    tree::{ServerIdentity, TreeNode},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::{
    connector::{Connector, Env},
    enqueue::{EnqueueRequest, LARGE_BYTES, MAX_BATCH_BYTES, Placement},
    groups::{AGGREGATION_SET_LIFETIME, AggregationSet, GroupLimits, MAX_AGGREGATION_SET},
    take::{
        ARCHIVED_AGE, CallRecord, CallToken, EndedRun, Exchanged, LEASE, LeaseRef, LeaseUntil, LeasedTask,
        MAX_ARCHIVED, MAX_BATCH, Outcome, Poison, STATS_TTL, Settlement, Want,
    },
    ticks::{MAX_SCHEDULER_EVENTS, TICK_RECEIPT, Tick, TickStart, Ticked},
    upkeep::{Expired, ExpiredPlace, ExpiredTask, Forwarded, Healed, MAX_UNSTARTED, PUT_OFF, RECOVER_GRACE, Recovery},
    watch::{CancelRequest, Cancellations, Wake, Watch, WatchKind},
};
pub use crate::keys::MAX_SCORE;

/// A broker that can also be administered.
pub trait Storage: Broker + Inspect {}
impl<T: Broker + Inspect + ?Sized> Storage for T {}

/// The hot path of a task's storage. Object-safe.
///
/// A method never retries an operation that may have taken effect. It reports a lost answer as
/// [`BrokerError::Ambiguous`], and the caller decides.
#[async_trait]
pub trait Broker: Send + Sync + fmt::Debug + 'static {
    /// Enqueues a batch, and returns one result per item, in order. Each item is atomic by itself. Every call
    /// publishes the names of the queues (differences.md#the-index-of-queues).
    ///
    /// # Errors
    /// Per item: [`EnqueueError::DuplicateTask`] before [`EnqueueError::TaskIdConflict`], both without any effect
    /// (differences.md#locks-and-id-conflicts), and [`EnqueueError::Broker`].
    ///
    /// # Cancel safety
    /// Not safe: what was sent may take effect.
    async fn enqueue(&self, batch: &[Arc<EnqueueRequest>]) -> Vec<Result<TaskInfo, EnqueueError>>;

    /// Enqueues the task of a tick, if the tick is still to be decided. One script compares the tick with the last
    /// one of the entry, records it and creates the task, so exactly one of any number of schedulers enqueues the
    /// task (rules.md#one-tick-one-task). A tick is accepted if no mark exists, or if it is later than the last tick,
    /// or than the start of the period, by at least [`gap`](Tick::gap). A start that is later than the tick was
    /// written by a wrong clock, and is ignored. Each queue has its own marks.
    ///
    /// The same request for the same tick may be repeated any number of times, and always returns its first result.
    /// After a later tick has been decided, the first result is known while the task exists. The scheduler
    /// [`Tick::by`] can also learn it for [`TICK_RECEIPT`], unless the same scheduler has decided another tick since.
    ///
    /// With [`OnConflict::ReplaceFinished`](crate::periodic::OnConflict::ReplaceFinished), the same step deletes an
    /// archived or completed task with the same id, and its lock. A task in any other state stays and is a conflict.
    /// A lock that another task holds is a conflict too.
    ///
    /// A mark that cannot be read is logged and replaced, as if it did not exist. No tick is lost by it.
    ///
    /// # Errors
    /// Those of [`enqueue`](Self::enqueue). A duplicate or an id conflict decides the tick too, so no other scheduler
    /// tries it again. All other errors leave the tick undecided.
    ///
    /// # Cancel safety
    /// Not safe: what was sent may take effect.
    async fn enqueue_tick(&self, request: EnqueueRequest, tick: &Tick) -> Result<Ticked, EnqueueError>;

    /// Returns the last decided tick of each entry in its queue, or the start of its period. The result of an entry
    /// is `None` if no mark exists or the mark cannot be read. Returns one result per entry, in order. Reads only.
    async fn last_ticks(&self, entries: &[(QueueName, EntryKey)]) -> Vec<Result<Option<TickMark>, BrokerError>>;

    /// Records the start of the period of each entry without a tick, so that a scheduler that restarts within the
    /// first period continues the period. Existing marks do not change. Returns the marks after the call, as
    /// [`last_ticks`](Self::last_ticks) does. Publishes the names of the queues.
    ///
    /// # Cancel safety
    /// Safe: each start is remembered or not.
    async fn start_ticks(&self, starts: &[TickStart]) -> Vec<Result<Option<TickMark>, BrokerError>>;

    /// Opens the record of an exchange. The in-flight table must keep the record before the call is sent.
    fn begin(&self) -> CallRecord;

    /// Writes outcomes, then takes tasks. Each queue has one atomic script, and all scripts are sent in one round
    /// trip.
    ///
    /// # Cancel safety
    /// Not safe: run it in a task that belongs to the in-flight table.
    async fn exchange(&self, call: &CallRecord, settle: &[Settlement], want: &[Want]) -> Exchanged;

    /// Finds the tasks that a call without an answer took from a queue, and gives them a new lease. The task that has
    /// waited longest comes first. No lease is shortened, and each returned lease is the one now in force. The method
    /// first makes sure that the lost call can no longer run (`CLIENT KILL` of its connection).
    ///
    /// # Errors
    /// Any [`BrokerError`]; call it again.
    async fn adopt(&self, queue: &QueueName, lost: &CallRecord) -> Result<Vec<LeasedTask>, BrokerError>;

    /// Returns whether [`adopt`](Self::adopt) can make sure that the lost call has ended. If it cannot (`CLIENT KILL`
    /// is not permitted), the caller adopts again 5 s and 30 s later.
    fn adoption_is_final(&self) -> bool {
        true
    }

    /// Extends leases to `now` + 30 s, and returns one result per item: the lease now in force, or
    /// [`SettleError::NotOurs`]. An extension never shortens a lease and never creates one
    /// (rules.md#extensions-revive-nothing).
    ///
    /// If a [request to cancel](Inspect::cancel_task) is kept with a task, the extension reports the request again to
    /// the [subscriptions](Self::subscribe_cancellations) on this connection. A request that is kept is therefore
    /// never missed.
    ///
    /// [`SettleError::NoLease`] means that the task is still ours but its lease is missing (rules.md#fenced-settle),
    /// and that nothing was written. The last known lease remains valid until its end. [`heal`](Self::heal) creates a
    /// new lease, which the next extension finds.
    async fn extend_leases(&self, batch: Vec<LeaseRef>) -> Vec<Result<LeaseUntil, SettleError>>;

    /// Checks the queues and, if they are empty, leaves a watch on them.
    ///
    /// A watch of [`WatchKind::Delayed`] reports only changes: tasks that were delayed before do not count, even if
    /// they are due. Set the watch first, and call [`forward`](Self::forward) after it, which also returns the next
    /// due time.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] where only polling is possible.
    async fn watch(&self, queues: &[QueueName], kind: WatchKind) -> Result<Watch, BrokerError>;

    /// Moves the due tasks of a queue, scheduled ones before retries, at most `limit` of each. A task moves to
    /// pending, or into the group that its hash names; the group is then added to the index
    /// (differences.md#groups-of-forwarded-tasks). A group whose key is damaged delays only its own tasks. A task is
    /// due by its score, but a task of ours in the current second waits for its millisecond.
    async fn forward(&self, queue: &QueueName, limit: u32) -> Result<Forwarded, BrokerError>;

    /// Lists tasks whose lease ended at least `grace` ago, the longest ago first. Tasks that do not decode are
    /// quarantined and reported, and are never an error (differences.md#poison-messages). A call checks at most
    /// `limit` leases, so the list can be empty although [`more`](Expired::more) is set.
    ///
    /// The method compares leases with the storage's own time, which it asks for in the same call. If this connection
    /// sees that time jump forward by more than a second, the list is empty for 60 s. Living owners wrote their
    /// leases by the time before the jump, and extend them within these 60 s.
    ///
    /// # Errors
    /// Any [`BrokerError`].
    async fn expired(&self, queue: &QueueName, grace: Duration, limit: u32) -> Result<Expired, BrokerError> {
        self.expired_after(queue, grace, limit, &ExpiredPlace::default()).await
    }

    /// Like [`expired`](Self::expired), but continues after the place where an earlier call ended. Tasks that could
    /// be neither recovered nor quarantined therefore do not block the tasks behind them.
    ///
    /// # Errors
    /// Any [`BrokerError`].
    async fn expired_after(
        &self,
        queue: &QueueName,
        grace: Duration,
        limit: u32,
        place: &ExpiredPlace,
    ) -> Result<Expired, BrokerError>;

    /// Takes expired tasks from their dead owners. An item is refused with [`SettleError::NotOurs`] if its lease has
    /// changed since it was listed.
    async fn recover(&self, batch: Vec<Recovery>) -> Vec<Result<(), SettleError>>;

    /// Claims the repairs of a queue for `lasts` (whole milliseconds, at least 1), so that only one server at a time
    /// looks for damage. Returns whether this connection holds the claim now. A connection can renew its own claim at
    /// any time. The claim of another connection ends by itself, so a server that died only delays the repairs.
    ///
    /// The claim only saves work. Concurrent repairs by several servers do no harm.
    async fn claim_heal(&self, queue: &QueueName, lasts: Duration) -> Result<bool, BrokerError>;

    /// Repairs the remains of crashed writers (rules.md#stores-heal). Each call checks about `limit` entries of
    /// `active` and of `lease`, and `limit` keys of the database, from a place that moves on with each call of any
    /// server. The cost of a call therefore does not grow with the backlog, and damage is found when the place
    /// reaches it.
    ///
    /// A task that is missing in a long `pending` is found once the tasks that run next became pending more than a
    /// minute after it.
    async fn heal(&self, queue: &QueueName, limit: u32) -> Result<Healed, BrokerError>;

    /// Deletes at most `limit` completed tasks whose retention has ended, and returns their number.
    async fn delete_expired(&self, queue: &QueueName, limit: u32) -> Result<u32, BrokerError>;

    /// The groups of a queue that have tasks waiting.
    async fn list_groups(&self, queue: &QueueName) -> Result<Vec<GroupKey>, BrokerError>;

    /// Makes an aggregation set of a group that is full or old enough, and reads the set. If the group has more tasks
    /// than a set may have, the oldest are taken, in parts. The set is listed from its first part on, so that it is
    /// handed back after a crash.
    async fn collect_group(
        &self,
        queue: &QueueName,
        group: &GroupKey,
        limits: GroupLimits,
    ) -> Result<Option<AggregationSet>, BrokerError>;

    /// Keeps the set for another [`AGGREGATION_SET_LIFETIME`].
    ///
    /// # Errors
    /// [`BrokerError::AggregationSetGone`] when it was handed back.
    async fn extend_aggregation(&self, set: &AggregationSet) -> Result<LeaseUntil, BrokerError>;

    /// Gives a set up, and returns the time at which the set ends: `wait` from now, [in whole
    /// seconds](LeaseUntil::of_release), or its present end if that is sooner. After that time,
    /// [`reclaim_aggregation_sets`](Self::reclaim_aggregation_sets) hands the tasks back to their group, where they
    /// are aggregated again. Only the server that collected a set knows its name.
    ///
    /// # Errors
    /// [`BrokerError::AggregationSetGone`] when the set was handed back or finished.
    ///
    /// # Cancel safety
    /// Safe: it was given up or was not, and may be given up again.
    async fn release_aggregation(&self, set: &AggregationSet, wait: Duration) -> Result<LeaseUntil, BrokerError>;

    /// Enqueues the aggregated task in the place of the set, in one script. If the set is no longer listed, nothing
    /// happens (rules.md#one-script-ends-a-set). After the enqueue, the tasks of the set neither run nor return to
    /// their group. They are deleted in parts, by this call or later by
    /// [`reclaim_aggregation_sets`](Self::reclaim_aggregation_sets).
    ///
    /// # Errors
    /// [`BrokerError::AggregationSetGone`] inside [`EnqueueError::Broker`], and those of
    /// [`enqueue`](Self::enqueue).
    async fn finish_aggregation(&self, set: &AggregationSet, result: EnqueueRequest) -> Result<TaskInfo, EnqueueError>;

    /// Hands sets whose time is over back to their groups, and returns the number of sets. A set stays as it is if
    /// the key of its group holds another type; it is tried again after [`PUT_OFF`].
    ///
    /// A large set goes back in parts. With the first part, its owner loses the set.
    ///
    /// After a jump of the storage's time no set is handed back for a while, as with [`expired`](Self::expired).
    async fn reclaim_aggregation_sets(&self, queue: &QueueName) -> Result<u32, BrokerError>;

    /// Publishes a server and its workers for `ttl` (whole seconds, at least 1).
    async fn write_server_state(
        &self,
        server: &ServerInfo,
        workers: &[WorkerInfo],
        ttl: Duration,
    ) -> Result<(), BrokerError>;

    /// Removes a server and its workers.
    async fn clear_server_state(&self, server: &ServerInfo) -> Result<(), BrokerError>;

    /// Publishes the supervision tree of a server for `ttl` (whole seconds, at least 1; 10 s is usual), and replaces
    /// the earlier one.
    async fn write_tree(&self, server: &ServerIdentity, tree: &TreeNode, ttl: Duration) -> Result<(), BrokerError>;

    /// Removes the supervision tree of a server.
    async fn clear_tree(&self, server: &ServerIdentity) -> Result<(), BrokerError>;

    /// Writes buckets of the [statistics](crate::statistics) of a server. Each replaces the bucket that this server wrote
    /// for the same minute or hour, unless that one has more records: then it was written later, and stays. A write can
    /// therefore be repeated, and one that arrives late does no harm. The queue need not exist.
    ///
    /// Returns the number of buckets that were not written because the storage has
    /// [`MAX_BUCKETS`](crate::statistics::MAX_BUCKETS) of other servers or times for this hour or day.
    ///
    /// # Errors
    /// [`BrokerError::WrongType`] when a key of the statistics holds something else; the other buckets of the call may be
    /// written or not. [`BrokerError::OutOfMemory`] while the storage is full.
    ///
    /// # Cancel safety
    /// Each bucket is written or not. A call that is dropped may still take effect.
    async fn write_statistics(
        &self,
        queue: &QueueName,
        server: &ServerIdentity,
        parts: &[StatisticsPart],
    ) -> Result<u64, BrokerError>;

    /// Publishes the entries of a scheduler for `ttl` (whole seconds, at least 1).
    async fn write_scheduler_entries(
        &self,
        scheduler_id: &str,
        entries: &[SchedulerEntry],
        ttl: Duration,
    ) -> Result<(), BrokerError>;

    /// Removes the entries of a scheduler.
    async fn clear_scheduler_entries(&self, scheduler_id: &str) -> Result<(), BrokerError>;

    /// Adds an event to the history of an entry. Only the newest [`MAX_SCHEDULER_EVENTS`] events are kept.
    async fn record_enqueue_event(&self, entry_id: &str, event: &SchedulerEnqueueEvent) -> Result<(), BrokerError>;

    /// Deletes the history of an entry.
    async fn clear_scheduler_history(&self, entry_id: &str) -> Result<(), BrokerError>;

    /// Writes the result of a handler, and returns the number of bytes. The write succeeds only while the task is
    /// active under our claim (differences.md#results-of-lost-tasks).
    async fn write_result(&self, lease: &LeaseRef, result: Bytes) -> Result<usize, SettleError>;

    /// Writes the progress of a run, which [`TaskInfo::progress`] shows. The write succeeds only while the task is
    /// active under our claim, as for [`write_result`](Self::write_result).
    ///
    /// # Errors
    /// [`SettleError::NotOurs`] when the task is no longer ours. [`BrokerError::Refused`] for a progress beyond its
    /// [limits](Progress::check).
    async fn write_progress(&self, lease: &LeaseRef, progress: Progress) -> Result<(), SettleError>;

    /// Asks all servers to cancel a running task. Success means that the storage has passed the request to the
    /// servers that are subscribed at that moment. It does not mean that a run was cancelled.
    ///
    /// The request is not kept, unlike that of [`cancel_task`](Inspect::cancel_task). A server whose subscription is
    /// lost at that moment never receives it, as in Go. A server notices a lost subscription at once if its
    /// connection is closed, and within 6 s if its connection goes dead silently, and then subscribes again. Repeat
    /// the request while the task is still shown as active. A request for a task that does not run has no effect.
    async fn publish_cancellation(&self, id: &TaskId) -> Result<(), BrokerError>;

    /// Subscribes to cancel requests, and returns when the subscription is active. Requests that are published
    /// earlier, or after the [end](Cancellations::next) of a subscription, are not received.
    async fn subscribe_cancellations(&self) -> Result<Cancellations, BrokerError>;

    /// Returns whether the storage answers.
    async fn ping(&self) -> Result<(), BrokerError>;

    /// Closes the connections. Later calls fail with [`BrokerError::Closed`]. Idempotent.
    async fn close(&self);
}
