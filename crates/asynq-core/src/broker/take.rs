//! Values for taking and ending tasks: leases, tokens, and the parts of an exchange.

use crate::{
    error::{BrokerError, PoisonKind, SettleError},
    identity::ServerIdentity,
    message::TaskMessage,
    names::{QueueName, TaskId},
};
use chrono::{DateTime, Utc};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Duration of a lease, from the take and from each extension (Go: `LeaseDuration`).
pub const LEASE: Duration = Duration::from_secs(30);
/// Largest number of tasks that one call moves, also if more are requested (rules.md#bounded-calls).
pub const MAX_BATCH: u32 = 200;
/// Largest number of tasks that a server keeps archived for each queue; older ones are trimmed.
pub const MAX_ARCHIVED: u32 = 10_000;
/// Time for which archived tasks are kept.
pub const ARCHIVED_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Time for which daily counters are kept, from their first increment.
pub const STATS_TTL: Duration = Duration::from_secs(90 * 24 * 3600);

/// The token of one call of [`Broker::exchange`](super::Broker::exchange): `<server uuid>-<seq>@<lease>`. The call
/// writes the token on each task that it takes, and the token fences every later write (rules.md#calls-outlive-actors
/// and rules.md#fenced-settle). The lease in the token is that of the take, in Unix seconds. While the task still has
/// this lease, no server has extended it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallToken(Arc<str>);

impl CallToken {
    /// Returns the token of call number `seq` of one broker, which takes tasks with this lease.
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

/// The record of a call. It is made before the call is sent, so that the effect of the call can be found if the
/// answer is lost.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// Written on each task taken.
    pub token: CallToken,
    /// The connection on which the call is sent, as a number of the storage's own (0: none).
    pub connection: u64,
    /// The lease that the call writes, Unix seconds.
    pub lease_until: LeaseUntil,
}

/// The score of a lease, in whole Unix seconds of the storage's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseUntil(pub i64);

impl LeaseUntil {
    /// Returns the lease to write now: `now` + 30 s, rounded down.
    #[must_use]
    pub fn from_now(now: DateTime<Utc>) -> Self {
        Self((now + LEASE).timestamp())
    }

    /// The end of the lease.
    #[must_use]
    pub fn instant(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// The fence of a task that we took, for every write about the task.
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
    /// The deadline to the millisecond, if the message has it rounded down to seconds.
    pub deadline: Option<DateTime<Utc>>,
    /// Time from which on it was pending, if the storage says so: not after an adoption. If many tasks are taken at
    /// once, that of some is estimated from those before and behind them.
    pub pending_since: Option<DateTime<Utc>>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The run succeeded or revoked the task. The task is deleted, or kept as completed if `retain` is set and the
    /// message has a retention.
    Done {
        /// Keep it for its retention. False for revoked tasks.
        retain: bool,
    },
    /// Failure: try again at `at`.
    Retry {
        /// The time of the next run. Its score is rounded down to seconds. Our servers delay the task until this
        /// time, to the millisecond.
        at: DateTime<Utc>,
        /// The text stored in the task.
        error: String,
        /// `true` if the run is a failure: it increments `retried` and the counters.
        is_failure: bool,
    },
    /// Failure: archive the task.
    Archive {
        /// The text stored in the task.
        error: String,
    },
    /// The run did not end. The task goes back to the front of its queue, and nothing is counted.
    Requeue,
}

impl Outcome {
    /// Returns whether the task stays in the storage after this outcome.
    #[must_use]
    pub fn keeps(&self, message: &TaskMessage) -> bool {
        match self {
            Self::Done { retain } => *retain && message.retention > 0,
            Self::Retry { .. } | Self::Archive { .. } | Self::Requeue => true,
        }
    }
}

/// A run as its server knows it: what the record has beside the outcome and the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedRun {
    /// The server; `None` if it is not known.
    pub server: Option<Arc<ServerIdentity>>,
    /// Time of the start; `None` if it is not known.
    pub started: Option<DateTime<Utc>>,
    /// Time of the end; `None` for a lost run.
    pub ended: Option<DateTime<Utc>>,
}

/// An outcome that is to be written.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The claim that fences it.
    pub lease: LeaseRef,
    /// The message as it was taken.
    pub message: Arc<TaskMessage>,
    /// The end of the run.
    pub outcome: Outcome,
    /// The run, for the [record](crate::Runs) of the task. `None` if the task was not started, or if the outcome does
    /// not [keep](Outcome::keeps) the task; nothing is then recorded.
    pub run: Option<Box<EndedRun>>,
}

/// A request for tasks of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The queue.
    pub queue: QueueName,
    /// Largest number of tasks. One call never returns more than [`MAX_BATCH`].
    pub max: u32,
}

/// A task whose data cannot be used. It was quarantined or dropped from its container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// The queue.
    pub queue: QueueName,
    /// The id.
    pub id: TaskId,
    /// The kind of damage.
    pub kind: PoisonKind,
}

/// The answer to [`Broker::exchange`](super::Broker::exchange).
#[derive(Debug, Default)]
pub struct Exchanged {
    /// One answer for each settlement, in order.
    pub settled: Vec<Result<(), SettleError>>,
    /// The tasks that are now ours, in the order in which they must be started: by queue as requested, and within a
    /// queue the longest waiting first.
    pub leased: Vec<LeasedTask>,
    /// Entries without a usable task, which were quarantined or dropped.
    pub poisoned: Vec<Poison>,
    /// Queues that had fewer tasks than requested (empty or paused).
    pub exhausted: Vec<QueueName>,
    /// The queues whose part failed. The tasks of an ambiguous part must be [adopted](super::Broker::adopt) before an
    /// outcome is sent again.
    pub failed: Vec<(QueueName, BrokerError)>,
}
