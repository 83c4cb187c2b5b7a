//! One attempt at a batch of enqueues. The answers go to the callers; what may be sent again is returned.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    BrokerError, EnqueueError, TaskId, TaskInfo,
    broker::{EnqueueRequest, Env},
    traces::Sending,
};
use ractor::RpcReplyPort;
use tokio::{sync::oneshot, time::Instant};

use super::limits::{Admission, Limits};
use crate::{
    broker::{BrokerHandle, CONNECTING},
    metrics::storage_failed,
    per_queue::health::{PROMPT, unless_late},
    supervision::shutdown_budget::ShutdownBudget,
};

/// The first wait before what failed is sent again.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(20);

pub(super) type Answer = Result<TaskInfo, EnqueueError>;

/// The receiver of the answer to an enqueue.
#[derive(Debug)]
pub(super) enum Reply {
    Handle(oneshot::Sender<Answer>),
    Port(RpcReplyPort<Answer>, Sending),
    None(Sending),
}

impl Reply {
    /// The receiver of the answer to a message, which ends its span too.
    pub(super) fn to(port: Option<RpcReplyPort<Answer>>, sending: Sending) -> Self {
        match port {
            Some(port) => Self::Port(port, sending),
            None => Self::None(sending),
        }
    }

    pub(super) fn send(self, id: &str, answer: Answer) {
        match self {
            // A caller that no longer listens has given up.
            Self::Handle(reply) => drop(reply.send(answer)),
            Self::Port(port, sending) => {
                sending.end(answer.as_ref());
                drop(port.send(answer));
            }
            Self::None(sending) => {
                sending.end(answer.as_ref());
                if let Err(error) = answer {
                    tracing::error!(task = %id, %error, "a task sent by cast was not enqueued");
                }
            }
        }
    }
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Queued {
    /// Shared with the handle that would send it again, so that what waits is held once.
    pub(super) request: Arc<EnqueueRequest>,
    pub(super) reply: Reply,
    pub(super) deadline: Instant,
    /// `true` if an attempt may have taken effect.
    pub(super) ambiguous: bool,
    /// Its place among those that came to this incarnation of the actor.
    pub(super) order: u64,
    pub(super) admission: Admission,
}

impl Queued {
    /// Gives up: the error, or that nobody knows.
    pub(super) fn fail(self, error: EnqueueError, broker: &BrokerHandle) {
        let error = if self.ambiguous {
            EnqueueError::Unknown {
                id: TaskId::from_storage(&self.request.message.id),
            }
        } else {
            error
        };
        self.answer(Err(error), broker);
    }

    fn answer(self, answer: Answer, broker: &BrokerHandle) {
        let message = &self.request.message;
        broker.meters().enqueued(&message.queue, &answer);
        self.reply.send(&message.id, answer);
    }
}

/// The arguments of the client actor.
#[derive(Clone, Debug)]
pub(crate) struct ClientArgs {
    pub(super) limits: Arc<Limits>,
    pub(super) env: Env,
    pub(super) broker: BrokerHandle,
    pub(super) path: &'static str,
    pub(super) ending: ShutdownBudget,
}

/// Sends a batch to a queue once; what is to be sent again after `wait`.
pub(super) async fn attempt(args: &ClientArgs, queue: &str, batch: Vec<Queued>, wait: Duration) -> Vec<Queued> {
    let send = send(&args.broker, batch, wait);
    watched(args, queue, send, |again: &Vec<_>| !again.is_empty()).await
}

/// [`attempt`] of one item.
pub(super) async fn attempt_one(args: &ClientArgs, queue: &str, item: Queued, wait: Duration) -> Option<Queued> {
    watched(args, queue, send_one(&args.broker, item, wait), Option::is_some).await
}

/// Notes what an attempt says of its queue.
async fn watched<T>(
    args: &ClientArgs,
    queue: &str,
    send: impl Future<Output = (T, bool)>,
    failed: impl FnOnce(&T) -> bool,
) -> T {
    let began = Instant::now();
    let (again, answered) = unless_late(send, || args.limits.trouble(queue)).await;
    if failed(&again) {
        args.limits.trouble(queue);
    } else if answered && began.elapsed() <= PROMPT {
        args.limits.well(queue);
    }
    again
}

/// Returns the items to be sent again after `wait`, and whether the storage answered.
async fn send(broker: &BrokerHandle, batch: Vec<Queued>, wait: Duration) -> (Vec<Queued>, bool) {
    // What waited for its turn until its time was over is not sent at all.
    let now = Instant::now();
    let mut live = batch;
    if live.iter().any(|item| item.deadline <= now) {
        let late;
        (late, live) = live.into_iter().partition(|item| item.deadline <= now);
        late.into_iter().for_each(|item| item.fail(unavailable(broker), broker));
    }
    let mut again = Vec::new();
    let mut answered = false;
    let Some(deadline) = live.iter().map(|item| item.deadline).max() else {
        return (again, answered);
    };
    let requests: Vec<_> = live.iter().map(|item| Arc::clone(&item.request)).collect();
    match answers(broker, &requests, deadline).await {
        Some(answers) => {
            for (item, answer) in live.into_iter().zip(answers) {
                again.extend(item.settle(answer, wait, &mut answered, broker));
            }
        }
        None => live.into_iter().for_each(|item| item.unanswered(broker)),
    }
    (again, answered)
}

/// [`send`] of one item.
async fn send_one(broker: &BrokerHandle, item: Queued, wait: Duration) -> (Option<Queued>, bool) {
    if item.deadline <= Instant::now() {
        item.fail(unavailable(broker), broker);
        return (None, false);
    }
    match answers(broker, std::slice::from_ref(&item.request), item.deadline).await {
        Some(answers) => {
            let mut answered = false;
            let answer = answers.into_iter().next();
            let again = answer.and_then(|answer| item.settle(answer, wait, &mut answered, broker));
            (again, answered)
        }
        None => {
            item.unanswered(broker);
            (None, false)
        }
    }
}

impl Queued {
    /// Gives the caller the answer to an attempt; returns the item if it is to be sent again after `wait`. Notes whether
    /// the storage has `answered`.
    fn settle(mut self, answer: Answer, wait: Duration, answered: &mut bool, broker: &BrokerHandle) -> Option<Self> {
        match answer {
            Err(EnqueueError::Broker(error)) => {
                self.ambiguous |= error.is_ambiguous();
                // Memory does not come back by asking.
                let for_good = !error.is_retryable() || matches!(error, BrokerError::OutOfMemory);
                if !for_good && Instant::now() + wait < self.deadline {
                    return Some(self);
                }
                self.fail(error.into(), broker);
            }
            Err(EnqueueError::Closed) => self.fail(EnqueueError::Closed, broker),
            answer => {
                *answered = true;
                self.answer(answer, broker);
            }
        }
        None
    }

    /// rules.md#ambiguous-is-a-state: no answer by the deadline.
    fn unanswered(mut self, broker: &BrokerHandle) {
        self.ambiguous = true;
        self.fail(unavailable(broker), broker);
    }
}

/// One attempt; `None` when the call has not ended by the deadline.
async fn answers(broker: &BrokerHandle, batch: &[Arc<EnqueueRequest>], deadline: Instant) -> Option<Vec<Answer>> {
    let storage = match broker.prompt_storage(CONNECTING).await {
        Ok(storage) => storage,
        Err(BrokerError::Closed) => return Some(batch.iter().map(|_| Err(EnqueueError::Closed)).collect()),
        Err(_) => return Some(batch.iter().map(|_| Err(unavailable(broker))).collect()),
    };
    if let Some(first) = batch.first() {
        broker.meters().batch(&first.message.queue, batch.len());
    }
    let answers = tokio::time::timeout_at(deadline, storage.enqueue(batch)).await.ok()?;
    // They share their cause.
    let failed = answers.iter().find_map(|answer| match answer {
        Err(EnqueueError::Broker(error)) => Some(error),
        _ => None,
    });
    if let Some(error) = failed {
        storage_failed(error);
    }
    Some(answers)
}

pub(super) fn unavailable(broker: &BrokerHandle) -> EnqueueError {
    broker.unreachable().into()
}
