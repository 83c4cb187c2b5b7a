//! The parameters of the page of a queue: the whole of its state is in the address.

use asynq::query::{Query, QueryError};
use serde::Deserialize;

use crate::{pages::view::View, v1::common::State};

/// Tasks on a page, and the choices.
pub(crate) const SIZES: [u32; 3] = [25, 50, 75];
/// Longest query that is written in the bar, in characters. What the page adds to it has room beside it.
pub(crate) const LONGEST_QUERY: usize = 3000;

/// The tasks that are shown: those of one state, or all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tab {
    #[default]
    All,
    Active,
    Pending,
    Aggregating,
    Scheduled,
    Retry,
    Archived,
    Completed,
}

impl Tab {
    pub(crate) const ALL: [Self; 8] = [
        Self::All,
        Self::Active,
        Self::Pending,
        Self::Aggregating,
        Self::Scheduled,
        Self::Retry,
        Self::Archived,
        Self::Completed,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Aggregating => "aggregating",
            Self::Scheduled => "scheduled",
            Self::Retry => "retry",
            Self::Archived => "archived",
            Self::Completed => "completed",
        }
    }

    /// Returns the state of the tasks, `None` if they are of all.
    pub(crate) fn state(self) -> Option<State> {
        Some(match self {
            Self::All => return None,
            Self::Active => State::Active,
            Self::Pending => State::Pending,
            Self::Aggregating => State::Aggregating,
            Self::Scheduled => State::Scheduled,
            Self::Retry => State::Retry,
            Self::Archived => State::Archived,
            Self::Completed => State::Completed,
        })
    }

    /// Returns the acts on many tasks that tasks of this tab allow.
    pub(crate) fn acts(self) -> &'static [&'static str] {
        match self {
            Self::All | Self::Aggregating | Self::Scheduled | Self::Retry => &["run", "archive", "delete"],
            Self::Active => &[],
            Self::Pending => &["archive", "delete"],
            Self::Archived => &["run", "delete"],
            Self::Completed => &["delete"],
        }
    }
}

/// The parameters of the page of a queue. The columns are the parameters `c`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    pub(crate) state: Tab,
    /// The query of the bar.
    #[serde(default)]
    pub(crate) q: String,
    /// The group of aggregating tasks.
    #[serde(default)]
    group: String,
    #[serde(default)]
    pub(crate) size: Option<u32>,
    /// The place to go on from.
    #[serde(default)]
    cursor: String,
    /// Number of tasks that a search has looked at before it goes on.
    #[serde(default)]
    pub(crate) looked: Option<u64>,
}

impl Asked {
    pub(crate) fn query(&self) -> &str {
        self.q.trim()
    }

    pub(crate) fn group(&self) -> Option<&str> {
        Some(self.group.as_str()).filter(|group| !group.is_empty() && self.state == Tab::Aggregating)
    }

    pub(crate) fn cursor(&self) -> Option<&str> {
        Some(self.cursor.as_str()).filter(|cursor| !cursor.is_empty())
    }

    pub(crate) fn size(&self) -> u32 {
        self.size.unwrap_or(SIZES[0]).clamp(1, SIZES[2])
    }

    /// Returns whether a search finds the tasks, rather than a look at the list of a state.
    pub(crate) fn is_search(&self) -> bool {
        !self.query().is_empty() || self.state == Tab::All || self.state == Tab::Aggregating && self.group().is_none()
    }

    /// Returns the query that finds the tasks of the page and of all pages after it, with its queue. The query of the bar must be one
    /// by itself: `a) or (b` must not reach beyond the queue.
    pub(crate) fn whole_query(&self, queue: &str) -> Result<String, QueryError> {
        let mut whole = format!("queue={}", quoted(queue));
        if let Some(state) = (self.state != Tab::All).then_some(self.state.as_str()) {
            whole.push_str(&format!(" state={state}"));
        }
        if let Some(group) = self.group() {
            whole.push_str(&format!(" group={}", quoted(group)));
        }
        if !self.query().is_empty() {
            Query::parse(self.query())?;
            whole.push_str(&format!(" ({})", self.query()));
        }
        Query::parse(&whole)?;
        Ok(whole)
    }
}

/// Returns the link to the page with other parameters, from the first task on.
pub(crate) fn from_start(view: &View, changes: &[(&str, &str)]) -> String {
    let mut all = vec![("cursor", ""), ("looked", "")];
    all.extend_from_slice(changes);
    view.with(&all)
}

/// Returns a text as a value of a query.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(state: Tab, q: &str) -> Asked {
        Asked {
            state,
            q: q.to_owned(),
            ..Asked::default()
        }
    }

    #[test]
    fn a_query_stays_within_its_queue_and_state() {
        assert_eq!(asked(Tab::All, " ").whole_query("a").unwrap(), r#"queue="a""#);
        assert_eq!(
            asked(Tab::Retry, "type=x or type=y").whole_query(r#"a"b\"#).unwrap(),
            r#"queue="a\"b\\" state=retry (type=x or type=y)"#
        );
        for escape in ["type=x) or (queue=other", "type=x) or queue!=a or (type=y", "type=x)"] {
            asked(Tab::All, escape).whole_query("a").unwrap_err();
        }
    }

    #[test]
    fn a_group_counts_only_among_aggregating_tasks() {
        let group = |state| Asked {
            state,
            group: "g".to_owned(),
            ..Asked::default()
        };
        assert_eq!(group(Tab::Aggregating).group(), Some("g"));
        assert_eq!(group(Tab::All).group(), None);
        assert!(!group(Tab::Aggregating).is_search());
    }
}
