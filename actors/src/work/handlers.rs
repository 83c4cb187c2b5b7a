//! Handler actors: the user's own actors, registered for task types.

mod dispatch;
mod handle_task;
mod incarnation;
mod instance;
mod middleware;
mod pool;
mod rate_limit;
mod suspension;
mod traced;

use std::{fmt, sync::Arc, time::Duration};

use asynq_core::{
    Env, Handler, States,
    error::{ConfigFault, Error},
    excerpt::Excerpt,
    mux::Middleware,
    patterns::Patterns,
};
use ractor::Actor;

pub use self::{
    handle_task::{HandleTask, TaskReply},
    middleware::ActorHandler,
};
use self::{instance::Instance, middleware::Around, pool::PoolParts};
pub(crate) use self::{
    middleware::{Actors, Prepared},
    pool::Pool,
};
use crate::supervision::{
    supervisor::{ChildSpec, Restart, Shutdown},
    tree::{Tree, child_path},
};

/// The most instances of one handler actor.
pub const MAX_INSTANCES: usize = 1000;
/// The most tasks one instance works on at once.
pub const MAX_INSTANCE_CONCURRENCY: usize = 10_000;

type MakeChild = Arc<dyn Fn(String, &Arc<Pool>, usize) -> ChildSpec + Send + Sync>;

/// An actor type that handles the tasks of a type, or of all types with a prefix.
///
/// Each instance is a supervised actor `work/handlers/{pattern}#{number}` with a state that lives
/// from task to task: a connection, a model. It is given a [`HandleTask`] when it has a free
/// credit, once its `post_start` has ended. What takes long is best done there: `pre_start` keeps
/// the restarts of other handler actors waiting.
///
/// A crash (panic, `Err`, kill) fails the tasks that the instance had started, restarts it with
/// fresh state, and touches nobody else; tasks that wait in its mailbox go to another instance.
/// After [`suspend_after`](Self::suspend_after) crashes in a row without an answered task between,
/// tasks of the type are put back, without using up a retry, for 30 s, doubling to 10 min; then
/// one is tried. The same is done with tasks when no instance has been running for 5 s.
///
/// A task that waits for a credit holds a slot of the server, and its timeout runs.
///
/// Instances are fixed when the system is built.
///
/// ```
/// use asynq::{HandleTask, HandlerActorSpec};
/// use ractor::{Actor, ActorProcessingErr, ActorRef};
///
/// struct Mailer;
///
/// # #[cfg(not(feature = "ractor-async-trait"))]
/// impl Actor for Mailer {
///     type Msg = HandleTask;
///     type State = u64;
///     type Arguments = u64;
///
///     async fn pre_start(&self, _: ActorRef<HandleTask>, sent: u64) -> Result<u64, ActorProcessingErr> {
///         Ok(sent)
///     }
///
///     async fn handle(&self, _: ActorRef<HandleTask>, task: HandleTask, sent: &mut u64) -> Result<(), ActorProcessingErr> {
///         if let Some((task, reply)) = task.start() {
///             *sent += 1;
///             println!("mail {sent}: {:?}", task.get_payload());
///             reply.send(Ok(()));
///         }
///         Ok(())
///     }
/// }
/// # #[cfg(not(feature = "ractor-async-trait"))]
/// let spec = HandlerActorSpec::new("email:", || (Mailer, 0)).instances(4);
/// ```
#[derive(Clone)]
pub struct HandlerActorSpec {
    pattern: String,
    instances: usize,
    concurrency: usize,
    rate_limit: Option<(u32, Duration)>,
    restart: Restart,
    kill_after: Duration,
    suspend_after: u32,
    stop_within: Duration,
    start_within: Duration,
    around: Around,
    make: MakeChild,
}

impl HandlerActorSpec {
    /// One permanent instance that is given one task at a time. `make` is called for every start
    /// of an instance: it gives the actor and its arguments.
    ///
    /// The pattern is a task type or a prefix of task types; of several that match the longest
    /// wins, as in Go's `ServeMux`. The actor's message is a [`HandleTask`] or made from one.
    pub fn new<A>(pattern: impl Into<String>, make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static) -> Self
    where
        A: Actor,
        A::Msg: From<HandleTask>,
    {
        let make = Arc::new(make);
        Self {
            pattern: pattern.into(),
            instances: 1,
            concurrency: 1,
            rate_limit: None,
            restart: Restart::Permanent,
            kill_after: Duration::from_secs(10),
            suspend_after: 5,
            stop_within: Duration::from_secs(5),
            start_within: Duration::from_secs(30),
            around: Around::default(),
            make: Arc::new(move |id, pool, number| {
                let (make, pool) = (Arc::clone(&make), Arc::clone(pool));
                ChildSpec::new(id, move || {
                    let (actor, arguments) = make();
                    let pool = Arc::clone(&pool);
                    (Instance { actor, pool, number }, arguments)
                })
            }),
        }
    }

    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Sets how many instances run, 1 to [`MAX_INSTANCES`]. Default: 1.
    #[must_use]
    pub fn instances(mut self, instances: usize) -> Self {
        self.instances = instances;
        self
    }

    /// Sets how many tasks one instance has at most that are not answered, 1 to
    /// [`MAX_INSTANCE_CONCURRENCY`]. An actor handles one message at a time; more than 1 is for
    /// one that moves its [`TaskReply`] elsewhere, or to keep its mailbox filled. Default: 1.
    #[must_use]
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.concurrency = tasks;
        self
    }

    /// Sets how many tasks are given out, over all instances of this system: a bucket that holds
    /// `tasks` tokens, 1 to 1 000 000, is full at first, and gains as many each `per`, 1 ms to
    /// 24 h. A task whose token is due within 10 s waits in its slot; a later one is put back, at
    /// most for 10 min, which uses up no retry. Default: no limit.
    #[must_use]
    pub fn rate_limit(mut self, tasks: u32, per: Duration) -> Self {
        self.rate_limit = Some((tasks, per));
        self
    }

    /// Sets when an instance that ended is started again. Default: [`Restart::Permanent`].
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// An instance that has not let go of a task so long after its run was cancelled or ran out of
    /// time hangs: it is killed and restarted like after any crash. One that blocks its thread
    /// cannot be killed. 10 ms to 24 h. Default: 10 s.
    #[must_use]
    pub fn kill_after(mut self, limit: Duration) -> Self {
        self.kill_after = limit;
        self
    }

    /// Sets the number of crashes in a row, of all instances together and without an answered task between, after
    /// which the task type is suspended; 1 to 1000. Default: 5.
    #[must_use]
    pub fn suspend_after(mut self, crashes: u32) -> Self {
        self.suspend_after = crashes;
        self
    }

    /// Sets how long an instance may take to stop at a shutdown before it is killed; they are stopped
    /// one after the other, and all of them within the time that a
    /// [shutdown](crate::AsynqSystem::shutdown) may take. 0 to 1 h. Default: 5 s.
    #[must_use]
    pub fn stop_within(mut self, limit: Duration) -> Self {
        self.stop_within = limit;
        self
    }

    /// Sets how long the `pre_start` of an instance may take, 1 ms to 1 h. When the system is spawned,
    /// one that fails or takes longer fails the spawn. Default: 30 s.
    #[must_use]
    pub fn start_within(mut self, limit: Duration) -> Self {
        self.start_within = limit;
        self
    }

    /// Puts a middleware around each task, inside of those that are there, as
    /// [`ServeMux::wrap`](asynq_core::ServeMux::wrap) does for handlers. It runs in the task's run and not in the
    /// actor, before the task waits for a free instance and after its answer: a time that it takes includes the wait,
    /// and what it does keeps no instance busy. Dropped with the run, it takes the task back.
    ///
    /// ```
    /// # use asynq::{HandlerActorSpec, Task, serve_mux::Next};
    /// # fn timed(spec: HandlerActorSpec) -> HandlerActorSpec {
    /// spec.wrap(|task: Task, next: Next| async move {
    ///     let began = std::time::Instant::now();
    ///     let result = next.run(task).await;
    ///     println!("{:?}", began.elapsed());
    ///     result
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn wrap(mut self, middleware: impl Middleware) -> Self {
        self.around.add_middleware(middleware);
        self
    }

    /// Puts a handler of any kind around each task, inside of what is there, as [`wrap`](Self::wrap): `make` is given
    /// the instances as a handler, when the system is spawned, and gives the one that calls it. Layers of `tower`
    /// come here, with `asynq::tower::layered`.
    #[must_use]
    pub fn around<H: Handler>(mut self, make: impl Fn(ActorHandler) -> H + Send + Sync + 'static) -> Self {
        self.around.add(make);
        self
    }

    fn check(&self, faults: &mut Vec<ConfigFault>) {
        let mut fault = |what: &str, least: &dyn fmt::Debug, most: &dyn fmt::Debug, got: &dyn fmt::Debug| {
            faults.push(ConfigFault {
                field: "handler_actor",
                problem: format!(
                    "{:?}: {what} must be {least:?} to {most:?}, not {got:?}",
                    Excerpt(&self.pattern)
                ),
            });
        };
        let (ms, hour, day) = (
            Duration::from_millis(1),
            Duration::from_secs(3600),
            Duration::from_secs(24 * 3600),
        );
        for (what, value, most) in [
            ("instances", self.instances, MAX_INSTANCES),
            ("concurrency", self.concurrency, MAX_INSTANCE_CONCURRENCY),
            ("suspend_after", self.suspend_after as usize, 1000),
            (
                "tasks of rate_limit",
                self.rate_limit.map_or(1, |(tasks, _)| tasks as usize),
                1_000_000,
            ),
        ] {
            if !(1..=most).contains(&value) {
                fault(what, &1, &most, &value);
            }
        }
        for (what, value, least, most) in [
            ("per of rate_limit", self.rate_limit.map_or(ms, |(_, per)| per), ms, day),
            ("kill_after", self.kill_after, 10 * ms, day),
            ("stop_within", self.stop_within, Duration::ZERO, hour),
            ("start_within", self.start_within, ms, hour),
        ] {
            if value < least || value > most {
                fault(what, &least, &most, &value);
            }
        }
    }
}

impl fmt::Debug for HandlerActorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerActorSpec")
            .field("pattern", &self.pattern)
            .field("instances", &self.instances)
            .field("concurrency", &self.concurrency)
            .field("rate_limit", &self.rate_limit)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

/// Makes what is around the instances of each spec.
pub(crate) fn prepare(specs: &[HandlerActorSpec]) -> Vec<Prepared> {
    specs.iter().map(|spec| spec.around.prepare()).collect()
}

/// Everything that is wrong with the specs and with what is [prepared](prepare) for them.
pub(crate) fn check(specs: &[HandlerActorSpec], prepared: &[Prepared], states: &States) -> Vec<ConfigFault> {
    let mut faults = Vec::new();
    let mut patterns = Patterns::new();
    for (spec, prepared) in specs.iter().zip(prepared) {
        spec.check(&mut faults);
        faults.extend(prepared.faults(states).into_iter().map(|fault| ConfigFault {
            field: "handler_actor",
            problem: format!("{:?}: {fault}", Excerpt(&spec.pattern)),
        }));
        if let Err(error) = patterns.insert(spec.pattern.clone(), ()) {
            faults.push(ConfigFault {
                field: "handler_actor",
                problem: format!("{:?}: {error}", Excerpt(&spec.pattern)),
            });
        }
    }
    faults
}

/// The pools of specs that were found good, and the instances as children of the actor at `path`.
///
/// # Errors
/// [`Error::Actor`] where [`check`] finds fault with the patterns.
pub(crate) fn build(
    specs: &[(HandlerActorSpec, Prepared)],
    path: &str,
    tree: &Tree,
    env: &Env,
) -> Result<(Patterns<Actors>, Vec<ChildSpec>), Error> {
    let (mut pools, mut children) = (Patterns::new(), Vec::new());
    for (spec, prepared) in specs {
        let ids: Vec<_> = (0..spec.instances)
            .map(|number| format!("{}#{number}", spec.pattern))
            .collect();
        let pool = Pool::new(PoolParts {
            pattern: spec.pattern.as_str().into(),
            concurrency: spec.concurrency,
            rate_limit: spec.rate_limit,
            kill_after: spec.kill_after,
            suspend_after: spec.suspend_after,
            paths: ids.iter().map(|id| child_path(path, id)).collect(),
            tree: tree.clone(),
            env: env.clone(),
        });
        for (number, id) in ids.into_iter().enumerate() {
            let (watched, mourned) = (Arc::clone(&pool), Arc::clone(&pool));
            let child = (spec.make)(id, &pool, number)
                .restart(spec.restart)
                .shutdown(Shutdown::Stop(spec.stop_within))
                .start_within(spec.start_within)
                .restart_after(move |failure| watched.crashed(number, failure))
                .heard_by(move || mourned.mourn(number));
            children.push(child);
        }
        pools
            .insert(spec.pattern.clone(), prepared.put(pool))
            .map_err(|error| Error::Actor(error.into()))?;
    }
    Ok((pools, children))
}
