//! The loop that all periodic actors share: pass, wait, pass.
//!
//! A pass runs in a task of its own, so that a stop never waits for the storage. The end of the pass comes back as a
//! message. The next pass is scheduled when the last one has ended, so there is never more than one. A pass that
//! panics crashes the actor, and its supervisor restarts it. A pass that fails because the storage is unreachable is
//! not a crash. The actor logs the beginning and the end of such failures, and tries again with a growing wait.

use std::{fmt, marker::PhantomData, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq_core::{BrokerError, Entropy, error::text::report, panics::panic_text};
use futures::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{task::JoinSet, time::Instant};
use tracing::Instrument as _;

use crate::supervision::{
    supervisor::{ChildSpec, Shutdown},
    timer::Timer,
    tree::Tree,
};

/// Time that most chores may take to stop.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// Longest time that an aborted pass may take to end. It ends at its next await point.
const ABORT_WITHIN: Duration = Duration::from_millis(500);

/// The work of a periodic actor.
#[async_trait]
pub(crate) trait Chore: Send + Sync + 'static {
    /// The wait before the first pass.
    fn first(&self) -> Duration;
    /// The longest wait after a failure.
    fn longest_retry(&self) -> Duration;
    /// The longest that [`last`](Self::last) may take.
    fn last_within(&self) -> Duration {
        Duration::ZERO
    }
    /// Runs one pass, and returns the wait before the next.
    async fn pass(&self) -> Result<Duration, BrokerError>;
    /// Does the remaining work when the actor is stopped, until `until` at the latest.
    async fn last(&self, until: Instant) {
        let _ = until;
    }
}

pub(crate) struct ChoreActor<C>(PhantomData<fn() -> C>);

pub(crate) struct ChoreArgs<C> {
    chore: Arc<C>,
    path: String,
    tree: Tree,
    entropy: Entropy,
}

impl<C> Clone for ChoreArgs<C> {
    fn clone(&self) -> Self {
        Self {
            chore: Arc::clone(&self.chore),
            path: self.path.clone(),
            tree: self.tree.clone(),
            entropy: self.entropy.clone(),
        }
    }
}

#[derive(Debug)]
pub(crate) enum ChoreMsg {
    /// Time for a pass.
    Tick,
    /// A pass ended.
    Done(Result<Duration, BrokerError>),
    /// A pass panicked.
    Panicked(String),
}
crate::message!(ChoreMsg);

pub(crate) struct ChoreState<C> {
    args: ChoreArgs<C>,
    pass: JoinSet<()>,
    next: Option<Timer>,
    failures: u32,
}

impl<C: Chore> ChoreState<C> {
    fn arm(&mut self, myself: &ActorRef<ChoreMsg>, wait: Duration) {
        self.next = Some(Timer::after(myself, wait, || ChoreMsg::Tick));
    }
}

/// A pass of a periodic actor panicked.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
pub(crate) struct PassPanicked(String);

/// The child spec of a periodic actor.
pub(crate) fn chore<C: Chore>(
    id: &'static str,
    parent: &str,
    chore: C,
    tree: &Tree,
    entropy: &Entropy,
    stop_within: Duration,
) -> ChildSpec {
    let args = ChoreArgs {
        chore: Arc::new(chore),
        path: format!("{parent}/{id}"),
        tree: tree.clone(),
        entropy: entropy.clone(),
    };
    ChildSpec::new(id, move || (ChoreActor::<C>(PhantomData), args.clone())).shutdown(Shutdown::Stop(stop_within))
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl<C: Chore> Actor for ChoreActor<C> {
    type Msg = ChoreMsg;
    type State = ChoreState<C>;
    type Arguments = ChoreArgs<C>;

    async fn pre_start(
        &self,
        _myself: ActorRef<ChoreMsg>,
        args: ChoreArgs<C>,
    ) -> Result<ChoreState<C>, ActorProcessingErr> {
        Ok(ChoreState {
            args,
            pass: JoinSet::new(),
            next: None,
            failures: 0,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<ChoreMsg>,
        state: &mut ChoreState<C>,
    ) -> Result<(), ActorProcessingErr> {
        state.arm(&myself, state.args.chore.first());
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ChoreMsg>,
        message: ChoreMsg,
        state: &mut ChoreState<C>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ChoreMsg::Tick => {
                while state.pass.try_join_next().is_some() {}
                let chore = Arc::clone(&state.args.chore);
                let pass = async move {
                    let end = match AssertUnwindSafe(chore.pass()).catch_unwind().await {
                        Ok(result) => ChoreMsg::Done(result),
                        Err(panic) => ChoreMsg::Panicked(panic_text(&*panic)),
                    };
                    // Refused only when the actor is ending.
                    let _ = myself.cast(end);
                };
                state.pass.spawn(pass.in_current_span());
            }
            ChoreMsg::Done(Ok(wait)) => {
                if state.failures > 0 {
                    tracing::info!(actor = %state.args.path, failures = state.failures, "works again");
                    state.args.tree.note(&state.args.path, None);
                    state.failures = 0;
                }
                state.arm(&myself, wait);
            }
            ChoreMsg::Done(Err(error)) => {
                if state.failures == 0 {
                    tracing::warn!(actor = %state.args.path, error = %report(&error), "pass failed, retrying");
                    state.args.tree.note(&state.args.path, Some(&report(&error)));
                }
                let wait = FIRST_RETRY
                    .saturating_mul(2_u32.saturating_pow(state.failures.min(16)))
                    .min(state.args.chore.longest_retry());
                state.failures = state.failures.saturating_add(1);
                let wait = wait / 2 + state.args.entropy.up_to(wait / 2);
                state.arm(&myself, wait);
            }
            ChoreMsg::Panicked(text) => return Err(Box::new(PassPanicked(text))),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<ChoreMsg>,
        state: &mut ChoreState<C>,
    ) -> Result<(), ActorProcessingErr> {
        // The last work must come after all other work.
        let _ = tokio::time::timeout(ABORT_WITHIN, state.pass.shutdown()).await;
        let ChoreArgs { chore, path, tree, .. } = &state.args;
        chore.last(tree.ending().last_act(path, chore.last_within())).await;
        Ok(())
    }
}

impl<C> fmt::Debug for ChoreState<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChoreState")
            .field("path", &self.args.path)
            .field("failures", &self.failures)
            .finish()
    }
}

#[cfg(test)]
mod tests;
