//! Faults of one queue: its part of a call fails, and the parts of the others pass.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use asynq_core::QueueName;

use super::{Fault, Faults, Op};

/// Orders for the calls of all queues, or of one.
#[derive(Default)]
pub(super) struct Orders {
    next: HashMap<Op, VecDeque<Fault>>,
    always: HashMap<Op, Fault>,
    all: Option<Fault>,
}

impl Orders {
    pub(super) fn next(&mut self, op: Op, fault: Fault) {
        self.next.entry(op).or_default().push_back(fault);
    }

    pub(super) fn always(&mut self, op: Op, fault: Fault) {
        self.always.insert(op, fault);
    }

    pub(super) fn all(&mut self, fault: Fault) {
        self.all = Some(fault);
    }

    pub(super) fn has(&self, op: Op) -> bool {
        self.all.is_some() || self.always.contains_key(&op) || self.next.get(&op).is_some_and(|next| !next.is_empty())
    }

    pub(super) fn take(&mut self, op: Op) -> Option<Fault> {
        let next = self.next.get_mut(&op).and_then(VecDeque::pop_front);
        next.or_else(|| self.always.get(&op).copied()).or(self.all)
    }
}

/// The control of one queue; made by [`Faults::for_queue`]. Its orders act on the queue's part of a call
/// alone: what the call does for other queues is done, and answered. They come after those that
/// concern all queues, and before a [plan](Faults::plan).
///
/// A part that hangs keeps the answer of its whole call back, as a storage does that waits for all of
/// its nodes; [`late_after`](Faults::late_after) sets a limit to that. A [watch](Op::Watch) over
/// several queues is one call: it gets the fault of the first queue that has one.
///
/// ```
/// use asynq_core::QueueName;
/// use asynq_testing::faulty::{Fault, Faults, Op};
///
/// let faults = Faults::new();
/// let sick = faults.for_queue(&QueueName::new("sick").unwrap());
/// sick.always(Op::Exchange, Fault::Hang);
/// // … and later:
/// sick.clear();
/// sick.release();
/// ```
#[derive(Clone, Debug)]
pub struct QueueFaults {
    pub(super) faults: Faults,
    pub(super) queue: QueueName,
}

impl QueueFaults {
    fn orders<T>(&self, act: impl FnOnce(&mut Orders) -> T) -> T {
        let mut script = self.faults.script();
        act(script.queues.entry(self.queue.to_string()).or_default())
    }

    /// The queue's part of the next call of the operation that no earlier order concerns gets this fault.
    pub fn next(&self, op: Op, fault: Fault) {
        self.orders(|orders| orders.next(op, fault));
    }

    /// The queue's part of every call of the operation gets this fault, after those of [`next`](Self::next).
    pub fn always(&self, op: Op, fault: Fault) {
        self.orders(|orders| orders.always(op, fault));
    }

    /// The queue's part of every call of every operation gets this fault, after those of
    /// [`next`](Self::next) and [`always`](Self::always).
    pub fn all(&self, fault: Fault) {
        self.orders(|orders| orders.all(fault));
    }

    /// Takes back all orders for this queue. What hangs goes on hanging.
    pub fn clear(&self) {
        self.orders(|orders| *orders = Orders::default());
    }

    /// Lets all parts of this queue that hang go on.
    pub fn release(&self) {
        self.faults
            .0
            .seen
            .send_modify(|seen| *seen.released_of.entry(self.queue.to_string()).or_default() += 1);
    }

    /// Returns how many calls of the operation had a part of this queue.
    #[must_use]
    pub fn calls(&self, op: Op) -> u64 {
        let key = (op, self.queue.to_string());
        self.faults.0.seen.borrow().parts.get(&key).copied().unwrap_or(0)
    }

    /// Returns how many parts of this queue hang in calls of the operation.
    #[must_use]
    pub fn hanging(&self, op: Op) -> usize {
        let key = (op, self.queue.to_string());
        self.faults.0.seen.borrow().hanging_of.get(&key).copied().unwrap_or(0)
    }

    /// Waits until so many parts of this queue hang in calls of the operation.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn hung(&self, op: Op, times: usize) {
        let key = (op, self.queue.to_string());
        // The sender is ours, so waiting cannot fail.
        let _ = self
            .faults
            .0
            .seen
            .subscribe()
            .wait_for(|seen| seen.hanging_of.get(&key).is_some_and(|n| *n >= times))
            .await;
    }
}

impl Faults {
    /// The faults of one queue, beside those of all queues.
    #[must_use]
    pub fn for_queue(&self, queue: &QueueName) -> QueueFaults {
        QueueFaults {
            faults: self.clone(),
            queue: queue.clone(),
        }
    }

    /// The part of a queue that hangs longer than this is answered as
    /// [ambiguous](asynq_core::BrokerError::Ambiguous), as a storage does that waits for no node
    /// longer than so. What was not executed by then is [late](Fault::Late). Default: it waits for
    /// ever.
    pub fn late_after(&self, limit: Duration) {
        self.script().late_after = Some(limit);
    }

    /// Returns whether the part of a queue in a call of the operation would get a fault.
    pub(super) fn has_orders(&self, op: Op, queue: &str) -> bool {
        self.script().queues.get(queue).is_some_and(|orders| orders.has(op))
    }

    /// Returns what is to happen to the part of a queue in a call that is executed otherwise.
    pub(super) fn fault_of(&self, op: Op, queue: &str) -> Option<Fault> {
        self.0
            .seen
            .send_modify(|seen| *seen.parts.entry((op, queue.to_owned())).or_default() += 1);
        self.script().queues.get_mut(queue)?.take(op)
    }

    /// Waits for the release of a queue; `false` when that takes longer than
    /// [`late_after`](Self::late_after) allows.
    pub(super) async fn hang_part(&self, op: Op, queue: &str) -> bool {
        let of = |seen: &super::Seen| seen.released_of.get(queue).copied().unwrap_or(0);
        let before = {
            let seen = self.0.seen.borrow();
            (seen.released, of(&seen))
        };
        let limit = self.script().late_after;
        let _hanging = Hanging::new(self, op, queue);
        let mut told = self.0.seen.subscribe();
        let released = told.wait_for(|seen| seen.released > before.0 || of(seen) > before.1);
        match limit {
            None => released.await.is_ok(),
            Some(limit) => tokio::time::timeout(limit, released).await.is_ok(),
        }
    }
}

struct Hanging<'f> {
    faults: &'f Faults,
    op: Op,
    queue: &'f str,
}

impl<'f> Hanging<'f> {
    fn new(faults: &'f Faults, op: Op, queue: &'f str) -> Self {
        faults.0.seen.send_modify(|seen| {
            *seen.hanging.entry(op).or_default() += 1;
            *seen.hanging_of.entry((op, queue.to_owned())).or_default() += 1;
        });
        Self { faults, op, queue }
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.faults.0.seen.send_modify(|seen| {
            let of_queue = seen.hanging_of.get_mut(&(self.op, self.queue.to_owned()));
            for count in seen.hanging.get_mut(&self.op).into_iter().chain(of_queue) {
                *count -= 1;
            }
        });
    }
}
