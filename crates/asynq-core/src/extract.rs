//! Arguments of task handlers that are extracted from the task: payload, state, context, headers. The runtime adds
//! its client.

use std::{collections::BTreeMap, future::Future, ops::Deref, pin::Pin, sync::Arc};

use bytes::Bytes;

pub use crate::shared_state::States;
use crate::{
    context::TaskContext,
    error::{BoxError, Error, Result},
    names::TaskId,
    task::Task,
};

/// A reason why an argument could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The payload is not the one that the handler expects, and a later attempt would fail too.
    #[error(transparent)]
    Payload(Error),
    /// There is no state of this type: see `with_state`.
    #[error("no state of type {0} was given to the mux or the server")]
    NoState(&'static str),
    /// The task is not being run by a server.
    #[error("the task is not part of a run")]
    NoRun,
}

/// An argument of a task handler. Implement it for your own types, or derive `TaskPayload`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a task handler",
    label = "not made from a task",
    note = "use the payload's own type with `#[derive(TaskPayload)]`, `Json<T>`, `State<T>`, `Task`, `Client`, `TaskContext`, `TaskId`, `Headers` or `Bytes`"
)]
pub trait FromTask: Sized + Send {
    /// The task type that the argument stands for, where it is the payload of one.
    const TASK_TYPE: Option<&'static str> = None;

    /// Makes the argument.
    ///
    /// # Errors
    /// [`Rejection`] says why it cannot be made; the handler is then not called.
    fn from_task(task: &Task, states: &States) -> Result<Self, Rejection>;

    /// Checks whether the argument can be extracted with these shared values. A server checks every argument of every
    /// handler before it starts.
    ///
    /// An argument that contains a [`State`] forwards the check: `State::<Mailer>::check(states)`.
    ///
    /// # Errors
    /// [`Rejection`] says why it can never be made. Default: none.
    fn check(states: &States) -> Result<(), Rejection> {
        let _ = states;
        Ok(())
    }
}

/// The payload, parsed as JSON.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned + Send> FromTask for Json<T> {
    fn from_task(task: &Task, _: &States) -> Result<Self, Rejection> {
        task.get_payload_with_json().map(Self).map_err(Rejection::Payload)
    }
}

/// A value that handlers share. Set it on the mux with [`ServeMux::with_state`](crate::ServeMux::with_state), or on
/// the server with [`ServerConfig::state`](crate::ServerConfig::state).
///
/// A server does not start if one of its handlers takes a state that is not set. The error names the type of the
/// state and the task type of the handler.
#[derive(Debug)]
pub struct State<S>(pub Arc<S>);

impl<S> Clone for State<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Deref for State<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S: Send + Sync + 'static> FromTask for State<S> {
    fn from_task(_: &Task, states: &States) -> Result<Self, Rejection> {
        let state = states.get().ok_or(Rejection::NoState(std::any::type_name::<S>()))?;
        Ok(Self(state))
    }

    fn check(states: &States) -> Result<(), Rejection> {
        match states.has::<S>() {
            true => Ok(()),
            false => Err(Rejection::NoState(std::any::type_name::<S>())),
        }
    }
}

/// The task's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub BTreeMap<String, String>);

impl FromTask for Headers {
    fn from_task(task: &Task, _: &States) -> Result<Self, Rejection> {
        Ok(Self(task.headers().clone()))
    }
}

/// The whole task.
impl FromTask for Task {
    fn from_task(task: &Task, _: &States) -> Result<Self, Rejection> {
        Ok(task.clone())
    }
}

/// The raw payload.
impl FromTask for Bytes {
    fn from_task(task: &Task, _: &States) -> Result<Self, Rejection> {
        Ok(task.payload_bytes().unwrap_or_default())
    }
}

/// The context of the run.
impl FromTask for TaskContext {
    fn from_task(task: &Task, _: &States) -> Result<Self, Rejection> {
        task.context().cloned().ok_or(Rejection::NoRun)
    }
}

/// The task's id.
impl FromTask for TaskId {
    fn from_task(task: &Task, _: &States) -> Result<Self, Rejection> {
        task.context()
            .map(|context| context.id().clone())
            .ok_or(Rejection::NoRun)
    }
}

/// A value that a task handler can return: nothing, or a result with any error that can be boxed.
///
/// [`Error::skip_retry`], [`Error::revoke`] and [`Error::snooze`] keep their meaning inside such an error: see
/// [`Error::directive`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a task handler returns",
    note = "return nothing, or `Result<(), E>` with `E: Into<Box<dyn Error + Send + Sync>>`"
)]
pub trait IntoOutcome: Send {
    /// The result of the run.
    ///
    /// # Errors
    /// The error as returned.
    fn into_outcome(self) -> Result<()>;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Result<()> {
        Ok(())
    }
}

impl<E: Into<BoxError> + Send> IntoOutcome for std::result::Result<(), E> {
    fn into_outcome(self) -> Result<()> {
        self.map_err(Error::other)
    }
}

/// The future of a [`Route`].
pub type Routed = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A task handler with extracted arguments: an async function or closure of up to eight of them,
/// each [`FromTask`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task handler",
    note = "a handler is an async fn of up to eight arguments, each `FromTask`, that returns `()` or `Result<(), E>` with `E: Into<Box<dyn Error + Send + Sync>>`",
    note = "`#[task_handler_async]` on the fn tells which argument is wrong"
)]
pub trait Route<Args>: Send + Sync + 'static {
    /// The task type that one of the arguments stands for.
    const TASK_TYPE: Option<&'static str>;
    /// Number of arguments that stand for a task type.
    const PAYLOADS: usize;

    /// Makes the arguments and calls the function.
    ///
    /// # Errors
    /// [`Rejection`] of the first argument that cannot be made.
    fn call(&self, task: &Task, states: &States) -> Result<Routed, Rejection>;

    /// Checks whether the arguments can be extracted with these shared values, and returns one error for each that
    /// cannot.
    fn check(&self, states: &States) -> Vec<Rejection>;
}

const fn first(types: &[Option<&'static str>]) -> Option<&'static str> {
    let mut at = 0;
    while at < types.len() {
        if types[at].is_some() {
            return types[at];
        }
        at += 1;
    }
    None
}

const fn count(types: &[Option<&'static str>]) -> usize {
    let (mut at, mut found) = (0, 0);
    while at < types.len() {
        found += types[at].is_some() as usize;
        at += 1;
    }
    found
}

macro_rules! routes {
    ($($arg:ident)*) => {
        impl<F, Fut, $($arg,)*> Route<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            $($arg: FromTask,)*
        {
            const TASK_TYPE: Option<&'static str> = first(&[$($arg::TASK_TYPE),*]);
            const PAYLOADS: usize = count(&[$($arg::TASK_TYPE),*]);

            #[allow(unused_variables, reason = "a function without arguments looks at nothing")]
            fn call(&self, task: &Task, states: &States) -> Result<Routed, Rejection> {
                let run = self($($arg::from_task(task, states)?),*);
                Ok(Box::pin(async move { run.await.into_outcome() }))
            }

            #[allow(unused_variables, reason = "a function without arguments looks at nothing")]
            fn check(&self, states: &States) -> Vec<Rejection> {
                let checks: Vec<Result<(), Rejection>> = vec![$($arg::check(states)),*];
                checks.into_iter().filter_map(Result::err).collect()
            }
        }
    };
}

routes!();
routes!(A1);
routes!(A1 A2);
routes!(A1 A2 A3);
routes!(A1 A2 A3 A4);
routes!(A1 A2 A3 A4 A5);
routes!(A1 A2 A3 A4 A5 A6);
routes!(A1 A2 A3 A4 A5 A6 A7);
routes!(A1 A2 A3 A4 A5 A6 A7 A8);
