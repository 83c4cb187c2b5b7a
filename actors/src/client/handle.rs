//! The handle of the client actor, which a system and its clients use.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use asynq_core::{
    EnqueueError, Task, TaskId, TaskInfo, TaskOptions,
    broker::{EnqueueRequest, Env},
    config::ClientSettings,
    trace_context::TraceContext,
    traces::Sending,
};
use futures::future::join_all;
use ractor::{ActorId, DerivedActorRef};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    ANSWER_SLACK, ClientActor, ClientArgs, ClientMsg, DRAIN_WITHIN, EnqueueMsg, Queued, Reply,
    attempt::Answer,
    limits::{Admission, Limits},
    lines::{CurrentLines, Held},
};
use crate::{
    broker::BrokerHandle,
    supervision::{
        shutdown_budget::ShutdownBudget,
        supervised_ref::SupervisedRef,
        supervisor::{ChildSpec, Shutdown},
    },
};

type Answered = oneshot::Receiver<Answer>;

/// A request that was admitted, until its answer.
struct Item {
    request: Arc<EnqueueRequest>,
    admission: Admission,
    deadline: Instant,
}

impl Item {
    /// Makes the message of an attempt, and where its answer comes.
    fn queued(&self, ambiguous: bool) -> (Queued, Answered) {
        let (reply, answer) = oneshot::channel();
        let queued = Queued {
            request: Arc::clone(&self.request),
            reply: Reply::Handle(reply),
            deadline: self.deadline,
            ambiguous,
            order: 0,
            admission: self.admission.clone(),
        };
        (queued, answer)
    }
}

/// An actor died with an item.
struct Lost;

/// An item on its way.
struct Sent {
    answer: Answered,
    /// The actor that it went to.
    to: Option<ActorId>,
    /// `true` if it stands in the lines of the actor, which end with it; a message may outlive the actor.
    lined: bool,
    held: Option<Held>,
}

/// The way of one of many tasks.
enum Way {
    /// It went with the others.
    Sent(Item, Answered),
    /// It waits for a place.
    Waits(Box<EnqueueRequest>),
}

/// Sends enqueues to the client actor; follows restarts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClientHandle {
    pub(super) actor: SupervisedRef<ClientMsg>,
    /// The lines of the actor, which take items without a message.
    lines: CurrentLines,
    limits: Arc<Limits>,
    env: Env,
}

impl ClientHandle {
    pub(crate) fn new(settings: &ClientSettings, env: Env) -> Self {
        Self {
            actor: SupervisedRef::new(),
            lines: CurrentLines::default(),
            limits: Arc::new(Limits::new(settings)),
            env,
        }
    }

    /// Enqueues a task. Waits while too many enqueues are waiting.
    pub(crate) async fn enqueue(&self, task: &Task, options: &TaskOptions) -> Result<TaskInfo, EnqueueError> {
        let (request, sending) = self.compose(task, options)?;
        let enqueued = async {
            let admission = self.limits.admit(&request).await?;
            self.follow(self.item(request, admission), None).await
        };
        let answer = enqueued.await;
        sending.end(answer.as_ref());
        answer
    }

    /// Enqueues many tasks; an answer for each, in order. Those for which there is a place now are lined up together.
    pub(crate) async fn enqueue_many(&self, tasks: Vec<asynq_core::Result<Task>>) -> Vec<asynq_core::Result<TaskInfo>> {
        let options = TaskOptions::new();
        let (mut batch, mut all, mut full) = (Vec::new(), Vec::with_capacity(tasks.len()), false);
        for task in tasks {
            let composed = task.and_then(|task| Ok(self.compose(&task, &options)?));
            let admitted = composed.map(|(request, sending)| {
                // The first one that has to wait makes the rest wait behind it.
                let admission = (!full).then(|| self.limits.try_admit(&request).ok()).flatten();
                full |= admission.is_none();
                (request, sending, admission)
            });
            all.push(admitted.map(|(request, sending, admission)| {
                let way = match admission {
                    None => Way::Waits(Box::new(request)),
                    Some(admission) => {
                        let item = self.item(request, admission);
                        let (queued, answer) = item.queued(false);
                        batch.push(queued);
                        Way::Sent(item, answer)
                    }
                };
                (way, sending)
            }));
        }
        let sent = self.send_many(batch);
        let answers = all.into_iter().map(|way| async move {
            let (way, sending) = way?;
            let enqueued = async {
                match way {
                    Way::Sent(item, answer) => {
                        let sent = sent.map(|(to, lined)| Sent {
                            answer,
                            to,
                            lined,
                            held: None,
                        });
                        self.follow(item, sent).await
                    }
                    Way::Waits(request) => {
                        let admission = self.limits.admit(&request).await?;
                        self.follow(self.item(*request, admission), None).await
                    }
                }
            };
            let answer = enqueued.await;
            sending.end(answer.as_ref());
            Ok(answer?)
        });
        join_all(answers).await
    }

    /// Enqueues a task, or says at once that too many are waiting.
    pub(crate) async fn try_enqueue(&self, task: &Task, options: &TaskOptions) -> Result<TaskInfo, EnqueueError> {
        let (request, sending) = self.compose(task, options)?;
        let enqueued = async {
            let admission = self.limits.try_admit(&request)?;
            self.follow(self.item(request, admission), None).await
        };
        let answer = enqueued.await;
        sending.end(answer.as_ref());
        answer
    }

    /// Composes a request, and begins its span.
    fn compose(&self, task: &Task, options: &TaskOptions) -> Result<(EnqueueRequest, Sending), EnqueueError> {
        let parent = TraceContext::current();
        Ok(self.limits.compose(task, options, &self.env, &parent)?)
    }

    fn item(&self, request: EnqueueRequest, admission: Admission) -> Item {
        Item {
            request: Arc::new(request),
            admission,
            deadline: Instant::now() + self.limits.enqueue_within,
        }
    }

    /// Sends items in their order. Returns the actor that they went to, and whether they stand in its lines.
    fn send_many(&self, batch: Vec<Queued>) -> Option<(Option<ActorId>, bool)> {
        if batch.is_empty() {
            return None;
        }
        let mut batch = batch;
        if let Some(lines) = self.lines.get() {
            match lines.push_many(batch) {
                Ok(()) => return Some((Some(lines.owner()), true)),
                Err(refused) => batch = refused,
            }
        }
        let to = self.target();
        let sent = self.actor.cast(ClientMsg::Many(batch));
        sent.is_ok().then_some((to, false))
    }

    /// Sends an item; `None` while there is no actor.
    fn send(&self, item: &Item, ambiguous: bool) -> Option<Sent> {
        let (mut queued, answer) = item.queued(ambiguous);
        if let Some(lines) = self.lines.get() {
            match lines.send(queued) {
                Ok(held) => {
                    return Some(Sent {
                        answer,
                        to: Some(lines.owner()),
                        lined: true,
                        held,
                    });
                }
                Err(refused) => queued = refused,
            }
        }
        let to = self.target();
        let sent = self.actor.cast(ClientMsg::Composed(Box::new(queued)));
        sent.is_ok().then_some(Sent {
            answer,
            to,
            lined: false,
            held: None,
        })
    }

    /// The actor that a message goes to now.
    fn target(&self) -> Option<ActorId> {
        self.actor.get().map(|actor| actor.get_id())
    }

    /// Sends an item, unless it is `sent` already, until it has its answer.
    async fn follow(&self, item: Item, mut sent: Option<Sent>) -> Result<TaskInfo, EnqueueError> {
        let deadline = item.deadline;
        let mut ambiguous = false;
        let unknown = || EnqueueError::Unknown {
            id: TaskId::from_storage(&item.request.message.id),
        };
        loop {
            let mut target = self.target();
            if let Some(mut sent) = sent.take().or_else(|| self.send(&item, ambiguous)) {
                target = sent.to;
                match self.answer(&mut sent, deadline).await {
                    Some(Ok(answer)) => return answer,
                    // The actor died with it: whether it was sent is not known, so it goes again under the
                    // same token.
                    Some(Err(Lost)) => ambiguous = true,
                    None => return Err(unknown()),
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

    /// The answer, or that it was lost; `None` when there is none in time.
    async fn answer(&self, sent: &mut Sent, deadline: Instant) -> Option<Result<Answer, Lost>> {
        if let Some(held) = sent.held.take() {
            // The call keeps to the deadline by itself.
            let answered = poll_fn(|cx| match held.poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => Pin::new(&mut sent.answer).poll(cx).map(Some),
            });
            if let Some(answered) = answered.await {
                return Some(answered.map_err(|_| Lost));
            }
        }
        // The actor answers by the deadline, unless it hangs.
        let answered = timeout_at(deadline + ANSWER_SLACK, &mut sent.answer);
        if sent.lined {
            return Some(answered.await.ok()?.map_err(|_| Lost));
        }
        tokio::select! {
            biased;
            answered = answered => Some(answered.ok()?.map_err(|_| Lost)),
            // Lost as well, where the message stays in the mailbox because somebody has a reference to the dead
            // actor: so it may when it was sent while the mailbox closed (tokio's channel).
            true = self.actor.newer(sent.to, Duration::MAX) => Some(Err(Lost)),
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
        let lines = self.lines.clone();
        let arguments = move || (ClientActor, (args.clone(), lines.clone()));
        ChildSpec::published("client", self.actor.clone(), arguments).shutdown(Shutdown::Drain(DRAIN_WITHIN))
    }
}

impl fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientHandle({} free)", self.limits.free())
    }
}
