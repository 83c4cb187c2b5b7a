//! Errors grouped by their signature and counted.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::signature;
use crate::{excerpt::Excerpt, info::TaskInfo, names::TaskId};

/// Number of signatures that [`ErrorSignatures::top`] has at most.
pub const MAX_TOP: usize = 20;

/// The tasks of a sample whose last error has one signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SignatureCount {
    /// The [signature](signature()) of their last error.
    pub signature: String,
    /// Number of the tasks, among those that were looked at.
    pub count: u64,
    /// The task that failed first; of those in the same second the first that was looked at.
    pub first: TaskId,
    /// Time of its failure, in whole seconds; `None` if the task does not say.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// The task that failed last; of those in the same second the last that was looked at.
    pub last: TaskId,
    /// Time of its failure, in whole seconds; `None` if the task does not say.
    pub last_failed_at: Option<DateTime<Utc>>,
    /// The error text of the task that failed last, of at most 1024 bytes.
    pub example: String,
}

/// The error signatures of a sample of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorSignatures {
    /// The most frequent signatures, the most frequent one first, then by their text; at most [`MAX_TOP`].
    pub top: Vec<SignatureCount>,
    /// Number of different signatures.
    pub different: u64,
    /// Number of tasks that were looked at.
    pub looked_at: u64,
    /// Number of tasks among them that have no error.
    pub without_error: u64,
    /// Number of tasks among them whose data cannot be read.
    pub unreadable: u64,
    /// Number of all tasks there are in the states that were asked for. Above [`looked_at`](Self::looked_at) if the
    /// sample is not all of them.
    pub total: u64,
}

impl ErrorSignatures {
    /// Returns whether all tasks were looked at.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.looked_at >= self.total
    }
}

impl fmt::Display for ErrorSignatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_complete() {
            writeln!(f, "all {} tasks looked at:", self.looked_at)?;
        } else {
            writeln!(f, "of the first {} tasks looked at, of {}:", self.looked_at, self.total)?;
        }
        for found in &self.top {
            writeln!(f, "{:>8}  {}", found.count, found.signature)?;
        }
        Ok(())
    }
}

/// Counts signatures, one task after the other. A task that comes twice, because it moved meanwhile, counts once.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    found: HashMap<String, SignatureCount>,
    seen: HashSet<TaskId>,
    without_error: u64,
    unreadable: u64,
}

impl Tally {
    /// Counts a task.
    pub fn add(&mut self, task: &TaskInfo) {
        if !self.seen.insert(task.id.clone()) {
            return;
        }
        if task.damage.is_some() {
            self.unreadable += 1;
            return;
        }
        if task.last_error.is_empty() {
            self.without_error += 1;
            return;
        }
        let (id, at) = (&task.id, task.last_failed_at);
        let found = self
            .found
            .entry(signature(&task.last_error))
            .or_insert_with_key(|signature| SignatureCount {
                signature: signature.clone(),
                count: 0,
                first: id.clone(),
                first_failed_at: at,
                last: id.clone(),
                last_failed_at: at,
                example: String::new(),
            });
        found.count += 1;
        if at < found.first_failed_at {
            (found.first, found.first_failed_at) = (id.clone(), at);
        }
        if at >= found.last_failed_at {
            (found.last, found.last_failed_at) = (id.clone(), at);
            found.example = super::cut(&task.last_error, 1024).to_owned();
        }
    }

    /// Returns the number of different tasks that were counted.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Returns what was counted, of this number of tasks.
    #[must_use]
    pub fn finish(self, total: u64) -> ErrorSignatures {
        let (looked_at, different) = (self.looked_at(), self.found.len() as u64);
        let mut top: Vec<_> = self.found.into_values().collect();
        top.sort_by(|a, b| (b.count, &a.signature).cmp(&(a.count, &b.signature)));
        top.truncate(MAX_TOP);
        ErrorSignatures {
            top,
            different,
            looked_at,
            without_error: self.without_error,
            unreadable: self.unreadable,
            total,
        }
    }
}

impl fmt::Display for SignatureCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} times {:?}", self.count, Excerpt(&self.signature))
    }
}
