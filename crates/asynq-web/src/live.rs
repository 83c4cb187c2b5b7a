//! Live updates: one reader of the storage for all who listen.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq::{
    Inspector, PublishedTree,
    error::{BrokerError, Error},
    findings::Findings,
    info::{QueueInfo, ServerInfo, WorkerInfo},
};
use futures::{StreamExt as _, stream};
use tokio::{sync::broadcast, time::Instant};

use crate::{
    background::Background,
    problem::{Problem, Result},
};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time between two looks for findings, which cost more.
const FINDINGS: Duration = Duration::from_secs(15);
/// Queues that are read in one look. With more, they take turns.
const QUEUES: usize = 400;
/// Queues that are read at the same time.
const AT_ONCE: usize = 16;
/// Changes that a listener may be behind.
const BEHIND: usize = 64;
/// Listeners at a time, of all users and of one.
const MOST: usize = 200;
const MOST_OF_USER: usize = 10;

/// A change. Its number is larger than those before it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) number: u64,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Queues that are new, or have other numbers.
    Queues(Arc<Vec<QueueInfo>>),
    /// Queues that are gone.
    Gone(Arc<Vec<String>>),
    Findings(Arc<Findings>),
    Servers(Arc<(Vec<ServerInfo>, Vec<WorkerInfo>)>),
    Trees(Arc<Vec<PublishedTree>>),
    /// The storage does not answer (`false`), or answers again.
    Storage(bool),
}

/// The state that was read last.
#[derive(Debug, Default)]
struct Known {
    number: u64,
    queues: BTreeMap<String, QueueInfo>,
    findings: Option<Arc<Findings>>,
    servers: Option<Arc<(Vec<ServerInfo>, Vec<WorkerInfo>)>>,
    trees: Option<Arc<Vec<PublishedTree>>>,
    is_down: bool,
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
    background: Background,
    known: Mutex<Known>,
    changes: broadcast::Sender<Change>,
}

/// A listener. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    live: Arc<Live>,
    user: String,
    changes: broadcast::Receiver<Change>,
}

impl Live {
    pub(crate) fn new(inspector: Inspector, background: Background) -> Self {
        Self {
            inspector,
            background,
            known: Mutex::default(),
            changes: broadcast::Sender::new(BEHIND),
        }
    }

    /// Begins to listen. Returns all that is known too, as changes of the same number, unless that is the one that the listener
    /// has seen before.
    pub(crate) fn listen(self: &Arc<Self>, user: &str, seen: Option<u64>) -> Result<(Listener, Vec<Change>)> {
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
            true => Vec::new(),
            false => known.snapshot(),
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
                    Err(error) => {
                        tracing::warn!(%error, "live updates cannot be read");
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

    async fn look(&self, after: &mut Option<String>, with_findings: bool) -> asynq::Result<()> {
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
        let read = stream::iter(turn)
            .map(async |name| match self.inspector.get_queue_stats(&name).await {
                Ok(info) => Ok(Some(info)),
                // It was deleted meanwhile.
                Err(Error::Broker(BrokerError::QueueNotFound { .. })) => Ok(None),
                Err(error) => Err(error),
            })
            .buffer_unordered(AT_ONCE);
        let mut read = std::pin::pin!(read);
        let mut queues = Vec::new();
        while let Some(info) = read.next().await {
            queues.extend(info?);
        }
        let servers = Arc::new((self.inspector.servers().await?, self.inspector.workers().await?));
        let trees = Arc::new(self.inspector.trees().await?);
        let findings = match with_findings {
            true => Some(Arc::new(self.inspector.findings().await?)),
            false => None,
        };

        let mut known = self.lock();
        queues.retain(|info| {
            let before = known.queues.insert(info.queue.to_string(), info.clone());
            before.is_none_or(|before| !is_same(&before, info))
        });
        let gone: Vec<String> = known
            .queues
            .keys()
            .filter(|name| names.binary_search(name).is_err())
            .cloned()
            .collect();
        for name in &gone {
            known.queues.remove(name);
        }
        if !queues.is_empty() {
            self.send(&mut known, What::Queues(Arc::new(queues)));
        }
        if !gone.is_empty() {
            self.send(&mut known, What::Gone(Arc::new(gone)));
        }
        if known.servers.as_ref() != Some(&servers) {
            known.servers = Some(Arc::clone(&servers));
            self.send(&mut known, What::Servers(servers));
        }
        if known.trees.as_ref() != Some(&trees) {
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
        // Nobody may listen.
        let _ = self.changes.send(Change {
            number: known.number,
            what,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn snapshot(&self) -> Vec<Change> {
        if !self.is_read {
            return Vec::new();
        }
        let queues = (!self.queues.is_empty()).then(|| What::Queues(Arc::new(self.queues.values().cloned().collect())));
        let known = [
            self.is_down.then_some(What::Storage(false)),
            queues,
            self.servers.clone().map(What::Servers),
            self.trees.clone().map(What::Trees),
            self.findings.clone().map(What::Findings),
        ];
        let number = self.number;
        known
            .into_iter()
            .flatten()
            .map(|what| Change { number, what })
            .collect()
    }
}

impl Listener {
    /// Returns the next change; `None` if the listener is too far behind, or the server ends.
    pub(crate) async fn next(&mut self) -> Option<Change> {
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

/// Returns whether a queue has the same numbers. Its age and its memory, which is an estimate, do not count.
fn is_same(a: &QueueInfo, b: &QueueInfo) -> bool {
    let mut b = b.clone();
    (b.timestamp, b.memory_usage) = (a.timestamp, a.memory_usage);
    if a.latency.as_secs() == b.latency.as_secs() {
        b.latency = a.latency;
    }
    *a == b
}
