//! The values that pass between the state, the loop and the reads.

use std::collections::BTreeMap;

use asynq::{
    PublishedTree, TaskInfo, TaskState,
    findings::Findings,
    info::{GroupInfo, QueueInfo, SchedulerEntry, ServerInfo, WorkerInfo},
    inspect::Cursor,
};
use asynq_web::records::Redaction;
use chrono::{DateTime, Utc};
use ratatui::crossterm::event::KeyEvent;

use crate::{hands::Hands, output::one_line, redact, session::Session};

pub(crate) type Time = DateTime<Utc>;

/// The Redis that is shown, and what may be done there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) hands: Hands,
    pub(crate) redaction: Redaction,
}

impl Place {
    pub(crate) fn of(session: &Session) -> Self {
        Self {
            name: one_line(&session.place()),
            hands: session.hands.clone(),
            redaction: redact::types(&session.target.redact),
        }
    }
}

/// A task by its queue and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskKey {
    pub(crate) queue: String,
    pub(crate) id: String,
}

impl TaskKey {
    pub(crate) fn of(task: &TaskInfo) -> Self {
        Self {
            queue: task.queue.to_string(),
            id: task.id.to_string(),
        }
    }
}

/// A task as it was seen: its state, and the time at which it came into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) state: TaskState,
    pub(crate) since: Option<Time>,
}

impl Seen {
    pub(crate) fn of(task: &TaskInfo) -> Self {
        Self {
            state: task.state,
            since: task.state_since,
        }
    }

    /// Returns whether the task is where it was.
    pub(crate) fn is_still(self, task: &TaskInfo) -> bool {
        let is_same = |(was, is)| was == is;
        self.state == task.state && self.since.zip(task.state_since).is_none_or(is_same)
    }
}

/// The tasks that a page lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// `None`: all queues.
    pub(crate) queue: Option<String>,
    /// `None`: all states.
    pub(crate) state: Option<TaskState>,
    pub(crate) group: Option<String>,
    /// A query that is known to be one.
    pub(crate) filter: Option<String>,
}

impl Scope {
    /// Returns the query for the whole scope; `None` if plain lists show it.
    pub(crate) fn query(&self) -> Option<String> {
        let filter = self.filter.as_ref()?;
        let mut text = String::new();
        if let Some(queue) = &self.queue {
            text += &format!("queue={} ", quoted(queue));
        }
        if let Some(state) = self.state {
            text += &format!("state={state} ");
        }
        if let Some(group) = &self.group {
            text += &format!("group={} ", quoted(group));
        }
        Some(match text.is_empty() {
            true => filter.clone(),
            false => format!("{text}({filter})"),
        })
    }

    /// Returns whether groups are listed, and not tasks.
    pub(crate) fn lists_groups(&self) -> bool {
        self.state == Some(TaskState::Aggregating) && self.group.is_none() && self.filter.is_none()
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Something to read for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Queues,
    Tasks {
        scope: Scope,
        /// Number of the page, from 1, for plain lists.
        page: u32,
        size: u32,
        /// The place where a search continues.
        from: Cursor,
    },
    Task(TaskKey),
    Servers,
    Trees,
    Schedulers,
    Findings,
    Redis,
}

/// The answer of a read.
#[derive(Debug)]
pub(crate) enum Data {
    Queues {
        queues: Vec<QueueInfo>,
        /// Queues that could not be read, and why.
        unread: Vec<(String, String)>,
        /// Number of queues that were not read, as there are too many.
        left_out: usize,
    },
    Tasks {
        /// The numbers of the queue, if it is one.
        queue: Option<Box<QueueInfo>>,
        list: List,
    },
    Task(Box<TaskInfo>),
    Servers {
        servers: Vec<ServerInfo>,
        workers: Vec<WorkerInfo>,
    },
    Trees(Vec<PublishedTree>),
    Schedulers(Vec<SchedulerEntry>),
    Findings(Findings),
    Redis {
        servers: Vec<RedisServer>,
        cluster: Option<Lines>,
    },
}

pub(crate) type Lines = BTreeMap<String, String>;

/// A Redis server, by its name in a cluster, with what it tells about itself.
pub(crate) type RedisServer = (Option<String>, Result<Lines, String>);

/// A list of tasks or groups.
#[derive(Debug)]
pub(crate) enum List {
    Groups(Vec<GroupInfo>),
    Tasks {
        tasks: Vec<TaskInfo>,
        /// The place where a search continues.
        next: Option<Cursor>,
        /// Number of tasks that a search looked at, and of those it could not decide about.
        looked_at: u64,
        undecided: u64,
    },
}

/// The cause for which something could not be read or done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) text: String,
    /// Redis did not answer: the next try may succeed.
    pub(crate) is_outage: bool,
}

/// An act on single tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Run,
    Archive,
    Delete,
    Cancel,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Archive => "archive",
            Self::Delete => "delete",
            Self::Cancel => "cancel",
        }
    }

    /// Returns whether the act is possible for a task in this state.
    pub(crate) fn applies_to(self, state: TaskState) -> bool {
        use asynq::inspector::Act;
        match self {
            Self::Run => Act::Run.applies_to(state),
            Self::Archive => Act::Archive.applies_to(state),
            Self::Delete => Act::Delete.applies_to(state),
            Self::Cancel => state == TaskState::Active,
        }
    }
}

/// An act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Tasks { verb: Verb, tasks: Vec<(TaskKey, Seen)> },
    Pause { queue: String, paused: bool },
    DeleteQueue { queue: String, force: bool },
}

/// The outcome of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acted {
    pub(crate) text: String,
    pub(crate) failed: bool,
    /// The tasks that were acted on.
    pub(crate) done: Vec<TaskKey>,
    pub(crate) gone: Gone,
}

/// Things that do not exist any more after an act.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Gone {
    #[default]
    Nothing,
    /// The tasks that were acted on.
    Tasks,
    Queue(String),
}

/// Something that the loop carries out for the state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Quit,
    /// Draws everything anew.
    Redraw,
    Fetch(Fetch),
}

/// A read or an act of Redis. Each has one answer, unless a later one takes its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// Takes the place of the one before.
    Look { turn: u64, look: Look },
    /// Reads the findings beside a page, with the number of the last switch.
    Findings { switch: u64 },
    /// Acts, on behalf of the operator, with a reason.
    Act { deed: Deed, reason: String },
    /// Connects to a context. Takes the place of the connect before.
    Connect { number: u64, context: String },
    /// Reads and acts through the connection of this number from now on.
    Switch(u64),
}

/// Something that happens to the state.
#[derive(Debug)]
pub(crate) enum Event {
    Key(KeyEvent),
    Pasted(String),
    Resized(u16, u16),
    Tick,
    Looked {
        turn: u64,
        answer: Result<Data, Trouble>,
    },
    FindingsRead {
        switch: u64,
        answer: Result<Findings, Trouble>,
    },
    Acted(Acted),
    Connected {
        number: u64,
        answer: Result<Place, String>,
    },
    /// A signal asks the program to end.
    Signalled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_narrowed_to_its_queue_and_state() {
        let mut scope = Scope {
            queue: Some("a \"b\"\\".to_owned()),
            state: Some(TaskState::Retry),
            ..Scope::default()
        };
        assert_eq!(scope.query(), None);
        scope.filter = Some("type=x or type=y".to_owned());
        let query = scope.query().unwrap();
        assert_eq!(query, r#"queue="a \"b\"\\" state=retry (type=x or type=y)"#);
        query.parse::<asynq::query::Query>().unwrap();
    }
}
