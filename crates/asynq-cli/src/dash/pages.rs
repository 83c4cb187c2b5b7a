//! The pages: what each has read, and where its cursor is.

use std::{
    cell::RefCell,
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
};

use asynq::{
    ActorState, PublishedTree, TaskInfo, TaskState, TreeNode,
    findings::Finding,
    info::{GroupInfo, QueueInfo, SchedulerEntry, ServerInfo, WorkerInfo},
    inspect::Cursor,
};
use bytes::Bytes;
use ratatui::text::Line;

use super::model::{Data, Lines, List, Look, RedisServer, Scope, Seen, TaskKey, Time};

/// Most bytes of a payload or a result that are kept of a task in a list.
const KEPT_IN_LIST: usize = 4 << 10;
/// Most bytes of a payload or a result that are kept of the task that is shown.
const KEPT: usize = 64 << 10;
/// Number of throughputs of a queue that are remembered.
const REMEMBERED: usize = 60;

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) content: Content,
    /// The row under the cursor, or the first line of a text.
    pub(crate) cursor: usize,
    /// Time of the last answer.
    pub(crate) read_at: Option<Time>,
    /// The cause for which the last read failed, if Redis did answer.
    pub(crate) fault: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Content {
    Queues(Queues),
    Tasks(Tasks),
    Task(TaskPage),
    Servers {
        servers: Vec<ServerInfo>,
        rows: Vec<ServerRow>,
    },
    Trees(Vec<TreeRow>),
    Schedulers(Vec<SchedulerEntry>),
    Findings(Vec<Finding>),
    Redis {
        servers: Vec<RedisServer>,
        cluster: Option<Lines>,
    },
}

/// All queues.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// In the order in which they are shown.
    pub(crate) rows: Vec<QueueInfo>,
    pub(crate) unread: Vec<(String, String)>,
    /// Number of queues that were not read.
    pub(crate) left_out: usize,
    pub(crate) sort: Sort,
    pub(crate) rates: BTreeMap<String, Rates>,
}

/// The columns by which queues are sorted, in the order of their keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SortBy {
    #[default]
    Queue,
    State,
    Size,
    Latency,
    Processed,
    Failed,
    Errors,
    Rate,
    Memory,
    Tasks(TaskState),
}

impl SortBy {
    pub(crate) const ALL: [Self; 16] = [
        Self::Queue,
        Self::State,
        Self::Size,
        Self::Latency,
        Self::Processed,
        Self::Failed,
        Self::Errors,
        Self::Rate,
        Self::Memory,
        Self::Tasks(TaskState::ALL[0]),
        Self::Tasks(TaskState::ALL[1]),
        Self::Tasks(TaskState::ALL[2]),
        Self::Tasks(TaskState::ALL[3]),
        Self::Tasks(TaskState::ALL[4]),
        Self::Tasks(TaskState::ALL[5]),
        Self::Tasks(TaskState::ALL[6]),
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Queue => "Queue",
            Self::State => "State",
            Self::Size => "Size",
            Self::Latency => "Latency",
            Self::Processed => "Processed",
            Self::Failed => "Failed",
            Self::Errors => "Errors",
            Self::Rate => "Tasks/s",
            Self::Memory => "Memory",
            Self::Tasks(state) => state.as_str(),
        }
    }
}

/// The order of the queues. Names go up at first, numbers down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) by: SortBy,
    pub(crate) reversed: bool,
}

impl Sort {
    /// Returns whether the smallest comes first.
    pub(crate) fn is_upward(self) -> bool {
        matches!(self.by, SortBy::Queue) != self.reversed
    }
}

/// The throughput of a queue, from one read to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    last: Option<(Time, u64)>,
    rates: VecDeque<f64>,
}

impl Rates {
    fn push(&mut self, at: Time, total: u64) {
        if let Some((before, was)) = self.last {
            let seconds = (at - before).as_seconds_f64();
            if seconds <= 0.0 {
                return;
            }
            // Counters that were cleared say nothing about this interval.
            if total >= was {
                self.rates.push_back((total - was) as f64 / seconds);
                if self.rates.len() > REMEMBERED {
                    self.rates.pop_front();
                }
            }
        }
        self.last = Some((at, total));
    }

    /// Returns the throughputs in tasks per second, the oldest first.
    pub(crate) fn all(&self) -> Vec<f64> {
        self.rates.iter().copied().collect()
    }

    pub(crate) fn last(&self) -> Option<f64> {
        self.rates.back().copied()
    }
}

impl Queues {
    fn take(&mut self, queues: Vec<QueueInfo>, unread: Vec<(String, String)>) {
        for queue in &queues {
            let rates = self.rates.entry(queue.queue.to_string()).or_default();
            rates.push(queue.timestamp, queue.processed_total);
        }
        self.rates.retain(|name, _| {
            queues.iter().any(|queue| queue.queue.as_str() == name) || unread.iter().any(|(queue, _)| queue == name)
        });
        (self.rows, self.unread) = (queues, unread);
        self.sort();
    }

    fn sort(&mut self) {
        let Sort { by, .. } = self.sort;
        let is_upward = self.sort.is_upward();
        let rate = |queue: &QueueInfo| {
            self.rates
                .get(queue.queue.as_str())
                .and_then(Rates::last)
                .unwrap_or(-1.0)
        };
        self.rows.sort_by(|a, b| {
            let order = match by {
                SortBy::Queue => a.queue.cmp(&b.queue),
                SortBy::State => a.paused.cmp(&b.paused),
                SortBy::Size => a.size().cmp(&b.size()),
                SortBy::Latency => a.latency.cmp(&b.latency),
                SortBy::Processed => a.processed.cmp(&b.processed),
                SortBy::Failed => a.failed.cmp(&b.failed),
                SortBy::Errors => share(a).total_cmp(&share(b)),
                SortBy::Rate => rate(a).total_cmp(&rate(b)),
                SortBy::Memory => a.memory_usage.cmp(&b.memory_usage),
                SortBy::Tasks(state) => tasks_in(a, state).cmp(&tasks_in(b, state)),
            };
            let order = if is_upward { order } else { order.reverse() };
            match (order, by) {
                (Ordering::Equal, _) => a.queue.cmp(&b.queue),
                (order, _) => order,
            }
        });
    }
}

fn share(queue: &QueueInfo) -> f64 {
    match queue.processed {
        0 => -1.0,
        processed => queue.failed as f64 / processed as f64,
    }
}

/// Returns the number of tasks of a queue in a state.
pub(crate) fn tasks_in(queue: &QueueInfo, state: TaskState) -> u64 {
    match state {
        TaskState::Active => queue.active,
        TaskState::Pending => queue.pending,
        TaskState::Aggregating => queue.aggregating,
        TaskState::Scheduled => queue.scheduled,
        TaskState::Retry => queue.retry,
        TaskState::Archived => queue.archived,
        TaskState::Completed => queue.completed,
        _ => 0,
    }
}

/// Tasks, or the groups of a queue.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    pub(crate) scope: Scope,
    pub(crate) queue: Option<Box<QueueInfo>>,
    pub(crate) rows: Vec<TaskInfo>,
    /// Bytes of the payload and the result of each row, of which a part is kept.
    pub(crate) sizes: Vec<(usize, usize)>,
    pub(crate) groups: Vec<GroupInfo>,
    pub(crate) marks: BTreeMap<TaskKey, Seen>,
    /// Number of the page, from 0.
    pub(crate) page: usize,
    /// The beginning of each page of a search.
    pub(crate) starts: Vec<Cursor>,
    pub(crate) next: Option<Cursor>,
    pub(crate) looked_at: u64,
    pub(crate) undecided: u64,
}

impl Tasks {
    pub(crate) fn of(scope: Scope) -> Self {
        Self {
            scope,
            starts: vec![Cursor::default()],
            ..Self::default()
        }
    }

    /// Changes what is listed. Marks are for what is seen, so they go.
    pub(crate) fn show(&mut self, scope: Scope) {
        let queue = self.queue.take().filter(|_| scope.queue == self.scope.queue);
        *self = Self {
            queue,
            ..Self::of(scope)
        };
    }

    /// Returns whether there is a page after this one, of this many rows.
    pub(crate) fn has_next(&self, size: usize) -> bool {
        match &self.scope.filter {
            Some(_) => self.next.is_some(),
            None if self.scope.lists_groups() => false,
            None => self
                .total()
                .map_or(self.rows.len() >= size, |total| total as usize > (self.page + 1) * size),
        }
    }

    /// Returns the number of tasks that are listed, if it is known.
    pub(crate) fn total(&self) -> Option<u64> {
        match (&self.queue, self.scope.state, &self.scope.group, &self.scope.filter) {
            (Some(queue), Some(state), None, None) => Some(tasks_in(queue, state)),
            _ => None,
        }
    }

    pub(crate) fn next_page(&mut self) {
        if let Some(next) = self.next.clone() {
            self.starts.truncate(self.page + 1);
            self.starts.push(next);
        }
        self.page += 1;
    }
}

/// One task.
#[derive(Debug)]
pub(crate) struct TaskPage {
    pub(crate) key: TaskKey,
    pub(crate) task: Option<Box<TaskInfo>>,
    /// Payload and result are shown as they are.
    pub(crate) raw: bool,
    /// Bytes of the payload and the result, of which a part is kept.
    pub(crate) sizes: (usize, usize),
    /// The lines of payload and result, by what they were laid out for.
    pub(crate) laid_out: RefCell<Option<(DataLayout, Vec<Line<'static>>)>>,
}

/// A width, and whether data are shown raw, and whether they are hidden.
pub(crate) type DataLayout = (usize, bool, bool);

/// Keeps the beginning of payload and result, and returns their sizes. Either may have many megabytes.
fn cut(task: &mut TaskInfo, most: usize) -> (usize, usize) {
    let sizes = (
        task.payload.len(),
        task.result.as_ref().map_or(0, |result| result.len()),
    );
    for bytes in std::iter::once(&mut task.payload).chain(&mut task.result) {
        keep(bytes, most);
    }
    sizes
}

fn keep(bytes: &mut Bytes, most: usize) {
    if bytes.len() > most {
        // A copy, as a part of the whole would keep all of it.
        *bytes = Bytes::copy_from_slice(&bytes[..most]);
    }
}

/// A line of the page of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerRow {
    /// By its place in the list.
    Server(usize),
    /// With the bytes of its payload, of which a part is kept.
    Worker(WorkerInfo, usize),
}

/// An actor in the page of trees.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TreeRow {
    pub(crate) depth: usize,
    /// At the root: the server.
    pub(crate) name: String,
    pub(crate) state: ActorState,
    pub(crate) since: Time,
    pub(crate) restarts: u64,
    pub(crate) last_failure: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) backlog: Option<u64>,
}

fn tree_rows(trees: Vec<PublishedTree>) -> Vec<TreeRow> {
    fn add(rows: &mut Vec<TreeRow>, node: TreeNode, name: String, depth: usize) {
        rows.push(TreeRow {
            depth,
            name,
            state: node.state,
            since: node.since,
            restarts: node.restarts,
            last_failure: node.last_failure,
            note: node.note,
            backlog: node.backlog,
        });
        for child in node.children {
            let name = child.name.clone();
            add(rows, child, name, depth + 1);
        }
    }
    let mut rows = Vec::new();
    for tree in trees {
        // Enough of the id to tell servers of one process apart.
        let id: String = tree.server_id.chars().take(8).collect();
        let name = format!("{}:{}:{id}", tree.host, tree.pid);
        add(&mut rows, tree.tree, name, 0);
    }
    rows
}

fn server_rows(servers: &[ServerInfo], mut workers: Vec<WorkerInfo>) -> Vec<ServerRow> {
    workers.sort_by_key(|worker| worker.start_time);
    let row = |mut worker: WorkerInfo| {
        let size = worker.payload.len();
        keep(&mut worker.payload, KEPT_IN_LIST);
        ServerRow::Worker(worker, size)
    };
    let mut rows = Vec::new();
    for (at, server) in servers.iter().enumerate() {
        rows.push(ServerRow::Server(at));
        let is_own = |worker: &WorkerInfo| {
            (&worker.server_id, &worker.host, worker.pid) == (&server.server_id, &server.host, server.pid)
        };
        let own = workers.extract_if(.., |worker| is_own(worker));
        rows.extend(own.map(row));
    }
    rows.extend(workers.into_iter().map(row));
    rows
}

/// Returns the page of a command; `Some(None)` is the first page.
pub(crate) fn page_named(name: &str) -> Option<Option<Content>> {
    Some(Some(match name {
        "queues" => return Some(None),
        "servers" => Content::Servers {
            servers: Vec::new(),
            rows: Vec::new(),
        },
        "tree" | "trees" => Content::Trees(Vec::new()),
        "schedulers" => Content::Schedulers(Vec::new()),
        "findings" => Content::Findings(Vec::new()),
        "redis" => Content::Redis {
            servers: Vec::new(),
            cluster: None,
        },
        _ => return None,
    }))
}

impl Page {
    pub(crate) fn new(content: Content) -> Self {
        Self {
            content,
            cursor: 0,
            read_at: None,
            fault: None,
        }
    }

    /// Returns what the page shows, for the title.
    pub(crate) fn title(&self) -> String {
        match &self.content {
            Content::Queues(_) => "queues".to_owned(),
            Content::Tasks(tasks) => match (&tasks.scope.queue, &tasks.scope.group) {
                (Some(queue), None) => queue.clone(),
                (Some(queue), Some(group)) => format!("{queue}, group {group}"),
                (None, _) => "tasks of all queues".to_owned(),
            },
            Content::Task(task) => format!("task {} in {}", task.key.id, task.key.queue),
            Content::Servers { .. } => "servers".to_owned(),
            Content::Trees(_) => "supervision trees".to_owned(),
            Content::Schedulers(_) => "schedulers".to_owned(),
            Content::Findings(_) => "findings".to_owned(),
            Content::Redis { .. } => "redis".to_owned(),
        }
    }

    /// Returns what the page has to read; `size` is the number of rows that it can show.
    pub(crate) fn look(&self, size: usize) -> Look {
        match &self.content {
            Content::Queues(_) => Look::Queues,
            Content::Tasks(tasks) => Look::Tasks {
                scope: tasks.scope.clone(),
                page: u32::try_from(tasks.page + 1).unwrap_or(u32::MAX),
                size: u32::try_from(size).unwrap_or(u32::MAX),
                from: tasks.starts.get(tasks.page).cloned().unwrap_or_default(),
            },
            Content::Task(task) => Look::Task(task.key.clone()),
            Content::Servers { .. } => Look::Servers,
            Content::Trees(_) => Look::Trees,
            Content::Schedulers(_) => Look::Schedulers,
            Content::Findings(_) => Look::Findings,
            Content::Redis { .. } => Look::Redis,
        }
    }

    /// Takes what was read. The cursor stays at its row, if that is still there.
    pub(crate) fn take(&mut self, data: Data) {
        let row = self.row_key(self.cursor);
        match (&mut self.content, data) {
            (
                Content::Queues(page),
                Data::Queues {
                    queues,
                    unread,
                    left_out,
                },
            ) => {
                page.take(queues, unread);
                page.left_out = left_out;
            }
            (Content::Tasks(page), Data::Tasks { queue, list }) => {
                page.queue = queue;
                match list {
                    List::Groups(groups) => (page.groups, page.rows, page.sizes) = (groups, Vec::new(), Vec::new()),
                    List::Tasks {
                        mut tasks,
                        next,
                        looked_at,
                        undecided,
                    } => {
                        page.sizes = tasks.iter_mut().map(|task| cut(task, KEPT_IN_LIST)).collect();
                        (page.rows, page.groups) = (tasks, Vec::new());
                        (page.next, page.looked_at, page.undecided) = (next, looked_at, undecided);
                    }
                }
            }
            (Content::Task(page), Data::Task(mut task)) => {
                page.sizes = cut(&mut task, KEPT);
                page.laid_out.take();
                page.task = Some(task);
            }
            (Content::Servers { servers, rows }, Data::Servers { servers: read, workers }) => {
                *rows = server_rows(&read, workers);
                *servers = read;
            }
            (Content::Trees(rows), Data::Trees(trees)) => *rows = tree_rows(trees),
            (Content::Schedulers(rows), Data::Schedulers(entries)) => {
                *rows = entries;
                rows.sort_by(|a, b| (a.next.is_none(), a.next, &a.id).cmp(&(b.next.is_none(), b.next, &b.id)));
            }
            (Content::Findings(rows), Data::Findings(findings)) => *rows = findings.findings,
            (
                Content::Redis { servers, cluster },
                Data::Redis {
                    servers: read,
                    cluster: info,
                },
            ) => {
                (*servers, *cluster) = (read, info);
            }
            // The answer is for another page.
            _ => return,
        }
        self.fault = None;
        self.put_cursor(row);
    }

    /// Sorts the queues in another way.
    pub(crate) fn sort(&mut self, change: impl FnOnce(&mut Sort)) {
        let row = self.row_key(self.cursor);
        if let Content::Queues(page) = &mut self.content {
            change(&mut page.sort);
            page.sort();
            self.put_cursor(row);
        }
    }

    fn put_cursor(&mut self, row: Option<String>) {
        // Lists of tasks move on by themselves, so that the cursor goes along with its task.
        let same = row.and_then(|row| (0..self.rows()).find(|at| self.row_key(*at).as_ref() == Some(&row)));
        self.cursor = same.unwrap_or(self.cursor);
        if !self.is_text() {
            self.cursor = self.cursor.min(self.rows().saturating_sub(1));
        }
    }

    /// Returns whether the page is a text that scrolls, without a row under the cursor.
    pub(crate) fn is_text(&self) -> bool {
        matches!(&self.content, Content::Task(_) | Content::Redis { .. })
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> usize {
        match &self.content {
            Content::Queues(page) => page.rows.len(),
            Content::Tasks(page) => page.rows.len() + page.groups.len(),
            Content::Servers { rows, .. } => rows.len(),
            Content::Trees(rows) => rows.len(),
            Content::Schedulers(rows) => rows.len(),
            Content::Findings(rows) => rows.len(),
            Content::Task(_) | Content::Redis { .. } => 0,
        }
    }

    /// Returns what a row is about, for finding it again.
    fn row_key(&self, at: usize) -> Option<String> {
        match &self.content {
            Content::Queues(page) => page.rows.get(at).map(|row| row.queue.to_string()),
            Content::Tasks(page) if page.scope.lists_groups() => page.groups.get(at).map(|row| row.group.to_string()),
            Content::Tasks(page) => page.rows.get(at).map(|row| format!("{}\n{}", row.queue, row.id)),
            Content::Servers { servers, rows } => rows.get(at).map(|row| match row {
                ServerRow::Server(at) => servers
                    .get(*at)
                    .map(|server| server.server_id.clone())
                    .unwrap_or_default(),
                ServerRow::Worker(worker, _) => format!("{}\n{}", worker.queue, worker.task_id),
            }),
            Content::Schedulers(rows) => rows.get(at).map(|row| row.id.clone()),
            Content::Trees(_) | Content::Findings(_) | Content::Task(_) | Content::Redis { .. } => None,
        }
    }

    /// Returns the queue under the cursor, or that of the page.
    pub(crate) fn queue(&self) -> Option<&QueueInfo> {
        match &self.content {
            Content::Queues(page) => page.rows.get(self.cursor),
            Content::Tasks(page) => page.queue.as_deref(),
            _ => None,
        }
    }

    /// Returns the task under the cursor, as it is seen.
    pub(crate) fn task(&self) -> Option<(TaskKey, Seen)> {
        match &self.content {
            Content::Tasks(page) => page
                .rows
                .get(self.cursor)
                .map(|task| (TaskKey::of(task), Seen::of(task))),
            Content::Task(page) => page.task.as_ref().map(|task| (page.key.clone(), Seen::of(task))),
            Content::Servers { rows, .. } => match rows.get(self.cursor)? {
                ServerRow::Worker(worker, _) => {
                    let key = TaskKey {
                        queue: worker.queue.to_string(),
                        id: worker.task_id.to_string(),
                    };
                    let seen = Seen {
                        state: TaskState::Active,
                        since: None,
                    };
                    Some((key, seen))
                }
                ServerRow::Server(_) => None,
            },
            _ => None,
        }
    }
}
