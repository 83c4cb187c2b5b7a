//! The supervisor: starts children in order, restarts them by strategy, stops them in reverse.
//!
//! Messages: the ends of its children from ractor, and its own `Restart` after a back-off. Its handler waits for the
//! ends of children that it stops, each up to the deadline of its spec. A restart of the supervisor loses the restart
//! counts, and ends and restarts its children.

mod exit;
mod spec;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use asynq_core::{Entropy, error::text::shown, panics::drop_quietly};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, ActorStatus, Signal, SupervisionEvent};
use tokio::time::Instant;

pub use exit::{ExitCell, SupervisorError};
use spec::Place;
pub use spec::{Backoff, ChildSpec, Intensity, Restart, Shutdown, Strategy};

use crate::supervision::{
    shutdown_budget::share,
    timer::Timer,
    tree::{ActorState, Branch, Tree, child_path},
};

/// Longest time for which the supervisor waits for the end of a killed child.
const KILL_WAIT: Duration = Duration::from_secs(1);
/// Shortest time for which the supervisor waits for the end of a killed child, if no time is left.
const LEAST_KILL_WAIT: Duration = Duration::from_millis(10);

/// The actor.
#[derive(Debug)]
pub struct Supervisor;

/// The arguments of a supervisor.
#[derive(Clone, Debug)]
pub struct SupervisorArgs {
    /// Its path in the tree.
    pub path: String,
    /// Its children, in start order.
    pub children: Vec<ChildSpec>,
    /// The children that are restarted together.
    pub strategy: Strategy,
    /// The number of restarts that are normal.
    pub intensity: Intensity,
    /// The delay before a restart.
    pub backoff: Backoff,
    /// The record of its children.
    pub tree: Tree,
    /// Source of jitter.
    pub entropy: Entropy,
    /// The cell for its end.
    pub exit: ExitCell,
}

/// A message of a supervisor to itself. The back-off of a child is over: start the child, and all others that were
/// stopped with it.
#[derive(Debug)]
pub struct SupervisorMsg {
    /// The index of the first of them.
    first: usize,
    /// The index of the last.
    last: usize,
    /// Generation of the end of the child. A message with an older generation has no effect.
    generation: u64,
}
crate::message!(SupervisorMsg);

struct Child {
    spec: ChildSpec,
    path: String,
    cell: Option<ActorCell>,
    /// The child has ended and is never started again, not even with its siblings.
    gone: bool,
    generation: u64,
    restart: Option<Timer>,
    recent: VecDeque<Instant>,
}

/// The children as they are.
#[derive(Debug)]
pub struct SupervisorState {
    args: SupervisorArgs,
    children: Vec<Child>,
    restarts: VecDeque<Instant>,
    /// At every end of the supervisor, stops its remaining work and records the end in the tree.
    branch: Branch,
}

impl std::fmt::Debug for Child {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Child")
            .field("path", &self.path)
            .field("alive", &self.cell.is_some())
            .finish()
    }
}

impl SupervisorState {
    fn new(args: SupervisorArgs) -> Result<Self, SupervisorError> {
        let mut names = HashSet::new();
        if let Some(twice) = args.children.iter().find(|spec| !names.insert(&*spec.id)) {
            return Err(SupervisorError::DuplicateChild {
                child: twice.id.to_string(),
                supervisor: args.path,
            });
        }
        let children = args
            .children
            .iter()
            .map(|spec| Child {
                path: child_path(&args.path, &spec.id),
                spec: spec.clone(),
                cell: None,
                gone: false,
                generation: 0,
                restart: None,
                recent: VecDeque::new(),
            })
            .collect::<Vec<_>>();
        let branch = args
            .tree
            .enter(&args.path, children.iter().map(|child| child.path.as_str()));
        Ok(Self {
            args,
            children,
            restarts: VecDeque::new(),
            branch,
        })
    }

    /// Starts all children. A failed start is the end, with one exception: if crashes never count and this is not the
    /// first start of the supervisor, the child is tried again as after a crash.
    async fn start_all(&mut self, myself: &ActorRef<SupervisorMsg>) -> Result<(), (usize, String)> {
        let (mut first, last) = (0, self.children.len());
        while let Err((failed, failure)) = self.start(first, last, &myself.get_cell()).await {
            if self.branch.is_first() || !self.args.intensity.is_unlimited() {
                return Err((failed, failure));
            }
            let planned = self.plan_restart(myself, failed, failure).await;
            planned.map_err(|error| (failed, error.to_string()))?;
            if self.args.strategy != Strategy::OneForOne {
                // The others are part of that plan.
                return Ok(());
            }
            first = failed + 1;
        }
        Ok(())
    }

    /// Starts the children from `first` to `last` that are not running.
    async fn start(&mut self, first: usize, last: usize, myself: &ActorCell) -> Result<(), (usize, String)> {
        let tree = &self.args.tree;
        for (index, child) in self.children.iter_mut().enumerate().take(last + 1).skip(first) {
            if child.cell.is_some() || child.gone {
                continue;
            }
            // The actor is left over because its supervisor was killed, or because it did not end on a kill.
            if let Some(former) = tree.cell(&child.path) {
                gone(&former, &child.path, None).await;
            }
            tree.ending().forget(&child.path);
            let place = Place {
                path: &child.path,
                fuse: tree.fuse(&child.path),
            };
            let cell = tokio::select! {
                biased;
                started = child.spec.start(myself.clone(), place) => started,
                // A stop waits for no start, which may take long.
                () = tree.told_to_end(&self.args.path) => Err("broken off by a stop".to_owned()),
            }
            .map_err(|failure| (index, failure))?;
            tree.set_cell(&child.path, cell.clone());
            child.cell = Some(cell);
            tree.set(&child.path, ActorState::Running, None);
        }
        Ok(())
    }

    /// Ends the children from the last down to `first`, each in its own way and time. If this supervisor was told to
    /// end, each child gets at most its share of the remaining time.
    async fn stop_down_to(&mut self, first: usize, then: ActorState) {
        if then == ActorState::Stopped {
            self.args.tree.end(&self.args.path);
        }
        for (after, child) in self.children[first..].iter_mut().enumerate().rev() {
            child.generation += 1;
            child.restart = None;
            if let Some(cell) = child.cell.take() {
                let told = self.args.tree.ends_by(&self.args.path);
                let until = told.map(|told| share(told, after));
                end(&cell, child.spec.shutdown, &child.path, &self.args.tree, until).await;
                child.gone = child.spec.restart == Restart::Temporary;
                let now = if child.gone { ActorState::Stopped } else { then };
                self.args.tree.set(&child.path, now, None);
            } else if then == ActorState::Stopped {
                self.args.tree.set(&child.path, then, None);
            }
        }
    }

    async fn ended(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        who: &ActorCell,
        crash: Option<String>,
    ) -> Result<(), SupervisorError> {
        let Some(index) = self
            .children
            .iter()
            .position(|c| c.cell.as_ref().is_some_and(|cell| cell.get_id() == who.get_id()))
        else {
            return Ok(());
        };
        let child = &mut self.children[index];
        child.cell = None;
        child.spec.hear();
        // A child that is never restarted is not restarted with its siblings either. A child that has finished its
        // work is, as in OTP, because its siblings may need the work again.
        child.gone = child.spec.restart == Restart::Temporary;
        let again = match child.spec.restart {
            Restart::Permanent => true,
            Restart::Transient => crash.is_some(),
            Restart::Temporary => false,
        };
        if !again || is_ending(myself) {
            if let Some(failure) = &crash {
                tracing::warn!(actor = %child.path, %failure, "actor ended");
            }
            self.args.tree.set(&child.path, ActorState::Stopped, crash);
            return Ok(());
        }
        self.plan_restart(myself, index, crash.unwrap_or_else(|| "stopped".into()))
            .await
    }

    async fn plan_restart(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        index: usize,
        failure: String,
    ) -> Result<(), SupervisorError> {
        let Intensity { restarts, within } = self.args.intensity;
        let now = Instant::now();
        let forget = |times: &mut VecDeque<Instant>| {
            while times.front().is_some_and(|at| now.duration_since(*at) > within) {
                times.pop_front();
            }
        };
        if !self.args.intensity.is_unlimited() {
            forget(&mut self.restarts);
            self.restarts.push_back(now);
            if self.restarts.len() > restarts as usize {
                return Err(self.give_up(index, failure).await);
            }
        }
        let path = &self.children[index].path;
        tracing::warn!(actor = %path, %failure, "actor ended, to be restarted");
        self.args.tree.set(path, ActorState::Restarting, Some(failure.clone()));
        let (first, last) = match self.args.strategy {
            Strategy::OneForOne => (index, index),
            Strategy::RestForOne => {
                self.stop_down_to(index + 1, ActorState::Restarting).await;
                (index, self.children.len() - 1)
            }
            Strategy::OneForAll => {
                self.stop_down_to(0, ActorState::Restarting).await;
                (0, self.children.len() - 1)
            }
        };
        let child = &mut self.children[index];
        let delay = child.spec.own_wait(&failure).unwrap_or_else(|| {
            forget(&mut child.recent);
            let attempt = u32::try_from(child.recent.len()).unwrap_or(u32::MAX);
            child.recent.push_back(now);
            let delay = self.args.backoff.delay(attempt);
            delay / 2 + self.args.entropy.up_to(delay / 2)
        });
        let child = &mut self.children[first];
        child.generation += 1;
        let message = SupervisorMsg {
            first,
            last,
            generation: child.generation,
        };
        child.restart = Some(Timer::after(myself, delay, move || message));
        Ok(())
    }

    /// Too many restarts: stops the children in order.
    async fn give_up(&mut self, index: usize, failure: String) -> SupervisorError {
        let Intensity { restarts, within } = self.args.intensity;
        let child = &self.children[index];
        tracing::warn!(actor = %child.path, %failure, "actor ended");
        self.args
            .tree
            .set(&child.path, ActorState::Stopped, Some(failure.clone()));
        let error = SupervisorError::IntensityExceeded {
            supervisor: self.args.path.clone(),
            child: child.spec.id.to_string(),
            failure,
            restarts,
            within,
        };
        tracing::error!(%error, "supervisor gives up");
        self.stop_down_to(0, ActorState::Stopped).await;
        self.args
            .tree
            .set(&self.args.path, ActorState::Failed, Some(error.to_string()));
        let _ = self.args.exit.set(Err(error.clone()));
        error
    }
}

/// Returns whether the supervisor was told to drain. It then restarts no child.
fn is_ending(myself: &ActorRef<SupervisorMsg>) -> bool {
    myself.get_status() >= ActorStatus::Draining
}

/// Ends an actor: in its own way, up to its own deadline and no longer than `until`, then by a kill.
async fn end(cell: &ActorCell, shutdown: Shutdown, path: &str, tree: &Tree, until: Option<Instant>) {
    if let Shutdown::Stop(within) | Shutdown::Drain(within) = shutdown {
        let own = Instant::now() + within;
        let deadline = until.map_or(own, |until| until.min(own));
        // The deadline is recorded before the actor is told to stop, because the actor reads it first.
        tree.ending().tell(path, deadline);
        match shutdown {
            // An actor that is already ending refuses the drain, and the wait below sees its end.
            Shutdown::Drain(_) => drop(cell.drain()),
            _ => cell.stop(None),
        }
        let within = deadline.saturating_duration_since(Instant::now());
        if !within.is_zero() {
            if cell.wait(Some(within)).await.is_ok() {
                return;
            }
            tracing::warn!(actor = %path, ?within, "actor did not end in time, killing it");
        }
    }
    gone(cell, path, until).await;
}

/// Kills an actor that may still exist, and waits for its end, for a short time after `until` at most.
async fn gone(cell: &ActorCell, path: &str, until: Option<Instant>) {
    if cell.get_status() == ActorStatus::Stopped {
        return;
    }
    cell.kill();
    let left = until.map(|until| until.saturating_duration_since(Instant::now()).max(LEAST_KILL_WAIT));
    if cell.wait(Some(left.unwrap_or(KILL_WAIT).min(KILL_WAIT))).await.is_err() {
        tracing::error!(actor = %path, "killed actor has not ended: it blocks its thread");
    }
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: SupervisorArgs,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let exit = Arc::clone(&args.exit);
        let refuse = |error: SupervisorError| {
            let _ = exit.set(Err(error.clone()));
            Box::new(error)
        };
        let mut state = SupervisorState::new(args).map_err(refuse)?;
        if let Err((failed, failure)) = state.start_all(&myself).await {
            let failed = &state.children[failed];
            state
                .args
                .tree
                .set(&failed.path, ActorState::Stopped, Some(failure.clone()));
            let error = SupervisorError::StartFailed {
                supervisor: state.args.path.clone(),
                child: failed.spec.id.to_string(),
                failure,
            };
            state.stop_down_to(0, ActorState::Stopped).await;
            state
                .args
                .tree
                .set(&state.args.path, ActorState::Failed, Some(error.to_string()));
            return Err(refuse(error));
        }
        state.args.tree.set(&state.args.path, ActorState::Running, None);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let SupervisorMsg {
            first,
            last,
            generation,
        } = message;
        if state.children[first].generation != generation || is_ending(&myself) {
            return Ok(());
        }
        match state.start(first, last, &myself.get_cell()).await {
            // The supervisor was told to drain meanwhile, so no actor can be linked to it any more. Or it was told to
            // stop, and that message is next.
            Err(_) if is_ending(&myself) || state.args.tree.ends_by(&state.args.path).is_some() => Ok(()),
            Err((failed, failure)) => Ok(state.plan_restart(&myself, failed, failure).await?),
            Ok(()) => Ok(()),
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => {
                let failure = shown(&*error);
                drop_quietly(error);
                state.ended(&myself, &who, Some(failure)).await?;
            }
            SupervisionEvent::ActorTerminated(who, last_state, reason) => {
                // ractor marks a kill only by its reason. A stop with the same reason counts as a kill, which does no
                // harm.
                let killed = last_state.is_none() || reason.is_some_and(|reason| reason == Signal::Kill.to_string());
                drop_quietly(last_state);
                state.ended(&myself, &who, killed.then(|| "killed".to_owned())).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        state.stop_down_to(0, ActorState::Stopped).await;
        state.args.tree.set(&state.args.path, ActorState::Stopped, None);
        let _ = state.args.exit.set(Ok(()));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
