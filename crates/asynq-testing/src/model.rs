//! The same random operations on several storages, and after each the same answers and the same
//! keys: a state-machine test whose model is another storage.
//!
//! [`steps`] makes the operations, [`Arena`] carries them out. What differs by nature is made equal
//! first: tokens of calls and ids of aggregation sets are told by the call that made them.

mod arena;
mod calls;
mod canon;
mod go;
mod sweeps;

use asynq_core::{Act, TaskState, Then};
use proptest::{collection::vec, prelude::*, sample::Index};

pub use arena::Arena;

/// Number of queues.
pub(crate) const QUEUES: usize = 2;
/// Number of ids that tasks choose from; few, so that they meet.
const IDS: usize = 8;
/// Number of groups.
pub(crate) const GROUPS: usize = 2;
/// Number of workers, each with a connection of its own.
pub(crate) const WORKERS: usize = 3;

/// The fate of a call on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrives, and so does its answer.
    Whole,
    /// It is executed, and its answer is lost.
    ReplyLost,
    /// It is not executed, and nobody knows.
    RequestLost,
    /// Its answer is lost, and it is executed later: after its replay, or never, if an adoption
    /// comes first.
    Late,
}

/// A new task.
#[derive(Clone, Debug)]
pub struct NewTask {
    pub(crate) queue: usize,
    pub(crate) id: usize,
    pub(crate) task_type: usize,
    pub(crate) payload: usize,
    pub(crate) place: Place,
    pub(crate) unique: bool,
    pub(crate) retention: i64,
}

/// The place of a new task.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// To the end of its queue.
    Now,
    /// To wait for so many seconds; negative: that time has passed.
    In(i64),
    /// Into this group.
    Group(usize),
}

/// The end of a run.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// Success.
    Done,
    /// Dropped.
    Revoke,
    /// Again in so many seconds, as a failure or not.
    Retry(i64, bool),
    /// Failure for good.
    Archive,
    /// Given back.
    Requeue,
}

/// One of the tasks that workers hold, or believe to hold.
#[derive(Clone, Debug)]
pub struct Pick {
    pub(crate) nth: Index,
    /// Not one that is held, but one that was.
    pub(crate) stale: bool,
}

/// One operation. Workers, queues and groups are numbers; tasks, calls and sets that came up before
/// are chosen by an [`Index`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the arguments of the operation of that name")]
pub enum Step {
    Enqueue {
        worker: usize,
        tasks: Vec<NewTask>,
        delivery: Delivery,
    },
    /// An earlier request again, with the same token.
    Resend {
        worker: usize,
        nth: Index,
        delivery: Delivery,
    },
    Exchange {
        worker: usize,
        settle: Vec<(Pick, End)>,
        want: Vec<(usize, u32)>,
        delivery: Delivery,
    },
    /// An exchange whose answer was lost.
    Adopt {
        nth: Index,
        delivery: Delivery,
    },
    /// Late calls of a worker arrive.
    Arrive {
        worker: usize,
    },
    /// A worker loses its connection and opens another; what it holds stays in its hands.
    Reconnect {
        worker: usize,
    },
    Extend {
        worker: usize,
        picks: Vec<Pick>,
        delivery: Delivery,
    },
    Result {
        worker: usize,
        pick: Pick,
        byte: u8,
        delivery: Delivery,
    },
    Forward {
        worker: usize,
        queue: usize,
        limit: u32,
        delivery: Delivery,
    },
    /// The task of [`Step::Recover`].
    Expired {
        worker: usize,
        queue: usize,
        grace: bool,
        limit: u32,
    },
    Recover {
        worker: usize,
        end: End,
        delivery: Delivery,
    },
    DeleteExpired {
        worker: usize,
        queue: usize,
        limit: u32,
    },
    /// There is nothing to repair, ever.
    Heal {
        worker: usize,
        queue: usize,
    },
    Collect {
        worker: usize,
        queue: usize,
        group: usize,
        size: Option<u32>,
        grace: u64,
        delay: Option<u64>,
    },
    ExtendSet {
        worker: usize,
        nth: Index,
    },
    ReleaseSet {
        worker: usize,
        nth: Index,
        wait: u64,
    },
    FinishSet {
        worker: usize,
        nth: Index,
        task: NewTask,
        delivery: Delivery,
    },
    Reclaim {
        worker: usize,
        queue: usize,
    },
    /// An operator runs a task at once.
    Run {
        worker: usize,
        queue: usize,
        id: usize,
        delivery: Delivery,
    },
    /// An operator archives a task.
    Archive {
        worker: usize,
        queue: usize,
        id: usize,
        delivery: Delivery,
    },
    /// An operator deletes a task.
    Delete {
        worker: usize,
        queue: usize,
        id: usize,
        delivery: Delivery,
    },
    /// An operator acts on all tasks of a state, or of a group.
    All {
        worker: usize,
        queue: usize,
        state: usize,
        group: usize,
        act: Act,
        delivery: Delivery,
    },
    /// An operator looks at the tasks of a state or of a group, some at a time.
    Look {
        worker: usize,
        queue: usize,
        state: usize,
        group: usize,
        size: u32,
    },
    /// An operator acts on every second, or third ... of the tasks of the last look.
    These {
        worker: usize,
        every: usize,
        act: Act,
        delivery: Delivery,
    },
    /// An operator changes the time of a task, to so many seconds from now.
    Reschedule {
        worker: usize,
        queue: usize,
        id: usize,
        secs: i64,
        delivery: Delivery,
    },
    /// An operator replaces a payload.
    UpdatePayload {
        worker: usize,
        queue: usize,
        id: usize,
        byte: u8,
        delivery: Delivery,
    },
    /// An operator clears the counters of a queue.
    ClearCounters {
        queue: usize,
    },
    /// An operator deletes a queue.
    DeleteQueue {
        worker: usize,
        queue: usize,
        force: bool,
    },
    /// An operator cancels a run.
    Cancel {
        worker: usize,
        queue: usize,
        id: usize,
        then: Then,
        delivery: Delivery,
    },
    Pause {
        queue: usize,
    },
    Unpause {
        queue: usize,
    },
    /// A Go server takes the next task.
    GoTakes {
        queue: usize,
    },
    /// A Go server recovers a task and leaves our fields where they are.
    GoRecovers {
        queue: usize,
    },
    /// Go servers recover a task and take it again.
    GoRetakes {
        queue: usize,
    },
    /// Milliseconds pass.
    Advance {
        millis: u64,
    },
}

/// A sequence of operations of this length.
pub fn steps(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), length)
}

/// One operation.
pub fn step() -> impl Strategy<Value = Step> {
    let administration = prop_oneof![
        3 => (worker(), queue(), 0..IDS, delivery())
            .prop_map(|(worker, queue, id, delivery)| Step::Run { worker, queue, id, delivery }),
        2 => (worker(), queue(), 0..IDS, delivery())
            .prop_map(|(worker, queue, id, delivery)| Step::Archive { worker, queue, id, delivery }),
        2 => (worker(), queue(), 0..IDS, delivery())
            .prop_map(|(worker, queue, id, delivery)| Step::Delete { worker, queue, id, delivery }),
        2 => (worker(), queue(), 0..TaskState::ALL.len(), 0..GROUPS, 0..Act::ALL.len(), delivery()).prop_map(
            |(worker, queue, state, group, act, delivery)| {
                Step::All { worker, queue, state, group, act: Act::ALL[act], delivery }
            }
        ),
        2 => (worker(), queue(), 0..TaskState::ALL.len(), 0..GROUPS, 1..4_u32).prop_map(
            |(worker, queue, state, group, size)| Step::Look { worker, queue, state, group, size }
        ),
        2 => (worker(), 1..3_usize, 0..Act::ALL.len(), delivery()).prop_map(|(worker, every, act, delivery)| {
            Step::These { worker, every, act: Act::ALL[act], delivery }
        }),
        2 => (worker(), queue(), 0..IDS, -10..60_i64, delivery()).prop_map(|(worker, queue, id, secs, delivery)| {
            Step::Reschedule { worker, queue, id, secs, delivery }
        }),
        2 => (worker(), queue(), 0..IDS, any::<u8>(), delivery()).prop_map(|(worker, queue, id, byte, delivery)| {
            Step::UpdatePayload { worker, queue, id, byte, delivery }
        }),
        1 => queue().prop_map(|queue| Step::ClearCounters { queue }),
        1 => (worker(), queue(), any::<bool>()).prop_map(|(worker, queue, force)| Step::DeleteQueue { worker, queue, force }),
        6 => (worker(), queue(), 0..IDS, 0..Then::ALL.len(), delivery())
            .prop_map(|(worker, queue, id, then, delivery)| Step::Cancel { worker, queue, id, then: Then::ALL[then], delivery }),
        1 => queue().prop_map(|queue| Step::Pause { queue }),
        2 => queue().prop_map(|queue| Step::Unpause { queue }),
        2 => queue().prop_map(|queue| Step::GoTakes { queue }),
        2 => queue().prop_map(|queue| Step::GoRecovers { queue }),
        3 => queue().prop_map(|queue| Step::GoRetakes { queue }),
        1 => (worker(), queue()).prop_map(|(worker, queue)| Step::Heal { worker, queue }),
        1 => (worker(), queue(), 1..5_u32).prop_map(|(worker, queue, limit)| Step::DeleteExpired { worker, queue, limit }),
    ];
    prop_oneof![
        8 => enqueue(),
        12 => exchange(),
        5 => time(),
        2 => worker().prop_map(|worker| Step::Arrive { worker }),
        1 => worker().prop_map(|worker| Step::Reconnect { worker }),
        2 => (worker(), any::<Index>(), delivery()).prop_map(|(worker, nth, delivery)| Step::Resend { worker, nth, delivery }),
        3 => (any::<Index>(), delivery()).prop_map(|(nth, delivery)| Step::Adopt { nth, delivery }),
        3 => (worker(), vec(pick(), 1..5), delivery())
            .prop_map(|(worker, picks, delivery)| Step::Extend { worker, picks, delivery }),
        1 => (worker(), pick(), any::<u8>(), delivery())
            .prop_map(|(worker, pick, byte, delivery)| Step::Result { worker, pick, byte, delivery }),
        4 => (worker(), queue(), 1..9_u32, delivery())
            .prop_map(|(worker, queue, limit, delivery)| Step::Forward { worker, queue, limit, delivery }),
        4 => sweep(),
        6 => grouping(),
        10 => administration,
    ]
}

fn worker() -> impl Strategy<Value = usize> {
    0..WORKERS
}

/// Mostly the first, so that much comes together there.
fn queue() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0_usize), 1 => 0..QUEUES]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        12 => Just(Delivery::Whole),
        2 => Just(Delivery::ReplyLost),
        1 => Just(Delivery::RequestLost),
        2 => Just(Delivery::Late),
    ]
}

fn time() -> impl Strategy<Value = Step> {
    let millis = prop_oneof![0..3_000_u64, 1_000..40_000_u64, 55_000..130_000_u64];
    millis.prop_map(|millis| Step::Advance { millis })
}

fn pick() -> impl Strategy<Value = Pick> {
    (any::<Index>(), prop::bool::weighted(0.15)).prop_map(|(nth, stale)| Pick { nth, stale })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Done),
        1 => Just(End::Revoke),
        3 => (-2..30_i64, any::<bool>()).prop_map(|(secs, failure)| End::Retry(secs, failure)),
        1 => Just(End::Archive),
        2 => Just(End::Requeue),
    ]
}

fn new_task() -> impl Strategy<Value = NewTask> {
    let place = prop_oneof![
        6 => Just(Place::Now),
        2 => (-10..60_i64).prop_map(Place::In),
        2 => (0..GROUPS).prop_map(Place::Group),
    ];
    let retention = prop_oneof![3 => Just(0_i64), 1 => 1..90_i64];
    (
        queue(),
        0..IDS,
        0..2_usize,
        0..3_usize,
        place,
        prop::bool::weighted(0.3),
        retention,
    )
        .prop_map(|(queue, id, task_type, payload, place, unique, retention)| NewTask {
            queue,
            id,
            task_type,
            payload,
            place,
            unique,
            retention,
        })
}

fn enqueue() -> impl Strategy<Value = Step> {
    let tasks = prop_oneof![2 => vec(new_task(), 1..2), 1 => vec(new_task(), 1..8)];
    (worker(), tasks, delivery()).prop_map(|(worker, tasks, delivery)| Step::Enqueue {
        worker,
        tasks,
        delivery,
    })
}

fn exchange() -> impl Strategy<Value = Step> {
    let settle = prop_oneof![1 => vec((pick(), end()), 0..2), 1 => vec((pick(), end()), 0..6)];
    let want = vec((queue(), 1..5_u32), 0..3);
    (worker(), settle, want, delivery()).prop_map(|(worker, settle, want, delivery)| Step::Exchange {
        worker,
        settle,
        want,
        delivery,
    })
}

fn sweep() -> impl Strategy<Value = Step> {
    prop_oneof![
        (worker(), queue(), prop::bool::weighted(0.7), 1..5_u32).prop_map(|(worker, queue, grace, limit)| {
            Step::Expired {
                worker,
                queue,
                grace,
                limit,
            }
        }),
        (worker(), end(), delivery()).prop_map(|(worker, end, delivery)| Step::Recover { worker, end, delivery }),
    ]
}

fn grouping() -> impl Strategy<Value = Step> {
    let size = prop::option::of(0..3_u32);
    let delay = prop::option::of(0..60_u64);
    prop_oneof![
        4 => (worker(), queue(), 0..GROUPS, size, 0..10_u64, delay).prop_map(|(worker, queue, group, size, grace, delay)| {
            Step::Collect { worker, queue, group, size, grace, delay }
        }),
        1 => (worker(), any::<Index>()).prop_map(|(worker, nth)| Step::ExtendSet { worker, nth }),
        1 => (worker(), any::<Index>(), 0..200_u64)
            .prop_map(|(worker, nth, wait)| Step::ReleaseSet { worker, nth, wait }),
        2 => (worker(), any::<Index>(), new_task(), delivery())
            .prop_map(|(worker, nth, task, delivery)| Step::FinishSet { worker, nth, task, delivery }),
        2 => (worker(), queue()).prop_map(|(worker, queue)| Step::Reclaim { worker, queue }),
    ]
}
