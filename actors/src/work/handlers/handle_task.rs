//! A task on its way to a handler actor, and the answer on its way back.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use asynq_core::{Hold, QueueName, Result, Task, TaskContext, TaskId};
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{incarnation::Incarnation, pool::Credit, traced};

/// No one has the task yet.
const OPEN: u8 = 0;
/// The actor won it, and its run waits for the answer.
const STARTED: u8 = 1;
/// Its run has it back, unstarted.
const WITHDRAWN: u8 = 2;
/// The actor won it, and its run has ended before the answer.
const ABANDONED: u8 = 3;
/// The actor answered, or let go of it.
const ENDED: u8 = 4;

/// The owner of a task; shared by its run and the actor. Each step is taken once.
#[derive(Debug)]
pub(super) struct Ticket {
    state: AtomicU8,
    live: Arc<Incarnation>,
}

/// The step that a run finds when it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withdrawal {
    /// The task was not started, and never will be.
    Unstarted,
    /// The task was started; the actor works on it.
    Started,
    /// The task was withdrawn before.
    Before,
    /// The actor has let go of it.
    Ended,
}

impl Ticket {
    pub(super) fn new(live: Arc<Incarnation>) -> Self {
        Self {
            state: AtomicU8::new(OPEN),
            live,
        }
    }

    fn step(&self, from: u8, to: u8) -> Result<(), u8> {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    fn start(&self) -> bool {
        let won = self.step(OPEN, STARTED).is_ok();
        if won {
            self.live.works(true);
        }
        won
    }

    fn end(&self) {
        if self.step(STARTED, ENDED).is_ok() {
            self.live.works(false);
        }
    }

    /// Takes the task back if nobody has started it.
    pub(super) fn take_back(&self) -> bool {
        self.step(OPEN, WITHDRAWN).is_ok()
    }

    pub(super) fn withdraw(&self) -> Withdrawal {
        let found = match self.step(OPEN, WITHDRAWN) {
            Ok(()) => return Withdrawal::Unstarted,
            Err(STARTED) => self.step(STARTED, ABANDONED).err().unwrap_or(STARTED),
            Err(found) => found,
        };
        match found {
            STARTED => {
                self.live.works(false);
                Withdrawal::Started
            }
            WITHDRAWN => Withdrawal::Before,
            _ => Withdrawal::Ended,
        }
    }
}

/// A task that is offered to a handler actor. [`start`](Self::start) is the only way to it.
///
/// Dropped unstarted, it goes to another instance, and nothing has failed; so a crash harms none
/// of the tasks that wait in the mailbox.
pub struct HandleTask {
    pub(super) task: Task,
    pub(super) context: TaskContext,
    pub(super) ticket: Arc<Ticket>,
    pub(super) answer: oneshot::Sender<Result<()>>,
    pub(super) credit: Credit,
}
crate::message!(HandleTask);

impl HandleTask {
    /// Its type.
    #[must_use]
    pub fn task_type(&self) -> &str {
        self.task.get_type()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        self.context.id()
    }

    /// Its queue.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        self.context.queue()
    }

    /// Returns when its run must have ended.
    #[must_use]
    pub fn deadline(&self) -> DateTime<Utc> {
        self.context.deadline()
    }

    /// Takes the task on. `None` when it is too late: the task was cancelled, ran out of time, or
    /// its lease was lost, while it waited in the mailbox.
    ///
    /// [`Task::context`] of the task is there: it tells of a cancel, and stores a result.
    ///
    /// With the feature `otel`, the trace context of the run is the current one for the rest of the message that the
    /// actor handles. What the actor does later, or elsewhere, attaches it itself (`TaskContext::otel_context`).
    #[must_use]
    pub fn start(mut self) -> Option<(Task, TaskReply)> {
        // Its run is about to say so.
        if self.context.is_cancelled() || self.context.deadline() <= self.credit.now() {
            self.ticket.withdraw();
            return None;
        }
        if !self.ticket.start() {
            return None;
        }
        self.credit.started();
        traced::started(self.context.trace());
        let reply = TaskReply {
            answer: Some(self.answer),
            ticket: self.ticket,
            credit: self.credit,
            _hold: self.context.hold(),
        };
        Some((self.task, reply))
    }
}

impl fmt::Debug for HandleTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleTask")
            .field("type", &self.task_type())
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// The reply to a started task. While it is held the instance has one task more to answer; it may be kept in the
/// actor's state, or be moved to a task of the actor's own.
///
/// Dropped without an answer, the task fails as by a panic.
#[must_use = "dropped, it fails the task"]
pub struct TaskReply {
    answer: Option<oneshot::Sender<Result<()>>>,
    ticket: Arc<Ticket>,
    credit: Credit,
    /// The task keeps its slot and its lease while the actor works on it, whatever became of its run.
    _hold: Hold,
}

impl TaskReply {
    /// Ends the task: `Ok` is success; an error retries, archives or drops it as that of any
    /// [`Handler`](asynq_core::Handler). Nobody listens when the run was ended meanwhile (see
    /// [`TaskContext::is_cancelled`]): the task then has the outcome of that end, once this is gone.
    pub fn send(mut self, result: Result<()>) {
        self.credit.answered();
        self.ticket.end();
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(result);
        }
    }
}

impl Drop for TaskReply {
    fn drop(&mut self) {
        self.ticket.end();
    }
}

impl fmt::Debug for TaskReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskReply")
    }
}
