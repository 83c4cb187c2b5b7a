//! One instance: the user's actor, and the wrapper that reports its life to the pool.

use std::{fmt, future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{handle_task::HandleTask, incarnation::Incarnation, pool::Pool, traced};
use asynq_core::{error::text::shown, panics::panic_report};

pub(super) struct Instance<A> {
    pub(super) actor: A,
    pub(super) pool: Arc<Pool>,
    pub(super) number: usize,
}

pub(super) struct InstanceState<S> {
    presence: Option<Presence>,
    user: S,
}

/// An instance that is given tasks; however it ends, the pool hears of it.
struct Presence {
    pool: Arc<Pool>,
    live: Arc<Incarnation>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.pool.leave(&self.live, None);
    }
}

/// Lets the user's code run, and tells the pool at once how it failed: the tasks that it had
/// started are about to fail with these words.
async fn told<F>(presence: Option<&Presence>, act: F) -> Result<(), ActorProcessingErr>
where
    F: Future<Output = Result<(), ActorProcessingErr>> + Send,
{
    let ends = |words| {
        if let Some(Presence { pool, live }) = presence {
            pool.leave(live, Some(words));
        }
    };
    match AssertUnwindSafe(act).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            ends(format!("handler actor failed: {}", shown(&*error)));
            Err(error)
        }
        Err(panic) => {
            ends(panic_report(&*panic));
            std::panic::resume_unwind(panic)
        }
    }
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl<A> Actor for Instance<A>
where
    A: Actor,
    A::Msg: From<HandleTask>,
{
    type Msg = A::Msg;
    type State = InstanceState<A::State>;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        args: A::Arguments,
    ) -> Result<InstanceState<A::State>, ActorProcessingErr> {
        let user = self.actor.pre_start(myself, args).await?;
        Ok(InstanceState { presence: None, user })
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut InstanceState<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        self.actor.post_start(myself.clone(), &mut state.user).await?;
        let cell = myself.get_cell();
        let send = move |task: HandleTask| myself.send_message(task.into()).is_ok();
        let live = Incarnation::new(self.number, cell, Box::new(send));
        state.presence = Some(Presence {
            pool: Arc::clone(&self.pool),
            live: Arc::clone(&live),
        });
        self.pool.enter(live);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut InstanceState<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let user = &mut state.user;
        let act = async move { self.actor.handle(myself, message, user).await };
        told(state.presence.as_ref(), traced::message(act)).await
    }

    #[cfg(feature = "ractor-cluster")]
    async fn handle_serialized(
        &self,
        myself: ActorRef<A::Msg>,
        message: ractor::message::SerializedMessage,
        state: &mut InstanceState<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let user = &mut state.user;
        let act = async move { self.actor.handle_serialized(myself, message, user).await };
        told(state.presence.as_ref(), traced::message(act)).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut InstanceState<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let user = &mut state.user;
        let act = async move { self.actor.handle_supervisor_evt(myself, event, user).await };
        told(state.presence.as_ref(), act).await
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut InstanceState<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(Presence { pool, live }) = &state.presence {
            pool.leave(live, Some("handler actor was stopped".to_owned()));
        }
        self.actor.post_stop(myself, &mut state.user).await
    }
}

impl<S> fmt::Debug for InstanceState<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceState")
            .field("ready", &self.presence.is_some())
            .finish_non_exhaustive()
    }
}
