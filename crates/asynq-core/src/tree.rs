//! The supervision tree as a value: its running actors, their start times, and the number and causes of their
//! restarts. The runtime records the tree, servers publish it as JSON, and inspectors read it.

use std::{cmp::Ordering, fmt};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use crate::identity::ServerIdentity;

/// The state of an actor of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActorState {
    /// Running.
    Running,
    /// Crashed, waiting for its restart.
    Restarting,
    /// The actor is not started yet, or ended and is not restarted.
    Stopped,
    /// A supervisor that gave up, or could not start.
    Failed,
}

/// One actor of the tree with what is below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TreeNode {
    /// Its name among its siblings.
    pub name: String,
    /// State of the actor.
    pub state: ActorState,
    /// Time since which it is in that state.
    pub since: DateTime<Utc>,
    /// Number of restarts.
    #[serde(default)]
    pub restarts: u64,
    /// Its last failure.
    #[serde(default)]
    pub last_failure: Option<String>,
    /// A note of the actor about itself: `connecting`, `polling` …
    #[serde(default)]
    pub note: Option<String>,
    /// Number of work items that wait for the actor; `None` if the actor does not count them.
    #[serde(default)]
    pub backlog: Option<u64>,
    /// At the root of a server: the patterns of the task types that it handles, each a prefix of types. `None` if they
    /// are not known, because its handler decides by itself, or there are too many of them. Empty at other actors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handles: Option<Vec<String>>,
    /// Its children, in the order they are started.
    #[serde(default)]
    pub children: Vec<TreeNode>,
}

impl TreeNode {
    /// An actor that was never restarted and has nothing below it.
    #[must_use]
    pub fn new(name: impl Into<String>, state: ActorState, since: DateTime<Utc>) -> Self {
        Self {
            name: name.into(),
            state,
            since,
            restarts: 0,
            last_failure: None,
            note: None,
            backlog: None,
            handles: None,
            children: Vec::new(),
        }
    }

    /// The node at a path of names below this one: `["work", "processor"]`.
    #[must_use]
    pub fn find(&self, path: &[&str]) -> Option<&TreeNode> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self);
        };
        self.children.iter().find(|child| child.name == *first)?.find(rest)
    }
}

impl fmt::Display for TreeNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn line(node: &TreeNode, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{:indent$}{} {:?}", "", node.name, node.state, indent = depth * 2)?;
            if node.restarts > 0 {
                write!(f, " restarts={}", node.restarts)?;
            }
            if let Some(backlog) = node.backlog {
                write!(f, " backlog={backlog}")?;
            }
            if let Some(note) = &node.note {
                write!(f, " ({note})")?;
            }
            if let Some(failure) = &node.last_failure {
                write!(f, " last failure: {failure}")?;
            }
            writeln!(f)?;
            node.children.iter().try_for_each(|child| line(child, depth + 1, f))
        }
        line(self, 0, f)
    }
}

/// The tree of one server, as it was last published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedTree {
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: i32,
    /// The server.
    pub server_id: String,
    /// Its tree.
    pub tree: TreeNode,
}

impl PublishedTree {
    /// The tree of this server.
    #[must_use]
    pub fn new(server: &ServerIdentity, tree: TreeNode) -> Self {
        let ServerIdentity { host, pid, server_id } = server.clone();
        Self {
            host,
            pid,
            server_id,
            tree,
        }
    }

    /// The JSON that is published.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // Text, numbers and times only: nothing that JSON cannot hold.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads what was published; `None` if it is something else.
    #[must_use]
    pub fn decode(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Ordered by host, process and server, the order of the published trees.
    #[must_use]
    pub fn by_server(&self, other: &Self) -> Ordering {
        let name = |tree: &Self| (tree.host.clone(), tree.pid, tree.server_id.clone());
        name(self).cmp(&name(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> TreeNode {
        let since = DateTime::from_timestamp(1_700_000_000, 5_000_000).unwrap();
        let mut processor = TreeNode::new("processor", ActorState::Restarting, since);
        processor.restarts = 3;
        processor.last_failure = Some("boom".into());
        processor.backlog = Some(7);
        let mut root = TreeNode::new("system", ActorState::Running, since);
        root.note = Some("draining".into());
        root.children.push(processor);
        root
    }

    #[test]
    fn a_published_tree_is_read_as_written() {
        let server = ServerIdentity {
            host: "h:1".into(),
            pid: 7,
            server_id: "s".into(),
        };
        let published = PublishedTree::new(&server, tree());
        assert_eq!(PublishedTree::decode(&published.encode()), Some(published));
        for other in [
            &b""[..],
            b"{}",
            b"[]",
            b"\xff",
            br#"{"host":"h","pid":7,"server_id":"s"}"#,
        ] {
            assert_eq!(PublishedTree::decode(other), None);
        }
    }

    #[test]
    fn what_another_version_leaves_out_or_adds_is_no_hindrance() {
        let json = br#"{"host":"h","pid":7,"server_id":"s","new":1,
            "tree":{"name":"system","state":"running","since":"2026-05-14T10:00:00Z","new":[1]}}"#;
        let read = PublishedTree::decode(json).unwrap();
        assert_eq!((read.tree.name.as_str(), read.tree.backlog), ("system", None));
    }

    #[test]
    fn a_tree_deeper_than_any_of_ours_is_no_tree() {
        let deep = format!(
            r#"{{"host":"h","pid":7,"server_id":"s","tree":{}"#,
            r#"{"children":["#.repeat(100_000)
        );
        assert_eq!(PublishedTree::decode(deep.as_bytes()), None);
    }

    #[test]
    fn a_line_tells_what_is_known_of_an_actor() {
        let text = tree().to_string();
        assert_eq!(
            text,
            "system Running (draining)\n  processor Restarting restarts=3 backlog=7 last failure: boom\n"
        );
        assert!(tree().find(&["processor"]).is_some() && tree().find(&["client"]).is_none());
    }
}
