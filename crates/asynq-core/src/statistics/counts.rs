//! Runs counted by their end.

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::broker::Outcome;

/// The end of a run, as its server knows it. The script that writes the outcome may find that the run was asked to end,
/// and archive or delete the task instead; that is not counted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunEnd {
    /// The run succeeded or revoked its task.
    Done,
    /// The run failed, and the task is to be retried.
    Retried,
    /// The task was delayed without using up a retry: it was snoozed, or its error does not count as a failure.
    Deferred,
    /// The run failed, and the task is to be archived.
    Archived,
    /// The task was given back to its queue, for example because its server was shut down, or because no handler had room for it or
    /// knew its type.
    GivenBack,
    /// The server lost the lease of the task, and another server may have recovered it. Nothing is written.
    Lost,
}

impl RunEnd {
    /// All ends, in the order in which they are stored.
    pub const ALL: [Self; 6] = [
        Self::Done,
        Self::Retried,
        Self::Deferred,
        Self::Archived,
        Self::GivenBack,
        Self::Lost,
    ];

    /// The end of a run with this outcome.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Done { .. } => Self::Done,
            Outcome::Retry { is_failure: true, .. } => Self::Retried,
            Outcome::Retry { is_failure: false, .. } => Self::Deferred,
            Outcome::Archive { .. } => Self::Archived,
            Outcome::Requeue => Self::GivenBack,
        }
    }

    /// The name in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retried => "retried",
            Self::Deferred => "deferred",
            Self::Archived => "archived",
            Self::GivenBack => "given_back",
            Self::Lost => "lost",
        }
    }
}

/// Numbers of runs by their end. As JSON it also has `total` and `failed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunCounts([u64; RunEnd::ALL.len()]);

impl RunCounts {
    /// Returns the number of runs with this end.
    #[must_use]
    pub fn of(&self, end: RunEnd) -> u64 {
        self.0[end as usize]
    }

    /// Returns the number of all runs.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns the number of failed runs: those whose task was retried or archived.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.of(RunEnd::Retried).saturating_add(self.of(RunEnd::Archived))
    }

    /// Counts one run.
    pub fn add(&mut self, end: RunEnd) {
        self.add_many(end, 1);
    }

    /// Counts runs.
    pub fn add_many(&mut self, end: RunEnd, runs: u64) {
        let count = &mut self.0[end as usize];
        *count = count.saturating_add(runs);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for end in RunEnd::ALL {
            self.add_many(end, other.of(end));
        }
    }
}

impl Serialize for RunCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("RunCounts", RunEnd::ALL.len() + 2)?;
        for end in RunEnd::ALL {
            out.serialize_field(end.as_str(), &self.of(end))?;
        }
        out.serialize_field("total", &self.total())?;
        out.serialize_field("failed", &self.failed())?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_a_place_and_a_name_of_its_own() {
        let mut counts = RunCounts::default();
        for (place, end) in RunEnd::ALL.into_iter().enumerate() {
            counts.add_many(end, 10_u64.pow(u32::try_from(place).unwrap()));
        }
        let json = serde_json::to_string(&counts).unwrap();
        let expected = r#"{"done":1,"retried":10,"deferred":100,"archived":1000,"given_back":10000,"lost":100000,"total":111111,"failed":1010}"#;
        assert_eq!(json, expected);
    }
}
