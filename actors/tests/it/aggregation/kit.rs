//! An aggregator that does as it is told, and the books that must balance.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynq_actors::{
    AsynqSystem, AsynqSystemBuilder,
    supervisor::{Backoff, Intensity},
};
use asynq_core::{
    Clock, Entropy, Error, GroupAggregator, Inspect, QueueName, Result, ServerConfig, Task, TaskInfo, TaskMessage,
    TaskState,
    broker::Env,
    inspect::{ListFilter, PageRequest},
};
use asynq_memory::{MemoryBroker, MemoryStore};
use asynq_testing::faulty::{Faults, FaultyConnector};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
/// After so long a set that nobody extends is back in its group and aggregated anew.
pub(super) const HANDED_BACK: Duration = Duration::from_secs(120 + 60 + 5);

/// The course of a call of the aggregator; once the list is over, it succeeds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Well,
    Fails,
    /// With an error that panics when it is shown or dropped.
    FailsBadly,
    Panics,
    /// With a value that panics when it is dropped.
    PanicsBadly,
    /// Its task has no type, as Go's nil has none.
    Blank,
    /// Its task has an option that no task may have.
    Refused,
    /// With a task beyond the default limit for messages.
    TooLarge,
    /// Its task has the id of another.
    Conflicts,
    Takes(Duration),
    /// Until somebody releases it.
    Waits,
    Hangs,
    /// And leaves behind what panics when it is dropped.
    HangsBadly,
}

/// Neither to be shown nor to be dropped.
#[derive(Debug)]
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("not to be dropped")
    }
}

impl std::fmt::Display for Bad {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("not to be shown")
    }
}

impl std::error::Error for Bad {}

/// One call of the aggregator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Since the start of the world.
    pub(super) after: Duration,
    pub(super) group: String,
    pub(super) members: Vec<String>,
}

pub(super) struct Scripted {
    plan: Mutex<VecDeque<Act>>,
    calls: mpsc::UnboundedSender<Call>,
    began: Instant,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
    broken_off: AtomicUsize,
    releases: Semaphore,
}

/// Counts calls under way, and those that were dropped before their end.
struct UnderWay<'s>(&'s Scripted, bool);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.broken_off.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl GroupAggregator for Scripted {
    async fn aggregate(&self, group: &str, tasks: &[Task]) -> Result<Task> {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        let mut under_way = UnderWay(self, false);
        let members: Vec<_> = tasks
            .iter()
            .map(|task| String::from_utf8_lossy(task.get_payload()).into_owned())
            .collect();
        let sum = Task::new("sum", members.join(",").as_bytes())?;
        let call = Call {
            after: self.began.elapsed(),
            group: group.to_owned(),
            members,
        };
        self.calls.send(call).map_err(Error::other)?;
        let act = self.plan.lock().unwrap().pop_front().unwrap_or(Act::Well);
        match act {
            Act::Takes(time) => tokio::time::sleep(time).await,
            Act::Waits => self.releases.acquire().await.map_err(Error::other)?.forget(),
            Act::Hangs => std::future::pending().await,
            Act::HangsBadly => {
                let _bad = Bad;
                std::future::pending().await
            }
            _ => {}
        }
        under_way.1 = true;
        match act {
            Act::Fails => Err(Error::other("no")),
            Act::FailsBadly => Err(Error::other(Bad)),
            Act::Panics => panic!("told to panic"),
            Act::PanicsBadly => std::panic::panic_any(Bad),
            Act::Blank => Ok(Task::from_message(&TaskMessage::default(), None)),
            Act::Refused => Ok(sum.with_timeout(Duration::from_millis(1))),
            Act::TooLarge => Task::new("large", &vec![b'x'; 16 << 20]),
            Act::Conflicts => Ok(sum.with_task_id("taken")),
            _ => Ok(sum),
        }
    }
}

/// A store and what works on it. What the aggregator makes is run by nobody, and so stays pending.
pub(super) struct World {
    pub(super) store: MemoryStore,
    pub(super) faults: Faults,
    pub(super) aggregator: Arc<Scripted>,
    pub(super) env: Env,
    calls: mpsc::UnboundedReceiver<Call>,
    members: BTreeSet<String>,
}

impl World {
    pub(super) fn new(plan: impl IntoIterator<Item = Act>) -> Self {
        let (told, calls) = mpsc::unbounded_channel();
        let aggregator = Scripted {
            plan: Mutex::new(plan.into_iter().collect()),
            calls: told,
            began: Instant::now(),
            under_way: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            broken_off: AtomicUsize::new(0),
            releases: Semaphore::new(0),
        };
        Self {
            store: MemoryStore::new(),
            faults: Faults::new(),
            aggregator: Arc::new(aggregator),
            env: Env {
                clock: Clock::tokio(),
                entropy: Entropy::seeded(5),
            },
            calls,
            members: BTreeSet::new(),
        }
    }

    /// A system with this aggregator that may crash as often as it likes.
    pub(super) fn builder(&self, config: ServerConfig) -> AsynqSystemBuilder {
        AsynqSystem::builder(FaultyConnector::new(self.store.clone(), self.faults.clone()))
            .env(self.env.clone())
            .config(config)
            .intensity(Intensity {
                restarts: 1000,
                within: MINUTE,
            })
            .backoff(Backoff {
                first: Duration::from_millis(5),
                most: Duration::from_millis(50),
            })
            .aggregator(Arc::clone(&self.aggregator))
    }

    pub(super) async fn spawn(&self, config: ServerConfig) -> AsynqSystem {
        self.builder(config).spawn().await.unwrap()
    }

    /// Adds a member whose name is its payload, and its id: those of one second come by their ids.
    pub(super) async fn add(&mut self, system: &AsynqSystem, group: &str, name: &str) -> TaskInfo {
        let task = Task::new("member", name.as_bytes()).unwrap().with_group(group);
        let task = task.with_task_id(name);
        let info = system.client().enqueue(task).await.unwrap();
        assert_eq!(info.state, TaskState::Aggregating);
        self.members.insert(name.to_owned());
        info
    }

    pub(super) async fn add_all(&mut self, system: &AsynqSystem, group: &str, names: &[&str]) {
        for name in names {
            self.add(system, group, name).await;
        }
    }

    /// Notes a member that was added otherwise.
    pub(super) fn expect_member(&mut self, name: &str) {
        self.members.insert(name.to_owned());
    }

    /// Waits, in virtual time, for the next call of the aggregator.
    pub(super) async fn call(&mut self) -> Call {
        let call = tokio::time::timeout(60 * MINUTE, self.calls.recv()).await;
        call.expect("the aggregator was not called within an hour").unwrap()
    }

    pub(super) fn no_more_calls(&mut self) {
        if let Ok(call) = self.calls.try_recv() {
            panic!("the aggregator was called again: {call:?}");
        }
    }

    pub(super) fn release(&self, calls: usize) {
        self.aggregator.releases.add_permits(calls);
    }

    pub(super) fn under_way(&self) -> usize {
        self.aggregator.under_way.load(Ordering::SeqCst)
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.aggregator.most_at_once.load(Ordering::SeqCst)
    }

    /// Returns how many calls were dropped before their end.
    pub(super) fn broken_off(&self) -> usize {
        self.aggregator.broken_off.load(Ordering::SeqCst)
    }

    fn look(&self) -> MemoryBroker {
        self.store.open(self.env.clone())
    }

    /// Returns the places of the members. No member is in two places, and nothing in the store contradicts itself.
    pub(super) async fn books(&self) -> Books {
        let storage = self.look();
        let mut books = Books::default();
        for queue in storage.queues().await.unwrap() {
            assert_eq!(storage.audit(&queue, Default::default()).await.unwrap().items, []);
            let all = PageRequest::new(1, 10_000);
            let pending = ListFilter::State(TaskState::Pending);
            let sums = storage.list_tasks(&queue, &pending, all).await.unwrap();
            for sum in sums.tasks.iter().filter(|task| task.task_type == "sum") {
                let payload = String::from_utf8_lossy(&sum.payload).into_owned();
                books.sums.push(payload.split(',').map(str::to_owned).collect());
            }
            let groups = storage.group_infos(&queue).await.unwrap();
            for group in groups.into_iter().filter(|group| group.size > 0) {
                let filter = ListFilter::Group(group.group.clone());
                let tasks = storage.list_tasks(&queue, &filter, all).await.unwrap().tasks;
                let names = tasks
                    .iter()
                    .map(|task| String::from_utf8_lossy(&task.payload).into_owned());
                books.waiting.entry(group.group.to_string()).or_default().extend(names);
            }
        }
        books.sums.sort();
        let mut seen = BTreeSet::new();
        for name in books.sums.iter().chain(books.waiting.values()).flatten() {
            assert!(seen.insert(name.clone()), "{name} is in two places: {books:?}");
        }
        books
    }

    /// The books, where no member is missing.
    pub(super) async fn balance(&self) -> Books {
        let books = self.books().await;
        let found: BTreeSet<_> = books.sums.iter().chain(books.waiting.values()).flatten().collect();
        assert_eq!(found, self.members.iter().collect(), "{books:?}");
        books
    }

    /// Waits, in virtual time, until every member is in an aggregated task, exactly once.
    pub(super) async fn all_aggregated(&self) -> Books {
        let settled = async {
            loop {
                let books = self.books().await;
                if books.sums.iter().flatten().count() == self.members.len() {
                    return;
                }
                tokio::time::sleep(2 * SECOND).await;
            }
        };
        if tokio::time::timeout(60 * MINUTE, settled).await.is_err() {
            panic!("members are stuck: {:?}", self.books().await);
        }
        let books = self.balance().await;
        assert!(books.waiting.is_empty(), "{books:?}");
        books
    }

    /// The only pending task.
    pub(super) async fn only_sum(&self, queue: &str) -> TaskInfo {
        let pending = ListFilter::State(TaskState::Pending);
        let queue = QueueName::new(queue).unwrap();
        let page = self.look().list_tasks(&queue, &pending, PageRequest::default()).await;
        let tasks = page.unwrap().tasks;
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks.into_iter().next().unwrap()
    }
}

/// The places of the members; those that are nowhere are in a set.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// The members of each aggregated task.
    pub(super) sums: Vec<Vec<String>>,
    /// Those that wait, by group.
    pub(super) waiting: BTreeMap<String, Vec<String>>,
}

/// Looked at every second, ready after two quiet ones.
pub(super) fn quick() -> ServerConfig {
    ServerConfig::new()
        .group_grace_period(2 * SECOND)
        .unwrap()
        .group_check_interval(SECOND)
}

pub(super) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Lets so much virtual time pass.
pub(super) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
