//! The end of a run as its handler gave it.

use std::time::Duration;

use asynq_core::Result;

/// What came of giving a task to its handler.
#[derive(Debug)]
pub(crate) enum Handled {
    /// It was run.
    Ended(Result<()>),
    /// It was not, and nobody is to blame: it is to come back, and no retry is used up.
    PutBack(PutBack),
}

/// When a task is to come back, and why.
#[derive(Debug)]
pub(crate) struct PutBack {
    pub(crate) after: Duration,
    pub(crate) why: String,
}
