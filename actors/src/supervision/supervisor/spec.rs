//! The specification of a supervisor's children, in OTP's terms.

use std::{fmt, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures::FutureExt as _;
use ractor::{Actor, ActorCell, ActorRuntime, SpawnErr};
use tokio::task::AbortHandle;

use crate::supervision::{
    crash::{Fuse, Fused},
    supervised_ref::SupervisedRef,
};
use asynq_core::{
    error::text::shown,
    panics::{drop_quietly, panic_text},
};

/// The ends after which a child is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// The child is restarted only after a crash: a panic, an `Err`, or a kill. A child that has finished its work is
    /// still started again when the [`Strategy`] restarts it together with a sibling.
    Transient,
    /// Never, not together with a sibling either.
    Temporary,
}

/// The children that are restarted together with a child that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Only the child.
    #[default]
    OneForOne,
    /// The child and those started after it.
    RestForOne,
    /// All children are restarted.
    OneForAll,
}

/// The way in which a child is ended, and the time that this may take before it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Stop: what is queued is dropped, `post_stop` runs.
    Stop(Duration),
    /// The child drains: it handles the queued messages first, then its `post_stop` runs.
    Drain(Duration),
    /// Kill at once: `post_stop` does not run.
    Kill,
}

/// The number of restarts that are normal within a time. After one more restart, the supervisor stops its children in
/// order and fails upward. See also [`UNLIMITED`](Self::UNLIMITED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Number of restarts …
    pub restarts: u32,
    /// … within this time.
    pub within: Duration,
}

impl Intensity {
    /// No crash counts: the supervisor restarts each child for ever and never gives up. Use it for children that fail
    /// because of their input and not because of themselves (rules.md#tasks-break-no-supervisor). If a child cannot
    /// start when the supervisor itself is started again, its start is tried again as after a crash. The very first
    /// start must succeed.
    pub const UNLIMITED: Self = Self {
        restarts: u32::MAX,
        within: Duration::from_secs(60),
    };

    pub(crate) fn is_unlimited(self) -> bool {
        self.restarts == u32::MAX
    }
}

impl Default for Intensity {
    /// 5 restarts in 60 s.
    fn default() -> Self {
        Self {
            restarts: 5,
            within: Duration::from_secs(60),
        }
    }
}

/// The delay before a restart. It doubles from `first` to `most` with each restart of the same child within the time
/// of the intensity, and half of it is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Delay before the first restart.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
}

impl Default for Backoff {
    /// 100 ms doubling to 30 s.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            most: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// Returns the wait before restart number `attempt` (from 0), before jitter.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Duration {
        self.first
            .saturating_mul(2_u32.saturating_pow(attempt.min(31)))
            .min(self.most)
    }
}

type OwnWait = Arc<dyn Fn(&str) -> Duration + Send + Sync>;
type Hear = Arc<dyn Fn() + Send + Sync>;
type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;

/// The place in the tree at which a child is started.
pub(crate) struct Place<'p> {
    pub(crate) path: &'p str,
    pub(crate) fuse: Fuse,
}

/// The specification of one child: its start, its restarts and its end.
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) id: Arc<str>,
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
    own_wait: Option<OwnWait>,
    heard: Option<Hear>,
    start_within: Duration,
    start: Arc<dyn Fn(ActorCell, Place<'_>) -> Starting + Send + Sync>,
}

impl ChildSpec {
    /// Returns a permanent child that may take 5 s to stop. `make` is called for every start. The id can be any text.
    /// In paths of the tree, a `/` in it is written as `%2F`, and a `%` as `%25`.
    pub fn new<A: Actor>(
        id: impl Into<Arc<str>>,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        Self::started_by(id, move |supervisor, place| {
            let (actor, arguments) = make();
            let actor = Fused::new(actor, place.path, place.fuse);
            Box::pin(async move {
                let (child, _) = Actor::spawn_linked(None, actor, arguments, supervisor).await?;
                Ok(child.get_cell())
            })
        })
    }

    /// Like [`new`](Self::new), and publishes each incarnation in the reference before the incarnation runs. Handles
    /// therefore follow restarts, and miss no effect of its first actions.
    pub fn published<A: Actor>(
        id: impl Into<Arc<str>>,
        reference: SupervisedRef<A::Msg>,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        Self::started_by(id, move |supervisor, place| {
            let (actor, arguments) = make();
            let actor = Fused::new(actor, place.path, place.fuse);
            let reference = reference.clone();
            Box::pin(async move {
                let (child, starting) = ActorRuntime::spawn_linked_instant(None, actor, arguments, supervisor)?;
                let cell = child.get_cell();
                reference.publish(child);
                let mut given_up = GivenUp(Some((cell.clone(), starting.abort_handle())));
                let started = starting.await;
                given_up.0 = None;
                started.map_err(|error| SpawnErr::StartupFailed(error.into()))??;
                Ok(cell)
            })
        })
    }

    fn started_by(
        id: impl Into<Arc<str>>,
        start: impl Fn(ActorCell, Place<'_>) -> Starting + Send + Sync + 'static,
    ) -> Self {
        Self {
            id: id.into(),
            own_wait: None,
            heard: None,
            restart: Restart::Permanent,
            shutdown: Shutdown::Stop(Duration::from_secs(5)),
            start_within: Duration::from_secs(30),
            start: Arc::new(start),
        }
    }

    /// Sets the ends after which the child is started again. Default: [`Restart::Permanent`].
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets a function that computes the wait before a restart from the end of the child, in place of the
    /// supervisor's [`Backoff`] and its jitter. If the function panics, the panic is caught and the back-off applies.
    #[must_use]
    pub fn restart_after(mut self, wait: impl Fn(&str) -> Duration + Send + Sync + 'static) -> Self {
        self.own_wait = Some(Arc::new(wait));
        self
    }

    /// Sets a function that is called when the child has ended by itself.
    #[must_use]
    pub(crate) fn heard_by(mut self, hear: impl Fn() + Send + Sync + 'static) -> Self {
        self.heard = Some(Arc::new(hear));
        self
    }

    /// Sets the way in which the child is ended. Default: a stop within 5 s.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets the longest time for `pre_start`. After this time the start has failed. The supervisor does nothing else
    /// during a start. Default: 30 s.
    #[must_use]
    pub fn start_within(mut self, limit: Duration) -> Self {
        self.start_within = limit;
        self
    }

    /// The supervisor has heard of its end.
    pub(crate) fn hear(&self) {
        if let Some(hear) = &self.heard {
            hear();
        }
    }

    /// The child's own wait before a restart, where it has one.
    pub(crate) fn own_wait(&self, failure: &str) -> Option<Duration> {
        let wait = self.own_wait.as_ref()?;
        match std::panic::catch_unwind(AssertUnwindSafe(|| wait(failure))) {
            Ok(wait) => Some(wait),
            Err(panic) => {
                tracing::error!(child = %self.id, panic = panic_text(&*panic), "wait before a restart panicked");
                drop_quietly(panic);
                None
            }
        }
    }

    /// Starts the child, or returns the reason for the failure as text. The function that makes the child may be
    /// application code, so its panics are caught.
    pub(crate) async fn start(&self, supervisor: ActorCell, place: Place<'_>) -> Result<ActorCell, String> {
        let starting = AssertUnwindSafe(async { (self.start)(supervisor, place).await }).catch_unwind();
        match tokio::time::timeout(self.start_within, starting).await {
            Ok(Ok(Ok(cell))) => Ok(cell),
            Ok(Ok(Err(SpawnErr::StartupFailed(error)))) => Err(shown(&*error)),
            Ok(Ok(Err(error))) => Err(shown(&error)),
            Ok(Err(panic)) => Err(format!("panicked: {}", panic_text(&*panic))),
            Err(_) => Err(format!("did not start within {:?}", self.start_within)),
        }
    }
}

/// The start of a child that is no longer awaited. The start may have just succeeded.
struct GivenUp(Option<(ActorCell, AbortHandle)>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        if let Some((cell, starting)) = self.0.take() {
            starting.abort();
            cell.kill();
        }
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_cap_and_never_overflows() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(0), Duration::from_millis(100));
        assert_eq!(backoff.delay(3), Duration::from_millis(800));
        assert_eq!(backoff.delay(9), Duration::from_secs(30));
        assert_eq!(backoff.delay(u32::MAX), Duration::from_secs(30));
    }
}
