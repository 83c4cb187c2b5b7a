//! Middleware and layers around the tasks of a handler actor.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    ConfigError, Error, Handler, Result, ServeMux, States, Task, TaskContext,
    error::ConfigFault,
    mux::{Middleware, Next},
};

use super::Pool;
use crate::work::handled::{Handled, PutBack};

type Wrap = dyn Fn(ActorHandler) -> Arc<dyn Handler> + Send + Sync;

/// The instances of a handler actor as a handler, with what is around them already: the innermost part of what
/// [`HandlerActorSpec::around`](crate::HandlerActorSpec::around) makes.
///
/// A task that comes back unrun, since the type is suspended for example, ends as one that was
/// [put off](Error::snooze): leave that error as it is. The task must be the one of the run: its
/// [context](Task::context) goes to the actor with it.
#[derive(Clone)]
pub struct ActorHandler(Arc<dyn Handler>);

#[async_trait]
impl Handler for ActorHandler {
    async fn process_task(&self, task: Task) -> Result<()> {
        self.0.process_task(task).await
    }

    fn check(&self) -> std::result::Result<(), ConfigError> {
        self.0.check()
    }

    fn check_with(&self, states: &States) -> std::result::Result<(), ConfigError> {
        self.0.check_with(states)
    }
}

impl fmt::Debug for ActorHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActorHandler")
    }
}

/// Puts middleware and layers around a handler, the outermost first.
#[derive(Clone, Default)]
pub(super) struct Around(Vec<Arc<Wrap>>);

impl Around {
    pub(super) fn add<H: Handler>(&mut self, make: impl Fn(ActorHandler) -> H + Send + Sync + 'static) {
        self.0.push(Arc::new(move |inner| Arc::new(make(inner))));
    }

    pub(super) fn add_middleware(&mut self, middleware: impl Middleware) {
        let middleware = Arc::new(middleware);
        self.add(move |inner| {
            let middleware = Arc::clone(&middleware);
            let mut mux = ServeMux::new();
            mux.wrap(move |task: Task, next: Next| {
                let middleware = Arc::clone(&middleware);
                async move { middleware.process_task(task, next).await }
            });
            mux.otherwise(inner);
            mux
        });
    }

    /// Makes all of it around instances that are to come.
    pub(super) fn prepare(&self) -> Prepared {
        let pool = Arc::<OnceLock<_>>::default();
        let innermost: Arc<dyn Handler> = Arc::new(Innermost(Arc::clone(&pool)));
        let around = (!self.0.is_empty()).then(|| {
            let inside_out = self.0.iter().rev();
            inside_out.fold(innermost, |inner, wrap| wrap(ActorHandler(inner)))
        });
        Prepared { pool, around }
    }
}

/// Middleware and layers around the instances of one spec, before there are any: so its faults are known with all others.
pub(crate) struct Prepared {
    pool: Arc<OnceLock<Arc<Pool>>>,
    around: Option<Arc<dyn Handler>>,
}

impl Prepared {
    /// Returns what is wrong with it.
    pub(super) fn faults(&self, states: &States) -> Vec<ConfigFault> {
        let checked = self.around.as_ref().map_or(Ok(()), |around| around.check_with(states));
        checked.err().map_or_else(Vec::new, |error| error.faults)
    }

    /// Puts it around the instances.
    pub(super) fn put(&self, pool: Arc<Pool>) -> Actors {
        let pool = Arc::clone(self.pool.get_or_init(|| pool));
        Actors {
            pool,
            around: self.around.clone(),
        }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({})", self.around.is_some())
    }
}

/// The instances of one spec, and what is around them.
pub(crate) struct Actors {
    pool: Arc<Pool>,
    around: Option<Arc<dyn Handler>>,
}

impl Actors {
    /// Has one task run.
    ///
    /// # Cancel safety
    /// As [`Pool::run`].
    pub(crate) async fn run(&self, task: Task, context: &TaskContext) -> Handled {
        let Some(around) = &self.around else {
            return self.pool.run(task, context).await;
        };
        match around.process_task(task).await {
            Err(error) => match error.find::<Unrun>() {
                Some(unrun) => Handled::PutBack(PutBack {
                    after: unrun.after,
                    why: unrun.why.clone(),
                }),
                None => Handled::Ended(Err(error)),
            },
            done => Handled::Ended(done),
        }
    }
}

impl fmt::Debug for Actors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actors")
            .field("pool", &self.pool)
            .field("around", &self.around.is_some())
            .finish()
    }
}

/// A task that comes back unrun, on its way through what is around.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct Unrun {
    after: Duration,
    why: String,
    /// Says the same to whoever does not know this type.
    #[source]
    snooze: Error,
}

struct Innermost(Arc<OnceLock<Arc<Pool>>>);

#[async_trait]
impl Handler for Innermost {
    async fn process_task(&self, task: Task) -> Result<()> {
        let Some(context) = task.context().cloned() else {
            return Err(Error::other(
                "middleware gave a handler actor another task than that of the run: it has no context",
            ));
        };
        let Some(pool) = self.0.get() else {
            return Err(Error::other(
                "a handler actor was given a task before its system had started",
            ));
        };
        match pool.run(task, &context).await {
            Handled::Ended(result) => result,
            Handled::PutBack(PutBack { after, why }) => Err(Error::other(Unrun {
                after,
                why,
                snooze: Error::snooze(after),
            })),
        }
    }
}
