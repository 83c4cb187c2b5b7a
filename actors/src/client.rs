//! The client actor: gathers enqueues and sends them in batches.
//!
//! Messages: user actors send a raw [`EnqueueMsg`]; handles put composed requests into the [`Lines`] of the actor
//! themselves, each with the permits that bound how much may wait, and send them as messages only while it starts. It
//! waits for nothing: batches go out in tasks of its own, at once when nothing is in flight, and while one is in flight
//! the next gathers. An enqueue that finds nothing else is sent in the task of its caller. A large item goes out alone,
//! and small ones do not wait for its bytes. Failed items are retried apart from the others, those of one queue in their
//! order. On a crash the callers of what was in flight send it again through its successor: a request carries a token by
//! which the storage knows it (rules.md#ambiguous-is-a-state). On drain everything is sent.

mod api;
mod attempt;
mod handle;
mod limits;
mod lines;
mod retries;
mod wait;

use std::{sync::Arc, time::Duration};

use asynq_core::{Task, TaskOptions, trace_context::TraceContext, traces::Sending};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::{api::OwnSystem, handle::ClientHandle};
pub use self::{
    api::{Client, TaskContextExt},
    wait::Waited,
};
use self::{
    attempt::{Answer, ClientArgs, Queued, Reply, unavailable},
    lines::{CurrentLines, Lines},
};
use crate::supervision::timer::Timer;

/// Time after a deadline at which a handle gives up an actor that does not answer.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// Interval at which the actor looks for calls that their callers hold and do not poll.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const DRAIN_WITHIN: Duration = Duration::from_secs(15);

/// Asks the client actor to enqueue a task. For actors; others use a [`Client`].
#[derive(Debug)]
pub struct EnqueueMsg {
    /// The task.
    pub task: Task,
    /// Options that override those of the task.
    pub options: TaskOptions,
    /// Receives the answer. A cast has none: failures are then logged, and requests under way when the client actor
    /// crashes are lost.
    pub reply: Option<RpcReplyPort<Answer>>,
}
crate::message!(EnqueueMsg);

impl EnqueueMsg {
    /// Makes a cast, whose answer nobody receives.
    #[must_use]
    pub fn new(task: Task) -> Self {
        Self {
            task,
            options: TaskOptions::new(),
            reply: None,
        }
    }

    /// Makes a call, whose answer goes to `reply`.
    #[must_use]
    pub fn call(task: Task, reply: RpcReplyPort<Answer>) -> Self {
        Self {
            task,
            options: TaskOptions::new(),
            reply: Some(reply),
        }
    }
}

#[derive(Debug)]
pub(crate) enum ClientMsg {
    /// From user actors: to be composed and admitted first. With the trace context of the sender.
    Raw(Box<EnqueueMsg>, TraceContext),
    /// From handles that have found no lines yet, composed and admitted.
    Composed(Box<Queued>),
    /// As `Composed`, in order.
    Many(Vec<Queued>),
    /// The lines are in use.
    Look,
}
crate::message!(ClientMsg);

impl From<EnqueueMsg> for ClientMsg {
    fn from(message: EnqueueMsg) -> Self {
        Self::Raw(Box::new(message), TraceContext::current())
    }
}

impl TryFrom<ClientMsg> for EnqueueMsg {
    type Error = &'static str;

    fn try_from(message: ClientMsg) -> Result<Self, Self::Error> {
        match message {
            ClientMsg::Raw(message, _) => Ok(*message),
            _ => Err("not an EnqueueMsg"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct ClientActor;

#[derive(Debug)]
pub(crate) struct ClientState {
    args: ClientArgs,
    lines: Arc<Lines>,
    current: CurrentLines,
    look: Option<Timer>,
}

impl Drop for ClientState {
    /// However the actor ends, its lines end with it.
    fn drop(&mut self) {
        self.current.withdraw(&self.lines);
        self.lines.end();
    }
}

impl ClientState {
    fn compose(&self, message: EnqueueMsg, parent: &TraceContext) -> Option<Queued> {
        let EnqueueMsg { task, options, reply } = message;
        let (request, sending) = match self.args.limits.compose(&task, &options, &self.args.env, parent) {
            Ok(composed) => composed,
            Err(error) => {
                Reply::to(reply, Sending::default()).send("", Err(error.into()));
                return None;
            }
        };
        let reply = Reply::to(reply, sending);
        match self.args.limits.try_admit(&request) {
            Ok(admission) => Some(Queued {
                request: Arc::new(request),
                reply,
                deadline: Instant::now() + self.args.limits.enqueue_within,
                ambiguous: false,
                order: 0,
                admission,
            }),
            Err(error) => {
                reply.send("", Err(error));
                None
            }
        }
    }
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for ClientActor {
    type Msg = ClientMsg;
    type State = ClientState;
    type Arguments = (ClientArgs, CurrentLines);

    async fn pre_start(
        &self,
        myself: ActorRef<ClientMsg>,
        (args, current): (ClientArgs, CurrentLines),
    ) -> Result<ClientState, ActorProcessingErr> {
        let owner = myself.get_id();
        let look = move || drop(myself.cast(ClientMsg::Look));
        let lines = Lines::new(args.clone(), owner, look);
        current.publish(&lines);
        Ok(ClientState {
            args,
            lines,
            current,
            look: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ClientMsg>,
        message: ClientMsg,
        state: &mut ClientState,
    ) -> Result<(), ActorProcessingErr> {
        // The lines are open for as long as messages come.
        match message {
            ClientMsg::Raw(message, parent) => {
                if let Some(queued) = state.compose(*message, &parent) {
                    let _ = state.lines.push(queued);
                }
            }
            ClientMsg::Composed(queued) => drop(state.lines.push(*queued)),
            ClientMsg::Many(batch) => drop(state.lines.push_many(batch)),
            ClientMsg::Look => {
                let again = state.lines.look();
                state.look = again.then(|| Timer::after(&myself, LOOK_EVERY, || ClientMsg::Look));
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _myself: ActorRef<ClientMsg>, state: &mut ClientState) -> Result<(), ActorProcessingErr> {
        let until = state.args.ending.last_act(state.args.path, DRAIN_WITHIN);
        state.lines.drain();
        let _ = timeout_at(until, state.lines.finished()).await;
        // What is on its way then has no answer; what is not was not sent, or is known to have failed.
        let left = state.lines.take_waiting();
        if !left.is_empty() {
            tracing::warn!(items = left.len(), "enqueues were not stored before the end");
        }
        let broker = &state.args.broker;
        left.into_iter().for_each(|item| item.fail(unavailable(broker), broker));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
