use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use asynq_core::Clock;
use ractor::ActorCell;
use tokio::time::Instant;

use super::*;
use crate::supervision::{
    supervisor::{Backoff, ExitCell, Intensity, Strategy, Supervisor, SupervisorArgs},
    tree::{ActorState, TreeNode},
};

const SECOND: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3);

/// The course of a pass; once the list is over, it succeeds.
#[derive(Clone, Copy, Debug)]
enum Pass {
    Well,
    Fails,
    Panics,
    Hangs,
    Takes(Duration),
}

#[derive(Debug, Default)]
struct Record {
    plan: Mutex<VecDeque<Pass>>,
    began: Mutex<Vec<Instant>>,
    log: Mutex<Vec<&'static str>>,
    under_way: AtomicU32,
    at_once: AtomicU32,
}

/// Does as planned, once a second.
struct Scripted(Arc<Record>);

/// Counts passes under way, and says how each ended.
struct UnderWay<'r>(&'r Record);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.log.lock().unwrap().push("pass over");
    }
}

#[async_trait]
impl Chore for Scripted {
    fn first(&self) -> Duration {
        2 * SECOND
    }

    fn longest_retry(&self) -> Duration {
        LONGEST
    }

    async fn pass(&self) -> Result<Duration, BrokerError> {
        let now = self.0.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.at_once.fetch_max(now, Ordering::Relaxed);
        let _under_way = UnderWay(&self.0);
        self.0.began.lock().unwrap().push(Instant::now());
        let how = self.0.plan.lock().unwrap().pop_front().unwrap_or(Pass::Well);
        match how {
            Pass::Well => {}
            Pass::Fails => {
                return Err(BrokerError::Unavailable {
                    source: Some("no route".into()),
                });
            }
            Pass::Panics => panic!("told to panic"),
            Pass::Hangs => std::future::pending().await,
            Pass::Takes(time) => tokio::time::sleep(time).await,
        }
        Ok(SECOND)
    }

    async fn last(&self, _: Instant) {
        self.0.log.lock().unwrap().push("last");
    }
}

struct Stage {
    root: ActorCell,
    tree: Tree,
    record: Arc<Record>,
    opened: Instant,
}

impl Stage {
    async fn open(plan: impl IntoIterator<Item = Pass>) -> Self {
        let tree = Tree::new(Clock::tokio());
        let record = Arc::new(Record {
            plan: Mutex::new(plan.into_iter().collect()),
            ..Record::default()
        });
        let entropy = Entropy::seeded(5);
        let spec = chore(
            "chore",
            "root",
            Scripted(Arc::clone(&record)),
            &tree,
            &entropy,
            5 * SECOND,
        );
        let args = SupervisorArgs {
            path: "root".into(),
            children: vec![spec],
            strategy: Strategy::OneForOne,
            intensity: Intensity::default(),
            backoff: Backoff::default(),
            tree: tree.clone(),
            entropy,
            exit: ExitCell::default(),
        };
        let (root, _) = Actor::spawn(None, Supervisor, args).await.unwrap();
        Self {
            root: root.get_cell(),
            tree,
            record,
            opened: Instant::now(),
        }
    }

    fn node(&self) -> TreeNode {
        self.tree.snapshot().unwrap().find(&["chore"]).unwrap().clone()
    }

    /// Returns when passes began, in milliseconds from the opening.
    fn began(&self) -> Vec<u128> {
        let began = self.record.began.lock().unwrap();
        began.iter().map(|at| (*at - self.opened).as_millis()).collect()
    }

    /// The waits between the beginnings of passes.
    fn waits(&self) -> Vec<u128> {
        self.began().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    async fn stop(&self) -> Duration {
        let began = Instant::now();
        self.root.stop(None);
        self.root.wait(None).await.unwrap();
        began.elapsed()
    }
}

async fn after(time: Duration) {
    // Past the timers that are due then.
    tokio::time::sleep(time + Duration::from_millis(50)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_pass_comes_in_its_time_and_each_next_when_the_last_asked() {
    let stage = Stage::open([]).await;
    after(5 * SECOND).await;
    let began = stage.began();
    assert_eq!(began.len(), 4, "{began:?}");
    assert!((2000..2010).contains(&began[0]), "{began:?}");
    assert!(
        stage.waits().iter().all(|wait| (1000..1010).contains(wait)),
        "{began:?}"
    );
    stage.stop().await;
}

/// Half of each wait is random; the doubling is not.
#[tokio::test(start_paused = true)]
async fn a_pass_that_fails_backs_off_says_so_and_recovers() {
    let stage = Stage::open([Pass::Fails; 8]).await;
    after(2 * SECOND).await;
    let node = stage.node();
    assert_eq!(node.note.as_deref(), Some("storage is not reachable: no route"));
    assert_eq!((node.state, node.restarts), (ActorState::Running, 0));
    after(40 * SECOND).await;
    let waits = stage.waits();
    for (wait, most) in waits.iter().zip([100, 200, 400, 800, 1600, 3000, 3000, 3000]) {
        assert!((most / 2..most + 10).contains(wait), "{wait} of {most} in {waits:?}");
    }
    assert!(waits[8..].iter().all(|wait| (1000..1010).contains(wait)), "{waits:?}");
    let node = stage.node();
    assert_eq!((node.note, node.restarts), (None, 0));
    // The next trouble begins small again.
    let so_far = stage.began().len();
    stage.record.plan.lock().unwrap().push_back(Pass::Fails);
    after(3 * SECOND).await;
    let waits = stage.waits();
    assert!(
        waits[so_far - 1..].iter().any(|wait| (50..110).contains(wait)),
        "{waits:?}"
    );
    stage.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_panics_restarts_the_actor() {
    let stage = Stage::open([Pass::Well, Pass::Panics]).await;
    after(10 * SECOND).await;
    let node = stage.node();
    assert_eq!((node.state, node.restarts), (ActorState::Running, 1));
    assert_eq!(node.last_failure.as_deref(), Some("panicked: told to panic"));
    let waits = stage.waits();
    assert!(
        (2050..2120).contains(&waits[1]),
        "back-off, then as at first: {waits:?}"
    );
    assert!((1000..1010).contains(&waits[2]), "{waits:?}");
    stage.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_pass_and_has_the_last_word() {
    let stage = Stage::open([Pass::Hangs]).await;
    after(2 * SECOND).await;
    assert_eq!(stage.record.under_way.load(Ordering::Relaxed), 1);
    let took = stage.stop().await;
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert_eq!(*stage.record.log.lock().unwrap(), ["pass over", "last"]);
    assert_eq!(stage.node().state, ActorState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_stop_between_passes_and_before_the_first_leaves_nothing_behind() {
    for waited in [0, 5] {
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let stage = Stage::open([]).await;
        tokio::time::sleep(waited * SECOND).await;
        let passes = stage.began().len();
        stage.stop().await;
        tokio::task::yield_now().await;
        let left = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert_eq!(left, alive, "tasks are left behind after {waited} s");
        after(10 * SECOND).await;
        assert_eq!(stage.began().len(), passes);
        assert_eq!(stage.record.log.lock().unwrap().last(), Some(&"last"));
    }
}

#[tokio::test(start_paused = true)]
async fn passes_never_pile_up() {
    let stage = Stage::open([Pass::Takes(10 * SECOND); 20]).await;
    after(100 * SECOND).await;
    let waits = stage.waits();
    assert_eq!(waits.len(), 8, "{waits:?}");
    assert!(waits.iter().all(|wait| (11_000..11_010).contains(wait)), "{waits:?}");
    assert_eq!(stage.record.at_once.load(Ordering::Relaxed), 1);
    stage.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_the_pass_and_its_successor_begins_anew() {
    let stage = Stage::open([Pass::Hangs, Pass::Well]).await;
    after(2 * SECOND).await;
    stage.tree.cell("root/chore").unwrap().kill();
    after(5 * SECOND).await;
    assert!(stage.began().len() >= 3, "{:?}", stage.began());
    assert_eq!(stage.record.at_once.load(Ordering::Relaxed), 1);
    let log = stage.record.log.lock().unwrap().clone();
    assert!(!log.contains(&"last"), "nobody asked it to end");
    assert_eq!(stage.node().restarts, 1);
    stage.stop().await;
}
