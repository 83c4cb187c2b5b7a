//! The time that a shutdown may take: one budget for all actors.
//!
//! A shutdown ends after the shutdown timeout plus [`REST`]. A supervisor passes each child a deadline: at the latest
//! its own, less some time for each child that is stopped later. Nested deadlines therefore never add up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Time for which cancelled handlers may continue.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// Time for writing outcomes, enqueues and entries after the last handler has ended.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);
/// Time reserved for closing connections after all actors have ended.
pub(crate) const CLOSE: Duration = Duration::from_millis(400);
/// Time that a shutdown may take beyond the shutdown timeout.
pub(crate) const REST: Duration = Duration::from_secs(6);
/// Time that a shutdown at once may take.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Part of this time that is reserved for actors that do not stop by themselves, and for closing connections.
const AT_ONCE_REST: Duration = Duration::from_millis(300);
/// Time that a supervisor reserves for each child that is stopped later.
const SLICE: Duration = Duration::from_millis(50);
/// Time that an actor may take for its last call, even if the time for such calls is over.
const LEAST: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
struct State {
    /// Time for which runs may continue; `None` without a budget.
    timeout: Option<Duration>,
    /// The longest time for which runs may continue, and its beginning.
    hurry: Option<(Duration, Instant)>,
    began: Option<Instant>,
    /// Time from which runs are no longer awaited.
    at_once: Option<Instant>,
    runs_ended: Option<Instant>,
    wound_down: bool,
    /// Deadlines of the actors below the root, by path.
    told: HashMap<String, Instant>,
}

impl State {
    fn runs_until(&self) -> Option<Instant> {
        let began = self.began?;
        let until = began + self.timeout?;
        Some(match self.hurry {
            Some((hurry, from)) => until.min(began.max(from) + hurry),
            None => until,
        })
    }
}

/// The state of a system's shutdown. Cheap to clone; clones share one.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShutdownBudget(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

impl ShutdownBudget {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.changed.notify_waiters();
    }

    /// Sets the time for which runs may continue after the system is told to end.
    pub(crate) fn set_timeout(&self, timeout: Duration) {
        self.change(|state| state.timeout = Some(timeout));
    }

    /// Shortens the time for which runs may continue. It counts from now or from the beginning of the shutdown.
    pub(crate) fn set_hurry(&self, timeout: Duration) {
        self.change(|state| state.hurry = Some((timeout, Instant::now())));
    }

    /// Ends the wait for runs now. Another call does not end it later.
    pub(crate) fn set_at_once(&self) {
        self.change(|state| state.at_once = state.at_once.or_else(|| Some(Instant::now())));
    }

    /// Returns the time until which runs are awaited, at most `until`.
    pub(crate) fn patience(&self, until: Instant) -> Instant {
        self.lock().at_once.map_or(until, |at_once| until.min(at_once))
    }

    /// Returns the time until which outcomes may be written, at most `until`.
    pub(crate) fn settled_by(&self, until: Instant) -> Instant {
        let at_once = self.lock().at_once;
        at_once.map_or(until, |at_once| until.min(at_once + (AT_ONCE - AT_ONCE_REST)))
    }

    pub(crate) fn hurry(&self) -> Option<Duration> {
        self.lock().hurry.map(|(timeout, _)| timeout)
    }

    /// Begins the shutdown. Another call does not end it later.
    pub(crate) fn begin(&self) {
        self.change(|state| state.began = state.began.or_else(|| Some(Instant::now())));
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.lock().began.is_some()
    }

    /// Records that no handler runs any more.
    pub(crate) fn runs_ended(&self) {
        self.change(|state| state.runs_ended = state.runs_ended.or_else(|| Some(Instant::now())));
    }

    /// Records that the work for tasks in flight is finished.
    pub(crate) fn wound_down(&self) {
        self.lock().wound_down = true;
    }

    pub(crate) fn is_wound_down(&self) -> bool {
        self.lock().wound_down
    }

    /// Returns the time until which runs may end by themselves; `None` before the shutdown or without a budget.
    pub(crate) fn runs_until(&self) -> Option<Instant> {
        self.lock().runs_until()
    }

    /// Returns the time by which the whole system must have ended; `None` before the shutdown or without a budget.
    pub(crate) fn until(&self) -> Option<Instant> {
        let state = self.lock();
        let until = state.runs_until()? + REST;
        Some(state.at_once.map_or(until, |at_once| until.min(at_once + AT_ONCE)))
    }

    /// Returns the deadline of the actor, or of the root if the path is empty, if it was told to end.
    pub(crate) fn told(&self, path: Option<&str>) -> Option<Instant> {
        match path {
            Some(path) => self.lock().told.get(path).copied(),
            None => self.until().map(|until| until - CLOSE),
        }
    }

    /// Records that the actor is told to end.
    pub(crate) fn tell(&self, path: &str, until: Instant) {
        self.change(|state| {
            state.told.insert(path.to_owned(), until);
        });
    }

    /// Records that the actor is started, perhaps again.
    pub(crate) fn forget(&self, path: &str) {
        self.lock().told.remove(path);
    }

    /// Waits for a change of the shutdown's state after this future was first polled or enabled.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.changed.notified()
    }

    /// Waits until `seen` returns a value.
    pub(crate) async fn wait<T>(&self, mut seen: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(seen) = seen(self) {
                return seen;
            }
            changed.await;
        }
    }

    /// Waits until the deadline of the whole system, and for `more` after it.
    pub(crate) async fn overdue(&self, more: Duration) {
        loop {
            let until = self.wait(Self::until).await + more;
            tokio::select! {
                () = sleep_until(until) => return,
                // A shortened shutdown ends earlier.
                () = self.changed() => {}
            }
        }
    }

    /// Returns the time by which an actor must have finished after a stop, at most `own` from now.
    pub(crate) fn last_moment(&self, path: &str, own: Duration) -> Instant {
        let now = Instant::now();
        // A moment earlier, so that the actor need not be killed.
        let told = self.told(Some(path)).map(|told| earlier(told, SLICE / 2));
        told.map_or(now + own, |told| told.min(now + own)).max(now)
    }

    /// Returns the time by which the last storage call of an actor must have ended, at most `own` from now.
    pub(crate) fn last_act(&self, path: &str, own: Duration) -> Instant {
        let now = Instant::now();
        let until = self.settled_by(self.last_moment(path, own));
        let state = self.lock();
        match (state.began, state.timeout) {
            (Some(began), Some(_)) => {
                let settled = state.runs_ended.unwrap_or(began) + SETTLE;
                until.min(settled.max(now + LEAST))
            }
            _ => until,
        }
    }
}

/// Returns the deadline of a child. `told` is the deadline of its supervisor, and `after` the number of children that
/// are stopped later.
pub(crate) fn share(told: Instant, after: usize) -> Instant {
    let left = told.saturating_duration_since(Instant::now());
    let count = u32::try_from(after + 1).unwrap_or(u32::MAX);
    let slice = SLICE.min(left / 2 / count);
    earlier(told, slice * count)
}

fn earlier(instant: Instant, by: Duration) -> Instant {
    instant.checked_sub(by).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn the_bound_is_the_timeout_and_the_rest_from_the_first_word_on() {
        let ending = ShutdownBudget::default();
        ending.set_timeout(8 * SECOND);
        assert_eq!((ending.until(), ending.has_begun()), (None, false));
        let began = Instant::now();
        ending.begin();
        tokio::time::sleep(SECOND).await;
        ending.begin();
        assert_eq!(ending.until(), Some(began + 8 * SECOND + REST));
        ending.set_hurry(100 * SECOND);
        assert_eq!(ending.until(), Some(began + 8 * SECOND + REST));
        ending.set_hurry(2 * SECOND);
        assert_eq!(ending.until(), Some(began + 3 * SECOND + REST));
        ending.overdue(SECOND).await;
        assert!(began.elapsed() >= 4 * SECOND + REST && began.elapsed() < 5 * SECOND + REST);
        let hurried = ShutdownBudget::default();
        hurried.set_timeout(8 * SECOND);
        hurried.set_hurry(2 * SECOND);
        tokio::time::sleep(MINUTE).await;
        hurried.begin();
        assert_eq!(hurried.until(), Some(Instant::now() + 2 * SECOND + REST));
    }

    #[tokio::test(start_paused = true)]
    async fn shares_of_one_deadline_never_exceed_it_however_many_there_are() {
        for (left, children) in [(6.0, 4), (6.0, 1), (0.1, 10), (5.0, 1000), (0.0, 3)] {
            let told = Instant::now() + Duration::from_secs_f64(left);
            let (began, mut before) = (Instant::now(), None);
            for after in (0..children).rev() {
                let until = share(told, after);
                assert!(until <= told && before <= Some(until), "{left} {children} {after}");
                before = Some(until);
                // Each takes all of it.
                tokio::time::sleep_until(until).await;
            }
            assert!(
                began.elapsed() <= told - began + Duration::from_millis(1),
                "{left} {children}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn last_acts_share_the_time_after_the_last_run() {
        let ending = ShutdownBudget::default();
        assert_eq!(ending.last_act("a", 5 * SECOND), Instant::now() + 5 * SECOND);
        ending.set_timeout(8 * SECOND);
        ending.begin();
        tokio::time::sleep(4 * SECOND).await;
        ending.runs_ended();
        assert_eq!(ending.last_act("a", 5 * SECOND), Instant::now() + SETTLE);
        assert_eq!(ending.last_act("a", SECOND), Instant::now() + SECOND);
        tokio::time::sleep(SETTLE).await;
        assert_eq!(ending.last_act("a", SECOND), Instant::now() + LEAST);
        ending.tell("a", Instant::now());
        assert_eq!(ending.last_act("a", SECOND), Instant::now());
        ending.forget("a");
        assert_eq!(ending.last_act("a", SECOND), Instant::now() + LEAST);
    }
}
