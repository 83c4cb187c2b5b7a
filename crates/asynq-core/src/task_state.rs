//! The states of a task, spelled as on the wire.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::excerpt::Excerpt;

/// The state of a task. The names are those of the hash field `state` and of the container keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TaskState {
    /// Being run by a server that holds its lease.
    Active,
    /// Ready to run.
    Pending,
    /// Waiting for its first process-at.
    Scheduled,
    /// Failed, waiting for its next attempt.
    Retry,
    /// Failed for good; kept for inspection.
    Archived,
    /// Succeeded and kept until its retention is over.
    Completed,
    /// Waiting in a group to be aggregated.
    Aggregating,
}

impl TaskState {
    /// All states, in the order the tools list them.
    pub const ALL: [TaskState; 7] = [
        TaskState::Active,
        TaskState::Pending,
        TaskState::Aggregating,
        TaskState::Scheduled,
        TaskState::Retry,
        TaskState::Archived,
        TaskState::Completed,
    ];

    /// The name on the wire: also the suffix of the container key, except for `aggregating`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Active => "active",
            TaskState::Pending => "pending",
            TaskState::Scheduled => "scheduled",
            TaskState::Retry => "retry",
            TaskState::Archived => "archived",
            TaskState::Completed => "completed",
            TaskState::Aggregating => "aggregating",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A state name that no asynq program writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{:?} is not a task state", Excerpt(.0))]
pub struct UnknownState(pub String);

impl FromStr for TaskState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        TaskState::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| UnknownState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for state in TaskState::ALL {
            assert_eq!(state.as_str().parse::<TaskState>().unwrap(), state);
        }
        assert!("Pending".parse::<TaskState>().is_err());
    }
}
