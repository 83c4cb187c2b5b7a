//! The scheduler: enqueues periodic tasks at their ticks.
//!
//! Messages: changes of entries from handles, and the ends of its own tasks. Its handler waits for nothing. Each due
//! entry is handled in a task of its own, one tick at a time. Between ticks the actor sleeps until the next tick, or
//! for a minute in case the clock is set. There is no leader: every scheduler of a name tries every tick, and the
//! storage decides (rules.md#one-tick-one-task). A crash loses nothing: entries belong to the system, a tick in
//! progress continues with the same request, and ticks that were due meanwhile are caught up.

pub(crate) mod config;
mod entries;
mod entry;
mod handle;
mod setup;
#[cfg(test)]
mod tests;
mod timetable;
mod work;

use std::{collections::HashSet, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use asynq_core::{BrokerError, error::text::report, panics::panic_text};
use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    task::JoinSet,
    time::{timeout, timeout_at},
};
use tracing::Instrument as _;

use crate::{
    broker::BrokerHandle,
    supervision::{
        supervisor::{ChildSpec, Shutdown},
        timer::Timer,
        tree::Tree,
    },
};

pub use config::SchedulerConfig;
pub(crate) use entries::Claim;
pub use entry::EntryId;
pub use handle::SchedulerHandle;
pub(crate) use setup::{Ready, Setup};
use work::Worker;

/// Longest sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Time for which a stop waits for ticks in progress.
const FINISH_WITHIN: Duration = Duration::from_secs(3);
/// Longest time that aborted tasks may take to end. They end at their next await point.
const ABORT_WITHIN: Duration = Duration::from_millis(500);
/// Longest time that the last work may take.
const LAST_WITHIN: Duration = Duration::from_secs(3);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

pub(crate) struct Scheduler;

#[derive(Clone)]
pub(crate) struct SchedulerArgs {
    pub(crate) handle: SchedulerHandle,
    pub(crate) broker: BrokerHandle,
    pub(crate) tree: Tree,
    pub(crate) path: String,
    pub(crate) longest_sleep: Duration,
}

#[derive(Debug)]
pub(crate) enum SchedulerMsg {
    /// Time to check the entries.
    Tick,
    /// Entries were registered or unregistered.
    Changed,
    /// The stored ticks of entries are known.
    Anchored,
    /// The work for an entry ended; by a panic if there is a text.
    Worked { entry: u64, panic: Option<String> },
    /// Time to publish the entries.
    Beat,
    /// The result of publishing the entries.
    Shown(Result<(), BrokerError>),
}
crate::message!(SchedulerMsg);

pub(crate) struct SchedulerState {
    args: SchedulerArgs,
    worker: Arc<Worker>,
    tasks: JoinSet<()>,
    /// Entries with work in progress.
    busy: HashSet<u64>,
    anchoring: bool,
    /// The time that the timer is set for, and the timer.
    next: Option<(DateTime<Utc>, Timer)>,
    beat: Option<Timer>,
    showing: bool,
    /// Entries have changed since they were last published.
    changed: bool,
    failures: u32,
}

/// The child spec of the scheduler.
pub(crate) fn spec(args: SchedulerArgs) -> ChildSpec {
    let actor = args.handle.actor.clone();
    ChildSpec::published("scheduler", actor, move || (Scheduler, args.clone()))
        .shutdown(Shutdown::Stop(FINISH_WITHIN + LAST_WITHIN + 2 * ABORT_WITHIN))
}

/// Work of the actor panicked outside of application code.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
struct WorkPanicked(String);

impl SchedulerState {
    fn now(&self) -> DateTime<Utc> {
        self.args.handle.entries.env.clock.now()
    }

    /// Starts all work that is due, and sets the timer.
    fn look(&mut self, myself: &ActorRef<SchedulerMsg>) {
        while self.tasks.try_join_next().is_some() {}
        let (due, next) = self.args.handle.entries.due();
        for entry in due {
            self.start(myself, entry);
        }
        self.arm(myself, next, true);
    }

    /// Starts the work for an entry, unless it is in progress.
    fn start(&mut self, myself: &ActorRef<SchedulerMsg>, entry: u64) {
        if !self.busy.insert(entry) {
            return;
        }
        let (worker, myself) = (Arc::clone(&self.worker), myself.clone());
        let work = async move {
            let ended = AssertUnwindSafe(worker.work(entry)).catch_unwind().await;
            let panic = ended.err().map(|panic| panic_text(&*panic));
            // Refused only when the actor is ending.
            let _ = myself.cast(SchedulerMsg::Worked { entry, panic });
        };
        self.tasks.spawn(work.in_current_span());
    }

    /// Sets the timer, unless it is already set for an earlier time and `anew` is not set.
    fn arm(&mut self, myself: &ActorRef<SchedulerMsg>, next: Option<DateTime<Utc>>, anew: bool) {
        let latest = self.now() + self.args.longest_sleep;
        let next = next.map_or(latest, |next| next.min(latest));
        if !anew && self.next.as_ref().is_some_and(|(set, _)| *set <= next) {
            return;
        }
        let wait = self.args.handle.entries.env.clock.until(next);
        self.next = Some((next, Timer::after(myself, wait, || SchedulerMsg::Tick)));
    }

    fn anchor(&mut self, myself: &ActorRef<SchedulerMsg>) {
        if self.anchoring || self.args.handle.entries.unanchored().is_empty() {
            return;
        }
        self.anchoring = true;
        let (worker, myself) = (Arc::clone(&self.worker), myself.clone());
        let anchor = async move {
            let some = || drop(myself.cast(SchedulerMsg::Tick));
            worker.anchor(some).await;
            let _ = myself.cast(SchedulerMsg::Anchored);
        };
        self.tasks.spawn(anchor.in_current_span());
    }

    fn show(&mut self, myself: &ActorRef<SchedulerMsg>) {
        if self.showing {
            return;
        }
        self.showing = true;
        self.changed = false;
        let (worker, myself, interval) = (Arc::clone(&self.worker), myself.clone(), self.interval());
        let show = async move {
            let shown = worker.show(interval * 2).await;
            let _ = myself.cast(SchedulerMsg::Shown(shown));
        };
        self.tasks.spawn(show.in_current_span());
    }

    fn interval(&self) -> Duration {
        self.args.handle.entries.config.heartbeat_interval
    }

    fn shown(&mut self, myself: &ActorRef<SchedulerMsg>, shown: Result<(), BrokerError>) {
        self.showing = false;
        let (tree, path) = (&self.args.tree, &self.args.path);
        let wait = match shown {
            Ok(()) if self.changed => return self.show(myself),
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(failures = self.failures, "entries are shown again");
                    tree.note(path, None);
                    self.failures = 0;
                }
                self.interval()
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(error = %report(&error), "entries are not shown, retrying");
                    tree.note(path, Some(&format!("entries are not shown: {}", report(&error))));
                }
                self.failures = self.failures.saturating_add(1);
                self.interval().min(LONGEST_RETRY)
            }
        };
        self.beat = Some(Timer::after(myself, wait, || SchedulerMsg::Beat));
    }
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Scheduler {
    type Msg = SchedulerMsg;
    type State = SchedulerState;
    type Arguments = SchedulerArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<SchedulerMsg>,
        args: SchedulerArgs,
    ) -> Result<SchedulerState, ActorProcessingErr> {
        args.handle.entries.start();
        let worker = Worker::new(Arc::clone(&args.handle.entries), args.broker.clone());
        Ok(SchedulerState {
            args,
            worker: Arc::new(worker),
            tasks: JoinSet::new(),
            busy: HashSet::new(),
            anchoring: false,
            next: None,
            beat: None,
            showing: false,
            changed: false,
            failures: 0,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<SchedulerMsg>,
        state: &mut SchedulerState,
    ) -> Result<(), ActorProcessingErr> {
        state.anchor(&myself);
        state.show(&myself);
        state.look(&myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<SchedulerMsg>,
        message: SchedulerMsg,
        state: &mut SchedulerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SchedulerMsg::Tick => state.look(&myself),
            SchedulerMsg::Changed => {
                state.changed = true;
                state.anchor(&myself);
                state.show(&myself);
            }
            SchedulerMsg::Anchored => {
                state.anchoring = false;
                // The entry was registered after the last check.
                state.anchor(&myself);
                state.look(&myself);
            }
            SchedulerMsg::Worked { panic: Some(text), .. } => return Err(Box::new(WorkPanicked(text))),
            SchedulerMsg::Worked { entry, panic: None } => {
                state.busy.remove(&entry);
                match state.args.handle.entries.due_at(entry) {
                    Some(at) if at <= state.now() => state.start(&myself, entry),
                    Some(at) => state.arm(&myself, Some(at), false),
                    None => {}
                }
            }
            SchedulerMsg::Beat => state.show(&myself),
            SchedulerMsg::Shown(shown) => state.shown(&myself, shown),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<SchedulerMsg>,
        state: &mut SchedulerState,
    ) -> Result<(), ActorProcessingErr> {
        state.worker.closing.cancel();
        let SchedulerArgs { tree, path, .. } = &state.args;
        let finished = timeout_at(tree.ending().last_act(path, FINISH_WITHIN), async {
            while state.tasks.join_next().await.is_some() {}
        })
        .await;
        if finished.is_err() {
            tracing::warn!("aborting ticks under way");
            let _ = timeout(ABORT_WITHIN, state.tasks.shutdown()).await;
        }
        if !tree.is_ending() {
            // The supervisor gave up. The next incarnation continues with entries and histories.
            return Ok(());
        }
        state.args.handle.entries.leave_open();
        match timeout_at(tree.ending().last_act(path, LAST_WITHIN), state.worker.clear()).await {
            Ok(Ok(())) => {}
            // The published entries expire by themselves.
            Ok(Err(error)) => tracing::debug!(error = %report(&error), "scheduler entries not removed"),
            Err(_) => tracing::debug!("scheduler entries not removed in time"),
        }
        Ok(())
    }
}

impl fmt::Debug for SchedulerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerState")
            .field("path", &self.args.path)
            .field("busy", &self.busy.len())
            .finish_non_exhaustive()
    }
}
