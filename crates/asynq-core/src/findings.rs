//! Findings: what needs the attention of an operator.
//!
//! [`read_facts`] reads [`Facts`] from a storage, and [`judge`] makes findings of them. The rules are pure, so that each can
//! be tested without a storage.

mod command;
mod entries;
mod facts;
mod kind;
mod options;
mod read;
mod rules;
mod text;

use std::{cmp::Reverse, fmt};

use chrono::{DateTime, Utc};

pub use self::{
    command::quote,
    facts::{
        ClockFacts, DayRuns, EntryReading, FACT_GROUPS, FACT_IDS, Facts, GroupFacts, Pause, QueueFacts, QueueReading,
        StorageFacts, Unread,
    },
    kind::{Aggregators, FindingKind, Severity, TypeCount},
    options::{FindingsOptions, MAX_QUEUES},
    read::read_facts,
    rules::{judge, repeated_entries, same_entry},
};
use crate::names::QueueName;

/// One thing that needs attention. Its `Display` is a plain sentence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// The seriousness.
    pub severity: Severity,
    /// The queue, if it is about one.
    pub queue: Option<QueueName>,
    /// The kind, with its evidence.
    pub kind: FindingKind,
    /// The suggested command, as text for a POSIX shell. Names in it are quoted. A command that only looks is suggested
    /// where the right act depends on the tasks.
    pub command: String,
}

impl Finding {
    pub(crate) fn new(queue: Option<&QueueName>, severity: Severity, kind: FindingKind) -> Self {
        let command = command::suggest(queue, &kind);
        Self {
            severity,
            queue: queue.cloned(),
            kind,
            command,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::sentence(self.queue.as_ref(), &self.kind, f)
    }
}

/// The answer of `Inspector::findings`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Findings {
    /// The findings, most serious first.
    pub findings: Vec<Finding>,
    /// Number of queues that were looked at.
    pub queues: usize,
    /// Number of queues that were left out, because there are more than the options allow.
    pub left_out: usize,
    /// Time at which the look began, that of the storage.
    pub at: DateTime<Utc>,
}

impl Findings {
    /// Makes findings of facts.
    #[must_use]
    pub fn of(facts: &Facts, left_out: usize, options: &FindingsOptions) -> Self {
        let unread = facts.unread.iter().filter(|unread| unread.queue.is_some()).count();
        Self {
            findings: judge(facts, options),
            queues: facts.queues.len() + unread,
            left_out,
            at: facts.now,
        }
    }

    /// Iterates over the findings, most serious first.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.findings.iter()
    }

    /// Returns whether nothing needs attention.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }
}

impl<'f> IntoIterator for &'f Findings {
    type Item = &'f Finding;
    type IntoIter = std::slice::Iter<'f, Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self {
            writeln!(f, "{}: {finding}\n    {}", finding.severity, finding.command)?;
        }
        write!(f, "{} findings in {} queues", self.findings.len(), self.queues)?;
        if self.left_out > 0 {
            write!(f, "; {} queues were left out", self.left_out)?;
        }
        Ok(())
    }
}

/// Sorts findings: most serious first, then by kind, then by queue.
fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        let key = |finding: &Finding| (Reverse(finding.severity), finding.kind.rank());
        key(a).cmp(&key(b)).then_with(|| a.queue.cmp(&b.queue))
    });
}

#[cfg(test)]
mod tests;
