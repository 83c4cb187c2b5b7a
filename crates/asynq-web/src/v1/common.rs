//! Values that several routes share.

use std::sync::Arc;

use asynq::{
    TaskState,
    inspector::{Act, Then},
    query::{Query, Scope},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    access::Role,
    guard::Caller,
    problem::{Problem, Result},
};

/// Longest payload of a task in a list, in bytes. Of longer ones the beginning is shown.
pub(crate) const SHORT: usize = 4096;

/// Checks a number against its limits.
pub(crate) fn within(name: &str, given: Option<u64>, default: u64, least: u64, most: u64) -> Result<u64> {
    match given.unwrap_or(default) {
        value if (least..=most).contains(&value) => Ok(value),
        value => Err(Problem::invalid(
            name,
            format!("{name} is {value}, must be {least} to {most}"),
        )),
    }
}

/// As [`within`], from 1 on, for a small number.
pub(crate) fn up_to(name: &str, given: Option<u64>, default: u32, most: u32) -> Result<u32> {
    let value = within(name, given, default.into(), 1, most.into())?;
    Ok(u32::try_from(value).unwrap_or(most))
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Active,
    Pending,
    Aggregating,
    Scheduled,
    Retry,
    Archived,
    Completed,
}

impl From<State> for TaskState {
    fn from(state: State) -> Self {
        match state {
            State::Active => Self::Active,
            State::Pending => Self::Pending,
            State::Aggregating => Self::Aggregating,
            State::Scheduled => Self::Scheduled,
            State::Retry => Self::Retry,
            State::Archived => Self::Archived,
            State::Completed => Self::Completed,
        }
    }
}

/// The fate of a task whose run is cancelled.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fate {
    /// It is retried as after any failure.
    #[default]
    Retry,
    /// It is archived.
    Archive,
    /// It is deleted.
    Delete,
}

impl From<Fate> for Then {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Retry => Self::Retry,
            Fate::Archive => Self::Archive,
            Fate::Delete => Self::Delete,
        }
    }
}

/// An act on several tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ManyAct {
    /// Makes scheduled, retry, archived and aggregating tasks pending.
    Run,
    /// Archives pending, scheduled, retry and aggregating tasks.
    Archive,
    /// Deletes tasks of all states but active.
    Delete,
}

impl From<ManyAct> for Act {
    fn from(act: ManyAct) -> Self {
        match act {
            ManyAct::Run => Self::Run,
            ManyAct::Archive => Self::Archive,
            ManyAct::Delete => Self::Delete,
        }
    }
}

/// The reason of a change, in a body that may be missing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    /// Reason for the audit trail, at most 1024 bytes. The header `Asynq-Reason` or the parameter `reason` can carry it too.
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
}

/// The queues of a user, and the data that are hidden there.
#[derive(Debug)]
struct QueuesOf {
    caller: Caller,
    /// The role that the user needs for a queue.
    needs: Role,
}

impl Scope for QueuesOf {
    fn has_queue(&self, queue: &str) -> bool {
        self.caller
            .user()
            .role_for(queue)
            .is_some_and(|role| role >= self.needs)
    }

    fn hides_data(&self, queue: &str, task_type: &str) -> bool {
        self.caller.hides(queue, task_type)
    }
}

/// Reads a query. It finds tasks only in the queues for which the user has this role, and conditions about data that are hidden
/// from the user are undecided.
pub(crate) fn query(text: &str, caller: &Caller, needs: Role) -> Result<Query> {
    let query = Query::parse(text).map_err(|error| Problem::invalid("query", error.to_string()))?;
    let caller = caller.clone();
    Ok(query.within(Arc::new(QueuesOf { caller, needs })))
}
