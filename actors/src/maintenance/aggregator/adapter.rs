//! An actor of the application as the aggregator.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use asynq_core::{Error, GroupAggregator, Result, Task};
use ractor::{ActorRef, Message, RpcReplyPort, concurrency::oneshot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::supervision::supervised_ref::SupervisedRef;

/// A request to an actor to combine the tasks of a group into one task. While a request exists, in the mailbox or in
/// the actor, its [`AggregatorActor`] sends no other.
#[derive(Debug)]
pub struct AggregateGroup {
    /// The group.
    pub group: String,
    /// The tasks of the group, at least one. Tasks that joined in an earlier second come first.
    pub tasks: Vec<Task>,
    /// The reply: the combined task, or an error. A reply that is dropped is an error, and the tasks return to their
    /// group. The reply port is closed when the request is over because of
    /// [`group_timeout`](asynq_core::ServerConfig::group_timeout) or a stop; check it before costly work.
    pub reply: RpcReplyPort<Result<Task>>,
    _turn: Option<OwnedSemaphorePermit>,
}
crate::message!(AggregateGroup);

impl AggregateGroup {
    /// Makes a request, for a test of the actor.
    #[must_use]
    pub fn new(group: impl Into<String>, tasks: Vec<Task>, reply: RpcReplyPort<Result<Task>>) -> Self {
        Self {
            group: group.into(),
            tasks,
            reply,
            _turn: None,
        }
    }
}

/// A reason why an actor gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AggregatorActorError {
    /// There is no live actor.
    #[error("the aggregator actor is not alive")]
    NotAlive,
    /// The actor ended, or dropped the request.
    #[error("the aggregator actor gave no answer")]
    NoAnswer,
}

/// A [`GroupAggregator`] that sends requests to an actor of the application, whose messages implement
/// `From<AggregateGroup>`. It sends one request at a time, so that the mailbox does not grow while the actor hangs. A
/// set whose time is over before its turn is tried again.
///
/// ```
/// use asynq::{AggregateGroup, AggregatorActor, Task};
/// use ractor::{Actor, ActorProcessingErr, ActorRef};
///
/// struct Digest;
///
/// # #[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
/// impl Actor for Digest {
///     type Msg = AggregateGroup;
///     type State = u64;
///     type Arguments = ();
///
///     async fn pre_start(&self, _: ActorRef<AggregateGroup>, (): ()) -> Result<u64, ActorProcessingErr> {
///         Ok(0)
///     }
///
///     async fn handle(
///         &self,
///         _: ActorRef<AggregateGroup>,
///         AggregateGroup { group, tasks, reply, .. }: AggregateGroup,
///         number: &mut u64,
///     ) -> Result<(), ActorProcessingErr> {
///         *number += 1;
///         let digest = format!("number {number} of {group}: {} tasks", tasks.len());
///         // Refused only when the request is over.
///         let _ = reply.send(Task::new("digest", digest.as_bytes()));
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (actor, running) = Actor::spawn(None, Digest, ()).await?;
/// let aggregator = AggregatorActor::new(actor.clone());
/// // AsynqSystem::builder(connector).aggregator(aggregator)
/// # use asynq::GroupAggregator as _;
/// # let task = aggregator.aggregate("g", &[Task::new("t", b"")?]).await?;
/// # assert_eq!(task.get_payload(), b"number 1 of g: 1 tasks");
/// # actor.stop(None); running.await?; Ok(()) }
/// ```
#[derive(Clone)]
pub struct AggregatorActor {
    ask: Arc<Ask>,
    /// The turn to send a request; it moves into the request.
    turn: Arc<Semaphore>,
}

/// A function that sends the request to an actor, and returns whether the actor accepted it.
type Ask = dyn Fn(AggregateGroup) -> bool + Send + Sync;

impl AggregatorActor {
    /// Sends requests to this actor. The reference is for one incarnation: after its end every set fails. For an
    /// actor that is restarted see [`following`](Self::following).
    #[must_use]
    pub fn new<M: Message + From<AggregateGroup>>(actor: ActorRef<M>) -> Self {
        Self::asking(move |request| actor.send_message(M::from(request)).is_ok())
    }

    /// Sends each request to the newest incarnation of a child that our [`supervisor`](crate::supervisor) started
    /// with [`ChildSpec::published`](crate::supervisor::ChildSpec::published).
    #[must_use]
    pub fn following<M: Message + From<AggregateGroup>>(actor: SupervisedRef<M>) -> Self {
        Self::asking(move |request| actor.cast(M::from(request)).is_ok())
    }

    fn asking(ask: impl Fn(AggregateGroup) -> bool + Send + Sync + 'static) -> Self {
        Self {
            ask: Arc::new(ask),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

#[async_trait]
impl GroupAggregator for AggregatorActor {
    async fn aggregate(&self, group: &str, tasks: &[Task]) -> Result<Task> {
        // No limit of its own, because the run has one.
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok();
        let (reply, answer) = oneshot();
        let request = AggregateGroup {
            _turn: turn,
            ..AggregateGroup::new(group, tasks.to_vec(), reply.into())
        };
        let failed = |error: AggregatorActorError| Error::Actor(error.into());
        if !(self.ask)(request) {
            return Err(failed(AggregatorActorError::NotAlive));
        }
        answer
            .await
            .unwrap_or_else(|_| Err(failed(AggregatorActorError::NoAnswer)))
    }
}

impl fmt::Debug for AggregatorActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AggregatorActor")
    }
}
