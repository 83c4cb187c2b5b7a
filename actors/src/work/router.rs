//! The choice of a task's handler: a handler actor, the plain handler, or none.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use asynq_core::{Entropy, Error, Handler, Task, TaskContext, config::UnknownTask, patterns::Patterns};

use crate::work::{
    handled::{Handled, PutBack},
    handlers::Actors,
};

/// A task of a type that is unknown here comes back after this, up to twice as long.
const RETURN: Duration = Duration::from_secs(5);
/// Number of unknown types that are warned of, each once.
const WARNINGS: usize = 100;

/// The handler of all tasks that no handler actor is for.
#[derive(Clone)]
pub(crate) struct HandlerRef(pub(crate) Arc<dyn Handler>);

impl fmt::Debug for HandlerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

/// Finds the handler of each task: the handler actor with the longest pattern, else the plain
/// handler, else none.
pub(crate) struct Router {
    actors: Patterns<Actors>,
    plain: Option<HandlerRef>,
    unknown: UnknownTask,
    entropy: Entropy,
    warned: Mutex<HashSet<String>>,
}

impl Router {
    pub(crate) fn new(
        actors: Patterns<Actors>,
        plain: Option<HandlerRef>,
        unknown: UnknownTask,
        entropy: Entropy,
    ) -> Self {
        Self {
            actors,
            plain,
            unknown,
            entropy,
            warned: Mutex::default(),
        }
    }

    /// Runs a task; the context is that of the task.
    ///
    /// # Cancel safety
    /// Dropped, the handler is dropped at its await point; a handler actor is told.
    pub(crate) async fn run(&self, task: Task, context: &TaskContext) -> Handled {
        if let Some((_, actors)) = self.actors.find(task.get_type()) {
            // In a box, so that the runs of plain handlers are small.
            return Box::pin(actors.run(task, context)).await;
        }
        let result = match &self.plain {
            Some(handler) => handler.0.process_task(task).await,
            None => Err(Error::HandlerNotFound {
                task_type: task.get_type().to_owned(),
            }),
        };
        match result {
            // A plain handler that routes by itself says so too.
            Err(Error::HandlerNotFound { task_type }) => self.unknown(task_type),
            result => Handled::Ended(result),
        }
    }

    fn unknown(&self, task_type: String) -> Handled {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < WARNINGS && warned.insert(task_type.clone()) {
            tracing::warn!(task_type, then = ?self.unknown, "no handler for this task type");
        }
        drop(warned);
        let error = Error::HandlerNotFound { task_type };
        match self.unknown {
            UnknownTask::GiveBack => Handled::PutBack(PutBack {
                after: RETURN + self.entropy.up_to(RETURN),
                why: error.to_string(),
            }),
            _ => Handled::Ended(Err(error)),
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("actors", &self.actors)
            .finish_non_exhaustive()
    }
}
