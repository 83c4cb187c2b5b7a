//! One attempt at a batch of enqueues. The answers go to the callers; what may be sent again is returned.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    BrokerError, EnqueueError, TaskId, TaskInfo,
    broker::{EnqueueRequest, Env},
};
use ractor::RpcReplyPort;
use tokio::{sync::oneshot, time::Instant};

use super::limits::{Admission, Limits};
use crate::{
    broker::{BrokerHandle, CONNECTING},
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
    Port(RpcReplyPort<Answer>),
    None,
}

impl Reply {
    pub(super) fn send(self, id: &str, answer: Answer) {
        match self {
            // A caller that no longer listens has given up.
            Self::Handle(reply) => drop(reply.send(answer)),
            Self::Port(port) => drop(port.send(answer)),
            Self::None => {
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
    pub(super) fn fail(self, error: EnqueueError) {
        let error = if self.ambiguous {
            EnqueueError::Unknown {
                id: TaskId::from_storage(&self.request.message.id),
            }
        } else {
            error
        };
        self.reply.send(&self.request.message.id, Err(error));
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
    let began = Instant::now();
    let (again, answered) = unless_late(send(&args.broker, batch, wait), || args.limits.trouble(queue)).await;
    if !again.is_empty() {
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
    let (late, live): (Vec<_>, Vec<_>) = batch.into_iter().partition(|item| item.deadline <= now);
    late.into_iter().for_each(|item| item.fail(unavailable(broker)));
    let mut again = Vec::new();
    let mut answered = false;
    let Some(deadline) = live.iter().map(|item| item.deadline).max() else {
        return (again, answered);
    };
    match answers(broker, &live, deadline).await {
        Some(answers) => {
            for (mut item, answer) in live.into_iter().zip(answers) {
                match answer {
                    Err(EnqueueError::Broker(error)) => {
                        item.ambiguous |= error.is_ambiguous();
                        // Memory does not come back by asking.
                        let for_good = !error.is_retryable() || matches!(error, BrokerError::OutOfMemory);
                        if for_good || Instant::now() + wait >= item.deadline {
                            item.fail(error.into());
                        } else {
                            again.push(item);
                        }
                    }
                    Err(EnqueueError::Closed) => item.fail(EnqueueError::Closed),
                    answer => {
                        answered = true;
                        item.reply.send(&item.request.message.id, answer);
                    }
                }
            }
        }
        // rules.md#ambiguous-is-a-state: no answer by the deadline.
        None => live.into_iter().for_each(|mut item| {
            item.ambiguous = true;
            item.fail(unavailable(broker));
        }),
    }
    (again, answered)
}

/// One attempt; `None` when the call has not ended by the deadline.
async fn answers(broker: &BrokerHandle, batch: &[Queued], deadline: Instant) -> Option<Vec<Answer>> {
    let storage = match broker.prompt_storage(CONNECTING).await {
        Ok(storage) => storage,
        Err(BrokerError::Closed) => return Some(batch.iter().map(|_| Err(EnqueueError::Closed)).collect()),
        Err(_) => return Some(batch.iter().map(|_| Err(unavailable(broker))).collect()),
    };
    let requests: Vec<_> = batch.iter().map(|item| Arc::clone(&item.request)).collect();
    tokio::time::timeout_at(deadline, storage.enqueue(&requests)).await.ok()
}

pub(super) fn unavailable(broker: &BrokerHandle) -> EnqueueError {
    broker.unreachable().into()
}
