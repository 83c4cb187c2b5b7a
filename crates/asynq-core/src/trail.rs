//! The audit trail: what operators changed, who did it, and why.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::Hash,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    error::TaskError,
    names::{NameError, NameFault},
};

/// Number of entries that the trail keeps. It can have up to [`TRAIL_SLACK`] more, before some go: see [`surplus`].
pub const MAX_TRAIL: u32 = 10_000;
/// Number of entries above [`MAX_TRAIL`] from which on some go.
pub const TRAIL_SLACK: u32 = 500;
/// Longest name of an operator, in bytes.
pub const MAX_ACTOR_NAME: usize = 256;
/// Longest reason for an act, in bytes.
pub const MAX_REASON: usize = 1024;
/// Longest text of a failure in the trail, in bytes; what is longer is cut.
const MAX_FAILURE: usize = 1024;

/// The operator on whose behalf a program acts, with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Name of a person or a program, 1 to [`MAX_ACTOR_NAME`] bytes.
    pub name: String,
    /// Reason for the act, at most [`MAX_REASON`] bytes; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Actor {
    /// Returns an operator without a reason.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: String::new(),
        }
    }

    /// Sets the reason.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// [`TaskError::Name`] for a blank name, [`TaskError::TooLarge`] for too long a name or reason.
    pub fn check(&self) -> Result<(), TaskError> {
        if self.name.trim().is_empty() {
            return Err(TaskError::Name(NameError {
                field: "actor name",
                fault: NameFault::Blank,
            }));
        }
        let within = |field, limit: usize, text: &str| match text.len() <= limit {
            true => Ok(()),
            false => Err(TaskError::TooLarge {
                field,
                limit: limit as u64,
                got: text.len() as u64,
            }),
        };
        within("actor name", MAX_ACTOR_NAME, &self.name)?;
        within("reason", MAX_REASON, &self.reason)
    }
}

/// An act that changed something, as the trail keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrailEntry {
    /// Time of the entry: when the act had ended, or had begun where an act has two entries.
    pub at: DateTime<Utc>,
    /// The operator, if the program named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// Host of the program.
    pub host: String,
    /// Process id of the program.
    pub pid: u32,
    /// Name of the operation, such as `delete_task`.
    pub act: String,
    /// The queue that it concerned; `None` for an act that may concern several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The task, for an act on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The choice of tasks, for an act on several: a state, a group or a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<String>,
    /// Details of the act, such as the time of a rescheduled task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Number of tasks that it changed, for an act on several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// The error, if the act failed. An act on several tasks may have changed some before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl TrailEntry {
    /// Returns the entry of an act that ended now, without a target.
    #[must_use]
    pub fn new(act: &str, at: DateTime<Utc>, host: impl Into<String>, pid: u32) -> Self {
        Self {
            at,
            actor: None,
            host: host.into(),
            pid,
            act: act.to_owned(),
            queue: None,
            task: None,
            tasks: None,
            detail: None,
            changed: None,
            failure: None,
        }
    }

    /// Sets the error of an act that failed; a text above 1024 bytes is cut.
    #[must_use]
    pub fn failed(mut self, error: &impl ToString) -> Self {
        let mut text = error.to_string();
        let end = (0..=MAX_FAILURE.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        self.failure = Some(text);
        self
    }

    /// Returns the name of the operator, if the program named one.
    #[must_use]
    pub fn operator(&self) -> Option<&str> {
        self.actor.as_ref().map(|actor| actor.name.as_str())
    }

    /// The JSON that is stored.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // Texts, numbers and times only: nothing that JSON cannot hold.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads what was stored; `None` if it is something else.
    #[must_use]
    pub fn decode(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

/// Returns the places of the entries that go, so that `most` stay. `actors` has the operators of all entries, the oldest entry
/// first.
///
/// It is always the oldest entry of the operator who has most of them. So nobody can push out the acts of others, until they
/// themselves have no more entries than these. Acts without an operator count as those of one.
#[must_use]
pub fn surplus<A: Eq + Hash>(actors: &[A], most: usize) -> Vec<usize> {
    let mut places: HashMap<&A, VecDeque<usize>> = HashMap::new();
    for (place, actor) in actors.iter().enumerate() {
        places.entry(actor).or_default().push_back(place);
    }
    // Of two with equally many, the one with the older entry.
    let mut queue: BinaryHeap<_> = places
        .into_values()
        .map(|places| (places.len(), Reverse(places)))
        .collect();
    let mut gone = Vec::new();
    while gone.len() < actors.len().saturating_sub(most) {
        let Some((count, Reverse(mut places))) = queue.pop() else {
            break;
        };
        gone.extend(places.pop_front());
        queue.push((count - 1, Reverse(places)));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_acts_of_who_has_most_go_first() {
        let gone = |actors: &str, most: usize| {
            let actors: Vec<char> = actors.chars().collect();
            let gone = surplus(&actors, most);
            assert!(gone.len() == actors.len().saturating_sub(most), "{gone:?}");
            let rest = actors.iter().enumerate().filter(|(place, _)| !gone.contains(place));
            rest.map(|(_, actor)| *actor).collect::<String>()
        };
        assert_eq!(gone("abc", 3), "abc");
        assert_eq!(gone("aaa", 2), "aa");
        assert_eq!(surplus(&['a', 'a', 'a'], 2), [0]);
        assert_eq!(gone("bbccaaaaaaaaaa", 6), "bbccaa");
        assert_eq!(gone("aaaabb", 4), "aabb");
        // Among equals the oldest.
        assert_eq!(surplus(&['a', 'b', 'a', 'b'], 2), [0, 1]);
        assert_eq!(gone("", 0), "");
        assert_eq!(gone("abc", 0), "");
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_and_unknown_fields_are_left_out() {
        let at = "2026-11-29T12:00:00Z".parse().unwrap();
        let mut entry = TrailEntry::new("delete_all", at, "host", 7);
        assert_eq!(
            entry.encode(),
            r#"{"at":"2026-11-29T12:00:00Z","host":"host","pid":7,"act":"delete_all"}"#
        );
        entry.actor = Some(Actor::new("ann").with_reason("ticket 7"));
        entry.queue = Some("q".to_owned());
        entry.tasks = Some("state=retry".to_owned());
        entry.changed = Some(3);
        let entry = entry.failed(&"é".repeat(600));
        assert_eq!(entry.failure.as_ref().map(String::len), Some(1024));
        assert_eq!(TrailEntry::decode(&entry.encode()), Some(entry));
        assert_eq!(TrailEntry::decode(b"{}"), None);
    }

    #[test]
    fn an_operator_has_a_name_and_a_short_reason() {
        Actor::new("ann").with_reason("x".repeat(MAX_REASON)).check().unwrap();
        let refused = |actor: Actor| actor.check().unwrap_err().to_string();
        assert!(refused(Actor::new(" ")).contains("actor name"));
        assert!(refused(Actor::new("x".repeat(257))).contains("256"));
        assert!(refused(Actor::new("ann").with_reason("x".repeat(1025))).contains("reason"));
    }
}
