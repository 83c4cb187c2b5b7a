//! The end of a run as its handler gave it.

use std::time::Duration;

use asynq_core::Result;

/// The result of giving a task to its handler.
#[derive(Debug)]
pub(crate) enum Handled {
    /// The task was run.
    Ended(Result<()>),
    /// The task was not run, which is no failure: it is to come back, and no retry is used.
    PutBack(PutBack),
}

/// The time at which a task is to come back, and the reason.
#[derive(Debug)]
pub(crate) struct PutBack {
    pub(crate) after: Duration,
    pub(crate) why: String,
}
