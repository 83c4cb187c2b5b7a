//! The seam between the runtime and a task's storage: the [`Broker`] and its value types.
//!
//! [`Broker`] is the hot path, [`Inspect`] the administration; a
//! [`Storage`] is both. Work that comes in numbers is taken in batches and answered per item.
//! The transitions are those of Go asynq; what differs is said at each method.

mod ticks;
mod upkeep;
mod watch;

use crate::{
    clock::Clock,
    entropy::Entropy,
    error::{BrokerError, EnqueueError, PoisonKind, SettleError},
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskInfo, WorkerInfo},
    inspect::Inspect,
    message::TaskMessage,
    names::{GroupKey, QueueName, TaskId},
    periodic::{EntryKey, TickMark},
    progress::Progress,
    tree::{ServerIdentity, TreeNode},
};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use prost::Message as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::{
    ticks::{Tick, TickStart, Ticked},
    upkeep::{Expired, ExpiredPlace, ExpiredTask, Forwarded, Healed, Recovery},
    watch::{CancelRequest, Cancellations, Wake, Watch, WatchKind},
};

/// How long a lease lasts, at the take and after each extension (Go: `LeaseDuration`).
pub const LEASE: Duration = Duration::from_secs(30);
/// How long an expired lease is left alone before its task is recovered (Go: recoverer.go).
pub const RECOVER_GRACE: Duration = Duration::from_secs(30);
/// How long an aggregation set belongs to the server that made it.
pub const AGGREGATION_SET_LIFETIME: Duration = Duration::from_secs(120);
/// How long something is left alone that cannot be moved as long as another key is damaged: a due task, or
/// an old aggregation set, whose group's key holds another type.
pub const PUT_OFF: Duration = Duration::from_secs(60);
/// How many tasks an aggregation set has at most, also where no size was asked for. What is more stays in
/// its group, for the next set.
pub const MAX_AGGREGATION_SET: u32 = 10_000;
/// How many tasks of one queue a server archives at most; older ones are trimmed.
pub const MAX_ARCHIVED: u32 = 10_000;
/// How long archived tasks are kept.
pub const ARCHIVED_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long daily counters are kept, from their first increment.
pub const STATS_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a scheduler that lost the answer to a tick can still hear how it was decided.
pub const TICK_RECEIPT: Duration = Duration::from_secs(3600);
/// How many enqueue events are kept for a scheduler entry.
pub const MAX_SCHEDULER_EVENTS: u32 = 1000;
/// The highest score that is written: above it, a score does not hold every whole number. Later times
/// are taken as this one, in 285 million years.
pub const MAX_SCORE: i64 = 1 << 53;
/// How many tasks one call moves at most, whatever was asked for (rules.md#bounded-calls).
pub const MAX_BATCH: u32 = 200;
/// How often a task that may never have been started is given back without counting a failure. One that ends
/// its process as soon as it runs looks the same, so there is an end to it.
pub const MAX_UNSTARTED: u32 = 3;
/// How many bytes of messages one call carries at most, the first item excepted.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// From so many bytes on, a message or a result may travel apart from smaller ones, so that these do not wait for
/// its bytes; it may then be carried out after what was sent later.
pub const LARGE_BYTES: usize = 256 << 10;

/// What a storage is opened with.
#[derive(Clone, Debug, Default)]
pub struct Env {
    /// The source of `now`.
    pub clock: Clock,
    /// The source of ids, tokens and jitter.
    pub entropy: Entropy,
}

/// Opens a storage. What the broker actor holds: it opens, it never knows Redis.
#[async_trait]
pub trait Connector: Send + Sync + fmt::Debug + 'static {
    /// Opens the storage and checks that it answers.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] when it cannot be reached (try again later), others when the
    /// settings are wrong.
    ///
    /// # Cancel safety
    /// Safe: dropping the future drops the half-open connection.
    async fn connect(&self, env: Env) -> Result<Arc<dyn Storage>, BrokerError>;

    /// Where it connects to, without secrets; for logs and the tree.
    fn describe(&self) -> String;

    /// Where a system on it takes time and randomness from, unless that is told otherwise. Default: from
    /// the operating system.
    fn env(&self) -> Env {
        Env::default()
    }
}

#[async_trait]
impl<C: Connector + ?Sized> Connector for Arc<C> {
    async fn connect(&self, env: Env) -> Result<Arc<dyn Storage>, BrokerError> {
        (**self).connect(env).await
    }

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn env(&self) -> Env {
        (**self).env()
    }
}

/// A broker that can also be administered.
pub trait Storage: Broker + Inspect {}
impl<T: Broker + Inspect + ?Sized> Storage for T {}

/// The token of one call of [`Broker::exchange`]: `<server uuid>-<seq>@<lease>`. It is written on each task
/// that the call takes and fences every later write (rules.md#calls-outlive-actors and rules.md#fenced-settle).
/// The lease that it names is the one of the take, in Unix seconds: as long as it is that of the task, nobody
/// has extended it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallToken(Arc<str>);

impl CallToken {
    /// The token of call number `seq` of one broker, which takes tasks for this lease.
    #[must_use]
    pub fn new(broker: &str, seq: u64, lease: LeaseUntil) -> Self {
        Self(format!("{broker}-{seq}@{}", lease.0).into())
    }

    /// The lease that a token names; `None` if it names none.
    #[must_use]
    pub fn lease_in(token: &str) -> Option<LeaseUntil> {
        let (_, lease) = token.rsplit_once('@')?;
        lease.parse().ok().map(LeaseUntil)
    }

    /// The text written to the hash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CallToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What must be known of a call before it is sent, so that its effect can be found again when
/// the answer is lost.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// Written on each task taken.
    pub token: CallToken,
    /// Which connection it goes out on; the number is the storage's own (0: none).
    pub connection: u64,
    /// The lease that the call writes, Unix seconds.
    pub lease_until: LeaseUntil,
}

/// The score of a lease, in whole Unix seconds of the storage's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseUntil(pub i64);

impl LeaseUntil {
    /// The lease that is written now: `now` + 30 s, floored.
    #[must_use]
    pub fn from_now(now: DateTime<Utc>) -> Self {
        Self((now + LEASE).timestamp())
    }

    /// The end of an aggregation set that is [given up](Broker::release_aggregation): `now` if there is nothing to
    /// wait for, else the first whole second that is not before `now` + `wait`. At most a
    /// [lifetime](AGGREGATION_SET_LIFETIME) of a set from now.
    #[must_use]
    pub fn of_release(now: DateTime<Utc>, wait: Duration) -> Self {
        let over = now + wait.min(AGGREGATION_SET_LIFETIME);
        let part = !wait.is_zero() && over.timestamp_subsec_nanos() > 0;
        Self(over.timestamp() + i64::from(part))
    }

    /// The end of the lease.
    #[must_use]
    pub fn instant(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// One task that we took: what fences every write that concerns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRef {
    /// The queue.
    pub queue: QueueName,
    /// The task.
    pub id: TaskId,
    /// The token of our take.
    pub token: CallToken,
    /// The highest lease that we wrote.
    pub until: LeaseUntil,
}

/// A task that was taken and is ours until its lease ends.
#[derive(Clone, Debug)]
pub struct LeasedTask {
    /// The task.
    pub message: Arc<TaskMessage>,
    /// Our claim on it.
    pub lease: LeaseRef,
    /// The deadline to the millisecond, where that of the message is floored.
    pub deadline: Option<DateTime<Utc>>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Success, or a revoked task: deleted, or kept as completed where `retain` is set and the
    /// message has a retention.
    Done {
        /// Keep it for its retention. False for revoked tasks.
        retain: bool,
    },
    /// Failure: try again at `at`.
    Retry {
        /// When; its score is floored to seconds, and we keep it back until then, to the millisecond.
        at: DateTime<Utc>,
        /// The text stored in the task.
        error: String,
        /// Whether it counts as a failure: `retried` + 1 and the counters.
        is_failure: bool,
    },
    /// Failure for good.
    Archive {
        /// The text stored in the task.
        error: String,
    },
    /// Not run to an end: back to the front of its queue, nothing counted.
    Requeue,
}

/// An outcome that is to be written.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The claim that fences it.
    pub lease: LeaseRef,
    /// The message as it was taken.
    pub message: Arc<TaskMessage>,
    /// How the run ended.
    pub outcome: Outcome,
}

/// How many tasks are wanted from a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The queue.
    pub queue: QueueName,
    /// At most so many; more than [`MAX_BATCH`] are never given in one call.
    pub max: u32,
}

/// A task whose data cannot be used. It was quarantined or dropped from its container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// The queue.
    pub queue: QueueName,
    /// The id.
    pub id: TaskId,
    /// What is wrong.
    pub kind: PoisonKind,
}

/// The answer to [`Broker::exchange`].
#[derive(Debug, Default)]
pub struct Exchanged {
    /// One answer for each settlement, in order.
    pub settled: Vec<Result<(), SettleError>>,
    /// The tasks that are now ours, in the order they are to be started: queue by queue as they were
    /// wanted, within a queue in the order of the take, longest waiting first.
    pub leased: Vec<LeasedTask>,
    /// What lay in the way and was put aside.
    pub poisoned: Vec<Poison>,
    /// Queues that had less than was wanted (empty or paused).
    pub exhausted: Vec<QueueName>,
    /// Queues whose part failed; the tasks of an ambiguous part must be
    /// [adopted](Broker::adopt) before anything is settled again.
    pub failed: Vec<(QueueName, BrokerError)>,
}

/// Where a new task goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// To the end of its queue.
    Pending,
    /// To wait until then, to the millisecond; the score is floored to seconds.
    Scheduled(DateTime<Utc>),
    /// Into a group.
    Group(GroupKey),
}

/// One task to enqueue, composed and checked.
#[derive(Clone, Debug)]
pub struct EnqueueRequest {
    /// The task. Its `unique_key` is set exactly if `unique_ttl` is.
    pub message: TaskMessage,
    /// Where it goes.
    pub placement: Placement,
    /// How long the lock lives, counted from the moment the task is due.
    pub unique_ttl: Option<Duration>,
    /// The deadline, where it has a fraction of a second: that of the message is floored. Kept to the
    /// millisecond.
    pub deadline: Option<DateTime<Utc>>,
    /// Tells our own earlier attempt from a stranger's task (rules.md#ambiguous-is-a-state). The same request may
    /// be sent again and again.
    pub token: u64,
}

impl EnqueueRequest {
    /// About how many bytes the request takes, in memory and on its way to the storage: the encoded
    /// message, the texts beside it, and what each header costs beyond its text.
    #[must_use]
    pub fn size(&self) -> usize {
        const FIXED: usize = 256;
        const HEADER: usize = 96;
        let group = match &self.placement {
            Placement::Group(group) => group.as_str().len(),
            Placement::Pending | Placement::Scheduled(_) => 0,
        };
        self.message.encoded_len() + group + HEADER * self.message.headers.len() + FIXED
    }
}

/// When a group is full or old enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Quiet time after the newest task; truncated to seconds.
    pub grace: Duration,
    /// Longest wait of the oldest task; `None`: no limit.
    pub max_delay: Option<Duration>,
    /// Most tasks in one set, no more than [`MAX_AGGREGATION_SET`] whatever is asked for; `None`: that many.
    pub max_size: Option<u32>,
}

impl GroupLimits {
    /// Returns how many tasks make a group full, and are the most in one set.
    #[must_use]
    pub fn most(&self) -> u32 {
        let asked = self.max_size.filter(|size| *size > 0);
        asked.unwrap_or(MAX_AGGREGATION_SET).min(MAX_AGGREGATION_SET)
    }
}

/// Tasks of one group, taken together to be made into one.
#[derive(Clone, Debug)]
pub struct AggregationSet {
    /// The queue.
    pub queue: QueueName,
    /// The group.
    pub group: GroupKey,
    /// The id of the set, a UUID v4.
    pub id: String,
    /// The tasks, oldest first.
    pub tasks: Vec<Arc<TaskMessage>>,
    /// When the set is handed back to its group unless extended.
    pub until: LeaseUntil,
}

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
    async fn enqueue(&self, batch: Vec<EnqueueRequest>) -> Vec<Result<TaskInfo, EnqueueError>>;

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
    async fn exchange(&self, call: &CallRecord, settle: Vec<Settlement>, want: Vec<Want>) -> Exchanged;

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
    /// [`BrokerError::Unsupported`] where only polling is to be had.
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
    /// A request is not kept, other than one of [`cancel_task`](Inspect::cancel_task): a server whose
    /// subscription is lost at that moment never hears of it, as in Go. A lost subscription is noticed at once
    /// where its end is told, and within 6 s where its connection went dead in silence; then the server
    /// subscribes again. Publish again while the task is still shown as active: a request for a task that does
    /// not run has no effect.
    async fn publish_cancellation(&self, id: &TaskId) -> Result<(), BrokerError>;

    /// Subscribes to cancel requests; returns once the subscription stands. Requests published before, or after
    /// the [end](Cancellations::next) of an earlier subscription, are not told.
    async fn subscribe_cancellations(&self) -> Result<Cancellations, BrokerError>;

    /// Returns whether the storage answers.
    async fn ping(&self) -> Result<(), BrokerError>;

    /// Closes the connections; later calls answer [`BrokerError::Closed`]. Idempotent.
    async fn close(&self);
}
