//! [`ServeMux`]: the handler of each task by its type, with middleware around.

use std::{fmt, future::Future, marker::PhantomData, sync::Arc};

use async_trait::async_trait;

use crate::{
    blocking,
    context::Hold,
    error::{ConfigError, ConfigFault, Directive, Error, Result},
    excerpt::Excerpt,
    extract::{Rejection, Route},
    handler::Handler,
    patterns::Patterns,
    shared_state::States,
    task::Task,
};

/// The treatment of a task whose payload a routed handler cannot read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadPayload {
    /// The task is archived with the reason, because a later attempt could not read the payload either.
    #[default]
    Archive,
    /// The task fails as with any other error, and is retried while retries are left.
    Retry,
}

/// A function around every handler of a [`ServeMux`]: a timer, a limit, a transaction.
///
/// Async functions and closures from `(Task, Next)` to [`Result<()>`](Result) are middleware too.
#[async_trait]
pub trait Middleware: Send + Sync + 'static {
    /// Runs the task by calling `next`, or does not.
    ///
    /// # Errors
    /// The outcome of the run, as of any handler.
    async fn process_task(&self, task: Task, next: Next) -> Result<()>;
}

#[async_trait]
impl<F, Fut> Middleware for F
where
    F: Fn(Task, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    async fn process_task(&self, task: Task, next: Next) -> Result<()> {
        self(task, next).await
    }
}

/// The rest of a chain of middleware: the next one, or at last the handler.
pub struct Next {
    around: Arc<[Arc<dyn Middleware>]>,
    passed: usize,
    handler: Arc<dyn Handler>,
}

impl Next {
    /// Runs it.
    ///
    /// # Errors
    /// What it returns.
    ///
    /// # Cancel safety
    /// Dropped, the handler is dropped at its await point.
    pub async fn run(mut self, task: Task) -> Result<()> {
        match self.around.get(self.passed).cloned() {
            Some(middleware) => {
                self.passed += 1;
                middleware.process_task(task, self).await
            }
            None => self.handler.process_task(task).await,
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({} of {})", self.passed, self.around.len())
    }
}

/// A route, of whatever arguments.
trait Endpoint: Send + Sync {
    /// The handler of one task.
    fn handler(&self, states: States) -> Arc<dyn Handler>;

    /// Returns the reasons why its arguments can never be made.
    fn check(&self, states: &States) -> Vec<Rejection>;
}

/// Chooses the handler of a task by its type, by the rules of Go's `ServeMux`. The longest pattern that is a prefix
/// of the type wins. A task whose type matches no pattern fails with `handler not found for task "type"`.
///
/// A mux is a handler, so a server or another mux can use it. Faults of the registration do not panic, as they do in
/// Go: a blank pattern, a pattern registered twice, a [`State`](crate::extract::State) argument without a value. The
/// server then refuses to start, and its error has all faults at once. A mux inside another mux has its own values
/// and those of the server, but not those of the outer mux.
///
/// ```
/// use asynq::{Handler, ServeMux, Task};
///
/// let mut mux = ServeMux::new();
/// mux.handle_func("email:", |task: Task| {
///     println!("{}", task.get_type());
///     Ok(())
/// });
/// mux.handle_async_func("image:resize", |task: Task| async move {
///     println!("{}", task.get_type());
///     Ok(())
/// });
/// assert!(mux.check().is_ok());
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// mux.process_task(Task::new("email:send", b"")?).await?;
/// assert!(mux.process_task(Task::new("video", b"")?).await.is_err());
/// # Ok::<(), asynq::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct ServeMux {
    handlers: Patterns<Entry>,
    otherwise: Option<Arc<dyn Handler>>,
    around: Arc<[Arc<dyn Middleware>]>,
    states: States,
    bad_payload: BadPayload,
    faults: Vec<ConfigFault>,
}

#[derive(Clone)]
enum Entry {
    Handler(Arc<dyn Handler>),
    Route(Arc<dyn Endpoint>),
}

impl ServeMux {
    /// A mux without handlers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn insert(&mut self, pattern: &str, entry: Entry) -> &mut Self {
        if let Err(error) = self.handlers.insert(pattern, entry.clone()) {
            self.faults.push(ConfigFault {
                field: "pattern",
                problem: format!("{:?} is refused: {error}", Excerpt(pattern)),
            });
            // No later check covers this handler.
            if let Entry::Handler(handler) = entry
                && let Err(error) = handler.check()
            {
                self.faults.extend(error.faults);
            }
        }
        self
    }

    /// Registers a handler, another mux for example (Go: `Handle`).
    pub fn handle(&mut self, pattern: &str, handler: impl Handler) -> &mut Self {
        self.insert(pattern, Entry::Handler(Arc::new(handler)))
    }

    /// Registers a function that is not async (Go: `HandleFunc`). The function is called on a thread where it may
    /// block, never on one that runs async tasks.
    ///
    /// A call that has begun cannot be interrupted. After the deadline or a cancel request, the task keeps its slot
    /// and its lease until the function returns. Long functions check
    /// [`TaskContext::is_cancelled`](crate::TaskContext::is_cancelled). A shutdown waits no longer for such a call
    /// than for others. It leaves the task to other servers, which run it when its lease has ended. The end of the
    /// tokio runtime does not wait for the call either: the call ends with the process.
    ///
    /// The threads belong to the library, independent of `max_blocking_threads` of the runtime. Each call in progress
    /// has one thread, so there are at most [`concurrency`](crate::ServerConfig::concurrency). If tokio's time is
    /// paused, in a test, the threads of the runtime are used, because they make time stand still during a call.
    pub fn handle_func<F>(&mut self, pattern: &str, function: F) -> &mut Self
    where
        F: Fn(Task) -> Result<()> + Send + Sync + 'static,
    {
        self.insert(pattern, Entry::Handler(Arc::new(Blocking(Arc::new(function)))))
    }

    /// Registers an async function.
    pub fn handle_async_func<F, Fut>(&mut self, pattern: &str, function: F) -> &mut Self
    where
        F: Fn(Task) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send,
    {
        self.insert(pattern, Entry::Handler(Arc::new(function)))
    }

    /// Registers an async function with extracted arguments, for the task type of one of its arguments: a type with
    /// `#[derive(TaskPayload)]`. Without such an argument, or with two, the code does not compile.
    pub fn route<Args: 'static, R: Route<Args>>(&mut self, handler: R) -> &mut Self {
        const {
            assert!(
                R::PAYLOADS > 0,
                "no argument of this handler names a task type: take a payload with #[derive(TaskPayload)], or use `route_on`"
            );
            assert!(R::PAYLOADS < 2, "two arguments of this handler name a task type");
        }
        self.route_on(R::TASK_TYPE.unwrap_or_default(), handler)
    }

    /// Registers an async function with extracted arguments.
    pub fn route_on<Args: 'static, R: Route<Args>>(&mut self, pattern: &str, handler: R) -> &mut Self {
        let endpoint = Routes {
            route: Arc::new(handler),
            bad_payload: self.bad_payload,
            args: PhantomData::<fn(Args)>,
        };
        self.insert(pattern, Entry::Route(Arc::new(endpoint)))
    }

    /// Sets the handler of the types that match no pattern, in the place of "not found".
    pub fn otherwise(&mut self, handler: impl Handler) -> &mut Self {
        self.otherwise = Some(Arc::new(handler));
        self
    }

    /// Puts a middleware around all handlers, and around "not found". Middleware that was added before stays outside
    /// of it (Go: `Use`).
    pub fn wrap(&mut self, middleware: impl Middleware) -> &mut Self {
        let added = std::iter::once(Arc::new(middleware) as Arc<dyn Middleware>);
        self.around = self.around.iter().cloned().chain(added).collect();
        self
    }

    /// Sets a value for [`State`](crate::extract::State) arguments. It has precedence over a value of the same type
    /// from [`ServerConfig::state`](crate::ServerConfig::state).
    #[must_use]
    pub fn with_state<S: Send + Sync + 'static>(mut self, state: S) -> Self {
        self.states.insert(state);
        self
    }

    /// Sets the treatment of tasks whose payload cannot be read, for the routes registered after this call. Default:
    /// [`BadPayload::Archive`].
    #[must_use]
    pub fn bad_payload(mut self, what: BadPayload) -> Self {
        self.bad_payload = what;
        self
    }

    /// Returns whether nothing is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.handlers.is_empty() && self.otherwise.is_none()
    }

    /// Returns all faults: those of the registration, those of the registered handlers, and, if the values of the
    /// server are known, those of routes that need a shared value which does not exist.
    fn faults(&self, of_server: Option<&States>) -> Vec<ConfigFault> {
        let states = of_server.map(|states| self.states.or(states));
        let mut faults = self.faults.clone();
        let handlers = self.handlers.iter().map(|(pattern, entry)| (Some(pattern), entry));
        let otherwise = self.otherwise.clone().map(Entry::Handler);
        for (pattern, entry) in handlers.chain(otherwise.iter().map(|entry| (None, entry))) {
            match (entry, of_server, &states) {
                (Entry::Handler(handler), of_server, _) => {
                    let checked = of_server.map_or_else(|| handler.check(), |states| handler.check_with(states));
                    faults.extend(checked.err().into_iter().flat_map(|error| error.faults));
                }
                (Entry::Route(route), _, Some(states)) => {
                    faults.extend(route.check(states).into_iter().map(|rejection| ConfigFault {
                        field: "handler",
                        problem: format!(
                            "of {:?} cannot be called: {rejection}",
                            Excerpt(pattern.unwrap_or_default())
                        ),
                    }));
                }
                (Entry::Route(_), _, None) => {}
            }
        }
        faults
    }

    /// The patterns, in the order of their bytes.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.handlers.iter().map(|(pattern, _)| pattern)
    }
}

#[async_trait]
impl Handler for ServeMux {
    async fn process_task(&self, task: Task) -> Result<()> {
        let handler = match self.handlers.find(task.get_type()) {
            Some((_, Entry::Handler(handler))) => Arc::clone(handler),
            Some((_, Entry::Route(endpoint))) => {
                let outer = task.context().map(|context| context.states().clone());
                endpoint.handler(self.states.or(&outer.unwrap_or_default()))
            }
            None => self.otherwise.clone().unwrap_or_else(|| Arc::new(NotFound)),
        };
        let next = Next {
            around: Arc::clone(&self.around),
            passed: 0,
            handler,
        };
        next.run(task).await
    }

    fn check(&self) -> Result<(), ConfigError> {
        refused(self.faults(None))
    }

    fn check_with(&self, states: &States) -> Result<(), ConfigError> {
        refused(self.faults(Some(states)))
    }

    /// The registered patterns; `None` with a handler for [other types](ServeMux::otherwise). Middleware counts as if it
    /// handled no types by itself.
    fn task_types(&self) -> Option<Vec<String>> {
        let patterns = self.patterns().map(str::to_owned);
        self.otherwise.is_none().then(|| patterns.collect())
    }
}

impl fmt::Debug for ServeMux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeMux")
            .field("patterns", &self.patterns().collect::<Vec<_>>())
            .field("middleware", &self.around.len())
            .field("states", &self.states)
            .finish_non_exhaustive()
    }
}

fn refused(faults: Vec<ConfigFault>) -> Result<(), ConfigError> {
    match faults.is_empty() {
        true => Ok(()),
        false => Err(ConfigError { faults }),
    }
}

struct NotFound;

#[async_trait]
impl Handler for NotFound {
    async fn process_task(&self, task: Task) -> Result<()> {
        Err(Error::HandlerNotFound {
            task_type: task.get_type().to_owned(),
        })
    }
}

/// A function with extracted arguments.
struct Routes<R, Args> {
    route: Arc<R>,
    bad_payload: BadPayload,
    args: PhantomData<fn(Args)>,
}

impl<Args: 'static, R: Route<Args>> Endpoint for Routes<R, Args> {
    fn handler(&self, states: States) -> Arc<dyn Handler> {
        Arc::new(Called {
            route: Arc::clone(&self.route),
            states,
            bad_payload: self.bad_payload,
            args: self.args,
        })
    }

    fn check(&self, states: &States) -> Vec<Rejection> {
        self.route.check(states)
    }
}

/// A function with extracted arguments, about to be called.
struct Called<R, Args> {
    route: Arc<R>,
    states: States,
    bad_payload: BadPayload,
    args: PhantomData<fn(Args)>,
}

#[async_trait]
impl<Args: 'static, R: Route<Args>> Handler for Called<R, Args> {
    async fn process_task(&self, task: Task) -> Result<()> {
        let run = match self.route.call(&task, &self.states) {
            Ok(run) => run,
            // An argument of the user's own may have decided for itself.
            Err(Rejection::Payload(error))
                if self.bad_payload == BadPayload::Archive && error.directive() == Directive::Fail =>
            {
                return Err(Error::skip_retry(error));
            }
            Err(Rejection::Payload(error)) => return Err(error),
            Err(other) => return Err(Error::other(other)),
        };
        run.await
    }
}

/// A function that may block.
struct Blocking(Arc<dyn Fn(Task) -> Result<()> + Send + Sync>);

#[async_trait]
impl Handler for Blocking {
    async fn process_task(&self, task: Task) -> Result<()> {
        let function = Arc::clone(&self.0);
        let hold: Option<Hold> = task.context().map(crate::TaskContext::hold);
        let call = blocking::run(move || {
            // Its turn may come when the run is over.
            if task.context().is_some_and(crate::TaskContext::is_cancelled) {
                return Err(Error::Canceled);
            }
            let result = function(task);
            drop(hold);
            result
        });
        call.await
    }
}

#[cfg(test)]
mod tests;
