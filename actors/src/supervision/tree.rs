//! The live supervision tree: the running actors, their start times, and the number and causes of their restarts.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use asynq_core::Clock;
pub use asynq_core::{ActorState, TreeNode};
use chrono::{DateTime, Utc};
use ractor::ActorCell;
use tokio::{sync::broadcast, time::Instant};

use crate::{
    metrics::restarted,
    supervision::{crash::Fuse, shutdown_budget::ShutdownBudget},
};

/// A change of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeEvent {
    /// The names from the root to the actor, joined by `/`. Within a name, `/` is written as `%2F` and `%` as `%25`.
    pub path: String,
    /// The new state.
    pub state: ActorState,
    /// The failure, if this change is one.
    pub failure: Option<String>,
    /// The new note; a change of this alone is a change too.
    pub note: Option<String>,
}

/// The path of a child; whatever its name, it is one segment.
pub(crate) fn child_path(parent: &str, id: &str) -> String {
    if id.contains(['/', '%']) {
        format!("{parent}/{}", id.replace('%', "%25").replace('/', "%2F"))
    } else {
        format!("{parent}/{id}")
    }
}

/// A path, or a segment of one, with its names as they are.
fn plain(path: &str) -> Cow<'_, str> {
    if path.contains('%') {
        Cow::Owned(path.replace("%2F", "/").replace("%25", "%"))
    } else {
        Cow::Borrowed(path)
    }
}

struct Node {
    path: String,
    state: ActorState,
    since: DateTime<Utc>,
    restarts: u64,
    last_failure: Option<String>,
    note: Option<String>,
    /// `true` once it has run.
    ran: bool,
    /// Number of incarnations, of a supervisor.
    incarnation: u64,
    cell: Option<ActorCell>,
    fuse: Fuse,
}

type Gauge = Box<dyn Fn() -> usize + Send + Sync>;

struct Inner {
    clock: Clock,
    /// Backlogs of actors, by their paths.
    backlogs: Mutex<Vec<(String, Gauge)>>,
    /// A supervisor comes before its children, and the children are in start order.
    nodes: Mutex<Vec<Node>>,
    events: broadcast::Sender<TreeEvent>,
    /// The shutdown of the root, which starts no child again during the shutdown.
    ending: ShutdownBudget,
}

/// The record of a tree, which its supervisors keep. Cheap to clone.
#[derive(Clone)]
pub struct Tree(Arc<Inner>);

/// A supervisor's part of the tree, held while it lives.
#[derive(Debug)]
pub(crate) struct Branch {
    tree: Tree,
    path: String,
    incarnation: u64,
}

impl Branch {
    /// Returns whether this is the first supervisor at this path.
    pub(crate) fn is_first(&self) -> bool {
        self.incarnation == 1
    }
}

impl Drop for Branch {
    /// Cleans up after a supervisor. A killed supervisor cannot end its children. ractor kills them, except those
    /// that are draining or stopping, which would continue for any time. After an orderly end, or after the start of
    /// the next incarnation, nothing is left to do.
    fn drop(&mut self) {
        let mut nodes = self.tree.lock();
        if nodes
            .iter()
            .any(|node| node.path == self.path && node.incarnation != self.incarnation)
        {
            return;
        }
        for node in nodes.iter_mut().rev() {
            let below = node
                .path
                .strip_prefix(&self.path)
                .is_some_and(|rest| rest.starts_with('/'));
            let shown_alive = match node.state {
                ActorState::Running => below || node.path == self.path,
                // Its own restart is its parent's affair.
                ActorState::Restarting => below,
                _ => false,
            };
            if shown_alive {
                self.tree.change(node, ActorState::Stopped, None);
            }
            if let Some(cell) = node.cell.as_ref().filter(|_| below) {
                cell.kill();
            }
        }
    }
}

impl Tree {
    /// An empty tree.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner {
            clock,
            backlogs: Mutex::default(),
            nodes: Mutex::new(Vec::new()),
            events: broadcast::Sender::new(256),
            ending: ShutdownBudget::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Node>> {
        self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node<'n>(&self, nodes: &'n mut Vec<Node>, path: &str) -> &'n mut Node {
        let index = nodes.iter().position(|node| node.path == path).unwrap_or_else(|| {
            nodes.push(Node {
                path: path.to_owned(),
                state: ActorState::Stopped,
                since: self.0.clock.now(),
                restarts: 0,
                last_failure: None,
                note: None,
                ran: false,
                incarnation: 0,
                cell: None,
                fuse: Fuse::default(),
            });
            nodes.len() - 1
        });
        &mut nodes[index]
    }

    /// Called under the lock, so that the events are in the order of the changes.
    fn change(&self, node: &mut Node, state: ActorState, failure: Option<String>) {
        let stands = node.state == state && failure.is_none();
        // Who gave up is shown so until it runs again.
        let gave_up = node.state == ActorState::Failed && state == ActorState::Stopped;
        if stands || gave_up {
            return;
        }
        if state == ActorState::Running {
            if node.ran {
                node.restarts += 1;
                restarted(&node.path);
            }
            node.ran = true;
        } else {
            node.note = None;
        }
        node.state = state;
        node.since = self.0.clock.now();
        if failure.is_some() {
            node.last_failure.clone_from(&failure);
        }
        // Events without a listener are dropped.
        let _ = self.0.events.send(TreeEvent {
            path: node.path.clone(),
            state,
            failure,
            note: node.note.clone(),
        });
    }

    /// Records that a supervisor with these children, in start order, is about to run.
    pub(crate) fn enter<'c>(&self, path: &str, children: impl Iterator<Item = &'c str>) -> Branch {
        let mut nodes = self.lock();
        let own = self.node(&mut nodes, path);
        own.incarnation += 1;
        let incarnation = own.incarnation;
        for child in children {
            self.node(&mut nodes, child);
        }
        Branch {
            tree: self.clone(),
            path: path.to_owned(),
            incarnation,
        }
    }

    fn is_root(&self, path: &str) -> bool {
        self.lock().first().is_some_and(|root| root.path == path)
    }

    /// Records that a supervisor stops its children for good. At the root, this is the end of the tree.
    pub(crate) fn end(&self, path: &str) {
        if self.is_root(path) {
            self.0.ending.begin();
        }
    }

    /// Returns what is known of the end of the whole tree.
    pub(crate) fn ending(&self) -> &ShutdownBudget {
        &self.0.ending
    }

    /// Returns whether the whole tree ends. Otherwise an actor that is told to stop is started again, unless its
    /// supervisors fail.
    pub(crate) fn is_ending(&self) -> bool {
        self.0.ending.has_begun()
    }

    /// Returns the deadline of the actor, if it was told to end.
    pub(crate) fn ends_by(&self, path: &str) -> Option<Instant> {
        self.0.ending.told((!self.is_root(path)).then_some(path))
    }

    /// Waits until the actor is told to end.
    pub(crate) async fn told_to_end(&self, path: &str) {
        let path = (!self.is_root(path)).then_some(path);
        self.0.ending.wait(|ending| ending.told(path)).await;
    }

    pub(crate) fn set(&self, path: &str, state: ActorState, failure: Option<String>) {
        let mut nodes = self.lock();
        self.change(self.node(&mut nodes, path), state, failure);
    }

    /// The newest incarnation of the actor, alive or not.
    pub(crate) fn cell(&self, path: &str) -> Option<ActorCell> {
        self.lock().iter().find(|node| node.path == path)?.cell.clone()
    }

    pub(crate) fn set_cell(&self, path: &str, cell: ActorCell) {
        self.node(&mut self.lock(), path).cell = Some(cell);
    }

    /// Returns the crash request of an actor, which all its incarnations share.
    pub(crate) fn fuse(&self, path: &str) -> Fuse {
        self.node(&mut self.lock(), path).fuse.clone()
    }

    /// Returns the newest incarnation of the actor at a path, with the path as recorded in the tree. A `/` within a
    /// name may be written unescaped. If two paths read the same, the literal one counts.
    pub(crate) fn resolve(&self, path: &str) -> Option<(String, ActorCell)> {
        let nodes = self.lock();
        let exact = nodes.iter().find(|node| node.path == path);
        let meant = exact.or_else(|| nodes.iter().find(|node| plain(&node.path) == path))?;
        Some((meant.path.clone(), meant.cell.clone()?))
    }

    /// Sets the actor's note about itself. Without effect if the text is the same.
    pub(crate) fn note(&self, path: &str, note: Option<&str>) {
        let mut nodes = self.lock();
        let node = self.node(&mut nodes, path);
        if node.note.as_deref() == note {
            return;
        }
        node.note = note.map(str::to_owned);
        let _ = self.0.events.send(TreeEvent {
            path: node.path.clone(),
            state: node.state,
            failure: None,
            note: node.note.clone(),
        });
    }

    /// The tree as it is now; `None` before the first start.
    #[must_use]
    pub fn snapshot(&self) -> Option<TreeNode> {
        let backlogs = self.backlogs();
        let nodes = self.lock();
        Some(Self::assemble(nodes.first()?, &nodes, &backlogs))
    }

    /// Shows the actor's backlog from now on.
    pub(crate) fn set_backlog(&self, path: &str, gauge: impl Fn() -> usize + Send + Sync + 'static) {
        let mut backlogs = self.0.backlogs.lock().unwrap_or_else(PoisonError::into_inner);
        backlogs.push((path.to_owned(), Box::new(gauge)));
    }

    fn backlogs(&self) -> HashMap<String, u64> {
        let backlogs = self.0.backlogs.lock().unwrap_or_else(PoisonError::into_inner);
        backlogs
            .iter()
            .map(|(path, gauge)| (path.clone(), u64::try_from(gauge()).unwrap_or(u64::MAX)))
            .collect()
    }

    fn assemble(node: &Node, all: &[Node], backlogs: &HashMap<String, u64>) -> TreeNode {
        let below = |child: &&Node| {
            child
                .path
                .rsplit_once('/')
                .is_some_and(|(parent, _)| parent == node.path)
        };
        let name = node.path.rsplit_once('/').map_or(node.path.as_str(), |(_, name)| name);
        let mut shown = TreeNode::new(plain(name).into_owned(), node.state, node.since);
        shown.restarts = node.restarts;
        shown.last_failure.clone_from(&node.last_failure);
        shown.note.clone_from(&node.note);
        shown.backlog = backlogs.get(&node.path).copied();
        shown.children = all
            .iter()
            .filter(below)
            .map(|child| Self::assemble(child, all, backlogs))
            .collect();
        shown
    }

    /// Returns a stream of the changes from now on. A reader that falls more than 256 behind receives an error with
    /// the gap, and continues.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<TreeEvent> {
        self.0.events.subscribe()
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.snapshot() {
            Some(root) => write!(f, "{root}"),
            None => f.write_str("(empty tree)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(tree: &Tree) -> Vec<(String, ActorState)> {
        tree.lock().iter().map(|node| (node.path.clone(), node.state)).collect()
    }

    #[test]
    fn restarts_are_counted_and_children_stand_in_start_order() {
        let tree = Tree::new(Clock::system());
        let _branch = tree.enter("s", ["s/b", "s/a"].into_iter());
        // Whatever becomes of them first.
        for path in ["s/a", "s", "s/b", "s/a/x"] {
            tree.set(path, ActorState::Running, None);
        }
        tree.set("s/b", ActorState::Restarting, Some("boom".into()));
        tree.set("s/b", ActorState::Running, None);
        let root = tree.snapshot().unwrap();
        assert_eq!(
            root.children.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["b", "a"]
        );
        let b = root.find(&["b"]).unwrap();
        assert_eq!(
            (b.restarts, b.last_failure.as_deref(), b.state),
            (1, Some("boom"), ActorState::Running)
        );
        assert!(root.find(&["a", "x"]).is_some());
        assert_eq!(root.find(&["a"]).unwrap().restarts, 0);
    }

    #[test]
    fn a_supervisor_that_tells_nobody_leaves_nothing_running() {
        let tree = Tree::new(Clock::system());
        let outer = tree.enter("s", ["s/a", "s/w"].into_iter());
        let inner = tree.enter("s/w", ["s/w/x", "s/w/y"].into_iter());
        for path in ["s", "s/a", "s/w", "s/w/x"] {
            tree.set(path, ActorState::Running, None);
        }
        tree.set("s/w/y", ActorState::Restarting, None);
        // Its parent was faster.
        tree.set("s/w", ActorState::Restarting, Some("killed".into()));
        drop(inner);
        use ActorState::{Restarting, Running, Stopped};
        let expected = [
            ("s", Running),
            ("s/a", Running),
            ("s/w", Restarting),
            ("s/w/x", Stopped),
            ("s/w/y", Stopped),
        ];
        assert_eq!(states(&tree), expected.map(|(path, state)| (path.to_owned(), state)));
        drop(outer);
        assert!(states(&tree).iter().all(|(_, state)| *state == Stopped), "{tree:?}");
    }

    #[test]
    fn a_late_end_of_a_former_incarnation_changes_nothing() {
        let tree = Tree::new(Clock::system());
        let former = tree.enter("s", ["s/a"].into_iter());
        tree.set("s/a", ActorState::Running, None);
        let _now = tree.enter("s", ["s/a"].into_iter());
        drop(former);
        assert_eq!(
            tree.snapshot().unwrap().find(&["a"]).unwrap().state,
            ActorState::Running
        );
    }

    #[test]
    fn a_name_is_one_segment_of_its_path_whatever_is_in_it() {
        let tree = Tree::new(Clock::system());
        let ids = ["a", "a/b", "50%", "%2F", "a%2Fb"];
        let paths = ids.map(|id| child_path("s", id));
        assert_eq!(paths[1..], ["s/a%2Fb", "s/50%25", "s/%252F", "s/a%252Fb"]);
        let _branch = tree.enter("s", paths.iter().map(String::as_str));
        tree.set("s/a/b", ActorState::Running, None);
        let root = tree.snapshot().unwrap();
        assert_eq!(root.children.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ids);
        assert_eq!(root.find(&["a/b"]).unwrap().state, ActorState::Stopped);
        assert_eq!(root.find(&["a", "b"]).unwrap().state, ActorState::Running);
    }

    #[test]
    fn a_note_is_told_once() {
        let tree = Tree::new(Clock::system());
        tree.set("s", ActorState::Running, None);
        let mut events = tree.events();
        for note in [Some("polling"), Some("polling"), Some("watching"), None, None] {
            tree.note("s", note);
        }
        tree.note("s", Some("watching"));
        tree.set("s", ActorState::Restarting, Some("boom".into()));
        let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok())
            .map(|event| (event.state, event.note))
            .collect();
        let note = |text: &str| (ActorState::Running, Some(text.to_owned()));
        assert_eq!(
            told,
            [
                note("polling"),
                note("watching"),
                (ActorState::Running, None),
                note("watching"),
                (ActorState::Restarting, None)
            ]
        );
    }

    #[test]
    fn who_gave_up_is_shown_so_until_it_runs_again() {
        let tree = Tree::new(Clock::system());
        let mut events = tree.events();
        tree.set("s", ActorState::Running, None);
        tree.set("s", ActorState::Failed, Some("too much".into()));
        tree.set("s", ActorState::Stopped, None);
        assert_eq!(tree.snapshot().unwrap().state, ActorState::Failed);
        tree.set("s", ActorState::Running, None);
        tree.set("s", ActorState::Running, None);
        let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok())
            .map(|event| event.state)
            .collect();
        assert_eq!(told, [ActorState::Running, ActorState::Failed, ActorState::Running]);
    }
}
