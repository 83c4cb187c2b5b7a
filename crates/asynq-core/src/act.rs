//! The acts of an operator on many tasks.

use std::fmt;

use crate::task_state::TaskState;

/// An act on all tasks of one state or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Act {
    /// Makes the tasks pending, in the order in which they are listed.
    Run,
    /// Archives the tasks.
    Archive,
    /// Deletes the tasks, with their unique locks.
    Delete,
}

impl Act {
    /// All acts.
    pub const ALL: [Self; 3] = [Self::Run, Self::Archive, Self::Delete];

    /// The act as a verb: `run`, `archive`, `delete`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Archive => "archive",
            Self::Delete => "delete",
        }
    }

    /// Returns whether all tasks of a state can be acted on at once, as in Go.
    #[must_use]
    pub fn applies_to(self, state: TaskState) -> bool {
        use TaskState::{Aggregating, Archived, Completed, Pending, Retry, Scheduled};
        match self {
            Self::Run => matches!(state, Scheduled | Retry | Archived | Aggregating),
            Self::Archive => matches!(state, Pending | Scheduled | Retry | Aggregating),
            Self::Delete => matches!(state, Pending | Scheduled | Retry | Archived | Completed | Aggregating),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
