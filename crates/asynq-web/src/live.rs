//! Live updates: one reader of the storage for all who listen.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq::{
    Inspector, PublishedTree,
    findings::Findings,
    info::{QueueInfo, WorkerInfo},
};
use bytes::Bytes;
use tokio::{sync::broadcast, time::Instant};

use crate::{
    access::Grant,
    background::Background,
    problem::{Problem, Result},
    queue_reads,
    readings::{Readings, Servers},
    records::UnreadableQueue,
};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time between two looks for findings, which cost more.
const FINDINGS: Duration = Duration::from_secs(15);
/// Queues that are read in one look. With more, they take turns.
const QUEUES: usize = 400;
/// Time within which they are read.
const WITHIN: Duration = Duration::from_secs(10);
/// Changes that a listener may be behind.
const BEHIND: usize = 64;
/// Views for which the events of a change are kept.
const VIEWS: usize = 8;
/// Listeners at a time, of all users and of one.
const MOST: usize = 200;
const MOST_OF_USER: usize = 10;

/// A change, or all that is known.
#[derive(Debug)]
pub(crate) struct Change {
    /// It is larger than those of the changes before. All that is known has that of the last change.
    pub(crate) number: u64,
    pub(crate) is_snapshot: bool,
    pub(crate) what: Vec<What>,
    /// The events as they were written for some views.
    written: Mutex<Vec<(View, Events)>>,
}

/// Events of a stream, as bytes.
pub(crate) type Events = Arc<[Bytes]>;

/// The queues that a user sees. Users with the same ones get the same events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum View {
    All,
    Of(Vec<Grant>),
}

impl Change {
    fn new(number: u64, is_snapshot: bool, what: Vec<What>) -> Arc<Self> {
        Arc::new(Self {
            number,
            is_snapshot,
            what,
            written: Mutex::default(),
        })
    }

    /// Returns the events for a view. Those for the first few views are written once for all who have them.
    pub(crate) fn events(&self, view: &View, write: impl FnOnce(&Self) -> Events) -> Events {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, events)) = written.iter().find(|(of, _)| of == view) {
            return Arc::clone(events);
        }
        if written.len() == VIEWS {
            drop(written);
            return write(self);
        }
        let events = write(self);
        written.push((view.clone(), Arc::clone(&events)));
        events
    }
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Queues that are new, or have other numbers, and those that cannot be read any more.
    Queues(Arc<(Vec<QueueInfo>, Vec<UnreadableQueue>)>),
    /// Queues that are gone.
    Gone(Arc<Vec<String>>),
    Findings(Arc<Findings>),
    /// Without the payloads of the tasks that run.
    Servers(Arc<Servers>),
    Trees(Arc<Vec<PublishedTree>>),
    /// The storage does not answer (`false`), or answers again.
    Storage(bool),
}

/// The state that was read last.
#[derive(Debug, Default)]
struct Known {
    number: u64,
    queues: BTreeMap<String, QueueInfo>,
    /// Queues that could not be read at the last look. Their last numbers are gone.
    unreadable: BTreeMap<String, UnreadableQueue>,
    findings: Option<Arc<Findings>>,
    servers: Option<Arc<Servers>>,
    trees: Option<Arc<Vec<PublishedTree>>>,
    is_down: bool,
    /// All of it, for those who begin to listen before the next change.
    snapshot: Option<Arc<Change>>,
    listeners: HashMap<String, usize>,
    /// The reader runs.
    is_read: bool,
}

impl Known {
    fn listeners(&self) -> usize {
        self.listeners.values().sum()
    }
}

/// The reader, and those who listen to it.
#[derive(Debug)]
pub(crate) struct Live {
    inspector: Inspector,
    readings: Arc<Readings>,
    background: Background,
    known: Mutex<Known>,
    changes: broadcast::Sender<Arc<Change>>,
}

/// A listener. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    live: Arc<Live>,
    user: String,
    changes: broadcast::Receiver<Arc<Change>>,
}

impl Live {
    pub(crate) fn new(inspector: Inspector, readings: Arc<Readings>, background: Background) -> Self {
        Self {
            inspector,
            readings,
            background,
            known: Mutex::default(),
            changes: broadcast::Sender::new(BEHIND),
        }
    }

    /// Begins to listen. Returns all that is known too, unless its number is the one that the listener has seen before.
    pub(crate) fn listen(self: &Arc<Self>, user: &str, seen: Option<u64>) -> Result<(Listener, Option<Arc<Change>>)> {
        if self.background.is_stopping() {
            return Err(Problem::unavailable("the server is about to end"));
        }
        let mut known = self.lock();
        if known.listeners() >= MOST {
            return Err(Problem::too_many(
                format!("{MOST} streams of live updates run already"),
                10,
            ));
        }
        let own = known.listeners.entry(user.to_owned()).or_default();
        if *own >= MOST_OF_USER {
            return Err(Problem::too_many(
                format!("{MOST_OF_USER} streams of live updates of this user run already"),
                10,
            ));
        }
        *own += 1;
        let snapshot = match seen == Some(known.number) && known.is_read {
            true => None,
            false => Some(known.snapshot()),
        };
        let listener = Listener {
            live: Arc::clone(self),
            user: user.to_owned(),
            changes: self.changes.subscribe(),
        };
        if !std::mem::replace(&mut known.is_read, true) {
            self.background.spawn(Arc::clone(self).read());
        }
        Ok((listener, snapshot))
    }

    /// Reads until nobody listens any more.
    async fn read(self: Arc<Self>) {
        let (mut next_findings, mut after) = (Instant::now(), None);
        loop {
            let began = Instant::now();
            let look = async {
                let looked = self.look(&mut after, began >= next_findings).await;
                if began >= next_findings {
                    next_findings = began + FINDINGS;
                }
                let is_down = match looked {
                    Ok(()) => false,
                    Err(problem) => {
                        tracing::warn!(error = problem.detail, "live updates cannot be read");
                        true
                    }
                };
                self.is_down(is_down);
                tokio::time::sleep_until(began + INTERVAL).await;
            };
            tokio::select! {
                () = look => {}
                () = self.background.stopping() => {}
            }
            let mut known = self.lock();
            if known.listeners() == 0 || self.background.is_stopping() {
                // What is known will be old when somebody listens again.
                *known = Known {
                    number: known.number + 1,
                    listeners: std::mem::take(&mut known.listeners),
                    ..Known::default()
                };
                return;
            }
        }
    }

    async fn look(&self, after: &mut Option<String>, with_findings: bool) -> Result<()> {
        let names: Vec<String> = self.inspector.queues().await?.iter().map(ToString::to_string).collect();
        // Those whose turn it is, from the one after the last look on.
        let from = after
            .as_ref()
            .map_or(0, |after| names.partition_point(|name| name <= after));
        let turn: Vec<String> = names
            .iter()
            .cycle()
            .skip(from)
            .take(names.len().min(QUEUES))
            .cloned()
            .collect();
        *after = turn.last().cloned();
        let read = queue_reads::read(&self.inspector, turn, WITHIN).await?;
        let servers = readable(self.readings.servers().await)?.map(|both| Arc::new(without_payloads(&both)));
        let trees = readable(self.readings.trees().await)?;
        let findings = match with_findings {
            true => Some(self.readings.findings().await?),
            false => None,
        };

        let mut known = self.lock();
        let mut queues = read.queues;
        queues.retain(|info| {
            let name = info.queue.to_string();
            let was_unreadable = known.unreadable.remove(&name).is_some();
            let before = known.queues.insert(name, info.clone());
            was_unreadable || before.is_none_or(|before| !is_same(&before, info))
        });
        let mut unreadable = Vec::new();
        // One that was only late, or whose node does not answer, keeps its last numbers.
        for unread in read.unreadable.iter().filter(|unread| !unread.is_passing()) {
            let record = unread.record();
            known.queues.remove(&record.queue);
            if known.unreadable.insert(record.queue.clone(), record.clone()).as_ref() != Some(&record) {
                tracing::warn!(queue = record.queue, error = record.error, "a queue cannot be read");
                unreadable.push(record);
            }
        }
        let is_gone = |name: &String| names.binary_search(name).is_err();
        let mut gone: Vec<String> = known.queues.keys().filter(|name| is_gone(name)).cloned().collect();
        gone.extend(known.unreadable.keys().filter(|name| is_gone(name)).cloned());
        for name in &gone {
            known.queues.remove(name);
            known.unreadable.remove(name);
        }
        if !queues.is_empty() || !unreadable.is_empty() {
            self.send(&mut known, What::Queues(Arc::new((queues, unreadable))));
        }
        if !gone.is_empty() {
            self.send(&mut known, What::Gone(Arc::new(gone)));
        }
        if let Some(servers) = servers
            && known.servers.as_ref() != Some(&servers)
        {
            known.servers = Some(Arc::clone(&servers));
            self.send(&mut known, What::Servers(servers));
        }
        if let Some(trees) = trees
            && known.trees.as_ref() != Some(&trees)
        {
            known.trees = Some(Arc::clone(&trees));
            self.send(&mut known, What::Trees(trees));
        }
        if let Some(findings) = findings
            && known
                .findings
                .as_ref()
                .is_none_or(|before| before.findings != findings.findings)
        {
            known.findings = Some(Arc::clone(&findings));
            self.send(&mut known, What::Findings(findings));
        }
        Ok(())
    }

    fn is_down(&self, is_down: bool) {
        let mut known = self.lock();
        if std::mem::replace(&mut known.is_down, is_down) != is_down {
            self.send(&mut known, What::Storage(!is_down));
        }
    }

    fn send(&self, known: &mut Known, what: What) {
        known.number += 1;
        known.snapshot = None;
        // Nobody may listen.
        let _ = self.changes.send(Change::new(known.number, false, vec![what]));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn snapshot(&mut self) -> Arc<Change> {
        if let Some(snapshot) = &self.snapshot {
            return Arc::clone(snapshot);
        }
        let queues = (!self.queues.is_empty() || !self.unreadable.is_empty()).then(|| {
            let queues = self.queues.values().cloned().collect();
            What::Queues(Arc::new((queues, self.unreadable.values().cloned().collect())))
        });
        let known = [
            self.is_down.then_some(What::Storage(false)),
            queues,
            self.servers.clone().map(What::Servers),
            self.trees.clone().map(What::Trees),
            self.findings.clone().map(What::Findings),
        ];
        let snapshot = Change::new(self.number, true, known.into_iter().flatten().collect());
        self.snapshot = Some(Arc::clone(&snapshot));
        snapshot
    }
}

impl Listener {
    /// Returns the next change; `None` if the listener is too far behind, or the server ends.
    pub(crate) async fn next(&mut self) -> Option<Arc<Change>> {
        tokio::select! {
            biased;
            () = self.live.background.stopping() => None,
            change = self.changes.recv() => change.ok(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut known = self.live.lock();
        if let Some(own) = known.listeners.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                known.listeners.remove(&self.user);
            }
        }
    }
}

/// Returns the servers and their workers, which are as small as they can be.
fn without_payloads((servers, workers): &Servers) -> Servers {
    let workers = workers.iter().map(|worker| WorkerInfo {
        payload: Bytes::new(),
        ..worker.clone()
    });
    (servers.clone(), workers.collect())
}

/// Returns a part, or `None` in place of one that cannot be read while the storage answers.
fn readable<T>(part: Result<T>) -> Result<Option<T>> {
    match part {
        Ok(part) => Ok(Some(part)),
        Err(problem) if problem.is_outage() => Err(problem),
        Err(problem) => {
            tracing::warn!(error = problem.detail, "a part of the live updates cannot be read");
            Ok(None)
        }
    }
}

/// Returns whether a queue has the same numbers. Its age and its memory, which is an estimate, do not count.
fn is_same(a: &QueueInfo, b: &QueueInfo) -> bool {
    let mut b = b.clone();
    (b.timestamp, b.memory_usage) = (a.timestamp, a.memory_usage);
    if a.latency.as_secs() == b.latency.as_secs() {
        b.latency = a.latency;
    }
    *a == b
}
