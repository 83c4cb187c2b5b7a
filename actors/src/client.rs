//! The client actor: gathers enqueues and sends them in batches.
//!
//! Messages: handles send composed requests, each with the permits that bound how much may wait; user actors
//! send a raw [`EnqueueMsg`]. It waits for nothing: batches go out in tasks of its own, at once when nothing is in
//! flight, and while one is in flight the next gathers. A large item goes out alone, and small ones do not wait for
//! its bytes. Failed items are retried apart from the others, those of one queue in their order. On a crash the
//! callers of what was in flight send it again through its successor: a request carries a token by which the storage
//! knows it (rules.md#ambiguous-is-a-state). On drain everything is sent.

mod api;
mod attempt;
mod handle;
mod limits;
mod retries;
mod wait;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use asynq_core::{
    EnqueueError, Task, TaskOptions,
    broker::{LARGE_BYTES, MAX_BATCH},
};
use futures::future::join_all;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

pub(crate) use self::{api::OwnSystem, handle::ClientHandle};
pub use self::{
    api::{Client, TaskContextExt},
    wait::Waited,
};
use self::{
    attempt::{Answer, ClientArgs, FIRST_RETRY, Queued, Reply, attempt, unavailable},
    retries::Lanes,
};

/// Time after a deadline at which a handle gives up an actor that does not answer.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// Batches of first attempts in flight at most, of each queue.
const CALLS: usize = 2;
/// A second batch of a queue is worth its round trip from so many items on.
const WORTH_A_SECOND: usize = 64;
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
    /// From user actors: to be composed and admitted first.
    Raw(Box<EnqueueMsg>),
    /// From handles, composed and admitted.
    Composed(Box<Queued>),
    /// As `Composed`, in order.
    Many(Vec<Queued>),
    /// The first attempt of a batch ended.
    Sent {
        /// The queue it went to.
        queue: String,
    },
}
crate::message!(ClientMsg);

impl From<EnqueueMsg> for ClientMsg {
    fn from(message: EnqueueMsg) -> Self {
        Self::Raw(Box::new(message))
    }
}

impl TryFrom<ClientMsg> for EnqueueMsg {
    type Error = &'static str;

    fn try_from(message: ClientMsg) -> Result<Self, Self::Error> {
        match message {
            ClientMsg::Raw(message) => Ok(*message),
            _ => Err("not an EnqueueMsg"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct ClientActor;

#[derive(Debug)]
pub(crate) struct ClientState {
    args: ClientArgs,
    /// The enqueues that wait for their first attempt, by queue: each call goes to one queue, so that one without
    /// an answer holds up no other.
    lines: HashMap<String, Line>,
    /// Requests that failed and are retried.
    lanes: Lanes,
    order: u64,
    /// Ends with the actor: what is in flight is then sent again by its callers.
    calls: JoinSet<()>,
}

/// The enqueues into one queue. It is there while any wait or are in flight.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Queued>,
    in_flight: usize,
}

impl Line {
    /// The next that are to be sent, if a call is worth its round trip.
    fn next(&mut self) -> Option<Vec<Queued>> {
        let worth = self.in_flight == 0 || self.waiting.len() >= WORTH_A_SECOND;
        (self.in_flight < CALLS && worth).then(|| self.take())?
    }

    fn take(&mut self) -> Option<Vec<Queued>> {
        let count = self.waiting.len().min(MAX_BATCH as usize);
        (count > 0).then(|| self.waiting.drain(..count).collect())
    }
}

/// Tells the actor that a first attempt ended, however it ended.
struct TellSent(ActorRef<ClientMsg>, String);

impl Drop for TellSent {
    fn drop(&mut self) {
        let queue = std::mem::take(&mut self.1);
        let _ = self.0.cast(ClientMsg::Sent { queue });
    }
}

impl ClientState {
    fn pump(&mut self, myself: &ActorRef<ClientMsg>, queue: &str) {
        while self.calls.try_join_next().is_some() {}
        let Some(line) = self.lines.get_mut(queue) else { return };
        while let Some(batch) = line.next() {
            // What follows items of its queue that are tried again waits behind them.
            let batch = self.lanes.join(batch.into_iter());
            if batch.is_empty() {
                continue;
            }
            line.in_flight += 1;
            let (args, lanes) = (self.args.clone(), self.lanes.clone());
            let ended = TellSent(myself.clone(), queue.to_owned());
            self.calls.spawn(async move {
                let failed = attempt(&args, &ended.1, batch, FIRST_RETRY).await;
                let lanes = lanes.open(failed);
                // What failed keeps nothing else waiting.
                drop(ended);
                join_all(lanes.into_iter().map(|lane| lane.run(&args))).await;
            });
        }
        if line.waiting.is_empty() && line.in_flight == 0 {
            self.lines.remove(queue);
        }
    }

    /// Sends an item for whose bytes no other one waits. How many there may be is bounded by what may wait at
    /// all.
    fn send_alone(&mut self, item: Queued, queue: String) {
        while self.calls.try_join_next().is_some() {}
        let item = self.lanes.join(std::iter::once(item));
        if item.is_empty() {
            return;
        }
        let (args, lanes) = (self.args.clone(), self.lanes.clone());
        self.calls.spawn(async move {
            let failed = attempt(&args, &queue, item, FIRST_RETRY).await;
            let lanes = lanes.open(failed);
            join_all(lanes.into_iter().map(|lane| lane.run(&args))).await;
        });
    }

    /// Sends what waits until each item has its answer, the lines side by side.
    async fn finish(&mut self) {
        let Self {
            args,
            lines,
            lanes,
            calls,
            ..
        } = self;
        let tries = Mutex::new(&mut *calls);
        let (args, lanes, tries) = (&*args, &*lanes, &tries);
        let all = lines.iter_mut().map(|(queue, line)| async move {
            while let Some(batch) = line.take() {
                let batch = lanes.join(batch.into_iter());
                let failed = attempt(args, queue, batch, FIRST_RETRY).await;
                for lane in lanes.open(failed) {
                    let args = args.clone();
                    let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
                    tries.spawn(async move { lane.run(&args).await });
                }
            }
        });
        join_all(all).await;
        while self.calls.join_next().await.is_some() {}
    }

    fn push(&mut self, myself: &ActorRef<ClientMsg>, item: Queued) {
        if let Some(queue) = self.line_up(item) {
            self.pump(myself, &queue);
        }
    }

    fn push_many(&mut self, myself: &ActorRef<ClientMsg>, batch: Vec<Queued>) {
        // All of them wait before any is sent, so that a call takes as many as it may.
        let queues: BTreeSet<String> = batch.into_iter().filter_map(|item| self.line_up(item)).collect();
        for queue in queues {
            self.pump(myself, &queue);
        }
    }

    /// Adds an item to its line, and returns which one, or sends it alone.
    fn line_up(&mut self, item: Queued) -> Option<String> {
        self.order += 1;
        let item = Queued {
            order: self.order,
            ..item
        };
        let queue = item.request.message.queue.clone();
        if item.admission.kib() >= LARGE_BYTES >> 10 {
            self.send_alone(item, queue);
            return None;
        }
        match self.lines.get_mut(&queue) {
            Some(line) => line.waiting.push_back(item),
            None => self.lines.entry(queue.clone()).or_default().waiting.push_back(item),
        }
        Some(queue)
    }

    fn compose(&self, message: EnqueueMsg) -> Option<Queued> {
        let EnqueueMsg { task, options, reply } = message;
        let reply = reply.map_or(Reply::None, Reply::Port);
        let admitted = (self.args.limits)
            .compose(&task, &options, &self.args.env)
            .map_err(EnqueueError::from)
            .and_then(|request| Ok((self.args.limits.try_admit(&request)?, request)));
        match admitted {
            Ok((admission, request)) => Some(Queued {
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
    type Arguments = ClientArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<ClientMsg>,
        args: ClientArgs,
    ) -> Result<ClientState, ActorProcessingErr> {
        Ok(ClientState {
            args,
            lines: HashMap::new(),
            lanes: Lanes::default(),
            order: 0,
            calls: JoinSet::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ClientMsg>,
        message: ClientMsg,
        state: &mut ClientState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ClientMsg::Raw(message) => {
                if let Some(queued) = state.compose(*message) {
                    state.push(&myself, queued);
                }
            }
            ClientMsg::Composed(queued) => state.push(&myself, *queued),
            ClientMsg::Many(batch) => state.push_many(&myself, batch),
            ClientMsg::Sent { queue } => {
                if let Some(line) = state.lines.get_mut(&queue) {
                    line.in_flight -= 1;
                }
                state.pump(&myself, &queue);
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _myself: ActorRef<ClientMsg>, state: &mut ClientState) -> Result<(), ActorProcessingErr> {
        let until = state.args.ending.last_act(state.args.path, DRAIN_WITHIN);
        let _ = timeout_at(until, state.finish()).await;
        // What is on its way then has no answer; what is not was not sent, or is known to have failed.
        let waiting = state.lines.values_mut().flat_map(|line| line.waiting.drain(..));
        let left: Vec<_> = waiting.chain(state.lanes.take()).collect();
        if !left.is_empty() {
            tracing::warn!(items = left.len(), "enqueues were not stored before the end");
        }
        let broker = &state.args.broker;
        left.into_iter().for_each(|item| item.fail(unavailable(broker)));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
