//! The seam between the runtime and a task's storage: the [`Broker`] and its value types.
//!
//! [`Broker`] is the hot path, [`Inspect`] the administration; a
//! [`Storage`] is both. Work that comes in numbers is taken in batches and answered per item.
//! The transitions are those of Go asynq; what differs is said at each method.

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
        ARCHIVED_AGE, CallRecord, CallToken, Exchanged, LEASE, LeaseRef, LeaseUntil, LeasedTask, MAX_ARCHIVED,
        MAX_BATCH, Outcome, Poison, STATS_TTL, Settlement, Want,
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
/// No method is retried inside once it may have taken effect: an answer that was lost is
/// [`BrokerError::Ambiguous`], and the caller decides.
#[async_trait]
pub trait Broker: Send + Sync + fmt::Debug + 'static {
    /// Enqueues a batch; as many answers as items, each atomic for itself. The queue names are
    /// published with every call (differences.md#the-index-of-queues).
    ///
    /// # Errors
    /// Per item: [`EnqueueError::DuplicateTask`] before [`EnqueueError::TaskIdConflict`], both
    /// without any effect (differences.md#locks-and-id-conflicts); [`EnqueueError::Broker`].
    ///
    /// # Cancel safety
    /// Not safe: what was sent may take effect.
    async fn enqueue(&self, batch: &[Arc<EnqueueRequest>]) -> Vec<Result<TaskInfo, EnqueueError>>;

    /// Enqueues the task of a tick, if the tick is still to be decided: one script compares and sets the last
    /// tick of the entry and creates the task, so that of any number of schedulers one does it
    /// (rules.md#one-tick-one-task). A tick is accepted if nothing is remembered, or if it is later than the
    /// last one, or than the start of its period, by [`gap`](Tick::gap) at least. A start that lies after the
    /// tick was written by a clock that was wrong, and counts as none. Ticks are remembered in each queue for
    /// itself.
    ///
    /// The same request for the same tick may be sent again and again: it is answered as the first time.
    /// Once a later tick was decided, that is known while the task lives, and from [`Tick::by`] for
    /// [`TICK_RECEIPT`], unless that one has decided another tick since.
    ///
    /// With [`OnConflict::ReplaceFinished`](crate::periodic::OnConflict::ReplaceFinished) an archived or
    /// completed task that has the id is deleted with its lock, in the same step. Any other task stays, and is
    /// a conflict, as is a lock that another task holds.
    ///
    /// What is remembered but cannot be read is told in the log and replaced, as if there were nothing:
    /// no tick is lost by it.
    ///
    /// # Errors
    /// Those of [`enqueue`](Self::enqueue). A duplicate or an id conflict decides the tick too: no other
    /// scheduler tries it again. All others leave it open.
    ///
    /// # Cancel safety
    /// Not safe: what was sent may take effect.
    async fn enqueue_tick(&self, request: EnqueueRequest, tick: &Tick) -> Result<Ticked, EnqueueError>;

    /// The last tick that was decided of each entry, each in its queue, or where its period starts; `None`:
    /// nothing is remembered, or what is there cannot be read. As many answers as entries. Reads only.
    async fn last_ticks(&self, entries: &[(QueueName, EntryKey)]) -> Vec<Result<Option<TickMark>, BrokerError>>;

    /// Remembers of entries without a tick where their periods start, so that a scheduler that is restarted
    /// within the first period goes on with it. What is remembered already stays. Answers what is remembered now,
    /// as [`last_ticks`](Self::last_ticks); as many answers as entries. The queue names are published.
    ///
    /// # Cancel safety
    /// Safe: each start is remembered or not.
    async fn start_ticks(&self, starts: &[TickStart]) -> Vec<Result<Option<TickMark>, BrokerError>>;

    /// Opens the record of an exchange. To be kept in the in-flight table before the call is sent.
    fn begin(&self) -> CallRecord;

    /// Writes outcomes and takes tasks, one atomic script for each queue concerned, all in one
    /// round trip. Outcomes are written before tasks are taken.
    ///
    /// # Cancel safety
    /// Not safe: run it in a task that belongs to the in-flight table.
    async fn exchange(&self, call: &CallRecord, settle: &[Settlement], want: &[Want]) -> Exchanged;

    /// Finds the tasks that a call without answer took from a queue, longest waiting first, and gives
    /// them a new lease; none is shortened, so it is the one now in force. Makes sure first that the lost
    /// call can no longer run (`CLIENT KILL` of its connection).
    ///
    /// # Errors
    /// Any [`BrokerError`]; call it again.
    async fn adopt(&self, queue: &QueueName, lost: &CallRecord) -> Result<Vec<LeasedTask>, BrokerError>;

    /// Returns whether [`adopt`](Self::adopt) can make sure that the lost call is over. Where it cannot
    /// (`CLIENT KILL` is not permitted), the caller adopts again 5 s and 30 s later.
    fn adoption_is_final(&self) -> bool {
        true
    }

    /// Extends leases to `now` + 30 s; never shortens, never re-creates one
    /// (rules.md#extensions-revive-nothing). As many answers as items: the lease now in force, or
    /// [`SettleError::NotOurs`].
    ///
    /// A task whose run [was asked to end](Inspect::cancel_task) is told again to the
    /// [subscriptions](Self::subscribe_cancellations) on this connection, so that no request that is kept is
    /// missed.
    ///
    /// A task of ours whose lease is missing is still ours (rules.md#fenced-settle), but nothing was written:
    /// [`SettleError::NoLease`]. The lease that was known before stands until its end, and no longer.
    /// [`heal`](Self::heal) puts one in place, which the next extension finds.
    async fn extend_leases(&self, batch: Vec<LeaseRef>) -> Vec<Result<LeaseUntil, SettleError>>;

    /// Looks at the queues and, if there is nothing, leaves a watch on them.
    ///
    /// For [`WatchKind::Delayed`] what is there is nothing new, due or not: the watch tells of changes
    /// only. So set it first and [forward](Self::forward) after, which also tells the next due time.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] where only polling is possible.
    async fn watch(&self, queues: &[QueueName], kind: WatchKind) -> Result<Watch, BrokerError>;

    /// Moves due tasks of a queue, scheduled first, then retry, at most `limit` of each: to pending, or into
    /// the group that the hash names (with the group's index, differences.md#groups-of-forwarded-tasks). A
    /// group whose key is damaged puts off its own tasks and no others. Due is what the score says, but a task
    /// of the current second that we wrote waits for its millisecond.
    async fn forward(&self, queue: &QueueName, limit: u32) -> Result<Forwarded, BrokerError>;

    /// Lists tasks whose lease ended at least `grace` ago, the longest ago first. Undecodable ones are
    /// quarantined and reported, never an error (differences.md#poison-messages). At most `limit` leases are
    /// looked at, so there may be none to list and [`more`](Expired::more) nevertheless.
    ///
    /// Leases are judged by the storage's own time, asked for in this call. For 60 s after that time jumped
    /// forward by more than a second, as far as this connection can see, none are listed: living owners wrote
    /// theirs by the time before, and extend them meanwhile.
    ///
    /// # Errors
    /// Any [`BrokerError`].
    async fn expired(&self, queue: &QueueName, grace: Duration, limit: u32) -> Result<Expired, BrokerError> {
        self.expired_after(queue, grace, limit, &ExpiredPlace::default()).await
    }

    /// The same, behind a place where an earlier call ended: so what could be neither recovered nor put
    /// aside keeps nobody from those behind it.
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

    /// Takes expired tasks from their dead owners. Each is refused as [`SettleError::NotOurs`]
    /// when its lease is no longer the one that was seen.
    async fn recover(&self, batch: Vec<Recovery>) -> Vec<Result<(), SettleError>>;

    /// Claims the repairs of a queue for `lasts` (whole milliseconds, at least 1), so that of all servers
    /// one looks for damage at a time. Whether this connection holds the claim now: its own it may renew
    /// at any time; another's ends by itself, and with a server that died nothing is lost but that time.
    ///
    /// The claim spares work and protects nothing: repairs of several servers harm nobody.
    async fn claim_heal(&self, queue: &QueueName, lasts: Duration) -> Result<bool, BrokerError>;

    /// Repairs what crashed writers left behind (rules.md#stores-heal). Bounded: about `limit` entries of
    /// `active` and of `lease` and `limit` keys of the database are looked at, from a place that moves on
    /// with each call, whichever server makes it. So the cost of a call does not grow with the backlog,
    /// and damage is found once the place has come to it.
    ///
    /// A task that is missing in a long `pending` is found when it is overtaken: when the tasks that run
    /// next became pending a minute later than it.
    async fn heal(&self, queue: &QueueName, limit: u32) -> Result<Healed, BrokerError>;

    /// Deletes completed tasks whose retention is over; the number deleted, at most `limit`.
    async fn delete_expired(&self, queue: &QueueName, limit: u32) -> Result<u32, BrokerError>;

    /// The groups of a queue that have tasks waiting.
    async fn list_groups(&self, queue: &QueueName) -> Result<Vec<GroupKey>, BrokerError>;

    /// Makes an aggregation set of a group that is full or old enough, and reads it. Of a group with more
    /// tasks than a set may have the oldest are taken, in parts; a set that was begun is listed, so that what
    /// a crash leaves is handed back.
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

    /// Gives a set up: its time is over `wait` from now, [in whole seconds](LeaseUntil::of_release), or when it
    /// was to be over, if that is sooner. Then [`reclaim_aggregation_sets`](Self::reclaim_aggregation_sets) hands
    /// its tasks back to their group, where they are aggregated anew. Returns when. Only the one who collected a
    /// set knows its name.
    ///
    /// # Errors
    /// [`BrokerError::AggregationSetGone`] when it was handed back or finished.
    ///
    /// # Cancel safety
    /// Safe: it was given up or was not, and may be given up again.
    async fn release_aggregation(&self, set: &AggregationSet, wait: Duration) -> Result<LeaseUntil, BrokerError>;

    /// Enqueues the aggregated task in the place of the set, in one script: if the set is no longer listed,
    /// nothing happens (rules.md#one-script-ends-a-set). From then on its tasks neither run nor return to their
    /// group; they are deleted in parts, by this call or, if it comes to no end, by
    /// [`reclaim_aggregation_sets`](Self::reclaim_aggregation_sets).
    ///
    /// # Errors
    /// [`BrokerError::AggregationSetGone`] inside [`EnqueueError::Broker`], and those of
    /// [`enqueue`](Self::enqueue).
    async fn finish_aggregation(&self, set: &AggregationSet, result: EnqueueRequest) -> Result<TaskInfo, EnqueueError>;

    /// Hands sets that outlived their time back to their groups; the number of sets. One whose group's key
    /// holds another type stays as it is, and is looked at again in [`PUT_OFF`].
    ///
    /// A large set goes back in parts. From the first one on, it is no longer its owner's.
    ///
    /// Soon after a jump of the storage's time none is handed back, as with [`expired`](Self::expired).
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

    /// Publishes the supervision tree of a server for `ttl` (whole seconds, at least 1; 10 s are usual),
    /// in place of the one before.
    async fn write_tree(&self, server: &ServerIdentity, tree: &TreeNode, ttl: Duration) -> Result<(), BrokerError>;

    /// Removes the supervision tree of a server.
    async fn clear_tree(&self, server: &ServerIdentity) -> Result<(), BrokerError>;

    /// Publishes the entries of a scheduler for `ttl` (whole seconds, at least 1).
    async fn write_scheduler_entries(
        &self,
        scheduler_id: &str,
        entries: &[SchedulerEntry],
        ttl: Duration,
    ) -> Result<(), BrokerError>;

    /// Removes the entries of a scheduler.
    async fn clear_scheduler_entries(&self, scheduler_id: &str) -> Result<(), BrokerError>;

    /// Adds to the history of an entry; the oldest beyond [`MAX_SCHEDULER_EVENTS`] go.
    async fn record_enqueue_event(&self, entry_id: &str, event: &SchedulerEnqueueEvent) -> Result<(), BrokerError>;

    /// Deletes the history of an entry.
    async fn clear_scheduler_history(&self, entry_id: &str) -> Result<(), BrokerError>;

    /// Writes what a handler calls its result; the number of bytes. Only while the task is active
    /// under our claim (differences.md#results-of-lost-tasks).
    async fn write_result(&self, lease: &LeaseRef, result: Bytes) -> Result<usize, SettleError>;

    /// Writes how far the run of a task has come, which [`TaskInfo::progress`] shows. Only while the task
    /// is active under our claim, as [`write_result`](Self::write_result).
    ///
    /// # Errors
    /// [`SettleError::NotOurs`] when the task is no longer ours. A progress beyond its
    /// [limits](Progress::check) is refused: [`BrokerError::Refused`].
    async fn write_progress(&self, lease: &LeaseRef, progress: Progress) -> Result<(), SettleError>;

    /// Asks all servers to cancel a running task. Success means that the storage has passed the request on to
    /// the servers that were listening at that moment, not that a run was cancelled.
    ///
    /// A request is not kept, other than one of [`cancel_task`](Inspect::cancel_task): a server whose subscription is
    /// lost at that moment never receives it, as in Go. A lost subscription is noticed at once where its connection
    /// is closed, and within 6 s where it went dead in silence; then the server subscribes again. Publish again while
    /// the task is still shown as active: a request for a task that does not run has no effect.
    async fn publish_cancellation(&self, id: &TaskId) -> Result<(), BrokerError>;

    /// Subscribes to cancel requests; returns once the subscription stands. Requests published before, or after
    /// the [end](Cancellations::next) of an earlier subscription, are not told.
    async fn subscribe_cancellations(&self) -> Result<Cancellations, BrokerError>;

    /// Returns whether the storage answers.
    async fn ping(&self) -> Result<(), BrokerError>;

    /// Closes the connections; later calls answer [`BrokerError::Closed`]. Idempotent.
    async fn close(&self);
}
