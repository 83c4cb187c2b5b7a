//! A storage that fails on demand: [`FaultyBroker`] around any other, told what to do by
//! [`Faults`].
//!
//! ```
//! use asynq_core::BrokerError;
//! use asynq_testing::faulty::{Fault, Faults, Op};
//!
//! let faults = Faults::new();
//! faults.next(Op::Enqueue, Fault::Fail(|| BrokerError::OutOfMemory));
//! faults.next(Op::Exchange, Fault::LoseReply);
//! // let broker = faults.around(storage);
//! ```

mod admin;
mod broker;
mod connector;
mod parts;
mod plan;
mod queues;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::{BrokerError, QueueName, Storage};
use futures::future::BoxFuture;
use tokio::sync::watch;

pub use broker::FaultyBroker;
pub use connector::FaultyConnector;
pub use plan::Plan;
use queues::Orders;
pub use queues::QueueFaults;

/// An operation of a storage, or of its connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum Op {
    Connect,
    Enqueue,
    EnqueueTick,
    LastTicks,
    StartTicks,
    Exchange,
    Adopt,
    ExtendLeases,
    Watch,
    Forward,
    Expired,
    Recover,
    ClaimHeal,
    Heal,
    DeleteExpired,
    ListGroups,
    CollectGroup,
    ExtendAggregation,
    ReleaseAggregation,
    FinishAggregation,
    ReclaimAggregationSets,
    WriteServerState,
    ClearServerState,
    WriteTree,
    ClearTree,
    WriteStatistics,
    WriteSchedulerEntries,
    ClearSchedulerEntries,
    RecordEnqueueEvent,
    ClearSchedulerHistory,
    WriteResult,
    WriteProgress,
    PublishCancellation,
    SubscribeCancellations,
    Ping,
    Queues,
    QueueInfo,
    History,
    GroupInfos,
    ListTasks,
    TaskInfo,
    TaskState,
    RunTask,
    ArchiveTask,
    DeleteTask,
    ActOnSome,
    ActOnThese,
    ScanTasks,
    UpdateTaskPayload,
    RescheduleTask,
    ClearCounters,
    ClusterKeySlot,
    ClusterNodes,
    CancelTask,
    Pause,
    Unpause,
    DeleteQueue,
    Servers,
    Workers,
    Trees,
    SchedulerEntries,
    EnqueueEvents,
    RecordAct,
    Trail,
    Statistics,
    Audit,
    Repair,
    QueueFacts,
    StorageFacts,
}

/// The fault of one call.
#[derive(Clone, Copy)]
pub enum Fault {
    /// It fails with this error and is not executed.
    Fail(fn() -> BrokerError),
    /// It is executed, and its answer is lost: [`BrokerError::Ambiguous`].
    LoseReply,
    /// It is not executed, and nobody can know: [`BrokerError::Ambiguous`].
    LoseRequest,
    /// Its answer is lost at once, and it is executed by [`Faults::run_late`] ("executed after the replay").
    /// Only [`Op::Enqueue`], [`Op::EnqueueTick`] and [`Op::Exchange`] can; others are then not executed at all.
    Late,
    /// It waits for [`Faults::release`] and is executed then.
    Hang,
    /// It is executed at once; its answer waits for [`Faults::release`].
    HoldReply,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(error) => write!(f, "Fail({})", error()),
            Self::LoseReply => f.write_str("LoseReply"),
            Self::LoseRequest => f.write_str("LoseRequest"),
            Self::Late => f.write_str("Late"),
            Self::Hang => f.write_str("Hang"),
            Self::HoldReply => f.write_str("HoldReply"),
        }
    }
}

impl Fault {
    /// The storage is away: [`BrokerError::Unavailable`].
    #[must_use]
    pub fn unavailable() -> Self {
        Self::Fail(|| BrokerError::Unavailable { source: None })
    }
}

struct LateCall {
    connection: Option<u64>,
    run: BoxFuture<'static, ()>,
}

#[derive(Default)]
struct Script {
    orders: Orders,
    queues: HashMap<String, Orders>,
    plan: Option<Plan>,
    /// The longest wait for the part of a queue that hangs.
    late_after: Option<Duration>,
    /// Queues into which nothing is enqueued.
    refusing: HashMap<String, fn() -> BrokerError>,
    late: Vec<LateCall>,
    /// Calls on a lost connection cannot be ended.
    no_barrier: bool,
}

/// The record of a [`Faults`].
#[derive(Clone, Debug, Default)]
struct Seen {
    calls: HashMap<Op, u64>,
    hanging: HashMap<Op, usize>,
    released: u64,
    /// The same of each queue.
    parts: HashMap<(Op, String), u64>,
    hanging_of: HashMap<(Op, String), usize>,
    released_of: HashMap<String, u64>,
}

struct Shared {
    script: Mutex<Script>,
    seen: watch::Sender<Seen>,
}

/// The control of one or more faulty brokers and connectors. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("seen", &*self.0.seen.borrow())
            .finish_non_exhaustive()
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

/// The instruction for a call.
enum Verdict {
    Execute,
    Fail(BrokerError),
    LoseReply,
    HoldReply,
    Late,
}

impl Faults {
    /// No faults: everything passes.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            script: Mutex::default(),
            seen: watch::channel(Seen::default()).0,
        }))
    }

    /// A storage that does what this control says.
    #[must_use]
    pub fn around<B: Storage + ?Sized + 'static>(&self, storage: Arc<B>) -> FaultyBroker<B> {
        FaultyBroker::new(storage, self.clone())
    }

    /// The next call of the operation that no earlier order concerns gets this fault.
    pub fn next(&self, op: Op, fault: Fault) {
        self.script().orders.next(op, fault);
    }

    /// Every call of the operation gets this fault, after those of [`next`](Self::next).
    pub fn always(&self, op: Op, fault: Fault) {
        self.script().orders.always(op, fault);
    }

    /// Every call of every operation, connecting too, gets this fault, after those of
    /// [`next`](Self::next) and [`always`](Self::always).
    pub fn all(&self, fault: Fault) {
        self.script().orders.all(fault);
    }

    /// Returns what is enqueued into this queue fails with this error and is not executed, and so does the
    /// reading of its last ticks; other items of the same call pass.
    pub fn refuse(&self, queue: &str, error: fn() -> BrokerError) {
        self.script().refusing.insert(queue.to_owned(), error);
    }

    /// Faults by chance, where no order concerns a call.
    pub fn plan(&self, plan: Plan) {
        self.script().plan = Some(plan);
    }

    /// From now on an adoption cannot make sure that the lost call is over, as where `CLIENT KILL`
    /// is not permitted: it is not final, and [late](Fault::Late) calls stay.
    pub fn without_barrier(&self) {
        self.script().no_barrier = true;
    }

    /// Takes back all orders and plans, those for single queues too. What hangs goes on hanging.
    pub fn clear(&self) {
        let mut script = self.script();
        let late = std::mem::take(&mut script.late);
        *script = Script {
            late,
            no_barrier: script.no_barrier,
            late_after: script.late_after,
            ..Script::default()
        };
    }

    /// Lets all calls that hang go on.
    pub fn release(&self) {
        self.0.seen.send_modify(|seen| seen.released += 1);
    }

    /// Executes all calls that are [late](Fault::Late), in the order in which they were made.
    pub async fn run_late(&self) {
        let late = std::mem::take(&mut self.script().late);
        for call in late {
            call.run.await;
        }
    }

    /// Returns how many calls of the operation were made.
    #[must_use]
    pub fn calls(&self, op: Op) -> u64 {
        self.0.seen.borrow().calls.get(&op).copied().unwrap_or(0)
    }

    /// Returns how many calls of the operation hang.
    #[must_use]
    pub fn hanging(&self, op: Op) -> usize {
        self.0.seen.borrow().hanging.get(&op).copied().unwrap_or(0)
    }

    /// Waits until so many calls of the operation were made.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn called(&self, op: Op, times: u64) {
        // The sender is ours, so waiting cannot fail.
        let _ = self
            .0
            .seen
            .subscribe()
            .wait_for(|seen| seen.calls.get(&op).is_some_and(|n| *n >= times))
            .await;
    }

    /// Waits until so many calls of the operation hang.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn hung(&self, op: Op, times: usize) {
        // The sender is ours, so waiting cannot fail.
        let _ = self
            .0
            .seen
            .subscribe()
            .wait_for(|seen| seen.hanging.get(&op).is_some_and(|n| *n >= times))
            .await;
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, queue: &str) -> Option<BrokerError> {
        self.script().refusing.get(queue).map(|error| error())
    }

    fn fault_for(&self, op: Op) -> Option<Fault> {
        let mut script = self.script();
        let ordered = script.orders.take(op);
        ordered.or_else(|| script.plan.as_ref()?.draw(op))
    }

    /// Counts a call and says what it is to do, after the wait if it hangs.
    async fn enter(&self, op: Op) -> Verdict {
        self.0.seen.send_modify(|seen| *seen.calls.entry(op).or_default() += 1);
        match self.fault_for(op) {
            None => Verdict::Execute,
            Some(Fault::Fail(error)) => Verdict::Fail(error()),
            Some(Fault::LoseRequest) => Verdict::Fail(lost()),
            Some(Fault::LoseReply) => Verdict::LoseReply,
            Some(Fault::HoldReply) => Verdict::HoldReply,
            Some(Fault::Late) => Verdict::Late,
            Some(Fault::Hang) => {
                self.hang(op).await;
                Verdict::Execute
            }
        }
    }

    async fn hang(&self, op: Op) {
        let released = self.0.seen.borrow().released;
        self.0
            .seen
            .send_modify(|seen| *seen.hanging.entry(op).or_default() += 1);
        let _hanging = Hanging { faults: self, op };
        // The sender is ours, so waiting cannot fail.
        let _ = self.0.seen.subscribe().wait_for(|seen| seen.released > released).await;
    }

    /// Runs a call with one result.
    async fn guard<T, E: From<BrokerError>>(&self, op: Op, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        match self.enter(op).await {
            Verdict::Execute => call.await,
            Verdict::Fail(error) => Err(error.into()),
            Verdict::LoseReply => {
                drop(call.await);
                Err(lost().into())
            }
            Verdict::HoldReply => {
                let answer = call.await;
                self.hang(op).await;
                answer
            }
            Verdict::Late => Err(lost().into()),
        }
    }

    /// Runs a call that concerns one queue.
    async fn guard_queue<T, E: From<BrokerError>>(
        &self,
        op: Op,
        queue: &QueueName,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.guard(op, self.part_of(op, queue, call)).await
    }

    /// Runs a call under the fault of a queue.
    async fn part_of<T, E: From<BrokerError>>(
        &self,
        op: Op,
        queue: &QueueName,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match self.fault_of(op, queue.as_str()) {
            None => call.await,
            Some(Fault::Fail(error)) => Err(error().into()),
            // As for all queues: few operations can be executed later.
            Some(Fault::LoseRequest | Fault::Late) => Err(lost().into()),
            Some(Fault::LoseReply) => {
                drop(call.await);
                Err(lost().into())
            }
            Some(Fault::HoldReply) => {
                let answer = call.await;
                let released = self.hang_part(op, queue.as_str()).await;
                if released { answer } else { Err(lost().into()) }
            }
            Some(Fault::Hang) => {
                let released = self.hang_part(op, queue.as_str()).await;
                if released { call.await } else { Err(lost().into()) }
            }
        }
    }

    fn later(&self, connection: Option<u64>, run: BoxFuture<'static, ()>) {
        self.script().late.push(LateCall { connection, run });
    }

    /// Makes sure that requests which were sent on this connection and did not arrive never will.
    fn barrier(&self, connection: u64) {
        let mut script = self.script();
        if !script.no_barrier {
            script.late.retain(|call| call.connection != Some(connection));
        }
    }
}

struct Hanging<'f> {
    faults: &'f Faults,
    op: Op,
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.faults.0.seen.send_modify(|seen| {
            if let Some(count) = seen.hanging.get_mut(&self.op) {
                *count -= 1;
            }
        });
    }
}

/// The answer was lost.
fn lost() -> BrokerError {
    BrokerError::Ambiguous { source: None }
}

/// The same kind of error again, for each item of a batch.
fn again(error: &BrokerError) -> BrokerError {
    match error {
        BrokerError::Ambiguous { .. } => lost(),
        BrokerError::OutOfMemory => BrokerError::OutOfMemory,
        BrokerError::ReadOnly => BrokerError::ReadOnly,
        BrokerError::Busy { reason } => BrokerError::Busy { reason: reason.clone() },
        BrokerError::Closed => BrokerError::Closed,
        BrokerError::WrongType { key } => BrokerError::WrongType { key: key.clone() },
        BrokerError::Unavailable { .. } => BrokerError::Unavailable { source: None },
        other => BrokerError::Refused {
            source: other.to_string().into(),
        },
    }
}
