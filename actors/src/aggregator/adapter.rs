//! A user's own actor as the aggregator.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use asynq_core::{Error, GroupAggregator, Result, Task};
use ractor::{ActorRef, Message, RpcReplyPort, concurrency::oneshot};

use crate::slot::Slot;

/// Asks an actor to make one task out of the tasks of a group.
#[derive(Debug)]
pub struct AggregateGroup {
    /// The group.
    pub group: String,
    /// Its tasks, at least one; those that joined in an earlier second come first.
    pub tasks: Vec<Task>,
    /// Takes the one task, or why there is none. Dropped unanswered it is an error, and the tasks
    /// return to their group. Closed once nobody waits any longer, because of
    /// [`group_timeout`](asynq_core::ServerConfig::group_timeout) or a stop: look before costly work.
    pub reply: RpcReplyPort<Result<Task>>,
}
crate::message!(AggregateGroup);

/// Why an actor gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AggregatorActorError {
    /// There is no live actor.
    #[error("the aggregator actor is not alive")]
    NotAlive,
    /// It ended, or dropped the request.
    #[error("the aggregator actor gave no answer")]
    NoAnswer,
}

/// A [`GroupAggregator`] that asks an actor of the user's own, whose messages have a
/// `From<AggregateGroup>`. In the actor one set is aggregated after the other.
///
/// ```
/// use asynq_actors::{AggregateGroup, AggregatorActor};
/// use asynq_core::Task;
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
///         AggregateGroup { group, tasks, reply }: AggregateGroup,
///         number: &mut u64,
///     ) -> Result<(), ActorProcessingErr> {
///         *number += 1;
///         let digest = format!("number {number} of {group}: {} tasks", tasks.len());
///         // Refused only when nobody waits any longer.
///         let _ = reply.send(Task::new("digest", digest.as_bytes()));
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (actor, running) = Actor::spawn(None, Digest, ()).await?;
/// let aggregator = AggregatorActor::new(actor.clone());
/// // AsynqSystem::builder(connector).aggregator(aggregator)
/// # use asynq_core::GroupAggregator as _;
/// # let task = aggregator.aggregate("g", &[Task::new("t", b"")?]).await?;
/// # assert_eq!(task.get_payload(), b"number 1 of g: 1 tasks");
/// # actor.stop(None); running.await?; Ok(()) }
/// ```
#[derive(Clone)]
pub struct AggregatorActor(Arc<Ask>);

/// Hands the request to an actor; whether one took it.
type Ask = dyn Fn(AggregateGroup) -> bool + Send + Sync;

impl AggregatorActor {
    /// Asks this actor. One incarnation: after its end each set fails until it is of no use any
    /// longer; for an actor that is restarted see [`following`](Self::following).
    #[must_use]
    pub fn new<M: Message + From<AggregateGroup>>(actor: ActorRef<M>) -> Self {
        Self(Arc::new(move |request| actor.send_message(M::from(request)).is_ok()))
    }

    /// Asks the actor that is in the slot at that moment: a child that our
    /// [`supervisor`](crate::supervisor) started by
    /// [`ChildSpec::published`](crate::supervisor::ChildSpec::published).
    #[must_use]
    pub fn following<M: Message + From<AggregateGroup>>(slot: Slot<M>) -> Self {
        Self(Arc::new(move |request| slot.cast(M::from(request)).is_ok()))
    }
}

#[async_trait]
impl GroupAggregator for AggregatorActor {
    async fn aggregate(&self, group: &str, tasks: &[Task]) -> Result<Task> {
        let (reply, answer) = oneshot();
        let request = AggregateGroup {
            group: group.to_owned(),
            tasks: tasks.to_vec(),
            reply: reply.into(),
        };
        let failed = |error: AggregatorActorError| Error::Actor(error.into());
        if !(self.0)(request) {
            return Err(failed(AggregatorActorError::NotAlive));
        }
        // No limit of its own: the run that asks has one.
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
