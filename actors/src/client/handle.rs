//! The handle of the client actor, which a system and its clients use.

use std::{fmt, sync::Arc, time::Duration};

use asynq_core::{
    EnqueueError, Task, TaskId, TaskInfo, TaskOptions,
    broker::{EnqueueRequest, Env},
    config::ClientSettings,
};
use ractor::DerivedActorRef;
use tokio::{sync::oneshot, time::Instant};

use super::{
    ANSWER_SLACK, ClientActor, ClientArgs, ClientMsg, DRAIN_WITHIN, EnqueueMsg, Queued, Reply,
    limits::{Admission, Limits},
};
use crate::{
    broker::BrokerHandle,
    supervision::{
        shutdown_budget::ShutdownBudget,
        supervised_ref::SupervisedRef,
        supervisor::{ChildSpec, Shutdown},
    },
};

/// Sends enqueues to the client actor; follows restarts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClientHandle {
    pub(super) actor: SupervisedRef<ClientMsg>,
    limits: Arc<Limits>,
    env: Env,
}

impl ClientHandle {
    pub(crate) fn new(settings: &ClientSettings, env: Env) -> Self {
        Self {
            actor: SupervisedRef::new(),
            limits: Arc::new(Limits::new(settings)),
            env,
        }
    }

    /// Enqueues a task. Waits while too many enqueues are waiting.
    pub(crate) async fn enqueue(&self, task: &Task, options: &TaskOptions) -> Result<TaskInfo, EnqueueError> {
        let request = self.limits.compose(task, options, &self.env)?;
        let admission = self.limits.admit(&request).await?;
        self.send(request, admission).await
    }

    /// Enqueues a task, or says at once that too many are waiting.
    pub(crate) async fn try_enqueue(&self, task: &Task, options: &TaskOptions) -> Result<TaskInfo, EnqueueError> {
        let request = self.limits.compose(task, options, &self.env)?;
        let admission = self.limits.try_admit(&request)?;
        self.send(request, admission).await
    }

    async fn send(&self, request: EnqueueRequest, admission: Admission) -> Result<TaskInfo, EnqueueError> {
        let deadline = Instant::now() + self.limits.enqueue_within;
        let id = TaskId::from_storage(&request.message.id);
        let request = Arc::new(request);
        let mut ambiguous = false;
        let unknown = || EnqueueError::Unknown { id: id.clone() };
        loop {
            let (reply, answer) = oneshot::channel();
            let target = self.actor.get().map(|actor| actor.get_id());
            let queued = Queued {
                request: Arc::clone(&request),
                reply: Reply::Handle(reply),
                deadline,
                ambiguous,
                order: 0,
                admission: admission.clone(),
            };
            if self.actor.cast(ClientMsg::Composed(Box::new(queued))).is_ok() {
                // The actor answers by the deadline, unless it hangs.
                let answered = tokio::time::timeout_at(deadline + ANSWER_SLACK, answer);
                tokio::select! {
                    biased;
                    answered = answered => match answered {
                        Ok(Ok(answer)) => return answer,
                        // The actor died with it: whether it was sent is not known, so it goes again
                        // under the same token.
                        Ok(Err(_)) => ambiguous = true,
                        Err(_) => return Err(unknown()),
                    },
                    // The same, where the message stays in the mailbox because somebody has a reference to
                    // the dead actor: so it may when it was sent while the mailbox closed (tokio's channel).
                    true = self.actor.newer(target, Duration::MAX) => ambiguous = true,
                }
            }
            let successor = tokio::select! {
                biased;
                () = self.limits.closed.cancelled() => false,
                newer = self.actor.newer(target, deadline - Instant::now()) => newer,
            };
            if !successor {
                return Err(if ambiguous { unknown() } else { EnqueueError::Closed });
            }
        }
    }

    /// The actor that takes [`EnqueueMsg`] now; `None` while it is being restarted. One
    /// incarnation: on a send error fetch it again.
    pub(crate) fn actor(&self) -> Option<DerivedActorRef<EnqueueMsg>> {
        self.actor.get().map(|actor| actor.get_derived())
    }

    /// A pause of about so long: half of it to one and a half.
    pub(super) fn around(&self, pause: Duration) -> Duration {
        self.env.entropy.around(pause)
    }

    /// Returns how many enqueues wait for their answer.
    pub(crate) fn waiting(&self) -> usize {
        self.limits.waiting()
    }

    pub(crate) fn close(&self) {
        self.limits.close();
    }

    /// The child spec of the actor at the path, in a system of which this is known of its end.
    pub(crate) fn spec(&self, broker: BrokerHandle, path: &'static str, ending: &ShutdownBudget) -> ChildSpec {
        let args = ClientArgs {
            path,
            ending: ending.clone(),
            limits: Arc::clone(&self.limits),
            env: self.env.clone(),
            broker,
        };
        ChildSpec::published("client", self.actor.clone(), move || (ClientActor, args.clone()))
            .shutdown(Shutdown::Drain(DRAIN_WITHIN))
    }
}

impl fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientHandle({} free)", self.limits.free())
    }
}
